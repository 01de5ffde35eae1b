/* AVX2 and F16C: Haswell (2013), Excavator and later. */
#if defined(__x86_64__)
#include "kernels.h"
#include "region.h"
#include <immintrin.h>

FF_REGION_BEGIN("avx2,f16c")
#include "scalar.h"
#include "slots_256.h"
#define encode_codes encode_codes_256
#define FF_WITHIN_BYTES(T, n) within_bytes_##T##_256

/* VCVTPS2PH gives the bits of encode_any for FP16 by the default rules or another direction, NaNs
 * included (all 2^32 inputs: tests/exhaustive). benchmarks/ measures what the slot earns. */
FF_INLINE void encode_8_fp16(const float *values, uint16_t *codes)
{
    _mm_storeu_si128((__m128i *)codes,
                     _mm256_cvtps_ph(_mm256_loadu_ps(values), _MM_FROUND_CUR_DIRECTION));
}

static size_t encode_f32_fp16(const float *restrict values, uint16_t *restrict codes, size_t n)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (size_t k = i; k < i + 32; k += 8)
            encode_8_fp16(values + k, codes + k);
    for (; i + 8 <= n; i += 8)
        encode_8_fp16(values + i, codes + i);
    return i;
}
#define FF_ENCODE_F32_FP16 encode_f32_fp16

/* Of 16 places or floats in two registers: VPERMD knows eight, and the fourth bit chooses. */
FF_INLINE __m256i pick_8(__m256i low, __m256i high, __m256i at)
{
    const __m256 first = _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(low, at));
    const __m256 second = _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(high, at));
    const __m256i is_high = _mm256_slli_epi32(at, 28);
    return _mm256_castps_si256(_mm256_blendv_ps(first, second, _mm256_castsi256_ps(is_high)));
}

/* A search by halves among 15 places. Comparisons give -1, so all counts are negative: tables of four,
 * which VPERMILPS picks from by the last two bits of such a count, are in the order 0, 3, 2, 1. */
struct few_places {
    __m256i middle;
    __m256 lower, upper, third, low_fourth, high_fourth;
};

FF_INLINE __m256 four_twice(__m128 a, __m128 b, int is_even)
{
    const __m128 all = is_even ? _mm_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0))
                               : _mm_shuffle_ps(a, b, _MM_SHUFFLE(1, 1, 1, 1));
    return _mm256_set_m128(all, all);
}

FF_INLINE struct few_places few_places_of(const int32_t *places)
{
    const float *p = (const float *)(const void *)places;
    const __m128 a = _mm_loadu_ps(p), b = _mm_loadu_ps(p + 4);
    const __m128 c = _mm_loadu_ps(p + 8), d = _mm_loadu_ps(p + 12);
    const __m256 thirds = _mm256_shuffle_ps(four_twice(a, d, 0), four_twice(c, b, 0),
                                            _MM_SHUFFLE(2, 0, 2, 0));
    return (struct few_places){
        .middle = _mm256_set1_epi32(places[7]),
        .lower = _mm256_broadcast_ss(p + 3),
        .upper = _mm256_broadcast_ss(p + 11),
        .third = thirds,
        .low_fourth = _mm256_permute_ps(four_twice(a, b, 1), _MM_SHUFFLE(1, 2, 3, 0)),
        .high_fourth = _mm256_permute_ps(four_twice(c, d, 1), _MM_SHUFFLE(1, 2, 3, 0)),
    };
}

FF_INLINE __m256i above_8(__m256i x, __m256 places)
{
    return _mm256_cmpgt_epi32(x, _mm256_castps_si256(places));
}

/* Twice a count, and one more where x is above. */
FF_INLINE __m256i and_above_8(__m256i at, __m256i x, __m256 places)
{
    return _mm256_add_epi32(_mm256_add_epi32(at, at), above_8(x, places));
}

