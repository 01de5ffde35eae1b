/* The whole C API of floatfmt.
 *
 * This file is also cffi's cdef: the cdef is this text minus the lines that start with '#', so it
 * holds no macros and no conditionals.
 *
 * Every function: the caller owns all memory; nothing is printed, and nothing kept between calls but
 * threads that wait for work. Input and output arrays must not overlap. An array of length 0 may be
 * any pointer. Results are the same bits for every isa and number of threads, whatever the rounding
 * mode and FTZ/DAZ flags of the calling thread: each function works in the default floating-point
 * environment and puts the thread's own back.
 * threads: at most so many share the work, the caller being one; 0 is 1. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Instruction-set levels. FF_BASELINE is what the compiler targets by default (SSE2, NEON). */
enum ff_isa { FF_BASELINE = 0, FF_AVX2 = 1, FF_AVX512 = 2 };

/* The types of value arrays. FF_F16 and FF_BF16 arrays are uint16_t codes in C. */
enum ff_type { FF_F64 = 0, FF_F32 = 1, FF_F16 = 2, FF_BF16 = 3 };

/* How a format's codes tell signs apart. */
enum ff_sign { FF_UNSIGNED = 0, FF_SIGN_MAGNITUDE = 1, FF_TWOS_COMPLEMENT = 2 };

/* Where a format's NaNs are: nowhere; in the all-ones exponent; in the all-ones magnitude alone;
 * in the code that would be -0. */
enum ff_nan { FF_NAN_NONE = 0, FF_NAN_IEEE = 1, FF_NAN_TOP = 2, FF_NAN_NEGATIVE_ZERO = 3 };

/* A format. Its codes are right-aligned unsigned integers of the narrowest of 1, 2, 4 or 8 bytes
 * that holds (sign != FF_UNSIGNED) + exponent_bits + fraction_bits bits. A code's magnitude, the
 * bits below the sign, counts the values in order up to the largest finite one; Inf and NaN are
 * the magnitudes above it. floatfmt/formats.py says the same at length and checks every field.
 * exponent_bits: 0 to 11. fraction_bits: 0 to 52. Every value must be a value of fp64. */
struct ff_format {
    int32_t exponent_bits;
    int32_t fraction_bits;
    int32_t bias;
    int32_t sign;         /* an enum ff_sign */
    int32_t nan;          /* an enum ff_nan */
    int32_t has_infinity; /* whether the magnitude above the largest finite one is Inf */
    int32_t has_zero;     /* 0: exponent field 0 is a binade like every other */
};

enum ff_rounding {
    FF_NEAREST_EVEN = 0,
    FF_NEAREST_AWAY = 1,
    FF_TOWARD_ZERO = 2,
    FF_TOWARD_POSITIVE = 3,
    FF_TOWARD_NEGATIVE = 4,
    FF_TO_ODD = 5,
    FF_STOCHASTIC = 6
};

/* What becomes of values in a format; pairs are indexed by the value's sign bit.
 * floatfmt/rounding.py says what each field means. */
struct ff_rules {
    int32_t rounding;      /* an enum ff_rounding */
    int32_t is_ieee;       /* 1: all but the rounding as an IEEE 754 conversion has it */
    int32_t flushes;       /* subnormal results become zero */
    int32_t nan_is_error;  /* then nan means nothing */
    int32_t keeps_payload; /* a NaN is nan | leading bits of its payload, never Inf */
    int32_t quiets;        /* ... and the quiet bit */
    int64_t limit[2];      /* the largest finite magnitude; -1 where there is none */
    uint64_t overflow[2];  /* code of a finite value that rounds beyond the limit */
    uint64_t infinity[2];  /* codes of Inf, 0 and NaN */
    uint64_t zero[2];
    uint64_t nan[2];
};

/* The exponent of a power-of-two scale: of amax, rounded down; rounded up; down, once amax has been
 * rounded half up to the elements' fraction bits; each less that of the elements' largest value. Or
 * of the least power of two with which amax is not beyond that value. */
enum ff_power_rule {
    FF_POWER_FLOOR = 0,
    FF_POWER_CEIL = 1,
    FF_POWER_EVEN = 2,
    FF_POWER_RCEIL = 3
};

/* Which code a value above k thresholds has: k; those of a format with sign and magnitude, from the
 * most negative up; code[k]. */
enum ff_order { FF_AS_COUNTED = 0, FF_SIGN_AND_MAGNITUDE = 1, FF_LOOKED_UP = 2 };

