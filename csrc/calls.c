/* The functions that compute: each is a call of a kernel, whole or in parts that threads share. */
#include "kernels.h"
#include "pool.h"

#include <stdatomic.h>
#include <stdlib.h>

/* More parts than threads, as one may be kept from its core. Parts of a row begin at multiples of so many
 * elements: whole bytes of packed codes, whole cache lines of arrays that begin with one. Each part
 * prepares columns' parameters, so that it takes so many rows; and reads so many columns in order. */
enum { PARTS_A_THREAD = 4, GRAIN = 64, ROWS = 32, COLUMNS = 256 };
/* Channels whose scales are stored together, so that all of them in double are never there. */
enum { SCALES = 2048 };
/* Codes that are packed together. */
enum { PACKED = 2048 };

/* A kernel's arguments; what it does not need is 0. Arrays are [outer][channels][inner], of which a
 * conversion has only the last. */
struct call {
    int64_t (*run)(const struct call *);
    int64_t (*both)(const struct call *);  /* finds scales and codes */
    int64_t (*codes)(const struct call *); /* codes alone */
    const struct ff_kernels *kernels;
    enum ff_type type;
    size_t outer, stride, channels, inner; /* stride: of rows, for extremes alone */
    struct {
        char *at;
        size_t bits; /* of an element */
    } array[4];
    double *scale, *zero_point; /* one of each a channel; or least and greatest values, or amax */
    void *stored;               /* scales as codes of scaling->format, also one a channel */
    const struct ff_format *format;
    const struct ff_rules *rules;
    const struct ff_intervals *intervals;
    const struct ff_scaling *scaling;
    const double *table;
    double low, high;
    uint64_t seed, start;
    int qmin, qmax, entries, flag; /* flag: packs, is_signed, includes_zero, high_first */
};

/* What computes is called through a pointer, or writes to memory that was, so that no compiler moves it
 * out of here. */
#define IN_DEFAULT_ENVIRONMENT(what)                                                               \
    const uint64_t saved = ff_default_float_environment();                                         \
    what;                                                                                          \
    ff_restore_float_environment(saved)

#define ARRAY(pointer, bits) {(char *)(uintptr_t)(pointer), bits}
#define DOUBLES(pointer) ((double *)(uintptr_t)(pointer))
#define KERNEL(c, name) ((c)->kernels->name[(c)->type])

static size_t type_bytes(enum ff_type type)
{
    static const uint8_t bytes[] = {[FF_F64] = 8, [FF_F32] = 4, [FF_F16] = 2, [FF_BF16] = 2};
    return bytes[type];
}

static size_t type_bits(enum ff_type type) { return 8 * type_bytes(type); }
static size_t bits_of_codes(const struct ff_format *f) { return 8 * code_bytes(*f); }
static size_t stored_bytes(const struct call *c)
{
    return c->stored == NULL ? 0 : code_bytes(c->scaling->format);
}

/* --- parts -------------------------------------------------------------------------------------- */

/* A call of n of an axis, from `from` on; axes before it are of length 1, but for extremes. */
static struct call cut(const struct call *c, int axis, size_t from, size_t n)
{
    struct call part = *c;
    const size_t step = axis == 0 ? c->channels * c->inner : axis == 1 ? c->inner : 1;
    for (int k = 0; k < 4 && c->array[k].at != NULL; k++)
        part.array[k].at += from * step * c->array[k].bits / 8;
    part.start += from * step;
    if (axis == 1) {
        part.scale = c->scale == NULL ? NULL : c->scale + from;
        part.zero_point = c->zero_point == NULL ? NULL : c->zero_point + from;
        part.stored = c->stored == NULL ? NULL : (char *)c->stored + from * stored_bytes(c);
    }
    *(axis == 0 ? &part.outer : axis == 1 ? &part.channels : &part.inner) = n;
    return part;
}

