/* The integer quantisers. Part of kernels.inc.h, after convert.inc.h. */

/* --- amax, minmax ------------------------------------------------------------------------------ */

/* Patterns are compared as signed integers of their own width (I): magnitudes are in order as they
 * are, values once a negative's other bits are flipped. Inf and NaN lie beyond every finite value,
 * so one reduction finds the extremes and whether all is finite. */
#define FF_MAGNITUDE(I, MAX, bits) (I)((bits) & (MAX))
#define FF_ORDER(I, MAX, bits) (I)((bits) ^ (((bits) < 0 ? -1 : 0) & (MAX)))

FF_INLINE double value_of_f64(int64_t bits) { return double_of_bits((uint64_t)bits); }
FF_INLINE double value_of_f32(int32_t bits) { return (double)float_of_bits((uint32_t)bits); }
FF_INLINE double value_of_bf16(int16_t bits)
{
    return (double)float_of_bits((uint32_t)(uint16_t)bits << 16);
}
FF_INLINE double value_of_f16(int16_t bits)
{
    return (double)float_of_bits(decode_fp16((uint16_t)bits));
}

/* A channel is `inner` neighbours in each of `outer` rows, `stride` elements apart; where inner is 1,
 * channels are columns and a block of them is carried down the rows: a wide one, for memory that is read
 * in order. */
enum { FF_COLUMNS = 1024 };
#define FF_DEFINE_REDUCTIONS(T, I, MAX, FIRST_LOW)                                                 \
    static I amax_run_##T(const I *restrict x, size_t n, I most)                                   \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            const I magnitude = FF_MAGNITUDE(I, MAX, x[i]);                                        \
            most = magnitude > most ? magnitude : most;                                            \
        }                                                                                          \
        return most;                                                                               \
    }                                                                                              \
    static void amax_columns_##T(const I *restrict x, size_t outer, size_t stride, size_t n,       \
                                 double *restrict amax)                                            \
    {                                                                                              \
        I most[FF_COLUMNS] = {0};                                                                  \
        for (size_t row = 0; row < outer; row++)                                                   \
            for (size_t i = 0; i < n; i++) {                                                       \
                const I magnitude = FF_MAGNITUDE(I, MAX, x[row * stride + i]);                     \
                most[i] = magnitude > most[i] ? magnitude : most[i];                               \
            }                                                                                      \
        for (size_t i = 0; i < n; i++)                                                             \
            amax[i] = value_of_##T(most[i]);                                                       \
    }                                                                                              \
    static void amax_##T(const void *x_, size_t outer, size_t stride, size_t channels,             \
                         size_t inner, double *amax)                                               \
    {                                                                                              \
        const I *x = x_;                                                                           \
        if (inner == 1 && channels > 1) {                                                          \
            for (size_t c = 0; c < channels; c += FF_COLUMNS)                                      \
                amax_columns_##T(x + c, outer, stride,                                             \
                                 channels - c < FF_COLUMNS ? channels - c : FF_COLUMNS, amax + c); \
            return;                                                                                \
        }                                                                                          \
        for (size_t c = 0; c < channels; c++) {                                                    \
            I most = 0;                                                                            \
            for (size_t o = 0; o < outer; o++)                                                     \
                most = amax_run_##T(x + o * stride + c * inner, inner, most);                      \
            amax[c] = value_of_##T(most);                                                          \
        }                                                                                          \
    }                                                                                              \
    static void minmax_run_##T(const I *restrict x, size_t n, I *low, I *high)                     \
    {                                                                                              \
        I least = *low, most = *high;                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            const I place = FF_ORDER(I, MAX, x[i]);                                                \
            least = place < least ? place : least;                                                 \
            most = place > most ? place : most;                                                    \
        }                                                                                          \
        *low = least;                                                                              \
        *high = most;                                                                              \
    }                                                                                              \
    static void minmax_columns_##T(const I *restrict x, size_t outer, size_t stride, size_t n,     \
                                   I *restrict low, I *restrict high)                              \
    {                                                                                              \
        for (size_t row = 0; row < outer; row++)                                                   \
            for (size_t i = 0; i < n; i++) {                                                       \
                const I place = FF_ORDER(I, MAX, x[row * stride + i]);                             \
                low[i] = place < low[i] ? place : low[i];                                          \
                high[i] = place > high[i] ? place : high[i];                                       \
            }                                                                                      \
    }                                                                                              \
    static void minmax_##T(const void *x_, size_t outer, size_t stride, size_t channels,           \
                           size_t inner, double *low, double *high)                                \
    {                                                                                              \
        const I *x = x_;                                                                           \
        const I infinity = FIRST_LOW, minus_infinity = FF_ORDER(I, MAX, (I)(infinity | ~(MAX)));   \
        I least[FF_COLUMNS], most[FF_COLUMNS];                                                     \
        const size_t step = inner == 1 && channels > 1 ? FF_COLUMNS : 1;                           \
        for (size_t c = 0; c < channels; c += step) {                                              \
            const size_t n = channels - c < step ? channels - c : step;                            \
            for (size_t i = 0; i < n; i++)                                                         \
                least[i] = infinity, most[i] = minus_infinity;                                     \
            if (step > 1)                                                                          \
                minmax_columns_##T(x + c, outer, stride, n, least, most);                          \
            else                                                                                   \
                for (size_t o = 0; o < outer; o++)                                                 \
                    minmax_run_##T(x + o * stride + c * inner, inner, least, most);                \
            for (size_t i = 0; i < n; i++) {                                                       \
                low[c + i] = value_of_##T(FF_ORDER(I, MAX, least[i]));                             \
                high[c + i] = value_of_##T(FF_ORDER(I, MAX, most[i]));                             \
            }                                                                                      \
        }                                                                                          \
    }
FF_DEFINE_REDUCTIONS(f64, int64_t, INT64_MAX, INT64_C(0x7ff0000000000000))
FF_DEFINE_REDUCTIONS(f32, int32_t, INT32_MAX, INT32_C(0x7f800000))
FF_DEFINE_REDUCTIONS(f16, int16_t, INT16_MAX, 0x7c00)
FF_DEFINE_REDUCTIONS(bf16, int16_t, INT16_MAX, 0x7f80)

/* --- scales ------------------------------------------------------------------------------------ */

/* What round_scale needs to know of the scales' format. */
struct scale_plan {
    struct any_plan encoding;
    struct decoding64 decoding;
    uint64_t first_normal; /* code; 0 where there is no zero, and so no subnormals */
    double steps[2];       /* their product is the smallest subnormal's reciprocal */
    int is_fp32;
};

static struct scale_plan scale_plan_of(struct ff_format f)
{
    const struct ff_rules saturating =
        saturating_rules(f, f.fraction_bits == 0 ? FF_TOWARD_POSITIVE : FF_NEAREST_EVEN);
    const int k = f.fraction_bits + f.bias - 1;
    return (struct scale_plan){
        .encoding = any_plan_of(f, &saturating),
        .decoding = decoding64_of(f),
        .first_normal = f.has_zero ? UINT64_C(1) << f.fraction_bits : 0,
        .steps = {power_of_two(k / 2), power_of_two(k - k / 2)}, /* one may be beyond double */
        .is_fp32 = is_format(f, FP32),
    };
}