/* How values become codes: by how many of the first thresholds they lie above. n: 1 to 255.
 * threshold: ascending.
 * takes_equal: 1 where a value equal to the threshold lies above it, of zeros the positive one;
 * takes_zero: 1 where both do; else 0. Values less than low or greater than high count as clamped. */
struct ff_intervals {
    int32_t n;
    int32_t order;         /* an enum ff_order */
    int32_t is_far_from_0; /* 1: thresholds are 0 with takes_equal alone, or like both ends beyond
                            * +-2^-40 */
    int32_t is_spaced;     /* 1: neighbours are 2^-30 apart, and 2^-30 of their size */
    uint32_t first_equal;  /* bit k is takes_equal[k], k < 16; of zeros likewise */
    uint32_t first_zero;
    int32_t is_rounding;   /* 1: codes are those of `format`, to nearest even and saturating */
    struct ff_format format;
    double low, high;
    double threshold[256]; /* one more than there can be: loops of even lengths */
    int64_t takes_equal[256];
    int64_t takes_zero[256];
    uint8_t code[256];
};

/* How scales follow from the largest magnitudes. */
struct ff_scaling {
    struct ff_format format; /* that of scales; with a power_rule of use for is_stored alone */
    double largest;          /* what the largest magnitude becomes: a normal double */
    int32_t power_rule;      /* an enum ff_power_rule, or -1: amax / largest, as ff_absmax_scale */
    int32_t fraction_bits;   /* as for ff_power_scale */
    double times;            /* codes are of x / (scale * times); 1 for ff_quantize_absmax */
    int32_t is_stored;       /* scales are written as codes of `format`, which has them: fp64, or up to
                              * 32 bits of which 8 are exponent; else as doubles */
};

/* Returns 1 if this build has the level and this machine can run it, else 0. */
int ff_isa_supported(enum ff_isa isa);

/* Returns 1 if this build has the level, whatever this machine can run, else 0. */
int ff_isa_built(enum ff_isa isa);

/* Returns the compiler and its version that built this library. */
const char *ff_compiler(void);

/* Rounds n fp32 values to fp16 codes by the instruction VCVTPS2PH alone: a witness, for comparing.
 * Returns 1, with nothing done, where there is no F16C or it has no such mode; else 0. */
int ff_f16c(enum ff_rounding rounding, const float *values, uint16_t *codes, size_t n);

/* Returns the flags it was given, "unknown" if the build did not say. */
const char *ff_compile_flags(void);

/* Sets round-to-nearest, all exceptions masked, no FTZ, no DAZ for the calling thread, and returns
 * what was set before, for ff_restore_float_environment. */
uint64_t ff_default_float_environment(void);
void ff_restore_float_environment(uint64_t saved);

/* Splits n codes into sign, biased exponent and fraction.
 * exponent has exponent_bytes (1 or 2), fraction fraction_bytes (1, 2, 4 or 8) an element: the
 * narrowest that hold their fields. */
void ff_decompose(enum ff_isa isa, const struct ff_format *format, const void *codes, uint8_t *sign,
                  void *exponent, void *fraction, size_t n, unsigned threads);

/* Joins n signs, biased exponents and fractions to codes. Returns 0 if every part fits its field,
 * else 1; then codes means nothing. */
int ff_compose(enum ff_isa isa, const struct ff_format *format, const uint8_t *sign,
               const void *exponent, const void *fraction, void *codes, size_t n, unsigned threads);

/* Rounds n values to codes by the rules, in one rounding.
 * seed, start: for FF_STOCHASTIC, the key of Philox4x32-10 and the index of values[0]: element i
 * is rounded by 32 random bits, word (start + i) % 4 of counter (start + i) / 4.
 * Returns 1 if a value is NaN and that is an error, and then codes means nothing; -1, with nothing
 * done, if values and codes overlap or do not lie at multiples of their sizes; else 0. */
int ff_encode(enum ff_isa isa, enum ff_type type, const struct ff_format *format,
              const struct ff_rules *rules, uint64_t seed, uint64_t start, const void *values,
              void *codes, size_t n, unsigned threads);

/* Writes the exact values of n codes as FF_F32 or FF_F64, which must hold every value of the
 * format. FF_F32: below 2^(1 - bias), or 2^-bias if has_zero = 0, values are equally spaced; that
 * power of two must be a normal float, or exponent_bits 0.
 * A NaN keeps its sign, payload and signalling bit; one that has no payload is quiet.
 * Returns -1, with nothing done, as ff_encode; else 0. */
int ff_decode(enum ff_isa isa, enum ff_type type, const struct ff_format *format, const void *codes,
              void *values, size_t n, unsigned threads);

