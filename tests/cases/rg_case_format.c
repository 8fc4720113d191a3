/* Cases in which numbers are rounded: the pass `precision` and the types of storage, as far as one
 * kernel shows them. */
#include "rg_case_build.h"

enum { VECTOR = 16 }; /* of the CUDA target, the only one with formats */

/* A case on its way into a format: `to` has its types already, `site` its own expression. */
typedef struct change {
    const rg_case_format *way;
    const rg_kdesc *from;
    rg_kdesc *to;
    rg_ksite *site;
} change;

static bool is_contraction(const rg_kdesc *desc) {
    return desc->kind == RG_K_CONV || desc->kind == RG_K_WGRAD;
}

/* ---- types ---- */

/* Which tap of a maximum it was, is a number of its own. */
static bool is_index(const rg_kdesc *desc, int32_t arg) {
    if (desc->kind != RG_K_WINDOW || desc->index_arg == arg) return desc->index_arg == arg;
    const rg_ksite *site = &desc->site[desc->site_count - 1];
    for (int32_t i = 0; i < site->out_count; i++) {
        const rg_enode *node = &site->expr.node[site->out[i].root];
        if (site->out[i].arg == arg && node->op == RG_EXPR_ACC && node->leaf == 1) return true;
    }
    return false;
}

/* Values of one pixel are logits and the like; few channels of a convolution are an image's. Both
 * stay f32. */
static rg_ktype type_of(const change *ch, int32_t i) {
    const rg_karg *arg = &ch->from->arg[i];
    bool image = is_contraction(ch->from) && arg->c < 4;
    if (arg->layout != RG_LAYOUT_ACT || arg->h * arg->w == 1 || image || is_index(ch->from, i))
        return RG_KTYPE_F32;
    return rg_kformat_type(ch->way->format);
}

static void set_weights(const change *ch, bool dgrad) {
    for (int32_t i = 0; i < ch->to->contr_count; i++) {
        rg_kcontr *contr = &ch->to->contr[i];
        contr->format = ch->way->format;
        if (ch->to->kind == RG_K_CONV)
            ch->to->arg[contr->w_arg].type = rg_kformat_type(ch->way->format);
    }
    if (dgrad && ch->way->turned) rg_case_turn(ch->to, VECTOR);
}

/* ---- roundings ---- */

/* Is the node's value a number of the format, whatever its leaves are? */
static bool holds(const change *ch, const rg_expr *expr, int32_t i) {
    const rg_enode *node = &expr->node[i];
    rg_kformat format = ch->way->format;
    switch (node->op) {
    case RG_EXPR_CONST:
        return rg_kformat_round(format, node->value) == node->value;
    case RG_EXPR_ARG:
        return ch->to->arg[node->leaf].type != RG_KTYPE_F32 ||
               (ch->way->held && format == RG_KFORMAT_TF32 &&
                ch->to->arg[node->leaf].layout == RG_LAYOUT_ACT);
    case RG_EXPR_ACC:
        return ch->to->kind == RG_K_WINDOW && ch->to->window == RG_KWINDOW_MAX &&
               (node->leaf == 1 || holds(ch, &ch->to->site[0].expr, ch->to->site[0].root));
    case RG_EXPR_NEG:
    case RG_EXPR_ABS:
        return holds(ch, expr, node->a);
    case RG_EXPR_MAX:
    case RG_EXPR_MIN:
        return holds(ch, expr, node->a) && holds(ch, expr, node->b);
    case RG_EXPR_SELECT:
        return holds(ch, expr, node->b) && holds(ch, expr, node->c);
    default:
        return node->op == rg_kformat_rounding(format);
    }
}

/* Operands of contractions, and what is stored in fewer bits. */
static bool must_hold(const change *ch, const rg_ksite *from, int32_t node) {
    if (is_contraction(ch->from) && from->root == node) return true;
    for (int32_t i = 0; i < from->out_count; i++) {
        const rg_kout *out = &from->out[i];
        if (out->kind == RG_KOUT_STORE && out->root == node &&
            ch->to->arg[out->arg].type != RG_KTYPE_F32)
            return true;
    }
    return false;
}

static int32_t add_node(rg_expr *to, const rg_enode *node, const int32_t *map) {
    switch (rg_expr_arity(node->op)) {
    case 0:
        return node->op == RG_EXPR_CONST ? rg_expr_const(to, node->value)
                                         : rg_expr_leaf(to, node->op, node->leaf);
    case 1:
        return rg_expr_unary(to, node->op, map[node->a]);
    case 2:
        return rg_expr_binary(to, node->op, map[node->a], map[node->b]);
    default:
        return rg_expr_ternary(to, node->op, map[node->a], map[node->b], map[node->c]);
    }
}

/* All readers of a value that is rounded read it rounded. */
static bool round_site(rg_arena *arena, change *ch, const rg_ksite *from) {
    int32_t *map = RG_NEW_ARRAY(arena, int32_t, from->expr.count + 1);
    rg_kout *out = rg_arena_copy(arena, from->out, BUILD_OUTS * sizeof *out);
    if (!map || !out) return false;
    ch->site->out = out;
    rg_expr_init(&ch->site->expr, arena);
    rg_expr *expr = &ch->site->expr;
    for (int32_t i = 0; i < from->expr.count; i++) {
        map[i] = add_node(expr, &from->expr.node[i], map);
        if (map[i] < 0) return false;
        if (must_hold(ch, from, i) && !holds(ch, expr, map[i]))
            map[i] = rg_expr_unary(expr, rg_kformat_rounding(ch->way->format), map[i]);
        if (map[i] < 0) return false;
    }
    if (from->root >= 0) ch->site->root = map[from->root];
    for (int32_t i = 0; i < from->out_count; i++) out[i].root = map[out[i].root];
    return true;
}

/* ---- all of it ---- */

bool rg_case_in_format(rg_arena *arena, const rg_case *from, const rg_case_format *way,
                       rg_case *to) {
    const rg_kdesc *desc = &from->desc;
    *to = *from;
    rg_kdesc *made = &to->desc;
    made->arg = rg_arena_copy(arena, desc->arg, (size_t)desc->arg_count * sizeof *made->arg);
    made->site = rg_arena_copy(arena, desc->site, (size_t)desc->site_count * sizeof *made->site);
    made->contr = rg_arena_copy(arena, desc->contr, BUILD_CONTRS * sizeof *made->contr);
    if (!made->arg || !made->site || !made->contr) return false;
    change ch = {way, desc, made, NULL};
    for (int32_t i = 0; i < made->arg_count; i++) made->arg[i].type = type_of(&ch, i);
    if (is_contraction(desc)) set_weights(&ch, from->dgrad);
    bool ok = true;
    for (int32_t i = 0; ok && i < made->site_count; i++) {
        ch.site = &made->site[i];
        ok = round_site(arena, &ch, &desc->site[i]);
    }
    return ok;
}
