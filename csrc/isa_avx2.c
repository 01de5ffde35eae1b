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