/* The code of numerator / divisor, rounded up. */
FF_INLINE uint64_t subnormal_scale(double numerator, double divisor, const struct scale_plan *p)
{
    const double steps = numerator * p->steps[0] * p->steps[1] / divisor;
    const uint64_t whole = (uint64_t)steps;
    const uint64_t code = whole + (steps > (double)whole);
    return code + (code == 0); /* the division itself went below double */
}

/* Rounds numerator / divisor, of which quotient is the double: to nearest if normal in the format,
 * up if subnormal or it has no fraction, to the largest finite value beyond. */
FF_INLINE double round_scale(double numerator, double quotient, double divisor,
                             const struct scale_plan *p)
{
    const float narrow = (float)quotient; /* the usual case */
    if (p->is_fp32 && narrow >= FLT_MIN && narrow <= FLT_MAX)
        return (double)narrow;
    const double finite = quotient < DBL_MAX ? quotient : DBL_MAX;
    uint64_t code = encode_any(bits_of_double(finite), p->encoding, 0, 0);
    if (code < p->first_normal)
        code = subnormal_scale(numerator, divisor, p);
    return double_of_bits(decoding64_pattern(code, p->decoding));
}

/* What carries into the exponent of amax: any fraction at all; half a place of the elements or more;
 * more than the largest element's fraction. */
static uint64_t power_carry(enum ff_power_rule rule, double largest, int fraction_bits)
{
    const uint64_t fraction = UINT64_C(0x000fffffffffffff);
    switch (rule) {
    case FF_POWER_CEIL: return fraction;
    case FF_POWER_EVEN: return UINT64_C(1) << (51 - fraction_bits);
    case FF_POWER_RCEIL: return fraction - (bits_of_double(largest) & fraction);
    default: return 0;
    }
}

FF_INLINE double power_scale_of(double amax, uint64_t carry, int64_t top)
{
    const int64_t e = (int64_t)((bits_of_double(amax) + carry) >> 52) - top;
    const int64_t clamped = e < -127 ? -127 : e > 127 ? 127 : e;
    return amax == 0 ? 1 : double_of_bits((uint64_t)(clamped + 1023) << 52);
}

FF_LOOP void power_scales(const double *restrict amax, size_t n, uint64_t carry, int64_t top,
                          double *restrict scale)
{
    for (size_t i = 0; i < n; i++)
        scale[i] = power_scale_of(amax[i], carry, top);
}

static void power_scale(enum ff_power_rule rule, double largest, int fraction_bits,
                        const double *amax, double *scale, size_t n)
{
    power_scales(amax, n, power_carry(rule, largest, fraction_bits),
                 (int64_t)(bits_of_double(largest) >> 52), scale);
}

/* An ff_scaling, ready for use. */
struct scaling_plan {
    struct scale_plan rounding;
    double largest;
    uint64_t carry;
    int64_t top;
    int is_power;
};

static struct scaling_plan scaling_plan_of(const struct ff_scaling *s)
{
    const int is_power = s->power_rule >= 0;
    return (struct scaling_plan){
        .rounding = scale_plan_of(s->format),
        .largest = s->largest,
        .carry = is_power ? power_carry((enum ff_power_rule)s->power_rule, s->largest,
                                        s->fraction_bits)
                          : 0,
        .top = (int64_t)(bits_of_double(s->largest) >> 52),
        .is_power = is_power,
    };
}

/* The usual case: returns 0 unless every scale is a normal float32 or that of zeros. */
FF_LOOP int float_scales(const double *restrict amax, size_t n, double largest,
                         double *restrict scale)
{
    int64_t usual = -1;
    for (size_t i = 0; i < n; i++) {
        const double narrow = (double)(float)(amax[i] / largest);
        const int is_finite = narrow <= (double)FLT_MAX;
        const int64_t is_normal = -(int64_t)((narrow >= (double)FLT_MIN) & is_finite);
        const int64_t is_zero = -(int64_t)(amax[i] == 0);
        usual &= is_normal | is_zero;
        scale[i] = amax[i] == 0 ? 1 : narrow;
    }
    return usual != 0;
}

/* round_scale, step by step for all: n <= FF_CHUNK. */
FF_LOOP void any_scales(const double *restrict amax, size_t n, double largest,
                        const struct scale_plan *restrict p, double *restrict scale)
{
    uint64_t quotients[FF_CHUNK], codes[FF_CHUNK];
    quotients[0] = 0; /* of none, compilers cannot tell that nothing is read */
    for (size_t i = 0; i < n; i++) {
        const double quotient = amax[i] / largest;
        quotients[i] = bits_of_double(quotient < DBL_MAX ? quotient : DBL_MAX);
    }
    encode_any_block(&p->encoding, quotients, codes, n);
    for (size_t i = 0; i < n; i++)
        if (codes[i] < p->first_normal)
            codes[i] = subnormal_scale(amax[i], largest, p);
    for (size_t i = 0; i < n; i++)
        scale[i] = amax[i] == 0 ? 1 : double_of_bits(decoding64_pattern(codes[i], p->decoding));
}

/* n <= FF_CHUNK. */
static void scales_of(const double *amax, size_t n, const struct scaling_plan *p, double *scale)
{
    if (p->is_power)
        power_scales(amax, n, p->carry, p->top, scale);
    else if (!p->rounding.is_fp32 || !float_scales(amax, n, p->largest, scale))
        any_scales(amax, n, p->largest, &p->rounding, scale);
}

static void absmax_scale(const struct ff_format *f, const double *amax, double largest,
                         double *scale, size_t n)
{
    const struct scaling_plan p = {.rounding = scale_plan_of(*f), .largest = largest};
    for (size_t i = 0; i < n; i += FF_CHUNK)
        scales_of(amax + i, n - i < FF_CHUNK ? n - i : FF_CHUNK, &p, scale + i);
}

static void range_parameters(const struct scale_plan *p, const double *low, const double *high,
                             int qmin, int qmax, double *scale, double *zero_point, size_t n)
{
    const int levels = qmax - qmin;
    const double limit = 0x1p62; /* only a scale that overflowed its format needs it */
    for (size_t i = 0; i < n; i++) {
        if (low[i] == high[i]) {
            const double size = low[i] < 0 ? -low[i] : low[i];
            scale[i] = size == 0 ? 1 : round_scale(size, size, 1, p);
            zero_point[i] = low[i] < 0 && qmin >= 0 ? qmin + 1 : 0; /* for a code of -1 */
            continue;
        }
        const double spread = high[i] - low[i];
        /* A spread beyond double is divided first: halving changes no bit of the quotient. */
        const double quotient = spread > DBL_MAX ? (high[i] / 2 - low[i] / 2) / (levels / 2.0)
                                                 : spread / levels;
        scale[i] = round_scale(spread, quotient, levels, p);
        double zero = round_half_even(qmin - low[i] / scale[i]);
        zero = zero < -limit ? -limit : zero;
        zero_point[i] = (zero > limit ? limit : zero) + 0.0; /* never -0 */
    }
}

