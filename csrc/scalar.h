/* Bit primitives, one value at a time, free of branches so that loops around them vectorise.
 * Included inside each ISA's region, after kernels.h. */

/* For loops that many call: one copy each, or the library grows tenfold. */
#define FF_LOOP static __attribute__((noinline))

/* Why a loop that is quick for usual values has not given their codes. */
enum { FF_IN_DOUBT = 1, FF_CLAMPED = 2 };

#define FF_IEEE(exponent_bits, fraction_bits, bias)                                                \
    {exponent_bits, fraction_bits, bias, FF_SIGN_MAGNITUDE, FF_NAN_IEEE, 1, 1}
static const struct ff_format FP16 = FF_IEEE(5, 10, 15);
static const struct ff_format BF16 = FF_IEEE(8, 7, 127);
static const struct ff_format TF32 = FF_IEEE(8, 10, 127);
static const struct ff_format FP32 = FF_IEEE(8, 23, 127);
static const struct ff_format FP64 = FF_IEEE(11, 52, 1023);
static const struct ff_format E8M0FNU = {8, 0, 127, FF_UNSIGNED, FF_NAN_TOP, 0, 0};

/* --- the CPU's own rounding ------------------------------------------------------------------- */

/* Has floating-point operations round by a mode, or toward zero where that is a step of it, until
 * turn_back: dispatch.c sees to it that they round to nearest even before. Both are volatile, and what
 * lies between reads and writes memory: tests of every mode would see an operation moved out. */
FF_INLINE void turn_to(int rounding)
{
#if defined(__SSE2__) /* MXCSR */
    enum { NEAREST = 0, UP = 2, DOWN = 1, ZERO = 3, PLACE = 13 };
#else /* FPCR */
    enum { NEAREST = 0, UP = 1, DOWN = 2, ZERO = 3, PLACE = 22 };
#endif
    static const uint8_t directions[] = {
        [FF_NEAREST_EVEN] = NEAREST, [FF_NEAREST_AWAY] = ZERO,    [FF_TOWARD_ZERO] = ZERO,
        [FF_TOWARD_POSITIVE] = UP,   [FF_TOWARD_NEGATIVE] = DOWN, [FF_TO_ODD] = ZERO,
    };
    const uint32_t direction = (uint32_t)directions[rounding] << PLACE;
#if defined(__SSE2__)
    _mm_setcsr((_mm_getcsr() & ~(UINT32_C(3) << PLACE)) | direction);
#else
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)direction));
#endif
}
FF_INLINE void turn_back(void) { turn_to(FF_NEAREST_EVEN); }

/* --- what follows from a format ---------------------------------------------------------------- */

FF_INLINE uint64_t magnitude_mask(struct ff_format f)
{
    return (UINT64_C(1) << (f.exponent_bits + f.fraction_bits)) - 1;
}

FF_INLINE uint64_t sign_bit(struct ff_format f)
{
    return f.sign == FF_UNSIGNED ? 0 : magnitude_mask(f) + 1;
}

/* Code of the largest finite value. */
FF_INLINE uint64_t max_code(struct ff_format f)
{
    if (f.nan == FF_NAN_IEEE)
        return magnitude_mask(f) - ((UINT64_C(1) << f.fraction_bits) - 1) - 1;
    return magnitude_mask(f) - (uint64_t)(f.has_infinity != 0) - (f.nan == FF_NAN_TOP);
}

/* Rules by which what overflows becomes the largest finite value, for finite values alone. */
static struct ff_rules saturating_rules(struct ff_format f, int rounding)
{
    const uint64_t largest = max_code(f);
    return (struct ff_rules){
        .rounding = rounding,
        .limit = {(int64_t)largest, (int64_t)largest},
        .overflow = {largest, largest | sign_bit(f)},
    };
}

FF_INLINE int is_format(struct ff_format f, struct ff_format g)
{
    return f.exponent_bits == g.exponent_bits && f.fraction_bits == g.fraction_bits &&
           f.bias == g.bias && f.sign == g.sign && f.nan == g.nan &&
           f.has_infinity == g.has_infinity && f.has_zero == g.has_zero;
}

/* --- bits -------------------------------------------------------------------------------------- */

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

