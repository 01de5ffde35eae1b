/* Philox4x32-10 of eight counters at once, in 64-bit lanes. Includers have AVX2.
 *
 * VPMULUDQ multiplies the lower halves of lanes and does not look at the upper ones, so that words
 * need not be taken out of products: upper halves mean nothing until the end. Compilers multiply
 * 64 by 64 bits instead, three times the work. */
struct counters_4 {
    __m256i c[4];
};

FF_INLINE struct counters_4 philox_round(struct counters_4 x, __m256i key0, __m256i key1)
{
    const __m256i p0 = _mm256_mul_epu32(x.c[0], _mm256_set1_epi64x(0xD2511F53));
    const __m256i p1 = _mm256_mul_epu32(x.c[2], _mm256_set1_epi64x(0xCD9E8D57));
    const __m256i high0 = _mm256_srli_epi64(p0, 32), high1 = _mm256_srli_epi64(p1, 32);
    return (struct counters_4){{_mm256_xor_si256(_mm256_xor_si256(high1, x.c[1]), key0), p1,
                                _mm256_xor_si256(_mm256_xor_si256(high0, x.c[3]), key1), p0}};
}

FF_INLINE struct counters_4 counters_from(uint64_t first)
{
    const __m256i zero = _mm256_setzero_si256();
    const __m256i counter = _mm256_add_epi64(_mm256_set1_epi64x((int64_t)first),
                                             _mm256_setr_epi64x(0, 1, 2, 3));
    return (struct counters_4){{counter, _mm256_srli_epi64(counter, 32), zero, zero}};
}

FF_INLINE void store_counters(struct counters_4 x, uint32_t *words)
{
    const __m256i c01 = _mm256_blend_epi32(x.c[0], _mm256_slli_epi64(x.c[1], 32), 0xaa);
    const __m256i c23 = _mm256_blend_epi32(x.c[2], _mm256_slli_epi64(x.c[3], 32), 0xaa);
    const __m256i even = _mm256_unpacklo_epi64(c01, c23), odd = _mm256_unpackhi_epi64(c01, c23);
    _mm256_storeu_si256((__m256i *)words, _mm256_permute2x128_si256(even, odd, 0x20));
    _mm256_storeu_si256((__m256i *)(words + 8), _mm256_permute2x128_si256(even, odd, 0x31));
}

/* Writes the words of counters from `first` on, and returns of how many. */
FF_LOOP size_t random_blocks_256(uint64_t seed, uint64_t first, size_t blocks,
                                 uint32_t *restrict words)
{
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    __m256i keys[10][2];
    for (int round = 0; round < 10; round++, key0 += 0x9E3779B9u, key1 += 0xBB67AE85u) {
        keys[round][0] = _mm256_set1_epi64x(key0);
        keys[round][1] = _mm256_set1_epi64x(key1);
    }
    size_t b = 0;
    for (; b + 8 <= blocks; b += 8) {
        struct counters_4 x = counters_from(first + b), y = counters_from(first + b + 4);
        for (int round = 0; round < 10; round++) {
            x = philox_round(x, keys[round][0], keys[round][1]);
            y = philox_round(y, keys[round][0], keys[round][1]);
        }
        store_counters(x, words + 4 * b);
        store_counters(y, words + 4 * b + 16);
    }
    return b;
}
#define FF_RANDOM_BLOCKS random_blocks_256
