/* Every kernel once, as plain loops that the compiler vectorises for the region this text is
 * included in. The includer has included kernels.h and scalar.h, defines FF_TABLE, the table's
 * name, and may define FF_ENCODE_F32_FP16, a function that replaces the loop of that conversion. */

/* --- loading a value as the pattern its arithmetic works on ------------------------------------ */

FF_INLINE uint64_t load_f64(const void *x, size_t i) { return ((const uint64_t *)x)[i]; }
FF_INLINE uint32_t load_f32(const void *x, size_t i) { return ((const uint32_t *)x)[i]; }
FF_INLINE uint32_t load_bf16(const void *x, size_t i)
{
    return (uint32_t)((const uint16_t *)x)[i] << 16;
}
FF_INLINE uint32_t load_f16(const void *x, size_t i)
{
    return decode32(((const uint16_t *)x)[i], FP16, 0x1p-24f);
}

FF_INLINE size_t code_bytes(struct ff_format f)
{
    const int bits = 1 + f.exponent_bits + f.fraction_bits;
    return bits <= 8 ? 1 : bits <= 16 ? 2 : bits <= 32 ? 4 : 8;
}

FF_INLINE int is_format(struct ff_format f, struct ff_format g)
{
    return f.exponent_bits == g.exponent_bits && f.fraction_bits == g.fraction_bits &&
           f.bias == g.bias;
}

/* --- decompose, compose ------------------------------------------------------------------------ */

