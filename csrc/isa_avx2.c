/* AVX2 and F16C: Haswell (2013), Excavator and later. */
#if defined(__x86_64__)
#include "kernels.h"
#include "region.h"
#include <immintrin.h>

FF_REGION_BEGIN("avx2,f16c")
#include "scalar.h"
#include "codes_256.h"
#include "multiply_tile_256.h"
#include "random_256.h"

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

/* Of 16 values whose words packing puts in order, if none is NaN. */
FF_INLINE __m256i bf16_16(__m256i a, __m256i b)
{
    const __m256i below_half = _mm256_set1_epi32(0x7fff), one = _mm256_set1_epi32(1);
    const __m256i odd_a = _mm256_and_si256(_mm256_srli_epi32(a, 16), one);
    const __m256i odd_b = _mm256_and_si256(_mm256_srli_epi32(b, 16), one);
    return _mm256_packus_epi32(
        _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(a, below_half), odd_a), 16),
        _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(b, below_half), odd_b), 16));
}

FF_INLINE __m256i eight_apart(const uint32_t *low, const uint32_t *high)
{
    return _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)low)),
        _mm_loadu_si128((const __m128i *)high), 1);
}

/* How far a loop goes that is slower, and takes what another does not know. */
FF_INLINE size_t until_512(size_t i, size_t n) { return n - i < 512 ? n : i + 512; }

/* Whole 32s, or all: two and a half operations a value less than where each is asked for NaN, as 512 are
 * from one on. */
FF_INLINE size_t encode_f32_bf16(const uint32_t *restrict values, uint16_t *restrict codes,
                                 size_t n)
{
    size_t i = 0, next = 0;
    for (; i + 32 <= n; i = next) {
        __m256 nan = _mm256_setzero_ps();
        next = i + 32;
        for (size_t k = i; k < next; k += 16) {
            const __m256i a = eight_apart(values + k, values + k + 8);
            const __m256i b = eight_apart(values + k + 4, values + k + 12);
            nan = _mm256_or_ps(nan, _mm256_cmp_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b),
                                                  _CMP_UNORD_Q));
            _mm256_storeu_si256((__m256i *)(codes + k), bf16_16(a, b));
        }
        if (_mm256_movemask_ps(nan) != 0)
            for (next = until_512(i, n); i < next; i++)
                codes[i] = (uint16_t)encode32_alike(values[i], BF16);
    }
    return i;
}
#define FF_ENCODE_F32_BF16 encode_f32_bf16

/* Whole 32s, or all. VCVTPH2PS makes a signalling NaN quiet, so from a magnitude beyond Inf on 512 go the
 * other way. */
FF_INLINE size_t decode_f32_fp16_fast(const uint16_t *restrict codes, uint32_t *restrict values,
                                      size_t n)
{
    const __m128i magnitudes = _mm_set1_epi16(0x7fff), infinity = _mm_set1_epi16(0x7c00);
    size_t i = 0, next = 0;
    for (; i + 32 <= n; i = next) {
        __m128i nan = _mm_setzero_si128();
        next = i + 32;
        for (size_t k = i; k < next; k += 8) {
            const __m128i code = _mm_loadu_si128((const __m128i *)(codes + k));
            nan = _mm_max_epi16(nan, _mm_and_si128(code, magnitudes));
            _mm256_storeu_ps((float *)(values + k), _mm256_cvtph_ps(code));
        }
        if (_mm_movemask_epi8(_mm_cmpgt_epi16(nan, infinity)) != 0)
            for (next = until_512(i, n); i < next; i++)
                values[i] = decode_fp16(codes[i]);
    }
    return i;
}
#define FF_DECODE_F32_FP16 decode_f32_fp16_fast

/* Codes of a byte that are fp16's with fewer places and another bias: VCVTPH2PS takes them, and a power
 * of two makes up for the bias. Shifts are to fp16's places; `limit` is the last such magnitude. */
struct byte_halves {
    int is_there, shift, sign_shift;
    int16_t magnitudes, limit;
    float factor;
};

