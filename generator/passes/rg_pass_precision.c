/* Where values are rounded: each once, where it is made, so that whoever reads it, from memory or
 * by making it again, reads the same number.
 *
 * - Operands of contractions, weights apart, are numbers of the graph's format.
 * - In 16-bit formats so are the results of anchors with more than one pixel: these are the values
 *   that cross memory. What an anchor alone feeds, element by element, is made in its epilogue: the
 *   end of that chain is rounded, not what is on the way. Where two chains meet, one of them comes
 *   from memory: the later anchor's goes on, the other ends. What a fprop leaves that may ride with
 *   another is rounded there in any case: it may be made, and stored, long before.
 *
 * What is a number of the format already is not rounded again: an analysis of trees tells. */
#include <string.h>

#include "rg_fuse.h"

/* ---- which values are numbers of the format ---- */

typedef struct analysis {
    const rg_graph *graph;
    rg_expr_op rounding;
    bool *exact; /* by value */
    bool *node;  /* by node of a tree; scratch */
} analysis;

static bool operand_exact(const analysis *an, const rg_node *node, const rg_enode *e) {
    switch (e->op) {
    case RG_EXPR_CONST:
        return rg_expr_apply(an->rounding, e->value, 0, 0) == e->value;
    case RG_EXPR_ARG:
        return an->exact[node->in[e->leaf]];
    case RG_EXPR_NEG:
    case RG_EXPR_ABS:
        return an->node[e->a];
    case RG_EXPR_MAX:
    case RG_EXPR_MIN:
        return an->node[e->a] && an->node[e->b];
    case RG_EXPR_SELECT:
        return an->node[e->b] && an->node[e->c];
    case RG_EXPR_GT:
    case RG_EXPR_GE:
    case RG_EXPR_EQ:
        return true; /* 0 or 1 */
    default:
        return e->op == an->rounding;
    }
}

/* Fills in an->node for the whole tree. */
static bool tree_exact(const analysis *an, const rg_node *node) {
    const rg_expr *expr = &node->attr.expr;
    for (int32_t i = 0; i < expr->count; i++) an->node[i] = operand_exact(an, node, &expr->node[i]);
    return an->node[node->attr.root];
}

/* Integers from 0 to r*s - 1: all of them have as many bits as the format's significand. */
static bool index_exact(const analysis *an, const rg_attr *attr) {
    int64_t most = an->rounding == RG_EXPR_ROUND_BF16 ? 256 : 2048;
    return (int64_t)attr->r * attr->s - 1 <= most;
}

static void analyse_node(const analysis *an, const rg_node *node) {
    bool same = an->exact[node->in_count > 0 ? node->in[0] : node->out[0]];
    for (int32_t i = 0; i < node->out_count; i++) an->exact[node->out[i]] = false;
    if (node->op == RG_OP_POINTWISE) an->exact[node->out[0]] = tree_exact(an, node);
    if (node->op == RG_OP_MAXPOOL) {
        an->exact[node->out[0]] = same;
        an->exact[node->out[1]] = index_exact(an, &node->attr);
    }
    if (node->op == RG_OP_REDUCE && node->attr.reduce == RG_REDUCE_MAX)
        an->exact[node->out[0]] = same;
}

/* `values`: of the graph, or as many as it will have. */
static rg_status begin(rg_ctx *ctx, const rg_graph *graph, int32_t values, analysis *an) {
    *an = (analysis){.graph = graph, .rounding = rg_kformat_rounding(graph->format)};
    an->exact = RG_NEW_ARRAY(ctx->arena, bool, values + 1);
    an->node = RG_NEW_ARRAY(ctx->arena, bool, RG_EXPR_MAX_NODES);
    return an->exact && an->node ? RG_OK : rg_nomem(ctx);
}

rg_status rg_precision_analyse(rg_ctx *ctx, const rg_graph *graph, bool **exact) {
    analysis an;
    RG_TRY(begin(ctx, graph, graph->value_count, &an));
    *exact = an.exact;
    if (graph->format == RG_KFORMAT_F32) return RG_OK;
    for (rg_nid n = 0; n < graph->node_count; n++) analyse_node(&an, &graph->node[n]);
    return RG_OK;
}

/* ---- what every graph is after the pass ---- */

