/* Bit primitives, one value at a time, free of branches so that loops around them vectorise.
 * Included inside each ISA's region, after kernels.h. */

#define FF_INLINE static inline __attribute__((always_inline))

static const struct ff_format FP16 = {5, 10, 15};
static const struct ff_format BF16 = {8, 7, 127};
static const struct ff_format TF32 = {8, 10, 127};
static const struct ff_format FP32 = {8, 23, 127};

FF_INLINE uint32_t bits_of_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

FF_INLINE float float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

FF_INLINE uint64_t bits_of_double(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

FF_INLINE double double_of_bits(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Returns 2^e for -1074 <= e <= 1023. */
FF_INLINE double power_of_two(int e)
{
    return e >= -1022 ? double_of_bits((uint64_t)(e + 1023) << 52)
                      : double_of_bits(UINT64_C(1) << (e + 1074));
}

/* Rounds a binary32 or binary64 pattern to a code of format f: nearest, ties to even.
 *
 *   biased   the value's exponent field in f; below 1 it lies among f's subnormals
 *   drop     significand bits that f does not keep; 2 more than there are leaves nothing but 0
 *   code     the rounded significand, whose hidden bit adds the first exponent step, on top of the
 *            exponent: a carry out of the fraction walks into the exponent by itself
 *
 * One text, two widths: U is the pattern's unsigned type, I the signed one, M its fraction bits,
 * E its exponent bits. */
#define FF_DEFINE_ENCODE(name, U, I, M, E)                                                         \
    FF_INLINE U name(U bits, struct ff_format f)                                                   \
    {                                                                                              \
        const U one = 1, fraction_mask = (one << (M)) - 1;                                         \
        const U source_infinity = ((one << (E)) - 1) << (M);                                       \
        const U m = (U)f.fraction_bits;                                                            \
        const U infinity = ((one << f.exponent_bits) - 1) << m;                                    \
        const U magnitude = bits & (source_infinity | fraction_mask);                              \
        const U exponent = magnitude >> (M);                                                       \
        const U significand = (magnitude & fraction_mask) | ((U)(exponent != 0) << (M));           \
        const I biased = (I)(exponent | (exponent == 0)) - ((1 << ((E)-1)) - 1) + f.bias;          \
        const U deeper = (U)(biased < 1 ? 1 - biased : 0);                                         \
        const U wanted = (U)(M)-m + deeper;                                                        \
        const U drop = wanted < (M) + 2 ? wanted : (M) + 2;                                        \
        const U half = (one << drop) >> 1;                                                         \
        const U odd = (significand >> drop) & (half != 0);                                         \
        const U rounded = (significand + (half - (half != 0)) + odd) >> drop;                      \
        U code = rounded + ((U)(biased > 1 ? biased - 1 : 0) << m);                                \
        code = code < infinity ? code : infinity;                                                  \
        code = magnitude >= source_infinity ? infinity : code;                                     \
        const U payload = (magnitude & fraction_mask) >> ((U)(M)-m);                               \
        const U nan = infinity | (one << (m - 1)) | payload;                                       \
        code = magnitude > source_infinity ? nan : code;                                           \
        return code | ((bits >> ((M) + (E))) << (f.exponent_bits + f.fraction_bits));              \
    }
FF_DEFINE_ENCODE(encode32, uint32_t, int32_t, 23, 8)
FF_DEFINE_ENCODE(encode64, uint64_t, int64_t, 52, 11)

/* The same codes from a format whose binades lie well inside binary64's (max_exponent + 53 below
 * 1023, fraction_bits <= 50): no shift by a count that varies, which compilers do not vectorise.
 *
 *   binade   the power of two at or below |x|, kept within f's range
 *   magic    the binade whose ulp is f's spacing at x: |x| + magic rounds to that spacing, ties to
 *            even, and the sum's pattern less magic's is the rounded significand */
FF_INLINE uint64_t encode64_inside(uint64_t bits, struct ff_format f)
{
    const int m = f.fraction_bits, first = 1 - f.bias, last = (1 << f.exponent_bits) - 2 - f.bias;
    const uint64_t infinity = (((uint64_t)1 << f.exponent_bits) - 1) << m;
    const uint64_t source_infinity = UINT64_C(0x7ff0000000000000);
    const uint64_t magnitude = bits & UINT64_C(0x7fffffffffffffff);
    const double lowest = power_of_two(first), beyond = power_of_two(last + 1);
    double binade = double_of_bits(magnitude & source_infinity);
    binade = binade > lowest ? binade : lowest;
    binade = binade < beyond ? binade : beyond;
    const double magic = binade * power_of_two(52 - m);
    const uint64_t rounded =
        bits_of_double(double_of_bits(magnitude) + magic) - bits_of_double(magic);
    const uint64_t exponent = (bits_of_double(binade) - bits_of_double(lowest)) >> 52;
    uint64_t code = rounded + (exponent << m);
    code = code < infinity ? code : infinity;
    const uint64_t payload = (magnitude & UINT64_C(0x000fffffffffffff)) >> (52 - m);
    const uint64_t nan = infinity | ((uint64_t)1 << (m - 1)) | payload;
    code = magnitude > source_infinity ? nan : code;
    return code | ((bits >> 63) << (f.exponent_bits + m));
}

/* The same codes for a format with binary32's own binades (its exponent_bits and bias). */
FF_INLINE uint32_t encode32_alike(uint32_t bits, struct ff_format f)
{
    const int drop = 23 - f.fraction_bits;
    const uint32_t magnitude = bits & 0x7fffffff, half = (1u << drop) >> 1;
    const uint32_t odd = (magnitude >> drop) & (half != 0);
    const uint32_t rounded = (magnitude + (half - (half != 0)) + odd) >> drop;
    const uint32_t nan = (magnitude >> drop) | (1u << (f.fraction_bits - 1));
    const uint32_t code = magnitude > 0x7f800000 ? nan : rounded;
    return code | ((bits >> 31) << (8 + f.fraction_bits));
}

/* Returns the pattern of a code's value. `tiny` is f's smallest subnormal as a value of the wide
 * type: subnormals are fraction * tiny, exactly. Where both formats have the same binades (f.bias
 * is the wide bias) subnormals only shift, and no lane pays for subnormal products.
 *
 * BIG has the value 2^M, so BIG | fraction is the float 2^M + fraction. */
#define FF_DEFINE_DECODE(name, U, F, M, E, BIG, to_bits, of_bits)                                  \
    FF_INLINE U name(U code, struct ff_format f, F tiny)                                           \
    {                                                                                              \
        const U one = 1, wide_bias = (one << ((E)-1)) - 1;                                         \
        const U m = (U)f.fraction_bits, shift = (U)(M)-m;                                          \
        const U top = (one << f.exponent_bits) - 1;                                                \
        const U magnitude = code & ((one << (f.exponent_bits + f.fraction_bits)) - 1);             \
        const U exponent = magnitude >> m;                                                         \
        const U fraction = magnitude & ((one << m) - 1);                                           \
        const U infinity = ((one << (E)) - 1) << (M);                                              \
        U wide = (magnitude << shift) + ((wide_bias - (U)f.bias) << (M));                          \
        if (wide_bias != (U)f.bias) {                                                              \
            const U subnormal = to_bits((of_bits((BIG) | fraction) - of_bits(BIG)) * tiny);        \
            wide = exponent == 0 ? subnormal : wide;                                               \
        }                                                                                          \
        wide = exponent == top ? infinity | (fraction << shift) : wide;                            \
        return wide | ((code >> (f.exponent_bits + f.fraction_bits)) << ((M) + (E)));              \
    }
FF_DEFINE_DECODE(decode32, uint32_t, float, 23, 8, UINT32_C(0x4B000000), bits_of_float,
                 float_of_bits)
FF_DEFINE_DECODE(decode64, uint64_t, double, 52, 11, UINT64_C(0x4330000000000000), bits_of_double,
                 double_of_bits)

FF_INLINE double smallest_subnormal(struct ff_format f)
{
    return power_of_two(1 - f.bias - f.fraction_bits);
}

/* rint, ties to even, for any finite or infinite x: beyond 2^52 every double is an integer. */
FF_INLINE double round_half_even(double x)
{
    const double big = 4503599627370496.0; /* 2^52 */
    const double magnitude = double_of_bits(bits_of_double(x) & UINT64_C(0x7fffffffffffffff));
    const double rounded = (magnitude + big) - big;
    const double result = magnitude < big ? rounded : magnitude;
    return double_of_bits(bits_of_double(result) |
                          (bits_of_double(x) & UINT64_C(0x8000000000000000)));
}
