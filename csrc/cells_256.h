/* Counting few thresholds by 16-bit integers, 16 values a register. Includers have AVX2.
 *
 * u = rint(x * unit / scale) lies in one of 16 cells 2^12 wide, in which there are two thresholds at
 * most: VPSHUFB finds them, and how many lie below. Float32 leaves u within 1/2 + 2^-8 of where x is,
 * and a threshold within 0.45 of the integer nearest to it. So u and that integer are in the order of
 * x and the threshold if they are not equal; where they are, the caller asks x itself. */
enum { FF_CELLS = 16, FF_CELL_BITS = 12 };

struct cells {
    double unit; /* 0: thresholds do not lie so */
    _Alignas(16) int8_t before[FF_CELLS];
    _Alignas(16) uint8_t low[2][FF_CELLS], high[2][FF_CELLS]; /* bytes of both thresholds */
};

static void place_in_cells(const struct ff_intervals *v, double unit, struct cells *c)
{
    int16_t threshold[2][FF_CELLS];
    int8_t held[FF_CELLS] = {0}, below = 0;
    for (int k = 0; k < v->n; k++) {
        const double exact = v->threshold[k] * unit, whole = round_half_even(exact);
        const double off = exact - whole;
        if (!(whole >= -INT16_MAX && whole < INT16_MAX && off > -0.45 && off < 0.45))
            return;
        const int cell = (int)whole >> FF_CELL_BITS & (FF_CELLS - 1);
        if (held[cell] == 2)
            return;
        threshold[held[cell]++][cell] = (int16_t)whole;
    }
    for (int place = 0; place < FF_CELLS; place++) { /* from the least cell up */
        const int cell = place ^ FF_CELLS / 2, is_last = place == FF_CELLS - 1;
        c->before[cell] = below;
        for (int k = 0; k < 2; k++) { /* one that is not there is above all in the cell, or below */
            const int is_missing = k >= held[cell];
            const int16_t t = !is_missing ? threshold[k][cell] : is_last ? INT16_MIN : INT16_MAX;
            c->before[cell] = (int8_t)(c->before[cell] - (is_missing && is_last));
            c->low[k][cell] = (uint8_t)(t & 255);
            c->high[k][cell] = (uint8_t)(t >> 8 & 255);
        }
        if (c->before[cell] < 0)
            return;
        below = (int8_t)(below + held[cell]);
    }
    c->unit = unit;
}

static struct cells cells_of(const struct ff_intervals *v)
{
    struct cells c = {.unit = 0};
    const double least = v->threshold[0], greatest = v->threshold[v->n - 1];
    const double most = greatest > -least ? greatest : -least;
    const double largest = v->high > -v->low ? v->high : -v->low;
    if (v->n > FF_FEW || !(most > 0x1p-60 && largest < most * 0x1p10 && most < 0x1p60))
        return c;
    for (int try = 0; try < 64 && c.unit == 0; try++) /* units at which no threshold is near a tie */
        place_in_cells(v, (INT16_MAX - 1) / most * (1 - try * 0x1p-8), &c);
    return c;
}

FF_INLINE __m256i cell_table(const void *bytes)
{
    return _mm256_broadcastsi128_si256(_mm_load_si128(bytes));
}

/* Indices with the upper bit set give 0: a table of low bytes and one of high ones. */
FF_INLINE __m256i count_16(const struct cells *c, __m256i u, __m256i *doubt)
{
    const __m256i even = _mm256_or_si256(_mm256_srli_epi16(u, FF_CELL_BITS),
                                         _mm256_set1_epi16(INT16_MIN));
    const __m256i odd = _mm256_or_si256(_mm256_slli_epi16(even, 8), _mm256_set1_epi16(128));
    __m256i count = _mm256_shuffle_epi8(cell_table(c->before), even);
    for (int k = 0; k < 2; k++) {
        const __m256i threshold =
            _mm256_or_si256(_mm256_shuffle_epi8(cell_table(c->low[k]), even),
                            _mm256_shuffle_epi8(cell_table(c->high[k]), odd));
        count = _mm256_sub_epi16(count, _mm256_cmpgt_epi16(u, threshold));
        *doubt = _mm256_or_si256(*doubt, _mm256_cmpeq_epi16(u, threshold));
    }
    return count;
}

