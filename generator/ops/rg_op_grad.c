/* Reverse mode, a rule an op. Each appends nodes and leaves values in din; a value of -1 made by
 * the graph means that memory ran out. */
#include "rg_op_table.h"

static rg_type type_of(const rg_graph *graph, rg_vid value) {
    return graph->value[value].type;
}

/* A gradient node of several outputs, named and placed as what it is the gradient of. */
static rg_nid add_node(rg_grad *g, rg_op op, const rg_vid *in, int32_t in_count, const rg_type *out,
                       int32_t out_count) {
    return rg_graph_add_node(g->graph, op, in, in_count, out, out_count, &g->node.attr,
                             g->node.name, g->node.loc);
}

/* din[i] becomes the one output, of input i's type, of a new node. */
static rg_status add_din(rg_grad *g, int i, rg_op op, rg_vid a, rg_vid b) {
    if (!g->wanted[i]) return RG_OK;
    rg_vid in[2] = {a, b};
    rg_type type = type_of(g->graph, g->node.in[i]);
    rg_nid node = add_node(g, op, in, b < 0 ? 1 : 2, &type, 1);
    if (node < 0) return rg_nomem(g->ctx);
    g->din[i] = g->graph->node[node].out[0];
    return RG_OK;
}

rg_status rg_grad_fprop(rg_grad *g) {
    RG_TRY(add_din(g, 0, RG_OP_CONV2D_DGRAD, g->dout, g->node.in[1]));
    return add_din(g, 1, RG_OP_CONV2D_WGRAD, g->node.in[0], g->dout);
}

rg_status rg_grad_maxpool(rg_grad *g) {
    return add_din(g, 0, RG_OP_MAXPOOL_GRAD, g->dout, g->node.out[1]);
}

rg_status rg_grad_avgpool(rg_grad *g) {
    return add_din(g, 0, RG_OP_AVGPOOL_GRAD, g->dout, -1);
}

/* The loss is the seed: its own gradient is 1, so dout is not read. */
rg_status rg_grad_loss(rg_grad *g) {
    return add_din(g, 0, RG_OP_LOSS_GRAD, g->node.in[0], g->node.in[1]);
}

rg_status rg_grad_batch_norm(rg_grad *g) {
    const rg_node *n = &g->node;
    if (!g->wanted[0] && !g->wanted[1] && !g->wanted[2]) return RG_OK;
    rg_vid in[5] = {g->dout, n->in[0], n->in[1], n->out[3], n->out[4]};
    rg_type channel = type_of(g->graph, n->in[1]);
    rg_type out[3] = {type_of(g->graph, n->in[0]), channel, channel};
    rg_nid node = add_node(g, RG_OP_BATCH_NORM_GRAD, in, 5, out, 3);
    if (node < 0) return rg_nomem(g->ctx);
    for (int i = 0; i < 3; i++) {
        if (g->wanted[i]) g->din[i] = g->graph->node[node].out[i];
    }
    return RG_OK;
}

/* The adjoint of a sum is the broadcast. */
rg_status rg_grad_reduce(rg_grad *g) {
    if (!g->wanted[0]) return RG_OK;
    if (g->node.attr.reduce != RG_REDUCE_SUM) {
        return rg_error(g->ctx, RG_E_UNSUPPORTED, g->node.loc,
                        "reduce '%s': only sums have a gradient", g->node.name ? g->node.name : "");
    }
    rg_expr expr;
    rg_expr_init(&expr, g->graph->arena);
    int32_t root = rg_expr_leaf(&expr, RG_EXPR_ARG, 0);
    g->din[0] = rg_graph_pointwise(g->graph, &g->dout, 1, &expr, root,
                                   type_of(g->graph, g->node.in[0]), g->node.name, g->node.loc);
    return g->din[0] < 0 ? rg_nomem(g->ctx) : RG_OK;
}

/* Renumbers the arguments of a tree to those it uses: in[] keeps these, in order. */
static rg_status keep_used(rg_grad *g, const rg_expr *from, int32_t *root, rg_expr *to, rg_vid *in,
                           int32_t *in_count) {
    int32_t *arg = RG_NEW_ARRAY(g->graph->arena, int32_t, *in_count);
    if (!arg) return rg_nomem(g->ctx);
    int32_t used = 0;
    for (int32_t i = 0; i < *in_count; i++) {
        arg[i] = -1;
        if (!rg_expr_uses(from, *root, RG_EXPR_ARG, i)) continue;
        arg[i] = rg_expr_leaf(to, RG_EXPR_ARG, used);
        if (arg[i] < 0) return rg_nomem(g->ctx);
        in[used++] = in[i];
    }
    *in_count = used;
    *root = rg_expr_graft(to, from, *root, arg);
    return *root < 0 ? rg_nomem(g->ctx) : RG_OK;
}

/* The node that computes tree `root` of `expr` over the inputs and dout; dout itself where the tree
 * is just that. */
static rg_status add_tree(rg_grad *g, const rg_expr *expr, int32_t root, rg_vid *value) {
    int32_t in_count = g->node.in_count + 1;
    const rg_enode *top = &expr->node[root];
    if (top->op == RG_EXPR_ARG && top->leaf == g->node.in_count) {
        *value = g->dout;
        return RG_OK;
    }
    rg_vid *in = RG_NEW_ARRAY(g->graph->arena, rg_vid, in_count);
    if (!in) return rg_nomem(g->ctx);
    for (int32_t i = 0; i < g->node.in_count; i++) in[i] = g->node.in[i];
    in[g->node.in_count] = g->dout;
    rg_expr tree;
    rg_expr_init(&tree, g->graph->arena);
    RG_TRY(keep_used(g, expr, &root, &tree, in, &in_count));
    *value = rg_graph_pointwise(g->graph, in, in_count, &tree, root, type_of(g->graph, g->dout),
                                g->node.name, g->node.loc);
    return *value < 0 ? rg_nomem(g->ctx) : RG_OK;
}

/* din[i] = dout * d out / d input i, summed over the axes along which the input was repeated. */
static rg_status grad_of_input(rg_grad *g, int32_t i) {
    rg_expr expr;
    rg_expr_init(&expr, g->graph->arena);
    int32_t root = rg_expr_graft(&expr, &g->node.attr.expr, g->node.attr.root, NULL);
    int32_t seed = rg_expr_leaf(&expr, RG_EXPR_ARG, g->node.in_count);
    root = rg_expr_tangent(&expr, root, i, seed);
    if (root < 0) return rg_nomem(g->ctx);
    bool zero = expr.node[root].op == RG_EXPR_CONST && expr.node[root].value == 0.0;
    if (zero) return RG_OK;
    RG_TRY(add_tree(g, &expr, root, &g->din[i]));
    uint32_t axes =
        rg_type_broadcast_axes(type_of(g->graph, g->node.in[i]), type_of(g->graph, g->dout));
    if (axes == 0) return RG_OK;
    g->din[i] =
        rg_graph_reduce(g->graph, g->din[i], RG_REDUCE_SUM, axes, g->node.name, g->node.loc);
    return g->din[i] < 0 ? rg_nomem(g->ctx) : RG_OK;
}

rg_status rg_grad_pointwise(rg_grad *g) {
    for (int32_t i = 0; i < g->node.in_count; i++) {
        if (g->wanted[i]) RG_TRY(grad_of_input(g, i));
    }
    return RG_OK;
}