struct parts {
    const struct call *call;
    int axis;
    size_t length, step, count;
    double *extremes; /* each part's own two, of one channel that they share; or NULL */
    _Atomic int64_t total;
    atomic_int failed;
};

static void do_part(void *what, size_t k)
{
    struct parts *p = what;
    const size_t from = k * p->step, rest = p->length - from;
    struct call part = cut(p->call, p->axis, from, rest < p->step ? rest : p->step);
    if (p->extremes != NULL)
        part.scale = p->extremes + 2 * k, part.zero_point = part.scale + 1;
    const int64_t found = part.run(&part);
    if (found < 0)
        atomic_store(&p->failed, 1);
    else
        atomic_fetch_add(&p->total, found);
}

/* Cuts an axis of a call into parts for so many threads. Of nothing there is one part, too: its extremes
 * and its scale are written. */
static struct parts parts_of(const struct call *c, int axis, unsigned threads)
{
    struct parts p = {.call = c, .axis = axis, .count = 1};
    const int are_columns = c->outer > 1 && c->inner < GRAIN;
    const size_t least = axis == 2 ? GRAIN : !are_columns ? 1 : axis == 0 ? ROWS : COLUMNS;
    const size_t grain = axis == 2 ? GRAIN : 1;
    p.length = axis == 0 ? c->outer : axis == 1 ? c->channels : c->inner;
    p.step = p.length;
    const size_t wanted = (size_t)threads * (are_columns ? 1 : PARTS_A_THREAD);
    const size_t count = p.length / least < wanted ? p.length / least : wanted;
    if (threads > 1 && count > 1) {
        p.step = (p.length + count * grain - 1) / (count * grain) * grain;
        p.count = (p.length + p.step - 1) / p.step;
    }
    return p;
}

/* One channel's rows are one row. */
static struct call in_one_row(const struct call *c)
{
    struct call row = *c;
    if (c->channels == 1)
        row.outer = 1, row.inner = c->outer * c->inner;
    return row;
}

/* Returns the sum of what the parts return, or -1 if that of one is less than 0. */
static int64_t run(const struct call *of, unsigned threads)
{
    const struct call c = in_one_row(of);
    struct parts p = parts_of(&c, c.outer > 1 ? 0 : c.channels > 1 ? 1 : 2, threads);
    ff_share(do_part, &p, p.count, threads);
    return p.failed ? -1 : p.total;
}

/* Doubles in their order, -0 before 0 and NaN beyond Inf, as kernels compare them. */
static int64_t place_of(double x)
{
    int64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits ^ ((bits < 0 ? -1 : 0) & INT64_MAX);
}

static double least(double a, double b) { return place_of(b) < place_of(a) ? b : a; }
static double greatest(double a, double b) { return place_of(b) > place_of(a) ? b : a; }

/* The same for extremes. Parts have channels of their own, or share the only one: then each has its own
 * extremes first. */
static void run_extremes(const struct call *of, unsigned threads)
{
    struct call c = in_one_row(of);
    c.stride = c.channels * c.inner;
    struct parts p = parts_of(&c, c.channels == 1 ? 2 : 1, threads);
    if (c.channels == 1 && p.count > 1) {
        p.extremes = malloc(2 * p.count * sizeof *p.extremes);
        p.count = p.extremes == NULL ? 1 : p.count;
        p.step = p.extremes == NULL ? p.length : p.step;
    }
    ff_share(do_part, &p, p.count, threads);
    if (p.extremes == NULL)
        return;
    const double *found = p.extremes;
    *c.scale = found[0];
    if (c.zero_point != NULL)
        *c.zero_point = found[1];
    for (size_t k = 1; k < p.count; k++) {
        found += 2;
        *c.scale = c.zero_point == NULL ? greatest(*c.scale, found[0]) : least(*c.scale, found[0]);
        if (c.zero_point != NULL)
            *c.zero_point = greatest(*c.zero_point, found[1]);
    }
    free(p.extremes);
}

