/* Adjoint identities. */
#include "rg_harness_adjoint.h"

#include <math.h>
#include <stdlib.h>

#include "rg_core.h"
#include "rg_harness_data.h"

/* The three tensors are drawn element by element, by their logical place, so that they are the same
 * in every layout. */
typedef enum tensor { X, Y, W } tensor;

typedef struct trial {
    rg_ctx *ctx;
    const rg_hbare *bare;
    rg_kformat format; /* of x, y and w */
    rg_hgeom geom;
    uint64_t seed;
    rg_hdata data[RG_HROLES];
    double size;
} trial;

/* In [-1/2, 1/2), a number of the format. Extents beyond the first axis. */
static double drawn(const trial *t, tensor which, const rg_hplace *at) {
    const rg_hgeom *g = &t->geom;
    const int64_t b = which == X ? g->h : which == Y ? g->p : g->r;
    const int64_t c = which == X ? g->w : which == Y ? g->q : g->s;
    const int64_t d = which == Y ? g->k : g->c;
    int64_t index = ((at->n * b + at->h) * c + at->w) * d + at->c;
    double unit = (double)rg_random_unit(t->seed, RG_STREAM_TEST, (uint32_t)which, (uint64_t)index);
    return rg_kformat_round(t->format, unit - 0.5);
}

/* ---- operands ---- */

typedef struct fill {
    const trial *trial;
    tensor which;
    rg_hdata *to; /* argument `arg` of it */
    int32_t arg;
    bool turned; /* k and c stand in each other's place */
    double *to_double;
} fill;

static void fill_element(void *user, const rg_hplace *at) {
    const fill *f = user;
    rg_hplace place = *at;
    if (f->turned) place.n = at->c, place.c = at->n;
    double value = drawn(f->trial, f->which, &place);
    if (f->to) rg_hdata_put(f->to, f->arg, at->index, value);
    if (f->to_double) f->to_double[at->index] = value;
}

static void fill_act(trial *t, rg_hrole role, int32_t arg, tensor which) {
    const rg_karg *at = &t->bare[role].desc->arg[arg];
    fill f = {t, which, &t->data[role], arg, at->turned, NULL};
    rg_hvisit_elements(at, &t->data[role].ctrl, fill_element, &f);
}

static rg_karg master_of(const rg_hgeom *g) {
    return (rg_karg){.layout = RG_LAYOUT_WEIGHT,
                     .read = true,
                     .c = g->c,
                     .k = g->k,
                     .kp = g->k,
                     .kb = g->k,
                     .r = g->r,
                     .s = g->s};
}

/* Turned or transformed as a packing kernel would, by what its description means. */
static rg_status pack(trial *t, rg_hrole role, rg_kpack kind) {
    rg_karg pair[2] = {master_of(&t->geom), t->bare[role].desc->arg[1]};
    pair[1].read = false;
    pair[1].written = true;
    rg_kdesc desc = {.kind = RG_K_PACK, .name = "pack", .arg_count = 2, .arg = pair, .pack = kind};
    desc.index_arg = -1;
    int64_t count[2] = {rg_karg_elements(&pair[0], 1), rg_karg_elements(&pair[1], 1)};
    double *in = calloc((size_t)count[0], sizeof *in), *out = calloc((size_t)count[1], sizeof *out);
    rg_hdata *data = &t->data[role];
    rg_status status = in && out ? RG_OK : rg_nomem(t->ctx);
    if (status == RG_OK) {
        fill f = {.trial = t, .which = W, .to_double = in};
        rg_hvisit_elements(&pair[0], &data->ctrl, fill_element, &f);
        status = rg_kdesc_interpret(t->ctx, &desc, &data->ctrl, (double *const[]){in, out});
    }
    for (int64_t i = 0; status == RG_OK && i < count[1]; i++) rg_hdata_put(data, 1, i, out[i]);
    free(in);
    free(out);
    return status;
}