static int32_t operands_of(rg_op op) {
    if (op == RG_OP_CONV2D_WGRAD) return 2;
    return op == RG_OP_CONV2D_FPROP || op == RG_OP_CONV2D_DGRAD ? 1 : 0;
}

/* A rounding of what is a number of the format; NULL, or what is wrong. */
static const char *check_tree(const analysis *an, const rg_node *node) {
    const rg_expr *expr = &node->attr.expr;
    tree_exact(an, node);
    for (int32_t i = 0; i < expr->count; i++) {
        const rg_enode *e = &expr->node[i];
        if (e->op == an->rounding && an->node[e->a]) return "rounds what is rounded already";
    }
    return NULL;
}

static const char *check_node(const analysis *an, const rg_node *node) {
    int32_t operands = operands_of(node->op);
    if (operands > 0 && node->attr.format != an->graph->format)
        return "has not the graph's format of products";
    for (int32_t i = 0; i < operands; i++)
        if (!an->exact[node->in[i]]) return "reads an operand that is not rounded";
    return node->op == RG_OP_POINTWISE ? check_tree(an, node) : NULL;
}

rg_status rg_precision_check(rg_ctx *ctx, const rg_graph *graph) {
    if (graph->format == RG_KFORMAT_F32) return RG_OK;
    analysis an;
    RG_TRY(begin(ctx, graph, graph->value_count, &an));
    for (rg_nid n = 0; n < graph->node_count; n++) {
        const rg_node *node = &graph->node[n];
        const char *wrong = check_node(&an, node);
        if (wrong)
            return rg_error(ctx, RG_E_INTERNAL, node->loc, "precision, graph %s: %s '%s' %s",
                            graph->name, rg_op_name(node->op), node->name ? node->name : "", wrong);
        analyse_node(&an, node);
    }
    return RG_OK;
}

/* ---- which values to round, on the graph as it came ---- */

typedef struct plan {
    analysis an;    /* as if what is wanted were rounded */
    int32_t *users; /* by value: how many nodes read it; a result counts as one more */
    bool *wanted;   /* by value: to be rounded where it is made */
    rg_nid *open;   /* by value: at the end of a chain, the anchor that it comes from; -1: none */
} plan;

static rg_status begin_plan(rg_ctx *ctx, const rg_graph *graph, plan *pl) {
    size_t values = (size_t)graph->value_count + 1;
    RG_TRY(begin(ctx, graph, graph->value_count, &pl->an));
    pl->users = RG_NEW_ARRAY(ctx->arena, int32_t, values);
    pl->wanted = RG_NEW_ARRAY(ctx->arena, bool, values);
    pl->open = RG_NEW_ARRAY(ctx->arena, rg_nid, values);
    rg_nid *last = RG_NEW_ARRAY(ctx->arena, rg_nid, values);
    if (!pl->users || !pl->wanted || !pl->open || !last) return rg_nomem(ctx);
    memset(pl->open, 0xff, values * sizeof *pl->open);
    for (rg_nid n = 0; n < graph->node_count; n++) {
        const rg_node *node = &graph->node[n];
        for (int32_t i = 0; i < node->in_count; i++) {
            rg_vid v = node->in[i];
            pl->users[v] += pl->users[v] == 0 || last[v] != n;
            last[v] = n;
            if (i < operands_of(node->op)) pl->wanted[v] = true;
        }
    }
    for (int32_t i = 0; i < graph->result_count; i++) pl->users[graph->result[i].value]++;
    for (rg_vid v = 0; v < graph->value_count; v++) pl->an.exact[v] = pl->wanted[v];
    return RG_OK;
}

/* The chain that v is the end of goes no further. */
static void close_chain(plan *pl, rg_vid v) {
    if (pl->open[v] < 0) return;
    pl->open[v] = -1;
    pl->wanted[v] = pl->an.exact[v] = true;
}

/* v is made by `anchor`, or by what that alone feeds. */
static void open_chain(plan *pl, rg_vid v, rg_nid anchor) {
    if (pl->wanted[v] || pl->an.exact[v] || anchor < 0) return;
    pl->open[v] = anchor;
    if (pl->users[v] != 1) close_chain(pl, v);
}