#define FF_FIELDS(CODE, EXPONENT, FRACTION)                                                        \
    static void decompose_##CODE##_##EXPONENT##_##FRACTION(                                        \
        struct ff_format f, const CODE##_t *restrict codes, uint8_t *restrict sign,                \
        EXPONENT##_t *restrict exponent, FRACTION##_t *restrict fraction, size_t n)                \
    {                                                                                              \
        const CODE##_t exponent_mask = (CODE##_t)(((CODE##_t)1 << f.exponent_bits) - 1);           \
        const CODE##_t fraction_mask = (CODE##_t)(((CODE##_t)1 << f.fraction_bits) - 1);           \
        const int sign_place = f.exponent_bits + f.fraction_bits;                                  \
        for (size_t i = 0; i < n; i++) {                                                           \
            sign[i] = (uint8_t)(codes[i] >> sign_place);                                           \
            exponent[i] = (EXPONENT##_t)((codes[i] >> f.fraction_bits) & exponent_mask);           \
            fraction[i] = (FRACTION##_t)(codes[i] & fraction_mask);                                \
        }                                                                                          \
    }                                                                                              \
    static int compose_##CODE##_##EXPONENT##_##FRACTION(                                           \
        struct ff_format f, const uint8_t *restrict sign, const EXPONENT##_t *restrict exponent,   \
        const FRACTION##_t *restrict fraction, CODE##_t *restrict codes, size_t n)                 \
    {                                                                                              \
        const int sign_place = f.exponent_bits + f.fraction_bits;                                  \
        uint8_t stray_sign = 0;                                                                    \
        EXPONENT##_t stray_exponent = 0;                                                           \
        FRACTION##_t stray_fraction = 0;                                                           \
        for (size_t i = 0; i < n; i++) {                                                           \
            stray_sign |= sign[i];                                                                 \
            stray_exponent |= exponent[i];                                                         \
            stray_fraction |= fraction[i];                                                         \
            codes[i] = (CODE##_t)(((CODE##_t)sign[i] << sign_place) |                              \
                                  ((CODE##_t)exponent[i] << f.fraction_bits) | fraction[i]);       \
        }                                                                                          \
        return stray_sign > 1 || (uint64_t)stray_exponent >> f.exponent_bits ||                    \
               (uint64_t)stray_fraction >> f.fraction_bits;                                        \
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

/* --- encode ------------------------------------------------------------------------------------ */

#define FF_ENCODE_LOOP(T, CORE, CODE, FORMAT)                                                      \
    for (size_t i = 0; i < n; i++)                                                                 \
        ((CODE *)codes)[i] = (CODE)CORE(load_##T(values, i), FORMAT)

/* A format known to the compiler drops what it does not need: CORE takes any format, ALIKE those
 * with binary32's binades. */
#define FF_DEFINE_ENCODE_KERNEL(T, CORE, ALIKE, WIDEST_CASE)                                              \
    static void encode_##T(const struct ff_format *format, const void *restrict values,            \
                           void *restrict codes, size_t n)                                         \
    {                                                                                              \
        const struct ff_format f = *format;                                                        \
        if (is_format(f, FP16))                                                                    \
            FF_ENCODE_##T##_FP16;                                                                  \
        else if (is_format(f, BF16))                                                               \
            FF_ENCODE_LOOP(T, ALIKE, uint16_t, BF16);                                               \
        else if (is_format(f, TF32))                                                               \
            FF_ENCODE_LOOP(T, ALIKE, uint32_t, TF32);                                               \
        else if (is_format(f, FP32))                                                               \
            FF_ENCODE_LOOP(T, ALIKE, uint32_t, FP32);                                               \
        else                                                                                       \
            switch (code_bytes(f)) {                                                               \
            case 1: FF_ENCODE_LOOP(T, CORE, uint8_t, f); break;                                    \
            case 2: FF_ENCODE_LOOP(T, CORE, uint16_t, f); break;                                   \
            case 4: FF_ENCODE_LOOP(T, CORE, uint32_t, f); break;                                   \
                WIDEST_CASE                                                                        \
            }                                                                                      \
    }
#define FF_ENCODE_f64_FP16 FF_ENCODE_LOOP(f64, encode64_inside, uint16_t, FP16)
#define FF_ENCODE_f16_FP16 FF_ENCODE_LOOP(f16, encode32, uint16_t, FP16)
#define FF_ENCODE_bf16_FP16 FF_ENCODE_LOOP(bf16, encode32, uint16_t, FP16)
#ifdef FF_ENCODE_F32_FP16
#define FF_ENCODE_f32_FP16 FF_ENCODE_F32_FP16(values, codes, n)
#else
#define FF_ENCODE_f32_FP16 FF_ENCODE_LOOP(f32, encode32, uint16_t, FP16)
#endif
FF_DEFINE_ENCODE_KERNEL(f64, encode64, encode64_inside,
                        case 8 : FF_ENCODE_LOOP(f64, encode64, uint64_t, f);
                        break;)
FF_DEFINE_ENCODE_KERNEL(f32, encode32, encode32_alike, )
FF_DEFINE_ENCODE_KERNEL(f16, encode32, encode32_alike, )
FF_DEFINE_ENCODE_KERNEL(bf16, encode32, encode32_alike, )

/* --- decode, round_to -------------------------------------------------------------------------- */

#define FF_DECODE_LOOP(CORE, CODE, U, F, FORMAT)                                                   \
    for (size_t i = 0; i < n; i++)                                                                 \
        ((U *)values)[i] = CORE(((const CODE *)codes)[i], FORMAT, (F)smallest_subnormal(FORMAT))

#define FF_DEFINE_DECODE_KERNEL(T, CORE, U, F, WIDEST_CASE)                                        \
    static void decode_##T(const struct ff_format *format, const void *restrict codes,             \
                           void *restrict values, size_t n)                                        \
    {                                                                                              \
        const struct ff_format f = *format;                                                        \
        if (is_format(f, FP16))                                                                    \
            FF_DECODE_LOOP(CORE, uint16_t, U, F, FP16);                                            \
        else if (is_format(f, BF16))                                                               \
            FF_DECODE_LOOP(CORE, uint16_t, U, F, BF16);                                            \
        else                                                                                       \
            switch (code_bytes(f)) {                                                               \
            case 1: FF_DECODE_LOOP(CORE, uint8_t, U, F, f); break;                                 \
            case 2: FF_DECODE_LOOP(CORE, uint16_t, U, F, f); break;                                \
            case 4: FF_DECODE_LOOP(CORE, uint32_t, U, F, f); break;                                \
                WIDEST_CASE                                                                        \
            }                                                                                      \
    }
FF_DEFINE_DECODE_KERNEL(f32, decode32, uint32_t, float, )
FF_DEFINE_DECODE_KERNEL(f64, decode64, uint64_t, double,
                        case 8 : FF_DECODE_LOOP(decode64, uint64_t, uint64_t, double, f);
                        break;)

enum { FF_BLOCK = 256 }; /* elements worked on at a time where a step needs a buffer or a retry */

/* The codes of a block stay in the first-level cache between the two steps. */
#define FF_DEFINE_ROUND_TO(T, U)                                                                   \
    static void round_to_##T(const struct ff_format *format, const void *restrict values,          \
                             void *restrict out, size_t n)                                         \
    {                                                                                              \
        uint64_t codes[FF_BLOCK];                                                                  \
        for (size_t start = 0; start < n; start += FF_BLOCK) {                                     \
            const size_t count = n - start < FF_BLOCK ? n - start : FF_BLOCK;                      \
            encode_##T(format, (const U *)values + start, codes, count);                           \
            decode_##T(format, codes, (U *)out + start, count);                                    \
        }                                                                                          \
    }
FF_DEFINE_ROUND_TO(f32, uint32_t)
FF_DEFINE_ROUND_TO(f64, uint64_t)

/* --- amax, minmax ------------------------------------------------------------------------------ */

/* Patterns are compared as signed integers of their own width (I): magnitudes are in order as they
 * are, values once a negative's other bits are flipped. Inf and NaN lie beyond every finite value,
 * so one reduction finds the extremes and whether all is finite. */
#define FF_MAGNITUDE(I, MAX, bits) (I)((bits) & (MAX))
#define FF_ORDER(I, MAX, bits) (I)((bits) ^ (((bits) < 0 ? -1 : 0) & (MAX)))

FF_INLINE double value_of_f64(int64_t bits) { return double_of_bits((uint64_t)bits); }
FF_INLINE double value_of_f32(int32_t bits) { return (double)float_of_bits((uint32_t)bits); }
FF_INLINE double value_of_bf16(int16_t bits)
{
    return (double)float_of_bits((uint32_t)(uint16_t)bits << 16);
}
FF_INLINE double value_of_f16(int16_t bits)
{
    return (double)float_of_bits(decode32((uint16_t)bits, FP16, 0x1p-24f));
}

/* A channel is `inner` neighbours in each of `outer` rows; where inner is 1, channels are columns
 * and a block of them is carried down the rows. */
#define FF_DEFINE_REDUCTIONS(T, I, MAX, FIRST_LOW)                                                 \
    static I amax_run_##T(const I *restrict x, size_t n, I most)                                   \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            const I magnitude = FF_MAGNITUDE(I, MAX, x[i]);                                        \
            most = magnitude > most ? magnitude : most;                                            \
        }                                                                                          \
        return most;                                                                               \
    }                                                                                              \
    static void amax_columns_##T(const I *restrict x, size_t outer, size_t stride, size_t n,       \
                                 double *restrict amax)                                            \
    {                                                                                              \
        I most[FF_BLOCK] = {0};                                                                    \
        for (size_t row = 0; row < outer; row++)                                                   \
            for (size_t i = 0; i < n; i++) {                                                       \
                const I magnitude = FF_MAGNITUDE(I, MAX, x[row * stride + i]);                     \
                most[i] = magnitude > most[i] ? magnitude : most[i];                               \
            }                                                                                      \
        for (size_t i = 0; i < n; i++)                                                             \
            amax[i] = value_of_##T(most[i]);                                                       \
    }                                                                                              \
    static void amax_##T(const void *x_, size_t outer, size_t channels, size_t inner,              \
                         double *amax)                                                             \
    {                                                                                              \
        const I *x = x_;                                                                           \
        if (inner == 1 && channels > 1) {                                                          \
            for (size_t c = 0; c < channels; c += FF_BLOCK)                                        \
                amax_columns_##T(x + c, outer, channels,                                           \
                                 channels - c < FF_BLOCK ? channels - c : FF_BLOCK, amax + c);     \
            return;                                                                                \
        }                                                                                          \
        for (size_t c = 0; c < channels; c++) {                                                    \
            I most = 0;                                                                            \
            for (size_t o = 0; o < outer; o++)                                                     \
                most = amax_run_##T(x + (o * channels + c) * inner, inner, most);                  \
            amax[c] = value_of_##T(most);                                                          \
        }                                                                                          \
    }                                                                                              \
    static void minmax_run_##T(const I *restrict x, size_t n, I *low, I *high)                     \
    {                                                                                              \
        I least = *low, most = *high;                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            const I place = FF_ORDER(I, MAX, x[i]);                                                \
            least = place < least ? place : least;                                                 \
            most = place > most ? place : most;                                                    \
        }                                                                                          \
        *low = least;                                                                              \
        *high = most;                                                                              \
    }                                                                                              \
    static void minmax_columns_##T(const I *restrict x, size_t outer, size_t stride, size_t n,     \
                                   I *restrict low, I *restrict high)                              \
    {                                                                                              \
        for (size_t row = 0; row < outer; row++)                                                   \
            for (size_t i = 0; i < n; i++) {                                                       \
                const I place = FF_ORDER(I, MAX, x[row * stride + i]);                             \
                low[i] = place < low[i] ? place : low[i];                                          \
                high[i] = place > high[i] ? place : high[i];                                       \
            }                                                                                      \
    }                                                                                              \
    static void minmax_##T(const void *x_, size_t outer, size_t channels, size_t inner,            \
                           double *low, double *high)                                              \
    {                                                                                              \
        const I *x = x_;                                                                           \
        const I infinity = FIRST_LOW, minus_infinity = FF_ORDER(I, MAX, (I)(infinity | ~(MAX)));   \
        I least[FF_BLOCK], most[FF_BLOCK];                                                         \
        const size_t step = inner == 1 && channels > 1 ? FF_BLOCK : 1;                             \
        for (size_t c = 0; c < channels; c += step) {                                              \
            const size_t n = channels - c < step ? channels - c : step;                            \
            for (size_t i = 0; i < n; i++)                                                         \
                least[i] = infinity, most[i] = minus_infinity;                                     \
            if (step > 1)                                                                          \
                minmax_columns_##T(x + c, outer, channels, n, least, most);                        \
            else                                                                                   \
                for (size_t o = 0; o < outer; o++)                                                 \
                    minmax_run_##T(x + (o * channels + c) * inner, inner, least, most);            \
            for (size_t i = 0; i < n; i++) {                                                       \
                low[c + i] = value_of_##T(FF_ORDER(I, MAX, least[i]));                             \
                high[c + i] = value_of_##T(FF_ORDER(I, MAX, most[i]));                             \
            }                                                                                      \
        }                                                                                          \
    }
