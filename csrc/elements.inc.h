/* Block quantisers whose codes stand for a format's values or a table's. Part of kernels.inc.h, after
 * quantize.inc.h. */

/* --- intervals --------------------------------------------------------------------------------- */

/* Values and thresholds are compared as signed integers that are in the same order (FF_ORDER), so
 * -0 lies below 0, and "above" can be made to mean "at or above" by taking one off. */

#define FF_DEFINE_ORDER(T, I, F, SIGN_AT, MAX, of_bits, to_bits)                                   \
    FF_INLINE I order_##T(const void *x, size_t i, F factor)                                       \
    {                                                                                              \
        const I bits = (I)to_bits(of_bits(load_##T(x, i)) * factor);                               \
        return bits ^ (bits >> SIGN_AT & (MAX));                                                   \
    }
FF_DEFINE_ORDER(f64, int64_t, double, 63, INT64_MAX, double_of_bits, bits_of_double)
FF_DEFINE_ORDER(f32, int32_t, float, 31, INT32_MAX, float_of_bits, bits_of_float)
FF_DEFINE_ORDER(f16, int32_t, float, 31, INT32_MAX, float_of_bits, bits_of_float)
FF_DEFINE_ORDER(bf16, int32_t, float, 31, INT32_MAX, float_of_bits, bits_of_float)

/* The place that values below t do not exceed, and others do; t is no -0. */
FF_INLINE int32_t place32(double t)
{
    const float near = (float)t;
    const int32_t bits = (int32_t)bits_of_float(near);
    return (bits ^ (bits >> 31 & INT32_MAX)) - ((double)near > t);
}
FF_INLINE int64_t place64(double t)
{
    const int64_t bits = (int64_t)bits_of_double(t);
    return bits ^ (bits >> 63 & INT64_MAX);
}

enum { FF_FEW = 15 }; /* thresholds that are counted one by one; more are searched by halves */

#ifdef FF_COUNT_FEW_32
enum { FF_COUNTS_QUICKLY = 1 };
#else
enum { FF_COUNTS_QUICKLY = 0 };
#define FF_COUNT_FEW_32
#endif
#define FF_COUNT_FEW_64
#ifndef FF_FEW_EDGES_32
#define FF_FEW_EDGES_32
#endif
#define FF_FEW_EDGES_64
#define FF_COUNT_15(x, p)                                                                          \
    ((x > p[0]) + (x > p[1]) + (x > p[2]) + (x > p[3]) + (x > p[4]) + (x > p[5]) + (x > p[6]) +    \
     (x > p[7]) + (x > p[8]) + (x > p[9]) + (x > p[10]) + (x > p[11]) + (x > p[12]) +              \
     (x > p[13]) + (x > p[14]))

/* Writes how many of the thresholds' places each value's place exceeds. */
#define FF_DEFINE_COUNT(W, I)                                                                      \
    FF_LOOP void count_few##W(const I *restrict places, const I *restrict x,                       \
                              uint8_t *restrict index, size_t n)                                   \
    {                                                                                              \
        I p[FF_FEW + 1];                                                                           \
        memcpy(p, places, sizeof p);                                                               \
        size_t i = 0;                                                                              \
        FF_COUNT_FEW_##W;                                                                          \
        for (; i < n; i++)                                                                         \
            index[i] = (uint8_t)FF_COUNT_15(x[i], p);                                              \
    }                                                                                              \
    FF_LOOP void search##W(const I *restrict p, const I *restrict x, uint8_t *restrict index,      \
                           size_t n)                                                               \
    {                                                                                              \
        int32_t at[FF_BLOCK] = {0}; /* all values take a step before the next: gathers */          \
        for (int32_t step = 128; step != 0; step >>= 1)                                            \
            for (size_t i = 0; i < n; i++)                                                         \
                at[i] += step & -(int32_t)(x[i] > p[at[i] + step - 1]);                            \
        for (size_t i = 0; i < n; i++)                                                             \
            index[i] = (uint8_t)at[i];                                                             \
    }
FF_DEFINE_COUNT(32, int32_t)
FF_DEFINE_COUNT(64, int64_t)

/* Turns the number of thresholds below a value into its code. */
static void name_codes(const struct ff_intervals *v, uint8_t *codes, size_t n)
{
    const uint8_t half = (uint8_t)((v->n + 1) / 2), last = (uint8_t)v->n;
    if (v->order == FF_AS_COUNTED)
        return;
    if (v->order == FF_SIGN_AND_MAGNITUDE)
        for (size_t i = 0; i < n; i++)
            codes[i] = codes[i] < half ? (uint8_t)(last - codes[i]) : (uint8_t)(codes[i] - half);
    else
        for (size_t i = 0; i < n; i++)
            codes[i] = v->code[codes[i]];
}

/* Names n codes from index `start` on, and stores them if they are packed. */
static void store_counts(const struct ff_intervals *v, int packs, uint8_t *loose, uint8_t *codes,
                         size_t start, size_t n)
{
    name_codes(v, packs ? loose : codes + start, n);
    if (packs)
        pack4(loose, codes + start / 2, 0, n);
}

/* Writes the places of a channel's thresholds, those that there are not being MAX: what a value's
 * place has to exceed. `room` is a constant where it is 16. In steps, each a loop that becomes
 * vectors of one width. */
