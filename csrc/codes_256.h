/* From values to codes of one or two bytes in one loop. All deterministic modes take
 * encode_near's sum, with the CPU turned to the mode's direction; E8M0 has one of integers. Includers
 * have AVX2. */

/* What there is to do beside that for a mode: nothing; take signs along, as up is away from zero for
 * some values and toward it for others; add half a place; make what lost something odd. */
enum { FF_AS_IT_IS, FF_BY_SIGN, FF_TIES_AWAY, FF_STICKY };

/* Kinds of codes: bytes; those of fixed-point formats, all of whose values are in one binade; bytes
 * and words that are magnitudes and signs, whatever overflows, negative ones 0 where there is no sign;
 * bytes of which 0 alone has no sign, so that -0 is NaN; E8M0, which has its own sum. */
enum {
    FF_BYTES,
    FF_BYTES_FIXED,
    FF_BYTES_CAPPED,
    FF_BYTES_FNUZ,
    FF_WORDS_CAPPED,
    FF_KINDS,
    FF_BYTES_E8M0 = FF_KINDS
};

/* Pairs are by sign.
 *
 *   beyond       pattern of the magnitude that larger ones are taken for
 *   add, odd_add as in a plan32, for E8M0
 *   sign, keep   a negative code is (magnitude | sign) & keep
 * and where codes are not capped:
 *   limit        larger magnitudes become `overflow`, a code
 *   flip, minus  a negative code is (magnitude ^ flip) - minus, in the bits of code_mask: minus and
 *                code_mask are for fixed-point formats */
struct codes_plan {
    uint32_t beyond[2], linear, add, odd_add;
    int is_there, drop, how, kind;
    uint16_t sign;
    uint8_t limit[2], overflow[2], flip, minus, code_mask, keep;
};

/* Of a magnitude of f, or the next one after them all, as if magnitudes went on. */
FF_INLINE uint32_t pattern_of_magnitude(uint32_t magnitude, struct ff_format f, struct plan32 p)
{
    if (magnitude >> f.fraction_bits)
        return (magnitude << p.drop) + p.rebias;
    return bits_of_float((float)((double)magnitude * power_of_two(1 - f.bias - f.fraction_bits)));
}

/* Whether what overflows has a magnitude, and the sign of others, and which: that of a NaN in the place
 * of -0 is the next one after them all. */
FF_INLINE int is_capped_at(struct ff_format f, const struct ff_rules *r, int s, uint64_t *cap)
{
    const int is_fnuz = f.nan == FF_NAN_NEGATIVE_ZERO && r->overflow[s] == sign_bit(f);
    *cap = is_fnuz ? sign_bit(f) : r->overflow[s] & ~sign_bit(f);
    if (f.sign == FF_UNSIGNED && s == 1)
        return r->overflow[s] == 0;
    return (*cap | (s ? sign_bit(f) : 0)) == r->overflow[s] && *cap - (uint64_t)r->limit[s] <= 1;
}

/* Fills what depends on what overflows, and says whether there is a loop. */
static void set_limits_of_codes(struct codes_plan *c, struct ff_format f, const struct ff_rules *r,
                                struct plan32 p)
{
    const uint64_t most = (uint64_t)(r->limit[0] > r->limit[1] ? r->limit[0] : r->limit[1]);
    const int is_byte = code_bytes(f) == 1, is_signed = f.sign == FF_SIGN_MAGNITUDE;
    const int is_fnuz = f.nan == FF_NAN_NEGATIVE_ZERO;
    int is_capped = is_signed || (f.sign == FF_UNSIGNED && f.exponent_bits != 0);
    for (int s = 0; s < 2; s++) {
        uint64_t cap;
        c->limit[s] = (uint8_t)r->limit[s], c->overflow[s] = (uint8_t)r->overflow[s];
        is_capped &= is_capped_at(f, r, s, &cap);
        c->beyond[s] = pattern_of_magnitude((uint32_t)cap, f, p);
    }
    c->is_there = is_capped ? is_byte || (is_signed && !is_fnuz) : is_byte && !is_fnuz;
    if (is_capped)
        c->kind = !is_byte ? FF_WORDS_CAPPED : is_fnuz ? FF_BYTES_FNUZ : FF_BYTES_CAPPED;
    else { /* 256 is packed into 255, of which uint8 makes the same */
        c->kind = f.exponent_bits ? FF_BYTES : FF_BYTES_FIXED;
        c->beyond[0] = c->beyond[1] = pattern_of_magnitude((uint32_t)most + 1, f, p);
    }
}