FF_DEFINE_REDUCTIONS(f64, int64_t, INT64_MAX, INT64_C(0x7ff0000000000000))
FF_DEFINE_REDUCTIONS(f32, int32_t, INT32_MAX, INT32_C(0x7f800000))
FF_DEFINE_REDUCTIONS(f16, int16_t, INT16_MAX, 0x7c00)
FF_DEFINE_REDUCTIONS(bf16, int16_t, INT16_MAX, 0x7f80)

/* --- scales ------------------------------------------------------------------------------------ */

/* Rounds numerator / divisor, of which quotient is the double: to nearest if normal in f, up if
 * subnormal, to the largest finite value beyond. ceil(x / d) of a real x and an integer d is
 * ceil(ceil(x) / d), here in units of f's smallest subnormal. */
static double round_scale(double numerator, double quotient, int divisor, struct ff_format f)
{
    const uint64_t infinity = ((UINT64_C(1) << f.exponent_bits) - 1) << f.fraction_bits;
    const double tiny = smallest_subnormal(f);
    uint64_t code = encode64(bits_of_double(quotient), f);
    code = code < infinity ? code : infinity - 1;
    if (code < UINT64_C(1) << f.fraction_bits) {
        /* Two factors: 1 / tiny alone may be beyond double. Neither product is inexact. */
        const int k = f.fraction_bits + f.bias - 1;
        const double units = numerator * power_of_two(k / 2) * power_of_two(k - k / 2);
        const int64_t whole = (int64_t)units;
        const int64_t steps = whole + (units > (double)whole);
        code = (uint64_t)((steps + divisor - 1) / divisor);
    }
    return double_of_bits(decode64(code, f, tiny));
}

