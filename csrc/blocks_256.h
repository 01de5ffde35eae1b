/* Blocks whose scales are powers of two, which divide their values without an error: the largest
 * magnitude, the scale and the codes, 32 values at a time, while they are in registers. Includers have
 * AVX2 and slots_256.h. */

/* What a block needs to know of elements that have a sign and a magnitude and saturate.
 *
 *   carry   what is added to the largest magnitude before its exponent is taken
 *   top     that exponent, if the scale is 1
 *   within  pattern of the largest magnitude that does not count as clamped
 */
struct blocks_plan {
    struct codes_plan codes;
    int32_t carry, top, within;
    int is_there;
};

/* The exponents of scales are then at most 126, and those of values below 2^-126 at their least
 * whatever carries: so the reciprocal is a normal float. */
enum { FF_LEAST_TOP = 127 + 2 };

static struct blocks_plan blocks_plan_of(struct ff_format f, const struct ff_rules *r,
                                         const struct scaling_plan *s, double low, double high)
{
    struct blocks_plan b = {.is_there = 0};
    struct plan32 p;
    if (!s->is_power || low != -high || !plan_for32(&p, f, r) || !p.is_near)
        return b;
    b.codes = codes_plan_of(f, r, p);
    b.carry = (int32_t)(s->carry >> 29); /* of binary32's fraction bits, which the others are below */
    b.top = (int32_t)s->top - 1023 + 127;
    b.within = (int32_t)bits_of_float((float)high);
    b.is_there = b.codes.is_there && b.codes.kind == FF_BYTES_CAPPED && b.top >= FF_LEAST_TOP;
    return b;
}

/* Element k is the greatest of x[k]. */
FF_INLINE __m256i greatest_of_each(const __m256i x[8])
{
    __m256i twos[4], fours[2];
    for (size_t k = 0; k < 4; k++)
        twos[k] = _mm256_max_epi32(_mm256_unpacklo_epi32(x[2 * k], x[2 * k + 1]),
                                   _mm256_unpackhi_epi32(x[2 * k], x[2 * k + 1]));
    for (size_t k = 0; k < 2; k++)
        fours[k] = _mm256_max_epi32(_mm256_unpacklo_epi64(twos[2 * k], twos[2 * k + 1]),
                                    _mm256_unpackhi_epi64(twos[2 * k], twos[2 * k + 1]));
    return _mm256_max_epi32(_mm256_permute2x128_si256(fours[0], fours[1], 0x20),
                            _mm256_permute2x128_si256(fours[0], fours[1], 0x31));
}

/* The exponents of eight scales, from the blocks' largest magnitudes. */
FF_INLINE __m256i scale_exponents(__m256i most, const struct blocks_plan *b)
{
    const __m256i carried = _mm256_add_epi32(most, _mm256_set1_epi32(b->carry));
    const __m256i exponent =
        _mm256_sub_epi32(_mm256_srli_epi32(carried, 23), _mm256_set1_epi32(b->top));
    return _mm256_max_epi32(exponent, _mm256_set1_epi32(-127));
}

/* Writes eight scales: 1 where all values are 0. */
FF_INLINE void store_scales(__m256i exponent, __m256i most, double *scale)
{
    const __m256i is_zero = _mm256_cmpeq_epi32(most, _mm256_setzero_si256());
    const __m256i field = _mm256_add_epi32(_mm256_andnot_si256(is_zero, exponent),
                                           _mm256_set1_epi32(1023));
    const __m256i low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(field));
    const __m256i high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256(field, 1));
    _mm256_storeu_si256((__m256i *)scale, _mm256_slli_epi64(low, 52));
    _mm256_storeu_si256((__m256i *)(scale + 4), _mm256_slli_epi64(high, 52));
}

/* Magnitudes of 16 quotients as words, each half of a register by itself, too large by the first
 * binade's. Counts in *outside which are clamped. */