static struct byte_halves byte_halves_of(struct ff_format f)
{
    const int last = (31 << f.fraction_bits) - 1, largest = (int)max_code(f);
    return (struct byte_halves){
        .is_there = f.sign != FF_TWOS_COMPLEMENT && f.nan != FF_NAN_NEGATIVE_ZERO && f.has_zero &&
                    f.exponent_bits >= 1 && f.exponent_bits <= 5 && f.bias > -100 && f.bias < 100,
        .shift = 10 - f.fraction_bits,
        .sign_shift = f.sign == FF_UNSIGNED ? 16 : 16 - code_bits(f), /* 16 leaves nothing */
        .magnitudes = (int16_t)magnitude_mask(f),
        .limit = (int16_t)(largest < last ? largest : last),
        .factor = (float)power_of_two(15 - f.bias),
    };
}

FF_INLINE void decode_16_bytes(__m256i codes, const struct byte_halves *h, __m256i *most,
                               float *values)
{
    const __m256 factor = _mm256_set1_ps(h->factor);
    const __m256i magnitude = _mm256_and_si256(codes, _mm256_set1_epi16(h->magnitudes));
    const __m256i sign = _mm256_and_si256(
        _mm256_sll_epi16(codes, _mm_cvtsi32_si128(h->sign_shift)), _mm256_set1_epi16(INT16_MIN));
    const __m256i half =
        _mm256_or_si256(_mm256_sll_epi16(magnitude, _mm_cvtsi32_si128(h->shift)), sign);
    *most = _mm256_max_epi16(*most, magnitude);
    const __m256 low = _mm256_cvtph_ps(_mm256_castsi256_si128(half));
    const __m256 high = _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1));
    _mm256_storeu_ps(values, _mm256_mul_ps(low, factor));
    _mm256_storeu_ps(values + 8, _mm256_mul_ps(high, factor));
}

/* Whole 32s, or all. From one that has other codes, as Inf and NaN, 512 are looked up. */
FF_INLINE size_t decode_bytes(struct byte_halves halves, const uint32_t *restrict table,
                              const uint8_t *restrict codes, uint32_t *restrict values, size_t n)
{
    const __m256i limit = _mm256_set1_epi16(halves.limit);
    size_t i = 0, next = 0;
    for (; i + 32 <= n; i = next) {
        __m256i most = _mm256_setzero_si256();
        next = i + 32;
        for (size_t k = i; k < next; k += 16)
            decode_16_bytes(
                _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(codes + k))), &halves,
                &most, (float *)(values + k));
        if (_mm256_movemask_epi8(_mm256_cmpgt_epi16(most, limit)) != 0)
            for (next = until_512(i, n); i < next; i++)
                values[i] = table[codes[i]];
    }
    return i;
}
#define FF_DECODE_BYTES decode_bytes

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

/* A sum of products is one code and sixteen times its neighbour: VPMADDUBSW. */
#define FF_PACK4                                                                                   \
    const __m256i low_bits = _mm256_set1_epi8(15);                                                 \
    const __m256i weights = _mm256_set1_epi16((int16_t)(256 << odd | 1 << even));                  \
    for (; i + 32 <= n / 2; i += 32)                                                               \
        pack4_64(codes + 2 * i, packed + i, low_bits, weights)
FF_INLINE void pack4_64(const uint8_t *codes, uint8_t *packed, __m256i low_bits, __m256i weights)
{
    const __m256i first = _mm256_loadu_si256((const __m256i *)codes);
    const __m256i second = _mm256_loadu_si256((const __m256i *)(codes + 32));
    const __m256i both =
        _mm256_packus_epi16(_mm256_maddubs_epi16(_mm256_and_si256(first, low_bits), weights),
                            _mm256_maddubs_epi16(_mm256_and_si256(second, low_bits), weights));
    _mm256_storeu_si256((__m256i *)packed,
                        _mm256_permute4x64_epi64(both, _MM_SHUFFLE(3, 1, 2, 0)));
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
#define FF_HAS_CELLS
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