#define FF_DEFINE_EDGES(W, I, F, MAX, to_bits)                                                     \
    FF_INLINE void edges##W(const struct ff_intervals *restrict v, double scale, size_t room,      \
                            I *restrict edges)                                                     \
    {                                                                                              \
        double t[256];                                                                             \
        F near[256];                                                                               \
        int64_t lower[256];                                                                        \
        for (size_t k = 0; k < room; k++)                                                          \
            t[k] = v->threshold[k] * scale + 0.0;                                                  \
        for (size_t k = 0; k < room; k++)                                                          \
            near[k] = (F)t[k];                                                                     \
        for (size_t k = 0; k < room; k++) {                                                        \
            const int64_t equal = -(int64_t)((double)near[k] == t[k]) & v->takes_equal[k];         \
            const int64_t zero = -(int64_t)(t[k] == 0) & v->takes_zero[k];                         \
            lower[k] = ((double)near[k] > t[k]) + equal + (equal & zero);                          \
        }                                                                                          \
        for (size_t k = 0; k < room; k++) {                                                        \
            const I bits = (I)to_bits(near[k]);                                                    \
            edges[k] = (bits ^ (bits >> (W - 1) & (MAX))) - (I)lower[k];                           \
        }                                                                                          \
        for (size_t k = (size_t)v->n; k < room; k++)                                               \
            edges[k] = MAX;                                                                        \
        /* Thresholds that the scale has made equal may disagree about equal values: the lower     \
         * decides. */                                                                             \
        I disorder = 0;                                                                            \
        for (size_t k = 1; k < room; k++)                                                          \
            disorder |= edges[k] < edges[k - 1];                                                   \
        if (disorder)                                                                              \
            for (size_t k = 1; k < room; k++)                                                      \
                edges[k] = edges[k] < edges[k - 1] ? edges[k - 1] : edges[k];                      \
    }                                                                                              \
    FF_LOOP void edges_of##W(const struct ff_intervals *restrict v, double scale,                  \
                             I *restrict edges)                                                    \
    {                                                                                              \
        FF_FEW_EDGES_##W;                                                                          \
        if (v->n <= FF_FEW)                                                                        \
            edges##W(v, scale, FF_FEW + 1, edges);                                                 \
        else                                                                                       \
            edges##W(v, scale, 256, edges);                                                        \
    }
FF_DEFINE_EDGES(32, int32_t, float, INT32_MAX, bits_of_float)
FF_DEFINE_EDGES(64, int64_t, double, INT64_MAX, bits_of_double)

/* Whether float32 divides values by the scale without changing an answer: it is a power of two, and
 * what becomes inexact lies far below every threshold but those that go by the sign. */
FF_INLINE int is_exact_divisor(const struct ff_intervals *v, double scale)
{
    const uint64_t fraction = bits_of_double(scale) & UINT64_C(0x000fffffffffffff);
    return v->is_far_from_0 && fraction == 0 && scale >= 0x1p-60 && scale <= 0x1p60;
}

/* What a channel's values are compared with, once they have been multiplied by factor; scale is that
 * of the edges. */
#define FF_DEFINE_VALUE_EDGES(T, W, I, F)                                                          \
    struct edges_##T {                                                                             \
        double scale;                                                                              \
        F factor;                                                                                  \
        I low, high, places[256];                                                                  \
        int has_places;                                                                            \
    };                                                                                             \
    static void set_limits_##T(struct edges_##T *e, const struct ff_intervals *v, double scale,    \
                               int divides)                                                        \
    {                                                                                              \
        const double wanted = divides ? 1 : scale;                                                 \
        e->factor = divides ? (F)(1 / scale) : 1;                                                  \
        if (e->scale == wanted)                                                                    \
            return;                                                                                \
        e->scale = wanted;                                                                         \
        e->low = -1 - place##W(-v->low * wanted + 0.0); /* -low is above a value that is below */  \
        e->high = place##W(v->high * wanted + 0.0);                                                \
        e->has_places = 0;                                                                         \
    }                                                                                              \
    static void set_edges_##T(struct edges_##T *e, const struct ff_intervals *v, double scale,     \
                              int divides)                                                         \
    {                                                                                              \
        set_limits_##T(e, v, scale, divides);                                                      \
        if (e->has_places)                                                                         \
            return;                                                                                \
        edges_of##W(v, e->scale, e->places);                                                       \
        e->has_places = 1;                                                                         \
    }
FF_DEFINE_VALUE_EDGES(f64, 64, int64_t, double)
FF_DEFINE_VALUE_EDGES(f32, 32, int32_t, float)
FF_DEFINE_VALUE_EDGES(f16, 32, int32_t, float)
FF_DEFINE_VALUE_EDGES(bf16, 32, int32_t, float)

#define FF_NEVER(v, scale) 0
#ifndef FF_COUNT_BOUNDED_f32
#define FF_COUNT_BOUNDED_f32
#endif
/* What a loop that does not know some blocks returns in place of how many values are clamped. */
enum { FF_OTHER_WAY = -2 };
#ifdef FF_HAS_CODES
#include "blocks_256.h"
#else
#define power_blocks_f32(f, r, ...) ((void)(r), FF_OTHER_WAY)
#define power_blocks_f16(f, r, ...) ((void)(r), FF_OTHER_WAY)
#define power_blocks_bf16(f, r, ...) ((void)(r), FF_OTHER_WAY)
#endif
#define power_blocks_f64(f, r, ...) ((void)(r), FF_OTHER_WAY)

