/* The optimiser, the copies of the parameters that contractions read, and f16's loss scaling: runs
 * over whole arenas and over single numbers.
 *
 * update in f16: the largest |gradient| of all in parts; the next loss scale and the factor of this
 * step's gradients, 1/scale, or 0 where one of them is not finite; the optimiser, which changes
 * nothing then. */
#include <stdio.h>
#include <string.h>

#include "rg_planner.h"

/* A VEC kernel under construction. */
typedef struct run {
    rg_planner *pl;
    rg_launch *launch;
    rg_kdesc *desc;
    rg_expr *expr;
} run;

enum { RUN_ARGS = 12, RUN_OUTS = 6 };

static rg_status begin_run(rg_planner *pl, rg_plan_program_id program, const char *name,
                           int64_t length, run *r) {
    *r = (run){.pl = pl, .launch = rg_expand_add(pl)};
    if (!r->launch) return rg_nomem(pl->ctx);
    r->launch->program = program;
    r->launch->label = name;
    r->launch->blocks = 1;
    r->desc = &r->launch->desc;
    *r->desc = (rg_kdesc){.kind = RG_K_VEC, .index_arg = -1};
    snprintf(r->desc->name, sizeof r->desc->name, "%s", name);
    r->desc->arg = RG_NEW_ARRAY(pl->ctx->arena, rg_karg, RUN_ARGS);
    r->launch->buffer = RG_NEW_ARRAY(pl->ctx->arena, uint32_t, RUN_ARGS);
    if (!r->desc->arg || !r->launch->buffer) return rg_nomem(pl->ctx);
    RG_TRY(rg_expand_site(pl, r->desc, length));
    r->desc->site->out = RG_NEW_ARRAY(pl->ctx->arena, rg_kout, RUN_OUTS);
    if (!r->desc->site->out) return rg_nomem(pl->ctx);
    r->expr = &r->desc->site->expr;
    return RG_OK;
}

/* `buffer` as the run's next argument. One number: VEC; else FLAT. */
static int32_t add_arg(run *r, uint32_t buffer, bool written) {
    const rg_pbuffer *b = &r->pl->out->buffer[buffer];
    int32_t at = r->desc->arg_count++;
    rg_karg *arg = &r->desc->arg[at];
    *arg = (rg_karg){.read = !written, .written = written, .type = b->type};
    if (b->elements == 1) {
        arg->layout = RG_LAYOUT_VEC;
        arg->h = arg->w = arg->c = arg->cp = 1;
    } else {
        arg->layout = RG_LAYOUT_FLAT;
        arg->length = b->elements;
    }
    r->launch->buffer[at] = buffer;
    return at;
}

static int32_t read_buffer(run *r, uint32_t buffer) {
    int32_t at = add_arg(r, buffer, false); /* arguments stand in the order of their making */
    return rg_expr_leaf(r->expr, RG_EXPR_ARG, at);
}

static void store(run *r, int32_t root, uint32_t buffer) {
    int32_t at = add_arg(r, buffer, true);
    r->desc->site->out[r->desc->site->out_count++] = (rg_kout){RG_KOUT_STORE, root, at, 0, -1};
}

static rg_status end_run(run *r) {
    for (int32_t i = 0; i < r->desc->site->out_count; i++)
        if (r->desc->site->out[i].root < 0) return rg_nomem(r->pl->ctx);
    return rg_expand_select(r->pl, r->launch);
}

/* `index` of the launch list needs `on` complete. */
static rg_status add_need(rg_planner *pl, int32_t index, int32_t on) {
    rg_launch *launch = &pl->out->launch[index];
    launch->need = RG_NEW_ARRAY(pl->ctx->arena, int32_t, 1);
    if (!launch->need) return rg_nomem(pl->ctx);
    launch->need[0] = on;
    launch->need_count = 1;
    return RG_OK;
}

/* ---- the copy of the parameters ---- */

static int32_t rounded(run *r, int32_t value) {
    return rg_expr_unary(r->expr, rg_kformat_rounding(r->pl->target->precision), value);
}

