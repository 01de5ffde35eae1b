/* CPU detection, the floating-point environment, and one line through the table a function. */
#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <xmmintrin.h>

/* Clang's __builtin_cpu_supports does not know "f16c": CPUID leaf 1, ECX bit 29. */
static int has_f16c(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx >> 29 & 1);
}

static uint64_t read_environment(void) { return _mm_getcsr(); }
static void write_environment(uint64_t bits) { _mm_setcsr((uint32_t)bits); }
enum { DEFAULT_ENVIRONMENT = 0x1f80 }; /* MXCSR: nearest even, all masked, no FTZ, no DAZ */

#elif defined(__aarch64__)

static uint64_t read_environment(void)
{
    uint64_t bits;
    __asm__ volatile("mrs %0, fpcr" : "=r"(bits));
    return bits;
}
static void write_environment(uint64_t bits) { __asm__ volatile("msr fpcr, %0" : : "r"(bits)); }
enum { DEFAULT_ENVIRONMENT = 0 }; /* FPCR: nearest even, no traps, no FZ */

#else
#error "floatfmt knows the floating-point environment of x86-64 and AArch64 only"
#endif

uint64_t ff_default_float_environment(void)
{
    const uint64_t saved = read_environment();
    write_environment(DEFAULT_ENVIRONMENT);
    return saved;
}

void ff_restore_float_environment(uint64_t saved) { write_environment(saved); }

const struct ff_kernels *ff_table(enum ff_isa isa)
{
#if defined(__x86_64__)
    if (isa == FF_AVX512)
        return &ff_kernels_avx512;
    if (isa == FF_AVX2)
        return &ff_kernels_avx2;
#endif
    (void)isa;
    return &ff_kernels_baseline;
}

int ff_isa_built(enum ff_isa isa)
{
    return isa == FF_BASELINE || ff_table(isa) != &ff_kernels_baseline;
}

int ff_isa_supported(enum ff_isa isa)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (isa == FF_AVX2)
        return __builtin_cpu_supports("avx2") && has_f16c();
    if (isa == FF_AVX512)
        return ff_isa_supported(FF_AVX2) && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
#endif
    return isa == FF_BASELINE;
}

const char *ff_compiler(void)
{
#if defined(__clang__)
    return "Clang " __clang_version__;
#elif defined(__GNUC__)
    return "GCC " __VERSION__;
#else
    return "unknown";
#endif
}

/* build_ffi.py defines it; a compiler called by hand need not. */
#ifndef FLOATFMT_COMPILE_FLAGS
#define FLOATFMT_COMPILE_FLAGS "unknown"
#endif

const char *ff_compile_flags(void) { return FLOATFMT_COMPILE_FLAGS; }

/* The kernel is called through a pointer between the two, so no compiler moves its arithmetic. */
#define IN_DEFAULT_ENVIRONMENT(call)                                                               \
    const uint64_t saved = ff_default_float_environment();                                         \
    call;                                                                                          \
    ff_restore_float_environment(saved)

int ff_f16c(enum ff_rounding rounding, const float *values, uint16_t *codes, size_t n)
{
    int missing = 1;
#if defined(__x86_64__)
    if (ff_isa_supported(FF_AVX2)) {
        IN_DEFAULT_ENVIRONMENT(missing = ff_f16c_avx2(rounding, values, codes, n));
    }
#else
    (void)rounding, (void)values, (void)codes, (void)n;
#endif
    return missing;
}

void ff_decompose(enum ff_isa isa, const struct ff_format *format, const void *codes, uint8_t *sign,
                  void *exponent, void *fraction, size_t n)
{
    IN_DEFAULT_ENVIRONMENT(ff_table(isa)->decompose(format, codes, sign, exponent, fraction, n));
}

int ff_compose(enum ff_isa isa, const struct ff_format *format, const uint8_t *sign,
               const void *exponent, const void *fraction, void *codes, size_t n)
{
    int stray;
    IN_DEFAULT_ENVIRONMENT(
        stray = ff_table(isa)->compose(format, sign, exponent, fraction, codes, n));
    return stray;
}

static size_t type_bytes(enum ff_type type)
{
    static const uint8_t bytes[] = {[FF_F64] = 8, [FF_F32] = 4, [FF_F16] = 2, [FF_BF16] = 2};
    return bytes[type];
}

