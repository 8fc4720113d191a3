/* A kernel against its meaning in double. */
#include "rg_harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rg_core.h"
#include "rg_harness_data.h"

/* The expected side: a double, and a bound, for every element of every argument. */
typedef struct expected {
    int32_t count;
    double **value, **error;
} expected;

static void expected_free(expected *want) {
    for (int32_t i = 0; i < want->count; i++) {
        if (want->value) free(want->value[i]);
        if (want->error) free(want->error[i]);
    }
    free(want->value);
    free(want->error);
    *want = (expected){0};
}

static rg_status expected_new(rg_ctx *ctx, const rg_kdesc *desc, const rg_hdata *data,
                              expected *want) {
    *want = (expected){.count = desc->arg_count};
    size_t args = (size_t)desc->arg_count;
    want->value = calloc(args, sizeof *want->value);
    want->error = calloc(args, sizeof *want->error);
    bool room = want->value && want->error;
    for (int32_t i = 0; room && i < desc->arg_count; i++) {
        int64_t elements = data->buffer[i].elements;
        want->value[i] = calloc((size_t)elements + 1, sizeof(double));
        if (desc->arg[i].written) want->error[i] = calloc((size_t)elements + 1, sizeof(double));
        room = want->value[i] && (want->error[i] || !desc->arg[i].written);
        for (int64_t j = 0; room && j < elements; j++) want->value[i][j] = rg_hdata_get(data, i, j);
    }
    if (room) return RG_OK;
    expected_free(want);
    return rg_nomem(ctx);
}

/* ---- the run ---- */

/* Tiles in an order that depends on the seed: none may rely on another. */
static rg_status run_tiles(rg_ctx *ctx, void *user, const rg_kdesc *desc, uint64_t seed,
                           rg_hdata *data) {
    rg_cpu_kernel kernel = *(const rg_cpu_kernel *)user;
    int32_t tiles = rg_harness_tiles(desc, data->ctrl.blocks);
    if (tiles < 1) return rg_fail(ctx, RG_E_INTERNAL, "kernel %s has no tiles", desc->name);
    uint32_t *order = calloc((size_t)tiles, sizeof *order);
    if (!order) return rg_nomem(ctx);
    rg_random_permutation(seed, 0, (uint32_t)tiles, order);
    unsigned state = rg_harness_flush();
    rg_hdata_guard(data, true);
    for (int32_t i = 0; i < tiles; i++)
        kernel(data->arg, &data->ctrl, (int32_t)order[i], data->arg[desc->arg_count]);
    rg_hdata_guard(data, false);
    rg_harness_unflush(state);
    free(order);
    return RG_OK;
}

/* ---- comparison ---- */

typedef struct comparison {
    rg_ctx *ctx;
    const rg_kdesc *desc;
    int32_t arg;
    rg_hdata *data; /* holds what was got */
    const double *want, *error;
    double square, rms; /* of what is wanted */
    int64_t count;
    rg_harness_result *result;
} comparison;

static void trouble(comparison *cmp, const char *text) {
    cmp->result->passed = false;
    if (!cmp->result->trouble) cmp->result->trouble = text ? text : "out of memory";
}

static void compare_values(comparison *cmp, const rg_hplace *at, double got, double want,
                           double bound) {
    rg_harness_result *result = cmp->result;
    bool same = got == want || (isnan(got) && isnan(want));
    double off = same ? 0 : fabs(got - want), ratio = same ? 0 : off / bound;
    result->compared++;
    result->open += bound > cmp->rms;
    if (cmp->rms > 0 && off / cmp->rms > result->error && bound <= cmp->rms)
        result->error = off / cmp->rms;
    if (ratio > result->worst) result->worst = ratio;
    if (off <= bound) return;
    trouble(cmp, rg_arena_printf(cmp->ctx->arena,
                                 "argument %d at (%d %d %d %d): %.9g instead of %.9g, bound %.3g",
                                 cmp->arg, at->n, at->h, at->w, at->c, got, want, bound));
}

