/* Common subexpressions, dead code, and masks: x > 0 is read off y = max(x, 0) where that is there,
 * so that x need not be kept. Constants are folded when trees are built (rg_expr). */
#include <string.h>

#include "rg_passes.h"

static bool same_expr(const rg_expr *a, const rg_expr *b) {
    if (a->count != b->count) return false;
    for (int32_t i = 0; i < a->count; i++) {
        const rg_enode *x = &a->node[i], *y = &b->node[i];
        if (x->op != y->op || x->a != y->a || x->b != y->b || x->c != y->c || x->leaf != y->leaf ||
            memcmp(&x->value, &y->value, sizeof x->value) != 0)
            return false;
    }
    return true;
}

static bool same_attr(const rg_attr *a, const rg_attr *b) {
    return a->r == b->r && a->s == b->s && a->stride == b->stride && a->pad == b->pad &&
           a->dilation == b->dilation && a->format == b->format && a->root == b->root &&
           a->seed == b->seed && a->reduce == b->reduce && a->axes == b->axes &&
           memcmp(&a->eps, &b->eps, sizeof a->eps) == 0 &&
           memcmp(&a->momentum, &b->momentum, sizeof a->momentum) == 0 &&
           memcmp(&a->smoothing, &b->smoothing, sizeof a->smoothing) == 0 &&
           same_expr(&a->expr, &b->expr);
}

static bool same_node(const rg_rewrite *rw, const rg_node *old, const rg_node *made) {
    if (old->op != made->op || old->in_count != made->in_count || old->out_count != made->out_count)
        return false;
    for (int32_t i = 0; i < old->in_count; i++)
        if (rw->map[old->in[i]] != made->in[i]) return false;
    for (int32_t i = 0; i < old->out_count; i++)
        if (!rg_type_equal(rw->from->value[old->out[i]].type, rw->to->value[made->out[i]].type))
            return false;
    return same_attr(&old->attr, &made->attr);
}

/* ---- masks ---- */

static bool is_zero(const rg_expr *expr, int32_t i) {
    return expr->node[i].op == RG_EXPR_CONST && expr->node[i].value == 0.0;
}

/* The value max(x, 0) of the graph so far; -1: none. */
static rg_vid relu_of(const rg_graph *graph, rg_vid x) {
    for (rg_nid n = 0; n < graph->node_count; n++) {
        const rg_node *node = &graph->node[n];
        if (node->op != RG_OP_POINTWISE || node->in_count != 1 || node->in[0] != x) continue;
        const rg_expr *expr = &node->attr.expr;
        const rg_enode *root = &expr->node[node->attr.root];
        if (root->op == RG_EXPR_MAX && expr->node[root->a].op == RG_EXPR_ARG &&
            is_zero(expr, root->b) &&
            rg_type_equal(graph->value[x].type, graph->value[node->out[0]].type))
            return node->out[0];
    }
    return -1;
}

/* An input that the node only compares with 0 is replaced by its max(x, 0). */
static void read_mask(rg_rewrite *rw, rg_nid id) {
    rg_graph *graph = rw->to;
    rg_node *node = &graph->node[id];
    const rg_expr *from = &node->attr.expr;
    for (int32_t i = 0; i < from->count; i++) {
        const rg_enode *gt = &from->node[i];
        if (gt->op != RG_EXPR_GT || !is_zero(from, gt->b) || from->node[gt->a].op != RG_EXPR_ARG)
            continue;
        int32_t arg = from->node[gt->a].leaf;
        rg_vid y = relu_of(graph, node->in[arg]);
        if (y < 0) continue;
        int32_t uses = 0;
        for (int32_t k = 0; k < from->count; k++)
            uses +=
                from->node[k].a == gt->a || from->node[k].b == gt->a || from->node[k].c == gt->a;
        if (uses == 1) node->in[arg] = y;
    }
}

static rg_status copy_node(rg_rewrite *rw, const rg_node *node) {
    RG_TRY(rg_rewrite_copy(rw, node));
    if (node->op == RG_OP_POINTWISE) read_mask(rw, rw->to->node_count - 1);
    return RG_OK;
}

static rg_status copy_once(rg_rewrite *rw, const rg_node *node) {
    /* two weights may have the same gradient, but each result needs a value of its own */
    bool own = node->op == RG_OP_CONV2D_WGRAD;
    for (rg_nid n = 0; !own && n < rw->to->node_count; n++) {
        const rg_node *made = &rw->to->node[n];
        if (!same_node(rw, node, made)) continue;
        for (int32_t i = 0; i < node->out_count; i++) rw->map[node->out[i]] = made->out[i];
        return RG_OK;
    }
    return copy_node(rw, node);
}

static void mark_live(const rg_graph *graph, bool *live) {
    bool *needed = live; /* by value */
    for (int32_t i = 0; i < graph->result_count; i++) needed[graph->result[i].value] = true;
    for (rg_nid n = graph->node_count - 1; n >= 0; n--) {
        const rg_node *node = &graph->node[n];
        bool used = false;
        for (int32_t i = 0; i < node->out_count; i++) used |= needed[node->out[i]];
        for (int32_t i = 0; used && i < node->in_count; i++) needed[node->in[i]] = true;
    }
}

static bool is_taken(const rg_graph *graph, rg_vid v) {
    if (graph->value[v].def < 0) return true;
    for (int32_t i = 0; i < graph->result_count; i++)
        if (graph->result[i].value == v) return true;
    return false;
}

/* Each result is a value of its own: a leaf or a value that serves a result already is copied by a
 * node. */
static rg_status copy_results(rg_rewrite *rw) {
    for (int32_t i = 0; i < rw->from->result_count; i++) {
        const rg_result *result = &rw->from->result[i];
        rg_vid v = rw->map[result->value];
        if (is_taken(rw->to, v)) {
            rg_expr expr;
            rg_expr_init(&expr, rw->to->arena);
            int32_t root = rg_expr_leaf(&expr, RG_EXPR_ARG, 0);
            const rg_value value = rw->to->value[v];
            v = rg_graph_pointwise(rw->to, &v, 1, &expr, root, value.type, "copy", value.loc);
            if (v < 0) return rg_nomem(rw->ctx);
        }
        if (rg_graph_add_result(rw->to, result->kind, v, result->param) != RG_OK)
            return rg_nomem(rw->ctx);
    }
    return RG_OK;
}

rg_status rg_pass_simplify(rg_ctx *ctx, const rg_graph *in, rg_graph **out) {
    rg_rewrite rw;
    bool *live = RG_NEW_ARRAY(ctx->arena, bool, in->value_count + 1);
    if (!live) return rg_nomem(ctx);
    mark_live(in, live);
    RG_TRY(rg_rewrite_begin(&rw, ctx, in, in->name));
    for (rg_nid n = 0; n < in->node_count; n++) {
        const rg_node *node = &in->node[n];
        bool used = false;
        for (int32_t i = 0; i < node->out_count; i++) used |= live[node->out[i]];
        if (used) RG_TRY(copy_once(&rw, node));
    }
    RG_TRY(copy_results(&rw));
    *out = rw.to;
    return rg_graph_verify(ctx, rw.to);
}
