/* Makes the calls that recorder.py wrote, at every level that this machine has, and compares what
 * comes back: `replay FILE`; or, for slow machines, a sample of them at one level: `replay FILE LEVEL
 * EVERY`. Says of every function and level how many calls were made and how many differed, and of the
 * first that did, where. Exits 1 if any did, 2 if the level is not there.
 *
 * Each array ends where unreadable memory begins, or starts where it ends, so that reading and
 * writing beyond it is a fault; and each call is made again while the thread flushes subnormal
 * numbers and rounds otherwise, which may change no bit and has to be there afterwards. Half of the
 * calls are shared by three threads. */
#define _GNU_SOURCE
#include "floatfmt.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* --- the floating-point environment, told a second time ---------------------------------------- */

struct environment {
    const char *name;
    uint64_t bits;
    int flushes, direction; /* of rounding: 1 up, -1 down, 0 to nearest */
};

#if defined(__x86_64__)
static uint64_t control(void)
{
    uint32_t bits;
    __asm__ volatile("stmxcsr %0" : "=m"(bits));
    return bits & ~(uint32_t)0x3f; /* without the exceptions that have been */
}
static void set_control(uint64_t wide)
{
    const uint32_t bits = (uint32_t)wide;
    __asm__ volatile("ldmxcsr %0" : : "m"(bits));
}
static const struct environment ENVIRONMENTS[] = {
    {"the default environment", 0x1f80, 0, 0},
    {"FTZ, DAZ, rounding up", 0xdfc0, 1, 1},
    {"FTZ, DAZ, rounding down", 0xbfc0, 1, -1},
    {"rounding toward zero", 0x7f80, 0, -1},
};
#elif defined(__aarch64__)
static uint64_t control(void)
{
    uint64_t bits;
    __asm__ volatile("mrs %0, fpcr" : "=r"(bits));
    return bits;
}
static void set_control(uint64_t bits) { __asm__ volatile("msr fpcr, %0" : : "r"(bits)); }
static const struct environment ENVIRONMENTS[] = {
    {"the default environment", 0, 0, 0},
    {"FZ, rounding up", 1 << 24 | 1 << 22, 1, 1},
    {"FZ, default NaN, rounding down", 1 << 25 | 1 << 24 | 2 << 22, 1, -1},
    {"rounding toward zero", 3 << 22, 0, -1},
};
#endif
enum { N_ENVIRONMENTS = sizeof ENVIRONMENTS / sizeof *ENVIRONMENTS };

/* Whether arithmetic does what the environment says: else nothing would be tried. */
static int has_effect(const struct environment *e)
{
    volatile float tiny = 0x1p-126f, half = 0.5f, one = 1, little = 0x1p-30f;
    volatile float product, more, less; /* so that none is computed later */
    set_control(e->bits);
    product = tiny * half;
    more = one + little;
    less = one - little;
    set_control(ENVIRONMENTS[0].bits);
    return (product == 0) == e->flushes && (more > 1) == (e->direction > 0) &&
           (less < 1) == (e->direction < 0);
}

/* Whether the environment's two functions set, say and put back what they should. */
static int keeps(const struct environment *e)
{
    set_control(e->bits);
    const uint64_t saved = ff_default_float_environment(), between = control();
    ff_restore_float_environment(saved);
    const uint64_t after = control();
    set_control(ENVIRONMENTS[0].bits);
    return between == ENVIRONMENTS[0].bits && after == e->bits;
}

/* --- records ----------------------------------------------------------------------------------- */

enum { INTEGER, DOUBLE, INPUT, OUTPUT };
enum { MOST_ARGUMENTS = 16, NAME = 32, ROOM = 1 << 20, MARGIN = 64 };

struct argument {
    uint64_t kind, value; /* a double's bits, an array's size */
    const unsigned char *bytes;
    unsigned char *at;
};

struct record {
    const char *name;
    uint64_t n;
    struct argument arguments[MOST_ARGUMENTS];
    int64_t returned;
};

