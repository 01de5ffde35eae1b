/* One table of kernels per instruction-set level. Signatures are those of floatfmt.h without isa
 * and type; of int8 products, for which linear.c puts parts together, and of extremes, where parts of
 * rows may be given, those of quantize.inc.h. An
 * index of [FF_TYPES] is an enum ff_type; decode and round_to have FF_F64, FF_F32. */
#pragma once
#include "floatfmt.h"

#include <float.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define FF_INLINE static inline __attribute__((always_inline))

enum { FF_TYPES = FF_BF16 + 1 };

FF_INLINE int code_bits(struct ff_format f)
{
    return (f.sign != FF_UNSIGNED) + f.exponent_bits + f.fraction_bits;
}

FF_INLINE size_t code_bytes(struct ff_format f)
{
    const int bits = code_bits(f);
    return bits <= 8 ? 1 : bits <= 16 ? 2 : bits <= 32 ? 4 : 8;
}

/* Rows of x that int8_widen puts into a panel; the last panel is filled up with zeros. */
enum { FF_PANEL_ROWS = 16 };

struct ff_kernels {
    void (*decompose)(const struct ff_format *, const void *, uint8_t *, void *, void *, size_t);
    int (*compose)(const struct ff_format *, const uint8_t *, const void *, const void *, void *,
                   size_t);
    int (*encode[FF_TYPES])(const struct ff_format *, const struct ff_rules *, uint64_t, uint64_t,
                            const void *, void *, size_t);
    void (*decode[2])(const struct ff_format *, const void *, void *, size_t);
    int (*round_to[2])(const struct ff_format *, const struct ff_rules *, uint64_t, uint64_t,
                       const void *, void *, size_t);
    void (*pack)(const uint8_t *, uint8_t *, int, int, size_t);
    void (*unpack)(const uint8_t *, uint8_t *, int, int, size_t);
    void (*amax[FF_TYPES])(const void *, size_t, size_t, size_t, size_t, double *);
    void (*minmax[FF_TYPES])(const void *, size_t, size_t, size_t, size_t, double *, double *);
    void (*absmax_scale)(const struct ff_format *, const double *, double, double *, size_t);
    void (*power_scale)(enum ff_power_rule, double, int, const double *, double *, size_t);
    void (*zeropoint_parameters)(const struct ff_format *, const double *, const double *, int, int,
                                 double *, double *, size_t);
    int64_t (*quantize[FF_TYPES])(const void *, size_t, size_t, size_t, const double *,
                                  const double *, int, int, uint8_t *);
    int64_t (*quantize_absmax[FF_TYPES])(const void *, size_t, size_t, const struct ff_scaling *,
                                         int, int, double *, uint8_t *);
    int64_t (*quantize_range[FF_TYPES])(const void *, size_t, size_t, const struct ff_format *, int,
                                        int, int, double *, double *, uint8_t *);
    int64_t (*quantize_intervals_absmax[FF_TYPES])(const void *, size_t, size_t,
                                                   const struct ff_scaling *,
                                                   const struct ff_intervals *, int, double *,
                                                   uint8_t *);
    int64_t (*quantize_intervals[FF_TYPES])(const void *, size_t, size_t, size_t, const double *,
                                            const struct ff_intervals *, uint8_t *);
    int64_t (*quantize_format_absmax[FF_TYPES])(const void *, size_t, size_t,
                                                const struct ff_scaling *, const struct ff_format *,
                                                const struct ff_rules *, double, double, double *,
                                                uint8_t *);
    int64_t (*quantize_format[FF_TYPES])(const void *, size_t, size_t, size_t, const double *,
                                         const struct ff_format *, const struct ff_rules *, double,
                                         double, uint8_t *);
    void (*dequantize[FF_TYPES])(const uint8_t *, int, size_t, size_t, size_t, const double *,
                                 const double *, void *);
    void (*int8_widen)(const int8_t *, size_t, size_t, int, int16_t *);
    void (*int8_product)(const int16_t *, size_t, int, const int8_t *, size_t, size_t, int32_t *,
                         size_t);
    void (*dequantize_sums)(const int32_t *, size_t, size_t, size_t, const double *, const float *,
                            const double *, const float *, float *, size_t);
    void (*dequantize_table[FF_TYPES])(const uint8_t *, size_t, size_t, size_t, const double *,
                                       const double *, int, void *);
    void (*dequantize_packed[FF_TYPES])(const uint8_t *, size_t, size_t, const double *,
                                        const double *, void *);
};

const struct ff_kernels *ff_table(enum ff_isa isa);

extern const struct ff_kernels ff_kernels_baseline;
extern const struct ff_kernels ff_kernels_avx2;
extern const struct ff_kernels ff_kernels_avx512;

/* F16C's instruction on x86-64; returns 1 for a mode that it does not have. */
int ff_f16c_avx2(enum ff_rounding rounding, const float *values, uint16_t *codes, size_t n);
