/* batch_norm, loss and their gradients in terms of reduce, channel maths and pointwise. Sources:
 * Ioffe & Szegedy 2015 for the closed form of the gradient; PyTorch for the unbiased variance in
 * the running statistics and for label smoothing. */
#include "rg_passes.h"

/* A small tree under construction, over the inputs collected so far. */
typedef struct tree {
    rg_expr expr;
    rg_vid in[8];
    int32_t in_count;
} tree;

static void tree_begin(tree *t, rg_arena *arena) {
    *t = (tree){.in_count = 0};
    rg_expr_init(&t->expr, arena);
}

static int32_t arg(tree *t, rg_vid v) {
    int32_t i = 0;
    while (i < t->in_count && t->in[i] != v) i++;
    if (i == t->in_count) t->in[t->in_count++] = v;
    return rg_expr_leaf(&t->expr, RG_EXPR_ARG, i);
}

static int32_t constant(tree *t, double value) {
    return rg_expr_const(&t->expr, value);
}

static int32_t bin(tree *t, rg_expr_op op, int32_t a, int32_t b) {
    return rg_expr_binary(&t->expr, op, a, b);
}

/* The finished tree as a node of type `type`, placed and named like `node`. */
static rg_vid finish(rg_rewrite *rw, tree *t, int32_t root, rg_type type, const rg_node *node,
                     const char *what) {
    const char *name = rg_arena_printf(rw->to->arena, "%s.%s", node->name ? node->name : "", what);
    if (!name || root < 0) return -1;
    return rg_graph_pointwise(rw->to, t->in, t->in_count, &t->expr, root, type, name, node->loc);
}

static rg_vid reduce(rg_rewrite *rw, rg_vid in, rg_reduce_kind kind, uint32_t axes,
                     const rg_node *node, const char *what) {
    const char *name = rg_arena_printf(rw->to->arena, "%s.%s", node->name ? node->name : "", what);
    return name && in >= 0 ? rg_graph_reduce(rw->to, in, kind, axes, name, node->loc) : -1;
}

#define AXES_NHW 7u /* RG_AXIS_N | RG_AXIS_H | RG_AXIS_W */
#define AXES_C   8u

/* 1/m, where m = live images * H * W. */
static int32_t inv_m(tree *t, rg_type x) {
    int32_t inv = rg_expr_leaf(&t->expr, RG_EXPR_CTRL, RG_CTRL_INV_COUNT);
    return bin(t, RG_EXPR_MUL, inv, constant(t, 1.0 / ((double)x.dim[1] * x.dim[2])));
}

/* gamma * invstd */
static rg_vid scale_of(rg_rewrite *rw, rg_vid gamma, rg_vid invstd, const rg_node *node) {
    tree t;
    tree_begin(&t, rw->to->arena);
    int32_t root = bin(&t, RG_EXPR_MUL, arg(&t, gamma), arg(&t, invstd));
    return finish(rw, &t, root, rw->to->value[gamma].type, node, "scale");
}

/* fma(x - mean, scale, beta) */
static rg_vid normalise(rg_rewrite *rw, rg_vid x, rg_vid mean, rg_vid scale, rg_vid beta,
                        const rg_node *node) {
    tree t;
    tree_begin(&t, rw->to->arena);
    int32_t centred = bin(&t, RG_EXPR_SUB, arg(&t, x), arg(&t, mean));
    int32_t root = rg_expr_ternary(&t.expr, RG_EXPR_FMA, centred, arg(&t, scale), arg(&t, beta));
    return finish(rw, &t, root, rw->to->value[x].type, node, "y");
}

/* (1 - momentum)*old + momentum*value, the value being `scale` times input `v`. */
static rg_vid running(rg_rewrite *rw, rg_vid old, rg_vid v, bool variance, const rg_node *node,
                      rg_type x) {
    tree t;
    tree_begin(&t, rw->to->arena);
    int32_t value = arg(&t, v);
    if (variance) { /* M2 / max(m - 1, 1) */
        int32_t count = rg_expr_leaf(&t.expr, RG_EXPR_CTRL, RG_CTRL_COUNT);
        int32_t m = bin(&t, RG_EXPR_MUL, count, constant(&t, (double)x.dim[1] * x.dim[2]));
        int32_t free =
            bin(&t, RG_EXPR_MAX, bin(&t, RG_EXPR_SUB, m, constant(&t, 1)), constant(&t, 1));
        value = bin(&t, RG_EXPR_DIV, value, free);
    }
    double momentum = node->attr.momentum;
    int32_t kept = bin(&t, RG_EXPR_MUL, arg(&t, old), constant(&t, 1 - momentum));
    int32_t root = rg_expr_ternary(&t.expr, RG_EXPR_FMA, value, constant(&t, momentum), kept);
    return finish(rw, &t, root, rw->to->value[old].type, node, variance ? "new_var" : "new_mean");
}