/* --- conversions -------------------------------------------------------------------------------- */

static int64_t run_decompose(const struct call *c)
{
    c->kernels->decompose(c->format, c->array[0].at, (uint8_t *)c->array[1].at, c->array[2].at,
                          c->array[3].at, c->inner);
    return 0;
}

static int64_t run_compose(const struct call *c)
{
    return c->kernels->compose(c->format, (const uint8_t *)c->array[1].at, c->array[2].at,
                               c->array[3].at, c->array[0].at, c->inner);
}

static size_t bits_of_exponents(const struct ff_format *f) { return f->exponent_bits <= 8 ? 8 : 16; }
static size_t bits_of_fractions(const struct ff_format *f)
{
    const int bits = f->fraction_bits;
    return bits <= 8 ? 8 : bits <= 16 ? 16 : bits <= 32 ? 32 : 64;
}

static int64_t run_on_fields(int64_t (*what)(const struct call *), enum ff_isa isa,
                             const struct ff_format *f, const void *codes, const void *sign,
                             const void *exponent, const void *fraction, size_t n, unsigned threads)
{
    const struct call c = {
        .run = what, .kernels = ff_table(isa), .format = f, .outer = 1, .channels = 1, .inner = n,
        .array = {ARRAY(codes, bits_of_codes(f)), ARRAY(sign, 8),
                  ARRAY(exponent, bits_of_exponents(f)), ARRAY(fraction, bits_of_fractions(f))},
    };
    return run(&c, threads);
}

void ff_decompose(enum ff_isa isa, const struct ff_format *format, const void *codes, uint8_t *sign,
                  void *exponent, void *fraction, size_t n, unsigned threads)
{
    run_on_fields(run_decompose, isa, format, codes, sign, exponent, fraction, n, threads);
}

int ff_compose(enum ff_isa isa, const struct ff_format *format, const uint8_t *sign,
               const void *exponent, const void *fraction, void *codes, size_t n, unsigned threads)
{
    return run_on_fields(run_compose, isa, format, codes, sign, exponent, fraction, n, threads) != 0;
}

static int64_t run_encode(const struct call *c)
{
    return KERNEL(c, encode)(c->format, c->rules, c->seed, c->start, c->array[0].at, c->array[1].at,
                             c->inner);
}

static int64_t run_round_to(const struct call *c)
{
    return KERNEL(c, round_to)(c->format, c->rules, c->seed, c->start, c->array[0].at,
                               c->array[1].at, c->inner);
}

static int64_t run_decode(const struct call *c)
{
    KERNEL(c, decode)(c->format, c->array[1].at, c->array[0].at, c->inner);
    return 0;
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
              void *codes, size_t n, unsigned threads)
{
    if (is_tangled(values, type_bytes(type), codes, code_bytes(*format), n))
        return -1;
    const struct call c = {
        .run = run_encode, .kernels = ff_table(isa), .type = type, .format = format, .rules = rules,
        .seed = seed, .start = start, .outer = 1, .channels = 1, .inner = n,
        .array = {ARRAY(values, type_bits(type)), ARRAY(codes, bits_of_codes(format))},
    };
    return run(&c, threads) != 0;
}

int ff_decode(enum ff_isa isa, enum ff_type type, const struct ff_format *format,
              const void *codes, void *values, size_t n, unsigned threads)
{
    if (is_tangled(values, type_bytes(type), codes, code_bytes(*format), n))
        return -1;
    const struct call c = {
        .run = run_decode, .kernels = ff_table(isa), .type = type, .format = format, .outer = 1,
        .channels = 1, .inner = n,
        .array = {ARRAY(values, type_bits(type)), ARRAY(codes, bits_of_codes(format))},
    };
    return run(&c, threads) != 0;
}

