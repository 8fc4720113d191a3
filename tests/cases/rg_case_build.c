#include "rg_case_build.h"

#include <stdio.h>

build build_new(rg_arena *arena, int32_t vector, rg_kdesc *desc, rg_kkind kind, const char *name) {
    *desc = (rg_kdesc){.kind = kind, .index_arg = -1};
    snprintf(desc->name, sizeof desc->name, "%s", name);
    desc->arg = RG_NEW_ARRAY(arena, rg_karg, BUILD_ARGS);
    desc->site = RG_NEW_ARRAY(arena, rg_ksite, BUILD_SITES);
    desc->contr = RG_NEW_ARRAY(arena, rg_kcontr, BUILD_CONTRS);
    desc->fin = RG_NEW_ARRAY(arena, rg_kfin, BUILD_ARGS);
    build b = {.arena = arena, .desc = desc, .vector = vector};
    b.failed = !desc->arg || !desc->site || !desc->contr || !desc->fin;
    return b;
}

/* ---- arguments ---- */

static int32_t round_up(int32_t x, int32_t to) {
    return (x + to - 1) / to * to;
}

/* Few channels are kept as they are, as an image's. */
static int32_t padded(const build *b, int32_t c) {
    return c <= 4 ? c : round_up(c, b->vector);
}

static int32_t add_arg(build *b, rg_karg arg, int flow) {
    if (b->failed) return 0;
    arg.read = flow & READ;
    arg.written = flow & WRITE;
    b->desc->arg[b->desc->arg_count] = arg;
    return b->desc->arg_count++;
}

int32_t build_act(build *b, int32_t h, int32_t w, int32_t c, int flow) {
    return add_arg(
        b, (rg_karg){.layout = RG_LAYOUT_ACT, .h = h, .w = w, .c = c, .cp = padded(b, c)}, flow);
}

int32_t build_vec(build *b, int32_t c, int flow) {
    return add_arg(b, (rg_karg){.layout = RG_LAYOUT_VEC, .c = c, .cp = padded(b, c)}, flow);
}

int32_t build_flat(build *b, int64_t length, int flow) {
    return add_arg(b, (rg_karg){.layout = RG_LAYOUT_FLAT, .length = length}, flow);
}

/* Two vectors a block where that leaves nothing over. */
int32_t build_weight(build *b, int32_t k, int32_t r, int32_t s, int32_t c, int flow) {
    int32_t kp = round_up(k, b->vector), kb = kp % (2 * b->vector) == 0 ? 2 * b->vector : b->vector;
    return add_arg(
        b,
        (rg_karg){.layout = RG_LAYOUT_WEIGHT, .k = k, .kp = kp, .kb = kb, .r = r, .s = s, .c = c},
        flow);
}

int32_t build_part(build *b, int32_t c, int32_t stats, int flow) {
    rg_karg arg = {
        .layout = RG_LAYOUT_PART, .c = c, .cp = padded(b, c), .stats = stats, .parts_per_block = 5};
    return add_arg(b, arg, flow);
}

int32_t build_partw(build *b, int32_t weight, int32_t parts_per_block) {
    rg_karg arg = b->desc->arg[weight];
    arg.length = rg_karg_elements(&arg, 1);
    arg.layout = RG_LAYOUT_PARTW;
    arg.parts_per_block = parts_per_block;
    return add_arg(b, arg, READ);
}

int32_t build_fin(build *b, rg_kfin_kind kind, int32_t arg) {
    if (b->failed) return 0;
    b->desc->fin[b->desc->fin_count] = (rg_kfin){kind, arg};
    return b->desc->fin_count++;
}

/* ---- sites ---- */

rg_ksite *build_site(build *b, int32_t h, int32_t w, int32_t c) {
    static rg_ksite none;
    rg_ksite *site = b->failed ? &none : &b->desc->site[b->desc->site_count++];
    *site = (rg_ksite){.h = h, .w = w, .c = c, .root = -1};
    site->out = RG_NEW_ARRAY(b->arena, rg_kout, BUILD_OUTS);
    b->failed |= !site->out;
    rg_expr_init(&site->expr, b->arena);
    b->e = &site->expr;
    return site;
}

static void add_out(build *b, rg_kout out) {
    if (b->failed) return;
    rg_ksite *site = &b->desc->site[b->desc->site_count - 1];
    site->out[site->out_count++] = out;
}