static uint64_t take(const unsigned char **from)
{
    uint64_t value;
    memcpy(&value, *from, sizeof value);
    *from += sizeof value;
    return value;
}

static void fail(const char *what)
{
    fprintf(stderr, "replay: %s\n", what);
    exit(2);
}

static struct record read_record(const unsigned char **from)
{
    struct record r = {.name = (const char *)*from};
    *from += NAME;
    r.n = take(from);
    if (r.n > MOST_ARGUMENTS)
        fail("a record has too many arguments");
    for (uint64_t k = 0; k < r.n; k++) {
        struct argument *a = &r.arguments[k];
        a->kind = take(from);
        a->value = take(from);
        if (a->kind < INPUT)
            continue;
        if (a->value + MARGIN > ROOM)
            fail("an array of a record is too large");
        a->bytes = *from;
        *from += a->value;
    }
    r.returned = (int64_t)take(from);
    return r;
}

/* --- memory ------------------------------------------------------------------------------------ */

static unsigned char *rooms[MOST_ARGUMENTS];

static void make_rooms(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int k = 0; k < MOST_ARGUMENTS; k++) {
        unsigned char *all =
            mmap(NULL, ROOM + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (all == MAP_FAILED || mprotect(all + page, ROOM, PROT_READ | PROT_WRITE))
            fail("no memory");
        rooms[k] = all + page;
    }
}

/* Fills an array and, with the opposite of what is wanted, an output; and a margin beside them. */
static void place(struct argument *a, int k, int at_end)
{
    a->at = rooms[k] + (at_end ? ROOM - a->value : 0);
    memset(a->at - (at_end ? MARGIN : 0), 0xa5, a->value + MARGIN);
    for (uint64_t i = 0; i < a->value; i++)
        a->at[i] = a->kind == INPUT ? a->bytes[i] : (unsigned char)~a->bytes[i];
}

static int margin_is_whole(const struct argument *a, int at_end)
{
    const unsigned char *margin = at_end ? a->at - MARGIN : a->at + a->value;
    for (int i = 0; i < MARGIN; i++)
        if (margin[i] != 0xa5)
            return 0;
    return 1;
}

/* --- calls ------------------------------------------------------------------------------------- */

static const char *LEVELS[] = {"baseline", "avx2", "avx512"};
enum { N_LEVELS = sizeof LEVELS / sizeof *LEVELS };

/* What is being called, for a fault's message too. */
static struct {
    const char *name, *environment;
    enum ff_isa isa;
    int at_end;
    unsigned threads;
    uint64_t number;
} now;