int ff_round_to(enum ff_isa isa, enum ff_type type, const struct ff_format *format,
                const struct ff_rules *rules, uint64_t seed, uint64_t start, const void *values,
                void *out, size_t n, unsigned threads)
{
    const struct call c = {
        .run = run_round_to, .kernels = ff_table(isa), .type = type, .format = format,
        .rules = rules, .seed = seed, .start = start, .outer = 1, .channels = 1, .inner = n,
        .array = {ARRAY(values, type_bits(type)), ARRAY(out, type_bits(type))},
    };
    return run(&c, threads) != 0;
}

static int64_t run_pack(const struct call *c)
{
    c->kernels->pack((const uint8_t *)c->array[0].at, (uint8_t *)c->array[1].at,
                     (int)c->array[1].bits, c->flag, c->inner);
    return 0;
}

static int64_t run_unpack(const struct call *c)
{
    c->kernels->unpack((const uint8_t *)c->array[1].at, (uint8_t *)c->array[0].at,
                       (int)c->array[1].bits, c->flag, c->inner);
    return 0;
}

static void run_packing(int64_t (*what)(const struct call *), enum ff_isa isa, const uint8_t *codes,
                        const uint8_t *packed, int bits, int high_first, size_t n, unsigned threads)
{
    const struct call c = {
        .run = what, .kernels = ff_table(isa), .flag = high_first, .outer = 1, .channels = 1,
        .inner = n, .array = {ARRAY(codes, 8), ARRAY(packed, (size_t)bits)},
    };
    run(&c, threads);
}

void ff_pack(enum ff_isa isa, const uint8_t *codes, uint8_t *packed, int bits, int high_first,
             size_t n, unsigned threads)
{
    run_packing(run_pack, isa, codes, packed, bits, high_first, n, threads);
}

void ff_unpack(enum ff_isa isa, const uint8_t *packed, uint8_t *codes, int bits, int high_first,
               size_t n, unsigned threads)
{
    run_packing(run_unpack, isa, codes, packed, bits, high_first, n, threads);
}

/* --- extremes and scales ------------------------------------------------------------------------ */

static int64_t run_amax(const struct call *c)
{
    KERNEL(c, amax)(c->array[0].at, c->outer, c->stride, c->channels, c->inner, c->scale);
    return 0;
}

static int64_t run_minmax(const struct call *c)
{
    KERNEL(c, minmax)(c->array[0].at, c->outer, c->stride, c->channels, c->inner, c->scale,
                      c->zero_point);
    return 0;
}

void ff_amax(enum ff_isa isa, enum ff_type type, const void *x, size_t outer, size_t channels,
             size_t inner, double *amax, unsigned threads)
{
    const struct call c = {
        .run = run_amax, .kernels = ff_table(isa), .type = type, .outer = outer,
        .channels = channels, .inner = inner, .array = {ARRAY(x, type_bits(type))}, .scale = amax,
    };
    run_extremes(&c, threads);
}

void ff_minmax(enum ff_isa isa, enum ff_type type, const void *x, size_t outer, size_t channels,
               size_t inner, double *low, double *high, unsigned threads)
{
    const struct call c = {
        .run = run_minmax, .kernels = ff_table(isa), .type = type, .outer = outer,
        .channels = channels, .inner = inner, .array = {ARRAY(x, type_bits(type))}, .scale = low,
        .zero_point = high,
    };
    run_extremes(&c, threads);
}

void ff_absmax_scale(enum ff_isa isa, const struct ff_format *format, const double *amax,
                     double largest, double *scale, size_t n)
{
    IN_DEFAULT_ENVIRONMENT(ff_table(isa)->absmax_scale(format, amax, largest, scale, n));
}

void ff_power_scale(enum ff_isa isa, enum ff_power_rule rule, double largest, int fraction_bits,
                    const double *amax, double *scale, size_t n)
{
    IN_DEFAULT_ENVIRONMENT(
        ff_table(isa)->power_scale(rule, largest, fraction_bits, amax, scale, n));
}