/* May this anchor's kernel be that of another one too? */
static bool may_ride(const rg_graph *graph, rg_nid anchor) {
    for (rg_nid n = 0; anchor >= 0 && n < graph->node_count; n++)
        if (rg_fuse_share_operand(graph, anchor, n)) return true;
    return false;
}

/* Values with pixels among the node's inputs. */
static int32_t count_big(const rg_graph *graph, const rg_node *node) {
    int32_t count = 0;
    for (int32_t i = 0; i < node->in_count; i++)
        count += !rg_type_is_channel(graph->value[node->in[i]].type);
    return count;
}

/* The anchor whose chain goes on through this node; -1: none. */
static rg_nid meet_chains(plan *pl, const rg_node *node) {
    const rg_graph *graph = pl->an.graph;
    rg_type type = graph->value[node->out[0]].type;
    bool several = count_big(graph, node) > 1;
    rg_nid latest = -1;
    for (int32_t i = 0; i < node->in_count; i++) {
        rg_vid v = node->in[i];
        if (!rg_type_equal(graph->value[v].type, type)) close_chain(pl, v);
        if (pl->open[v] > latest) latest = pl->open[v];
        if (several && may_ride(graph, pl->open[v])) close_chain(pl, v);
    }
    bool one_sum = rg_fuse_adds_contractions(graph, node);
    for (int32_t i = 0; i < node->in_count && !one_sum; i++)
        if (pl->open[node->in[i]] != latest) close_chain(pl, node->in[i]);
    return latest;
}

/* Does this node leave a value that crosses memory in 16 bits? */
static bool leaves_16_bits(const rg_graph *graph, const rg_node *node) {
    const int32_t *dim = graph->value[node->out[0]].type.dim;
    bool anchor = node->op != RG_OP_REDUCE && node->op != RG_OP_CONV2D_WGRAD;
    return anchor && rg_kformat_type(graph->format) != RG_KTYPE_F32 && dim[1] * dim[2] > 1;
}

static void plan_node(plan *pl, rg_nid n) {
    const rg_graph *graph = pl->an.graph;
    const rg_node *node = &graph->node[n];
    rg_nid anchor = leaves_16_bits(graph, node) ? n : -1;
    if (node->op == RG_OP_POINTWISE) {
        anchor = meet_chains(pl, node);
    } else {
        for (int32_t i = 0; i < node->in_count; i++) close_chain(pl, node->in[i]);
    }
    analyse_node(&pl->an, node);
    bool scaled = node->attr.seed && graph->format == RG_KFORMAT_F16;
    if (scaled) pl->an.exact[node->out[0]] = false;
    for (int32_t i = 0; i < node->out_count; i++) {
        rg_vid y = node->out[i];
        if (pl->an.exact[y]) pl->wanted[y] = false; /* is a number of the format by itself */
        pl->an.exact[y] |= pl->wanted[y];
    }
    open_chain(pl, node->out[0], anchor);
}

/* ---- the pass ---- */

typedef struct precision {
    rg_rewrite rw;
    plan plan;
    rg_vid scale; /* f16: the loss scale, a leaf; -1: not met yet */
} precision;

/* The rounding of new value v as a node of its own. */
static rg_vid add_rounding(precision *p, rg_vid v, const char *name) {
    rg_graph *to = p->rw.to;
    const rg_value value = to->value[v];
    rg_expr expr;
    rg_expr_init(&expr, to->arena);
    int32_t arg = rg_expr_leaf(&expr, RG_EXPR_ARG, 0);
    int32_t root = rg_expr_unary(&expr, p->plan.an.rounding, arg);
    return rg_graph_pointwise(to, &v, 1, &expr, root, value.type, name, value.loc);
}

/* Old value v, which is made, as all readers are to see it. */
static rg_status settle(precision *p, rg_vid v, const char *name) {
    if (!p->plan.wanted[v]) return RG_OK;
    p->rw.map[v] = add_rounding(p, p->rw.map[v], name);
    return p->rw.map[v] < 0 ? rg_nomem(p->rw.ctx) : RG_OK;
}

static rg_status find_scale(precision *p, rg_loc loc) {
    const rg_type one = {RG_T_ACT, {1, 1, 1, 1}};
    if (p->scale < 0)
        p->scale = rg_graph_add_leaf(p->rw.to, RG_V_INPUT, one, RG_LOSS_SCALE, -1, loc);
    return p->scale < 0 ? rg_nomem(p->rw.ctx) : RG_OK;
}

