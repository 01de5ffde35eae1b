/* From values to codes of a byte in one loop, without a buffer between. Includers have AVX2. */

/* encode_near of capped formats. What is packed keeps its sign. n is a multiple of 32. */
FF_INLINE __m256i near_8(__m256i bits, __m256i *most, __m256i beyond, __m256i linear,
                         __m256i dropped, __m128i drop)
{
    const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(INT32_MAX));
    *most = _mm256_max_epi32(*most, magnitude);
    const __m256i within = _mm256_min_epi32(magnitude, beyond);
    const __m256i exponent = _mm256_and_si256(within, _mm256_set1_epi32(0x7f800000));
    const __m256i binade = _mm256_max_epi32(exponent, linear);
    const __m256i magic = _mm256_add_epi32(binade, dropped);
    const __m256i sum = _mm256_castps_si256(
        _mm256_add_ps(_mm256_castsi256_ps(within), _mm256_castsi256_ps(magic)));
    return _mm256_add_epi32(_mm256_sub_epi32(sum, magic), _mm256_srl_epi32(binade, drop));
}

FF_LOOP uint32_t near_bytes(const uint32_t *restrict values, uint8_t *restrict codes, size_t n,
                            const struct plan32 *p)
{
    const __m256i beyond = _mm256_set1_epi32((int32_t)p->beyond);
    const __m256i linear = _mm256_set1_epi32((int32_t)p->linear);
    const __m256i dropped = _mm256_set1_epi32(p->drop << 23);
    const __m256i first = _mm256_set1_epi16((int16_t)(p->linear >> p->drop));
    const __m256i sign = _mm256_set1_epi8((int8_t)p->sign);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7), zero = _mm256_setzero_si256();
    const __m128i drop = _mm_cvtsi32_si128(p->drop);
    __m256i most = zero;
    for (size_t i = 0; i < n; i += 32) {
        const __m256i *at = (const __m256i *)(values + i);
        const __m256i a = _mm256_loadu_si256(at), b = _mm256_loadu_si256(at + 1);
        const __m256i c = _mm256_loadu_si256(at + 2), d = _mm256_loadu_si256(at + 3);
        const __m256i ab = _mm256_packs_epi32(near_8(a, &most, beyond, linear, dropped, drop),
                                              near_8(b, &most, beyond, linear, dropped, drop));
        const __m256i cd = _mm256_packs_epi32(near_8(c, &most, beyond, linear, dropped, drop),
                                              near_8(d, &most, beyond, linear, dropped, drop));
        const __m256i magnitudes =
            _mm256_packus_epi16(_mm256_sub_epi16(ab, first), _mm256_sub_epi16(cd, first));
        const __m256i signs =
            _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        const __m256i negative = _mm256_and_si256(_mm256_cmpgt_epi8(zero, signs), sign);
        const __m256i bytes = _mm256_or_si256(magnitudes, negative);
        _mm256_storeu_si256((__m256i *)(codes + i), _mm256_permutevar8x32_epi32(bytes, order));
    }
    uint32_t each[8], largest = 0;
    _mm256_storeu_si256((__m256i *)each, most);
    for (int k = 0; k < 8; k++)
        largest = each[k] > largest ? each[k] : largest;
    return largest;
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