static void add_square(void *user, const rg_hplace *at) {
    comparison *cmp = user;
    double want = cmp->want[at->index];
    if (!isfinite(want)) return;
    cmp->square += want * want;
    cmp->count++;
}

static double got(const comparison *cmp, int64_t index) {
    return rg_hdata_get(cmp->data, cmp->arg, index);
}

static void compare_element(void *user, const rg_hplace *at) {
    comparison *cmp = user;
    compare_values(cmp, at, got(cmp, at->index), cmp->want[at->index], cmp->error[at->index]);
}

/* ---- partial results ---- */

/* The moments of a part, which begin at `at`. */
static void merge(const comparison *cmp, int64_t at, int32_t stride, double total[3]) {
    double n = got(cmp, at), mean = got(cmp, at + stride), m2 = got(cmp, at + 2 * stride);
    if (n == 0) return;
    double count = total[0] + n, delta = mean - total[1];
    total[2] += m2 + delta * delta * total[0] * n / count;
    total[1] += delta * n / count;
    total[0] = count;
}

static bool is_max(const rg_kdesc *desc, int32_t arg) {
    for (int32_t i = 0; i < desc->site_count; i++)
        for (int32_t j = 0; j < desc->site[i].out_count; j++)
            if (desc->site[i].out[j].arg == arg) return desc->site[i].out[j].kind == RG_KOUT_MAX;
    return false;
}

/* All parts of channel c together. */
static void gather(const comparison *cmp, int64_t parts, int32_t c, double total[3]) {
    const rg_karg *arg = &cmp->desc->arg[cmp->arg];
    bool max = is_max(cmp->desc, cmp->arg % rg_kdesc_own_args(cmp->desc));
    total[0] = max ? -INFINITY : 0;
    total[1] = total[2] = 0;
    for (int64_t p = 0; p < parts; p++) {
        int64_t at = p * arg->stats * arg->cp + c;
        double value = got(cmp, at);
        if (arg->stats == 3)
            merge(cmp, at, arg->cp, total);
        else if (!max)
            total[0] += value;
        else if (isnan(value) || value > total[0])
            total[0] = value;
    }
}

static void compare_parts(comparison *cmp, int32_t blocks) {
    const rg_karg *arg = &cmp->desc->arg[cmp->arg];
    for (int32_t stat = 0; stat < arg->stats; stat++) {
        cmp->square = 0;
        for (int32_t c = 0; c < arg->c; c++) cmp->square += pow(cmp->want[stat * arg->cp + c], 2);
        cmp->rms = sqrt(cmp->square / arg->c);
        for (int32_t c = 0; c < arg->c; c++) {
            double total[3];
            gather(cmp, (int64_t)arg->parts_per_block * blocks, c, total);
            int64_t index = (int64_t)stat * arg->cp + c;
            rg_hplace at = {0, stat, 0, c, index};
            compare_values(cmp, &at, total[stat], cmp->want[index], cmp->error[index]);
        }
    }
}

/* Weight gradients in parts: their sum is compared, in place of the first part. */
static void gather_weights(const comparison *cmp, const rg_karg *arg) {
    int64_t parts = (int64_t)arg->parts_per_block * cmp->data->ctrl.blocks;
    for (int64_t i = 0; i < arg->length; i++) {
        double sum = 0;
        for (int64_t p = 0; p < parts; p++) sum += got(cmp, p * arg->length + i);
        rg_hdata_put(cmp->data, cmp->arg, i, sum);
    }
}

/* Of an INPUT kernel those beyond the batch have a meaning too. */
static rg_ctrl images_compared(const comparison *cmp) {
    rg_ctrl ctrl = cmp->data->ctrl;
    if (cmp->desc->kind == RG_K_INPUT) ctrl.live = ctrl.blocks * RG_BLOCK;
    return ctrl;
}

