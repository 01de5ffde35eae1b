/* Conversions: codes taken apart and put together, values rounded to codes and back, codes packed.
 * Part of kernels.inc.h. */

/* --- loading a value as the pattern its arithmetic works on ------------------------------------ */

FF_INLINE uint64_t load_f64(const void *x, size_t i) { return ((const uint64_t *)x)[i]; }
FF_INLINE uint32_t load_f32(const void *x, size_t i) { return ((const uint32_t *)x)[i]; }
FF_INLINE uint32_t load_bf16(const void *x, size_t i)
{
    return (uint32_t)((const uint16_t *)x)[i] << 16;
}
FF_INLINE uint32_t load_f16(const void *x, size_t i)
{
    return decode_fp16(((const uint16_t *)x)[i]);
}

/* --- decompose, compose ------------------------------------------------------------------------ */

#define FF_FIELDS(CODE, EXPONENT, FRACTION)                                                        \
    FF_INLINE void split_##CODE##_##EXPONENT##_##FRACTION(                                         \
        struct ff_format f, const CODE##_t *restrict codes, uint8_t *restrict sign,                \
        EXPONENT##_t *restrict exponent, FRACTION##_t *restrict fraction, size_t n)                \
    {                                                                                              \
        const CODE##_t exponent_mask = (CODE##_t)(((CODE##_t)1 << f.exponent_bits) - 1);           \
        const CODE##_t fraction_mask = (CODE##_t)(((CODE##_t)1 << f.fraction_bits) - 1);           \
        const CODE##_t signs = (CODE##_t)sign_bit(f);                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            sign[i] = (codes[i] & signs) != 0;                                                     \
            exponent[i] = (EXPONENT##_t)((codes[i] >> f.fraction_bits) & exponent_mask);           \
            fraction[i] = (FRACTION##_t)(codes[i] & fraction_mask);                                \
        }                                                                                          \
    }                                                                                              \
    static void decompose_##CODE##_##EXPONENT##_##FRACTION(                                        \
        struct ff_format f, const CODE##_t *codes, uint8_t *sign, EXPONENT##_t *exponent,          \
        FRACTION##_t *fraction, size_t n)                                                          \
    {                                                                                              \
        const size_t more = sizeof *exponent + sizeof *fraction + sizeof *codes;                   \
        size_t i = before_streaming(sign, 1, n, more);                                             \
        if (!is_aligned(exponent + i) || !is_aligned(fraction + i))                                \
            i = n;                                                                                 \
        split_##CODE##_##EXPONENT##_##FRACTION(f, codes, sign, exponent, fraction, i);             \
        if (i == n)                                                                                \
            return;                                                                                \
        for (; i + FF_STREAM <= n; i += FF_STREAM) {                                               \
            _Alignas(64) uint8_t signs[FF_STREAM];                                                 \
            _Alignas(64) EXPONENT##_t exponents[FF_STREAM];                                        \
            _Alignas(64) FRACTION##_t fractions[FF_STREAM];                                        \
            split_##CODE##_##EXPONENT##_##FRACTION(f, codes + i, signs, exponents, fractions,      \
                                                   FF_STREAM);                                     \
            prefetch_ahead(codes + i, FF_AHEAD, sizeof(CODE##_t) * FF_STREAM);                     \
            stream(sign + i, signs, sizeof signs);                                                 \
            stream(exponent + i, exponents, sizeof exponents);                                     \
            stream(fraction + i, fractions, sizeof fractions);                                     \
        }                                                                                          \
        end_of_stream();                                                                           \
        split_##CODE##_##EXPONENT##_##FRACTION(f, codes + i, sign + i, exponent + i,               \
                                               fraction + i, n - i);                               \
    }                                                                                              \
    FF_INLINE int join_##CODE##_##EXPONENT##_##FRACTION(                                           \
        struct ff_format f, const uint8_t *restrict sign, const EXPONENT##_t *restrict exponent,   \
        const FRACTION##_t *restrict fraction, CODE##_t *restrict codes, size_t n)                 \
    {                                                                                              \
        const CODE##_t signs = (CODE##_t)sign_bit(f);                                              \
        uint8_t stray_sign = 0;                                                                    \
        EXPONENT##_t stray_exponent = 0;                                                           \
        FRACTION##_t stray_fraction = 0;                                                           \
        for (size_t i = 0; i < n; i++) {                                                           \
            stray_sign |= sign[i];                                                                 \
            stray_exponent |= exponent[i];                                                         \
            stray_fraction |= fraction[i];                                                         \
            codes[i] = (CODE##_t)((sign[i] ? signs : 0) |                                          \
                                  ((CODE##_t)exponent[i] << f.fraction_bits) | fraction[i]);       \
        }                                                                                          \
        return stray_sign > (f.sign != FF_UNSIGNED) ||                                             \
               (uint64_t)stray_exponent >> f.exponent_bits ||                                      \
               (uint64_t)stray_fraction >> f.fraction_bits;                                        \
    }                                                                                              \
    static int compose_##CODE##_##EXPONENT##_##FRACTION(                                           \
        struct ff_format f, const uint8_t *sign, const EXPONENT##_t *exponent,                     \
        const FRACTION##_t *fraction, CODE##_t *codes, size_t n)                                   \
    {                                                                                              \
        const size_t more = sizeof *sign + sizeof *exponent + sizeof *fraction;                    \
        size_t i = before_streaming(codes, sizeof *codes, n, more);                                \
        int stray = join_##CODE##_##EXPONENT##_##FRACTION(f, sign, exponent, fraction, codes, i);  \
        if (i == n)                                                                                \
            return stray;                                                                          \
        for (; i + FF_STREAM <= n; i += FF_STREAM) {                                               \
            _Alignas(64) CODE##_t lines[FF_STREAM];                                                \
            stray |= join_##CODE##_##EXPONENT##_##FRACTION(f, sign + i, exponent + i,              \
                                                           fraction + i, lines, FF_STREAM);        \
            prefetch_ahead(fraction + i, FF_AHEAD, sizeof(FRACTION##_t) * FF_STREAM);              \
            stream(codes + i, lines, sizeof lines);                                                \
        }                                                                                          \
        end_of_stream();                                                                           \
        return stray | join_##CODE##_##EXPONENT##_##FRACTION(f, sign + i, exponent + i,            \
                                                             fraction + i, codes + i, n - i);      \
    }

/* Every combination that some format has: a field is never wider than its code. */
#define FF_FIELD_WIDTHS(X)                                                                         \
    X(uint8, uint8, uint8)                                                                         \
    X(uint16, uint8, uint8) X(uint16, uint8, uint16) X(uint16, uint16, uint8)                      \
    X(uint32, uint8, uint8) X(uint32, uint8, uint16) X(uint32, uint8, uint32)                      \
    X(uint32, uint16, uint8) X(uint32, uint16, uint16) X(uint32, uint16, uint32)                   \
    X(uint64, uint8, uint32) X(uint64, uint8, uint64)                                              \
    X(uint64, uint16, uint32) X(uint64, uint16, uint64)
FF_FIELD_WIDTHS(FF_FIELDS)

FF_INLINE int field_widths(size_t code, size_t exponent, size_t fraction)
{
    return (int)(code * 100 + exponent * 10 + fraction);
}

FF_INLINE int field_widths_of(struct ff_format f)
{
    const size_t fraction = f.fraction_bits <= 8    ? 1
                            : f.fraction_bits <= 16 ? 2
                            : f.fraction_bits <= 32 ? 4
                                                    : 8;
    return field_widths(code_bytes(f), f.exponent_bits <= 8 ? 1 : 2, fraction);
}

static void decompose(const struct ff_format *f, const void *codes, uint8_t *sign, void *exponent,
                      void *fraction, size_t n)
{
    const int widths = field_widths_of(*f);
#define FF_CALL(CODE, EXPONENT, FRACTION)                                                          \
    if (widths == field_widths(sizeof(CODE##_t), sizeof(EXPONENT##_t), sizeof(FRACTION##_t)))      \
        decompose_##CODE##_##EXPONENT##_##FRACTION(*f, codes, sign, exponent, fraction, n);
    FF_FIELD_WIDTHS(FF_CALL)
#undef FF_CALL
}

static int compose(const struct ff_format *f, const uint8_t *sign, const void *exponent,
                   const void *fraction, void *codes, size_t n)
{
    const int widths = field_widths_of(*f);
#define FF_CALL(CODE, EXPONENT, FRACTION)                                                          \
    if (widths == field_widths(sizeof(CODE##_t), sizeof(EXPONENT##_t), sizeof(FRACTION##_t)))      \
        return compose_##CODE##_##EXPONENT##_##FRACTION(*f, sign, exponent, fraction, codes, n);
    FF_FIELD_WIDTHS(FF_CALL)
#undef FF_CALL
    return 1;
}

/* --- decode ------------------------------------------------------------------------------------ */

#define FF_DEFINE_DECODE(T, U, CODE, DECODING)                                                     \
    FF_LOOP void decode_##T##_##CODE(const struct DECODING *d, const CODE##_t *restrict codes,     \
                                     U *restrict values, size_t n)                                 \
    {                                                                                              \
        const struct DECODING hoisted = *d;                                                        \
        for (size_t i = 0; i < n; i++)                                                             \
            values[i] = DECODING##_pattern(codes[i], hoisted);                                     \
    }
FF_DEFINE_DECODE(f32, uint32_t, uint8, decoding32)
FF_DEFINE_DECODE(f32, uint32_t, uint16, decoding32)
FF_DEFINE_DECODE(f32, uint32_t, uint32, decoding32)
FF_DEFINE_DECODE(f64, uint64_t, uint8, decoding64)
FF_DEFINE_DECODE(f64, uint64_t, uint16, decoding64)
FF_DEFINE_DECODE(f64, uint64_t, uint32, decoding64)
FF_DEFINE_DECODE(f64, uint64_t, uint64, decoding64)

#ifndef FF_DECODE_F32_FP16
#define FF_DECODE_F32_FP16(codes, values, n) 0
#endif
FF_INLINE void decode_some_fp16(const uint16_t *restrict codes, uint32_t *restrict values, size_t n)
{
    for (size_t i = FF_DECODE_F32_FP16(codes, values, n); i < n; i++)
        values[i] = decode_fp16(codes[i]);
}
FF_DEFINE_STREAMED(decode_f32_fp16, (), (), uint16_t, uint32_t, decode_some_fp16)

/* bf16 is the upper half of binary32; tf32 its upper 19 bits. */
#define FF_WIDEN_BF16(code) ((uint32_t)(code) << 16)
FF_DEFINE_MAP(decode_f32_bf16, (), (), uint16_t, uint32_t, FF_WIDEN_BF16)

FF_LOOP void decode_f32_tf32(const uint32_t *restrict codes, uint32_t *restrict values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        values[i] = codes[i] << 13;
}

/* E8M0 is binary32's exponent field, but for code 0, 2^-127, and NaN; its step is subnormal. */
FF_LOOP void decode_f32_e8m0(const uint8_t *restrict codes, uint32_t *restrict values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t normal = (uint32_t)codes[i] << 23;
        const uint32_t value = codes[i] ? normal : UINT32_C(0x00400000);
        values[i] = codes[i] == 255 ? UINT32_C(0x7fc00000) : value;
    }
}

static void decode_some_f32(const struct ff_format *format, const void *codes, void *values,
                            size_t n)
{
    const struct ff_format f = *format;
    const struct decoding32 d = decoding32_of(f);
    if (is_format(f, FP16))
        decode_f32_fp16(codes, values, n);
    else if (is_format(f, BF16))
        decode_f32_bf16(codes, values, n);
    else if (is_format(f, TF32))
        decode_f32_tf32(codes, values, n);
    else if (is_format(f, E8M0FNU))
        decode_f32_e8m0(codes, values, n);
    else if (is_format(f, FP32))
        memcpy(values, codes, n * sizeof(float));
    else
        switch (code_bytes(f)) {
        case 1: decode_f32_uint8(&d, codes, values, n); break;
        case 2: decode_f32_uint16(&d, codes, values, n); break;
        default: decode_f32_uint32(&d, codes, values, n);
        }
}

static void decode_some_f64(const struct ff_format *format, const void *codes, void *values,
                            size_t n)
{
    const struct ff_format f = *format;
    const struct decoding64 d = decoding64_of(f);
    if (is_format(f, FP64)) {
        memcpy(values, codes, n * sizeof(double));
        return;
    }
    switch (code_bytes(f)) {
    case 1: decode_f64_uint8(&d, codes, values, n); break;
    case 2: decode_f64_uint16(&d, codes, values, n); break;
    case 4: decode_f64_uint32(&d, codes, values, n); break;
    default: decode_f64_uint64(&d, codes, values, n);
    }
}

/* Many codes of a byte are looked up: the 256 there are have been decoded sooner. */
enum { FF_LOOK_UP_FROM = 2048 };

#ifndef FF_DECODE_BYTES
struct byte_halves {
    int is_there;
};
FF_INLINE struct byte_halves byte_halves_of(struct ff_format f)
{
    return (void)f, (struct byte_halves){0};
}
#define FF_DECODE_BYTES(halves, table, codes, values, n) 0
#endif
FF_INLINE void look_up_f32_some(struct byte_halves halves, const uint32_t *restrict table,
                                const uint8_t *restrict codes, uint32_t *restrict values, size_t n)
{
    size_t i = halves.is_there ? FF_DECODE_BYTES(halves, table, codes, values, n) : 0;
    for (; i < n; i++)
        values[i] = table[codes[i]];
}
FF_DEFINE_STREAMED(look_up_f32, (struct byte_halves halves, const uint32_t *restrict table, ),
                   (halves, table, ), uint8_t, uint32_t, look_up_f32_some)
#define FF_LOOKED_UP(code) table[code]
FF_DEFINE_MAP(look_up_f64, (const uint64_t *restrict table, ), (table, ), uint8_t, uint64_t,
              FF_LOOKED_UP)

FF_INLINE int is_looked_up(struct ff_format f, size_t n)
{
    return code_bytes(f) == 1 && n >= FF_LOOK_UP_FROM;
}

#define FF_DEFINE_DECODE_ALL(T, U, ...)                                                            \
    static void decode_every_code_##T(const struct ff_format *f, U table[256])                     \
    {                                                                                              \
        uint8_t all[256];                                                                          \
        for (int k = 0; k < 256; k++)                                                              \
            all[k] = (uint8_t)k;                                                                   \
        decode_some_##T(f, all, table, 256);                                                       \
    }                                                                                              \
    static void decode_##T(const struct ff_format *f, const void *codes, void *values, size_t n)   \
    {                                                                                              \
        U table[256];                                                                              \
        if (!is_looked_up(*f, n)) {                                                                \
            decode_some_##T(f, codes, values, n);                                                  \
            return;                                                                                \
        }                                                                                          \
        decode_every_code_##T(f, table);                                                           \
        look_up_##T(__VA_ARGS__ table, codes, values, n);                                          \
    }
FF_DEFINE_DECODE_ALL(f32, uint32_t, byte_halves_of(*f), )
FF_DEFINE_DECODE_ALL(f64, uint64_t, )

/* --- encode ------------------------------------------------------------------------------------ */

/* Random words of n elements from index `start` on: Philox4x32-10 (Salmon and others, SC 2011),
 * word i % 4 of counter i / 4 under the key `seed`. n <= FF_CHUNK. */
FF_LOOP void random_words(uint64_t seed, uint64_t start, size_t n, uint32_t *restrict words)
{
    uint32_t all[FF_CHUNK + 8];
    const size_t blocks = (start % 4 + n + 3) / 4;
    const uint64_t first = start / 4;
    size_t b = 0;
#ifdef FF_RANDOM_BLOCKS
    b = FF_RANDOM_BLOCKS(seed, first, blocks, all);
#endif
    for (; b < blocks; b++) {
        /* 64-bit lanes, each with a 32-bit word: that is what vectors multiply. */
        uint64_t c0 = (first + b) & UINT32_MAX, c1 = (first + b) >> 32, c2 = 0, c3 = 0;
        uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
        for (int round = 0; round < 10; round++) {
            const uint64_t p0 = c0 * 0xD2511F53u, p1 = c2 * 0xCD9E8D57u;
            c0 = p1 >> 32 ^ c1 ^ key0;
            c2 = p0 >> 32 ^ c3 ^ key1;
            c1 = p1 & UINT32_MAX;
            c3 = p0 & UINT32_MAX;
            key0 += 0x9E3779B9u;
            key1 += 0xBB67AE85u;
        }
        all[4 * b] = (uint32_t)c0;
        all[4 * b + 1] = (uint32_t)c1;
        all[4 * b + 2] = (uint32_t)c2;
        all[4 * b + 3] = (uint32_t)c3;
    }
    memcpy(words, all + start % 4, n * sizeof *words);
}

/* Codes are worked out in the width of their values and then stored in their own. */
#define FF_DEFINE_NARROW(W, N)                                                                     \
    FF_LOOP void narrow##W##_##N(const uint##W##_t *restrict wide, uint##N##_t *restrict codes,    \
                                 size_t n)                                                         \
    {                                                                                              \
        size_t i = 0;                                                                              \
        FF_NARROW##W##_##N;                                                                        \
        for (; i < n; i++)                                                                         \
            codes[i] = (uint##N##_t)wide[i];                                                       \
    }
#ifndef FF_NARROW32_8
#define FF_NARROW32_8
#define FF_NARROW32_16
#define FF_NARROW64_8
#define FF_NARROW64_16
#define FF_NARROW64_32
#endif
FF_DEFINE_NARROW(32, 8)
FF_DEFINE_NARROW(32, 16)
FF_DEFINE_NARROW(64, 8)
FF_DEFINE_NARROW(64, 16)
FF_DEFINE_NARROW(64, 32)

static void store_codes32(const uint32_t *wide, void *codes, size_t bytes, size_t n)
{
    if (bytes == 1)
        narrow32_8(wide, codes, n);
    else if (bytes == 2)
        narrow32_16(wide, codes, n);
    else
        memcpy(codes, wide, 4 * n);
}

static void store_codes64(const uint64_t *wide, void *codes, size_t bytes, size_t n)
{
    if (bytes == 1)
        narrow64_8(wide, codes, n);
    else if (bytes == 2)
        narrow64_16(wide, codes, n);
    else if (bytes == 4)
        narrow64_32(wide, codes, n);
    else
        memcpy(codes, wide, 8 * n);
}

FF_LOOP void encode_any_block(const struct any_plan *restrict p, const uint64_t *restrict values,
                              uint64_t *restrict codes, size_t n)
{
    const struct any_plan hoisted = *p;
    for (size_t i = 0; i < n; i++)
        codes[i] = encode_any(values[i], hoisted, 0, 0);
}

FF_LOOP void encode_stochastic_block(const struct any_plan *restrict p, uint64_t seed,
                                     uint64_t start, const uint64_t *restrict values,
                                     uint64_t *restrict codes, size_t n)
{
    uint32_t words[FF_CHUNK];
    const struct any_plan hoisted = *p;
    random_words(seed, start, n, words);
    for (size_t i = 0; i < n; i++)
        codes[i] = encode_any(values[i], hoisted, 1, words[i]);
}

FF_LOOP int any_nan(const uint64_t *values, size_t n)
{
    uint64_t most = 0;
    for (size_t i = 0; i < n; i++) {
        const uint64_t magnitude = values[i] & INT64_MAX;
        most = magnitude > most ? magnitude : most;
    }
    return most > UINT64_C(0x7ff0000000000000);
}

/* A block of binary64 patterns by encode_any. Returns whether a NaN is an error. */
static int encode_carefully(struct ff_format f, const struct ff_rules *r, uint64_t seed,
                            uint64_t start, const uint64_t *values, void *codes, size_t n)
{
    uint64_t wide[FF_CHUNK];
    const struct any_plan p = any_plan_of(f, r);
    if (r->rounding == FF_STOCHASTIC)
        encode_stochastic_block(&p, seed, start, values, wide, n);
    else
        encode_any_block(&p, values, wide, n);
    store_codes64(wide, codes, code_bytes(f), n);
    return r->nan_is_error && any_nan(values, n);
}

/* A block by encode_fast, _near or _drawn, of which only the last looks at words. Returns the largest
 * magnitude: codes mean nothing if that is not finite. The compiler is told how the format writes
 * signs: one loop each. */
#define FF_FAST_LOOP(name, CORE, PLAN, U, TELL)                                                    \
    FF_LOOP U name(const U *restrict values, const uint32_t *restrict words, U *restrict codes,    \
                   size_t n, struct ff_format f, const struct PLAN *restrict p)                    \
    {                                                                                              \
        struct PLAN hoisted = *p;                                                                  \
        U most = 0;                                                                                \
        TELL;                                                                                      \
        (void)words;                                                                               \
        for (size_t i = 0; i < n; i++) {                                                           \
            const U magnitude = values[i] & (~(U)0 >> 1);                                          \
            most = magnitude > most ? magnitude : most;                                            \
            codes[i] = CORE(values[i], words[i], f, hoisted);                                      \
        }                                                                                          \
        return most;                                                                               \
    }
#define FF_TELL(SIGN, NAN_PLACE, IS_CAPPED)                                                        \
    f.sign = SIGN, f.nan = NAN_PLACE, hoisted.is_capped = IS_CAPPED
#define FF_FAST_LOOPS(name, CORE, W, U)                                                            \
    FF_FAST_LOOP(name##_unsigned, CORE, plan##W, U, FF_TELL(FF_UNSIGNED, 0, 0))                    \
    FF_FAST_LOOP(name##_signed, CORE, plan##W, U, FF_TELL(FF_SIGN_MAGNITUDE, 0, 0))                \
    FF_FAST_LOOP(name##_capped, CORE, plan##W, U, FF_TELL(FF_SIGN_MAGNITUDE, 0, 1))                \
    FF_FAST_LOOP(name##_fnuz, CORE, plan##W, U,                                                    \
                 FF_TELL(FF_SIGN_MAGNITUDE, FF_NAN_NEGATIVE_ZERO, 0))                              \
    FF_FAST_LOOP(name##_twos, CORE, plan##W, U, FF_TELL(FF_TWOS_COMPLEMENT, 0, 0))                 \
    static U name(const U *values, const uint32_t *words, U *codes, size_t n, struct ff_format f,  \
                  const struct plan##W *p)                                                         \
    {                                                                                              \
        if (p->is_capped)                                                                          \
            return name##_capped(values, words, codes, n, f, p);                                   \
        if (f.sign == FF_UNSIGNED)                                                                 \
            return name##_unsigned(values, words, codes, n, f, p);                                 \
        if (f.sign == FF_TWOS_COMPLEMENT)                                                          \
            return name##_twos(values, words, codes, n, f, p);                                     \
        if (f.nan == FF_NAN_NEGATIVE_ZERO)                                                         \
            return name##_fnuz(values, words, codes, n, f, p);                                     \
        return name##_signed(values, words, codes, n, f, p);                                       \
    }
#define FF_ANY32(bits, word, f, p) encode_fast32(bits, f, p)
#define FF_ANY64(bits, word, f, p) encode_fast64(bits, f, p)
#define FF_NEAR32(bits, word, f, p) encode_near32(bits, f, p)
#define FF_NEAR64(bits, word, f, p) encode_near64(bits, f, p)
FF_FAST_LOOPS(any_mode32, FF_ANY32, 32, uint32_t)
FF_FAST_LOOPS(any_mode64, FF_ANY64, 64, uint64_t)
FF_FAST_LOOPS(near32, FF_NEAR32, 32, uint32_t)
FF_FAST_LOOPS(near64, FF_NEAR64, 64, uint64_t)
FF_FAST_LOOPS(drawn32, encode_drawn32, 32, uint32_t)

/* words: NULL unless the rounding is stochastic. */
static uint32_t fast32(const uint32_t *values, const uint32_t *words, uint32_t *codes, size_t n,
                       struct ff_format f, const struct plan32 *p)
{
    if (words != NULL)
        return drawn32(values, words, codes, n, f, p);
    return p->is_near ? near32(values, NULL, codes, n, f, p)
                      : any_mode32(values, NULL, codes, n, f, p);
}

static uint64_t fast64(const uint64_t *values, uint64_t *codes, size_t n, struct ff_format f,
                       const struct plan64 *p)
{
    return p->is_near ? near64(values, NULL, codes, n, f, p)
                      : any_mode64(values, NULL, codes, n, f, p);
}

/* E8M0 does not know 0 either: less one, its magnitude is the largest of all. */
FF_LOOP uint32_t fast32_e8m0(const uint32_t *restrict values, uint32_t *restrict codes, size_t n,
                             const struct plan32 *restrict p)
{
    const struct plan32 hoisted = *p;
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t before = (values[i] & 0x7fffffff) - 1;
        most = before > most ? before : most;
        codes[i] = encode_fast_e8m0(values[i], hoisted);
    }
    return most < 0x7f7fffff ? most : 0x7f800000;
}

FF_INLINE void store_code(void *codes, size_t i, size_t bytes, uint64_t code)
{
    memcpy((uint8_t *)codes + i * bytes, &code, bytes); /* x86-64 and AArch64: the low bytes first */
}

/* Encodes anew what the fast loops do not know, if it is not much of a block: Inf, NaN, and 0, which
 * E8M0 does not have. Returns -1 if it is too much, 1 if a NaN is an error, else 0. */
#define FF_DEFINE_PATCH(W, U, INFINITY_CODE, WIDEN)                                                \
    FF_LOOP size_t specials##W(const U *values, U least, size_t n)                                 \
    {                                                                                              \
        size_t found = 0;                                                                          \
        for (size_t i = 0; i < n; i++)                                                             \
            found += (values[i] & (~(U)0 >> 1)) - least >= INFINITY_CODE - least;                  \
        return found;                                                                              \
    }                                                                                              \
    static int patch##W(struct ff_format f, const struct ff_rules *r, const U *values,             \
                        void *codes, size_t bytes, size_t n)                                       \
    {                                                                                              \
        const U least = f.has_zero ? 0 : 1;                                                        \
        if (specials##W(values, least, n) > n / 8)                                                 \
            return -1;                                                                             \
        const struct any_plan p = any_plan_of(f, r);                                               \
        for (size_t i = 0; i < n; i++) {                                                           \
            const U magnitude = values[i] & (~(U)0 >> 1);                                          \
            if (magnitude - least < INFINITY_CODE - least)                                         \
                continue;                                                                          \
            if (r->nan_is_error && magnitude > INFINITY_CODE)                                      \
                return 1;                                                                          \
            uint64_t wide;                                                                         \
            WIDEN;                                                                                 \
            store_code(codes, i, bytes, encode_any(wide, p, 0, 0));                                \
        }                                                                                          \
        return 0;                                                                                  \
    }
FF_DEFINE_PATCH(32, uint32_t, UINT32_C(0x7f800000), decode_f64(&FP32, values + i, &wide, 1))
FF_DEFINE_PATCH(64, uint64_t, UINT64_C(0x7ff0000000000000), wide = values[i])

/* Runs BODY with `from` and `count` for every block of n elements. */
#define FF_CHUNKS(BODY)                                                                            \
    for (size_t from = 0; from < n; from += FF_CHUNK) {                                            \
        const size_t count = n - from < FF_CHUNK ? n - from : FF_CHUNK;                            \
        BODY                                                                                       \
    }

FF_LOOP int encode_blocks_f64(struct ff_format f, const struct ff_rules *r, uint64_t seed,
                              uint64_t start, const uint64_t *values, uint8_t *codes, size_t n)
{
    uint64_t wide[FF_CHUNK];
    struct plan64 p;
    const int is_fast = r->rounding != FF_STOCHASTIC && plan_for64(&p, f, r) && f.has_zero;
    const size_t bytes = code_bytes(f);
    FF_CHUNKS({
        int rest = -1; /* what is left to do: nothing, an error, all */
        if (is_fast)
            rest = fast64(values + from, wide, count, f, &p) < UINT64_C(0x7ff0000000000000)
                       ? 0
                       : patch64(f, r, values + from, wide, 8, count);
        if (rest == 0)
            store_codes64(wide, codes + from * bytes, bytes, count);
        else if (rest == 1 || encode_carefully(f, r, seed, start + from, values + from,
                                               codes + from * bytes, count))
            return 1;
    })
    return 0;
}

/* Codes of one or two bytes without a buffer: codes.inc.h. */
#ifndef FF_HAS_CODES
struct codes_plan {
    int is_there;
};
FF_INLINE struct codes_plan codes_plan_of(struct ff_format f, const struct ff_rules *r,
                                          struct plan32 p)
{
    return (void)f, (void)r, (void)p, (struct codes_plan){0};
}
#define encode_codes(values, codes, n, p) ((void)(p), UINT32_MAX)
#endif

/* Codes of a byte to nearest even, by way of a buffer where there is no such loop; n <= FF_CHUNK.
 * Returns the largest magnitude. */
static uint32_t near_codes(const uint32_t *values, uint8_t *codes, size_t n, struct ff_format f,
                           const struct plan32 *p, const struct codes_plan *bytes)
{
    uint32_t wide[FF_CHUNK];
    if (bytes->is_there && n % 32 == 0)
        return encode_codes(values, codes, n, bytes);
    const uint32_t most = near32(values, NULL, wide, n, f, p);
    narrow32_8(wide, codes, n);
    return most;
}

/* How binary32 patterns become codes: by a loop of the conversion's own, or by plans. */
enum way32 {
    FF_PLANNED,
    FF_TO_FP16,
    FF_TO_BF16,
    FF_TO_BF16_BY,
    FF_TO_TF32,
    FF_TO_TF32_BY,
    FF_TO_FP32,
    FF_TO_FP64
};
struct encoding32 {
    struct ff_format format;
    const struct ff_rules *rules;
    uint64_t seed;
    enum way32 way;
    int is_fast, is_e8m0;
    struct plan32 plan;
    struct codes_plan codes;
};

static struct encoding32 planned32(struct ff_format f, const struct ff_rules *r, uint64_t seed)
{
    struct encoding32 e = {.format = f, .rules = r, .seed = seed, .is_e8m0 = is_format(f, E8M0FNU)};
    const int has_loop = f.has_zero || (e.is_e8m0 && r->rounding != FF_STOCHASTIC);
    e.is_fast = plan_for32(&e.plan, f, r) && has_loop;
    if (e.is_fast)
        e.codes = codes_plan_of(f, r, e.plan);
    return e;
}

/* A block: by the fast loops, by those and encode_any, or by that or binary64's. Returns whether a
 * NaN is an error. */
static int encode_block_f32(const struct encoding32 *e, uint64_t start, const uint32_t *values,
                            uint8_t *codes, size_t n)
{
    uint32_t narrow[FF_CHUNK], words[FF_CHUNK];
    uint64_t wide[FF_CHUNK];
    const struct ff_format f = e->format;
    const int draws = e->rules->rounding == FF_STOCHASTIC;
    if (e->is_fast) {
        if (draws)
            random_words(e->seed, start, n, words);
        const uint32_t most =
            e->is_e8m0 ? fast32_e8m0(values, narrow, n, &e->plan)
                       : fast32(values, draws ? words : NULL, narrow, n, f, &e->plan);
        const int rest = most < 0x7f800000 ? 0 : patch32(f, e->rules, values, narrow, 4, n);
        if (rest == 0)
            store_codes32(narrow, codes, code_bytes(f), n);
        if (rest >= 0)
            return rest;
    }
    decode_f64(&FP32, values, wide, n);
    return e->is_fast ? encode_carefully(f, e->rules, e->seed, start, wide, codes, n)
                      : encode_blocks_f64(f, e->rules, e->seed, start, wide, codes, n);
}

#ifdef FF_HAS_CODES
/* Values from the first on, until a block has to go another way; returns how many. */
static size_t encode_usual_f32(const struct encoding32 *e, const uint32_t *values, uint8_t *codes,
                               size_t n)
{
    const size_t bytes = code_bytes(e->format);
    const int turns = e->rules->rounding != FF_NEAREST_EVEN;
    const int is_far = is_streamed(n * (sizeof *values + bytes));
    size_t done = 0;
    if (turns)
        turn_to(e->rules->rounding);
    while (n - done >= 32) {
        const size_t count = n - done < FF_CHUNK ? (n - done) & ~(size_t)31 : FF_CHUNK;
        uint8_t *const to = codes + done * bytes;
        if (is_far) /* a fifth faster */
            prefetch_ahead(values + done, count * sizeof *values, count * sizeof *values);
        if (encode_codes(values + done, to, count, &e->codes) >= 0x7f800000) {
            turn_back();
            if (patch32(e->format, e->rules, values + done, to, bytes, count) != 0)
                return done;
            if (turns)
                turn_to(e->rules->rounding);
        }
        done += count;
    }
    if (turns)
        turn_back();
    return done;
}
#else
#define encode_usual_f32(e, values, codes, n) 0
#endif

FF_LOOP int encode_planned_f32(const struct encoding32 *e, uint64_t start, const uint32_t *values,
                               uint8_t *codes, size_t n)
{
    const size_t bytes = code_bytes(e->format);
    for (size_t from = 0;;) {
        if (e->codes.is_there)
            from += encode_usual_f32(e, values + from, codes + from * bytes, n - from);
        const size_t count = n - from < FF_CHUNK ? n - from : FF_CHUNK;
        if (count == 0)
            return 0;
        if (encode_block_f32(e, start + from, values + from, codes + from * bytes, count))
            return 1;
        from += count;
    }
}

enum { FF_NARROWED = 2048 };

/* Rounds binary64 to odd in binary32. Returns more than Inf's pattern if there is a NaN, whose payload
 * may change. */
FF_LOOP uint32_t narrow_to_odd(const uint64_t *restrict values, uint32_t *restrict narrow, size_t n)
{
    uint32_t most = 0;
    size_t i = 0;
#ifdef FF_HAS_CODES /* turned as well, for one operation less */
    turn_to(FF_TOWARD_ZERO);
    i = n & ~(size_t)7;
    most = narrow_to_odd_256(values, narrow, i);
    turn_back();
#endif
    for (; i < n; i++) {
        const double magnitude = double_of_bits(values[i] & INT64_MAX);
        const float near = (float)magnitude;
        const uint32_t sign = (uint32_t)(values[i] >> 32) & UINT32_C(0x80000000);
        const uint32_t bits = bits_of_float(near);
        most = bits > most ? bits : most;
        narrow[i] = sign | (bits - (near > magnitude)) | (near != magnitude);
    }
    return most;
}

/* Whether any deterministic mode makes the same code of f of a value and of that value rounded to odd:
 * binary32 has two bits more than f everywhere, and no value of f, -128 of int8 included, is beyond. */
static int is_inside_fp32(struct ff_format f)
{
    const uint64_t largest = max_code(f) + (f.sign == FF_TWOS_COMPLEMENT);
    return f.fraction_bits <= 21 && (f.has_zero ? 1 : 0) - f.bias - f.fraction_bits >= -147 &&
           (int)(largest >> f.fraction_bits) - f.bias <= 127;
}

/* The conversions that most ask for. */
#define FF_F32_TO_BF16(x) ((uint16_t)encode32_alike(x, BF16))
#define FF_F32_TO_TF32(x) encode32_alike(x, TF32)
#define FF_F32_TO_FP32(x) encode32_alike(x, FP32)
#define FF_F32_TO_BF16_BY(x) ((uint16_t)encode32_alike_by(x, BF16, p))
#define FF_F32_TO_TF32_BY(x) encode32_alike_by(x, TF32, p)
FF_DEFINE_MAP(f32_to_tf32, (), (), uint32_t, uint32_t, FF_F32_TO_TF32)
FF_DEFINE_MAP(f32_to_bf16_by, (struct alike32 p, ), (p, ), uint32_t, uint16_t, FF_F32_TO_BF16_BY)
FF_DEFINE_MAP(f32_to_tf32_by, (struct alike32 p, ), (p, ), uint32_t, uint32_t, FF_F32_TO_TF32_BY)
FF_DEFINE_MAP(f32_to_fp32, (), (), uint32_t, uint32_t, FF_F32_TO_FP32)

#ifndef FF_ENCODE_F32_BF16
#define FF_ENCODE_F32_BF16(values, codes, n) 0
#endif
FF_INLINE void encode_some_bf16(const uint32_t *restrict values, uint16_t *restrict codes, size_t n)
{
    for (size_t i = FF_ENCODE_F32_BF16(values, codes, n); i < n; i++)
        codes[i] = FF_F32_TO_BF16(values[i]);
}
FF_DEFINE_STREAMED(f32_to_bf16, (), (), uint32_t, uint16_t, encode_some_bf16)

/* Whether turn_to is all that there is to do for a mode. */
static int has_direction(int rounding)
{
    return rounding == FF_NEAREST_EVEN || rounding == FF_TOWARD_ZERO ||
           rounding == FF_TOWARD_POSITIVE || rounding == FF_TOWARD_NEGATIVE;
}

/* By the CPU's own conversions: a NaN becomes quiet and keeps its payload. */
#define FF_WIDEN_FP32(x) ((double)(x))
#define FF_F64_TO_FP32(x) ((float)(x))
FF_DEFINE_MAP(widen_f32, (), (), float, double, FF_WIDEN_FP32)
FF_DEFINE_MAP(f64_to_fp32, (), (), double, float, FF_F64_TO_FP32)

#ifdef FF_ENCODE_F32_FP16
/* The slot, by the CPU's direction, and, for what it leaves, the usual way. */
FF_INLINE void encode_some_fp16(const struct ff_rules *r, const float *values, uint16_t *codes,
                                size_t n)
{
    const size_t whole = FF_ENCODE_F32_FP16(values, codes, n);
    if (whole == n)
        return;
    const struct encoding32 e = planned32(FP16, r, 0);
    turn_back();
    encode_planned_f32(&e, 0, (const uint32_t *)values + whole, (uint8_t *)(codes + whole),
                       n - whole);
    turn_to(r->rounding);
}
FF_DEFINE_STREAMED(f32_to_fp16, (const struct ff_rules *r, ), (r, ), float, uint16_t,
                   encode_some_fp16)
#define FF_HAS_FP16 1
#else
#define FF_HAS_FP16 0
#define f32_to_fp16(r, values, codes, n) ((void)0)
#endif

static enum way32 way_of(struct ff_format f, const struct ff_rules *r)
{
    const int is_even = r->rounding == FF_NEAREST_EVEN;
    if (!r->is_ieee || r->rounding == FF_STOCHASTIC)
        return FF_PLANNED;
    if (FF_HAS_FP16 && has_direction(r->rounding) && is_format(f, FP16))
        return FF_TO_FP16;
    if (is_format(f, BF16))
        return is_even ? FF_TO_BF16 : FF_TO_BF16_BY;
    if (is_format(f, TF32))
        return is_even ? FF_TO_TF32 : FF_TO_TF32_BY;
    if (is_even && is_format(f, FP32))
        return FF_TO_FP32;
    return is_even && is_format(f, FP64) ? FF_TO_FP64 : FF_PLANNED;
}

static struct encoding32 encoding32_of(struct ff_format f, const struct ff_rules *r, uint64_t seed)
{
    const enum way32 way = way_of(f, r);
    if (way == FF_PLANNED)
        return planned32(f, r, seed);
    return (struct encoding32){.format = f, .rules = r, .way = way};
}

static int encode_by(const struct encoding32 *e, uint64_t start, const void *values, void *codes,
                     size_t n)
{
    const struct ff_rules *const r = e->rules;
    switch (e->way) {
    case FF_PLANNED: return encode_planned_f32(e, start, values, codes, n);
    case FF_TO_FP16:
        turn_to(r->rounding);
        f32_to_fp16(r, values, codes, n);
        turn_back();
        break;
    case FF_TO_BF16: f32_to_bf16(values, codes, n); break;
    case FF_TO_BF16_BY: f32_to_bf16_by(alike32_of(BF16, r->rounding), values, codes, n); break;
    case FF_TO_TF32: f32_to_tf32(values, codes, n); break;
    case FF_TO_TF32_BY: f32_to_tf32_by(alike32_of(TF32, r->rounding), values, codes, n); break;
    case FF_TO_FP32: f32_to_fp32(values, codes, n); break;
    case FF_TO_FP64: widen_f32(values, codes, n); break;
    }
    return 0;
}

static int encode_f32(const struct ff_format *format, const struct ff_rules *r, uint64_t seed,
                      uint64_t start, const void *restrict values, void *restrict codes, size_t n)
{
    const struct encoding32 e = encoding32_of(*format, r, seed);
    return encode_by(&e, start, values, codes, n);
}

/* By way of binary32 where that is all the same. */
static int encode_f64(const struct ff_format *format, const struct ff_rules *r, uint64_t seed,
                      uint64_t start, const void *restrict values_, void *restrict codes_, size_t n)
{
    uint32_t narrow[FF_NARROWED];
    const struct ff_format f = *format;
    const uint64_t *const values = values_;
    uint8_t *const codes = codes_;
    const size_t bytes = code_bytes(f);
    if (r->is_ieee && has_direction(r->rounding) && is_format(f, FP32)) {
        turn_to(r->rounding);
        f64_to_fp32(values_, codes_, n);
        turn_back();
        return 0;
    }
    const struct encoding32 e = encoding32_of(f, r, seed);
    if (r->rounding == FF_STOCHASTIC || !is_inside_fp32(f) || (e.way == FF_PLANNED && !e.is_fast))
        return encode_blocks_f64(f, r, seed, start, values, codes, n);
    for (size_t from = 0; from < n; from += FF_NARROWED) {
        const size_t count = n - from < FF_NARROWED ? n - from : FF_NARROWED;
        const int is_nan = narrow_to_odd(values + from, narrow, count) > 0x7f800000;
        uint8_t *const to = codes + from * bytes;
        if (is_nan && r->keeps_payload ? encode_blocks_f64(f, r, seed, start + from, values + from, to, count)
                   : encode_by(&e, start + from, narrow, to, count))
            return 1;
    }
    return 0;
}

/* 16-bit values become binary32 first, exactly: a signalling NaN stays one. */
FF_INLINE void widen_f16(const void *values, uint32_t *wide, size_t n)
{
    decode_some_fp16(values, wide, n);
}
FF_INLINE void widen_bf16(const void *values, uint32_t *wide, size_t n)
{
    for (size_t i = 0; i < n; i++)
        wide[i] = load_bf16(values, i);
}
#define FF_DEFINE_ENCODE_16(T)                                                                     \
    static int encode_##T(const struct ff_format *format, const struct ff_rules *r, uint64_t seed, \
                          uint64_t start, const void *restrict values, void *restrict codes,       \
                          size_t n)                                                                \
    {                                                                                              \
        uint32_t wide[FF_NARROWED];                                                                \
        const struct encoding32 e = encoding32_of(*format, r, seed);                               \
        const size_t bytes = code_bytes(*format);                                                  \
        for (size_t from = 0; from < n; from += FF_NARROWED) {                                     \
            const size_t count = n - from < FF_NARROWED ? n - from : FF_NARROWED;                  \
            widen_##T((const uint16_t *)values + from, wide, count);                               \
            if (encode_by(&e, start + from, wide, (uint8_t *)codes + from * bytes, count))         \
                return 1;                                                                          \
        }                                                                                          \
        return 0;                                                                                  \
    }
FF_DEFINE_ENCODE_16(f16)
FF_DEFINE_ENCODE_16(bf16)

/* --- round_to ---------------------------------------------------------------------------------- */

/* The codes of a block stay in the first-level cache between the two steps. */
#define FF_DEFINE_ROUND_TO(T, U, ...)                                                              \
    static int round_in_steps_##T(const struct ff_format *format, const struct ff_rules *r,        \
                            uint64_t seed, uint64_t start, const void *restrict values,            \
                            void *restrict out, size_t n)                                          \
    {                                                                                              \
        uint64_t codes[FF_CHUNK];                                                                  \
        U table[256];                                                                              \
        const int looks_up = is_looked_up(*format, n);                                             \
        if (looks_up)                                                                              \
            decode_every_code_##T(format, table);                                                  \
        FF_CHUNKS({                                                                                \
            U *const to = (U *)out + from;                                                         \
            if (encode_##T(format, r, seed, start + from, (const U *)values + from, codes, count)) \
                return 1;                                                                          \
            if (looks_up)                                                                          \
                look_up_##T##_some(__VA_ARGS__ table, (const uint8_t *)codes, to, count);          \
            else                                                                                   \
                decode_some_##T(format, codes, to, count);                                         \
        })                                                                                         \
        return 0;                                                                                  \
    }
FF_DEFINE_ROUND_TO(f32, uint32_t, byte_halves_of(*format), )
FF_DEFINE_ROUND_TO(f64, uint64_t, )

static int round_to_f64(const struct ff_format *format, const struct ff_rules *r, uint64_t seed,
                        uint64_t start, const void *values, void *out, size_t n)
{
    return round_in_steps_f64(format, r, seed, start, values, out, n);
}

#define FF_ROUND_BF16(x) (encode32_alike(x, BF16) << 16)
FF_DEFINE_MAP(round_bf16, (), (), uint32_t, uint32_t, FF_ROUND_BF16)

/* Values that encode_near rounds need no code: what it adds is taken away again. */
struct rounding32 {
    uint32_t linear, beyond, magic, largest, overflow;
};
FF_INLINE uint32_t round_near32(uint32_t bits, struct rounding32 p)
{
    const uint32_t magnitude = bits & 0x7fffffff;
    const uint32_t within =
        (int32_t)magnitude < (int32_t)p.beyond ? magnitude : p.beyond;
    const uint32_t exponent = within & 0x7f800000;
    const uint32_t binade = (int32_t)exponent > (int32_t)p.linear ? exponent : p.linear;
    const float magic = float_of_bits(binade + p.magic);
    const uint32_t kept = bits_of_float(float_of_bits(within) + magic - magic);
    return ((int32_t)kept > (int32_t)p.largest ? p.overflow : kept) | (bits & 0x80000000);
}
FF_INLINE void round_some_near(struct rounding32 p, const uint32_t *restrict values,
                               uint32_t *restrict out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = round_near32(values[i], p);
}
FF_LOOP void round_chunk(const struct rounding32 *p, const uint32_t *values, uint32_t *out,
                         size_t n, int past)
{
    const struct rounding32 hoisted = *p;
    if (!past || n != FF_CHUNK || !is_aligned(out)) {
        round_some_near(hoisted, values, out, n);
        return;
    }
    for (size_t i = 0; i < FF_CHUNK; i += FF_STREAM) {
        _Alignas(64) uint32_t lines[FF_STREAM];
        round_some_near(hoisted, values + i, lines, FF_STREAM);
        prefetch_ahead(values + i, FF_AHEAD, sizeof lines);
        stream(out + i, lines, sizeof lines);
    }
}
FF_LOOP int all_finite32(const uint32_t *values, size_t n)
{
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t magnitude = values[i] & 0x7fffffff;
        most = (int32_t)magnitude > (int32_t)most ? magnitude : most;
    }
    return most < 0x7f800000;
}

static int round_to_f32(const struct ff_format *format, const struct ff_rules *r, uint64_t seed,
                        uint64_t start, const void *values_, void *out_, size_t n)
{
    const uint32_t *values = values_;
    uint32_t *out = out_;
    const struct ff_format f = *format;
    struct plan32 p;
    if (way_of(f, r) == FF_TO_BF16) {
        round_bf16(values, out, n);
        return 0;
    }
    if (!plan_for32(&p, f, r) || !f.has_zero || !p.is_near || !p.is_capped)
        return round_in_steps_f32(format, r, seed, start, values, out, n);
    struct rounding32 q = {p.linear, p.beyond, (uint32_t)p.drop << 23, 0, 0};
    const struct decoding32 d = decoding32_of(f);
    q.largest = decoding32_pattern(p.limit, d), q.overflow = decoding32_pattern(p.overflow, d);
    const int past = is_streamed(n * (sizeof *values + sizeof *out));
    int stray = 0;
    for (size_t from = 0, count; from < n && !stray; from += count) {
        const size_t room = FF_CHUNK - (past ? ((uintptr_t)(out + from) & 63) / sizeof *out : 0);
        count = n - from < room ? n - from : room;
        if (all_finite32(values + from, count))
            round_chunk(&q, values + from, out + from, count, past);
        else
            stray = round_in_steps_f32(format, r, seed, start + from, values + from, out + from,
                                       count);
    }
    end_of_stream();
    return stray;
}

/* --- pack, unpack ------------------------------------------------------------------------------ */

/* Eight codes make `bits` bytes; what a code has above them, as negative ones do, is left out. The
 * loops over k are unrolled where bits is known. */
FF_INLINE void pack_eight(const uint8_t *codes, uint8_t *packed, int bits, int high_first,
                          size_t count)
{
    uint64_t all = 0;
    const uint64_t mask = (UINT64_C(1) << bits) - 1;
    for (size_t k = 0; k < count; k++)
        all |= (codes[k] & mask) << (high_first ? 64 - bits * ((int)k + 1) : bits * (int)k);
    for (size_t k = 0; 8 * k < (size_t)bits * count; k++)
        packed[k] = (uint8_t)(all >> (high_first ? 56 - 8 * k : 8 * k));
}

FF_INLINE void unpack_eight(const uint8_t *packed, uint8_t *codes, int bits, int high_first,
                            size_t count)
{
    uint64_t all = 0;
    for (size_t k = 0; 8 * k < (size_t)bits * count; k++)
        all |= (uint64_t)packed[k] << (high_first ? 56 - 8 * k : 8 * k);
    const uint64_t mask = (UINT64_C(1) << bits) - 1;
    for (size_t k = 0; k < count; k++)
        codes[k] =
            (uint8_t)(all >> (high_first ? 64 - bits * ((int)k + 1) : bits * (int)k) & mask);
}

#ifndef FF_PACK4
#define FF_PACK4
#endif
static void pack4(const uint8_t *restrict codes, uint8_t *restrict packed, int high_first, size_t n)
{
    const int even = high_first ? 4 : 0, odd = 4 - even;
    size_t i = 0;
    FF_PACK4;
    for (; i < n / 2; i++)
        packed[i] = (uint8_t)((codes[2 * i] & 15) << even | (codes[2 * i + 1] & 15) << odd);
}

static void unpack4(const uint8_t *restrict packed, uint8_t *restrict codes, int high_first,
                    size_t n)
{
    const int even = high_first ? 4 : 0, odd = 4 - even;
    for (size_t i = 0; i < n / 2; i++) {
        codes[2 * i] = packed[i] >> even & 15;
        codes[2 * i + 1] = packed[i] >> odd & 15;
    }
}

/* Eight codes are digits of a number of 64 bits: neighbours are put together, or taken apart, three
 * times. x86-64 and AArch64 have the lowest byte first. */
FF_INLINE uint64_t put_together(uint64_t x, int bits)
{
    const uint64_t by_8 = UINT64_C(0x00ff00ff00ff00ff), by_16 = UINT64_C(0x0000ffff0000ffff);
    x &= UINT64_C(0x0101010101010101) * ((UINT64_C(1) << bits) - 1);
    x = (x & by_8) | (x >> 8 & by_8) << bits;
    x = (x & by_16) | (x >> 16 & by_16) << 2 * bits;
    return (x & UINT32_MAX) | x >> 32 << 4 * bits;
}

FF_INLINE uint64_t take_apart(uint64_t x, int bits)
{
    const uint64_t one = 1, by_8 = UINT64_C(0x0001000100010001) * ((one << bits) - 1);
    const uint64_t by_16 = UINT64_C(0x0000000100000001) * ((one << 2 * bits) - 1);
    const uint64_t by_32 = (one << 4 * bits) - 1;
    x = (x & by_32) | (x >> 4 * bits & by_32) << 32;
    x = (x & by_16) | (x >> 2 * bits & by_16) << 16;
    return (x & by_8) | (x >> bits & by_8) << 8;
}

/* Eights whose codes have 8 bytes there to be read or written at once; returns how many codes. What
 * the last bytes of eight hold is of the next ones, which come later. */
static size_t pack_eights(const uint8_t *codes, uint8_t *packed, int bits, int high_first, size_t n)
{
    size_t i = 0;
    for (; i + 64 <= n; i += 8) {
        uint64_t x;
        memcpy(&x, codes + i, sizeof x);
        x = put_together(high_first ? __builtin_bswap64(x) : x, bits);
        x = high_first ? __builtin_bswap64(x << (64 - 8 * bits)) : x;
        memcpy(packed + i / 8 * (size_t)bits, &x, sizeof x);
    }
    return i;
}

static size_t unpack_eights(const uint8_t *packed, uint8_t *codes, int bits, int high_first,
                            size_t n)
{
    size_t i = 0;
    for (; i + 64 <= n; i += 8) {
        uint64_t x;
        memcpy(&x, packed + i / 8 * (size_t)bits, sizeof x);
        x = take_apart(high_first ? __builtin_bswap64(x) >> (64 - 8 * bits) : x, bits);
        x = high_first ? __builtin_bswap64(x) : x;
        memcpy(codes + i, &x, sizeof x);
    }
    return i;
}

static void pack(const uint8_t *codes, uint8_t *packed, int bits, int high_first, size_t n)
{
    size_t i = 0;
    if (bits == 4) {
        pack4(codes, packed, high_first, n);
        i = n & ~(size_t)7;
    } else if (bits < 8)
        i = pack_eights(codes, packed, bits, high_first, n);
    for (; i < n; i += 8)
        pack_eight(codes + i, packed + i / 8 * (size_t)bits, bits, high_first,
                   n - i < 8 ? n - i : 8);
}

static void unpack(const uint8_t *packed, uint8_t *codes, int bits, int high_first, size_t n)
{
    size_t i = 0;
    if (bits == 4) {
        unpack4(packed, codes, high_first, n);
        i = n & ~(size_t)7;
    } else if (bits < 8)
        i = unpack_eights(packed, codes, bits, high_first, n);
    for (; i < n; i += 8)
        unpack_eight(packed + i / 8 * (size_t)bits, codes + i, bits, high_first,
                     n - i < 8 ? n - i : 8);
}