static rg_status add_copy(rg_planner *pl) {
    run r;
    int64_t length = pl->out->buffer[pl->flat[0]].elements;
    RG_TRY(begin_run(pl, RG_PP_DERIVE, "round_weights", length, &r));
    store(&r, rounded(&r, read_buffer(&r, pl->flat[0])), pl->copy);
    return end_run(&r);
}

/* ---- the optimiser ---- */

/* New values, given the leaves; with `factor` (a node, or -1) the gradient is multiplied by it, and
 * nothing changes where that is 0. */
static rg_status optimise(run *r, int32_t leaf[4], int32_t factor, int32_t root[3],
                          int32_t *moments) {
    rg_expr own;
    rg_expr_init(&own, r->pl->ctx->arena);
    rg_expr *expr = factor < 0 ? r->expr : &own;
    if (rg_optim_expr(&r->pl->out->optim, expr, root, moments) != RG_OK)
        return rg_nomem(r->pl->ctx);
    if (factor < 0) return RG_OK;
    const int32_t old[3] = {leaf[0], leaf[2], leaf[3]};
    leaf[1] = rg_expr_binary(r->expr, RG_EXPR_MUL, leaf[1], factor);
    int32_t good = rg_expr_binary(r->expr, RG_EXPR_GT, factor, rg_expr_const(r->expr, 0));
    for (int32_t i = 0; i <= *moments; i++) {
        int32_t value = rg_expr_graft(r->expr, &own, root[i], leaf);
        root[i] = rg_expr_ternary(r->expr, RG_EXPR_SELECT, good, value, old[i]);
    }
    return RG_OK;
}

static rg_status add_optimiser(rg_planner *pl) {
    run r;
    const rg_optim *optim = &pl->out->optim;
    bool scaled = pl->loss_scale.factor != UINT32_MAX;
    int64_t length = pl->out->buffer[pl->flat[0]].elements;
    RG_TRY(begin_run(pl, RG_PP_UPDATE, optim->kind == RG_OPTIM_ADAM ? "adam" : "sgd", length, &r));
    r.launch->label = "optimiser";
    int32_t leaf[4] = {-1, -1, -1, -1}, root[3], moments = rg_optim_moments(optim);
    for (int32_t i = 0; i < 2 + moments; i++) {
        int32_t at = add_arg(&r, pl->flat[i], false);
        if (scaled) leaf[i] = rg_expr_leaf(r.expr, RG_EXPR_ARG, at);
    }
    int32_t factor = scaled ? read_buffer(&r, pl->loss_scale.factor) : -1;
    RG_TRY(optimise(&r, leaf, factor, root, &moments));
    for (int32_t i = 0; i < 1 + moments; i++) store(&r, root[i], pl->flat[i == 0 ? 0 : i + 1]);
    if (pl->copy != UINT32_MAX) store(&r, rounded(&r, root[0]), pl->copy);
    return end_run(&r);
}

/* ---- f16: the loss scale ---- */

/* After a load the state is zeros, or what training has left. */
static rg_status add_first_scale(rg_planner *pl) {
    run r;
    RG_TRY(begin_run(pl, RG_PP_DERIVE, "loss_scale_begin", 1, &r));
    int32_t scale = read_buffer(&r, pl->loss_scale.scale);
    int32_t set = rg_expr_binary(r.expr, RG_EXPR_GT, scale, rg_expr_const(r.expr, 0));
    int32_t first = rg_expr_const(r.expr, RG_LOSS_SCALE_FIRST);
    store(&r, rg_expr_ternary(r.expr, RG_EXPR_SELECT, set, scale, first), pl->loss_scale.scale);
    return end_run(&r);
}

