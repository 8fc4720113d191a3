/* A convolution's description for the tests of templates and emitter: BN-relu prologue, moments of
 * the result. */
#ifndef TPL_CONV_H
#define TPL_CONV_H

#include "rg_kdesc.h"

typedef struct tpl_conv {
    rg_kdesc desc;
    rg_karg arg[7];
    rg_ksite site[2];
    rg_kout out[2];
    rg_kcontr contr;
} tpl_conv;

/* 16 -> 32 channels, 3x3, pad 1, on 6 x 5 pixels. Pointers lead into `conv`: it stays where it is.
 */
static inline void tpl_conv_make(tpl_conv *conv, rg_arena *arena) {
    *conv = (tpl_conv){0};
    conv->arg[0] =
        (rg_karg){.layout = RG_LAYOUT_ACT, .read = true, .h = 6, .w = 5, .c = 16, .cp = 16};
    conv->arg[1] = (rg_karg){.layout = RG_LAYOUT_WEIGHT,
                             .read = true,
                             .k = 32,
                             .kp = 32,
                             .kb = 16,
                             .r = 3,
                             .s = 3,
                             .c = 16};
    conv->arg[2] =
        (rg_karg){.layout = RG_LAYOUT_ACT, .written = true, .h = 6, .w = 5, .c = 32, .cp = 32};
    conv->arg[3] = (rg_karg){.layout = RG_LAYOUT_PART,
                             .written = true,
                             .c = 32,
                             .cp = 32,
                             .stats = 3,
                             .parts_per_block = 1};
    for (int i = 4; i < 7; i++)
        conv->arg[i] = (rg_karg){.layout = RG_LAYOUT_VEC, .read = true, .c = 16, .cp = 16};
    rg_ksite *in = &conv->site[0], *out = &conv->site[1];
    *in = (rg_ksite){.h = 6, .w = 5, .c = 16};
    *out = (rg_ksite){.h = 6, .w = 5, .c = 32, .root = -1, .out_count = 2, .out = conv->out};
    rg_expr_init(&in->expr, arena);
    rg_expr_init(&out->expr, arena);
    rg_expr *e = &in->expr;
    int32_t x = rg_expr_binary(e, RG_EXPR_SUB, rg_expr_leaf(e, RG_EXPR_ARG, 0),
                               rg_expr_leaf(e, RG_EXPR_ARG, 4));
    x = rg_expr_ternary(e, RG_EXPR_FMA, x, rg_expr_leaf(e, RG_EXPR_ARG, 5),
                        rg_expr_leaf(e, RG_EXPR_ARG, 6));
    in->root = rg_expr_binary(e, RG_EXPR_MAX, x, rg_expr_const(e, 0));
    int32_t acc = rg_expr_leaf(&out->expr, RG_EXPR_ACC, 0);
    conv->out[0] = (rg_kout){RG_KOUT_STORE, acc, 2, 0, -1};
    conv->out[1] = (rg_kout){RG_KOUT_MOMENTS, acc, 3, RG_AXIS_N | RG_AXIS_H | RG_AXIS_W, -1};
    conv->contr = (rg_kcontr){.w_arg = 1, .r = 3, .s = 3, .gh = {1, 1, -1, 1}, .gw = {1, 1, -1, 1}};
    conv->desc = (rg_kdesc){.kind = RG_K_CONV,
                            .name = "conv2d_fprop_bnrelu_moments",
                            .arg_count = 7,
                            .arg = conv->arg,
                            .site_count = 2,
                            .site = conv->site,
                            .contr_count = 1,
                            .contr = &conv->contr,
                            .index_arg = -1};
}

#endif
