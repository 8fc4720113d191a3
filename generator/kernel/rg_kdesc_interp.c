/* The meaning of a kernel: plain loops in double over every live image. Independent of the
 * templates' classes of taps. */
#include <math.h>
#include <string.h>

#include "rg_kinterp.h"

typedef struct place {
    int32_t n, h, w, c;
} place;

int64_t rg_karg_index(const rg_karg *arg, int32_t n, int32_t h, int32_t w, int32_t c) {
    if (arg->layout == RG_LAYOUT_VEC) return arg->c == 1 ? 0 : c;
    if (arg->layout != RG_LAYOUT_ACT) return rg_karg_elements(arg, 1) == 1 ? 0 : c;
    int64_t row = (int64_t)(n / RG_BLOCK) * arg->h + (arg->h == 1 ? 0 : h);
    int64_t pixel = row * arg->w + (arg->w == 1 ? 0 : w);
    return (pixel * RG_BLOCK + n % RG_BLOCK) * arg->cp + (arg->c == 1 ? 0 : c);
}

int64_t rg_karg_weight_index(const rg_karg *arg, int32_t k, int32_t r, int32_t s, int32_t c) {
    int32_t across = arg->turned ? c : k, down = arg->turned ? k : c;
    int64_t tap = ((int64_t)(across / arg->kb) * arg->r + r) * arg->s + s;
    return (tap * (arg->turned ? arg->k : arg->c) + down) * arg->kb + across % arg->kb;
}

/* ---- leaves ---- */

/* The bound of what the kernel itself has stored there. */
static double error_of(const rg_kinterp *in, int32_t arg, int64_t index) {
    return in->error && in->error[arg] ? in->error[arg][index] : 0;
}

static rg_kval ctrl_leaf(const rg_ctrl *ctrl, int32_t leaf) {
    double live = ctrl->live;
    if (leaf == RG_CTRL_COUNT) return (rg_kval){live, 0};
    if (leaf == RG_CTRL_INV_COUNT) return (rg_kval){1 / live, RG_UNIT / live};
    return (rg_kval){(double)ctrl->scalar[leaf], 0};
}

static rg_kval index_leaf(int32_t axis, place at) {
    const int32_t coordinate[] = {at.n, at.h, at.w, at.c};
    return (rg_kval){coordinate[axis], 0};
}

static int64_t pixel_of(const rg_ksite *site, place at) {
    return ((int64_t)at.n * site->h + at.h) * site->w + at.w;
}

static rg_kval leaf_value(const rg_kinterp *in, const rg_ksite *site, const rg_enode *node,
                          place at) {
    switch (node->op) {
    case RG_EXPR_CONST:
        return (rg_kval){node->value, fabs(node->value - (float)node->value)};
    case RG_EXPR_ARG: {
        int64_t index = rg_karg_index(&in->desc->arg[node->leaf], at.n, at.h, at.w, at.c);
        return (rg_kval){in->arg[node->leaf][index], error_of(in, node->leaf, index)};
    }
    case RG_EXPR_ACC:
        return in->acc[node->leaf][pixel_of(site, at) * site->c + at.c];
    case RG_EXPR_INDEX:
        return index_leaf(node->leaf, at);
    case RG_EXPR_CTRL:
        return ctrl_leaf(in->ctrl, node->leaf);
    case RG_EXPR_ROW:
        return in->row[node->leaf][pixel_of(site, at)];
    case RG_EXPR_FIN:
        return in->fin[node->leaf][in->fin_length[node->leaf] == 1 ? 0 : at.c];
    default:
        return (rg_kval){NAN, 0};
    }
}

static void eval_nodes(const rg_kinterp *in, const rg_ksite *site, place at, rg_kval *value) {
    const rg_kval none = {0, 0};
    for (int32_t i = 0; i < site->expr.count; i++) {
        const rg_enode *node = &site->expr.node[i];
        int arity = rg_expr_arity(node->op);
        value[i] = arity == 0
                       ? leaf_value(in, site, node, at)
                       : rg_kval_apply(node->op, value[node->a], arity > 1 ? value[node->b] : none,
                                       arity > 2 ? value[node->c] : none);
    }
}

/* ---- outputs ---- */

static rg_kval stored(rg_ktype type, rg_kval value) {
    if (type == RG_KTYPE_BF16) return rg_kval_apply(RG_EXPR_ROUND_BF16, value, value, value);
    return type == RG_KTYPE_F16 ? rg_kval_apply(RG_EXPR_ROUND_F16, value, value, value) : value;
}

static void put(const rg_kinterp *in, int32_t arg, int64_t index, rg_kval value) {
    value = stored(in->desc->arg[arg].type, value);
    in->arg[arg][index] = value.v;
    if (in->error && in->error[arg]) in->error[arg][index] = value.e;
}

