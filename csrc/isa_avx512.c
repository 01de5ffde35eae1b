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

FF_INLINE __m256i fp16_of(const float *values)
{
    return _mm512_cvtps_ph(_mm512_loadu_ps(values), _MM_FROUND_TO_NEAREST_INT);
}

/* The slot of isa_avx2.c, four times as wide: whole cache lines are stored, a tenth faster. */
static size_t encode_f32_fp16(const float *restrict values, uint16_t *restrict codes, size_t n)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        _mm512_storeu_si512(codes + i,
                            _mm512_inserti64x4(_mm512_castsi256_si512(fp16_of(values + i)),
                                               fp16_of(values + i + 16), 1));
    return i;
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
                     _mm512_cvtepi32_epi8(count_16(table, middle, _mm512_loadu_si512(x + i))))
FF_INLINE __m512i count_16(__m512i table, __m512i middle, __m512i x)
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

/* A table of 16 floats in one register. */
#define FF_LOOK_UP_16                                                                              \
    const __m512 values = _mm512_loadu_ps(t);                                                      \
    for (; i + 16 <= n; i += 16)                                                                   \
    _mm512_storeu_ps(out + i, _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(          \
                                                        (const __m128i *)(codes + i))),            \
                                                    values))
#define FF_TABLE ff_kernels_avx512
#include "kernels.inc.h"
FF_REGION_END
#else
typedef int ff_kernels_avx512_needs_x86_64;
#endif
