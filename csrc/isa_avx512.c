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
#define FF_TABLE ff_kernels_avx512
#include "kernels.inc.h"
FF_REGION_END
#else
typedef int ff_kernels_avx512_needs_x86_64;
#endif