/* Position of an element in a reduction's result: the axes that stay, in order. */
static int64_t kept_index(const rg_ksite *site, uint32_t axes, place at) {
    int64_t index = axes & RG_AXIS_N ? 0 : at.n;
    index = axes & RG_AXIS_H ? index : index * site->h + at.h;
    index = axes & RG_AXIS_W ? index : index * site->w + at.w;
    return axes & RG_AXIS_C ? index : index * site->c + at.c;
}

static int64_t kept_count(const rg_ksite *site, uint32_t axes, int32_t images) {
    place last = {images - 1, site->h - 1, site->w - 1, site->c - 1};
    return kept_index(site, axes, last) + 1;
}

static rg_kval reduced(rg_kout_kind kind, const rg_kacc *acc) {
    return kind == RG_KOUT_MAX ? rg_kacc_max(acc) : rg_kacc_sum(acc);
}

/* Part 0 has the whole; the others are neutral. */
static void put_part(const rg_kinterp *in, const rg_kout *out, const rg_kacc *acc) {
    const rg_karg *arg = &in->desc->arg[out->arg];
    int64_t parts = (int64_t)arg->parts_per_block * in->ctrl->blocks;
    for (int64_t part = 0; part < parts; part++)
        for (int32_t c = 0; c < arg->cp; c++) {
            int64_t at = part * arg->stats * arg->cp + c;
            bool real = part == 0 && c < arg->c;
            if (out->kind == RG_KOUT_MOMENTS) {
                put(in, out->arg, at, (rg_kval){real ? acc[c].count : 0, 0});
                put(in, out->arg, at + arg->cp, real ? rg_kacc_mean(&acc[c]) : (rg_kval){0, 0});
                put(in, out->arg, at + 2 * arg->cp, real ? rg_kacc_m2(&acc[c]) : (rg_kval){0, 0});
            } else {
                rg_kval neutral = {out->kind == RG_KOUT_MAX ? -INFINITY : 0, 0};
                put(in, out->arg, at, real ? reduced(out->kind, &acc[c]) : neutral);
            }
        }
}

static rg_status put_reduction(rg_kinterp *in, const rg_ksite *site, const rg_kout *out,
                               const rg_kacc *acc) {
    if (out->row >= 0) {
        int64_t pixels = kept_count(site, RG_AXIS_C, in->ctrl->live);
        rg_kval *row = RG_NEW_ARRAY(in->arena, rg_kval, pixels);
        if (!row) return rg_nomem(in->ctx);
        for (int64_t i = 0; i < pixels; i++) row[i] = reduced(out->kind, &acc[i]);
        in->row[out->row] = row;
    } else if (out->axes & RG_AXIS_N) {
        put_part(in, out, acc);
    } else {
        const rg_karg *arg = &in->desc->arg[out->arg];
        for (int32_t n = 0; n < in->ctrl->live; n++)
            for (int32_t c = 0; c < arg->c; c++)
                put(in, out->arg, rg_karg_index(arg, n, 0, 0, c),
                    reduced(out->kind, &acc[(int64_t)n * arg->c + c]));
    }
    return RG_OK;
}

static int64_t store_index(const rg_kinterp *in, const rg_kout *out, place at) {
    if (in->run) return at.c;
    return rg_karg_index(&in->desc->arg[out->arg], at.n, at.h, at.w, at.c);
}

static rg_status new_reductions(rg_kinterp *in, const rg_ksite *site, rg_kacc **acc) {
    for (int32_t i = 0; i < site->out_count; i++) {
        if (site->out[i].kind == RG_KOUT_STORE) continue;
        int64_t count = kept_count(site, site->out[i].axes, in->ctrl->live);
        acc[i] = RG_NEW_ARRAY(in->arena, rg_kacc, count);
        if (!acc[i]) return rg_nomem(in->ctx);
        for (int64_t j = 0; j < count; j++) rg_kacc_init(&acc[i][j]);
    }
    return RG_OK;
}

static void eval_element(rg_kinterp *in, const rg_ksite *site, place at, rg_kval *value,
                         rg_kacc *const *acc) {
    eval_nodes(in, site, at, value);
    for (int32_t i = 0; i < site->out_count; i++) {
        const rg_kout *out = &site->out[i];
        if (out->kind == RG_KOUT_STORE)
            put(in, out->arg, store_index(in, out, at), value[out->root]);
        else
            rg_kacc_add(&acc[i][kept_index(site, out->axes, at)], value[out->root]);
    }
}