static void zeropoint_parameters(const struct ff_format *f, const double *low, const double *high,
                                 int qmin, int qmax, double *scale, double *zero_point, size_t n)
{
    const struct scale_plan p = scale_plan_of(*f);
    range_parameters(&p, low, high, qmin, qmax, scale, zero_point, n);
}

/* --- quantize ---------------------------------------------------------------------------------- */

/* What each channel of a block needs; all_fast says whether float32 may decide for all of them. */
struct parameters {
    const double *scale, *zero_point;
    float reciprocal[FF_COLUMNS], guard[FF_COLUMNS], low[FF_COLUMNS], high[FF_COLUMNS];
    int32_t zero[FF_COLUMNS];
    int all_fast, qmin, qmax;
};

/* Float32 can decide a rounding where the scaled value is not near a tie. With t = x * reciprocal,
 * clamped to |t| <= bound, two roundings of relative 2^-24 and that of the reciprocal leave an
 * error below bound * 2^-23, so only |t - rint(t)| > 1/2 - bound * 2^-22 is in doubt. Beyond 2^12
 * the guard band would hold too many values, and outside 2^-126..2^126 the reciprocal is no normal
 * number. */
static void prepare(struct parameters *p, const double *scale, const double *zero_point, size_t n,
                    int qmin, int qmax)
{
    p->scale = scale;
    p->zero_point = zero_point;
    p->all_fast = 1;
    p->qmin = qmin;
    p->qmax = qmax;
    for (size_t i = 0; i < n; i++) {
        const double low = qmin - zero_point[i] - 1, high = qmax - zero_point[i] + 1;
        const double bound = -low > high ? -low : high;
        const int fast = bound <= 4096 && scale[i] >= 0x1p-126 && scale[i] <= 0x1p126;
        p->all_fast &= fast;
        p->reciprocal[i] = fast ? (float)(1 / scale[i]) : 0;
        p->guard[i] = fast ? (float)(0.5 - bound * 0x1p-22) : 0;
        p->low[i] = fast ? (float)low : 0;
        p->high[i] = fast ? (float)high : 0;
        p->zero[i] = fast ? (int32_t)zero_point[i] : 0;
    }
}

FF_INLINE int not_finite32(uint32_t bits) { return (bits & 0x7f800000) == 0x7f800000; }
FF_INLINE int not_finite64(uint64_t bits)
{
    return (bits & UINT64_C(0x7ff0000000000000)) == UINT64_C(0x7ff0000000000000);
}

/* The formula itself, in double: a code before it is clamped. */
FF_INLINE double exact_place(double x, double scale, double zero_point)
{
    return round_half_even(x / scale) + zero_point;
}

/* `each` is 1 if value i has parameters i, 0 if all share the first. Returns the number clamped, or
 * -1. */