FF_INLINE __m256i words_of_quotients(__m256i a, __m256i c, const struct blocks_plan *b,
                                     __m256i *outside)
{
    const __m256i sign = _mm256_set1_epi32(INT32_MIN), within = _mm256_set1_epi32(b->within);
    __m256i unused = _mm256_setzero_si256();
    const __m256i is_outside =
        _mm256_add_epi32(_mm256_cmpgt_epi32(_mm256_andnot_si256(sign, a), within),
                         _mm256_cmpgt_epi32(_mm256_andnot_si256(sign, c), within));
    *outside = _mm256_sub_epi32(*outside, is_outside);
    return _mm256_packus_epi32(magnitudes_256(a, &unused, &b->codes, FF_AS_IT_IS, FF_BYTES_CAPPED),
                               magnitudes_256(c, &unused, &b->codes, FF_AS_IT_IS, FF_BYTES_CAPPED));
}

/* Stores those bytes in the values' order, or their low halves. */
FF_INLINE void store_bytes_32(__m256i bytes, int packs, uint8_t *codes)
{
    if (!packs) {
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        _mm256_storeu_si256((__m256i *)codes, _mm256_permutevar8x32_epi32(bytes, order));
        return;
    }
    const __m256i pairs = _mm256_maddubs_epi16(bytes, _mm256_set1_epi16(1 << 12 | 1));
    const __m256i packed = _mm256_packus_epi16(pairs, pairs);
    _mm_storeu_si128((__m128i *)codes, _mm_unpacklo_epi16(_mm256_castsi256_si128(packed),
                                                          _mm256_extracti128_si256(packed, 1)));
}

FF_INLINE int64_t sum_of(__m256i x)
{
    int32_t each[8];
    int64_t sum = 0;
    _mm256_storeu_si256((__m256i *)each, x);
    for (int k = 0; k < 8; k++)
        sum += each[k];
    return sum;
}

/* Quotients that would be subnormal become 0, as the rounding makes of them: some CPUs take long for
 * them. Values that are stay what they are. Returns what is to be set again. */
FF_INLINE unsigned flush_to_zero(void)
{
    const unsigned before = _mm_getcsr();
    _mm_setcsr(before | _MM_FLUSH_ZERO_ON);
    return before;
}

/* Eight blocks at a time, so that none waits for its scale; all of them are read twice, so caches hold
 * them. */