void ff_zeropoint_parameters(enum ff_isa isa, const struct ff_format *format, const double *low,
                             const double *high, int qmin, int qmax, double *scale,
                             double *zero_point, size_t n)
{
    IN_DEFAULT_ENVIRONMENT(ff_table(isa)->zeropoint_parameters(format, low, high, qmin, qmax, scale,
                                                               zero_point, n));
}

/* --- codes by scales ---------------------------------------------------------------------------- */

static int64_t run_quantize(const struct call *c)
{
    return KERNEL(c, quantize)(c->array[0].at, c->outer, c->channels, c->inner, c->scale,
                               c->zero_point, c->qmin, c->qmax, (uint8_t *)c->array[1].at);
}

static int64_t run_intervals(const struct call *c)
{
    return KERNEL(c, quantize_intervals)(c->array[0].at, c->outer, c->channels, c->inner, c->scale,
                                         c->intervals, (uint8_t *)c->array[1].at);
}

static int64_t run_format(const struct call *c)
{
    return KERNEL(c, quantize_format)(c->array[0].at, c->outer, c->channels, c->inner, c->scale,
                                      c->format, c->rules, c->low, c->high,
                                      (uint8_t *)c->array[1].at);
}

int64_t ff_quantize(enum ff_isa isa, enum ff_type type, const void *x, size_t outer,
                    size_t channels, size_t inner, const double *scale, const double *zero_point,
                    int qmin, int qmax, uint8_t *codes, unsigned threads)
{
    const struct call c = {
        .run = run_quantize, .kernels = ff_table(isa), .type = type, .outer = outer,
        .channels = channels, .inner = inner, .array = {ARRAY(x, type_bits(type)), ARRAY(codes, 8)},
        .scale = DOUBLES(scale), .zero_point = DOUBLES(zero_point), .qmin = qmin, .qmax = qmax,
    };
    return run(&c, threads);
}

int64_t ff_quantize_intervals(enum ff_isa isa, enum ff_type type, const void *x, size_t outer,
                              size_t channels, size_t inner, const double *scale,
                              const struct ff_intervals *intervals, uint8_t *codes,
                              unsigned threads)
{
    const struct call c = {
        .run = run_intervals, .kernels = ff_table(isa), .type = type, .outer = outer,
        .channels = channels, .inner = inner, .array = {ARRAY(x, type_bits(type)), ARRAY(codes, 8)},
        .scale = DOUBLES(scale), .intervals = intervals,
    };
    return run(&c, threads);
}

int64_t ff_quantize_format(enum ff_isa isa, enum ff_type type, const void *x, size_t outer,
                           size_t channels, size_t inner, const double *scale,
                           const struct ff_format *format, const struct ff_rules *rules, double low,
                           double high, uint8_t *codes, unsigned threads)
{
    const struct call c = {
        .run = run_format, .kernels = ff_table(isa), .type = type, .outer = outer,
        .channels = channels, .inner = inner, .array = {ARRAY(x, type_bits(type)), ARRAY(codes, 8)},
        .scale = DOUBLES(scale), .format = format, .rules = rules, .low = low, .high = high,
    };
    return run(&c, threads);
}

/* --- scales and codes --------------------------------------------------------------------------- */

static int64_t run_quantize_absmax(const struct call *c)
{
    return KERNEL(c, quantize_absmax)(c->array[0].at, c->channels, c->inner, c->scaling, c->qmax,
                                      c->flag, c->scale, (uint8_t *)c->array[1].at);
}

static int64_t run_intervals_absmax(const struct call *c)
{
    return KERNEL(c, quantize_intervals_absmax)(c->array[0].at, c->channels, c->inner, c->scaling,
                                                c->intervals, c->flag, c->scale,
                                                (uint8_t *)c->array[1].at);
}