static rg_status batch_norm(rg_rewrite *rw, const rg_node *node) {
    rg_graph *g = rw->to;
    rg_vid x = rw->map[node->in[0]], gamma = rw->map[node->in[1]], beta = rw->map[node->in[2]];
    rg_vid rmean = rw->map[node->in[3]], rvar = rw->map[node->in[4]];
    rg_type xt = g->value[x].type, ct = g->value[gamma].type;
    rg_vid mean = reduce(rw, x, RG_REDUCE_MOMENTS, AXES_NHW, node, "moments");
    if (mean < 0) return rg_nomem(rw->ctx);
    rg_vid m2 = g->node[g->value[mean].def].out[1];
    tree t;
    tree_begin(&t, g->arena);
    int32_t var = bin(&t, RG_EXPR_MUL, arg(&t, m2), inv_m(&t, xt));
    int32_t root = rg_expr_unary(&t.expr, RG_EXPR_RSQRT,
                                 bin(&t, RG_EXPR_ADD, var, constant(&t, node->attr.eps)));
    rg_vid invstd = finish(rw, &t, root, ct, node, "invstd");
    if (invstd < 0) return rg_nomem(rw->ctx);
    rg_vid scale = scale_of(rw, gamma, invstd, node);
    if (scale < 0) return rg_nomem(rw->ctx);
    rw->map[node->out[0]] = normalise(rw, x, mean, scale, beta, node);
    rw->map[node->out[1]] = running(rw, rmean, mean, false, node, xt);
    rw->map[node->out[2]] = running(rw, rvar, m2, true, node, xt);
    rw->map[node->out[3]] = mean;
    rw->map[node->out[4]] = invstd;
    for (int i = 0; i < 3; i++)
        if (rw->map[node->out[i]] < 0) return rg_nomem(rw->ctx);
    return RG_OK;
}

/* dz * (x - mean) * invstd, whose sum is dgamma */
static rg_vid dz_xhat(rg_rewrite *rw, const rg_vid in[5], const rg_node *node) {
    tree t;
    tree_begin(&t, rw->to->arena);
    int32_t centred = bin(&t, RG_EXPR_SUB, arg(&t, in[1]), arg(&t, in[3]));
    int32_t xhat = bin(&t, RG_EXPR_MUL, centred, arg(&t, in[4]));
    int32_t root = bin(&t, RG_EXPR_MUL, arg(&t, in[0]), xhat);
    return finish(rw, &t, root, rw->to->value[in[0]].type, node, "dz_xhat");
}

/* The sums divided by m: dbeta/m, or dgamma*invstd/m. */
static rg_vid per_m(rg_rewrite *rw, rg_vid sum, rg_vid invstd, rg_type xt, const rg_node *node,
                    const char *what) {
    tree t;
    tree_begin(&t, rw->to->arena);
    int32_t root = bin(&t, RG_EXPR_MUL, arg(&t, sum), inv_m(&t, xt));
    if (invstd >= 0) root = bin(&t, RG_EXPR_MUL, root, arg(&t, invstd));
    return finish(rw, &t, root, rw->to->value[sum].type, node, what);
}

static rg_status batch_norm_grad(rg_rewrite *rw, const rg_node *node) {
    rg_vid in[5]; /* dy, x, gamma, mean, invstd */
    for (int i = 0; i < 5; i++) in[i] = rw->map[node->in[i]];
    rg_type xt = rw->to->value[in[1]].type;
    rg_vid dbeta = reduce(rw, in[0], RG_REDUCE_SUM, AXES_NHW, node, "dbeta");
    rg_vid dgamma = reduce(rw, dz_xhat(rw, in, node), RG_REDUCE_SUM, AXES_NHW, node, "dgamma");
    if (dbeta < 0 || dgamma < 0) return rg_nomem(rw->ctx);
    rg_vid scale = scale_of(rw, in[2], in[4], node);
    rg_vid k1 = per_m(rw, dbeta, -1, xt, node, "dbeta_m");
    rg_vid k2 = per_m(rw, dgamma, in[4], xt, node, "dgamma_m");
    if (scale < 0 || k1 < 0 || k2 < 0) return rg_nomem(rw->ctx);
    tree t;
    tree_begin(&t, rw->to->arena);
    int32_t centred = bin(&t, RG_EXPR_SUB, arg(&t, in[1]), arg(&t, in[3]));
    int32_t rest = bin(&t, RG_EXPR_SUB, arg(&t, in[0]), arg(&t, k1));
    rest = bin(&t, RG_EXPR_SUB, rest, bin(&t, RG_EXPR_MUL, centred, arg(&t, k2)));
    int32_t root = bin(&t, RG_EXPR_MUL, arg(&t, scale), rest);
    rw->map[node->out[0]] = finish(rw, &t, root, xt, node, "dx");
    rw->map[node->out[1]] = dgamma;
    rw->map[node->out[2]] = dbeta;
    return rw->map[node->out[0]] < 0 ? rg_nomem(rw->ctx) : RG_OK;
}