#define FF_DEFINE_QUANTIZE_EXACTLY(T, NOT_FINITE, AS_DOUBLE)                                       \
    FF_INLINE int64_t quantize_exactly_##T(const void *restrict x, size_t n,                       \
                                           const struct parameters *restrict p, size_t each,       \
                                           uint8_t *restrict codes)                                \
    {                                                                                              \
        int64_t clamped = 0;                                                                       \
        int bad = 0;                                                                               \
        const double qmin = p->qmin, qmax = p->qmax;                                               \
        for (size_t i = 0; i < n; i++) {                                                           \
            bad |= NOT_FINITE(load_##T(x, i));                                                     \
            double q = exact_place(AS_DOUBLE(load_##T(x, i)), p->scale[i * each],                  \
                                   p->zero_point[i * each]);                                       \
            clamped += (q < qmin) | (q > qmax);                                                    \
            q = q < qmin ? qmin : q;                                                               \
            q = q > qmax ? qmax : q;                                                               \
            codes[i] = (uint8_t)(int32_t)(q == q ? q : 0);                                         \
        }                                                                                          \
        return bad ? -1 : clamped;                                                                 \
    }
#define FF_DOUBLE_OF_32(bits) ((double)float_of_bits(bits))
FF_DEFINE_QUANTIZE_EXACTLY(f64, not_finite64, double_of_bits)
FF_DEFINE_QUANTIZE_EXACTLY(f32, not_finite32, FF_DOUBLE_OF_32)

/* s = t + 1.5 * 2^23 has t rounded to an integer, ties to even, in its low bits. */
static const float FF_ROUNDER = 12582912.0f;

FF_INLINE float scaled_and_clipped(uint32_t bits, const struct parameters *p, size_t c)
{
    float t = float_of_bits(bits) * p->reciprocal[c];
    t = t < p->low[c] ? p->low[c] : t;
    return t > p->high[c] ? p->high[c] : t;
}

/* How far t is from s, as a pattern. */
FF_INLINE int32_t away_from(float t, float s)
{
    return (int32_t)(bits_of_float(t - (s - FF_ROUNDER)) & 0x7fffffff);
}

/* Eight bytes that are 0 or 1: what is set tells where from the lowest bit on, as x86-64 and AArch64 have
 * the first byte there. */
FF_INLINE uint64_t load_eight(const uint8_t *bytes)
{
    uint64_t eight;
    memcpy(&eight, bytes, sizeof eight);
    return eight;
}

/* Codes by the formula of finite values that lie near a tie; float32 has found the others, and counted
 * `clamped`: if that is 0, it has clamped none of these either. Returns how many are, all in all.
 * n <= FF_COLUMNS. */
FF_LOOP int64_t decide_f32(const void *restrict values, size_t n,
                           const struct parameters *restrict p, size_t each, int64_t clamped,
                           uint8_t *restrict codes)
{
    const uint32_t *const x = values;
    uint8_t in_doubt[FF_COLUMNS + 8];
    uint32_t found = 0;
    int64_t more = 0;
    memset(in_doubt + n, 0, 8);
    for (size_t i = 0; i < n; i++) {
        const size_t c = each ? i : 0;
        const float t = scaled_and_clipped(x[i], p, c);
        in_doubt[i] = away_from(t, t + FF_ROUNDER) > (int32_t)bits_of_float(p->guard[c]);
        found += in_doubt[i];
    }
    if (found > n / 16)
        return quantize_exactly_f32(x, n, p, each, codes);
    for (size_t from = 0; from < n; from += 8)
        for (uint64_t eight = load_eight(in_doubt + from); eight != 0; eight &= eight - 1) {
            const size_t i = from + (size_t)__builtin_ctzll(eight) / 8, c = each ? i : 0;
            const float s = scaled_and_clipped(x[i], p, c) + FF_ROUNDER;
            const int32_t near = (int32_t)(s - FF_ROUNDER) + p->zero[c];
            const double q =
                exact_place((double)float_of_bits(x[i]), p->scale[c], p->zero_point[c]);
            more -= (clamped > 0) & ((near < p->qmin) | (near > p->qmax));
            more += (q < p->qmin) | (q > p->qmax);
            codes[i] = (uint8_t)(int32_t)(q < p->qmin ? p->qmin : q > p->qmax ? p->qmax : q);
        }
    return clamped + more;
}

/* A block by float32, and by the formula what lies near a tie. */
FF_INLINE int64_t quantize_block_f32(const void *restrict values, size_t n,
                                     const struct parameters *restrict p, size_t each,
                                     uint8_t *restrict codes)
{
    const uint32_t *const x = values;
    if (!p->all_fast)
        return quantize_exactly_f32(x, n, p, each, codes);
    const uint32_t origin = bits_of_float(FF_ROUNDER);
    const int32_t qmin = p->qmin, qmax = p->qmax;
    uint32_t wide[FF_COLUMNS];
    int32_t within = 0, near = 0, most = 0;
    wide[0] = 0; /* of no values, compilers cannot tell that narrowing reads none */
    for (size_t i = 0; i < n; i++) {
        const size_t c = each ? i : 0;
        const int32_t magnitude = (int32_t)(x[i] & 0x7fffffff);
        most = magnitude > most ? magnitude : most;
        const float t = scaled_and_clipped(x[i], p, c), s = t + FF_ROUNDER;
        const int32_t size = away_from(t, s);
        const int32_t beyond = each ? size - (int32_t)bits_of_float(p->guard[c]) : size;
        near = beyond > near ? beyond : near;
        const int32_t q = (int32_t)(bits_of_float(s) + ((uint32_t)p->zero[c] - origin));
        int32_t code = q < qmin ? qmin : q;
        code = code > qmax ? qmax : code;
        within += q == code;
        wide[i] = (uint32_t)code;
    }
    narrow32_8(wide, codes, n);
    const int64_t clamped = (int64_t)n - within;
    if (most >= 0x7f800000)
        return -1;
    const int in_doubt = near > (each ? 0 : (int32_t)bits_of_float(p->guard[0]));
    return in_doubt ? decide_f32(x, n, p, each, clamped, codes) : clamped;
}

/* The same for values that are finite and not clamped, which the caller knows of them all. Returns
 * whether any lies near a tie. */
FF_INLINE int bounded_loop_f32(const void *restrict values, size_t n, float reciprocal,
                               float guard, uint32_t *restrict wide)
{
    const uint32_t *const x = values;
    int32_t near = 0;
    const int32_t limit = (int32_t)bits_of_float(guard);
    for (size_t i = 0; i < n; i++) {
        const float t = float_of_bits(x[i]) * reciprocal, s = t + FF_ROUNDER;
        const int32_t away = away_from(t, s);
        near = away > near ? away : near;
        wide[i] = bits_of_float(s);
    }
    return near > limit;
}

/* A block of which perhaps nothing is clamped, and no value is near a tie: what the loop that clamps
 * does with two thirds of its operations. Extremes of s tell afterwards; NaN is beyond both. A shift
 * by an odd zero point rounds ties the other way, but they are all in doubt. Returns FF_CLAMPED, and
 * then codes mean nothing, or FF_IN_DOUBT, where those near a tie do not, or 0. */
FF_LOOP int within_loop_f32(const void *restrict values, size_t n,
                            const struct parameters *restrict p, uint8_t *restrict codes)
{
    const uint32_t *const x = values;
    const float shift = FF_ROUNDER + (float)p->zero[0], reciprocal = p->reciprocal[0];
    const int32_t limit = (int32_t)bits_of_float(p->guard[0]);
    uint32_t wide[FF_BLOCK];
    int32_t near = 0, least = INT32_MAX, most = INT32_MIN;
    for (size_t i = 0; i < n; i++) {
        const float t = float_of_bits(x[i]) * reciprocal;
        const float s = t + shift;
        const int32_t away = (int32_t)(bits_of_float(t - (s - shift)) & 0x7fffffff);
        const int32_t place = (int32_t)bits_of_float(s);
        near = away > near ? away : near;
        least = place < least ? place : least;
        most = place > most ? place : most;
        wide[i] = (uint32_t)place;
    }
    const int32_t origin = (int32_t)bits_of_float(FF_ROUNDER);
    if (least < origin + p->qmin || most > origin + p->qmax)
        return FF_CLAMPED;
    narrow32_8(wide, codes, n);
    return near > limit ? FF_IN_DOUBT : 0;
}

/* Values of 16 bits become float32 first. n <= FF_COLUMNS; of within_loop FF_BLOCK. */
#define FF_DEFINE_QUANTIZE_16(T)                                                                   \
    static int64_t decide_##T(const void *x, size_t n, const struct parameters *p, size_t each,    \
                              int64_t clamped, uint8_t *codes)                                     \
    {                                                                                              \
        uint32_t wide[FF_COLUMNS];                                                                 \
        widen_##T(x, wide, n);                                                                     \
        return decide_f32(wide, n, p, each, clamped, codes);                                       \
    }                                                                                              \
    static int64_t quantize_exactly_##T(const void *x, size_t n, const struct parameters *p,       \
                                        size_t each, uint8_t *codes)                               \
    {                                                                                              \
        uint32_t wide[FF_COLUMNS];                                                                 \
        widen_##T(x, wide, n);                                                                     \
        return quantize_exactly_f32(wide, n, p, each, codes);                                      \
    }                                                                                              \
    static int64_t quantize_block_##T(const void *x, size_t n, const struct parameters *p,         \
                                      size_t each, uint8_t *codes)                                 \
    {                                                                                              \
        uint32_t wide[FF_COLUMNS];                                                                 \
        widen_##T(x, wide, n);                                                                     \
        return quantize_block_f32(wide, n, p, each, codes);                                        \
    }                                                                                              \
    FF_INLINE int bounded_loop_##T(const void *x, size_t n, float reciprocal, float guard,         \
                                   uint32_t *wide)                                                 \
    {                                                                                              \
        uint32_t values[FF_COLUMNS];                                                               \
        widen_##T(x, values, n);                                                                   \
        return bounded_loop_f32(values, n, reciprocal, guard, wide);                               \
    }                                                                                              \
    static int within_loop_##T(const void *x, size_t n, const struct parameters *p,                \
                               uint8_t *codes)                                                     \
    {                                                                                              \
        uint32_t wide[FF_BLOCK];                                                                   \
        widen_##T(x, wide, n);                                                                     \
        return within_loop_f32(wide, n, p, codes);                                                 \
    }
FF_DEFINE_QUANTIZE_16(f16)
FF_DEFINE_QUANTIZE_16(bf16)

/* Codes by a loop in codes.inc.h, and what it returns; -1 if there is none. */
#ifdef FF_HAS_CODES
#define FF_IN_BYTES(T, x, n, p, codes)                                                             \
    ((n) % 32 != 0 ? -1                                                                            \
                   : FF_WITHIN_BYTES(T, n)(x, codes, n, (p)->reciprocal[0], (p)->zero[0],          \
                                           (int32_t)bits_of_float((p)->guard[0]), (p)->qmin,       \
                                           (p)->qmax))