rg_status rg_kinterp_site(rg_kinterp *in, const rg_ksite *site, rg_kval *operand) {
    rg_kval *value = RG_NEW_ARRAY(in->arena, rg_kval, site->expr.count + 1);
    rg_kacc **acc = RG_NEW_ARRAY(in->arena, rg_kacc *, site->out_count + 1);
    if (!value || !acc) return rg_nomem(in->ctx);
    RG_TRY(new_reductions(in, site, acc));
    int32_t images = in->run ? 1 : in->ctrl->live;
    for (int32_t n = 0; n < images; n++)
        for (int32_t h = 0; h < site->h; h++)
            for (int32_t w = 0; w < site->w; w++)
                for (int32_t c = 0; c < site->c; c++) {
                    place at = {n, h, w, c};
                    eval_element(in, site, at, value, acc);
                    if (operand) operand[pixel_of(site, at) * site->c + c] = value[site->root];
                }
    for (int32_t i = 0; i < site->out_count; i++)
        if (acc[i]) RG_TRY(put_reduction(in, site, &site->out[i], acc[i]));
    return RG_OK;
}

/* ---- partial results ---- */

/* Chan's rule: (count, mean, M2) of two sets together. */
static void merge_moments(double total[3], const double part[3]) {
    double count = total[0] + part[0], delta = part[1] - total[1];
    if (part[0] == 0) return;
    total[2] += part[2] + delta * delta * total[0] * part[0] / count;
    total[1] += delta * part[0] / count;
    total[0] = count;
}

/* Of parts that the kernel itself has left one is not empty: its bounds are carried over. */
static rg_kval gather_moments(const rg_kinterp *in, const rg_kfin *fin, int32_t c) {
    const rg_karg *arg = &in->desc->arg[fin->arg];
    int64_t parts = (int64_t)arg->parts_per_block * in->ctrl->blocks;
    double total[3] = {0, 0, 0}, magnitude = 0, mean_own = 0, m2_own = 0;
    for (int64_t p = 0; p < parts; p++) {
        int64_t first = p * 3 * arg->cp + c;
        const double *at = in->arg[fin->arg] + first;
        const double part[3] = {at[0], at[arg->cp], at[2 * arg->cp]};
        merge_moments(total, part);
        magnitude += part[0] * fabs(part[1]);
        mean_own += error_of(in, fin->arg, first + arg->cp);
        m2_own += error_of(in, fin->arg, first + 2 * arg->cp);
    }
    if (fin->kind == RG_KFIN_COUNT) return (rg_kval){total[0], 0};
    double unit = (2 + rg_kval_roundings((double)parts)) * RG_UNIT;
    double mean_error = 2 * unit * (total[0] > 0 ? magnitude / total[0] : 0);
    if (fin->kind == RG_KFIN_MEAN) return (rg_kval){total[1], mean_error + mean_own};
    double spread = sqrt(total[0] * total[2]);
    return (rg_kval){total[2], 4 * unit * total[2] + 2 * mean_error * spread +
                                   total[0] * mean_error * mean_error + m2_own};
}

static rg_kval gather(const rg_kinterp *in, const rg_kfin *fin, int32_t i) {
    const rg_karg *arg = &in->desc->arg[fin->arg];
    if (fin->kind != RG_KFIN_SUM && fin->kind != RG_KFIN_MAX) return gather_moments(in, fin, i);
    int64_t parts = (int64_t)arg->parts_per_block * in->ctrl->blocks;
    int64_t stride = arg->layout == RG_LAYOUT_PARTW ? arg->length : arg->cp;
    rg_kacc acc;
    rg_kacc_init(&acc);
    for (int64_t p = 0; p < parts; p++)
        rg_kacc_add(&acc, (rg_kval){in->arg[fin->arg][p * stride + i],
                                    error_of(in, fin->arg, p * stride + i)});
    return fin->kind == RG_KFIN_SUM ? rg_kacc_sum(&acc) : rg_kacc_max(&acc);
}

rg_status rg_kinterp_fins(rg_kinterp *in) {
    for (int32_t f = 0; f < in->desc->fin_count; f++) {
        const rg_kfin *fin = &in->desc->fin[f];
        const rg_karg *arg = &in->desc->arg[fin->arg];
        int32_t count = arg->layout == RG_LAYOUT_PART ? arg->c : (int32_t)arg->length;
        in->fin_length[f] = count;
        in->fin[f] = RG_NEW_ARRAY(in->arena, rg_kval, count);
        if (!in->fin[f]) return rg_nomem(in->ctx);
        for (int32_t i = 0; i < count; i++) in->fin[f][i] = gather(in, fin, i);
    }
    return RG_OK;
}

/* ---- the whole ---- */

static int64_t site_elements(const rg_kinterp *in, const rg_ksite *site) {
    return (int64_t)in->ctrl->live * site->h * site->w * site->c;
}

static rg_status new_values(rg_kinterp *in, int64_t count, rg_kval **values) {
    *values = RG_NEW_ARRAY(in->arena, rg_kval, count > 0 ? count : 1);
    return *values ? RG_OK : rg_nomem(in->ctx);
}