/* --- rounding to any format, by any rules ------------------------------------------------------ */

/* A rounding mode as a row of data: what is added to a magnitude, in units of 2^-drop of its last
 * place, before the drop low bits fall. `add` by sign; `odd_add` more where the magnitude is odd. */
struct addends {
    uint64_t add[2], odd_add;
};

static struct addends addends_of(int rounding, int drop)
{
    const uint64_t unit = UINT64_C(1) << drop, half = unit >> 1, most = unit - 1;
    switch (rounding) {
    case FF_NEAREST_EVEN: return (struct addends){{half - 1, half - 1}, 1};
    case FF_NEAREST_AWAY: return (struct addends){{half, half}, 0};
    case FF_TOWARD_POSITIVE: return (struct addends){{most, 0}, 0};
    case FF_TOWARD_NEGATIVE: return (struct addends){{0, most}, 0};
    case FF_TO_ODD: return (struct addends){{most, most}, 0 - most};
    default: return (struct addends){{0, 0}, 0}; /* toward zero */
    }
}

/* What encode_any needs to know of a format and its rules. Pairs by sign are kept as the positive
 * one and what differs, so that a mask chooses.
 *
 *   ups         bit (what is lost) * 4 + odd * 2 + sign says whether a magnitude goes up, where lost
 *               is 0: nothing, 1: less than half, 2: half, 3: more
 *   zero_below  smaller magnitudes are zeros: 1, or the first normal one when subnormals are
 *               flushed; 0 for a format without zero
 *   sign, plus  a negative code is (magnitude ^ sign) + plus, in the bits of code_mask */
struct any_plan {
    int64_t fraction_bits, bias, first, limit, limit_differs, zero_below;
    uint64_t ups, overflow, overflow_differs, infinity, infinity_differs, zero, zero_differs;
    uint64_t nan, nan_differs, payload_mask, quiet, sign, plus, code_mask;
};

static struct any_plan any_plan_of(struct ff_format f, const struct ff_rules *r)
{
    /* Nearest even, nearest away, toward zero, positive, negative, to odd; stochastic has none. */
    static const uint16_t ups[] = {0xfc00, 0xff00, 0, 0x5550, 0xaaa0, 0x3330, 0};
    const uint64_t code_mask = sign_bit(f) | magnitude_mask(f);
    const int twos = f.sign == FF_TWOS_COMPLEMENT;
    return (struct any_plan){
        .fraction_bits = f.fraction_bits,
        .bias = f.bias,
        .first = f.has_zero,
        .limit = r->limit[0],
        .limit_differs = r->limit[0] ^ r->limit[1],
        .zero_below = r->flushes ? INT64_C(1) << f.fraction_bits : f.has_zero,
        .ups = ups[r->rounding],
        .overflow = r->overflow[0],
        .overflow_differs = r->overflow[0] ^ r->overflow[1],
        .infinity = r->infinity[0],
        .infinity_differs = r->infinity[0] ^ r->infinity[1],
        .zero = r->zero[0],
        .zero_differs = r->zero[0] ^ r->zero[1],
        .nan = r->nan[0],
        .nan_differs = r->nan[0] ^ r->nan[1],
        .payload_mask = r->keeps_payload ? (UINT64_C(1) << f.fraction_bits) - 1 : 0,
        .quiet = r->keeps_payload && r->quiets ? (UINT64_C(1) << f.fraction_bits) >> 1 : 0,
        .sign = twos ? code_mask : sign_bit(f),
        .plus = (uint64_t)twos,
        .code_mask = code_mask,
    };
}

/* Rounds a binary64 pattern to a code: every format, every rule, every value.
 *
 *   biased   the value's exponent field in f; below the first binade it loses more bits
 *   dropped  significand bits that f does not keep
 *   floor    the magnitude at or below the value, as if magnitudes went on without end: the
 *            significand's hidden bit adds the first exponent step on top of the exponent
 *   rest     what the value exceeds that by, in units of 2^-64 of the magnitude's last place
 *
 * Stochastic rounding adds 32 random bits to the leading 32 bits of what is lost. */
