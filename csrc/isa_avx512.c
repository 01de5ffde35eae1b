/* AVX-512 F, BW, DQ and VL: Skylake-X (2017), Zen 4 and later. */
#if defined(__x86_64__)
#include "kernels.h"
#include "region.h"
#include <immintrin.h>

#if defined(__clang__) /* which has no such word */
#define FF_WIDTH ""
#else
#define FF_WIDTH ",prefer-vector-width=512"
#endif
FF_REGION_BEGIN("avx512f,avx512bw,avx512dq,avx512vl,avx2,f16c" FF_WIDTH)
#include "scalar.h"
#include "slots_256.h"

/* --- what codes.inc.h calls: see slots_256.h --------------------------------------------------- */

FF_INLINE __m512i by_sign_512(__m512i positive, __m512i negative, __m512i y)
{
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(y), positive, negative);
}

FF_INLINE __m512i where_negative_512(__m512i x, __m512i y)
{
    return _mm512_maskz_mov_epi8(_mm512_movepi8_mask(y), x);
}
FF_INLINE __m512i where_positive_512(__m512i x, __m512i y)
{
    return _mm512_maskz_mov_epi8(_mm512_cmpgt_epi8_mask(y, _mm512_setzero_si512()), x);
}

FF_INLINE __m512i up_to_512(__m512i within, __m512i x, __m512i limit, __m512i beyond)
{
    return _mm512_mask_blend_epi8(_mm512_cmple_epu8_mask(x, limit), beyond, within);
}

FF_INLINE __m512i odd_where_unlike_512(__m512i kept, __m512 a, __m512 b)
{
    const __mmask16 unlike = _mm512_cmp_ps_mask(a, b, _CMP_NEQ_OQ);
    return _mm512_mask_or_epi32(kept, unlike, kept, _mm512_set1_epi32(1));
}

FF_INLINE int any_greater_16_512(__m512i a, __m512i b)
{
    return _mm512_cmpgt_epi16_mask(a, b) != 0;
}
FF_INLINE int any_greater_32_512(__m512i a, __m512i b)
{
    return _mm512_cmpgt_epi32_mask(a, b) != 0;
}

FF_INLINE uint32_t largest_of_512(__m512i x) { return _mm512_reduce_max_epu32(x); }

/* Packing is by quarters here. */
FF_INLINE __m512i bytes_in_order_512(__m512i bytes)
{
    const __m512i order =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, bytes);
}
FF_INLINE __m512i words_in_order_512(__m512i words)
{
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), words);
}

FF_INLINE __m512 floats_f32_512(const int32_t *x) { return _mm512_loadu_ps(x); }
FF_INLINE __m512 floats_f16_512(const int16_t *x)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)x));
}
FF_INLINE __m512 floats_bf16_512(const int16_t *x)
{
    const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)x));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}

#define FF_BITS 512
#include "codes.inc.h"
#undef FF_BITS

/* 32 values may be left over. */
static uint32_t encode_codes(const uint32_t *values, void *codes, size_t n,
                             const struct codes_plan *p)
{
    const size_t whole = n & ~(size_t)63, bytes = p->kind == FF_WORDS_CAPPED ? 2 : 1;
    const uint32_t most = whole == 0 ? 0 : encode_codes_512(values, codes, whole, p);
    if (whole == n)
        return most;
    const uint32_t last =
        encode_codes_256(values + whole, (uint8_t *)codes + whole * bytes, n - whole, p);
    return last > most ? last : most;
}
#define FF_WITHIN_BYTES(T, n)                                                                      \
    ((n) % 64 == 0 ? within_bytes_##T##_512 : within_bytes_##T##_256)

/* --- slots ------------------------------------------------------------------------------------- */

FF_INLINE __m256i fp16_of(__m512 values)
{
    return _mm512_cvtps_ph(values, _MM_FROUND_CUR_DIRECTION);
}

/* The slot of isa_avx2.c, four times as wide: whole cache lines are stored, a tenth faster. */
static size_t encode_f32_fp16(const float *restrict values, uint16_t *restrict codes, size_t n)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        _mm512_storeu_si512(codes + i,
                            _mm512_inserti64x4(
                                _mm512_castsi256_si512(fp16_of(_mm512_loadu_ps(values + i))),
                                fp16_of(_mm512_loadu_ps(values + i + 16)), 1));
    for (; i < n; i += 16) {
        const __mmask16 there = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : UINT16_MAX;
        _mm256_mask_storeu_epi16(codes + i, there,
                                 fp16_of(_mm512_maskz_loadu_ps(there, values + i)));
    }
    return n;
}
#define FF_ENCODE_F32_FP16 encode_f32_fp16