#ifdef FF_HAS_CELLS
#include "cells_256.h"
#else
struct cells {
    int none;
};
FF_INLINE struct cells cells_of(const struct ff_intervals *v)
{
    (void)v;
    return (struct cells){0};
}
#define count_by_cells_f32 no_cells
#define count_by_cells_f16 no_cells
#define count_by_cells_bf16 no_cells
#endif
#define count_by_cells_f64 no_cells
#define no_cells(cells, x, channels, inner, scale, extent, counts, known)                          \
    ((void)cells, memset(known, 0, channels), 0)
#define FF_COUNT_BOUNDED_f64
#define FF_COUNT_BOUNDED_f16
#define FF_COUNT_BOUNDED_bf16

/* place_values writes the places of values. It returns how many are not between low and high, or -1
 * if any is NaN or Inf, which have the extreme places. */
#define FF_DEFINE_CHANNEL_COUNTS(T, S, W, I, F, INFINITY_PLACE, DIVIDES)                           \
    FF_LOOP int64_t place_values_##T(const S *restrict x, F factor, I low, I high,                 \
                                     I *restrict places, size_t n)                                 \
    {                                                                                              \
        I most = 0, least = 0;                                                                     \
        for (size_t i = 0; i < n; i++) {                                                           \
            const I place = order_##T(x, i, factor);                                               \
            most = place > most ? place : most;                                                    \
            least = place < least ? place : least;                                                 \
            places[i] = place;                                                                     \
        }                                                                                          \
        if (most >= INFINITY_PLACE || least <= -1 - INFINITY_PLACE)                                \
            return -1;                                                                             \
        int64_t outside = 0;                                                                       \
        if (most > high || least < low)                                                            \
            for (size_t i = 0; i < n; i++)                                                         \
                outside += (places[i] < low) | (places[i] > high);                                 \
        return outside;                                                                            \
    }                                                                                              \
    /* n <= FF_BLOCK */                                                                            \
    static int64_t intervals_block_##T(const S *x, size_t n, double scale,                         \
                                       const struct ff_intervals *v, struct edges_##T *e,          \
                                       uint8_t *codes)                                             \
    {                                                                                              \
        I places[FF_BLOCK];                                                                        \
        int64_t clamped = place_values_##T(x, e->factor, e->low, e->high, places, n);              \
        if (clamped < 0 && e->factor != 1) { /* the quotient may have been too large */            \
            set_edges_##T(e, v, scale, 0);                                                         \
            clamped = place_values_##T(x, e->factor, e->low, e->high, places, n);                  \
        }                                                                                          \
        if (clamped < 0)                                                                           \
            return -1;                                                                             \
        if (v->n <= FF_FEW)                                                                        \
            count_few##W(e->places, places, codes, n);                                             \
        else                                                                                       \
            search##W(e->places, places, codes, n);                                                \
        return clamped;                                                                            \
    }                                                                                              \
    /* How many values are not between low and high. */                                            \
    FF_LOOP int64_t count_outside_##T(const S *restrict x, size_t n, const struct edges_##T *e)    \
    {                                                                                              \
        const I low = e->low, high = e->high;                                                      \
        const F factor = e->factor;                                                                \
        I outside = 0;                                                                             \
        for (size_t i = 0; i < n; i++) {                                                           \
            const I place = order_##T(x, i, factor);                                               \
            outside += (place < low) | (place > high);                                             \
        }                                                                                          \
        return outside;                                                                            \
    }                                                                                              \
    /* Counts alone, of values that are known to be finite. */                                     \
    FF_LOOP void finite_block_##T(const S *restrict x, size_t n, const struct ff_intervals *v,     \
                                   const struct edges_##T *restrict e, uint8_t *restrict index)    \
    {                                                                                              \
        I places[FF_BLOCK];                                                                        \
        size_t i = 0;                                                                              \
        if (v->n <= FF_FEW) {                                                                      \
            FF_COUNT_BOUNDED_##T;                                                                  \
        }                                                                                          \
        const size_t rest = n - i;                                                                 \
        for (size_t k = 0; k < rest; k++)                                                          \
            places[k] = order_##T(x, i + k, e->factor);                                            \
        if (v->n <= FF_FEW)                                                                        \
            count_few##W(e->places, places, index + i, rest);                                      \
        else                                                                                       \
            search##W(e->places, places, index + i, rest);                                         \
    }                                                                                              \
    /* Counts of channels, FF_BLOCK values at most each; returns how many are clamped. */          \
    static int64_t count_channels_##T(const S *x, size_t channels, size_t inner,                   \
                                      const struct ff_intervals *v, const struct cells *cells,     \
                                      const double *scale, const uint8_t *extent,                  \
                                      struct edges_##T *e, uint8_t *counts)                        \
    {                                                                                              \
        uint8_t known[FF_CHUNK];                                                                   \
        int64_t clamped = 0;                                                                       \
        if (count_by_cells_##T(cells, x, channels, inner, scale, extent, counts, known))           \
            return 0;                                                                              \
        for (size_t c = 0; c < channels; c++) {                                                    \
            const S *const values = x + c * inner;                                                 \
            if (known[c] && extent[c] == FF_BOUNDED)                                               \
                continue;                                                                          \
            const int divides = DIVIDES(v, scale[c]);                                              \
            set_limits_##T(e, v, scale[c], divides);                                               \
            if (!known[c]) {                                                                       \
                set_edges_##T(e, v, scale[c], divides);                                            \
                finite_block_##T(values, inner, v, e, counts + c * inner);                         \
            }                                                                                      \
            if (extent[c] != FF_BOUNDED)                                                           \
                clamped += count_outside_##T(values, inner, e);                                    \
        }                                                                                          \
        return clamped;                                                                            \
    }
FF_DEFINE_CHANNEL_COUNTS(f64, int64_t, 64, int64_t, double, INT64_C(0x7ff0000000000000), FF_NEVER)
FF_DEFINE_CHANNEL_COUNTS(f32, int32_t, 32, int32_t, float, 0x7f800000, is_exact_divisor)
FF_DEFINE_CHANNEL_COUNTS(f16, int16_t, 32, int32_t, float, 0x7f800000, is_exact_divisor)
FF_DEFINE_CHANNEL_COUNTS(bf16, int16_t, 32, int32_t, float, 0x7f800000, is_exact_divisor)

/* Codes by scales, which follow from the values if there is a plan. */
#define FF_DEFINE_INTERVALS(T, S, DIVIDES)                                                         \
    static int64_t quantize_channels_of_##T(const S *values, size_t channels, size_t inner,        \
                                            const struct scaling_plan *plan, double times,         \
                                            const struct ff_intervals *v, int packs,               \
                                            double *scale, uint8_t *codes)                         \
    {                                                                                              \
        const struct cells cells = cells_of(v);                                                    \
        const size_t step = channels_at_once(inner, channels);                                     \
        struct edges_##T e = {.scale = -1};                                                        \
        double amax[FF_CHUNK], divisor[FF_CHUNK];                                                  \
        uint8_t loose[FF_CHUNK], extent[FF_CHUNK];                                                 \
        int64_t clamped = 0;                                                                       \
        for (size_t c = 0; c < channels; c += step) {                                              \
            const S *const x = values + c * inner;                                                 \
            const size_t some = channels - c < step ? channels - c : step, n = some * inner;       \
            if (!scales_##T(x, some, inner, plan, amax, scale + c))                                \
                return -1;                                                                         \
            for (size_t k = 0; k < some; k++)                                                      \
                divisor[k] = scale[c + k] * times;                                                 \
            set_extents(amax, divisor, some, v->low, v->high, extent);                             \
            const size_t most = some > 1 ? n : FF_BLOCK;                                           \
            for (size_t i = 0; i < n; i += most) {                                                 \
                const size_t count = n - i < most ? n - i : most, start = c * inner + i;           \
                if (c + some < channels)                                                           \
                    prefetch(x + i, count * sizeof(S), n * sizeof(S));                             \
                clamped += count_channels_##T(x + i, some, count / some, v, &cells, divisor,       \
                                              extent, &e, packs ? loose : codes + start);          \
                store_counts(v, packs, loose, codes, start, count);                                \
            }                                                                                      \
        }                                                                                          \
        return clamped;                                                                            \
    }                                                                                              \
    static int64_t quantize_intervals_##T(const void *x_, size_t outer, size_t channels,           \
                                          size_t inner, const double *scale,                       \
                                          const struct ff_intervals *v, uint8_t *codes)            \
    {                                                                                              \
        const S *x = x_;                                                                           \
        struct edges_##T e = {.scale = -1};                                                        \
        int64_t clamped = 0;                                                                       \
        if (outer == 1) /* without a plan, no scale is written */                                  \
            return quantize_channels_of_##T(x, channels, inner, NULL, 1, v, 0, (double *)scale,    \
                                            codes);                                                \
        for (size_t c = 0; c < channels; c++) {                                                    \
            set_edges_##T(&e, v, scale[c], DIVIDES(v, scale[c]));                                  \
            for (size_t o = 0; o < outer; o++)                                                     \
                for (size_t i = 0; i < inner; i += FF_BLOCK) {                                     \
                    const size_t n = inner - i < FF_BLOCK ? inner - i : FF_BLOCK;                  \
                    const size_t at = (o * channels + c) * inner + i;                              \
                    const int64_t more =                                                           \
                        intervals_block_##T(x + at, n, scale[c], v, &e, codes + at);               \
                    if (more < 0)                                                                  \
                        return -1;                                                                 \
                    clamped += more;                                                               \
                }                                                                                  \
        }                                                                                          \
        name_codes(v, codes, outer * channels * inner);                                            \
        return clamped;                                                                            \
    }
