/* What a node is to fuse, and how values are kept. */
#include "rg_fuse_reach.h"

bool rg_fuse_is_channel_sum(const rg_graph *graph, const rg_node *node) {
    if (node->op != RG_OP_REDUCE || !(node->attr.axes & RG_AXIS_N)) return false;
    return rg_type_is_channel(graph->value[node->out[0]].type);
}

bool rg_fuse_is_row_reduce(const rg_node *node) {
    return node->op == RG_OP_REDUCE && node->attr.axes == RG_AXIS_C;
}

bool rg_fuse_rounds_root(const rg_node *node) {
    rg_expr_op op = node->attr.expr.node[node->attr.root].op;
    return op == RG_EXPR_ROUND_TF32 || op == RG_EXPR_ROUND_BF16 || op == RG_EXPR_ROUND_F16;
}

bool rg_fuse_is_rounding(const rg_node *node) {
    if (node->op != RG_OP_POINTWISE || node->in_count != 1 || !rg_fuse_rounds_root(node))
        return false;
    const rg_expr *expr = &node->attr.expr;
    return expr->node[expr->node[node->attr.root].a].op == RG_EXPR_ARG;
}

/* Is the node just the sum of its two inputs? */
bool rg_fuse_is_sum_of_two(const rg_node *node) {
    if (node->op != RG_OP_POINTWISE || node->in_count != 2 || node->in[0] == node->in[1])
        return false;
    const rg_expr *expr = &node->attr.expr;
    const rg_enode *root = &expr->node[node->attr.root];
    return root->op == RG_EXPR_ADD && expr->node[root->a].op == RG_EXPR_ARG &&
           expr->node[root->b].op == RG_EXPR_ARG;
}

/* A contraction that could add to another's sum. One that Winograd can do is left alone: it gains
 * more there than by an addition saved. */
static bool is_addend(const rg_graph *graph, rg_vid v) {
    if (graph->value[v].def < 0) return false;
    const rg_node *node = &graph->node[graph->value[v].def];
    if (node->op != RG_OP_CONV2D_FPROP && node->op != RG_OP_CONV2D_DGRAD) return false;
    const rg_attr *attr = &node->attr;
    return !(attr->r == 3 && attr->s == 3 && attr->stride == 1 && attr->dilation == 1);
}

bool rg_fuse_adds_contractions(const rg_graph *graph, const rg_node *node) {
    if (!rg_fuse_is_sum_of_two(node) || !is_addend(graph, node->in[0]) ||
        !is_addend(graph, node->in[1]))
        return false;
    rg_type type = graph->value[node->out[0]].type; /* a sum that repeats one of them is none */
    if (!rg_type_equal(graph->value[node->in[0]].type, type) ||
        !rg_type_equal(graph->value[node->in[1]].type, type))
        return false;
    rg_nid a = graph->value[node->in[0]].def, b = graph->value[node->in[1]].def;
    return graph->node[a].op == graph->node[b].op;
}

/* Activations that are numbers of a 16-bit format are kept as such: who writes and who reads one
 * agree, since it is a property of the value. Results are f32, and so is what has no room beside
 * it: one channel is stored alone. */
rg_status rg_fuse_find_types(rg_ctx *ctx, rg_fusion *fu) {
    const rg_graph *g = fu->graph;
    bool *exact;
    RG_TRY(rg_precision_analyse(ctx, g, &exact));
    fu->type = RG_NEW_ARRAY(ctx->arena, rg_ktype, g->value_count + 1);
    if (!fu->type) return rg_nomem(ctx);
    for (rg_vid v = 0; v < g->value_count; v++) {
        rg_type type = g->value[v].type;
        bool act = g->value[v].kind == RG_V_NODE && type.cls == RG_T_ACT && type.dim[3] > 1;
        bool narrow = act && exact[v] && !fu->is_result[v] && !rg_type_is_channel(type);
        fu->type[v] = narrow ? rg_kformat_type(g->format) : RG_KTYPE_F32;
    }
    return RG_OK;
}