FF_INLINE uint64_t encode_any(uint64_t bits, struct any_plan p, int stochastic, uint64_t random)
{
    const uint64_t fraction_mask = UINT64_C(0x000fffffffffffff);
    const uint64_t infinity = UINT64_C(0x7ff0000000000000), half = UINT64_C(1) << 63;
    const uint64_t negative = 0 - (bits >> 63), magnitude = bits & (infinity | fraction_mask);
    const int64_t exponent = (int64_t)(magnitude >> 52);
    const uint64_t hidden = exponent != 0 ? UINT64_C(1) << 52 : 0;
    const uint64_t significand = (magnitude & fraction_mask) | hidden;
    const int64_t biased = (exponent > 1 ? exponent : 1) - 1023 + p.bias;
    const int64_t lifted = biased > p.first ? biased : p.first;
    const int64_t dropped = 52 - p.fraction_bits + lifted - biased;
    const uint64_t shift = (uint64_t)(dropped < 63 ? dropped : 63);
    const uint64_t kept = significand >> shift, rest = significand << 1 << (63 - shift);
    const int64_t floor = (int64_t)(kept + ((uint64_t)(lifted - 1) << p.fraction_bits));
    uint64_t up;
    if (stochastic) {
        const int64_t deeper = dropped - (int64_t)shift < 63 ? dropped - (int64_t)shift : 63;
        up = ((rest >> deeper >> 32) + random) >> 32;
    } else {
        uint64_t row = rest < half ? 4 : 8; /* lost * 4 */
        row = rest > half ? 12 : row;
        row = rest == 0 ? 0 : row;
        up = p.ups >> (row | ((uint64_t)floor & 1) << 1 | (negative & 1)) & 1;
    }
    int64_t rounded = floor + (int64_t)up;
    rounded = rounded > 0 ? rounded : 0;
    uint64_t code =
        (((uint64_t)rounded ^ (negative & p.sign)) + (negative & p.plus)) & p.code_mask;
    const uint64_t zero = p.zero ^ (negative & p.zero_differs);
    code = rounded < p.zero_below ? zero : code;
    const int64_t limit = p.limit ^ ((int64_t)negative & p.limit_differs);
    code = rounded > limit ? p.overflow ^ (negative & p.overflow_differs) : code;
    code = magnitude == 0 ? zero : code;
    code = magnitude == infinity ? p.infinity ^ (negative & p.infinity_differs) : code;
    const uint64_t payload =
        ((magnitude & fraction_mask) >> (52 - p.fraction_bits) & p.payload_mask) | p.quiet;
    const uint64_t least = payload == 0 && p.payload_mask != 0 ? 1 : payload;
    const uint64_t nan = (p.nan ^ (negative & p.nan_differs)) | least;
    return magnitude > infinity ? nan : code;
}

/* What encode_fast and encode_near need to know of a format and its rules, in the width of their
 * pattern. Pairs by sign are kept as the positive one and what differs, so that a mask chooses.
 *
 *   drop        low bits of the wide magnitude that f does not keep
 *   linear      pattern of the power of two below which f's values are equally spaced; 0 where the
 *               pattern's own are spaced so as well
 *   scale       turns such a value into its wide magnitude
 *   rebias      what the patterns of larger values exceed theirs by
 *   is_capped   whether what overflows becomes the magnitude `overflow`, which none exceeds that
 *               does not, and its sign
 *   is_inside   whether the sum that encode_near takes is one of normal floats
 *   is_near     whether encode_near has it; beyond: pattern of a power of two above all of f's, or
 *               of the value that `overflow` would have if it is capped
 *   sign, plus  a negative code is (magnitude ^ sign) + plus, in the low bits */
#define FF_DEFINE_PLAN(name, U, F)                                                                 \
    struct name {                                                                                  \
        U add, add_differs, odd_add, linear, rebias, limit, limit_differs;                         \
        U overflow, overflow_differs, sign, plus, code_mask, beyond;                               \
        F scale;                                                                                   \
        int drop, is_inside, is_near, is_capped;                                                   \
    }
FF_DEFINE_PLAN(plan32, uint32_t, float);
FF_DEFINE_PLAN(plan64, uint64_t, double);