/* ---- softmax cross-entropy ---- */

typedef struct softmax {
    rg_vid logits, label, max, sum; /* max over classes; sum of exp(logit - max) */
    rg_type wide, row;              /* [N 1 1 K], [N 1 1 1] */
} softmax;

static int32_t shifted_exp(tree *t, const softmax *s) {
    int32_t shifted = bin(t, RG_EXPR_SUB, arg(t, s->logits), arg(t, s->max));
    return rg_expr_unary(&t->expr, RG_EXPR_EXP, shifted);
}

static int32_t one_hot(tree *t, const softmax *s) {
    return bin(t, RG_EXPR_EQ, rg_expr_leaf(&t->expr, RG_EXPR_INDEX, 3), arg(t, s->label));
}

static rg_status softmax_begin(rg_rewrite *rw, const rg_node *node, softmax *s) {
    s->logits = rw->map[node->in[0]];
    s->label = rw->map[node->in[1]];
    s->wide = rw->to->value[s->logits].type;
    s->row = s->wide;
    s->row.dim[3] = 1;
    s->max = reduce(rw, s->logits, RG_REDUCE_MAX, AXES_C, node, "max");
    if (s->max < 0) return rg_nomem(rw->ctx);
    tree t;
    tree_begin(&t, rw->to->arena);
    rg_vid e = finish(rw, &t, shifted_exp(&t, s), s->wide, node, "exp");
    s->sum = reduce(rw, e, RG_REDUCE_SUM, AXES_C, node, "expsum");
    return s->sum < 0 ? rg_nomem(rw->ctx) : RG_OK;
}

/* Sum over classes of the logit times its target weight: 1 - smoothing for the label, smoothing/K
 * for all. */
static rg_vid target_logit(rg_rewrite *rw, const rg_node *node, const softmax *s, double smoothing,
                           const char *what) {
    tree t;
    tree_begin(&t, rw->to->arena);
    double even = smoothing / s->wide.dim[3];
    int32_t logit = arg(&t, s->logits);
    int32_t hit = bin(&t, RG_EXPR_MUL, logit, constant(&t, 1 - smoothing + even));
    int32_t miss =
        smoothing > 0 ? bin(&t, RG_EXPR_MUL, logit, constant(&t, even)) : constant(&t, 0);
    int32_t root = rg_expr_ternary(&t.expr, RG_EXPR_SELECT, one_hot(&t, s), hit, miss);
    return reduce(rw, finish(rw, &t, root, s->wide, node, what), RG_REDUCE_SUM, AXES_C, node, what);
}

/* 1 where some logit beats the label's: a larger one, or an equal one before it. */
static rg_vid beaten(rg_rewrite *rw, const rg_node *node, const softmax *s, rg_vid own) {
    tree t;
    tree_begin(&t, rw->to->arena);
    int32_t logit = arg(&t, s->logits), mine = arg(&t, own);
    int32_t index = rg_expr_leaf(&t.expr, RG_EXPR_INDEX, 3);
    int32_t before = bin(&t, RG_EXPR_GT, arg(&t, s->label), index);
    int32_t tie = bin(&t, RG_EXPR_MUL, bin(&t, RG_EXPR_EQ, logit, mine), before);
    int32_t root = bin(&t, RG_EXPR_ADD, bin(&t, RG_EXPR_GT, logit, mine), tie);
    rg_vid v = finish(rw, &t, root, s->wide, node, "beats");
    return reduce(rw, v, RG_REDUCE_MAX, AXES_C, node, "beaten");
}

static rg_status loss(rg_rewrite *rw, const rg_node *node) {
    softmax s;
    RG_TRY(softmax_begin(rw, node, &s));
    rg_vid target = target_logit(rw, node, &s, node->attr.smoothing, "target");
    rg_vid own = target_logit(rw, node, &s, 0, "own");
    if (target < 0 || own < 0) return rg_nomem(rw->ctx);
    rg_vid lost = beaten(rw, node, &s, own);
    if (lost < 0) return rg_nomem(rw->ctx);
    tree t;
    tree_begin(&t, rw->to->arena);
    int32_t lse =
        bin(&t, RG_EXPR_ADD, rg_expr_unary(&t.expr, RG_EXPR_LOG, arg(&t, s.sum)), arg(&t, s.max));
    int32_t root = bin(&t, RG_EXPR_SUB, lse, arg(&t, target));
    rg_vid each = finish(rw, &t, root, s.row, node, "each");
    tree_begin(&t, rw->to->arena);
    root = bin(&t, RG_EXPR_SUB, constant(&t, 1), arg(&t, lost));
    rg_vid right = finish(rw, &t, root, s.row, node, "right");
    rg_vid total = reduce(rw, each, RG_REDUCE_SUM, AXES_NHW, node, "total");
    rg_vid correct = reduce(rw, right, RG_REDUCE_SUM, AXES_NHW, node, "correct");
    if (total < 0 || correct < 0) return rg_nomem(rw->ctx);
    tree_begin(&t, rw->to->arena);
    int32_t inv = rg_expr_leaf(&t.expr, RG_EXPR_CTRL, RG_CTRL_INV_COUNT);
    root = bin(&t, RG_EXPR_MUL, arg(&t, total), inv);
    rw->map[node->out[0]] = finish(rw, &t, root, rw->to->value[total].type, node, "mean");
    rw->map[node->out[1]] = correct;
    return rw->map[node->out[0]] < 0 ? rg_nomem(rw->ctx) : RG_OK;
}