static struct codes_plan codes_plan_of(struct ff_format f, const struct ff_rules *r,
                                       struct plan32 p)
{
    static const int hows[] = {
        [FF_NEAREST_EVEN] = FF_AS_IT_IS,     [FF_NEAREST_AWAY] = FF_TIES_AWAY,
        [FF_TOWARD_ZERO] = FF_AS_IT_IS,      [FF_TOWARD_POSITIVE] = FF_BY_SIGN,
        [FF_TOWARD_NEGATIVE] = FF_BY_SIGN,   [FF_TO_ODD] = FF_STICKY,
    };
    struct codes_plan c = {0};
    const int is_e8m0 = is_format(f, E8M0FNU);
    if (r->rounding == FF_STOCHASTIC || code_bytes(f) > 2 || !(p.is_inside || is_e8m0))
        return c;
    const int twos = f.sign == FF_TWOS_COMPLEMENT;
    c.how = hows[r->rounding];
    c.drop = p.drop, c.linear = p.linear, c.add = p.add, c.odd_add = p.odd_add;
    c.sign = (uint16_t)sign_bit(f);
    c.code_mask = (uint8_t)(sign_bit(f) | magnitude_mask(f));
    c.flip = twos ? c.code_mask : (uint8_t)c.sign, c.minus = twos ? UINT8_MAX : 0;
    c.keep = f.sign == FF_UNSIGNED ? 0 : UINT8_MAX;
    set_limits_of_codes(&c, f, r, p);
    if (is_e8m0)
        c.kind = FF_BYTES_E8M0;
    return c;
}

/* encode_fast_e8m0, before signs. */
FF_INLINE __m256i e8m0_8(__m256i bits, __m256i *most, const struct codes_plan *p)
{
    const __m256i zero = _mm256_setzero_si256(), first = _mm256_set1_epi32(0x400000);
    const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(INT32_MAX));
    *most = _mm256_max_epu32(*most, _mm256_sub_epi32(magnitude, _mm256_set1_epi32(1)));
    const __m256i least = _mm256_max_epi32(magnitude, first);
    const __m256i above = _mm256_sub_epi32(least, _mm256_set1_epi32(0x800000));
    const __m256i wide = _mm256_add_epi32(least, _mm256_min_epi32(above, zero));
    const __m256i odd = _mm256_srai_epi32(_mm256_slli_epi32(wide, 8), 31);
    const __m256i more = _mm256_and_si256(odd, _mm256_set1_epi32((int32_t)p->odd_add));
    const __m256i add = _mm256_add_epi32(_mm256_set1_epi32((int32_t)p->add), more);
    return _mm256_srli_epi32(_mm256_add_epi32(wide, add), 23);
}

/* The value, or its magnitude, or what it is taken for. */
FF_INLINE __m256 clipped_8(__m256i bits, __m256i magnitude, const struct codes_plan *p, int how)
{
    const __m256i above = _mm256_set1_epi32((int32_t)p->beyond[0]);
    const __m256i below = _mm256_set1_epi32((int32_t)(p->beyond[1] | UINT32_C(0x80000000)));
    if (how != FF_BY_SIGN)
        return _mm256_castsi256_ps(_mm256_min_epi32(magnitude, above));
    return _mm256_min_ps(_mm256_max_ps(_mm256_castsi256_ps(bits), _mm256_castsi256_ps(below)),
                         _mm256_castsi256_ps(above));
}

/* encode_near, before signs. Bytes' magnitudes are too large by what the first binade's field, cut
 * off like the others, is. A plan32's linear is 2^-104 or more: half a place is a normal float. */