/* Rounds a pattern (U, with M fraction bits) to a code with less work than encode_any: for finite
 * values, no flushing, drop >= 2.
 *
 *   wide    the magnitude that f would give the value if it had M fraction bits. Below `linear`
 *           that is the value times a power of two, rounded to odd: two bits fall, at least, so
 *           whether any were lost is all that the rounding has to know of them.
 *   BIG     the pattern of 2^M: a smaller float added to it has its integer part, to nearest, in
 *           the low bits of the sum.
 *
 * encode_near is for rounding to nearest even alone: the addition of `magic`, whose last place is
 * f's spacing at the value, does it. magic's fraction is 0, so ties go to even magnitudes.
 *
 * Masks rather than conditions: compilers make one instruction of them. */
#define FF_DEFINE_ENCODE_FAST(W, plan, U, I, F, M, BIG, to_bits, of_bits)                          \
    FF_INLINE U encode_fast##W##_magnitude(U wide, U negative, struct plan p)                      \
    {                                                                                              \
        const U odd = (U)((I)(wide << ((int)(8 * sizeof(U)) - 1 - p.drop)) >>                      \
                          (8 * sizeof(U) - 1));                                                    \
        return (wide + (p.add ^ (negative & p.add_differs)) + (odd & p.odd_add)) >> p.drop;        \
    }                                                                                              \
    FF_INLINE U with_sign##W(U rounded, U negative, struct ff_format f, struct plan p)             \
    {                                                                                              \
        if (p.is_capped)                                                                           \
            return ((I)rounded < (I)p.overflow ? rounded : p.overflow) | (negative & p.sign);      \
        U code = rounded;                                                                          \
        if (f.sign == FF_TWOS_COMPLEMENT)                                                          \
            code = ((rounded ^ (negative & p.sign)) + (negative & p.plus)) & p.code_mask;          \
        else if (f.sign == FF_SIGN_MAGNITUDE && f.nan == FF_NAN_NEGATIVE_ZERO)                     \
            code = rounded ? rounded | (negative & p.sign) : 0;                                    \
        else if (f.sign == FF_SIGN_MAGNITUDE)                                                      \
            code = rounded | (negative & p.sign);                                                  \
        const U limit = p.limit ^ (negative & p.limit_differs);                                    \
        return (I)rounded > (I)limit ? p.overflow ^ (negative & p.overflow_differs) : code;        \
    }                                                                                              \
    FF_INLINE U encode_fast##W(U bits, struct ff_format f, struct plan p)                          \
    {                                                                                              \
        const U magnitude = bits & (~(U)0 >> 1), negative = (U)((I)bits >> (8 * sizeof(U) - 1));   \
        const F t = of_bits(magnitude) * p.scale, s = t + of_bits(BIG);                            \
        const U lost = to_bits(t - (s - of_bits(BIG)));                                            \
        const U near = (to_bits(s) - (BIG) + (U)((I)lost >> (8 * sizeof(U) - 1))) |                \
                       (lost < 1 ? lost : 1);                                                      \
        const U wide = magnitude < p.linear ? near : magnitude - p.rebias;                         \
        return with_sign##W(encode_fast##W##_magnitude(wide, negative, p), negative, f, p);        \
    }                                                                                              \
    FF_INLINE U encode_near##W(U bits, struct ff_format f, struct plan p)                          \
    {                                                                                              \
        const U magnitude = bits & (~(U)0 >> 1), negative = (U)((I)bits >> (8 * sizeof(U) - 1));   \
        const U within = (I)magnitude < (I)p.beyond ? magnitude : p.beyond;                        \
        const U exponent = within & ~(U)0 << (M);                                                  \
        const U binade = (I)exponent > (I)p.linear ? exponent : p.linear;                          \
        const U magic = binade + ((U)p.drop << (M));                                               \
        const U sum = to_bits(of_bits(within) + of_bits(magic));                                   \
        const U rounded = sum - magic + ((binade - p.linear) >> p.drop);                           \
        return p.is_capped ? rounded | (negative & p.sign)                                         \
                           : with_sign##W(rounded, negative, f, p);                                \
    }
FF_DEFINE_ENCODE_FAST(32, plan32, uint32_t, int32_t, float, 23, UINT32_C(0x4B000000),
                      bits_of_float, float_of_bits)