static int64_t run_format_absmax(const struct call *c)
{
    return KERNEL(c, quantize_format_absmax)(c->array[0].at, c->channels, c->inner, c->scaling,
                                             c->format, c->rules, c->low, c->high, c->scale,
                                             (uint8_t *)c->array[1].at);
}

/* Writes normal values of a format, greater than 0, as its codes; returns the bits of the least. */
#define FF_DEFINE_STORE(T)                                                                         \
    static uint64_t store_##T(const struct ff_format *f, const double *values, size_t n, T *codes) \
    {                                                                                              \
        const int shift = 52 - f->fraction_bits;                                                   \
        const uint64_t offset = (uint64_t)(1023 - f->bias) << f->fraction_bits;                    \
        uint64_t least = UINT64_MAX;                                                               \
        for (size_t i = 0; i < n; i++) {                                                           \
            uint64_t bits;                                                                         \
            memcpy(&bits, values + i, sizeof bits);                                                \
            codes[i] = (T)((bits >> shift) - offset);                                              \
            least = bits < least ? bits : least;                                                   \
        }                                                                                          \
        return least;                                                                              \
    }
FF_DEFINE_STORE(uint8_t)
FF_DEFINE_STORE(uint16_t)
FF_DEFINE_STORE(uint32_t)

static double power_of_two(int exponent)
{
    const uint64_t bits = (uint64_t)(1023 + exponent) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Writes scales, values of a format that are greater than 0, as its codes. */
static void store(const struct ff_format *f, const double *scale, size_t n, void *codes)
{
    const size_t bytes = code_bytes(*f);
    if (bytes == 8) { /* fp64 */
        memcpy(codes, scale, n * sizeof *scale);
        return;
    }
    const uint64_t least = bytes == 1   ? store_uint8_t(f, scale, n, codes)
                           : bytes == 2 ? store_uint16_t(f, scale, n, codes)
                                        : store_uint32_t(f, scale, n, codes);
    const uint64_t first_normal = (uint64_t)(1024 - f->bias) << 52;
    if (!f->has_zero || least >= first_normal)
        return;
    const double smallest = power_of_two(1 - f->bias);
    const double steps = power_of_two(f->bias - 1 + f->fraction_bits);
    for (size_t i = 0; i < n; i++)
        if (scale[i] < smallest) {
            const uint32_t code = (uint32_t)(scale[i] * steps);
            if (bytes == 1)
                ((uint8_t *)codes)[i] = (uint8_t)code;
            else if (bytes == 2)
                ((uint16_t *)codes)[i] = (uint16_t)code;
            else
                ((uint32_t *)codes)[i] = code;
        }
}

static int64_t run_and_store(const struct call *c)
{
    double scale[SCALES];
    int64_t clamped = 0;
    if (c->stored == NULL)
        return c->both(c);
    for (size_t from = 0; from < c->channels; from += SCALES) {
        const size_t n = c->channels - from < SCALES ? c->channels - from : SCALES;
        struct call some = cut(c, 1, from, n);
        some.scale = scale;
        const int64_t found = c->both(&some);
        if (found < 0)
            return -1;
        clamped += found;
        store(&c->scaling->format, scale, n, some.stored);
    }
    return clamped;
}

static int64_t run_codes_and_pack(const struct call *c)
{
    uint8_t loose[PACKED];
    int64_t clamped = 0;
    for (size_t from = 0; from < c->inner; from += PACKED) {
        const size_t n = c->inner - from < PACKED ? c->inner - from : PACKED;
        struct call some = cut(c, 2, from, n);
        uint8_t *const to = (uint8_t *)some.array[1].at;
        some.array[1].at = (char *)loose;
        clamped += c->codes(&some); /* all are finite */
        c->kernels->pack(loose, to, 4, 0, n);
    }
    return clamped;
}

/* Threads find one scale for everything before they begin with codes, as a kernel does. */
static int64_t run_with_one_scale(const struct call *c, unsigned threads)
{
    const struct ff_scaling *s = c->scaling;
    double amax, scale, zero = 0;
    struct call first = *c, second = *c;
    first.run = run_amax, first.scale = &amax, first.stored = NULL;
    run_extremes(&first, threads);
    if (!(amax <= DBL_MAX))
        return -1;
    IN_DEFAULT_ENVIRONMENT({
        if (s->power_rule < 0)
            c->kernels->absmax_scale(&s->format, &amax, s->largest, &scale, 1);
        else
            c->kernels->power_scale((enum ff_power_rule)s->power_rule, s->largest,
                                    s->fraction_bits, &amax, &scale, 1);
        if (c->stored == NULL)
            *c->scale = scale;
        else
            store(&s->format, &scale, 1, c->stored);
        scale *= s->times;
    });
    second.run = c->flag ? run_codes_and_pack : c->codes;
    second.scale = &scale, second.zero_point = &zero;
    return run(&second, threads);
}

static int64_t run_by_absmax(struct call *c, enum ff_isa isa, size_t channels, size_t inner,
                             const void *x, uint8_t *codes, int packs, void *scale,
                             unsigned threads)
{
    c->run = run_and_store;
    c->kernels = ff_table(isa);
    c->outer = 1, c->channels = channels, c->inner = inner;
    c->flag = packs;
    c->array[0].at = (char *)(uintptr_t)x, c->array[0].bits = type_bits(c->type);
    c->array[1].at = (char *)codes, c->array[1].bits = packs ? 4 : 8;
    if (c->scaling->is_stored)
        c->stored = scale;
    else
        c->scale = scale;
    return threads > 1 && channels == 1 ? run_with_one_scale(c, threads) : run(c, threads);
}

int64_t ff_quantize_absmax(enum ff_isa isa, enum ff_type type, const void *x, size_t channels,
                           size_t inner, const struct ff_scaling *scaling, int qmax, int packs,
                           void *scale, uint8_t *codes, unsigned threads)
{
    struct call c = {
        .both = run_quantize_absmax, .codes = run_quantize, .type = type, .scaling = scaling,
        .qmin = -qmax, .qmax = qmax,
    };
    return run_by_absmax(&c, isa, channels, inner, x, codes, packs, scale, threads);
}

int64_t ff_quantize_intervals_absmax(enum ff_isa isa, enum ff_type type, const void *x,
                                     size_t channels, size_t inner,
                                     const struct ff_scaling *scaling,
                                     const struct ff_intervals *intervals, int packs, void *scale,
                                     uint8_t *codes, unsigned threads)
{
    struct call c = {
        .both = run_intervals_absmax, .codes = run_intervals, .type = type, .scaling = scaling,
        .intervals = intervals,
    };
    return run_by_absmax(&c, isa, channels, inner, x, codes, packs, scale, threads);
}

int64_t ff_quantize_format_absmax(enum ff_isa isa, enum ff_type type, const void *x,
                                  size_t channels, size_t inner, const struct ff_scaling *scaling,
                                  const struct ff_format *format, const struct ff_rules *rules,
                                  double low, double high, void *scale, uint8_t *codes,
                                  unsigned threads)
{
    struct call c = {
        .both = run_format_absmax, .codes = run_format, .type = type, .scaling = scaling,
        .format = format, .rules = rules, .low = low, .high = high,
    };
    return run_by_absmax(&c, isa, channels, inner, x, codes, 0, scale, threads);
}

static int64_t run_range(const struct call *c)
{
    return KERNEL(c, quantize_range)(c->array[0].at, c->channels, c->inner, c->format, c->flag,
                                     c->qmin, c->qmax, c->scale, c->zero_point,
                                     (uint8_t *)c->array[1].at);
}

/* The parameters are those of an array that holds the ends of the range alone. */
static int64_t run_with_one_range(const struct call *c, unsigned threads)
{
    double ends[2];
    uint8_t unused[2];
    struct call first = *c, second = *c;
    first.run = run_minmax, first.scale = ends, first.zero_point = ends + 1;
    run_extremes(&first, threads);
    IN_DEFAULT_ENVIRONMENT(const int64_t found = c->kernels->quantize_range[FF_F64](
                               ends, 1, 2, c->format, c->flag, c->qmin, c->qmax, c->scale,
                               c->zero_point, unused));
    if (found < 0)
        return -1;
    second.run = run_quantize;
    return run(&second, threads);
}

int64_t ff_quantize_range(enum ff_isa isa, enum ff_type type, const void *x, size_t channels,
                          size_t inner, const struct ff_format *scale_format, int includes_zero,
                          int qmin, int qmax, double *scale, double *zero_point, uint8_t *codes,
                          unsigned threads)
{
    const struct call c = {
        .run = run_range, .kernels = ff_table(isa), .type = type, .outer = 1, .channels = channels,
        .inner = inner, .array = {ARRAY(x, type_bits(type)), ARRAY(codes, 8)}, .scale = scale,
        .zero_point = zero_point, .format = scale_format, .flag = includes_zero, .qmin = qmin,
        .qmax = qmax,
    };
    return threads > 1 && channels == 1 ? run_with_one_range(&c, threads) : run(&c, threads);
}

/* --- values of codes ---------------------------------------------------------------------------- */

static int64_t run_dequantize(const struct call *c)
{
    KERNEL(c, dequantize)((const uint8_t *)c->array[0].at, c->flag, c->outer, c->channels, c->inner,
                          c->scale, c->zero_point, c->array[1].at);
    return 0;
}

static int64_t run_table(const struct call *c)
{
    KERNEL(c, dequantize_table)((const uint8_t *)c->array[0].at, c->outer, c->channels, c->inner,
                                c->scale, c->table, c->entries, c->array[1].at);
    return 0;
}

static int64_t run_packed(const struct call *c)
{
    KERNEL(c, dequantize_packed)((const uint8_t *)c->array[0].at, c->channels, c->inner, c->scale,
                                 c->table, c->array[1].at);
    return 0;
}

void ff_dequantize(enum ff_isa isa, enum ff_type type, const uint8_t *codes, int is_signed,
                   size_t outer, size_t channels, size_t inner, const double *scale,
                   const double *zero_point, void *out, unsigned threads)
{
    const struct call c = {
        .run = run_dequantize, .kernels = ff_table(isa), .type = type, .flag = is_signed,
        .outer = outer, .channels = channels, .inner = inner,
        .array = {ARRAY(codes, 8), ARRAY(out, type_bits(type))}, .scale = DOUBLES(scale),
        .zero_point = DOUBLES(zero_point),
    };
    run(&c, threads);
}

void ff_dequantize_table(enum ff_isa isa, enum ff_type type, const uint8_t *codes, size_t outer,
                         size_t channels, size_t inner, const double *scale, const double *table,
                         int entries, void *out, unsigned threads)
{
    const struct call c = {
        .run = run_table, .kernels = ff_table(isa), .type = type, .outer = outer,
        .channels = channels, .inner = inner,
        .array = {ARRAY(codes, 8), ARRAY(out, type_bits(type))}, .scale = DOUBLES(scale),
        .table = table, .entries = entries,
    };
    run(&c, threads);
}

void ff_dequantize_packed(enum ff_isa isa, enum ff_type type, const uint8_t *packed,
                          size_t channels, size_t inner, const double *scale, const double *table,
                          void *out, unsigned threads)
{
    const struct call c = {
        .run = run_packed, .kernels = ff_table(isa), .type = type, .outer = 1,
        .channels = channels, .inner = inner,
        .array = {ARRAY(packed, 4), ARRAY(out, type_bits(type))}, .scale = DOUBLES(scale),
        .table = table,
    };
    run(&c, threads);
}