FF_INLINE __m256i magnitudes_8(__m256i bits, __m256i *most, const struct codes_plan *p, int how,
                               int kind)
{
    if (kind == FF_BYTES_E8M0)
        return e8m0_8(bits, most, p);
    const __m256i sign = _mm256_set1_epi32(INT32_MIN), field = _mm256_set1_epi32(0x7f800000);
    const __m256i linear = _mm256_set1_epi32((int32_t)p->linear);
    const __m256i magnitude = _mm256_andnot_si256(sign, bits);
    *most = _mm256_max_epi32(*most, magnitude);
    __m256 x = clipped_8(bits, magnitude, p, how);
    const __m256i exponent = _mm256_and_si256(_mm256_castps_si256(x), field);
    const __m256i binade = kind == FF_BYTES_FIXED ? linear : _mm256_max_epi32(exponent, linear);
    const __m256i magic = _mm256_add_epi32(binade, _mm256_set1_epi32(p->drop << 23));
    const __m256i half = _mm256_sub_epi32(magic, _mm256_set1_epi32(24 << 23));
    __m256 big = _mm256_castsi256_ps(magic);
    if (how == FF_BY_SIGN)
        big = _mm256_or_ps(big, _mm256_and_ps(x, _mm256_castsi256_ps(sign)));
    if (how == FF_TIES_AWAY)
        x = _mm256_add_ps(x, _mm256_castsi256_ps(half));
    const __m256 sum = _mm256_add_ps(x, big);
    __m256i kept = _mm256_sub_epi32(_mm256_castps_si256(sum), _mm256_castps_si256(big));
    if (how == FF_STICKY) {
        const __m256 is_lost = _mm256_cmp_ps(_mm256_sub_ps(sum, big), x, _CMP_NEQ_OQ);
        kept = _mm256_or_si256(kept, _mm256_srli_epi32(_mm256_castps_si256(is_lost), 31));
    }
    if (kind == FF_BYTES_FIXED)
        return kept;
    const __m256i above = kind == FF_WORDS_CAPPED ? _mm256_sub_epi32(binade, linear) : binade;
    return _mm256_add_epi32(kept, _mm256_srl_epi32(above, _mm_cvtsi32_si128(p->drop)));
}

/* Of 32 magnitudes, 255 of which is beyond the largest. */
FF_INLINE __m256i with_signs_e8m0(__m256i magnitudes, __m256i signs, const struct codes_plan *p)
{
    return _mm256_blendv_epi8(
        _mm256_min_epu8(magnitudes, _mm256_set1_epi8((int8_t)p->overflow[0])),
        _mm256_set1_epi8((int8_t)p->overflow[1]), signs);
}

/* Of 32 magnitudes in a shuffled order, and what has their signs. */
FF_INLINE __m256i with_signs_32(__m256i magnitudes, __m256i signs, const struct codes_plan *p,
                                int kind)
{
    if (kind == FF_BYTES_E8M0)
        return with_signs_e8m0(magnitudes, signs, p);
    const __m256i zero = _mm256_setzero_si256();
    if (kind == FF_BYTES_CAPPED || kind == FF_BYTES_FNUZ) {
        __m256i sign = _mm256_set1_epi8((int8_t)p->sign);
        if (kind == FF_BYTES_FNUZ) /* 128, which is NaN, needs none either */
            sign = _mm256_and_si256(sign, _mm256_cmpgt_epi8(magnitudes, zero));
        const __m256i codes = _mm256_and_si256(_mm256_or_si256(magnitudes, sign),
                                               _mm256_set1_epi8((int8_t)p->keep));
        return _mm256_blendv_epi8(magnitudes, codes, signs);
    }
    const __m256i negative = _mm256_cmpgt_epi8(zero, signs);
    const __m256i limit = _mm256_blendv_epi8(_mm256_set1_epi8((int8_t)p->limit[0]),
                                             _mm256_set1_epi8((int8_t)p->limit[1]), signs);
    const __m256i overflow = _mm256_blendv_epi8(_mm256_set1_epi8((int8_t)p->overflow[0]),
                                                _mm256_set1_epi8((int8_t)p->overflow[1]), signs);
    const __m256i is_within = _mm256_cmpeq_epi8(_mm256_subs_epu8(magnitudes, limit), zero);
    __m256i codes = _mm256_xor_si256(
        magnitudes, _mm256_and_si256(negative, _mm256_set1_epi8((int8_t)p->flip)));
    if (kind == FF_BYTES_FIXED) {
        const __m256i minus = _mm256_and_si256(negative, _mm256_set1_epi8((int8_t)p->minus));
        codes = _mm256_and_si256(_mm256_sub_epi8(codes, minus),
                                 _mm256_set1_epi8((int8_t)p->code_mask));
    }
    return _mm256_blendv_epi8(overflow, codes, is_within);
}