/* ff_encode and ff_decode in one pass; FF_F32 or FF_F64, under the conditions of both. */
int ff_round_to(enum ff_isa isa, enum ff_type type, const struct ff_format *format,
                const struct ff_rules *rules, uint64_t seed, uint64_t start, const void *values,
                void *out, size_t n, unsigned threads);

/* Packs n codes of `bits` (1 to 8) bits, one a byte, into (n * bits + 7) / 8 bytes. The first code
 * takes the lowest bits of the first byte, or the highest if high_first; unused bits are 0. */
void ff_pack(enum ff_isa isa, const uint8_t *codes, uint8_t *packed, int bits, int high_first,
             size_t n, unsigned threads);

/* The inverse of ff_pack: n codes from (n * bits + 7) / 8 bytes. */
void ff_unpack(enum ff_isa isa, const uint8_t *packed, uint8_t *codes, int bits, int high_first,
               size_t n, unsigned threads);

/* The quantisers see x as an array [outer][channels][inner]; amax, low, high, scale and zero_point
 * have one element a channel. */

/* Writes each channel's largest magnitude; not finite if any of its values is NaN or Inf. */
void ff_amax(enum ff_isa isa, enum ff_type type, const void *x, size_t outer, size_t channels,
             size_t inner, double *amax, unsigned threads);

/* Writes each channel's least and greatest value, -0 being less than 0; one of them is not finite if
 * any value is NaN or Inf. An empty channel has (Inf, -Inf). */
void ff_minmax(enum ff_isa isa, enum ff_type type, const void *x, size_t outer, size_t channels,
               size_t inner, double *low, double *high, unsigned threads);

/* Writes n scales amax / largest, rounded to format: to nearest, but up where that is subnormal or
 * format has no fraction, and to the largest finite value where it would be Inf; 1 where amax is 0.
 * amax: finite, >= 0. largest: finite, > 0. */
void ff_absmax_scale(enum ff_isa isa, const struct ff_format *format, const double *amax,
                     double largest, double *scale, size_t n);

/* Writes n powers of two 2^-127 to 2^127 that follow from amax and the elements' largest value, as
 * rule says; 1 where amax is 0. fraction_bits: the elements', 0 to 51; only FF_POWER_EVEN needs it.
 * amax: finite, >= 0. largest: a normal double. */
void ff_power_scale(enum ff_isa isa, enum ff_power_rule rule, double largest, int fraction_bits,
                    const double *amax, double *scale, size_t n);

/* Writes n scales (high - low) / (qmax - qmin), rounded as above, and zero points
 * rint(qmin - low / scale), within +-2^62. Where high = low: abs(low), or 1 for 0, and 0;
 * for negative values and no negative codes qmin + 1.
 * low, high: finite. */
void ff_zeropoint_parameters(enum ff_isa isa, const struct ff_format *format, const double *low,
                             const double *high, int qmin, int qmax, double *scale,
                             double *zero_point, size_t n);

/* Writes clamp(rint(x / scale) + zero_point, qmin, qmax), the quotient rounded in double, rint to
 * even, as bytes. scale: finite, > 0. zero_point: integers. -128 <= qmin <= qmax <= 255, and
 * qmax - qmin <= 255.
 * Returns how many values were clamped, or -1 if any is NaN or Inf; then codes means nothing. */
int64_t ff_quantize(enum ff_isa isa, enum ff_type type, const void *x, size_t outer,
                    size_t channels, size_t inner, const double *scale, const double *zero_point,
                    int qmin, int qmax, uint8_t *codes, unsigned threads);

/* Scales and codes in one pass, for an outer length of 1: ff_amax, ff_absmax_scale or ff_power_scale,
 * and ff_quantize with qmin = -qmax. scale: as scaling->is_stored says. packs: codes go two a byte, the
 * first in its low bits; inner is even and qmax at most 7. Returns as ff_quantize does. */
int64_t ff_quantize_absmax(enum ff_isa isa, enum ff_type type, const void *x, size_t channels,
                           size_t inner, const struct ff_scaling *scaling, int qmax, int packs,
                           void *scale, uint8_t *codes, unsigned threads);

/* Scales, zero points and codes in one pass, for an outer length of 1: ff_minmax,
 * ff_zeropoint_parameters, whose scales have that format, and ff_quantize. includes_zero: ranges go on
 * to 0, and zero points are codes. inner > 0. Returns as ff_quantize does. */
int64_t ff_quantize_range(enum ff_isa isa, enum ff_type type, const void *x, size_t channels,
                          size_t inner, const struct ff_format *scale_format, int includes_zero,
                          int qmin, int qmax, double *scale, double *zero_point, uint8_t *codes,
                          unsigned threads);