FF_DEFINE_ENCODE_FAST(64, plan64, uint64_t, int64_t, double, 52, UINT64_C(0x4330000000000000),
                      bits_of_double, double_of_bits)

/* The same by 32 random bits, which are added to the leading 32 bits of what is lost. */
FF_INLINE uint32_t encode_drawn32(uint32_t bits, uint32_t random, struct ff_format f,
                                  struct plan32 p)
{
    const uint32_t magnitude = bits & 0x7fffffff, negative = (uint32_t)((int32_t)bits >> 31);
    const int32_t linear = (int32_t)p.linear, place = (int32_t)magnitude;
    /* In f's spacing. What falls below float32's own here lies below the leading bits. */
    const float spaced = p.scale * float_of_bits((uint32_t)(127 - p.drop) << 23);
    const float t = float_of_bits((uint32_t)(place < linear ? place : linear)) * spaced;
    const int32_t whole = (int32_t)t;
    const float part = (t - (float)whole) * 0x1p31f;
    const int32_t high = (int32_t)part, last = (int32_t)((part - (float)high) * 2);
    const uint32_t below = place < linear ? UINT32_MAX : 0;
    const uint32_t kept = (below & (uint32_t)whole) | (~below & (magnitude - p.rebias) >> p.drop);
    const uint32_t lost = (below & ((uint32_t)high << 1 | (uint32_t)last)) |
                          (~below & magnitude << (32 - p.drop));
    const uint32_t up = lost + random < random;
    return with_sign32(kept + up, negative, f, p);
}

/* The same for E8M0, for values other than 0: its magnitudes start at 2^-127, in the middle of
 * binary32's subnormals, and none is negative. */
FF_INLINE uint32_t encode_fast_e8m0(uint32_t bits, struct plan32 p)
{
    const int32_t magnitude = (int32_t)(bits & 0x7fffffff);
    const int32_t least = magnitude > 0x400000 ? magnitude : 0x400000;
    const int32_t below = least < 0x800000 ? least - 0x800000 : 0; /* twice as long a binade */
    const uint32_t rounded = encode_fast32_magnitude((uint32_t)(least + below), 0, p);
    const uint32_t code = (int32_t)rounded > (int32_t)p.limit ? p.overflow : rounded;
    return (int32_t)bits < 0 ? p.overflow ^ p.overflow_differs : code;
}

/* Fills a plan; returns 0 if encode_fast cannot have it. Stochastic rounding is encode_drawn32's
 * alone. WIDE is the format of the patterns, TOP its largest exponent. */
#define FF_DEFINE_PLAN_FOR(name, plan, U, F, M, WIDE, TOP)                                         \
    static int name(struct plan *p, struct ff_format f, const struct ff_rules *r)                  \
    {                                                                                              \
        const int linear = 1 - f.bias, up = (M)-linear, alike = linear == -(TOP) + 1;              \
        const int drop = (M)-f.fraction_bits;                                                      \
        *p = (struct plan){.drop = drop};                                                          \
        if (drop < 2 || !(alike || (up >= 0 && up <= (TOP))) || r->flushes ||                      \
            magnitude_mask(f) >> (8 * sizeof(U) - 1))                                              \
            return 0;                                                                              \
        const struct addends a = addends_of(r->rounding, drop);                                    \
        p->linear = alike ? 0 : (U)(linear + (WIDE).bias) << (M);                                  \
        p->rebias = (U)((WIDE).bias - f.bias) << (M);                                              \
        p->odd_add = (U)a.odd_add;                                                                 \
        p->add = (U)a.add[0], p->add_differs = (U)(a.add[0] ^ a.add[1]);                           \
        p->limit = (U)r->limit[0], p->limit_differs = (U)(r->limit[0] ^ r->limit[1]);              \
        p->overflow = (U)r->overflow[0];                                                           \
        p->overflow_differs = (U)(r->overflow[0] ^ r->overflow[1]);                                \
        p->code_mask = (U)(sign_bit(f) | magnitude_mask(f));                                       \
        p->sign = f.sign == FF_TWOS_COMPLEMENT ? p->code_mask : (U)sign_bit(f);                    \
        p->plus = f.sign == FF_TWOS_COMPLEMENT;                                                    \
        p->scale = alike ? 0 : (F)power_of_two(up);                                                \
        /* One more than the last exponent field: int8's -128 has the first fraction beyond it. */ \
        const int beyond = (int)(magnitude_mask(f) >> f.fraction_bits) + 2 - f.bias;               \
        /* Without a fraction it is the exponent field that is even or odd. */                     \
        p->is_inside = linear > -(TOP) + 1 && f.fraction_bits > 0 && beyond + drop <= (TOP);       \
        p->is_near = p->is_inside && r->rounding == FF_NEAREST_EVEN;                               \
        const int is_normal = p->overflow >> f.fraction_bits != 0;                                 \
        const int is_odd = r->overflow[1] == (r->overflow[0] ^ p->sign);                           \
        p->is_capped = f.sign == FF_SIGN_MAGNITUDE && f.nan != FF_NAN_NEGATIVE_ZERO &&             \
                       r->limit[0] == r->limit[1] && is_odd && is_normal &&                        \
                       r->overflow[0] - (uint64_t)r->limit[0] <= 1;                                \
        p->beyond = !p->is_near    ? 0                                                             \
                    : p->is_capped ? (p->overflow << drop) + p->rebias                             \
                                   : (U)(beyond + (WIDE).bias) << (M);                             \
        return 1;                                                                                  \
    }