static void absmax_scale(const struct ff_format *f, const double *amax, int qmax, double *scale,
                         size_t n)
{
    for (size_t i = 0; i < n; i++)
        scale[i] = amax[i] == 0 ? 1 : round_scale(amax[i], amax[i] / qmax, qmax, *f);
}

static void zeropoint_parameters(const struct ff_format *f, const double *low, const double *high,
                                 int qmin, int qmax, double *scale, double *zero_point, size_t n)
{
    const int levels = qmax - qmin;
    const double limit = 0x1p62; /* only a scale that overflowed its format needs it */
    for (size_t i = 0; i < n; i++) {
        if (low[i] == high[i]) {
            const double size = low[i] < 0 ? -low[i] : low[i];
            scale[i] = size == 0 ? 1 : round_scale(size, size, 1, *f);
            zero_point[i] = 0;
            continue;
        }
        const double spread = high[i] - low[i];
        /* A spread beyond double is divided first: halving changes no bit of the quotient. */
        const double quotient = spread > DBL_MAX ? (high[i] / 2 - low[i] / 2) / (levels / 2.0)
                                                 : spread / levels;
        scale[i] = round_scale(spread, quotient, levels, *f);
        double zero = round_half_even(qmin - low[i] / scale[i]);
        zero = zero < -limit ? -limit : zero;
        zero_point[i] = (zero > limit ? limit : zero) + 0.0; /* never -0 */
    }
}