FF_DEFINE_INTERVALS(f64, int64_t, FF_NEVER)
FF_DEFINE_INTERVALS(f32, int32_t, is_exact_divisor)
FF_DEFINE_INTERVALS(f16, int16_t, is_exact_divisor)
FF_DEFINE_INTERVALS(bf16, int16_t, is_exact_divisor)

/* --- formats ----------------------------------------------------------------------------------- */

struct format_plan {
    const struct ff_format *format;
    const struct ff_rules *rules;
    double low, high;
    struct plan32 near;
    struct codes_plan bytes;
    int is_near;     /* whether float32 may decide */
    uint32_t within; /* pattern of the largest magnitude of which neither sign is clamped */
};

/* The quotient by a rounded reciprocal is less than 2^-23 of itself off. In units of its last place,
 * or of that of near.linear below it, that is 2, and half a one for their sum: its code may be another
 * than that of the exact quotient only where no more than these lie between it and a tie. low and high
 * are ties too, unless the largest value is a power of two. */
enum { FF_GUARD = 4 };

static struct format_plan format_plan_of(const struct ff_format *f, const struct ff_rules *r,
                                         double low, double high)
{
    struct format_plan q = {.format = f, .rules = r, .low = low, .high = high};
    const int is_power = (max_code(*f) & ((UINT64_C(1) << f->fraction_bits) - 1)) == 0;
    q.is_near = plan_for32(&q.near, *f, r) && f->has_zero && q.near.is_near && !is_power;
    if (q.is_near)
        q.bytes = codes_plan_of(*f, r, q.near);
    q.within = bits_of_float((float)(-low < high ? -low : high));
    return q;
}