FF_INLINE __m256i minus_count_8(struct few_places t, __m256i x)
{
    const __m256i half = _mm256_cmpgt_epi32(x, t.middle);
    const __m256 choice = _mm256_castsi256_ps(half);
    const __m256i quarter = and_above_8(half, x, _mm256_blendv_ps(t.lower, t.upper, choice));
    const __m256i eighth = and_above_8(quarter, x, _mm256_permutevar_ps(t.third, quarter));
    const __m256 low = _mm256_permutevar_ps(t.low_fourth, eighth);
    const __m256 high = _mm256_permutevar_ps(t.high_fourth, eighth);
    return and_above_8(eighth, x, _mm256_blendv_ps(low, high, choice));
}

FF_INLINE void store_counts_32(const __m256i minus[4], uint8_t *index)
{
    const __m256i words = _mm256_packs_epi16(_mm256_packs_epi32(minus[0], minus[1]),
                                             _mm256_packs_epi32(minus[2], minus[3]));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256((__m256i *)index,
                        _mm256_abs_epi8(_mm256_permutevar8x32_epi32(words, order)));
}

#define FF_COUNT_FEW_32                                                                            \
    const struct few_places t = few_places_of(p);                                                  \
    for (; i + 32 <= n; i += 32) {                                                                 \
        __m256i minus[4];                                                                          \
        for (size_t k = 0; k < 4; k++)                                                             \
            minus[k] = minus_count_8(t, _mm256_loadu_si256((const __m256i *)(x + i + 8 * k)));     \
        store_counts_32(minus, index + i);                                                         \
    }

/* The places of a channel's thresholds, as edges32 has them, without its buffers. Beyond 2^-900 no
 * product is a subnormal double, so those that are spaced stay in order. */
#define FF_FEW_EDGES_32                                                                            \
    if (v->n <= FF_FEW && v->is_spaced && scale > 0x1p-900) {                                      \
        for (int k = 0; k < 16; k += 8)                                                            \
            _mm256_storeu_si256((__m256i *)(edges + k), few_edges(v, k, scale));                   \
        return;                                                                                    \
    }
FF_INLINE __m256i lower_4(const struct ff_intervals *v, int k, __m256d t, __m128 near)
{
    const __m256d back = _mm256_cvtps_pd(near);
    const __m256i above = _mm256_castpd_si256(_mm256_cmp_pd(back, t, _CMP_GT_OQ));
    const __m256i equal = _mm256_and_si256(
        _mm256_castpd_si256(_mm256_cmp_pd(back, t, _CMP_EQ_OQ)),
        _mm256_loadu_si256((const __m256i *)(v->takes_equal + k)));
    const __m256i zero = _mm256_and_si256(
        _mm256_castpd_si256(_mm256_cmp_pd(t, _mm256_setzero_pd(), _CMP_EQ_OQ)),
        _mm256_loadu_si256((const __m256i *)(v->takes_zero + k)));
    return _mm256_sub_epi64(_mm256_add_epi64(equal, _mm256_and_si256(equal, zero)), above);
}
FF_INLINE __m256i few_edges(const struct ff_intervals *v, int k, double scale)
{
    const __m256d factor = _mm256_set1_pd(scale), zero = _mm256_setzero_pd();
    const __m256d t0 = _mm256_add_pd(_mm256_mul_pd(_mm256_loadu_pd(v->threshold + k), factor), zero);
    const __m256d t1 =
        _mm256_add_pd(_mm256_mul_pd(_mm256_loadu_pd(v->threshold + k + 4), factor), zero);
    const __m128 near0 = _mm256_cvtpd_ps(t0), near1 = _mm256_cvtpd_ps(t1);
    const __m256 lower0 = _mm256_castsi256_ps(lower_4(v, k, t0, near0));
    const __m256 lower1 = _mm256_castsi256_ps(lower_4(v, k + 4, t1, near1));
    const __m256i lower = _mm256_permute4x64_epi64(
        _mm256_castps_si256(_mm256_shuffle_ps(lower0, lower1, _MM_SHUFFLE(2, 0, 2, 0))),
        _MM_SHUFFLE(3, 1, 2, 0));
    const __m256i bits = _mm256_castps_si256(_mm256_set_m128(near1, near0));
    const __m256i flip = _mm256_srli_epi32(_mm256_srai_epi32(bits, 31), 1);
    const __m256i place = _mm256_sub_epi32(_mm256_xor_si256(bits, flip), lower);
    const __m256i index = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                                           _mm256_set1_epi32(k));
    const __m256i is_used = _mm256_cmpgt_epi32(_mm256_set1_epi32(v->n), index);
    return _mm256_blendv_epi8(_mm256_set1_epi32(INT32_MAX), place, is_used);
}