/* As ff_quantize_absmax with ff_quantize_intervals, which has to have no more than 16 codes if it
 * packs. */
int64_t ff_quantize_intervals_absmax(enum ff_isa isa, enum ff_type type, const void *x,
                                     size_t channels, size_t inner,
                                     const struct ff_scaling *scaling,
                                     const struct ff_intervals *intervals, int packs, void *scale,
                                     uint8_t *codes, unsigned threads);

/* The same with ff_quantize_format; without packing. */
int64_t ff_quantize_format_absmax(enum ff_isa isa, enum ff_type type, const void *x,
                                  size_t channels, size_t inner, const struct ff_scaling *scaling,
                                  const struct ff_format *format, const struct ff_rules *rules,
                                  double low, double high, void *scale, uint8_t *codes,
                                  unsigned threads);

/* Writes the code of the interval that x lies in, thresholds being multiplied by scale in double.
 * scale: finite, >= 0. Returns as ff_quantize does. */
int64_t ff_quantize_intervals(enum ff_isa isa, enum ff_type type, const void *x, size_t outer,
                              size_t channels, size_t inner, const double *scale,
                              const struct ff_intervals *intervals, uint8_t *codes,
                              unsigned threads);

/* Writes the codes of x / scale, the quotient rounded in double and then by the rules, which are not
 * stochastic. format: codes of a byte; its smallest positive value is no less than 2^-40. Quotients
 * less than low or greater than high count as clamped: floats halfway from the format's ends to where
 * its next values would be. Returns as ff_quantize does. */
int64_t ff_quantize_format(enum ff_isa isa, enum ff_type type, const void *x, size_t outer,
                           size_t channels, size_t inner, const double *scale,
                           const struct ff_format *format, const struct ff_rules *rules, double low,
                           double high, uint8_t *codes, unsigned threads);

/* Writes (codes - zero_point) * scale, computed in double, rounded once to type (ties to even) and
 * clamped to its largest finite value. The codes are signed bytes, or not. */
void ff_dequantize(enum ff_isa isa, enum ff_type type, const uint8_t *codes, int is_signed,
                   size_t outer, size_t channels, size_t inner, const double *scale,
                   const double *zero_point, void *out, unsigned threads);

/* What runs a function on several threads at once and waits for all: OpenMP's GOMP_parallel. */
typedef void ff_team(void (*work)(void *), void *what, unsigned threads, unsigned flags);

/* Writes sums[row][o], the sum over i < inputs of x[row][i] * w[o][i]: exact, as at most 131,071 inputs
 * stay within int32. x: [rows][inputs], w: [outputs][inputs]. Returns 1 if memory lacks, or 0. */
int ff_int8_product(enum ff_isa isa, const int8_t *x, size_t rows, const int8_t *w, size_t outputs,
                    size_t inputs, int32_t *sums);

/* Writes the values of integer products: sums * (row_scale * column_scale) + bias, each operation
 * rounded in double, the result to float (ties to even, Inf beyond its range). sums, out:
 * [rows][columns], C order. bias: one a column, or NULL. other, unless NULL, is added before bias;
 * shaped as sums. row_scale: the product with any column_scale is a double. The parts are shared out
 * to the threads of a team, unless that is NULL. */
void ff_dequantize_sums(enum ff_isa isa, const int32_t *sums, size_t rows, size_t columns,
                        const double *row_scale, const float *column_scale, const double *other,
                        const float *bias, float *out, ff_team *team, unsigned threads);

/* Writes ff_dequantize_sums of ff_int8_product. Returns 1 if memory lacks, or 0. */
int ff_int8_linear(enum ff_isa isa, const int8_t *x, size_t rows, const int8_t *w, size_t outputs,
                   size_t inputs, const double *row_scale, const float *column_scale,
                   const double *other, const float *bias, float *out, ff_team *team,
                   unsigned threads);

/* Writes table[codes] * scale, rounded and clamped as by ff_dequantize. table: 256 finite values, of
 * which the first `entries` are in use: codes are less. */
void ff_dequantize_table(enum ff_isa isa, enum ff_type type, const uint8_t *codes, size_t outer,
                         size_t channels, size_t inner, const double *scale, const double *table,
                         int entries, void *out, unsigned threads);

/* The same for 4-bit codes that are packed, two a byte, the first in its low bits; an outer length of
 * 1, and inner even. table: 16 finite values. */
void ff_dequantize_packed(enum ff_isa isa, enum ff_type type, const uint8_t *packed,
                          size_t channels, size_t inner, const double *scale, const double *table,
                          void *out, unsigned threads);