/* How float32 divides: not at all; by a reciprocal; exactly, by powers of two, but for quotients so
 * far below the formats' smallest values that they become 0. */
enum { FF_IN_DOUBLE, FF_BY_RECIPROCAL, FF_EXACT };

static int how_to_divide(const double *scale, size_t n)
{
    int normal = 1, powers = 1;
    for (size_t i = 0; i < n; i++) {
        normal &= scale[i] >= 0x1p-126 && scale[i] <= 0x1p126;
        powers &= (bits_of_double(scale[i]) & UINT64_C(0x000fffffffffffff)) == 0;
    }
    return !normal ? FF_IN_DOUBLE : powers ? FF_EXACT : FF_BY_RECIPROCAL;
}

/* Of quotients. */
FF_LOOP int64_t outside32(const uint32_t *restrict q, float low, float high, size_t n)
{
    int32_t outside = 0;
    for (size_t i = 0; i < n; i++) {
        const float quotient = float_of_bits(q[i]);
        outside += (quotient < low) | (quotient > high);
    }
    return outside;
}

#define FF_DEFINE_DIVIDE(T, I, U, NOT_FINITE, AS_DOUBLE)                                           \
    FF_LOOP int64_t divide_##T(const I *restrict x, double scale, double low, double high,         \
                               uint64_t *restrict wide, size_t n)                                  \
    {                                                                                              \
        int64_t outside = 0;                                                                       \
        U bad = 0;                                                                                 \
        for (size_t i = 0; i < n; i++) {                                                           \
            const U bits = load_##T(x, i);                                                         \
            const double q = AS_DOUBLE(bits) / scale;                                              \
            bad |= (U)NOT_FINITE(bits);                                                            \
            outside += (q < low) | (q > high);                                                     \
            wide[i] = bits_of_double(q);                                                           \
        }                                                                                          \
        return bad ? -1 : outside;                                                                 \
    }                                                                                              \
    /* A block of `some` channels, FF_CHUNK values at most. Returns as quantize_format. */         \
    static int64_t format_in_double_##T(const I *x, size_t some, size_t length,                    \
                                        const double *scale, const struct format_plan *q,          \
                                        uint8_t *codes)                                            \
    {                                                                                              \
        uint64_t wide[FF_CHUNK];                                                                   \
        int64_t clamped = 0;                                                                       \
        for (size_t c = 0; c < some; c++) {                                                        \
            const int64_t more = divide_##T(x + c * length, scale[c], q->low, q->high,             \
                                            wide + c * length, length);                            \
            if (more < 0)                                                                          \
                return -1;                                                                         \
            clamped += more;                                                                       \
        }                                                                                          \
        encode_f64(q->format, q->rules, 0, 0, wide, codes, some * length);                         \
        return clamped;                                                                            \
    }
FF_DEFINE_DIVIDE(f64, int64_t, uint64_t, not_finite64, double_of_bits)
FF_DEFINE_DIVIDE(f32, int32_t, uint32_t, not_finite32, FF_DOUBLE_OF_32)
FF_INLINE int multiply(const int32_t *restrict x, float factor, uint32_t *restrict quotients,
                           size_t n)
{
    for (size_t i = 0; i < n; i++)
        quotients[i] = bits_of_float(float_of_bits(load_f32(x, i)) * factor);
    return 0;
}
/* How far a quotient is beyond the place FF_GUARD before the tie below it, in its last places. */
FF_INLINE int32_t beyond_tie(uint32_t quotient, struct plan32 p)
{
    const int32_t magnitude = (int32_t)(quotient & 0x7fffffff), dropped = (1 << p.drop) - 1;
    const uint32_t below = magnitude < (int32_t)p.linear ? p.linear : 0;
    const float spaced = float_of_bits((uint32_t)magnitude) + float_of_bits(below);
    return ((int32_t)bits_of_float(spaced) + FF_GUARD - (1 << p.drop >> 1)) & dropped;
}