#else
#define FF_IN_BYTES(T, x, n, p, codes) -1
#endif
/* Blocks that are clamped without trying, after one that had to be. */
enum { FF_CLAMPED_BLOCKS = 15 };
#define FF_DEFINE_QUANTIZE_WITHIN(T)                                                               \
    static int within_##T(const void *x, size_t n, const struct parameters *p, uint8_t *codes)     \
    {                                                                                              \
        const int found = FF_IN_BYTES(T, x, n, p, codes);                                          \
        return found >= 0 ? found : within_loop_##T(x, n, p, codes);                               \
    }                                                                                              \
    /* Of values that are finite and not clamped. */                                               \
    static void quantize_bounded_##T(const void *restrict x, size_t n,                             \
                                     const struct parameters *restrict p, uint8_t *restrict codes) \
    {                                                                                              \
        uint32_t wide[FF_BLOCK];                                                                   \
        if (!p->all_fast) {                                                                        \
            quantize_exactly_##T(x, n, p, 0, codes);                                               \
            return;                                                                                \
        }                                                                                          \
        int found = FF_IN_BYTES(T, x, n, p, codes);                                                \
        if (found < 0) {                                                                           \
            found = bounded_loop_##T(x, n, p->reciprocal[0], p->guard[0], wide);                   \
            narrow32_8(wide, codes, n);                                                            \
        }                                                                                          \
        if (found != 0)                                                                            \
            decide_##T(x, n, p, 0, 0, codes);                                                      \
    }                                                                                              \
    FF_INLINE int64_t quantize_block_if_within_##T(const void *restrict x, size_t n,               \
                                                   const struct parameters *restrict p,            \
                                                   uint8_t *restrict codes, size_t *careful)       \
    {                                                                                              \
        if (*careful > 0 || !p->all_fast) {                                                        \
            *careful -= *careful > 0;                                                              \
            return quantize_block_##T(x, n, p, 0, codes);                                          \
        }                                                                                          \
        const int found = within_##T(x, n, p, codes);                                              \
        if (found == FF_CLAMPED) {                                                                 \
            *careful = FF_CLAMPED_BLOCKS;                                                          \
            return quantize_block_##T(x, n, p, 0, codes);                                          \
        }                                                                                          \
        return found == FF_IN_DOUBT ? decide_##T(x, n, p, 0, 0, codes) : 0;                        \
    }
FF_DEFINE_QUANTIZE_WITHIN(f32)
FF_DEFINE_QUANTIZE_WITHIN(f16)
FF_DEFINE_QUANTIZE_WITHIN(bf16)
#define quantize_block_f64 quantize_exactly_f64
#define quantize_bounded_f64(x, n, p, codes) ((void)quantize_exactly_f64(x, n, p, 0, codes))
#define quantize_block_if_within_f64(x, n, p, codes, careful)                                      \
    ((void)(careful), quantize_exactly_f64(x, n, p, 0, codes))

#define FF_DEFINE_QUANTIZE(T, I)                                                                   \
    static int64_t quantize_run_##T(const I *x, size_t n, const struct parameters *p,              \
                                    uint8_t *codes)                                                \
    {                                                                                              \
        const int streams = is_streamed(n * (sizeof *x + sizeof *codes)) && is_aligned(codes);     \
        int64_t clamped = 0;                                                                       \
        size_t careful = 0;                                                                        \
        for (size_t i = 0; i < n; i += FF_BLOCK) {                                                 \
            _Alignas(64) uint8_t lines[FF_BLOCK];                                                  \
            const size_t count = n - i < FF_BLOCK ? n - i : FF_BLOCK;                              \
            uint8_t *to = streams && count == FF_BLOCK ? lines : codes + i;                        \
            if (to == lines)                                                                       \
                prefetch_ahead(x + i, 4096, sizeof lines * sizeof *x);                             \
            const int64_t more = quantize_block_if_within_##T(x + i, count, p, to, &careful);      \
            if (more < 0)                                                                          \
                return -1;                                                                         \
            clamped += more;                                                                       \
            if (to == lines)                                                                       \
                stream(codes + i, lines, FF_BLOCK);                                                \
        }                                                                                          \
        end_of_stream();                                                                           \
        return clamped;                                                                            \
    }                                                                                              \
    static int64_t quantize_##T(const void *x_, size_t outer, size_t channels, size_t inner,       \
                                const double *scale, const double *zero_point, int qmin, int qmax, \
                                uint8_t *codes)                                                    \
    {                                                                                              \
        const I *x = x_;                                                                           \
        struct parameters p;                                                                       \
        const int columns = inner == 1 && channels > 1;                                            \
        const size_t step = columns ? FF_COLUMNS : 1;                                              \
        int64_t clamped = 0;                                                                       \
        for (size_t c = 0; c < channels; c += step) {                                              \
            const size_t n = channels - c < step ? channels - c : step;                            \
            prepare(&p, scale + c, zero_point + c, n, qmin, qmax);                                 \
            for (size_t o = 0; o < outer; o++) {                                                   \
                const size_t at = (o * channels + c) * inner;                                      \
                const int64_t more = columns ? quantize_block_##T(x + at, n, &p, 1, codes + at)    \
                                             : quantize_run_##T(x + at, inner, &p, codes + at);    \
                if (more < 0)                                                                      \
                    return -1;                                                                     \
                clamped += more;                                                                   \
            }                                                                                      \
        }                                                                                          \
        return clamped;                                                                            \
    }
FF_DEFINE_QUANTIZE(f64, int64_t)
FF_DEFINE_QUANTIZE(f32, int32_t)
FF_DEFINE_QUANTIZE(f16, int16_t)
FF_DEFINE_QUANTIZE(bf16, int16_t)

/* Asks for what is to be read after the n bytes at x, a channel of `inner` later. */
FF_INLINE void prefetch(const void *x, size_t n, size_t inner)
{
    prefetch_ahead(x, inner < 65536 ? inner : 65536, n);
}

/* Runs CALL with `count` for n, a constant for the usual lengths of blocks: loops of so few elements
 * take longer to start than to run. */
#define FF_SHORT(n, CALL)                                                                          \
    do {                                                                                           \
        if ((n) == 32) {                                                                           \
            const size_t count = 32;                                                               \
            CALL;                                                                                  \
        } else if ((n) == 64) {                                                                    \
            const size_t count = 64;                                                               \
            CALL;                                                                                  \
        } else {                                                                                   \
            const size_t count = n;                                                                \
            CALL;                                                                                  \
        }                                                                                          \
    } while (0)

/* How large a channel's values are: none is clamped, or beyond 16 times the larger end. */
enum { FF_FAR, FF_WITHIN_16, FF_BOUNDED };
FF_INLINE void set_extents(const double *restrict amax, const double *restrict scale, size_t n,
                           double low, double high, uint8_t *restrict extent)
{
    const double largest = high > -low ? high : -low;
    for (size_t i = 0; i < n; i++) {
        const int is_bounded = (amax[i] < high * scale[i]) & (-amax[i] > low * scale[i]);
        const int extent_of_others = amax[i] < 16 * largest * scale[i] ? FF_WITHIN_16 : FF_FAR;
        extent[i] = (uint8_t)(is_bounded ? FF_BOUNDED : extent_of_others);
    }
}