/* The node's root in `expr`: times the loss scale where reverse mode starts in f16, and rounded
 * where that is wanted; but two contractions in one accumulator are known by their bare sum. */
static int32_t rounded_tree(const precision *p, const rg_node *node, bool scaled, rg_expr *expr) {
    rg_expr_init(expr, p->rw.to->arena);
    int32_t root = rg_expr_graft(expr, &node->attr.expr, node->attr.root, NULL);
    if (scaled) {
        int32_t scale = rg_expr_leaf(expr, RG_EXPR_ARG, node->in_count);
        root = rg_expr_binary(expr, RG_EXPR_MUL, root, scale);
    }
    bool round = p->plan.wanted[node->out[0]] && !rg_fuse_adds_contractions(p->rw.from, node);
    return round ? rg_expr_unary(expr, p->plan.an.rounding, root) : root;
}

static rg_status copy_pointwise(precision *p, const rg_node *node) {
    rg_graph *to = p->rw.to;
    bool scaled = node->attr.seed && to->format == RG_KFORMAT_F16;
    if (scaled) RG_TRY(find_scale(p, node->loc));
    rg_vid *in = RG_NEW_ARRAY(p->rw.ctx->arena, rg_vid, node->in_count + 1);
    if (!in) return rg_nomem(p->rw.ctx);
    for (int32_t i = 0; i < node->in_count; i++) in[i] = p->rw.map[node->in[i]];
    in[node->in_count] = p->scale;
    rg_attr attr = node->attr;
    attr.root = rounded_tree(p, node, scaled, &attr.expr);
    if (attr.root < 0) return rg_nomem(p->rw.ctx);
    const rg_type type = p->rw.from->value[node->out[0]].type;
    rg_nid made = rg_graph_add_node(to, RG_OP_POINTWISE, in, node->in_count + scaled, &type, 1,
                                    &attr, node->name, node->loc);
    if (made < 0) return rg_nomem(p->rw.ctx);
    p->rw.map[node->out[0]] = to->node[made].out[0];
    bool sum = rg_fuse_adds_contractions(p->rw.from, node);
    return sum ? settle(p, node->out[0], node->name) : RG_OK;
}

static rg_status copy_other(precision *p, const rg_node *node) {
    RG_TRY(rg_rewrite_copy(&p->rw, node));
    rg_node *made = &p->rw.to->node[p->rw.to->node_count - 1];
    if (operands_of(node->op) > 0) made->attr.format = p->rw.to->format;
    for (int32_t i = 0; i < node->out_count; i++) RG_TRY(settle(p, node->out[i], node->name));
    return RG_OK;
}

static rg_status round_all(precision *p) {
    const rg_graph *from = p->rw.from;
    RG_TRY(begin_plan(p->rw.ctx, from, &p->plan));
    for (rg_nid n = 0; n < from->node_count; n++) plan_node(&p->plan, n);
    for (rg_vid v = 0; v < from->value_count; v++)
        if (from->value[v].kind != RG_V_NODE) RG_TRY(settle(p, v, from->value[v].name));
    for (rg_nid n = 0; n < from->node_count; n++) {
        const rg_node *node = &from->node[n];
        RG_TRY(node->op == RG_OP_POINTWISE ? copy_pointwise(p, node) : copy_other(p, node));
    }
    return RG_OK;
}

rg_status rg_pass_precision(rg_ctx *ctx, const rg_graph *in, rg_graph **out) {
    precision p = {.scale = -1};
    RG_TRY(rg_rewrite_begin(&p.rw, ctx, in, in->name));
    if (in->format != RG_KFORMAT_F32) RG_TRY(round_all(&p));
    for (rg_nid n = 0; n < in->node_count && in->format == RG_KFORMAT_F32; n++)
        RG_TRY(rg_rewrite_copy(&p.rw, &in->node[n]));
    RG_TRY(rg_rewrite_results(&p.rw));
    *out = p.rw.to;
    RG_TRY(rg_precision_check(ctx, p.rw.to));
    return rg_graph_verify(ctx, p.rw.to);
}