/* --- quantize ---------------------------------------------------------------------------------- */

/* What each channel of a block needs; all_fast says whether float32 may decide for all of them. */
struct parameters {
    const double *scale, *zero_point;
    float reciprocal[FF_BLOCK], guard[FF_BLOCK], low[FF_BLOCK], high[FF_BLOCK];
    int32_t zero[FF_BLOCK];
    int all_fast, qmin, qmax;
};

/* Float32 can decide a rounding where the scaled value is not near a tie. With t = x * reciprocal,
 * clamped to |t| <= bound, two roundings of relative 2^-24 and that of the reciprocal leave an
 * error below bound * 2^-23, so only |t - rint(t)| > 1/2 - bound * 2^-22 is in doubt. Beyond 2^12
 * the guard band would hold too many values, and outside 2^-126..2^126 the reciprocal is no normal
 * number. */
static void prepare(struct parameters *p, const double *scale, const double *zero_point, size_t n,
                    int qmin, int qmax)
{
    p->scale = scale;
    p->zero_point = zero_point;
    p->all_fast = 1;
    p->qmin = qmin;
    p->qmax = qmax;
    for (size_t i = 0; i < n; i++) {
        const double low = qmin - zero_point[i] - 1, high = qmax - zero_point[i] + 1;
        const double bound = -low > high ? -low : high;
        const int fast = bound <= 4096 && scale[i] >= 0x1p-126 && scale[i] <= 0x1p126;
        p->all_fast &= fast;
        p->reciprocal[i] = fast ? (float)(1 / scale[i]) : 0;
        p->guard[i] = fast ? (float)(0.5 - bound * 0x1p-22) : 0;
        p->low[i] = fast ? (float)low : 0;
        p->high[i] = fast ? (float)high : 0;
        p->zero[i] = fast ? (int32_t)zero_point[i] : 0;
    }
}

