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

/* The slot of isa_avx2.c, twice as wide. */
static void encode_f32_fp16(const float *restrict values, uint16_t *restrict codes, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm256_storeu_si256((__m256i *)(codes + i), _mm512_cvtps_ph(_mm512_loadu_ps(values + i),
                                                                    _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++)
        codes[i] = (uint16_t)encode32(bits_of_float(values[i]), FP16);
}
#define FF_ENCODE_F32_FP16 encode_f32_fp16
#define FF_TABLE ff_kernels_avx512
#include "kernels.inc.h"
FF_REGION_END
#else
typedef int ff_kernels_avx512_needs_x86_64;
#endif