/* Returns whether a code is in doubt. */
FF_INLINE int divide_nearly(const int32_t *restrict x, float reciprocal, struct plan32 p,
                                uint32_t *restrict quotients, size_t n)
{
    int32_t least = INT32_MAX;
    for (size_t i = 0; i < n; i++) {
        const uint32_t q = bits_of_float(float_of_bits(load_f32(x, i)) * reciprocal);
        const int32_t beyond = beyond_tie(q, p);
        least = beyond < least ? beyond : least;
        quotients[i] = q;
    }
    return least <= 2 * FF_GUARD;
}
FF_LOOP int divide_block(const int32_t *x, size_t some, size_t length, const double *scale,
                             int how, const struct plan32 *p, uint32_t *quotients)
{
    int in_doubt = 0;
    for (size_t c = 0; c < some; c++) {
        const int32_t *const from = x + c * length;
        uint32_t *const to = quotients + c * length;
        const float reciprocal = (float)(1 / scale[c]);
        if (how == FF_EXACT)
            FF_SHORT(length, multiply(from, reciprocal, to, count));
        else
            FF_SHORT(length, in_doubt |= divide_nearly(from, reciprocal, *p, to, count));
    }
    return in_doubt;
}
/* By the formula what lies near a tie; float32 has found the other codes, and counted `clamped`: if that
 * is 0, it has clamped none of these either. Returns as quantize_format. */
FF_LOOP int64_t decide_codes(const int32_t *restrict x, size_t some, size_t length,
                             const double *restrict scale, const struct format_plan *restrict q,
                             const uint32_t *restrict quotients, int64_t clamped,
                             uint8_t *restrict codes)
{
    const size_t n = some * length;
    const struct plan32 near = q->near;
    const float low = (float)q->low, high = (float)q->high;
    uint64_t exact[FF_CHUNK];
    uint16_t at[FF_CHUNK];
    uint8_t in_doubt[FF_CHUNK + 8], decided[FF_CHUNK];
    size_t found = 0;
    int64_t more = 0;
    exact[0] = 0; /* compilers cannot tell that of none none are read */
    for (size_t i = 0; i < n; i++)
        in_doubt[i] = beyond_tie(quotients[i], near) <= 2 * FF_GUARD;
    memset(in_doubt + n, 0, 8);
    for (size_t from = 0; from < n; from += 8)
        for (uint64_t eight = load_eight(in_doubt + from); eight != 0; eight &= eight - 1) {
            const size_t i = from + (size_t)__builtin_ctzll(eight) / 8;
            const float by_float = float_of_bits(quotients[i]);
            const double quotient = (double)float_of_bits(load_f32(x, i)) / scale[i / length];
            more -= (clamped > 0) & ((by_float < low) | (by_float > high));
            more += (quotient < q->low) | (quotient > q->high);
            exact[found] = bits_of_double(quotient);
            at[found++] = (uint16_t)i;
        }
    encode_f64(q->format, q->rules, 0, 0, exact, decided, found);
    for (size_t k = 0; k < found; k++)
        codes[at[k]] = decided[k];
    return clamped + more;
}

/* A block by float32, and by the formula what that does not know. */
static int64_t format_block_f32(const int32_t *x, size_t some, size_t length, const double *scale,
                                const struct format_plan *q, uint8_t *codes)
{
    uint32_t quotients[FF_CHUNK];
    const size_t n = some * length;
    const int how = q->is_near ? how_to_divide(scale, some) : FF_IN_DOUBLE;
    if (how == FF_IN_DOUBLE)
        return format_in_double_f32(x, some, length, scale, q, codes);
    const int in_doubt = divide_block(x, some, length, scale, how, &q->near, quotients);
    const uint32_t most = near_codes(quotients, codes, n, *q->format, &q->near, &q->bytes);
    if (most >= 0x7f800000) /* or the quotient is */
        return format_in_double_f32(x, some, length, scale, q, codes);
    const int64_t clamped =
        most <= q->within ? 0 : outside32(quotients, (float)q->low, (float)q->high, n);
    return in_doubt ? decide_codes(x, some, length, scale, q, quotients, clamped, codes) : clamped;
}

#define FF_DEFINE_FORMAT_BLOCK_16(T)                                                               \
    static int64_t format_block_##T(const int16_t *x, size_t some, size_t length,                  \
                                    const double *scale, const struct format_plan *q,              \
                                    uint8_t *codes)                                                \
    {                                                                                              \
        int32_t wide[FF_CHUNK];                                                                    \
        widen_##T(x, (uint32_t *)wide, some * length);                                             \
        return format_block_f32(wide, some, length, scale, q, codes);                              \
    }
FF_DEFINE_FORMAT_BLOCK_16(f16)
FF_DEFINE_FORMAT_BLOCK_16(bf16)
#define format_block_f64 format_in_double_f64