enum { FF_BLOCKS = 8, FF_LARGEST_BLOCK = 4096 };
#define FF_DEFINE_BLOCKS(T, I)                                                                     \
    FF_INLINE __m256i most_of_block_##T(const I *restrict x, size_t n)                             \
    {                                                                                              \
        const __m256i sign = _mm256_set1_epi32(INT32_MIN);                                         \
        __m256i most = _mm256_setzero_si256();                                                     \
        if (n <= 256) /* two groups of usual blocks before they are needed, or more */             \
            prefetch_ahead(x, 8192, n * sizeof(I));                                                \
        for (size_t i = 0; i < n; i += 8) {                                                        \
            const __m256i bits = _mm256_castps_si256(floats_##T##_256(x + i));                     \
            most = _mm256_max_epi32(most, _mm256_andnot_si256(sign, bits));                        \
        }                                                                                          \
        return most;                                                                               \
    }                                                                                              \
    FF_INLINE __m256i code_block_##T(const I *restrict x, size_t n, float factor,                  \
                                     const struct blocks_plan *b, int packs, __m256i outside,      \
                                     uint8_t *restrict codes)                                      \
    {                                                                                              \
        const __m256 factors = _mm256_set1_ps(factor);                                             \
        const __m256i first = _mm256_set1_epi16((int16_t)(b->codes.linear >> b->codes.drop));      \
        for (size_t i = 0; i < n; i += 32) {                                                       \
            __m256i words[2], signs[2];                                                            \
            for (size_t k = 0; k < 2; k++) {                                                       \
                const I *const at = x + i + 16 * k;                                                \
                const __m256i a = _mm256_castps_si256(_mm256_mul_ps(floats_##T##_256(at), factors));      \
                const __m256i c = _mm256_castps_si256(_mm256_mul_ps(floats_##T##_256(at + 8), factors));  \
                signs[k] = _mm256_packs_epi32(a, c);                                               \
                words[k] = _mm256_sub_epi16(words_of_quotients(a, c, b, &outside), first);         \
            }                                                                                      \
            const __m256i bytes = with_signs_256(                                                  \
                _mm256_packus_epi16(words[0], words[1]), _mm256_packs_epi16(signs[0], signs[1]),   \
                &b->codes, FF_BYTES_CAPPED);                                                       \
            store_bytes_32(bytes, packs, codes + (packs ? i / 2 : i));                             \
        }                                                                                          \
        return outside;                                                                            \
    }                                                                                              \
    /* Returns the largest magnitudes. */                                                          \
    FF_INLINE __m256i code_group_##T(const struct blocks_plan *b, const I *restrict x,             \
                                     size_t some, size_t inner, int packs, double *restrict scale, \
                                     uint8_t *restrict codes, int64_t *clamped)                    \
    {                                                                                              \
        float factor[FF_BLOCKS];                                                                   \
        double scales[FF_BLOCKS];                                                                  \
        __m256i each[FF_BLOCKS], outside = _mm256_setzero_si256();                                 \
        for (size_t k = 0; k < FF_BLOCKS; k++)                                                     \
            each[k] = k < some ? most_of_block_##T(x + k * inner, inner) : outside;                \
        const __m256i most = greatest_of_each(each);                                               \
        const __m256i exponent = scale_exponents(most, b);                                         \
        store_scales(exponent, most, scales);                                                      \
        for (size_t k = 0; k < some; k++)                                                          \
            scale[k] = scales[k];                                                                  \
        const __m256i fields = _mm256_sub_epi32(_mm256_set1_epi32(127), exponent);                 \
        _mm256_storeu_si256((__m256i *)factor, _mm256_slli_epi32(fields, 23));                     \
        for (size_t k = 0; k < some; k++)                                                          \
            outside = code_block_##T(x + k * inner, inner, factor[k], b, packs, outside,           \
                                     codes + (packs ? k * inner / 2 : k * inner));                 \
        *clamped += sum_of(outside);                                                               \
        return most;                                                                               \
    }                                                                                              \
    /* Returns as quantize_intervals_absmax, or FF_OTHER_WAY, with nothing done. */                \
    FF_LOOP int64_t power_blocks_##T(struct ff_format f, const struct ff_rules *r,                 \
                                     const struct scaling_plan *s, double low, double high,        \
                                     const I *restrict x, size_t channels, size_t inner,           \
                                     int packs, double *restrict scale, uint8_t *restrict codes)   \
    {                                                                                              \
        const struct blocks_plan b = blocks_plan_of(f, r, s, low, high);                           \
        __m256i greatest = _mm256_setzero_si256();                                                 \
        int64_t clamped = 0;                                                                       \
        if (!b.is_there || inner % 32 != 0 || inner > FF_LARGEST_BLOCK)                            \
            return FF_OTHER_WAY;                                                                   \
        const unsigned before = flush_to_zero();                                                   \
        for (size_t c = 0; c < channels; c += FF_BLOCKS) {                                         \
            const I *const from = x + c * inner;                                                   \
            uint8_t *const to = codes + (packs ? c * inner / 2 : c * inner);                       \
            const size_t some = channels - c < FF_BLOCKS ? channels - c : FF_BLOCKS;               \
            __m256i most;                                                                          \
            if (some == FF_BLOCKS && inner == 32 && packs)                                         \
                most = code_group_##T(&b, from, FF_BLOCKS, 32, 1, scale + c, to, &clamped);        \
            else if (some == FF_BLOCKS && inner == 32)                                             \
                most = code_group_##T(&b, from, FF_BLOCKS, 32, 0, scale + c, to, &clamped);        \
            else                                                                                   \
                most = code_group_##T(&b, from, some, inner, packs, scale + c, to, &clamped);      \
            greatest = _mm256_max_epi32(greatest, most);                                           \
        }                                                                                          \
        _mm_setcsr(before);                                                                        \
        return largest_of_256(greatest) >= 0x7f800000 ? -1 : clamped;                              \
    }
FF_DEFINE_BLOCKS(f32, int32_t)
FF_DEFINE_BLOCKS(f16, int16_t)
FF_DEFINE_BLOCKS(bf16, int16_t)