FF_INLINE int not_finite32(uint32_t bits) { return (bits & 0x7f800000) == 0x7f800000; }
FF_INLINE int not_finite64(uint64_t bits)
{
    return (bits & UINT64_C(0x7ff0000000000000)) == UINT64_C(0x7ff0000000000000);
}

/* The formula itself, in double. `each` is 1 if value i has parameters i, 0 if all share the first.
 * Returns the number clamped, or -1. */
#define FF_DEFINE_QUANTIZE_EXACTLY(T, NOT_FINITE, AS_DOUBLE)                                       \
    FF_INLINE int64_t quantize_exactly_##T(const void *restrict x, size_t n,                       \
                                           const struct parameters *restrict p, size_t each,       \
                                           int8_t *restrict codes)                                 \
    {                                                                                              \
        int64_t clamped = 0;                                                                       \
        int bad = 0;                                                                               \
        const double qmin = p->qmin, qmax = p->qmax;                                               \
        for (size_t i = 0; i < n; i++) {                                                           \
            bad |= NOT_FINITE(load_##T(x, i));                                                     \
            const double quotient = AS_DOUBLE(load_##T(x, i)) / p->scale[i * each];                \
            double q = round_half_even(quotient) + p->zero_point[i * each];                        \
            clamped += (q < qmin) | (q > qmax);                                                    \
            q = q < qmin ? qmin : q;                                                               \
            q = q > qmax ? qmax : q;                                                               \
            codes[i] = (int8_t)(int32_t)(q == q ? q : 0);                                          \
        }                                                                                          \
        return bad ? -1 : clamped;                                                                 \
    }

/* A block by float32; if any value lies near a tie, the whole block again by the formula.
 *
 * s = t + 1.5 * 2^23 has t rounded to an integer, ties to even, in its low bits. */
#define FF_DEFINE_QUANTIZE_FAST(T)                                                                 \
    FF_INLINE int64_t quantize_block_##T(const void *restrict x, size_t n,                         \
                                         const struct parameters *restrict p, size_t each,         \
                                         int8_t *restrict codes)                                   \
    {                                                                                              \
        if (!p->all_fast)                                                                          \
            return quantize_exactly_##T(x, n, p, each, codes);                                     \
        const float shift = 12582912.0f; /* 1.5 * 2^23 */                                          \
        int32_t clamped = 0, near = 0, bad = 0;                                                    \
        for (size_t i = 0; i < n; i++) {                                                           \
            const size_t c = each ? i : 0;                                                         \
            const uint32_t bits = load_##T(x, i);                                                  \
            bad |= not_finite32(bits);                                                             \
            float t = float_of_bits(bits) * p->reciprocal[c];                                      \
            t = t < p->low[c] ? p->low[c] : t;                                                     \
            t = t > p->high[c] ? p->high[c] : t;                                                   \
            const float s = t + shift;                                                             \
            const float away = t - (s - shift);                                                    \
            near |= float_of_bits(bits_of_float(away) & 0x7fffffff) > p->guard[c];                 \
            int32_t q = (int32_t)(bits_of_float(s) - bits_of_float(shift)) + p->zero[c];           \
            clamped += (q < p->qmin) | (q > p->qmax);                                              \
            q = q < p->qmin ? p->qmin : q;                                                         \
            q = q > p->qmax ? p->qmax : q;                                                         \
            codes[i] = (int8_t)q;                                                                  \
        }                                                                                          \
        if (bad)                                                                                   \
            return -1;                                                                             \
        return near ? quantize_exactly_##T(x, n, p, each, codes) : clamped;                        \
    }
#define FF_DOUBLE_OF_32(bits) ((double)float_of_bits(bits))
FF_DEFINE_QUANTIZE_EXACTLY(f64, not_finite64, double_of_bits)
FF_DEFINE_QUANTIZE_EXACTLY(f32, not_finite32, FF_DOUBLE_OF_32)
FF_DEFINE_QUANTIZE_EXACTLY(f16, not_finite32, FF_DOUBLE_OF_32)
FF_DEFINE_QUANTIZE_EXACTLY(bf16, not_finite32, FF_DOUBLE_OF_32)
FF_DEFINE_QUANTIZE_FAST(f32)
FF_DEFINE_QUANTIZE_FAST(f16)
FF_DEFINE_QUANTIZE_FAST(bf16)
#define quantize_block_f64 quantize_exactly_f64

#define FF_DEFINE_QUANTIZE(T, I)                                                                   \
    static int64_t quantize_run_##T(const I *x, size_t n, const struct parameters *p,              \
                                    int8_t *codes)                                                 \
    {                                                                                              \
        int64_t clamped = 0;                                                                       \
        for (size_t i = 0; i < n; i += FF_BLOCK) {                                                 \
            const size_t count = n - i < FF_BLOCK ? n - i : FF_BLOCK;                              \
            const int64_t more = quantize_block_##T(x + i, count, p, 0, codes + i);                \
            if (more < 0)                                                                          \
                return -1;                                                                         \
            clamped += more;                                                                       \
        }                                                                                          \
        return clamped;                                                                            \
    }                                                                                              \
    static int64_t quantize_##T(const void *x_, size_t outer, size_t channels, size_t inner,       \
                                const double *scale, const double *zero_point, int qmin, int qmax, \
                                int8_t *codes)                                                     \
    {                                                                                              \
        const I *x = x_;                                                                           \
        struct parameters p;                                                                       \
        const int columns = inner == 1 && channels > 1;                                            \
        const size_t step = columns ? FF_BLOCK : 1;                                                \
        int64_t clamped = 0;                                                                       \
        for (size_t c = 0; c < channels; c += step) {                                              \
            const size_t n = channels - c < step ? channels - c : step;                            \
            prepare(&p, scale + c, zero_point + c, n, qmin, qmax);                                 \
            for (size_t o = 0; o < outer; o++) {                                                   \
                const size_t at = (o * channels + c) * inner;                                      \
                const int64_t more = columns ? quantize_block_##T(x + at, n, &p, 1, codes + at)    \
                                             : quantize_run_##T(x + at, inner, &p, codes + at);    \
                if (more < 0)                                                                      \
                    return -1;                                                                     \
                clamped += more;                                                                   \
            }                                                                                      \
        }                                                                                          \
        return clamped;                                                                            \
    }