#define FF_DEFINE_CELLS(T, I)                                                                      \
    FF_INLINE __m256i integers_##T(const I *x, __m256 factor)                                      \
    {                                                                                              \
        return _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(floats_##T##_256(x), factor)),  \
                                  _mm256_cvtps_epi32(_mm256_mul_ps(floats_##T##_256(x + 8), factor)));    \
    }                                                                                              \
    /* Writes how many thresholds times scale each of n values exceeds. Returns whether that is so \
     * of them all. */                                                                             \
    FF_INLINE int count_in_cells_##T(const struct cells *c, const I *restrict x, size_t n,         \
                                     float factor, uint8_t *restrict counts)                       \
    {                                                                                              \
        const __m256 factors = _mm256_set1_ps(factor);                                             \
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);                           \
        __m256i doubt = _mm256_setzero_si256();                                                    \
        size_t i = 0;                                                                              \
        for (; i + 32 <= n; i += 32) {                                                             \
            const __m256i first = count_16(c, integers_##T(x + i, factors), &doubt);               \
            const __m256i second = count_16(c, integers_##T(x + i + 16, factors), &doubt);         \
            const __m256i bytes = _mm256_packs_epi16(first, second);                               \
            _mm256_storeu_si256((__m256i *)(counts + i),                                           \
                                _mm256_permutevar8x32_epi32(bytes, order));                        \
        }                                                                                          \
        if (i < n) {                                                                               \
            const __m256i last = count_16(c, integers_##T(x + i, factors), &doubt);                \
            const __m256i bytes = _mm256_packs_epi16(last, last);                                  \
            _mm_storeu_si128((__m128i *)(counts + i),                                              \
                             _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(bytes, order)));   \
        }                                                                                          \
        return _mm256_testz_si256(doubt, doubt);                                                   \
    }                                                                                              \
    /* The counts of channels, FF_CHUNK at most, and of each whether they are known. Returns whether\
     * all are, and bounded. */                                                                    \
    FF_LOOP int count_by_cells_##T(const struct cells *c, const I *restrict x, size_t channels,    \
                                   size_t inner, const double *restrict scale,                     \
                                   const uint8_t *restrict extent, uint8_t *restrict counts,       \
                                   uint8_t *restrict known)                                        \
    {                                                                                              \
        float factor[FF_CHUNK];                                                                    \
        int all = 1;                                                                               \
        if (c->unit == 0 || inner % 16 != 0) {                                                     \
            memset(known, 0, channels);                                                            \
            return 0;                                                                              \
        }                                                                                          \
        for (size_t k = 0; k < channels; k++) {                                                    \
            const double up = scale[k] < 0x1p-90 ? 0x1p-90 : scale[k];                             \
            const double near = up > 0x1p90 ? 0x1p90 : up;                                         \
            factor[k] = (float)(c->unit / near);                                                   \
            known[k] = (extent[k] != FF_FAR) & (near == scale[k]) & (factor[k] <= FLT_MAX);        \
        }                                                                                          \
        for (size_t k = 0; k < channels; k++) {                                                    \
            const I *const values = x + k * inner;                                                 \
            int sure;                                                                              \
            FF_SHORT(inner, sure = count_in_cells_##T(c, values, count, factor[k],                 \
                                                      counts + k * inner));                        \
            known[k] &= (uint8_t)sure;                                                             \
            all &= known[k] & (extent[k] == FF_BOUNDED);                                           \
        }                                                                                          \
        return all;                                                                                \
    }
FF_DEFINE_CELLS(f32, int32_t)
FF_DEFINE_CELLS(f16, int16_t)
FF_DEFINE_CELLS(bf16, int16_t)