/* Whether n elements here and there overlap or are not aligned; none are neither. */
static int is_tangled(const void *x, size_t x_bytes, const void *y, size_t y_bytes, size_t n)
{
    const uintptr_t a = (uintptr_t)x, b = (uintptr_t)y;
    const int overlap = a < b + n * y_bytes && b < a + n * x_bytes;
    return n != 0 && (overlap || a % x_bytes != 0 || b % y_bytes != 0);
}

int ff_encode(enum ff_isa isa, enum ff_type type, const struct ff_format *format,
              const struct ff_rules *rules, uint64_t seed, uint64_t start, const void *values,
              void *codes, size_t n)
{
    int stray;
    if (is_tangled(values, type_bytes(type), codes, code_bytes(*format), n))
        return -1;
    IN_DEFAULT_ENVIRONMENT(
        stray = ff_table(isa)->encode[type](format, rules, seed, start, values, codes, n));
    return stray;
}

int ff_decode(enum ff_isa isa, enum ff_type type, const struct ff_format *format,
              const void *codes, void *values, size_t n)
{
    if (is_tangled(values, type_bytes(type), codes, code_bytes(*format), n))
        return -1;
    IN_DEFAULT_ENVIRONMENT(ff_table(isa)->decode[type](format, codes, values, n));
    return 0;
}

int ff_round_to(enum ff_isa isa, enum ff_type type, const struct ff_format *format,
                const struct ff_rules *rules, uint64_t seed, uint64_t start, const void *values,
                void *out, size_t n)
{
    int stray;
    IN_DEFAULT_ENVIRONMENT(
        stray = ff_table(isa)->round_to[type](format, rules, seed, start, values, out, n));
    return stray;
}

void ff_pack(enum ff_isa isa, const uint8_t *codes, uint8_t *packed, int bits, int high_first,
             size_t n)
{
    ff_table(isa)->pack(codes, packed, bits, high_first, n);
}

void ff_unpack(enum ff_isa isa, const uint8_t *packed, uint8_t *codes, int bits, int high_first,
               size_t n)
{
    ff_table(isa)->unpack(packed, codes, bits, high_first, n);
}

void ff_amax(enum ff_isa isa, enum ff_type type, const void *x, size_t outer, size_t channels,
             size_t inner, double *amax)
{
    IN_DEFAULT_ENVIRONMENT(ff_table(isa)->amax[type](x, outer, channels, inner, amax));
}

void ff_minmax(enum ff_isa isa, enum ff_type type, const void *x, size_t outer, size_t channels,
               size_t inner, double *low, double *high)
{
    IN_DEFAULT_ENVIRONMENT(ff_table(isa)->minmax[type](x, outer, channels, inner, low, high));
}

void ff_absmax_scale(enum ff_isa isa, const struct ff_format *format, const double *amax,
                     double largest, double *scale, size_t n)
{
    IN_DEFAULT_ENVIRONMENT(ff_table(isa)->absmax_scale(format, amax, largest, scale, n));
}

void ff_power_scale(enum ff_isa isa, enum ff_power_rule rule, double largest, int fraction_bits,
                    const double *amax, double *scale, size_t n)
{
    IN_DEFAULT_ENVIRONMENT(ff_table(isa)->power_scale(rule, largest, fraction_bits, amax, scale, n));
}

void ff_zeropoint_parameters(enum ff_isa isa, const struct ff_format *format, const double *low,
                             const double *high, int qmin, int qmax, double *scale,
                             double *zero_point, size_t n)
{
    IN_DEFAULT_ENVIRONMENT(ff_table(isa)->zeropoint_parameters(format, low, high, qmin, qmax, scale,
                                                            zero_point, n));
}

int64_t ff_quantize(enum ff_isa isa, enum ff_type type, const void *x, size_t outer,
                    size_t channels, size_t inner, const double *scale, const double *zero_point,
                    int qmin, int qmax, uint8_t *codes)
{
    int64_t clamped;
    IN_DEFAULT_ENVIRONMENT(clamped = ff_table(isa)->quantize[type](x, outer, channels, inner, scale,
                                                                zero_point, qmin, qmax, codes));
    return clamped;
}