FF_DEFINE_PLAN_FOR(plan_for32, plan32, uint32_t, float, 23, FP32, 127)
FF_DEFINE_PLAN_FOR(plan_for64, plan64, uint64_t, double, 52, FP64, 1023)

/* The code of a binary32 pattern for a format with binary32's own binades (its exponent_bits and
 * bias), by the default rules: all kinds of values in a few integer operations. */
FF_INLINE uint32_t encode32_alike(uint32_t bits, struct ff_format f)
{
    const int drop = 23 - f.fraction_bits;
    const uint32_t half = (1u << drop) >> 1, kept = bits >> drop, odd = kept & (half != 0);
    const uint32_t rounded = (bits + (half - (half != 0)) + odd) >> drop; /* no NaN: the sign stays */
    const uint32_t nan = kept | (1u << (f.fraction_bits - 1));
    return (int32_t)(bits & 0x7fffffff) > 0x7f800000 ? nan : rounded;
}

/* The same by any deterministic mode. */
struct alike32 {
    uint32_t add, add_differs, odd_add;
};
static struct alike32 alike32_of(struct ff_format f, int rounding)
{
    const struct addends a = addends_of(rounding, 23 - f.fraction_bits);
    return (struct alike32){(uint32_t)a.add[0], (uint32_t)(a.add[0] ^ a.add[1]),
                            (uint32_t)a.odd_add};
}
FF_INLINE uint32_t encode32_alike_by(uint32_t bits, struct ff_format f, struct alike32 p)
{
    const int drop = 23 - f.fraction_bits;
    const uint32_t kept = bits >> drop, odd = 0 - (kept & 1);
    const uint32_t negative = (uint32_t)((int32_t)bits >> 31);
    const uint32_t add = (p.add ^ (negative & p.add_differs)) + (odd & p.odd_add);
    const uint32_t rounded = (bits + add) >> drop; /* of Inf, which ends in zeros, too */
    const uint32_t nan = kept | (1u << (f.fraction_bits - 1));
    return (int32_t)(bits & 0x7fffffff) > 0x7f800000 ? nan : rounded;
}

/* The code of a binary64 pattern by the default rules, for an IEEE format whose binades lie well
 * inside binary64's (max_exponent + 53 below 1023, fraction_bits <= 50).
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

/* --- decoding ---------------------------------------------------------------------------------- */

/* What decoding needs to know of a format, in the width of the pattern (M fraction bits).
 *
 *   signs           the sign bit; flip, plus: a negative code's magnitude is (code ^ flip) + plus
 *   shift, rebias   turn a normal magnitude into a pattern
 *   step, hidden    up to `linear`, the end of the first binade, a value is (magnitude + hidden)
 *                   times step, exactly
 *   max, infinity   the magnitudes of the largest finite value and of Inf; a larger one than max is
 *                   special | payload bits, with Inf's fraction 0
 *   not_nan         0 where the code that would be -0 is NaN, else all ones */