#define FF_LOOK_UP_16                                                                              \
    const __m256i low = _mm256_castps_si256(_mm256_loadu_ps(t));                                   \
    const __m256i high = _mm256_castps_si256(_mm256_loadu_ps(t + 8));                              \
    for (; i + 8 <= n; i += 8) {                                                                   \
        const __m256i at =                                                                         \
            _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(codes + i)));                   \
        _mm256_storeu_ps(out + i, _mm256_castsi256_ps(pick_8(low, high, at)));                     \
    }
#define FF_LOOK_UP_PACKED                                                                          \
    const __m256i low = _mm256_castps_si256(_mm256_loadu_ps(t));                                   \
    const __m256i high = _mm256_castps_si256(_mm256_loadu_ps(t + 8));                              \
    const __m128i low_bits = _mm_set1_epi8(15);                                                    \
    for (; i + 16 <= n; i += 16) {                                                                 \
        const __m128i two = _mm_loadl_epi64((const __m128i *)(codes + i / 2));                     \
        const __m128i first = _mm_and_si128(two, low_bits);                                        \
        const __m128i second = _mm_and_si128(_mm_srli_epi16(two, 4), low_bits);                    \
        const __m128i all = _mm_unpacklo_epi8(first, second);                                      \
        const __m256i left = pick_8(low, high, _mm256_cvtepu8_epi32(all));                         \
        const __m256i right = pick_8(low, high, _mm256_cvtepu8_epi32(_mm_srli_si128(all, 8)));     \
        _mm256_storeu_ps(out + i, _mm256_castsi256_ps(left));                                      \
        _mm256_storeu_ps(out + i + 8, _mm256_castsi256_ps(right));                                 \
    }
#define FF_TABLE ff_kernels_avx2
#include "kernels.inc.h"

/* The instruction alone, as a witness: its rounding mode is an immediate, so one loop a mode. */
#define FF_F16C(name, mode)                                                                        \
    static void name(const float *values, uint16_t *codes, size_t n)                               \
    {                                                                                              \
        for (size_t i = 0; i < n; i += 8) {                                                        \
            float block[8] = {0};                                                                  \
            uint16_t rounded[8];                                                                   \
            const size_t count = n - i < 8 ? n - i : 8;                                            \
            memcpy(block, values + i, count * sizeof *block);                                      \
            _mm_storeu_si128((__m128i *)rounded, _mm256_cvtps_ph(_mm256_loadu_ps(block), mode));   \
            memcpy(codes + i, rounded, count * sizeof *rounded);                                   \
        }                                                                                          \
    }
FF_F16C(f16c_nearest_even, _MM_FROUND_TO_NEAREST_INT)
FF_F16C(f16c_toward_zero, _MM_FROUND_TO_ZERO)
FF_F16C(f16c_toward_positive, _MM_FROUND_TO_POS_INF)
FF_F16C(f16c_toward_negative, _MM_FROUND_TO_NEG_INF)

int ff_f16c_avx2(enum ff_rounding rounding, const float *values, uint16_t *codes, size_t n)
{
    switch (rounding) {
    case FF_NEAREST_EVEN: f16c_nearest_even(values, codes, n); return 0;
    case FF_TOWARD_ZERO: f16c_toward_zero(values, codes, n); return 0;
    case FF_TOWARD_POSITIVE: f16c_toward_positive(values, codes, n); return 0;
    case FF_TOWARD_NEGATIVE: f16c_toward_negative(values, codes, n); return 0;
    default: return 1;
    }
}
FF_REGION_END
#else
typedef int ff_kernels_avx2_needs_x86_64;
#endif