#define FF_DEFINE_QUANTIZE_FORMAT(T, I)                                                            \
    /* Codes of channels that fit a chunk, or of one. What is `ahead` values later is asked for. */\
    static int64_t format_channels_##T(const I *x, size_t some, size_t inner, const double *scale, \
                                       const struct format_plan *q, size_t ahead, uint8_t *codes)  \
    {                                                                                              \
        const size_t step = some * inner <= FF_CHUNK ? some * inner : FF_CHUNK;                    \
        int64_t clamped = 0;                                                                       \
        for (size_t i = 0; i < some * inner; i += step) {                                          \
            const size_t n = some * inner - i < step ? some * inner - i : step;                    \
            if (ahead)                                                                             \
                prefetch(x + i, n * sizeof(I), ahead * sizeof(I));                                 \
            const int64_t more =                                                                   \
                format_block_##T(x + i, some, n / some, scale, q, codes + i);                      \
            if (more < 0)                                                                          \
                return -1;                                                                         \
            clamped += more;                                                                       \
        }                                                                                          \
        return clamped;                                                                            \
    }                                                                                              \
    static int64_t quantize_format_##T(const void *x_, size_t outer, size_t channels,              \
                                       size_t inner, const double *scale,                          \
                                       const struct ff_format *f, const struct ff_rules *r,        \
                                       double low, double high, uint8_t *codes)                    \
    {                                                                                              \
        const I *x = x_;                                                                           \
        const struct format_plan q = format_plan_of(f, r, low, high);                              \
        const size_t step = channels_at_once(inner, channels);                                     \
        int64_t clamped = 0;                                                                       \
        for (size_t o = 0; o < outer; o++)                                                         \
            for (size_t c = 0; c < channels; c += step) {                                          \
                const size_t some = channels - c < step ? channels - c : step;                     \
                const int64_t more =                                                               \
                    format_channels_##T(x, some, inner, scale + c, &q, 0, codes);                  \
                if (more < 0)                                                                      \
                    return -1;                                                                     \
                clamped += more;                                                                   \
                x += some * inner, codes += some * inner;                                          \
            }                                                                                      \
        return clamped;                                                                            \
    }                                                                                              \
    /* Scales and codes, packed where a channel fits a chunk. */                                   \
    static int64_t scaled_format_##T(const I *x, size_t channels, size_t inner,                    \
                                     const struct scaling_plan *plan,                              \
                                     const struct format_plan *q, int packs, double *scale,        \
                                     uint8_t *codes)                                               \
    {                                                                                              \
        const size_t step = channels_at_once(inner, channels);                                     \
        double amax[FF_CHUNK];                                                                     \
        uint8_t loose[FF_CHUNK];                                                                   \
        int64_t clamped = 0;                                                                       \
        for (size_t c = 0; c < channels; c += step, x += step * inner) {                           \
            const size_t some = channels - c < step ? channels - c : step, n = some * inner;       \
            if (!scales_##T(x, some, inner, plan, amax, scale + c))                                \
                return -1;                                                                         \
            clamped += format_channels_##T(x, some, inner, scale + c, q,                           \
                                           c + some < channels ? n : 0,                            \
                                           packs ? loose : codes + c * inner);                     \
            if (packs)                                                                             \
                pack4(loose, codes + c * inner / 2, 0, n);                                         \
        }                                                                                          \
        return clamped;                                                                            \
    }                                                                                              \
    static int64_t quantize_format_absmax_##T(const void *x, size_t channels, size_t inner,        \
                                              const struct ff_scaling *s,                          \
                                              const struct ff_format *f, const struct ff_rules *r, \
                                              double low, double high, double *scale,              \
                                              uint8_t *codes)                                      \
    {                                                                                              \
        const struct scaling_plan plan = scaling_plan_of(s);                                       \
        const int64_t clamped =                                                                    \
            power_blocks_##T(*f, r, &plan, low, high, x, channels, inner, 0, scale, codes);        \
        if (clamped != FF_OTHER_WAY)                                                               \
            return clamped;                                                                        \
        const struct format_plan q = format_plan_of(f, r, low, high);                              \
        return scaled_format_##T(x, channels, inner, &plan, &q, 0, scale, codes);                  \
    }                                                                                              \
    static int64_t quantize_intervals_absmax_##T(const void *x, size_t channels, size_t inner,     \
                                                 const struct ff_scaling *s,                       \
                                                 const struct ff_intervals *v, int packs,          \
                                                 double *scale, uint8_t *codes)                    \
    {                                                                                              \
        const struct scaling_plan plan = scaling_plan_of(s);                                       \
        if (v->is_rounding && plan.is_power && s->times == 1) {                                    \
            const struct ff_rules r = saturating_rules(v->format, FF_NEAREST_EVEN);                \
            const int64_t clamped = power_blocks_##T(v->format, &r, &plan, v->low, v->high, x,     \
                                                     channels, inner, packs, scale, codes);        \
            if (clamped != FF_OTHER_WAY)                                                           \
                return clamped;                                                                    \
            const struct format_plan q = format_plan_of(&v->format, &r, v->low, v->high);          \
            if (!FF_COUNTS_QUICKLY && inner <= FF_CHUNK)                                           \
                return scaled_format_##T(x, channels, inner, &plan, &q, packs, scale, codes);      \
        }                                                                                          \
        return quantize_channels_of_##T(x, channels, inner, &plan, s->times, v, packs, scale,      \
                                        codes);                                                    \
    }