/* The largest |gradient| of all, NaN where there is one, in parts. */
static rg_status add_largest(rg_planner *pl, rg_karg *part, uint32_t *parts) {
    run r;
    int64_t length = pl->out->buffer[pl->flat[1]].elements;
    RG_TRY(begin_run(pl, RG_PP_UPDATE, "largest_gradient", length, &r));
    int32_t root = rg_expr_unary(r.expr, RG_EXPR_ABS, read_buffer(&r, pl->flat[1]));
    int32_t at = r.desc->arg_count++;
    rg_karg *arg = &r.desc->arg[at];
    *arg = (rg_karg){.layout = RG_LAYOUT_PART, .written = true, .h = 1, .w = 1, .c = 1, .cp = 1};
    arg->stats = arg->parts_per_block = 1;
    uint32_t axes = RG_AXIS_N | RG_AXIS_H | RG_AXIS_W | RG_AXIS_C;
    r.desc->site->out[r.desc->site->out_count++] = (rg_kout){RG_KOUT_MAX, root, at, axes, -1};
    RG_TRY(end_run(&r));
    arg->parts_per_block = r.desc->variant.parts_per_block;
    r.launch->blocks = (pl->out->program[RG_PP_GRAD].batch + RG_BLOCK - 1) / RG_BLOCK;
    *part = *arg;
    rg_pbuffer made = {.name = "largest gradient",
                       .arena = RG_ARENA_WORK,
                       .layout = RG_PL_RAW,
                       .program = RG_PP_UPDATE};
    made.elements = rg_karg_elements(arg, r.launch->blocks);
    r.launch->buffer[at] = *parts = rg_buffers_add(pl, &made);
    return *parts == UINT32_MAX ? rg_nomem(pl->ctx) : RG_OK;
}

/* The largest |gradient|, gathered, as a leaf. */
static rg_status gather_largest(run *r, const rg_karg *part, uint32_t parts, int32_t *leaf) {
    int32_t at = r->desc->arg_count++;
    r->desc->arg[at] = *part;
    r->desc->arg[at].read = true;
    r->desc->arg[at].written = false;
    r->launch->buffer[at] = parts;
    r->launch->blocks = (r->pl->out->program[RG_PP_GRAD].batch + RG_BLOCK - 1) / RG_BLOCK;
    r->desc->fin = RG_NEW_ARRAY(r->pl->ctx->arena, rg_kfin, 1);
    if (!r->desc->fin) return rg_nomem(r->pl->ctx);
    r->desc->fin[0] = (rg_kfin){RG_KFIN_MAX, at};
    r->desc->fin_count = 1;
    *leaf = rg_expr_leaf(r->expr, RG_EXPR_FIN, 0);
    return RG_OK;
}

static rg_status add_next_scale(rg_planner *pl, const rg_karg *part, uint32_t parts) {
    run r;
    int32_t largest;
    RG_TRY(begin_run(pl, RG_PP_UPDATE, "loss_scale_next", 1, &r));
    RG_TRY(gather_largest(&r, part, parts, &largest));
    int32_t scale = read_buffer(&r, pl->loss_scale.scale);
    int32_t steps = read_buffer(&r, pl->loss_scale.steps);
    rg_loss_scale_nodes next = rg_optim_loss_scale(r.expr, scale, steps, largest);
    store(&r, next.scale, pl->loss_scale.scale);
    store(&r, next.steps, pl->loss_scale.steps);
    store(&r, next.factor, pl->loss_scale.factor);
    return end_run(&r);
}

static rg_status add_scaling(rg_planner *pl, int32_t optimiser) {
    rg_karg part;
    uint32_t parts;
    RG_TRY(add_first_scale(pl));
    RG_TRY(add_largest(pl, &part, &parts));
    int32_t largest = pl->out->launch_count - 1;
    RG_TRY(add_next_scale(pl, &part, parts));
    RG_TRY(add_need(pl, largest + 1, largest));
    return add_need(pl, optimiser, largest + 1);
}

rg_status rg_update_expand(rg_planner *pl) {
    int32_t optimiser = pl->out->launch_count;
    if (pl->out->program[RG_PP_GRAD].graph) RG_TRY(add_optimiser(pl));
    if (pl->copy != UINT32_MAX) RG_TRY(add_copy(pl));
    if (pl->loss_scale.factor == UINT32_MAX) return RG_OK;
    return add_scaling(pl, optimiser);
}