#define FF_DEFINE_DECODING(NAME, U, F, M, E, BIG, to_bits, of_bits)                                \
    struct NAME {                                                                                  \
        U signs, magnitudes, flip, plus, rebias, linear, max, infinity, special, payload;          \
        U not_nan;                                                                                 \
        F step, hidden;                                                                            \
        int shift;                                                                                 \
    };                                                                                             \
    FF_INLINE struct NAME NAME##_of(struct ff_format f)                                            \
    {                                                                                              \
        const U one = 1, m = (U)f.fraction_bits, all_ones = ((one << (E)) - 1) << (M);             \
        const int twos = f.sign == FF_TWOS_COMPLEMENT;                                             \
        struct NAME d;                                                                             \
        d.signs = (U)sign_bit(f);                                                                  \
        d.magnitudes = (U)(d.signs | magnitude_mask(f));                                           \
        d.flip = twos ? d.magnitudes : d.signs;                                                    \
        d.plus = (U)twos;                                                                          \
        d.shift = (M)-f.fraction_bits;                                                             \
        d.rebias = (((one << ((E)-1)) - 1) - (U)f.bias) << (M);                                    \
        d.hidden = f.has_zero ? 0 : (F)power_of_two(f.fraction_bits);                              \
        d.linear = (one << m) - !twos; /* the least integer's magnitude is one more */             \
        d.step = (F)power_of_two((f.has_zero ? 1 : 0) - f.bias - f.fraction_bits);                 \
        d.max = (U)max_code(f) + (U)twos;                                                          \
        d.infinity = f.has_infinity ? d.max + 1 : ~(U)0;                                           \
        d.special = f.nan == FF_NAN_IEEE ? all_ones : all_ones | one << ((M)-1);                   \
        d.payload = f.nan == FF_NAN_IEEE ? (one << m) - 1 : 0;                                     \
        d.not_nan = f.nan == FF_NAN_NEGATIVE_ZERO ? 0 : ~(U)0;                                     \
        return d;                                                                                  \
    }                                                                                              \
    /* BIG is the pattern of 2^M, so BIG + n is that of 2^M + n, for n <= 2^M. */                  \
    FF_INLINE U NAME##_pattern(U code, struct NAME d)                                              \
    {                                                                                              \
        const U one = 1, all_ones = ((one << (E)) - 1) << (M);                                     \
        const U negative = (code & d.signs) != 0;                                                  \
        const U magnitude = negative ? ((code ^ d.flip) + d.plus) & d.magnitudes : code;           \
        const F linear = (of_bits((BIG) + magnitude) - of_bits(BIG) + d.hidden) * d.step;          \
        U wide = (magnitude << d.shift) + d.rebias;                                                \
        wide = magnitude <= d.linear ? to_bits(linear) : wide;                                     \
        U special = d.special | (magnitude & d.payload) << d.shift;                                \
        special = magnitude == d.infinity ? all_ones : special;                                    \
        wide = magnitude > d.max ? special : wide;                                                 \
        wide |= negative << ((M) + (E));                                                           \
        return ((code ^ d.signs) | d.not_nan) == 0 ? all_ones | one << ((M)-1) : wide;             \
    }
FF_DEFINE_DECODING(decoding32, uint32_t, float, 23, 8, UINT32_C(0x4B000000), bits_of_float,
                   float_of_bits)
FF_DEFINE_DECODING(decoding64, uint64_t, double, 52, 11, UINT64_C(0x4330000000000000),
                   bits_of_double, double_of_bits)

/* The same for fp16, with less work. A subnormal one becomes the fraction of 2^-14, which is then
 * taken away. */
FF_INLINE uint32_t decode_fp16(uint32_t code)
{
    const uint32_t magnitude = (code & 0x7fff) << 13, bias = 112u << 23, binade = 1u << 23;
    const float small = float_of_bits(magnitude + bias + binade) - 0x1p-14f;
    uint32_t wide = magnitude + bias;
    wide = (int32_t)magnitude < (int32_t)binade ? bits_of_float(small) : wide;
    wide = (int32_t)magnitude >= 31 << 23 ? magnitude | 0x7f800000 : wide;
    return wide | (code & 0x8000) << 16;
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