FF_INLINE uint32_t largest_of(__m256i most)
{
    uint32_t each[8], largest = 0;
    _mm256_storeu_si256((__m256i *)each, most);
    for (int k = 0; k < 8; k++)
        largest = each[k] > largest ? each[k] : largest;
    return largest;
}

/* Packs keep the signs of values. `first` is what magnitudes are too large by: for 16 at once. n is a
 * multiple of 32. */
#define FF_ENCODE_BYTES(name, HOW, KIND)                                                           \
    FF_LOOP uint32_t name(const uint32_t *restrict values, void *restrict codes, size_t n,         \
                          const struct codes_plan *p)                                              \
    {                                                                                              \
        const struct codes_plan hoisted = *p;                                                      \
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);                           \
        const int has_binades = KIND != FF_BYTES_FIXED && KIND != FF_BYTES_E8M0;                   \
        const __m256i first =                                                                      \
            _mm256_set1_epi16(has_binades ? (int16_t)(hoisted.linear >> hoisted.drop) : 0);        \
        __m256i most = _mm256_setzero_si256();                                                     \
        for (size_t i = 0; i < n; i += 32) {                                                       \
            __m256i magnitudes[2], signs[2];                                                       \
            for (size_t k = 0; k < 2; k++) {                                                       \
                const __m256i *at = (const __m256i *)(values + i + 16 * k);                        \
                const __m256i a = _mm256_loadu_si256(at), b = _mm256_loadu_si256(at + 1);          \
                signs[k] = _mm256_packs_epi32(a, b);                                               \
                magnitudes[k] = _mm256_sub_epi16(                                                  \
                    _mm256_packus_epi32(magnitudes_8(a, &most, &hoisted, HOW, KIND),               \
                                        magnitudes_8(b, &most, &hoisted, HOW, KIND)),              \
                    first);                                                                        \
            }                                                                                      \
            const __m256i bytes = with_signs_32(                                                   \
                _mm256_packus_epi16(magnitudes[0], magnitudes[1]),                                 \
                _mm256_packs_epi16(signs[0], signs[1]), &hoisted, KIND);                           \
            _mm256_storeu_si256((__m256i *)((uint8_t *)codes + i),                                 \
                                _mm256_permutevar8x32_epi32(bytes, order));                        \
        }                                                                                          \
        return largest_of(most);                                                                   \
    }
FF_ENCODE_BYTES(bytes_as_it_is, FF_AS_IT_IS, FF_BYTES)
FF_ENCODE_BYTES(bytes_fixed_as_it_is, FF_AS_IT_IS, FF_BYTES_FIXED)
FF_ENCODE_BYTES(bytes_capped_as_it_is, FF_AS_IT_IS, FF_BYTES_CAPPED)
FF_ENCODE_BYTES(bytes_fnuz_as_it_is, FF_AS_IT_IS, FF_BYTES_FNUZ)
FF_ENCODE_BYTES(bytes_by_sign, FF_BY_SIGN, FF_BYTES)
FF_ENCODE_BYTES(bytes_fixed_by_sign, FF_BY_SIGN, FF_BYTES_FIXED)
FF_ENCODE_BYTES(bytes_capped_by_sign, FF_BY_SIGN, FF_BYTES_CAPPED)
FF_ENCODE_BYTES(bytes_fnuz_by_sign, FF_BY_SIGN, FF_BYTES_FNUZ)
FF_ENCODE_BYTES(bytes_ties_away, FF_TIES_AWAY, FF_BYTES)
FF_ENCODE_BYTES(bytes_fixed_ties_away, FF_TIES_AWAY, FF_BYTES_FIXED)
FF_ENCODE_BYTES(bytes_capped_ties_away, FF_TIES_AWAY, FF_BYTES_CAPPED)
FF_ENCODE_BYTES(bytes_fnuz_ties_away, FF_TIES_AWAY, FF_BYTES_FNUZ)
FF_ENCODE_BYTES(bytes_sticky, FF_STICKY, FF_BYTES)
FF_ENCODE_BYTES(bytes_fixed_sticky, FF_STICKY, FF_BYTES_FIXED)
FF_ENCODE_BYTES(bytes_capped_sticky, FF_STICKY, FF_BYTES_CAPPED)
FF_ENCODE_BYTES(bytes_fnuz_sticky, FF_STICKY, FF_BYTES_FNUZ)
FF_ENCODE_BYTES(bytes_e8m0, FF_AS_IT_IS, FF_BYTES_E8M0)