static void compare_arg(comparison *cmp) {
    rg_karg arg = cmp->desc->arg[cmp->arg];
    const rg_ctrl ctrl = images_compared(cmp);
    if (arg.layout == RG_LAYOUT_PART) {
        compare_parts(cmp, cmp->data->ctrl.blocks);
        return;
    }
    if (arg.layout == RG_LAYOUT_PARTW) {
        gather_weights(cmp, &arg);
        arg.layout = RG_LAYOUT_WEIGHT;
    }
    rg_hvisit_elements(&arg, &ctrl, add_square, cmp);
    cmp->rms = cmp->count ? sqrt(cmp->square / (double)cmp->count) : 0;
    rg_hvisit_elements(&arg, &ctrl, compare_element, cmp);
}

/* Partial weight gradients whose tail has added them up: nothing reads what is left of them. */
static bool is_spent(const rg_kdesc *desc, const rg_karg *arg) {
    return arg->layout == RG_LAYOUT_PARTW && arg->written && desc->tail_count > 0;
}

/* A launch leaves its counters as it found them. */
static bool must_stay(const rg_karg *arg) {
    return !arg->written || arg->type == RG_KTYPE_U32;
}

/* Red zones, and what must not have been written. */
static void check_memory(comparison *cmp, const rg_hdata *data) {
    for (int32_t i = 0; i <= data->count; i++) {
        const rg_hbuffer *buffer = &data->buffer[i];
        if (!rg_hdata_zones_whole(data, i))
            trouble(cmp, i == data->count
                             ? "wrote outside the scratch memory"
                             : rg_arena_printf(cmp->ctx->arena, "wrote outside argument %d", i));
        if (i == data->count || !must_stay(&cmp->desc->arg[i])) continue;
        rg_hash hash = rg_hash_bytes(buffer->data, buffer->bytes);
        if (hash.high != buffer->hash.high || hash.low != buffer->hash.low)
            trouble(cmp, rg_arena_printf(cmp->ctx->arena,
                                         cmp->desc->arg[i].written
                                             ? "left counters (argument %d) that are not zero"
                                             : "changed argument %d, which it may only read",
                                         i));
    }
}

static void compare_all(rg_ctx *ctx, const rg_kdesc *desc, const expected *want, rg_hdata *data,
                        rg_harness_result *result) {
    comparison cmp = {.ctx = ctx, .desc = desc, .result = result};
    check_memory(&cmp, data);
    for (int32_t i = 0; i < desc->arg_count; i++) {
        if (must_stay(&desc->arg[i]) || is_spent(desc, &desc->arg[i])) continue;
        cmp = (comparison){.ctx = ctx, .desc = desc, .arg = i, .data = data, .result = result};
        cmp.want = want->value[i];
        cmp.error = want->error[i];
        compare_arg(&cmp);
    }
}

rg_status rg_harness_check_run(rg_ctx *ctx, const rg_kdesc *desc, const rg_harness_run *run,
                               int32_t live, uint64_t seed, rg_harness_result *result) {
    rg_hdata data = {0};
    expected want = {0};
    *result = (rg_harness_result){.passed = true};
    RG_TRY(rg_kdesc_check(ctx, desc));
    rg_status status = rg_hdata_new(ctx, desc, live, &data);
    if (status == RG_OK) status = rg_hdata_fill(ctx, desc, seed, &data);
    if (status == RG_OK) status = expected_new(ctx, desc, &data, &want);
    if (status == RG_OK)
        status = rg_kdesc_interpret_bound(ctx, desc, &data.ctrl, want.value, want.error);
    if (status == RG_OK) status = run->tiles(ctx, run->user, desc, seed, &data);
    if (status == RG_OK) compare_all(ctx, desc, &want, &data, result);
    expected_free(&want);
    rg_hdata_free(&data);
    return status;
}

rg_harness_run rg_harness_run_cpu(rg_cpu_kernel *kernel) {
    return (rg_harness_run){run_tiles, kernel};
}

rg_status rg_harness_check(rg_ctx *ctx, const rg_kdesc *desc, rg_cpu_kernel kernel, int32_t live,
                           uint64_t seed, rg_harness_result *result) {
    const rg_harness_run run = rg_harness_run_cpu(&kernel);
    return rg_harness_check_run(ctx, desc, &run, live, seed, result);
}
