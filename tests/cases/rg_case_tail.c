/* Kernels with tails: what gathers a kernel's parts, and the two as one. */
#include <string.h>

#include "rg_case_build.h"

/* x + what the parts make, stored; of moments everything that batch norm takes from them. */
static int32_t gathered(build *b, const rg_karg *part, bool max, int32_t x) {
    if (part->stats == 1) {
        build_fin(b, max ? RG_KFIN_MAX : RG_KFIN_SUM, 0);
        return ex2(b, RG_EXPR_ADD, ex_arg(b, x), ex_leaf(b, RG_EXPR_FIN, 0));
    }
    build_fin(b, RG_KFIN_M2, 0);
    build_fin(b, RG_KFIN_COUNT, 0);
    build_fin(b, RG_KFIN_MEAN, 0);
    int32_t variance = ex2(b, RG_EXPR_DIV, ex_leaf(b, RG_EXPR_FIN, 0), ex_leaf(b, RG_EXPR_FIN, 1));
    variance = ex2(b, RG_EXPR_ADD, variance, ex_const(b, 1e-5));
    return ex3(b, RG_EXPR_FMA, ex_arg(b, x), ex1(b, RG_EXPR_SQRT, variance),
               ex_leaf(b, RG_EXPR_FIN, 2));
}

static bool is_max(const rg_kdesc *desc, int32_t part) {
    for (int32_t i = 0; i < desc->site_count; i++)
        for (int32_t j = 0; j < desc->site[i].out_count; j++)
            if (desc->site[i].out[j].arg == part) return desc->site[i].out[j].kind == RG_KOUT_MAX;
    return false;
}

bool rg_case_finish(rg_arena *arena, int32_t vector, const rg_kdesc *desc, int32_t part,
                    rg_kdesc *vec) {
    build b = build_new(arena, vector, vec, RG_K_VEC, "finish");
    if (b.failed) return false;
    const rg_karg *from = &desc->arg[part];
    vec->arg[vec->arg_count] = *from;
    vec->arg[vec->arg_count].read = true;
    vec->arg[vec->arg_count++].written = false;
    if (from->layout == RG_LAYOUT_PARTW) {
        int32_t dw = build_flat(&b, from->length, WRITE);
        build_fin(&b, RG_KFIN_SUM, 0);
        build_site(&b, 1, 1, (int32_t)from->length);
        build_out(&b, RG_KOUT_STORE, ex_leaf(&b, RG_EXPR_FIN, 0), dw, 0);
        return !b.failed;
    }
    int32_t x = build_vec(&b, from->c, READ), y = build_vec(&b, from->c, WRITE);
    build_site(&b, 1, 1, from->c);
    build_out(&b, RG_KOUT_STORE, gathered(&b, from, is_max(desc, part), x), y, 0);
    return !b.failed;
}

bool rg_case_add_tails(rg_ctx *ctx, int32_t vector, rg_kdesc *desc, int32_t *tails) {
    *tails = 0;
    int32_t args = desc->arg_count, x = -1; /* x: what the tail before has stored */
    for (int32_t i = 0; i < args; i++) {
        const rg_karg *arg = &desc->arg[i];
        bool parts = arg->layout == RG_LAYOUT_PART || arg->layout == RG_LAYOUT_PARTW;
        if (!parts || !arg->written) continue;
        rg_kdesc vec;
        if (!rg_case_finish(ctx->arena, vector, desc, i, &vec)) return false;
        int32_t same[3] = {i, -1, -1};
        if (x >= 0 && desc->arg[x].c == vec.arg[1].c) same[1] = x;
        if (rg_kdesc_add_tail(ctx, desc, &vec, same) != RG_OK) return false;
        x = same[vec.arg_count - 1];
        ++*tails;
    }
    return *tails == 0 || rg_kdesc_add_counter(ctx, desc) == RG_OK;
}
