/* The whole C API of floatfmt.
 *
 * This file is also cffi's cdef: the cdef is this text minus the lines that start with '#', so it
 * holds no macros and no conditionals.
 *
 * Every function: the caller owns all memory; nothing is allocated, printed or kept between calls.
 * Input and output arrays must not overlap. An array of length 0 may be any pointer. Results are
 * the same bits for every isa, whatever the rounding mode and FTZ/DAZ flags of the calling thread:
 * each function works in the default floating-point environment and puts the thread's own back. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Instruction-set levels. FF_BASELINE is what the compiler targets by default (SSE2, NEON). */
enum ff_isa { FF_BASELINE = 0, FF_AVX2 = 1, FF_AVX512 = 2 };

/* The types of value arrays. FF_F16 and FF_BF16 arrays are uint16_t codes in C. */
enum ff_type { FF_F64 = 0, FF_F32 = 1, FF_F16 = 2, FF_BF16 = 3 };

/* A format in the IEEE 754 layout. Its codes are right-aligned unsigned integers of the narrowest
 * of 1, 2, 4 or 8 bytes that holds 1 + exponent_bits + fraction_bits bits.
 * exponent_bits: 2 to 11. fraction_bits: 1 to 52. Every value must be a value of fp64. */
struct ff_format {
    int32_t exponent_bits;
    int32_t fraction_bits;
    int32_t bias;
};

/* Returns 1 if this build has the level and this machine can run it, else 0. */
int ff_isa_supported(enum ff_isa isa);

/* Returns the compiler and its version that built this library. */
const char *ff_compiler(void);

/* Sets round-to-nearest, all exceptions masked, no FTZ, no DAZ for the calling thread, and returns
 * what was set before, for ff_restore_float_environment. */
uint64_t ff_default_float_environment(void);
void ff_restore_float_environment(uint64_t saved);

/* Splits n codes into sign, biased exponent and fraction.
 * exponent has exponent_bytes (1 or 2), fraction fraction_bytes (1, 2, 4 or 8) an element: the
 * narrowest that hold their fields. */
void ff_decompose(enum ff_isa isa, const struct ff_format *format, const void *codes, uint8_t *sign,
                  void *exponent, void *fraction, size_t n);

/* Joins n signs, biased exponents and fractions to codes. Returns 0 if every part fits its field,
 * else 1; then codes means nothing. */
int ff_compose(enum ff_isa isa, const struct ff_format *format, const uint8_t *sign,
               const void *exponent, const void *fraction, void *codes, size_t n);

/* Rounds n values to codes: nearest, ties to even, one rounding. From max + ulp/2 on a magnitude
 * becomes Inf. A NaN becomes quiet and keeps its sign and the leading bits of its payload.
 * A source of FF_F32, FF_F16 or FF_BF16 needs a format of bias <= 127, fraction_bits <= 23 and at
 * most 32 bits. */
void ff_encode(enum ff_isa isa, enum ff_type type, const struct ff_format *format,
               const void *values, void *codes, size_t n);

/* Writes the exact values of n codes as FF_F32 or FF_F64, which must hold every value of the
 * format, and its normals as normals. A NaN keeps its sign, payload and signalling bit. */
void ff_decode(enum ff_isa isa, enum ff_type type, const struct ff_format *format,
               const void *codes, void *values, size_t n);

/* ff_encode and ff_decode in one pass; FF_F32 or FF_F64, under the conditions of both. */
void ff_round_to(enum ff_isa isa, enum ff_type type, const struct ff_format *format,
                 const void *values, void *out, size_t n);

/* The quantisers see x as an array [outer][channels][inner]; amax, low, high, scale and zero_point
 * have one element a channel. */

/* Writes each channel's largest magnitude; not finite if any of its values is NaN or Inf. */
void ff_amax(enum ff_isa isa, enum ff_type type, const void *x, size_t outer, size_t channels,
             size_t inner, double *amax);

/* Writes each channel's least and greatest value; one of them is not finite if any value is NaN or
 * Inf. An empty channel has (Inf, -Inf). */
void ff_minmax(enum ff_isa isa, enum ff_type type, const void *x, size_t outer, size_t channels,
               size_t inner, double *low, double *high);

/* Writes n scales amax / qmax, rounded to format: to nearest, but up where that is subnormal, and to
 * the largest finite value where it would be Inf; 1 where amax is 0. amax: finite, >= 0. */
void ff_absmax_scale(enum ff_isa isa, const struct ff_format *format, const double *amax, int qmax,
                     double *scale, size_t n);

/* Writes n scales (high - low) / (qmax - qmin), rounded as above, and zero points
 * rint(qmin - low / scale), within +-2^62. Where high = low: abs(low), or 1 for 0, and 0.
 * low, high: finite. */
void ff_zeropoint_parameters(enum ff_isa isa, const struct ff_format *format, const double *low,
                             const double *high, int qmin, int qmax, double *scale,
                             double *zero_point, size_t n);

/* Writes clamp(rint(x / scale) + zero_point, qmin, qmax), the quotient rounded in double, rint to
 * even. scale: finite, > 0. zero_point: integers. -128 <= qmin <= qmax <= 127.
 * Returns how many values were clamped, or -1 if any is NaN or Inf; then codes means nothing. */
int64_t ff_quantize(enum ff_isa isa, enum ff_type type, const void *x, size_t outer,
                    size_t channels, size_t inner, const double *scale, const double *zero_point,
                    int qmin, int qmax, int8_t *codes);

/* Writes (codes - zero_point) * scale, computed in double, rounded once to type (ties to even) and
 * clamped to its largest finite value. */
void ff_dequantize(enum ff_isa isa, enum ff_type type, const int8_t *codes, size_t outer,
                   size_t channels, size_t inner, const double *scale, const double *zero_point,
                   void *out);