/* Writes the largest magnitudes of some channels, FF_CHUNK at most, and their scales if there is a
 * plan; returns 0 if a value is NaN or Inf. In steps, so that no channel waits for another's
 * division. */
#define FF_DEFINE_SCALES(T, I)                                                                     \
    FF_LOOP void amaxes_##T(const I *x, size_t channels, size_t inner, double *amax)               \
    {                                                                                              \
        for (size_t c = 0; c < channels; c++) {                                                    \
            I most;                                                                                \
            FF_SHORT(inner, most = amax_run_##T(x + c * inner, count, 0));                         \
            amax[c] = value_of_##T(most);                                                          \
        }                                                                                          \
    }                                                                                              \
    static int scales_##T(const I *x, size_t channels, size_t inner, const struct scaling_plan *p, \
                          double *restrict amax, double *restrict scale)                           \
    {                                                                                              \
        int is_finite = 1;                                                                         \
        amaxes_##T(x, channels, inner, amax);                                                      \
        for (size_t c = 0; c < channels; c++)                                                      \
            is_finite &= amax[c] <= DBL_MAX;                                                       \
        if (is_finite && p != NULL)                                                                \
            scales_of(amax, channels, p, scale);                                                   \
        return is_finite;                                                                          \
    }
FF_DEFINE_SCALES(f64, int64_t)
FF_DEFINE_SCALES(f32, int32_t)
FF_DEFINE_SCALES(f16, int16_t)
FF_DEFINE_SCALES(bf16, int16_t)

/* How many channels are looked at together: as many as fill a chunk, or one. */
FF_INLINE size_t channels_at_once(size_t inner, size_t channels)
{
    const size_t most = inner == 0 ? FF_CHUNK : FF_CHUNK / inner;
    return most < 1 ? 1 : most < channels ? most : channels;
}

/* What changes from channel to channel where there is no zero point. */
FF_INLINE void set_scale(struct parameters *p, const double *scale)
{
    p->scale = scale;
    p->all_fast = *scale >= 0x1p-126 && *scale <= 0x1p126;
    p->reciprocal[0] = (float)(1 / *scale);
}

/* Codes of channels that fit a chunk; of those where float32 is in doubt, once more. */
#define FF_DEFINE_QUANTIZE_CHANNELS(T, I)                                                          \
    FF_LOOP int64_t quantize_channels_##T(const I *x, size_t channels, size_t inner,               \
                                          struct parameters *p, const double *scale,               \
                                          const uint8_t *extent, uint8_t *codes)                   \
    {                                                                                              \
        uint32_t wide[FF_CHUNK];                                                                   \
        uint8_t again[FF_CHUNK];                                                                   \
        int64_t clamped = 0;                                                                       \
        int any = 0;                                                                               \
        wide[0] = 0; /* of no channels, as above */                                                \
        for (size_t c = 0; c < channels; c++) {                                                    \
            const size_t at = c * inner;                                                           \
            int near;                                                                              \
            set_scale(p, scale + c);                                                               \
            FF_SHORT(inner, near = bounded_loop_##T(x + at, count, p->reciprocal[0], p->guard[0],  \
                                                    wide + at));                                   \
            again[c] = (uint8_t)(near | !p->all_fast | (extent[c] != FF_BOUNDED));                 \
            any |= again[c];                                                                       \
        }                                                                                          \
        narrow32_8(wide, codes, channels * inner);                                                 \
        for (size_t c = 0; any && c < channels; c++) {                                             \
            if (!again[c])                                                                         \
                continue;                                                                          \
            set_scale(p, scale + c);                                                               \
            clamped += p->all_fast && extent[c] == FF_BOUNDED                                      \
                           ? decide_##T(x + c * inner, inner, p, 0, 0, codes + c * inner)          \
                           : quantize_run_##T(x + c * inner, inner, p, codes + c * inner);         \
        }                                                                                          \
        return clamped;                                                                            \
    }
FF_DEFINE_QUANTIZE_CHANNELS(f32, int32_t)
FF_DEFINE_QUANTIZE_CHANNELS(f16, int16_t)
FF_DEFINE_QUANTIZE_CHANNELS(bf16, int16_t)
static int64_t quantize_channels_f64(const int64_t *x, size_t channels, size_t inner,
                                     struct parameters *p, const double *scale,
                                     const uint8_t *extent, uint8_t *codes)
{
    int64_t clamped = 0;
    (void)extent;
    for (size_t c = 0; c < channels; c++) {
        set_scale(p, scale + c);
        clamped += quantize_run_f64(x + c * inner, inner, p, codes + c * inner);
    }
    return clamped;
}

/* Scales and codes while values are in the cache, and the next ones on their way there. */
#define FF_DEFINE_QUANTIZE_ABSMAX(T, I)                                                            \
    static int64_t quantize_long_##T(const I *x, size_t n, const struct parameters *p, int bounded,\
                                     size_t ahead, int packs, uint8_t *codes)                      \
    {                                                                                              \
        _Alignas(64) uint8_t lines[FF_BLOCK];                                                      \
        const int streams = !packs && !ahead && is_streamed(n * (sizeof *x + sizeof *codes)) &&    \
                            is_aligned(codes);                                                     \
        int64_t clamped = 0;                                                                       \
        for (size_t i = 0; i < n; i += FF_BLOCK) {                                                 \
            const size_t count = n - i < FF_BLOCK ? n - i : FF_BLOCK;                              \
            uint8_t *const to = packs || (streams && count == FF_BLOCK) ? lines : codes + i;       \
            if (ahead)                                                                             \
                prefetch(x + i, count * sizeof(I), ahead * sizeof(I));                             \
            else if (streams)                                                                      \
                prefetch_ahead(x + i, 4096, count * sizeof(I));                                    \
            if (bounded)                                                                           \
                quantize_bounded_##T(x + i, count, p, to);                                         \
            else                                                                                   \
                clamped += quantize_block_##T(x + i, count, p, 0, to);                             \
            if (packs)                                                                             \
                pack4(lines, codes + i / 2, 0, count);                                             \
            else if (to == lines)                                                                  \
                stream(codes + i, lines, sizeof lines);                                            \
        }                                                                                          \
        end_of_stream();                                                                           \
        return clamped;                                                                            \
    }                                                                                              \
    static int64_t quantize_absmax_##T(const void *x_, size_t channels, size_t inner,              \
                                       const struct ff_scaling *s, int qmax, int packs,            \
                                       double *scale, uint8_t *codes)                              \
    {                                                                                              \
        const struct scaling_plan plan = scaling_plan_of(s);                                       \
        const double zero = 0, one = 1, high = qmax + 0.25; /* rounded scales may exceed qmax */   \
        const size_t step = channels_at_once(inner, channels);                                     \
        double amax[FF_CHUNK];                                                                     \
        uint8_t extent[FF_CHUNK], loose[FF_CHUNK];                                                 \
        struct parameters p;                                                                       \
        int64_t clamped = 0;                                                                       \
        prepare(&p, &one, &zero, 1, -qmax, qmax);                                                  \
        for (size_t c = 0; c < channels; c += step) {                                              \
            const I *const x = (const I *)x_ + c * inner;                                          \
            const size_t some = channels - c < step ? channels - c : step, n = some * inner;       \
            uint8_t *const to = codes + c * inner / (packs ? 2 : 1);                               \
            if (!scales_##T(x, some, inner, &plan, amax, scale + c))                               \
                return -1;                                                                         \
            set_extents(amax, scale + c, some, -high, high, extent);                               \
            if (n > FF_CHUNK) {                                                                    \
                set_scale(&p, scale + c);                                                          \
                clamped += quantize_long_##T(x, n, &p, *extent == FF_BOUNDED,                      \
                                             c + 1 < channels ? inner : 0,                         \
                                             packs, to);                                           \
                continue;                                                                          \
            }                                                                                      \
            clamped += quantize_channels_##T(x, some, inner, &p, scale + c, extent,                \
                                             packs ? loose : to);                                  \
            if (packs)                                                                             \
                pack4(loose, to, 0, n);                                                            \
        }                                                                                          \
        return clamped;                                                                            \
    }