/* (softmax - target) / live images */
static rg_status loss_grad(rg_rewrite *rw, const rg_node *node) {
    softmax s;
    RG_TRY(softmax_begin(rw, node, &s));
    tree t;
    tree_begin(&t, rw->to->arena);
    double smoothing = node->attr.smoothing, even = smoothing / s.wide.dim[3];
    int32_t p = bin(&t, RG_EXPR_DIV, shifted_exp(&t, &s), arg(&t, s.sum));
    int32_t target = rg_expr_ternary(&t.expr, RG_EXPR_SELECT, one_hot(&t, &s),
                                     constant(&t, 1 - smoothing + even), constant(&t, even));
    int32_t inv = rg_expr_leaf(&t.expr, RG_EXPR_CTRL, RG_CTRL_INV_COUNT);
    int32_t root = bin(&t, RG_EXPR_MUL, bin(&t, RG_EXPR_SUB, p, target), inv);
    rg_vid dlogits = finish(rw, &t, root, s.wide, node, "dlogits");
    rw->map[node->out[0]] = dlogits;
    if (dlogits < 0) return rg_nomem(rw->ctx);
    rw->to->node[rw->to->value[dlogits].def].attr.seed = true;
    return RG_OK;
}

static rg_status batch_norm_eval(rg_rewrite *rw, const rg_node *node) {
    rg_graph *g = rw->to;
    rg_vid in[5]; /* x, gamma, beta, running mean, running var */
    for (int i = 0; i < 5; i++) in[i] = rw->map[node->in[i]];
    tree t;
    tree_begin(&t, g->arena);
    int32_t shifted = bin(&t, RG_EXPR_ADD, arg(&t, in[4]), constant(&t, node->attr.eps));
    int32_t root =
        bin(&t, RG_EXPR_MUL, arg(&t, in[1]), rg_expr_unary(&t.expr, RG_EXPR_RSQRT, shifted));
    rg_vid scale = finish(rw, &t, root, g->value[in[1]].type, node, "scale");
    if (scale < 0) return rg_nomem(rw->ctx);
    rw->map[node->out[0]] = normalise(rw, in[0], in[3], scale, in[2], node);
    return rw->map[node->out[0]] < 0 ? rg_nomem(rw->ctx) : RG_OK;
}

typedef rg_status (*expand_fn)(rg_rewrite *, const rg_node *);

/* Rewrites every op that `rule` has an entry for and copies the others. */
static rg_status expand_all(rg_ctx *ctx, const rg_graph *in, const expand_fn *rule,
                            rg_graph **out) {
    rg_rewrite rw;
    RG_TRY(rg_rewrite_begin(&rw, ctx, in, in->name));
    for (rg_nid n = 0; n < in->node_count; n++) {
        const rg_node *node = &in->node[n];
        RG_TRY(rule[node->op] ? rule[node->op](&rw, node) : rg_rewrite_copy(&rw, node));
    }
    RG_TRY(rg_rewrite_results(&rw));
    *out = rw.to;
    return rg_graph_verify(ctx, rw.to);
}

rg_status rg_pass_decompose(rg_ctx *ctx, const rg_graph *in, rg_graph **out) {
    static const expand_fn rule[RG_OP_COUNT] = {
        [RG_OP_BATCH_NORM] = batch_norm,
        [RG_OP_BATCH_NORM_GRAD] = batch_norm_grad,
        [RG_OP_LOSS] = loss,
        [RG_OP_LOSS_GRAD] = loss_grad,
    };
    return expand_all(ctx, in, rule, out);
}

rg_status rg_pass_fold(rg_ctx *ctx, const rg_graph *in, rg_graph **out) {
    static const expand_fn rule[RG_OP_COUNT] = {[RG_OP_BATCH_NORM_EVAL] = batch_norm_eval};
    return expand_all(ctx, in, rule, out);
}
