/* AVX2 and F16C: Haswell (2013), Excavator and later. */
#if defined(__x86_64__)
#include "kernels.h"
#include "region.h"
#include <immintrin.h>

FF_REGION_BEGIN("avx2,f16c")
#include "scalar.h"

/* VCVTPS2PH gives the bits of encode_any for FP16 by the default rules, NaNs included (all 2^32 inputs: tests/exhaustive).
 * benchmarks/ measures what the slot earns. */
static size_t encode_f32_fp16(const float *restrict values, uint16_t *restrict codes, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(codes + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(values + i), _MM_FROUND_TO_NEAREST_INT));
    return i;
}
#define FF_ENCODE_F32_FP16 encode_f32_fp16
#define FF_TABLE ff_kernels_avx2
#include "kernels.inc.h"
FF_REGION_END
#else
typedef int ff_kernels_avx2_needs_x86_64;
#endif