FF_DEFINE_QUANTIZE(f64, int64_t)
FF_DEFINE_QUANTIZE(f32, int32_t)
FF_DEFINE_QUANTIZE(f16, int16_t)
FF_DEFINE_QUANTIZE(bf16, int16_t)

/* --- dequantize -------------------------------------------------------------------------------- */

FF_INLINE double clamp(double x, double largest)
{
    x = x > largest ? largest : x;
    return x < -largest ? -largest : x;
}

FF_INLINE void store_f64(void *out, size_t i, double x) { ((double *)out)[i] = clamp(x, DBL_MAX); }
FF_INLINE void store_f32(void *out, size_t i, double x)
{
    ((float *)out)[i] = (float)clamp(x, (double)FLT_MAX);
}
FF_INLINE void store_f16(void *out, size_t i, double x)
{
    ((uint16_t *)out)[i] = (uint16_t)encode64_inside(bits_of_double(clamp(x, 65504.0)), FP16);
}
FF_INLINE void store_bf16(void *out, size_t i, double x)
{
    const double largest = 0x1.fep127;
    ((uint16_t *)out)[i] = (uint16_t)encode64_inside(bits_of_double(clamp(x, largest)), BF16);
}

#define FF_DEFINE_DEQUANTIZE_RUN(T)                                                                \
    FF_INLINE void dequantize_run_##T(const int8_t *restrict codes, size_t at, size_t n,           \
                                      const double *restrict scale,                                \
                                      const double *restrict zero_point, size_t each,              \
                                      void *restrict out)                                          \
    {                                                                                              \
        for (size_t i = 0; i < n; i++)                                                             \
            store_##T(out, at + i, (codes[at + i] - zero_point[i * each]) * scale[i * each]);      \
    }