FF_DEFINE_QUANTIZE_FORMAT(f64, int64_t)
FF_DEFINE_QUANTIZE_FORMAT(f32, int32_t)
FF_DEFINE_QUANTIZE_FORMAT(f16, int16_t)
FF_DEFINE_QUANTIZE_FORMAT(bf16, int16_t)

/* --- values of a table ------------------------------------------------------------------------- */

#ifndef FF_LOOK_UP_16
#define FF_LOOK_UP_16
#define FF_LOOK_UP_PACKED
#endif

#define FF_DEFINE_DEQUANTIZE_TABLE(T)                                                              \
    FF_LOOP void table_run_##T(const uint8_t *restrict codes, size_t at, size_t n,                 \
                               const double *restrict table, double scale, void *restrict out)     \
    {                                                                                              \
        for (size_t i = at; i < at + n; i++)                                                       \
            store_##T(out, i, table[codes[i]] * scale);                                            \
    }                                                                                              \
    static void dequantize_table_##T(const uint8_t *codes, size_t outer, size_t channels,          \
                                     size_t inner, const double *scale, const double *table,       \
                                     int entries, void *out)                                       \
    {                                                                                              \
        (void)entries;                                                                             \
        for (size_t o = 0; o < outer; o++)                                                         \
            for (size_t c = 0; c < channels; c++)                                                  \
                table_run_##T(codes, (o * channels + c) * inner, inner, table, scale[c], out);     \
    }                                                                                              \
    static void dequantize_packed_##T(const uint8_t *packed, size_t channels, size_t inner,        \
                                      const double *scale, const double *table, void *out)         \
    {                                                                                              \
        uint8_t codes[FF_BLOCK];                                                                   \
        for (size_t c = 0; c < channels; c++)                                                      \
            for (size_t i = 0; i < inner; i += FF_BLOCK) {                                         \
                const size_t n = inner - i < FF_BLOCK ? inner - i : FF_BLOCK;                      \
                const size_t at = c * inner + i;                                                   \
                unpack4(packed + at / 2, codes, 0, n);                                             \
                for (size_t k = 0; k < n; k++)                                                     \
                    store_##T(out, at + k, table[codes[k]] * scale[c]);                            \
            }                                                                                      \
    }
FF_DEFINE_DEQUANTIZE_TABLE(f64)
FF_DEFINE_DEQUANTIZE_TABLE(f16)
FF_DEFINE_DEQUANTIZE_TABLE(bf16)

/* A small table is multiplied once for each channel, and then only looked up. Packed codes are two a
 * byte, the first in its low bits; n is even then. */
FF_LOOP void few_run_f32(const uint8_t *restrict codes, int is_packed, size_t n,
                         const double *restrict table, double scale, float *restrict out)
{
    float t[16];
    for (int k = 0; k < 16; k++)
        t[k] = (float)clamp(table[k] * scale, (double)FLT_MAX);
    size_t i = 0;
    if (is_packed) {
        FF_LOOK_UP_PACKED;
        for (; i < n; i += 2) {
            out[i] = t[codes[i / 2] & 15];
            out[i + 1] = t[codes[i / 2] >> 4];
        }
        return;
    }
    FF_LOOK_UP_16;
    for (; i < n; i++)
        out[i] = t[codes[i] & 15];
}

/* Where table and scale are values of float32, its product is theirs rounded once, as the double
 * product rounded to float32 is: that is exact. */
FF_LOOP void float_run_f32(const uint8_t *restrict codes, size_t n, const float *restrict table,
                           float scale, float *restrict out)
{
    for (size_t i = 0; i < n; i++) {
        float x = table[codes[i]] * scale;
        x = x > FLT_MAX ? FLT_MAX : x;
        out[i] = x < -FLT_MAX ? -FLT_MAX : x;
    }
}

FF_LOOP void table_run_f32(const uint8_t *restrict codes, size_t n, const double *restrict table,
                           double scale, float *restrict out)
{
    for (size_t i = 0; i < n; i++)
        store_f32(out, i, table[codes[i]] * scale);
}

static void dequantize_table_f32(const uint8_t *codes, size_t outer, size_t channels, size_t inner,
                                 const double *scale, const double *table, int entries, void *out_)
{
    float narrow[256], *out = out_;
    int exact = 1;
    for (int k = 0; k < 256; k++) {
        narrow[k] = (float)clamp(table[k], (double)FLT_MAX);
        exact &= narrow[k] == table[k];
    }
    for (size_t o = 0; o < outer; o++)
        for (size_t c = 0; c < channels; c++) {
            const size_t at = (o * channels + c) * inner;
            const float s = (float)clamp(scale[c], (double)FLT_MAX);
            if (entries <= 16 && inner >= 16)
                few_run_f32(codes + at, 0, inner, table, scale[c], out + at);
            else if (exact && s == scale[c])
                float_run_f32(codes + at, inner, narrow, s, out + at);
            else
                table_run_f32(codes + at, inner, table, scale[c], out + at);
        }
}

static void dequantize_packed_f32(const uint8_t *packed, size_t channels, size_t inner,
                                  const double *scale, const double *table, void *out)
{
    for (size_t c = 0; c < channels; c++)
        few_run_f32(packed + c * inner / 2, 1, inner, table, scale[c], (float *)out + c * inner);
}