/* VPMOVxx: one instruction each, where compilers shuffle. */
#define FF_NARROW32_8                                                                              \
    for (; i + 16 <= n; i += 16)                                                                   \
    _mm_storeu_si128((__m128i *)(codes + i), _mm512_cvtepi32_epi8(_mm512_loadu_si512(wide + i)))
#define FF_NARROW32_16                                                                             \
    for (; i + 16 <= n; i += 16)                                                                   \
    _mm256_storeu_si256((__m256i *)(codes + i),                                                    \
                        _mm512_cvtepi32_epi16(_mm512_loadu_si512(wide + i)))
#define FF_NARROW64_8                                                                              \
    for (; i + 8 <= n; i += 8)                                                                     \
    _mm_storel_epi64((__m128i *)(codes + i), _mm512_cvtepi64_epi8(_mm512_loadu_si512(wide + i)))
#define FF_NARROW64_16                                                                             \
    for (; i + 8 <= n; i += 8)                                                                     \
    _mm_storeu_si128((__m128i *)(codes + i), _mm512_cvtepi64_epi16(_mm512_loadu_si512(wide + i)))
#define FF_NARROW64_32                                                                             \
    for (; i + 8 <= n; i += 8)                                                                     \
    _mm256_storeu_si256((__m256i *)(codes + i),                                                    \
                        _mm512_cvtepi64_epi32(_mm512_loadu_si512(wide + i)))

/* A search by halves among 15 places in one register: VPERMD picks what to compare with next. */
#define FF_COUNT_FEW_32                                                                            \
    const __m512i table = _mm512_loadu_si512(p), middle = _mm512_set1_epi32(p[7]);                 \
    for (; i + 16 <= n; i += 16)                                                                   \
    _mm_storeu_si128((__m128i *)(index + i),                                                       \
                     _mm512_cvtepi32_epi8(search_16(table, middle, _mm512_loadu_si512(x + i))))
FF_INLINE __m512i search_16(__m512i table, __m512i middle, __m512i x)
{
    __m512i at = _mm512_maskz_set1_epi32(_mm512_cmpgt_epi32_mask(x, middle), 8);
    for (int step = 4; step != 0; step >>= 1) {
        const __m512i next = _mm512_add_epi32(at, _mm512_set1_epi32(step - 1));
        const __m512i place = _mm512_permutexvar_epi32(next, table);
        at = _mm512_mask_add_epi32(at, _mm512_cmpgt_epi32_mask(x, place), at,
                                   _mm512_set1_epi32(step));
    }
    return at;
}

/* From values to counts without a buffer between. */
#define FF_COUNT_BOUNDED_f32                                                                       \
    const __m512i table = _mm512_loadu_si512(e->places), middle = _mm512_set1_epi32(e->places[7]); \
    const __m512 factor = _mm512_set1_ps(e->factor);                                               \
    for (; i + 16 <= n; i += 16)                                                                   \
    _mm_storeu_si128((__m128i *)(index + i),                                                       \
                     _mm512_cvtepi32_epi8(search_16(table, middle, order_16(x + i, factor))))