FF_DEFINE_QUANTIZE_ABSMAX(f64, int64_t)
FF_DEFINE_QUANTIZE_ABSMAX(f32, int32_t)
FF_DEFINE_QUANTIZE_ABSMAX(f16, int16_t)
FF_DEFINE_QUANTIZE_ABSMAX(bf16, int16_t)

/* The same from the least to the greatest value, and 0 if the range has to include it. */
#define FF_DEFINE_QUANTIZE_RANGE(T, I)                                                             \
    static int64_t quantize_range_##T(const void *x_, size_t channels, size_t inner,               \
                                      const struct ff_format *f, int includes_zero, int qmin,      \
                                      int qmax, double *scale, double *zero_point,                 \
                                      uint8_t *codes)                                              \
    {                                                                                              \
        const struct scale_plan plan = scale_plan_of(*f);                                          \
        const size_t step = channels_at_once(inner, channels);                                     \
        double low[FF_CHUNK], high[FF_CHUNK];                                                      \
        int64_t clamped = 0;                                                                       \
        for (size_t c = 0; c < channels; c += step) {                                              \
            const I *const x = (const I *)x_ + c * inner;                                          \
            const size_t some = channels - c < step ? channels - c : step;                         \
            minmax_##T(x, 1, 0, some, inner, low, high);                                           \
            if (c + some < channels)                                                               \
                prefetch(x, some * inner * sizeof(I), some * inner * sizeof(I));                   \
            for (size_t k = 0; k < some; k++) {                                                    \
                if (!(low[k] >= -DBL_MAX && high[k] <= DBL_MAX))                                   \
                    return -1;                                                                     \
                low[k] = includes_zero && low[k] > 0 ? 0 : low[k];                                 \
                high[k] = includes_zero && high[k] < 0 ? 0 : high[k];                              \
            }                                                                                      \
            range_parameters(&plan, low, high, qmin, qmax, scale + c, zero_point + c, some);       \
            for (size_t k = c; includes_zero && k < c + some; k++) {                               \
                zero_point[k] = zero_point[k] < qmin ? qmin : zero_point[k];                       \
                zero_point[k] = zero_point[k] > qmax ? qmax : zero_point[k];                       \
            }                                                                                      \
            clamped += quantize_##T(x, 1, some, inner, scale + c, zero_point + c, qmin, qmax,      \
                                    codes + c * inner);                                            \
        }                                                                                          \
        return clamped;                                                                            \
    }
FF_DEFINE_QUANTIZE_RANGE(f64, int64_t)
FF_DEFINE_QUANTIZE_RANGE(f32, int32_t)
FF_DEFINE_QUANTIZE_RANGE(f16, int16_t)
FF_DEFINE_QUANTIZE_RANGE(bf16, int16_t)

/* --- dequantize -------------------------------------------------------------------------------- */

FF_INLINE double clamp(double x, double largest)
{
    x = x > largest ? largest : x;
    return x < -largest ? -largest : x;
}

FF_INLINE void store_f64(void *out, size_t i, double x) { ((double *)out)[i] = clamp(x, DBL_MAX); }
FF_INLINE void store_f32(void *out, size_t i, double x)
{
    ((float *)out)[i] = (float)clamp(x, (double)FLT_MAX);
}
FF_INLINE void store_f16(void *out, size_t i, double x)
{
    ((uint16_t *)out)[i] = (uint16_t)encode64_inside(bits_of_double(clamp(x, 65504.0)), FP16);
}
FF_INLINE void store_bf16(void *out, size_t i, double x)
{
    const double largest = 0x1.fep127;
    ((uint16_t *)out)[i] = (uint16_t)encode64_inside(bits_of_double(clamp(x, largest)), BF16);
}

/* A code as an integer: flip is 128 where codes are signed bytes, else 0. */
FF_INLINE int32_t integer_of(uint8_t code, int32_t flip) { return (code ^ flip) - flip; }

#define FF_DEFINE_DEQUANTIZE_RUN(T)                                                                \
    FF_INLINE void dequantize_run_##T(const uint8_t *restrict codes, int32_t flip, size_t at,      \
                                      size_t n, const double *restrict scale,                      \
                                      const double *restrict zero_point, size_t each,              \
                                      void *restrict out)                                          \
    {                                                                                              \
        for (size_t i = 0; i < n; i++)                                                             \
            store_##T(out, at + i,                                                                 \
                      (integer_of(codes[at + i], flip) - zero_point[i * each]) * scale[i * each]); \
    }
FF_DEFINE_DEQUANTIZE_RUN(f64)
FF_DEFINE_DEQUANTIZE_RUN(f16)
FF_DEFINE_DEQUANTIZE_RUN(bf16)

/* One scale for all, exact in float32, a zero point that is an integer, and no value beyond float32's
 * range: the difference is exact, and rounding its product with the scale once to float32 is what going
 * through double does. `zero` is the zero point of bytes without a sign. */
struct float_scale {
    uint8_t flip;
    float scale, zero;
};
FF_INLINE void dequantize_some(struct float_scale p, const uint8_t *restrict codes,
                               float *restrict out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = ((float)(uint8_t)(codes[i] ^ p.flip) - p.zero) * p.scale;
}
FF_DEFINE_STREAMED(dequantize_float, (struct float_scale p, ), (p, ), uint8_t, float,
                   dequantize_some)