FF_DEFINE_DEQUANTIZE_RUN(f64)
FF_DEFINE_DEQUANTIZE_RUN(f16)
FF_DEFINE_DEQUANTIZE_RUN(bf16)

/* One scale for all, and both parameters exact in float32: the difference is exact, and rounding
 * its product with the scale once to float32 is what going through double does. */
static void dequantize_float(const int8_t *restrict codes, size_t n, float scale, float zero_point,
                             float *restrict out)
{
    for (size_t i = 0; i < n; i++) {
        float x = ((float)codes[i] - zero_point) * scale;
        x = x > FLT_MAX ? FLT_MAX : x;
        out[i] = x < -FLT_MAX ? -FLT_MAX : x;
    }
}

FF_INLINE void dequantize_run_f32(const int8_t *restrict codes, size_t at, size_t n,
                                  const double *restrict scale, const double *restrict zero_point,
                                  size_t each, void *restrict out)
{
    const float narrow = (float)clamp(scale[0], (double)FLT_MAX);
    if (each == 0 && narrow == scale[0] && zero_point[0] >= -0x1p22 && zero_point[0] <= 0x1p22) {
        dequantize_float(codes + at, n, narrow, (float)zero_point[0], (float *)out + at);
        return;
    }
    for (size_t i = 0; i < n; i++)
        store_f32(out, at + i, (codes[at + i] - zero_point[i * each]) * scale[i * each]);
}

#define FF_DEFINE_DEQUANTIZE(T)                                                                    \
    static void dequantize_##T(const int8_t *codes, size_t outer, size_t channels, size_t inner,   \
                               const double *scale, const double *zero_point, void *out)           \
    {                                                                                              \
        for (size_t o = 0; o < outer; o++) {                                                       \
            const size_t row = o * channels * inner;                                               \
            if (inner == 1 && channels > 1)                                                        \
                dequantize_run_##T(codes, row, channels, scale, zero_point, 1, out);               \
            else                                                                                   \
                for (size_t c = 0; c < channels; c++)                                              \
                    dequantize_run_##T(codes, row + c * inner, inner, scale + c, zero_point + c,   \
                                       0, out);                                                    \
        }                                                                                          \
    }
FF_DEFINE_DEQUANTIZE(f64)
FF_DEFINE_DEQUANTIZE(f16)
FF_DEFINE_DEQUANTIZE(bf16)
FF_DEFINE_DEQUANTIZE(f32)

/* --- the table --------------------------------------------------------------------------------- */

const struct ff_kernels FF_TABLE = {
    .decompose = decompose,
    .compose = compose,
    .encode = {encode_f64, encode_f32, encode_f16, encode_bf16},
    .decode = {decode_f64, decode_f32},
    .round_to = {round_to_f64, round_to_f32},
    .amax = {amax_f64, amax_f32, amax_f16, amax_bf16},
    .minmax = {minmax_f64, minmax_f32, minmax_f16, minmax_bf16},
    .absmax_scale = absmax_scale,
    .zeropoint_parameters = zeropoint_parameters,
    .quantize = {quantize_f64, quantize_f32, quantize_f16, quantize_bf16},
    .dequantize = {dequantize_f64, dequantize_f32, dequantize_f16, dequantize_bf16},
};
