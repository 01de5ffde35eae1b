/* A panel times four rows of weights by VPMADDWD: 16 products an instruction, eight registers of
 * sums. Includers have AVX2. */
#define FF_MADD(sum, x, w) sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, w))

FF_INLINE __m256i pair_of_codes(const int16_t *w)
{
    int32_t pair;
    memcpy(&pair, w, sizeof pair);
    return _mm256_set1_epi32(pair);
}

/* Not inlined: with the callers' variables about, GCC 12 keeps sums in memory, half as fast. */
__attribute__((noinline)) static void
multiply_tile_256(const int16_t *restrict x, const int16_t *restrict w, size_t stride, size_t pairs,
                  int32_t sums[4][16])
{
    __m256i a0 = _mm256_setzero_si256(), a1 = a0, b0 = a0, b1 = a0;
    __m256i c0 = a0, c1 = a0, d0 = a0, d1 = a0;
    for (size_t i = 0; i < pairs; i++, x += 32, w += 2) {
        const __m256i x0 = _mm256_loadu_si256((const __m256i *)x);
        const __m256i x1 = _mm256_loadu_si256((const __m256i *)(x + 16));
        const __m256i wa = pair_of_codes(w), wb = pair_of_codes(w + stride);
        const __m256i wc = pair_of_codes(w + 2 * stride), wd = pair_of_codes(w + 3 * stride);
        FF_MADD(a0, x0, wa);
        FF_MADD(a1, x1, wa);
        FF_MADD(b0, x0, wb);
        FF_MADD(b1, x1, wb);
        FF_MADD(c0, x0, wc);
        FF_MADD(c1, x1, wc);
        FF_MADD(d0, x0, wd);
        FF_MADD(d1, x1, wd);
    }
    __m256i *to = (__m256i *)sums;
    _mm256_storeu_si256(to, a0);
    _mm256_storeu_si256(to + 1, a1);
    _mm256_storeu_si256(to + 2, b0);
    _mm256_storeu_si256(to + 3, b1);
    _mm256_storeu_si256(to + 4, c0);
    _mm256_storeu_si256(to + 5, c1);
    _mm256_storeu_si256(to + 6, d0);
    _mm256_storeu_si256(to + 7, d1);
}
#define FF_MULTIPLY_TILE multiply_tile_256
