/* Products of int8 codes and what they stand for, in parts that several threads take. */
#include "kernels.h"

#include <stdatomic.h>
#include <stdlib.h>

/* From so many rows on panels pay; a part has so many outputs, of few rows or of many. */
enum { MANY_ROWS = 8, PART_OF_FEW = 128, PART_OF_MANY = 48, TILE_ROWS = 128 };

struct linear {
    const struct ff_kernels *kernels;
    const int16_t *wide; /* x by int8_widen; NULL where sums are given */
    const int8_t *w;
    const int32_t *sums;
    size_t rows, inputs, outputs, part;
    const double *row_scale;
    const float *column_scale;
    const double *other;
    const float *bias;
    float *out;
    atomic_size_t next; /* the first output that nobody has taken */
};

static void dequantize_part(const struct linear *l, const int32_t *sums, size_t stride, size_t row,
                            size_t rows, size_t o, size_t outputs)
{
    const size_t at = row * l->outputs + o;
    l->kernels->dequantize_sums(sums, stride, rows, outputs, l->row_scale + row,
                                l->column_scale + o, l->other == NULL ? NULL : l->other + at,
                                l->bias == NULL ? NULL : l->bias + o, l->out + at, l->outputs);
}

/* Some outputs of all rows, as many rows at a time as leave the sums in the cache. */
static void multiply_part(const struct linear *l, size_t o, size_t outputs)
{
    int32_t sums[TILE_ROWS * PART_OF_MANY];
    const int is_paneled = l->rows >= MANY_ROWS;
    const size_t width = is_paneled ? (l->inputs + 1) / 2 * 2 : l->inputs;
    for (size_t row = 0; row < l->rows; row += TILE_ROWS) {
        const size_t rows = l->rows - row < TILE_ROWS ? l->rows - row : TILE_ROWS;
        l->kernels->int8_product(l->wide + row * width, rows, is_paneled, l->w + o * l->inputs,
                                 outputs, l->inputs, sums, outputs);
        dequantize_part(l, sums, outputs, row, rows, o, outputs);
    }
}

/* Takes parts until none is left. */
static void work(void *what)
{
    struct linear *l = what;
    const uint64_t saved = ff_default_float_environment();
    size_t o;
    while ((o = atomic_fetch_add(&l->next, l->part)) < l->outputs) {
        const size_t outputs = l->outputs - o < l->part ? l->outputs - o : l->part;
        if (l->wide == NULL)
            dequantize_part(l, l->sums + o, l->outputs, 0, l->rows, o, outputs);
        else
            multiply_part(l, o, outputs);
    }
    ff_restore_float_environment(saved);
}

static void run(struct linear *l, ff_team *team, unsigned threads)
{
    l->part = l->rows < MANY_ROWS ? PART_OF_FEW : PART_OF_MANY;
    atomic_init(&l->next, 0);
    if (team == NULL)
        work(l);
    else
        team(work, l, threads, 0);
}

/* Returns x for int8_product, to be freed; NULL if memory lacks. */
static int16_t *widened(const struct ff_kernels *kernels, const int8_t *x, size_t rows,
                        size_t inputs)
{
    const int is_paneled = rows >= MANY_ROWS;
    const size_t panels = (rows + FF_PANEL_ROWS - 1) / FF_PANEL_ROWS;
    const size_t height = is_paneled ? panels * FF_PANEL_ROWS : rows;
    const size_t size = height * (inputs + inputs % 2) * sizeof(int16_t);
    int16_t *wide = aligned_alloc(64, (size / 64 + 1) * 64);
    if (wide != NULL)
        kernels->int8_widen(x, rows, inputs, is_paneled, wide);
    return wide;
}

int ff_int8_product(enum ff_isa isa, const int8_t *x, size_t rows, const int8_t *w, size_t outputs,
                    size_t inputs, int32_t *sums)
{
    const struct ff_kernels *kernels = ff_table(isa);
    int16_t *wide = widened(kernels, x, rows, inputs);
    if (wide == NULL)
        return 1;
    kernels->int8_product(wide, rows, rows >= MANY_ROWS, w, outputs, inputs, sums, outputs);
    free(wide);
    return 0;
}

int ff_int8_linear(enum ff_isa isa, const int8_t *x, size_t rows, const int8_t *w, size_t outputs,
                   size_t inputs, const double *row_scale, const float *column_scale,
                   const double *other, const float *bias, float *out, ff_team *team,
                   unsigned threads)
{
    const struct ff_kernels *kernels = ff_table(isa);
    int16_t *wide = widened(kernels, x, rows, inputs);
    if (wide == NULL)
        return 1;
    struct linear l = {
        .kernels = kernels, .wide = wide, .w = w, .rows = rows, .inputs = inputs,
        .outputs = outputs, .row_scale = row_scale, .column_scale = column_scale, .other = other,
        .bias = bias, .out = out,
    };
    run(&l, team, threads);
    free(wide);
    return 0;
}

void ff_dequantize_sums(enum ff_isa isa, const int32_t *sums, size_t rows, size_t columns,
                        const double *row_scale, const float *column_scale, const double *other,
                        const float *bias, float *out, ff_team *team, unsigned threads)
{
    struct linear l = {
        .kernels = ff_table(isa), .sums = sums, .rows = rows, .outputs = columns,
        .row_scale = row_scale, .column_scale = column_scale, .other = other, .bias = bias,
        .out = out,
    };
    run(&l, team, threads);
}
