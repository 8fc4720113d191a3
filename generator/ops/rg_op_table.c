/* The table of ops: shape rule, gradient rule, FLOP, reference, a row each. */
#include "rg_op_table.h"

static rg_type in_type(const rg_graph *graph, const rg_node *node, int i) {
    return graph->value[node->in[i]].type;
}

static rg_type out_type(const rg_graph *graph, const rg_node *node, int i) {
    return graph->value[node->out[i]].type;
}

/* A multiply and an add for each filter element and output pixel. */
static double conv_flop(rg_type w, rg_type y) {
    return 2.0 * (double)rg_type_elements(w) * (double)y.dim[1] * (double)y.dim[2];
}

static double flop_fprop(const rg_graph *graph, const rg_node *node) {
    return conv_flop(in_type(graph, node, 1), out_type(graph, node, 0));
}

static double flop_dgrad(const rg_graph *graph, const rg_node *node) {
    return conv_flop(in_type(graph, node, 1), in_type(graph, node, 0));
}

static double flop_wgrad(const rg_graph *graph, const rg_node *node) {
    return conv_flop(out_type(graph, node, 0), in_type(graph, node, 1));
}

static double flop_window(const rg_graph *graph, const rg_node *node) {
    rg_type x = in_type(graph, node, 0), y = out_type(graph, node, 0);
    double ex = (double)rg_type_elements(x), ey = (double)rg_type_elements(y);
    return (double)node->attr.r * (double)node->attr.s * (ex < ey ? ex : ey);
}

static double flop_pointwise(const rg_graph *graph, const rg_node *node) {
    double ops = 0;
    const rg_expr *expr = &node->attr.expr;
    for (int32_t i = 0; i < expr->count; i++) {
        if (rg_expr_arity(expr->node[i].op) > 0) ops += expr->node[i].op == RG_EXPR_FMA ? 2 : 1;
    }
    return ops * (double)rg_type_elements(out_type(graph, node, 0));
}

static double flop_reduce(const rg_graph *graph, const rg_node *node) {
    double ops = node->attr.reduce == RG_REDUCE_MOMENTS ? 4 : 1; /* sum; subtract, square, add */
    return ops * (double)rg_type_elements(in_type(graph, node, 0));
}

/* Moments, subtract, scale, shift. */
static double flop_batch_norm(const rg_graph *graph, const rg_node *node) {
    return 7.0 * (double)rg_type_elements(in_type(graph, node, 0));
}

/* xhat (2), two sums (3), dx (5). */
static double flop_batch_norm_grad(const rg_graph *graph, const rg_node *node) {
    return 10.0 * (double)rg_type_elements(in_type(graph, node, 0));
}

static double flop_batch_norm_eval(const rg_graph *graph, const rg_node *node) {
    return 3.0 * (double)rg_type_elements(in_type(graph, node, 0));
}

/* Maximum, subtract, exponential, sum. */
static double flop_loss(const rg_graph *graph, const rg_node *node) {
    return 4.0 * (double)rg_type_elements(in_type(graph, node, 0));
}

/* Columns as in rg_op_row: infer, grad, flop, reference. */
const rg_op_row rg_op_rows[RG_OP_COUNT] = {
    [RG_OP_CONV2D_FPROP] = {rg_infer_fprop, rg_grad_fprop, flop_fprop, rg_ref_fprop},
    [RG_OP_CONV2D_DGRAD] = {rg_infer_recorded, NULL, flop_dgrad, rg_ref_dgrad},
    [RG_OP_CONV2D_WGRAD] = {rg_infer_wgrad, NULL, flop_wgrad, rg_ref_wgrad},
    [RG_OP_MAXPOOL] = {rg_infer_maxpool, rg_grad_maxpool, flop_window, rg_ref_maxpool},
    [RG_OP_MAXPOOL_GRAD] = {rg_infer_recorded, NULL, flop_window, rg_ref_maxpool_grad},
    [RG_OP_AVGPOOL] = {rg_infer_avgpool, rg_grad_avgpool, flop_window, rg_ref_avgpool},
    [RG_OP_AVGPOOL_GRAD] = {rg_infer_recorded, NULL, flop_window, rg_ref_avgpool_grad},
    [RG_OP_POINTWISE] = {rg_infer_pointwise, rg_grad_pointwise, flop_pointwise, rg_ref_pointwise},
    [RG_OP_REDUCE] = {rg_infer_reduce, rg_grad_reduce, flop_reduce, rg_ref_reduce},
    [RG_OP_BATCH_NORM] = {rg_infer_batch_norm, rg_grad_batch_norm, flop_batch_norm,
                          rg_ref_batch_norm},
    [RG_OP_BATCH_NORM_GRAD] = {rg_infer_batch_norm_grad, NULL, flop_batch_norm_grad,
                               rg_ref_batch_norm_grad},
    [RG_OP_BATCH_NORM_EVAL] = {rg_infer_batch_norm, NULL, flop_batch_norm_eval,
                               rg_ref_batch_norm_eval},
    [RG_OP_LOSS] = {rg_infer_loss, rg_grad_loss, flop_loss, rg_ref_loss},
    [RG_OP_LOSS_GRAD] = {rg_infer_loss_grad, NULL, flop_loss, rg_ref_loss_grad},
};

rg_status rg_op_infer(rg_ctx *ctx, const rg_graph *graph, const rg_node *node, rg_type *out_type) {
    rg_infer infer = {ctx, graph, node, out_type};
    return rg_op_rows[node->op].infer(&infer);
}

rg_status rg_op_grad(rg_ctx *ctx, rg_graph *graph, rg_nid node, rg_vid dout, const bool *wanted,
                     rg_vid *din) {
    rg_grad grad = {ctx, graph, graph->node[node], dout, wanted, din};
    for (int32_t i = 0; i < grad.node.in_count; i++) din[i] = -1;
    if (rg_op_rows[grad.node.op].grad) return rg_op_rows[grad.node.op].grad(&grad);
    return rg_error(ctx, RG_E_UNSUPPORTED, grad.node.loc, "%s '%s' has no gradient",
                    rg_op_name(grad.node.op), grad.node.name ? grad.node.name : "");
}

double rg_op_flop(const rg_graph *graph, const rg_node *node) {
    return rg_op_rows[node->op].flop(graph, node);
}