/* Operands first, then the anchor, then the epilogue (WGRAD has none). */
static rg_status run_anchored(rg_kinterp *in) {
    const rg_kdesc *desc = in->desc;
    bool wgrad = desc->kind == RG_K_WGRAD;
    int32_t operands = wgrad ? desc->site_count : desc->site_count - 1;
    rg_kval **operand = RG_NEW_ARRAY(in->arena, rg_kval *, desc->site_count);
    if (!operand) return rg_nomem(in->ctx);
    for (int32_t i = 0; i < operands; i++) {
        RG_TRY(new_values(in, site_elements(in, &desc->site[i]), &operand[i]));
        RG_TRY(rg_kinterp_site(in, &desc->site[i], operand[i]));
    }
    if (wgrad) return rg_kinterp_wgrad(in, operand[0], operand[1]);
    const rg_ksite *epilogue = &desc->site[operands];
    for (int i = 0; i < 2; i++) RG_TRY(new_values(in, site_elements(in, epilogue), &in->acc[i]));
    RG_TRY(desc->kind == RG_K_CONV ? rg_kinterp_conv(in, operand)
                                   : rg_kinterp_window(in, operand[0]));
    return rg_kinterp_site(in, epilogue, NULL);
}

/* What the kernel is but for its tails. */
static rg_status run_body(rg_kinterp *in) {
    const rg_kdesc *desc = in->desc;
    if (desc->kind == RG_K_PACK) return rg_kinterp_pack(in);
    if (desc->kind == RG_K_INPUT) return rg_kinterp_input(in);
    if (desc->kind != RG_K_MAP && desc->kind != RG_K_VEC) return run_anchored(in);
    in->run = desc->kind == RG_K_VEC;
    if (in->run && desc->tail_count == 0) RG_TRY(rg_kinterp_fins(in));
    for (int32_t i = 0; i < desc->site_count; i++)
        RG_TRY(rg_kinterp_site(in, &desc->site[i], NULL));
    return RG_OK;
}

static rg_status run_tails(rg_kinterp *in) {
    if (in->desc->tail_count == 0) return RG_OK;
    in->run = true;
    RG_TRY(rg_kinterp_fins(in));
    for (int32_t i = 0; i < in->desc->tail_count; i++)
        RG_TRY(rg_kinterp_site(in, &in->desc->tail[i].site, NULL));
    return RG_OK;
}

static rg_status run_one(rg_kinterp *in) {
    const rg_kdesc *desc = in->desc;
    int32_t outs = 1;
    for (int32_t i = 0; i < desc->site_count; i++) outs += desc->site[i].out_count;
    in->row = RG_NEW_ARRAY(in->arena, rg_kval *, outs);
    in->fin = RG_NEW_ARRAY(in->arena, rg_kval *, desc->fin_count + 1);
    in->fin_length = RG_NEW_ARRAY(in->arena, int32_t, desc->fin_count + 1);
    if (!in->row || !in->fin || !in->fin_length) return rg_nomem(in->ctx);
    RG_TRY(run_body(in));
    return run_tails(in);
}

/* Instance after instance, each with its own arguments. */
static rg_status run(const rg_kinterp *all) {
    const rg_kdesc one = rg_kdesc_first(all->desc);
    for (int32_t i = 0; i < rg_kdesc_instances(all->desc); i++) {
        rg_kinterp in = *all;
        in.desc = &one;
        in.arg += i * one.arg_count;
        if (in.error) in.error += i * one.arg_count;
        RG_TRY(run_one(&in));
    }
    return RG_OK;
}

rg_status rg_kdesc_interpret_bound(rg_ctx *ctx, const rg_kdesc *desc, const rg_ctrl *ctrl,
                                   double *const *arg, double *const *error) {
    RG_TRY(rg_kdesc_check(ctx, desc));
    if (ctrl->live < 1 || ctrl->blocks != (ctrl->live + RG_BLOCK - 1) / RG_BLOCK)
        return rg_fail(ctx, RG_E_INTERNAL, "%s: %d live images in %d blocks", desc->name,
                       ctrl->live, ctrl->blocks);
    rg_arena *arena = rg_arena_new();
    if (!arena) return rg_nomem(ctx);
    rg_kinterp in = {.ctx = ctx, .arena = arena, .desc = desc, .ctrl = ctrl};
    in.arg = arg;
    in.error = error;
    rg_status status = run(&in);
    rg_arena_free(arena);
    return status;
}

rg_status rg_kdesc_interpret(rg_ctx *ctx, const rg_kdesc *desc, const rg_ctrl *ctrl,
                             double *const *arg) {
    return rg_kdesc_interpret_bound(ctx, desc, ctrl, arg, NULL);
}