#define FF_ENCODE_WORDS(name, HOW)                                                                 \
    FF_LOOP uint32_t name(const uint32_t *restrict values, void *restrict codes, size_t n,         \
                          const struct codes_plan *p)                                              \
    {                                                                                              \
        const struct codes_plan hoisted = *p;                                                      \
        const __m256i sign = _mm256_set1_epi16((int16_t)hoisted.sign);                             \
        __m256i most = _mm256_setzero_si256();                                                     \
        for (size_t i = 0; i < n; i += 16) {                                                       \
            const __m256i *at = (const __m256i *)(values + i);                                     \
            const __m256i a = _mm256_loadu_si256(at), b = _mm256_loadu_si256(at + 1);              \
            const __m256i magnitudes =                                                             \
                _mm256_packus_epi32(magnitudes_8(a, &most, &hoisted, HOW, FF_WORDS_CAPPED),        \
                                    magnitudes_8(b, &most, &hoisted, HOW, FF_WORDS_CAPPED));       \
            const __m256i negative = _mm256_srai_epi16(_mm256_packs_epi32(a, b), 15);              \
            const __m256i words = _mm256_or_si256(magnitudes, _mm256_and_si256(negative, sign));   \
            _mm256_storeu_si256((__m256i *)((uint16_t *)codes + i),                                \
                                _mm256_permute4x64_epi64(words, _MM_SHUFFLE(3, 1, 2, 0)));         \
        }                                                                                          \
        return largest_of(most);                                                                   \
    }
FF_ENCODE_WORDS(words_as_it_is, FF_AS_IT_IS)
FF_ENCODE_WORDS(words_by_sign, FF_BY_SIGN)
FF_ENCODE_WORDS(words_ties_away, FF_TIES_AWAY)
FF_ENCODE_WORDS(words_sticky, FF_STICKY)

/* Writes codes of finite values, and returns the largest magnitude, of all; E8M0 takes 0 for none
 * either. The CPU has been turned to the mode's direction. */
static uint32_t encode_codes(const uint32_t *values, void *codes, size_t n,
                             const struct codes_plan *p)
{
    static uint32_t (*const loops[4][FF_KINDS])(const uint32_t *, void *, size_t,
                                         const struct codes_plan *) = {
        {bytes_as_it_is, bytes_fixed_as_it_is, bytes_capped_as_it_is, bytes_fnuz_as_it_is,
         words_as_it_is},
        {bytes_by_sign, bytes_fixed_by_sign, bytes_capped_by_sign, bytes_fnuz_by_sign,
         words_by_sign},
        {bytes_ties_away, bytes_fixed_ties_away, bytes_capped_ties_away, bytes_fnuz_ties_away,
         words_ties_away},
        {bytes_sticky, bytes_fixed_sticky, bytes_capped_sticky, bytes_fnuz_sticky,
         words_sticky},
    };
    if (p->kind != FF_BYTES_E8M0)
        return loops[p->how][p->kind](values, codes, n, p);
    const uint32_t before = bytes_e8m0(values, codes, n, p);
    return before < 0x7f7fffff ? before : 0x7f800000;
}

/* Rounds binary64 to odd in binary32: toward zero, and the last bit says what was lost. Returns
 * the largest magnitude before that. n is a multiple of 8. */
FF_LOOP uint32_t narrow_to_odd_256(const uint64_t *restrict values, uint32_t *restrict narrow,
                                   size_t n)
{
    __m256i most = _mm256_setzero_si256();
    for (size_t i = 0; i < n; i += 8) {
        const __m256d a = _mm256_loadu_pd((const double *)(values + i));
        const __m256d b = _mm256_loadu_pd((const double *)(values + i + 4));
        const __m128 near_a = _mm256_cvtpd_ps(a), near_b = _mm256_cvtpd_ps(b);
        const __m256d lost_a = _mm256_cmp_pd(_mm256_cvtps_pd(near_a), a, _CMP_NEQ_OQ);
        const __m256d lost_b = _mm256_cmp_pd(_mm256_cvtps_pd(near_b), b, _CMP_NEQ_OQ);
        const __m256i lost = _mm256_castps_si256(_mm256_shuffle_ps(
            _mm256_castpd_ps(lost_a), _mm256_castpd_ps(lost_b), _MM_SHUFFLE(2, 0, 2, 0)));
        const __m256i odd =
            _mm256_srli_epi32(_mm256_permute4x64_epi64(lost, _MM_SHUFFLE(3, 1, 2, 0)), 31);
        const __m256i near = _mm256_castps_si256(_mm256_set_m128(near_b, near_a));
        most = _mm256_max_epi32(most, _mm256_and_si256(near, _mm256_set1_epi32(INT32_MAX)));
        _mm256_storeu_si256((__m256i *)(narrow + i), _mm256_or_si256(near, odd));
    }
    return largest_of(most);
}