static rg_status fill_weights(trial *t, rg_hrole role) {
    const rg_karg *arg = &t->bare[role].desc->arg[1];
    bool wino = arg->layout == RG_LAYOUT_WINO;
    if (role == RG_HDGRAD && !arg->turned)
        return pack(t, role, wino ? RG_KPACK_WINO_TURN : RG_KPACK_TURN);
    if (wino) return pack(t, role, RG_KPACK_WINO);
    fill_act(t, role, 1, W);
    return RG_OK;
}

/* ---- scalar products ---- */

typedef struct product {
    const trial *trial;
    tensor which;
    const rg_hdata *data;  /* its argument 2 */
    int64_t stride, parts; /* parts of weight gradients */
    double sum, size;
} product;

static void add_product(void *user, const rg_hplace *at) {
    product *p = user;
    double value = 0;
    for (int64_t i = 0; i < p->parts; i++)
        value += rg_hdata_get(p->data, 2, i * p->stride + at->index);
    double term = value * drawn(p->trial, p->which, at);
    p->sum += term;
    p->size += fabs(term);
}

/* The result of a kernel times the tensor of its shape. */
static double scalar_product(trial *t, rg_hrole role, tensor which) {
    rg_karg arg = t->bare[role].desc->arg[2];
    product p = {.trial = t, .which = which, .data = &t->data[role], .parts = 1};
    if (arg.layout == RG_LAYOUT_PARTW) {
        p.parts = (int64_t)arg.parts_per_block * t->data[role].ctrl.blocks;
        p.stride = arg.length;
        arg.layout = RG_LAYOUT_WEIGHT;
    }
    rg_hvisit_elements(&arg, &t->data[role].ctrl, add_product, &p);
    t->size = fmax(t->size, p.size);
    return p.sum;
}

static rg_status run(trial *t, rg_hrole role, int32_t live, double *value) {
    static const tensor operand[] = {X, Y, X}, result[] = {Y, X, W};
    const rg_hbare *bare = &t->bare[role];
    rg_hdata *data = &t->data[role];
    RG_TRY(rg_hdata_new(t->ctx, bare->desc, live, data));
    fill_act(t, role, 0, operand[role]);
    if (role == RG_HWGRAD)
        fill_act(t, role, 1, Y);
    else
        RG_TRY(fill_weights(t, role));
    RG_TRY(bare->run.tiles(t->ctx, bare->run.user, bare->desc, t->seed, data));
    *value = scalar_product(t, role, result[role]);
    return RG_OK;
}

rg_status rg_harness_adjoint(rg_ctx *ctx, const rg_hbare bare[RG_HROLES], int32_t live,
                             uint64_t seed, rg_hadjoint *result) {
    trial t = {.ctx = ctx, .bare = bare, .seed = seed};
    rg_status status = RG_OK;
    *result = (rg_hadjoint){.passed = true};
    t.geom = rg_harness_geometry(bare[RG_HFPROP].desc, 0, RG_HFPROP);
    t.format = bare[RG_HFPROP].desc->contr[0].format;
    for (rg_hrole i = 0; status == RG_OK && i < RG_HROLES; i++) {
        result->product[i] = NAN;
        if (bare[i].desc) status = run(&t, i, live, &result->product[i]);
    }
    double bound = 1e-5 * t.size + 1e-6;
    for (rg_hrole i = 0; status == RG_OK && i < RG_HROLES; i++) {
        if (!bare[i].desc) continue;
        double off = fabs(result->product[i] - result->product[RG_HFPROP]);
        result->passed &= off <= bound; /* false for NaN */
        if (!(off / bound <= result->worst)) result->worst = off / bound;
        if (!(off / t.size <= result->error) && off > 0) result->error = off / t.size;
    }
    result->size = t.size;
    for (rg_hrole i = 0; i < RG_HROLES; i++) rg_hdata_free(&t.data[i]);
    return status;
}