static double double_of(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Arguments by their place; the first is the level where there is one. */
#define I(k) ((int)(int64_t)a[k].value)
#define N(k) (a[k].value)
#define D(k) (double_of(a[k].value))
#define P(k) ((void *)a[k].at)
#define P_OR_NULL(k) (a[k].value == 0 ? NULL : P(k))
#define T (now.threads)
#define CALL(function, ...)                                                                        \
    if (strcmp(name, #function) == 0)                                                              \
    return (int64_t)function(__VA_ARGS__)
#define DO(function, ...)                                                                          \
    if (strcmp(name, #function) == 0)                                                              \
    return function(__VA_ARGS__), 0

static int64_t call(const char *name, enum ff_isa isa, const struct argument *a)
{
    CALL(ff_f16c, I(0), P(1), P(2), N(3));
    DO(ff_decompose, isa, P(1), P(2), P(3), P(4), P(5), N(6), T);
    CALL(ff_compose, isa, P(1), P(2), P(3), P(4), P(5), N(6), T);
    CALL(ff_encode, isa, I(1), P(2), P(3), N(4), N(5), P(6), P(7), N(8), T);
    DO(ff_decode, isa, I(1), P(2), P(3), P(4), N(5), T);
    CALL(ff_round_to, isa, I(1), P(2), P(3), N(4), N(5), P(6), P(7), N(8), T);
    DO(ff_pack, isa, P(1), P(2), I(3), I(4), N(5), T);
    DO(ff_unpack, isa, P(1), P(2), I(3), I(4), N(5), T);
    DO(ff_amax, isa, I(1), P(2), N(3), N(4), N(5), P(6), T);
    DO(ff_minmax, isa, I(1), P(2), N(3), N(4), N(5), P(6), P(7), T);
    DO(ff_absmax_scale, isa, P(1), P(2), D(3), P(4), N(5));
    DO(ff_power_scale, isa, I(1), D(2), I(3), P(4), P(5), N(6));
    DO(ff_zeropoint_parameters, isa, P(1), P(2), P(3), I(4), I(5), P(6), P(7), N(8));
    CALL(ff_quantize, isa, I(1), P(2), N(3), N(4), N(5), P(6), P(7), I(8), I(9), P(10), T);
    CALL(ff_quantize_absmax, isa, I(1), P(2), N(3), N(4), P(5), I(6), I(7), P(8), P(9), T);
    CALL(ff_quantize_range, isa, I(1), P(2), N(3), N(4), P(5), I(6), I(7), I(8), P(9), P(10), P(11),
         T);
    CALL(ff_quantize_intervals_absmax, isa, I(1), P(2), N(3), N(4), P(5), P(6), I(7), P(8), P(9),
         T);
    CALL(ff_quantize_format_absmax, isa, I(1), P(2), N(3), N(4), P(5), P(6), P(7), D(8), D(9), P(10),
         P(11), T);
    CALL(ff_quantize_intervals, isa, I(1), P(2), N(3), N(4), N(5), P(6), P(7), P(8), T);
    CALL(ff_quantize_format, isa, I(1), P(2), N(3), N(4), N(5), P(6), P(7), P(8), D(9), D(10),
         P(11), T);
    DO(ff_dequantize, isa, I(1), P(2), I(3), N(4), N(5), N(6), P(7), P(8), P(9), T);
    CALL(ff_int8_product, isa, P(1), N(2), P(3), N(4), N(5), P(6));
    CALL(ff_int8_linear, isa, P(1), N(2), P(3), N(4), N(5), P(6), P(7), P_OR_NULL(8),
         P_OR_NULL(9), P(10), NULL, 1);
    DO(ff_dequantize_sums, isa, P(1), N(2), N(3), P(4), P(5), P_OR_NULL(6), P_OR_NULL(7), P(8),
       NULL, 1);
    DO(ff_dequantize_table, isa, I(1), P(2), N(3), N(4), N(5), P(6), P(7), I(8), P(9), T);
    DO(ff_dequantize_packed, isa, I(1), P(2), N(3), N(4), P(5), P(6), P(7), T);
    fail("a record's function is not known here");
    return 0;
}

static void say_where(FILE *to)
{
    fprintf(to, "%s, %s, in %s, %u threads, arrays %s unreadable memory, record %llu: ", now.name,
            LEVELS[now.isa], now.environment, now.threads, now.at_end ? "before" : "after",
            (unsigned long long)now.number);
}

static void on_fault(int signal_number)
{
    say_where(stderr);
    fprintf(stderr, "reads or writes beyond an array (signal %d)\n", signal_number);
    _exit(3);
}

static int is_finite(const unsigned char *of_double)
{
    uint64_t bits;
    memcpy(&bits, of_double, sizeof bits);
    return (bits >> 52 & 0x7ff) != 0x7ff;
}

/* Where x is not finite, an extreme is neither, and no more is promised of it, nor of the other. */
static int is_any_extreme(const struct record *r, uint64_t byte)
{
    int wanted = 0, got = 0;
    if (strcmp(r->name, "ff_amax") != 0 && strcmp(r->name, "ff_minmax") != 0)
        return 0;
    for (uint64_t k = 0; k < r->n; k++)
        if (r->arguments[k].kind == OUTPUT) {
            wanted |= !is_finite(r->arguments[k].bytes + byte / 8 * 8);
            got |= !is_finite(r->arguments[k].at + byte / 8 * 8);
        }
    return wanted && got;
}

/* Says how one call went wrong; returns whether it did. */
static int differs(const struct record *r, int64_t returned, uint64_t before, uint64_t after)
{
    if (before != after) {
        say_where(stdout);
        printf("control register %#llx became %#llx\n", (unsigned long long)before,
               (unsigned long long)after);
        return 1;
    }
    if (returned != r->returned) {
        say_where(stdout);
        printf("returned %lld, wanted %lld\n", (long long)returned, (long long)r->returned);
        return 1;
    }
    /* Where a value has no code the outputs mean nothing: -1, and 1 of what counts nothing. */
    const int is_count = strncmp(r->name, "ff_quantize", 11) == 0;
    const int means_nothing = is_count ? returned < 0 : returned != 0;
    for (uint64_t k = 0; k < r->n; k++) {
        const struct argument *a = &r->arguments[k];
        if (a->kind < INPUT)
            continue;
        if (!margin_is_whole(a, now.at_end)) {
            say_where(stdout);
            printf("wrote beyond argument %llu\n", (unsigned long long)k);
            return 1;
        }
        if (a->kind == OUTPUT && means_nothing)
            continue;
        for (uint64_t i = 0; i < a->value; i++)
            if (a->at[i] != a->bytes[i] && !(a->kind == OUTPUT && is_any_extreme(r, i))) {
                say_where(stdout);
                printf("argument %llu, byte %llu of %llu: got %#x, wanted %#x\n",
                       (unsigned long long)k, (unsigned long long)i,
                       (unsigned long long)a->value, a->at[i], a->bytes[i]);
                return 1;
            }
    }
    return 0;
}

/* Whether scales that are to be stored as codes of their format are not those of the record, which are
 * doubles. */
static int stores_otherwise(const struct record *r, enum ff_isa isa, const struct environment *e)
{
    static double scales[ROOM / sizeof(double)];
    struct argument arguments[MOST_ARGUMENTS];
    struct ff_scaling scaling;
    const int is_format = strcmp(r->name, "ff_quantize_format_absmax") == 0;
    const int is_intervals = strcmp(r->name, "ff_quantize_intervals_absmax") == 0;
    if (r->returned < 0 ||
        !(is_format || is_intervals || strcmp(r->name, "ff_quantize_absmax") == 0))
        return 0;
    const int place = is_format ? 10 : 8;
    const struct argument *scale = &r->arguments[place];
    memcpy(&scaling, r->arguments[5].at, sizeof scaling);
    if (scaling.power_rule >= 0 && scaling.format.has_zero)
        return 0; /* nothing says that it has such powers of two */
    scaling.is_stored = 1;
    memcpy(arguments, r->arguments, sizeof arguments);
    arguments[5].at = (unsigned char *)&scaling;
    const struct ff_format f = scaling.format;
    const int bits = (f.sign != FF_UNSIGNED) + f.exponent_bits + f.fraction_bits;
    const size_t n = scale->value / sizeof(double);
    const size_t bytes = bits <= 8 ? 1 : bits <= 16 ? 2 : bits <= 32 ? 4 : 8;
    unsigned char *codes = rooms[place] + ROOM - n * bytes;
    arguments[place].at = codes;
    set_control(e->bits);
    const int64_t returned = call(r->name, isa, arguments);
    set_control(ENVIRONMENTS[0].bits);
    ff_decode(isa, FF_F64, &f, codes, scales, n, 1);
    if (returned == r->returned && memcmp(scales, scale->bytes, scale->value) == 0)
        return 0;
    say_where(stdout);
    printf("stored other scales\n");
    return 1;
}

/* One call; returns 1 if it went wrong. The instruction that ff_f16c is may be missing. */
static int replay(struct record *r, enum ff_isa isa, int way)
{
    const struct environment *e = &ENVIRONMENTS[way / 2];
    const int at_end = way % 2 == 0;
    now.environment = e->name, now.isa = isa, now.at_end = at_end;
    now.threads = (way / 4 + way) % 2 ? 3 : 1;
    for (uint64_t k = 0; k < r->n; k++)
        if (r->arguments[k].kind >= INPUT)
            place(&r->arguments[k], (int)k, at_end);
    set_control(e->bits);
    const int64_t returned = call(r->name, isa, r->arguments);
    const uint64_t after = control();
    set_control(ENVIRONMENTS[0].bits);
    struct record wanted = *r;
    if (strcmp(r->name, "ff_f16c") == 0 && !ff_isa_supported(FF_AVX2))
        wanted.returned = 1;
    return differs(&wanted, returned, e->bits, after) || stores_otherwise(r, isa, e);
}

/* --- the tally --------------------------------------------------------------------------------- */

enum { MOST_FUNCTIONS = 64 };
static struct tally {
    const char *name;
    unsigned long long records, calls[N_LEVELS], wrong[N_LEVELS];
} tallies[MOST_FUNCTIONS];

static struct tally *tally_of(const char *name)
{
    for (int k = 0; k < MOST_FUNCTIONS; k++) {
        if (tallies[k].name == NULL)
            tallies[k].name = name;
        if (strcmp(tallies[k].name, name) == 0)
            return &tallies[k];
    }
    fail("too many functions");
    return NULL;
}

static int is_asked[N_LEVELS];

#if defined(__x86_64__)
/* What VCVTPS2PH, and not our code, makes of 2^-25, halfway between 0 and the least fp16. */
__attribute__((target("f16c"))) static int fp16_of_2_to_the_minus_25(void)
{
    const __m128 half = _mm_set1_ps(0x1p-25f);
    return _mm_cvtsi128_si32(_mm_cvtps_ph(half, _MM_FROUND_CUR_DIRECTION)) & 0xffff;
}
static int rounds_subnormal_fp16(void)
{
    return !ff_isa_supported(FF_AVX2) || fp16_of_2_to_the_minus_25() == 0;
}
#else
static int rounds_subnormal_fp16(void) { return 1; }
#endif

static double value_of(int type, const unsigned char *x, uint64_t i)
{
    uint32_t bits = 0;
    float single;
    if (type == FF_F64) {
        uint64_t wide;
        memcpy(&wide, x + 8 * i, 8);
        return double_of(wide);
    }
    if (type == FF_F32)
        memcpy(&bits, x + 4 * i, 4);
    else
        memcpy((char *)&bits + 2, x + 2 * i, 2);
    memcpy(&single, &bits, 4);
    return (double)single;
}

/* Whether a level has VCVTPS2PH round a value of the record to a subnormal. */
static int needs_subnormal_fp16(const struct record *r, int isa)
{
    static const size_t sizes[] = {[FF_F64] = 8, [FF_F32] = 4, [FF_F16] = 2, [FF_BF16] = 2};
    struct ff_format f;
    if (strcmp(r->name, "ff_f16c") == 0)
        return 1;
    if (isa == FF_BASELINE || (strcmp(r->name, "ff_encode") && strcmp(r->name, "ff_round_to")))
        return 0;
    memcpy(&f, r->arguments[2].bytes, sizeof f);
    const int type = (int)r->arguments[1].value;
    if (f.exponent_bits != 5 || f.fraction_bits != 10 || type == FF_F16)
        return 0;
    for (uint64_t i = 0; i < r->arguments[6].value / sizes[type]; i++) {
        const double x = value_of(type, r->arguments[6].bytes, i);
        if (x != 0 && x > -0x1p-14 && x < 0x1p-14)
            return 1;
    }
    return 0;
}

/* Takes the first record of a kind, that is of a function, a type and a size within a power of two, and
 * then one in `every`. */
static int is_sampled(const struct record *r, unsigned long every)
{
    static unsigned long of_kind[1 << 12];
    uint64_t kind = 0, largest = 0;
    for (const char *c = r->name; *c; c++)
        kind = 31 * kind + (unsigned char)*c;
    for (uint64_t k = 0; k < r->n; k++)
        if (r->arguments[k].kind == INPUT && r->arguments[k].value > largest)
            largest = r->arguments[k].value;
    kind = 31 * kind + (r->arguments[1].kind == INTEGER ? r->arguments[1].value : 9);
    kind = 67 * kind + (largest ? 63 - (uint64_t)__builtin_clzll(largest) : 64);
    return of_kind[kind % (1 << 12)]++ % every == 0;
}

/* All ways in which a call is made, or of a sample two: the environments take turns. */
static int is_way_taken(unsigned long long number, int way, unsigned long every)
{
    const int turn = (int)(number % N_ENVIRONMENTS);
    return every == 1 || way == 2 * turn || way == (2 * turn + 3) % (2 * N_ENVIRONMENTS);
}

static void replay_ways(struct record *r, int rounds_subnormals, unsigned long every)
{
    struct tally *t = tally_of(r->name);
    now.name = r->name;
    now.number = t->records++;
    for (int isa = 0; isa < N_LEVELS; isa++) {
        if (!is_asked[isa] || (!rounds_subnormals && needs_subnormal_fp16(r, isa)))
            continue;
        for (int way = 0; way < 2 * N_ENVIRONMENTS; way++) {
            if (t->wrong[isa] || !is_way_taken(now.number, way, every))
                continue; /* the first is told; the rest would be too many */
            t->calls[isa]++;
            t->wrong[isa] += (unsigned)replay(r, (enum ff_isa)isa, way);
        }
    }
}

static const unsigned char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END))
        fail("the file cannot be read");
    *size = (size_t)ftell(file);
    unsigned char *all = malloc(*size);
    rewind(file);
    if (all == NULL || fread(all, 1, *size, file) != *size)
        fail("the file cannot be read");
    fclose(file);
    return all;
}

/* Which levels: all that run here, or the one that is named. */
static void choose_levels(const char *name)
{
    int found = 0;
    for (int isa = 0; isa < N_LEVELS; isa++) {
        if (ff_isa_supported((enum ff_isa)isa) && !ff_isa_built((enum ff_isa)isa))
            fail("a level runs that is not built");
        is_asked[isa] = ff_isa_supported((enum ff_isa)isa) &&
                        (name == NULL || strcmp(name, LEVELS[isa]) == 0);
        found |= is_asked[isa];
    }
    if (!found)
        fail("this machine has no such level");
}

static int tell(void)
{
    int wrong = 0;
    printf("%s; %s\n", ff_compiler(), ff_compile_flags());
    for (int k = 0; k < MOST_FUNCTIONS && tallies[k].name != NULL; k++)
        for (int isa = 0; isa < N_LEVELS; isa++) {
            const struct tally *t = &tallies[k];
            if (!is_asked[isa])
                continue;
            printf("%s %s: %llu records, %llu calls, %s\n", t->name, LEVELS[isa], t->records,
                   t->calls[isa], t->wrong[isa] ? "WRONG" : "fine");
            wrong |= t->wrong[isa] != 0;
        }
    return wrong;
}

int main(int argc, char **argv)
{
    if (argc != 2 && argc != 4)
        fail("usage: replay FILE [LEVEL EVERY]");
    for (int k = 0; k < N_ENVIRONMENTS; k++)
        if (!has_effect(&ENVIRONMENTS[k]))
            fail("the control register has not the effect that it should have");
        else if (!keeps(&ENVIRONMENTS[k]))
            fail("the control register is not set, or not put back");
    choose_levels(argc == 4 ? argv[2] : NULL);
    const unsigned long every = argc == 4 ? strtoul(argv[3], NULL, 10) : 1;
    if (every == 0)
        fail("EVERY is a number from 1 on");
    const int rounds_subnormals = rounds_subnormal_fp16();
    if (!rounds_subnormals)
        printf("VCVTPS2PH rounds wrongly here: what becomes a subnormal fp16 is left out\n");
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    make_rooms();
    size_t size;
    const unsigned char *from = read_file(argv[1], &size), *end = from + size;
    while (from < end) {
        struct record r = read_record(&from);
        if (is_sampled(&r, every))
            replay_ways(&r, rounds_subnormals, every);
    }
    return tell();
}