FF_INLINE void dequantize_run_f32(const uint8_t *restrict codes, int32_t flip, size_t at, size_t n,
                                  const double *restrict scale, const double *restrict zero_point,
                                  size_t each, void *restrict out)
{
    const float narrow = (float)clamp(scale[0], (double)FLT_MAX);
    const double zero = zero_point[0], farthest = (zero < 0 ? -zero : zero) + 255;
    const double largest = farthest * (narrow < 0 ? -narrow : narrow);
    if (each == 0 && narrow == scale[0] && farthest <= 0x1p22 && zero == round_half_even(zero) &&
        largest <= FLT_MAX) {
        const struct float_scale p = {(uint8_t)flip, narrow, (float)(zero + flip)};
        dequantize_float(p, codes + at, (float *)out + at, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        store_f32(out, at + i,
                  (integer_of(codes[at + i], flip) - zero_point[i * each]) * scale[i * each]);
}

#define FF_DEFINE_DEQUANTIZE(T)                                                                    \
    static void dequantize_##T(const uint8_t *codes, int is_signed, size_t outer, size_t channels, \
                               size_t inner, const double *scale, const double *zero_point,        \
                               void *out)                                                          \
    {                                                                                              \
        const int32_t flip = is_signed ? 128 : 0;                                                  \
        for (size_t o = 0; o < outer; o++) {                                                       \
            const size_t row = o * channels * inner;                                               \
            if (inner == 1 && channels > 1)                                                        \
                dequantize_run_##T(codes, flip, row, channels, scale, zero_point, 1, out);         \
            else                                                                                   \
                for (size_t c = 0; c < channels; c++)                                              \
                    dequantize_run_##T(codes, flip, row + c * inner, inner, scale + c,             \
                                       zero_point + c, 0, out);                                    \
        }                                                                                          \
    }
FF_DEFINE_DEQUANTIZE(f64)
FF_DEFINE_DEQUANTIZE(f16)
FF_DEFINE_DEQUANTIZE(bf16)
FF_DEFINE_DEQUANTIZE(f32)

/* --- sums of products --------------------------------------------------------------------------- */

/* Codes are widened to 16 bits, which every ISA multiplies and adds up in pairs: rows of x all at
 * once by int8_widen, weights as they are used. Where there are many rows they lie in panels of
 * FF_TILE_X: a pair of codes of each, then the next pair, so that a register holds sums of different
 * rows, none of which has to be added up across. */
enum { FF_TILE_X = FF_PANEL_ROWS, FF_TILE_W = 4, FF_PANEL = 1024 };

static void int8_widen(const int8_t *restrict x, size_t rows, size_t inputs, int is_paneled,
                       int16_t *restrict wide)
{
    if (!is_paneled) {
        for (size_t i = 0; i < rows * inputs; i++)
            wide[i] = x[i];
        return;
    }
    const size_t pairs = (inputs + 1) / 2;
    for (size_t first = 0; first < rows; first += FF_TILE_X, wide += pairs * 2 * FF_TILE_X) {
        memset(wide, 0, pairs * 2 * FF_TILE_X * sizeof *wide);
        const size_t some = rows - first < FF_TILE_X ? rows - first : FF_TILE_X;
        for (size_t row = 0; row < some; row++)
            for (size_t i = 0; i < inputs; i++)
                wide[(i / 2 * FF_TILE_X + row) * 2 + i % 2] = x[(first + row) * inputs + i];
    }
}

#ifndef FF_MULTIPLY_TILE
/* Writes the sums over pairs of the products of a panel and of FF_TILE_W rows of weights. */
static void multiply_tile(const int16_t *restrict x, const int16_t *restrict w, size_t stride,
                          size_t pairs, int32_t sums[FF_TILE_W][FF_TILE_X])
{
    for (int o = 0; o < FF_TILE_W; o++, w += stride) {
        int32_t own[FF_TILE_X] = {0};
        for (size_t i = 0; i < pairs; i++)
            for (size_t row = 0; row < FF_TILE_X; row++)
                own[row] += x[(i * FF_TILE_X + row) * 2] * w[2 * i] +
                            x[(i * FF_TILE_X + row) * 2 + 1] * w[2 * i + 1];
        memcpy(sums[o], own, sizeof own);
    }
}
#define FF_MULTIPLY_TILE multiply_tile
#endif

static int32_t dot_product(const int16_t *restrict x, const int8_t *restrict w, size_t n)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * w[i];
    return sum;
}

/* Adds what some inputs of at most FF_TILE_W rows of weights contribute to all rows of x. */
static void add_products(const int16_t *x, size_t rows, size_t inputs, const int16_t *w,
                         size_t outputs, size_t n, int32_t *sums, size_t stride)
{
    const size_t panel = (inputs + 1) / 2 * 2 * FF_TILE_X;
    for (size_t first = 0; first < rows; first += FF_TILE_X, x += panel) {
        int32_t found[FF_TILE_W][FF_TILE_X];
        FF_MULTIPLY_TILE(x, w, FF_PANEL, (n + 1) / 2, found);
        const size_t some = rows - first < FF_TILE_X ? rows - first : FF_TILE_X;
        for (size_t row = 0; row < some; row++)
            for (size_t o = 0; o < outputs; o++)
                sums[(first + row) * stride + o] += found[o][row];
    }
}

static void int8_product(const int16_t *x, size_t rows, int is_paneled, const int8_t *w,
                         size_t outputs, size_t inputs, int32_t *sums, size_t stride)
{
    if (!is_paneled) {
        for (size_t o = 0; o < outputs; o++)
            for (size_t row = 0; row < rows; row++)
                sums[row * stride + o] = dot_product(x + row * inputs, w + o * inputs, inputs);
        return;
    }
    int16_t wide[FF_TILE_W * FF_PANEL] = {0};
    for (size_t row = 0; row < rows; row++)
        memset(sums + row * stride, 0, outputs * sizeof *sums);
    for (size_t o = 0; o < outputs; o += FF_TILE_W)
        for (size_t start = 0; start < inputs; start += FF_PANEL) {
            const size_t n = inputs - start < FF_PANEL ? inputs - start : FF_PANEL;
            const size_t some = outputs - o < FF_TILE_W ? outputs - o : FF_TILE_W;
            for (size_t k = 0; k < some; k++)
                for (size_t i = 0; i < n; i++)
                    wide[k * FF_PANEL + i] = w[(o + k) * inputs + start + i];
            add_products(x + start * FF_TILE_X, rows, inputs, wide, some, n, sums + o, stride);
        }
}

static void dequantize_sums(const int32_t *sums, size_t sums_stride, size_t rows, size_t columns,
                            const double *row_scale, const float *restrict column_scale,
                            const double *other, const float *restrict bias, float *restrict out,
                            size_t stride)
{
    for (size_t row = 0; row < rows; row++, sums += sums_stride, out += stride) {
        const double scale = row_scale[row];
        if (other != NULL && bias != NULL)
            for (size_t i = 0; i < columns; i++)
                out[i] = (float)(sums[i] * (scale * column_scale[i]) + other[row * stride + i] + bias[i]);
        else if (other != NULL)
            for (size_t i = 0; i < columns; i++)
                out[i] = (float)(sums[i] * (scale * column_scale[i]) + other[row * stride + i]);
        else if (bias != NULL)
            for (size_t i = 0; i < columns; i++)
                out[i] = (float)(sums[i] * (scale * column_scale[i]) + bias[i]);
        else
            for (size_t i = 0; i < columns; i++)
                out[i] = (float)(sums[i] * (scale * column_scale[i]));
    }
}