FF_INLINE __m512i order_16(const void *x, __m512 factor)
{
    const __m512i bits = _mm512_castps_si512(_mm512_mul_ps(_mm512_loadu_ps(x), factor));
    const __m512i flip =
        _mm512_and_si512(_mm512_srai_epi32(bits, 31), _mm512_set1_epi32(INT32_MAX));
    return _mm512_xor_si512(bits, flip);
}

/* Thresholds of a channel in two registers; rounded down by the conversion itself. Beyond 2^-900 none
 * of their products is a subnormal double, so those that are spaced stay in order. */
#define FF_FEW_EDGES_32                                                                            \
    if (v->n <= FF_FEW && v->is_spaced && scale > 0x1p-900) {                                      \
        const __m256i left = few_edges(v->threshold, scale, v->first_equal, v->first_zero);        \
        const __m256i right =                                                                      \
            few_edges(v->threshold + 8, scale, v->first_equal >> 8, v->first_zero >> 8);           \
        const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(left), right, 1);           \
        const __mmask16 used = (__mmask16)((1u << v->n) - 1);                                      \
        _mm512_storeu_si512(edges,                                                                 \
                            _mm512_mask_mov_epi32(_mm512_set1_epi32(INT32_MAX), used, both));      \
        return;                                                                                    \
    }
FF_INLINE __m256i few_edges(const double *threshold, double scale, uint32_t equals, uint32_t zeros)
{
    const __m512d zero = _mm512_setzero_pd();
    const __m512d t =
        _mm512_add_pd(_mm512_mul_pd(_mm512_loadu_pd(threshold), _mm512_set1_pd(scale)), zero);
    const __m256 floor =
        _mm512_cvt_roundpd_ps(t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    const __mmask8 equal =
        _mm512_cmp_pd_mask(_mm512_cvtps_pd(floor), t, _CMP_EQ_OQ) & (__mmask8)equals;
    const __mmask8 at_zero = _mm512_cmp_pd_mask(t, zero, _CMP_EQ_OQ) & equal & (__mmask8)zeros;
    const __m256i bits = _mm256_castps_si256(floor), one = _mm256_set1_epi32(1);
    const __m256i flip =
        _mm256_and_si256(_mm256_srai_epi32(bits, 31), _mm256_set1_epi32(INT32_MAX));
    const __m256i place = _mm256_mask_sub_epi32(_mm256_xor_si256(bits, flip), equal,
                                                _mm256_xor_si256(bits, flip), one);
    return _mm256_mask_sub_epi32(place, at_zero, place, one);
}

/* A table of 16 floats in one register. */
#define FF_LOOK_UP_16                                                                              \
    const __m512 values = _mm512_loadu_ps(t);                                                      \
    for (; i + 16 <= n; i += 16)                                                                   \
    _mm512_storeu_ps(out + i, _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(          \
                                                        (const __m128i *)(codes + i))),            \
                                                    values))
/* Of two codes a byte: nibbles side by side, then as above. */
#define FF_LOOK_UP_PACKED                                                                          \
    const __m512 values = _mm512_loadu_ps(t);                                                      \
    const __m128i low_bits = _mm_set1_epi8(15);                                                    \
    for (; i + 16 <= n; i += 16) {                                                                 \
        const __m128i two = _mm_loadl_epi64((const __m128i *)(codes + i / 2));                     \
        const __m128i first = _mm_and_si128(two, low_bits);                                        \
        const __m128i second = _mm_and_si128(_mm_srli_epi16(two, 4), low_bits);                    \
        const __m512i at = _mm512_cvtepu8_epi32(_mm_unpacklo_epi8(first, second));                 \
        _mm512_storeu_ps(out + i, _mm512_permutexvar_ps(at, values));                              \
    }
#define FF_TABLE ff_kernels_avx512
#include "kernels.inc.h"
FF_REGION_END
#else
typedef int ff_kernels_avx512_needs_x86_64;
#endif
