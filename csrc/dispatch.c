/* What this machine and this build have, and the floating-point environment. */
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

int ff_f16c(enum ff_rounding rounding, const float *values, uint16_t *codes, size_t n)
{
    int missing = 1;
#if defined(__x86_64__)
    if (ff_isa_supported(FF_AVX2)) {
        const uint64_t saved = ff_default_float_environment();
        missing = ff_f16c_avx2(rounding, values, codes, n);
        ff_restore_float_environment(saved);
    }
#else
    (void)rounding, (void)values, (void)codes, (void)n;
#endif
    return missing;
}