/* Eight values as floats. */
FF_INLINE __m256 eight_f32(const int32_t *x) { return _mm256_loadu_ps((const float *)x); }
FF_INLINE __m256 eight_f16(const int16_t *x)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)x));
}
FF_INLINE __m256 eight_bf16(const int16_t *x)
{
    const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)x));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

/* rint(x * reciprocal) + zero. Returns FF_CLAMPED if some of them lie outside qmin to qmax, as those of
 * NaN and Inf do, or FF_IN_DOUBT if a multiple lies farther from an integer than `guard`, the pattern of
 * a float, and then codes mean nothing; else 0. n is a multiple of 32. */
#define FF_DEFINE_WITHIN_BYTES(T, I)                                                               \
    FF_INLINE __m256i rounded_8_##T(const I *x, __m256 reciprocal, __m256i *away)                  \
    {                                                                                              \
        const __m256 t = _mm256_mul_ps(eight_##T(x), reciprocal);                                  \
        const __m256i whole = _mm256_cvtps_epi32(t);                                               \
        const __m256i off = _mm256_castps_si256(_mm256_sub_ps(t, _mm256_cvtepi32_ps(whole)));      \
        *away = _mm256_max_epi32(*away, _mm256_and_si256(off, _mm256_set1_epi32(INT32_MAX)));      \
        return whole;                                                                              \
    }                                                                                              \
    FF_LOOP int within_bytes_##T(const I *restrict x, uint8_t *restrict codes, size_t n,           \
                                 float reciprocal, int zero, int32_t guard, int qmin, int qmax)    \
    {                                                                                              \
        const __m256 factor = _mm256_set1_ps(reciprocal);                                          \
        const __m256i shift = _mm256_set1_epi16((int16_t)zero), low_byte = _mm256_set1_epi16(255); \
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);                           \
        __m256i away = _mm256_setzero_si256(), least = _mm256_set1_epi16(INT16_MAX);               \
        __m256i most = _mm256_set1_epi16(INT16_MIN);                                               \
        for (size_t i = 0; i < n; i += 32) {                                                       \
            __m256i q[2];                                                                          \
            for (size_t k = 0; k < 2; k++) {                                                       \
                const I *const at = x + i + 16 * k;                                                \
                q[k] = _mm256_adds_epi16(_mm256_packs_epi32(rounded_8_##T(at, factor, &away),      \
                                                            rounded_8_##T(at + 8, factor, &away)), \
                                         shift);                                                   \
                least = _mm256_min_epi16(least, q[k]);                                             \
                most = _mm256_max_epi16(most, q[k]);                                               \
                q[k] = _mm256_and_si256(q[k], low_byte);                                           \
            }                                                                                      \
            const __m256i bytes = _mm256_packus_epi16(q[0], q[1]);                                 \
            _mm256_storeu_si256((__m256i *)(codes + i), _mm256_permutevar8x32_epi32(bytes, order));\
        }                                                                                          \
        const __m256i below = _mm256_cmpgt_epi16(_mm256_set1_epi16((int16_t)qmin), least);         \
        const __m256i above = _mm256_cmpgt_epi16(most, _mm256_set1_epi16((int16_t)qmax));          \
        const __m256i doubt = _mm256_cmpgt_epi32(away, _mm256_set1_epi32(guard));                  \
        if (_mm256_movemask_epi8(_mm256_or_si256(below, above)) != 0)                              \
            return FF_CLAMPED;                                                                     \
        return _mm256_movemask_epi8(doubt) != 0 ? FF_IN_DOUBT : 0;                                 \
    }
FF_DEFINE_WITHIN_BYTES(f32, int32_t)
FF_DEFINE_WITHIN_BYTES(f16, int16_t)
FF_DEFINE_WITHIN_BYTES(bf16, int16_t)
#define FF_HAS_BYTES