void build_out(build *b, rg_kout_kind kind, int32_t root, int32_t arg, uint32_t axes) {
    add_out(b, (rg_kout){kind, root, arg, axes, -1});
}

void build_row(build *b, rg_kout_kind kind, int32_t root, int32_t row) {
    add_out(b, (rg_kout){kind, root, -1, RG_AXIS_C, row});
}

void build_contr(build *b, int32_t site, int32_t w_arg, int32_t r, int32_t s, rg_kgeom gh,
                 rg_kgeom gw) {
    if (b->failed) return;
    b->desc->contr[b->desc->contr_count++] =
        (rg_kcontr){.site = site, .w_arg = w_arg, .r = r, .s = s, .gh = gh, .gw = gw};
}

void build_rider(build *b, int32_t w_arg, int32_t r, int32_t s, rg_kgeom gh, rg_kgeom gw) {
    build_contr(b, 0, w_arg, r, s, gh, gw);
    if (!b->failed) b->desc->contr[b->desc->contr_count - 1].acc = 1;
}

/* ---- nodes ---- */

static int32_t made(build *b, int32_t node) {
    b->failed |= node < 0;
    return node;
}

int32_t ex_arg(build *b, int32_t i) {
    return made(b, rg_expr_leaf(b->e, RG_EXPR_ARG, i));
}

int32_t ex_leaf(build *b, rg_expr_op op, int32_t leaf) {
    return made(b, rg_expr_leaf(b->e, op, leaf));
}

int32_t ex_const(build *b, double value) {
    return made(b, rg_expr_const(b->e, value));
}

int32_t ex1(build *b, rg_expr_op op, int32_t x) {
    return made(b, rg_expr_unary(b->e, op, x));
}

int32_t ex2(build *b, rg_expr_op op, int32_t x, int32_t y) {
    return made(b, rg_expr_binary(b->e, op, x, y));
}

int32_t ex3(build *b, rg_expr_op op, int32_t x, int32_t y, int32_t z) {
    return made(b, rg_expr_ternary(b->e, op, x, y, z));
}

int32_t ex_relu(build *b, int32_t x) {
    return ex2(b, RG_EXPR_MAX, x, ex_const(b, 0));
}

/* ---- variants ---- */

static void settle_weights(rg_kdesc *desc, const rg_kvariant *variant, int32_t wino_m) {
    for (int32_t i = 0; i < desc->contr_count; i++) {
        if (desc->contr[i].w_arg < 0) continue;
        rg_karg *arg = &desc->arg[desc->contr[i].w_arg];
        if (desc->kind == RG_K_CONV && wino_m > 0) {
            arg->layout = RG_LAYOUT_WINO;
            arg->h = wino_m;
        } else if (desc->kind == RG_K_WGRAD && !variant->complete) {
            arg->length = rg_karg_elements(arg, 1);
            arg->layout = RG_LAYOUT_PARTW;
            arg->parts_per_block = variant->parts_per_block;
        }
    }
}

void rg_case_settle(rg_kdesc *desc, const rg_kvariant *variant, int32_t wino_m) {
    desc->variant = *variant;
    settle_weights(desc, variant, wino_m);
    for (int32_t i = 0; i < desc->arg_count; i++)
        if (desc->arg[i].layout == RG_LAYOUT_PART && desc->arg[i].written)
            desc->arg[i].parts_per_block = variant->parts_per_block;
}

void rg_case_turn(rg_kdesc *desc, int32_t vector) {
    for (int32_t i = 0; i < desc->contr_count; i++) {
        rg_karg *w = &desc->arg[desc->contr[i].w_arg];
        w->turned = true;
        w->kp = round_up(w->c, vector);
        w->kb = w->kp % (2 * vector) == 0 ? 2 * vector : vector;
    }
}

enum { CASES = 256 };

rg_case *rg_cases(rg_arena *arena, int32_t vector, int32_t *count) {
    rg_case *list = RG_NEW_ARRAY(arena, rg_case, CASES);
    *count = 0;
    if (!list) return NULL;
    cases_conv(arena, vector, list, count);
    cases_map(arena, vector, list, count);
    cases_rest(arena, vector, list, count);
    return *count < 0 ? NULL : list;
}
