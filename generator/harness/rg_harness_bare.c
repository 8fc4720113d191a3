/* Descriptions for the harness: contractions without what is fused into them, and variants put into
 * descriptions. */
#include <string.h>

#include "rg_harness_adjoint.h"

/* ---- geometry ---- */

/* dgrad reads in = (out + off - tap*dilation) / stride. */
static rg_kgeom forward(const rg_kgeom *geom, rg_hrole role) {
    if (role != RG_HDGRAD) return *geom;
    return (rg_kgeom){geom->div, -geom->tap_mul, -geom->off, 1};
}

rg_hgeom rg_harness_geometry(const rg_kdesc *desc, int32_t contr, rg_hrole role) {
    const rg_kcontr *one = &desc->contr[contr];
    const rg_ksite *in = &desc->site[one->site], *out = &desc->site[desc->site_count - 1];
    const rg_ksite *x = role == RG_HDGRAD ? out : in, *y = role == RG_HDGRAD ? in : out;
    return (rg_hgeom){.h = x->h,
                      .w = x->w,
                      .c = x->c,
                      .k = y->c,
                      .r = one->r,
                      .s = one->s,
                      .p = y->h,
                      .q = y->w,
                      .gh = forward(&one->gh, role),
                      .gw = forward(&one->gw, role)};
}

/* ---- bare descriptions ---- */

/* A tensor over a site's space, padded as some argument of that shape is. */
static rg_karg act_of(const rg_kdesc *desc, const rg_ksite *site) {
    rg_karg arg = {.layout = RG_LAYOUT_ACT, .h = site->h, .w = site->w, .c = site->c};
    arg.cp = (arg.c + 15) / 16 * 16;
    for (int32_t i = 0; i < desc->arg_count; i++) {
        const rg_karg *other = &desc->arg[i];
        if (other->layout == RG_LAYOUT_ACT && other->h == arg.h && other->w == arg.w &&
            other->c == arg.c)
            arg.cp = other->cp;
    }
    return arg;
}

static rg_karg weights_of(const rg_karg *from) {
    return (rg_karg){.layout = RG_LAYOUT_WEIGHT,
                     .c = from->c,
                     .k = from->k,
                     .kp = from->kp,
                     .kb = from->kb,
                     .r = from->r,
                     .s = from->s,
                     .type = from->type,
                     .turned = from->turned};
}

/* A site whose root is one leaf, which it may store. */
static rg_status plain_site(rg_ctx *ctx, const rg_ksite *from, rg_expr_op op, int32_t leaf,
                            int32_t stored, rg_ksite *to) {
    *to = (rg_ksite){.h = from->h, .w = from->w, .c = from->c, .root = -1};
    rg_expr_init(&to->expr, ctx->arena);
    int32_t node = rg_expr_leaf(&to->expr, op, leaf);
    if (node < 0) return rg_nomem(ctx);
    if (stored < 0) {
        to->root = node;
        return RG_OK;
    }
    to->out = RG_NEW(ctx->arena, rg_kout);
    if (!to->out) return rg_nomem(ctx);
    to->out[to->out_count++] =
        (rg_kout){.kind = RG_KOUT_STORE, .root = node, .arg = stored, .row = -1};
    return RG_OK;
}

rg_status rg_harness_bare(rg_ctx *ctx, const rg_kdesc *desc, int32_t contr, rg_hrole role,
                          rg_kdesc *bare) {
    static const char *const names[] = {"conv2d_fprop", "conv2d_dgrad", "conv2d_wgrad"};
    const rg_kcontr *one = &desc->contr[contr];
    const rg_ksite *in = &desc->site[one->site], *out = &desc->site[desc->site_count - 1];
    bool wgrad = role == RG_HWGRAD;
    *bare = (rg_kdesc){.kind = desc->kind, .arg_count = 3, .site_count = 2, .contr_count = 1};
    strcpy(bare->name, names[role]);
    bare->index_arg = -1;
    bare->arg = RG_NEW_ARRAY(ctx->arena, rg_karg, 3);
    bare->site = RG_NEW_ARRAY(ctx->arena, rg_ksite, 2);
    bare->contr = RG_NEW(ctx->arena, rg_kcontr);
    if (!bare->arg || !bare->site || !bare->contr) return rg_nomem(ctx);
    const rg_karg weights = weights_of(&desc->arg[one->w_arg]), other = act_of(desc, out);
    bare->arg[0] = act_of(desc, in);
    bare->arg[1] = wgrad ? other : weights;
    bare->arg[2] = wgrad ? weights : other;
    bare->arg[0].read = bare->arg[1].read = bare->arg[2].written = true;
    /* Operands are stored as the contraction takes them; results as they are summed up. */
    bare->arg[0].type = rg_kformat_type(one->format);
    if (wgrad) bare->arg[1].type = bare->arg[0].type;
    bare->contr[0] = *one;
    bare->contr[0].site = bare->contr[0].acc = 0;
    bare->contr[0].w_arg = wgrad ? 2 : 1;
    RG_TRY(plain_site(ctx, in, RG_EXPR_ARG, 0, -1, &bare->site[0]));
    if (wgrad) return plain_site(ctx, out, RG_EXPR_ARG, 1, -1, &bare->site[1]);
    return plain_site(ctx, out, RG_EXPR_ACC, 0, 2, &bare->site[1]);
}

/* ---- variants ---- */

/* Whole or partial, plain or transformed. */
static void settle_weights(rg_kdesc *desc, rg_karg *arg, const rg_candidate *candidate) {
    arg->layout = RG_LAYOUT_WEIGHT;
    if (desc->kind == RG_K_WGRAD && !candidate->variant.complete) {
        arg->length = rg_karg_elements(arg, 1);
        arg->layout = RG_LAYOUT_PARTW;
        arg->parts_per_block = candidate->variant.parts_per_block;
    }
    if (desc->kind == RG_K_CONV && candidate->wino_m > 0) {
        arg->layout = RG_LAYOUT_WINO;
        arg->h = candidate->wino_m;
    }
}

rg_status rg_harness_settle(rg_ctx *ctx, const rg_kdesc *desc, const rg_candidate *candidate,
                            rg_kdesc *settled) {
    *settled = *desc;
    settled->variant = candidate->variant;
    settled->arg =
        rg_arena_copy(ctx->arena, desc->arg, (size_t)desc->arg_count * sizeof *desc->arg);
    if (!settled->arg) return rg_nomem(ctx);
    for (int32_t i = 0; i < settled->arg_count; i++)
        if (settled->arg[i].layout == RG_LAYOUT_PART && settled->arg[i].written)
            settled->arg[i].parts_per_block = candidate->variant.parts_per_block;
    for (int32_t i = 0; i < settled->contr_count; i++)
        for (int32_t a = settled->contr[i].w_arg; a >= 0 && a < settled->arg_count;
             a += rg_kdesc_own_args(desc))
            settle_weights(settled, &settled->arg[a], candidate);
    return RG_OK;
}