int64_t ff_quantize_absmax(enum ff_isa isa, enum ff_type type, const void *x, size_t channels,
                           size_t inner, const struct ff_scaling *scaling, int qmax, int packs,
                           double *scale, uint8_t *codes)
{
    int64_t clamped;
    IN_DEFAULT_ENVIRONMENT(clamped = ff_table(isa)->quantize_absmax[type](
                               x, channels, inner, scaling, qmax, packs, scale, codes));
    return clamped;
}

int64_t ff_quantize_range(enum ff_isa isa, enum ff_type type, const void *x, size_t channels,
                          size_t inner, const struct ff_format *scale_format, int includes_zero,
                          int qmin, int qmax, double *scale, double *zero_point, uint8_t *codes)
{
    int64_t clamped;
    IN_DEFAULT_ENVIRONMENT(clamped = ff_table(isa)->quantize_range[type](
                               x, channels, inner, scale_format, includes_zero, qmin, qmax, scale,
                               zero_point, codes));
    return clamped;
}

int64_t ff_quantize_intervals_absmax(enum ff_isa isa, enum ff_type type, const void *x,
                                     size_t channels, size_t inner,
                                     const struct ff_scaling *scaling,
                                     const struct ff_intervals *intervals, int packs,
                                     double *scale, uint8_t *codes)
{
    int64_t clamped;
    IN_DEFAULT_ENVIRONMENT(clamped = ff_table(isa)->quantize_intervals_absmax[type](
                               x, channels, inner, scaling, intervals, packs, scale, codes));
    return clamped;
}

int64_t ff_quantize_intervals(enum ff_isa isa, enum ff_type type, const void *x, size_t outer,
                              size_t channels, size_t inner, const double *scale,
                              const struct ff_intervals *intervals, uint8_t *codes)
{
    int64_t clamped;
    IN_DEFAULT_ENVIRONMENT(clamped = ff_table(isa)->quantize_intervals[type](
                               x, outer, channels, inner, scale, intervals, codes));
    return clamped;
}

int64_t ff_quantize_format_absmax(enum ff_isa isa, enum ff_type type, const void *x,
                                  size_t channels, size_t inner, const struct ff_scaling *scaling,
                                  const struct ff_format *format, const struct ff_rules *rules,
                                  double low, double high, double *scale, uint8_t *codes)
{
    int64_t clamped;
    IN_DEFAULT_ENVIRONMENT(clamped = ff_table(isa)->quantize_format_absmax[type](
                               x, channels, inner, scaling, format, rules, low, high, scale, codes));
    return clamped;
}

int64_t ff_quantize_format(enum ff_isa isa, enum ff_type type, const void *x, size_t outer,
                           size_t channels, size_t inner, const double *scale,
                           const struct ff_format *format, const struct ff_rules *rules, double low,
                           double high, uint8_t *codes)
{
    int64_t clamped;
    IN_DEFAULT_ENVIRONMENT(clamped = ff_table(isa)->quantize_format[type](
                               x, outer, channels, inner, scale, format, rules, low, high, codes));
    return clamped;
}

void ff_dequantize(enum ff_isa isa, enum ff_type type, const uint8_t *codes, int is_signed,
                   size_t outer, size_t channels, size_t inner, const double *scale,
                   const double *zero_point, void *out)
{
    IN_DEFAULT_ENVIRONMENT(ff_table(isa)->dequantize[type](codes, is_signed, outer, channels, inner,
                                                        scale, zero_point, out));
}

void ff_dequantize_table(enum ff_isa isa, enum ff_type type, const uint8_t *codes, size_t outer,
                         size_t channels, size_t inner, const double *scale, const double *table_,
                         int entries, void *out)
{
    IN_DEFAULT_ENVIRONMENT(ff_table(isa)->dequantize_table[type](codes, outer, channels, inner, scale,
                                                              table_, entries, out));
}

void ff_dequantize_packed(enum ff_isa isa, enum ff_type type, const uint8_t *packed,
                          size_t channels, size_t inner, const double *scale,
                          const double *table_, void *out)
{
    IN_DEFAULT_ENVIRONMENT(
        ff_table(isa)->dequantize_packed[type](packed, channels, inner, scale, table_, out));
}
