/* What every graph must be: values defined once and before use, arity as in ops.def, types that go
 * together. */
#include "rg_graph.h"

typedef struct op_arity {
    int32_t inputs, outputs; /* -1: any */
} op_arity;

static const op_arity arity[RG_OP_COUNT] = {
#define OP(id, name, inputs, outputs) [RG_OP_##id] = {inputs, outputs},
#include "ops.def"
#undef OP
};

/* ---- types of one node; each answers NULL or what is wrong ---- */

static rg_type in_type(const rg_graph *g, const rg_node *n, int i) {
    return g->value[n->in[i]].type;
}

static rg_type out_type(const rg_graph *g, const rg_node *n, int i) {
    return g->value[n->out[i]].type;
}

static bool is_channels(rg_type type, int32_t c) {
    return rg_type_is_channel(type) && type.dim[3] == c;
}

static bool in_range(int64_t value, int64_t least) {
    return value >= least && value <= RG_MAX_EXTENT;
}

static bool window_is_sound(const rg_attr *a, rg_type x) {
    return in_range(a->r, 1) && in_range(a->s, 1) && in_range(a->stride, 1) &&
           in_range(a->pad, 0) && in_range(a->dilation, 1) &&
           in_range((int64_t)a->dilation * a->r, 1) && in_range((int64_t)a->dilation * a->s, 1) &&
           in_range(x.dim[1], 1) && in_range(x.dim[2], 1);
}

/* Is y the shape that a window over x leaves, channels aside? */
static bool window_fits(const rg_attr *a, rg_type x, rg_type y) {
    return window_is_sound(a, x) && x.cls == RG_T_ACT && y.cls == RG_T_ACT &&
           x.dim[0] == y.dim[0] &&
           y.dim[1] == rg_window_extent(x.dim[1], a->r, a->stride, a->pad, a->dilation) &&
           y.dim[2] == rg_window_extent(x.dim[2], a->s, a->stride, a->pad, a->dilation);
}

/* x, w, y of a convolution; its gradients are the same three with another one as output. */
static const char *check_conv(const rg_attr *a, rg_type x, rg_type w, rg_type y) {
    if (w.cls != RG_T_WEIGHT) return "its weights are not of class WEIGHT";
    if (w.dim[1] != a->r || w.dim[2] != a->s) return "the filter is not r x s";
    if (!window_fits(a, x, y)) return "output extents do not follow from the input's";
    if (x.dim[3] != w.dim[3]) return "the image's channels are not the filter's";
    return y.dim[3] == w.dim[0] ? NULL : "the output's channels are not the filters";
}

static const char *check_fprop(const rg_graph *g, const rg_node *n) {
    return check_conv(&n->attr, in_type(g, n, 0), in_type(g, n, 1), out_type(g, n, 0));
}

static const char *check_dgrad(const rg_graph *g, const rg_node *n) {
    return check_conv(&n->attr, out_type(g, n, 0), in_type(g, n, 1), in_type(g, n, 0));
}

static const char *check_wgrad(const rg_graph *g, const rg_node *n) {
    return check_conv(&n->attr, in_type(g, n, 0), out_type(g, n, 0), in_type(g, n, 1));
}

static const char *check_pool(const rg_attr *a, rg_type x, rg_type y) {
    if (!window_fits(a, x, y)) return "output extents do not follow from the input's";
    if (2 * a->pad > a->r || 2 * a->pad > a->s) return "padding is over half of the window";
    return x.dim[3] == y.dim[3] ? NULL : "channels differ";
}

static const char *check_maxpool(const rg_graph *g, const rg_node *n) {
    if (!rg_type_equal(out_type(g, n, 0), out_type(g, n, 1)))
        return "the index is not as large as y";
    return check_pool(&n->attr, in_type(g, n, 0), out_type(g, n, 0));
}

static const char *check_maxpool_grad(const rg_graph *g, const rg_node *n) {
    if (!rg_type_equal(in_type(g, n, 0), in_type(g, n, 1)))
        return "the index is not as large as dy";
    return check_pool(&n->attr, out_type(g, n, 0), in_type(g, n, 0));
}

static const char *check_avgpool(const rg_graph *g, const rg_node *n) {
    return check_pool(&n->attr, in_type(g, n, 0), out_type(g, n, 0));
}

static const char *check_avgpool_grad(const rg_graph *g, const rg_node *n) {
    return check_pool(&n->attr, out_type(g, n, 0), in_type(g, n, 0));
}

static bool leaf_fits(const rg_node *n, const rg_enode *leaf) {
    switch (leaf->op) {
    case RG_EXPR_CONST:
        return true;
    case RG_EXPR_ARG:
        return leaf->leaf >= 0 && leaf->leaf < n->in_count;
    case RG_EXPR_INDEX:
        return leaf->leaf >= 0 && leaf->leaf < 4;
    case RG_EXPR_CTRL:
        return leaf->leaf >= 0 && leaf->leaf < RG_CTRL_SCALARS;
    default:
        return false;
    }
}

static bool operands_fit(const rg_enode *e, int32_t at) {
    const int32_t operand[3] = {e->a, e->b, e->c};
    for (int i = 0; i < rg_expr_arity(e->op); i++) {
        if (operand[i] < 0 || operand[i] >= at) return false;
    }
    return true;
}

static const char *check_pointwise(const rg_graph *g, const rg_node *n) {
    const rg_expr *expr = &n->attr.expr;
    if (n->attr.root < 0 || n->attr.root >= expr->count) return "its tree has no root";
    for (int32_t i = 0; i < expr->count; i++) {
        const rg_enode *e = &expr->node[i];
        if (rg_expr_arity(e->op) == 0 && !leaf_fits(n, e))
            return "its tree reads what is not there";
        if (!operands_fit(e, i)) return "its tree is not in order";
    }
    for (int32_t i = 0; i < n->in_count; i++) {
        if (!rg_type_broadcasts(in_type(g, n, i), out_type(g, n, 0))) {
            return "an input does not broadcast to the output";
        }
    }
    return NULL;
}

static const char *check_reduce(const rg_graph *g, const rg_node *n) {
    const uint32_t all = RG_AXIS_N | RG_AXIS_H | RG_AXIS_W | RG_AXIS_C;
    if (n->attr.axes == 0 || (n->attr.axes & ~all)) return "its axes are not axes";
    if (in_type(g, n, 0).cls != RG_T_ACT) return "it reduces activations only";
    if (n->out_count != (n->attr.reduce == RG_REDUCE_MOMENTS ? 2 : 1))
        return "wrong number of outputs";
    rg_type want = rg_type_reduced(in_type(g, n, 0), n->attr.axes);
    for (int32_t i = 0; i < n->out_count; i++) {
        if (!rg_type_equal(out_type(g, n, i), want)) return "the output is not the reduced input";
    }
    return NULL;
}

/* Inputs and outputs from the given ones on are vectors of c channels. */
static const char *check_vectors(const rg_graph *g, const rg_node *n, int in, int out, int32_t c) {
    for (int32_t i = in; i < n->in_count; i++) {
        if (!is_channels(in_type(g, n, i), c)) return "an input is not a vector of the channels";
    }
    for (int32_t i = out; i < n->out_count; i++) {
        if (!is_channels(out_type(g, n, i), c)) return "an output is not a vector of the channels";
    }
    return NULL;
}

static const char *check_batch_norm(const rg_graph *g, const rg_node *n) {
    rg_type x = in_type(g, n, 0);
    if (x.cls != RG_T_ACT || !rg_type_equal(x, out_type(g, n, 0))) return "y is not as large as x";
    return check_vectors(g, n, 1, 1, x.dim[3]);
}

static const char *check_batch_norm_grad(const rg_graph *g, const rg_node *n) {
    rg_type x = in_type(g, n, 1);
    if (x.cls != RG_T_ACT || !rg_type_equal(x, in_type(g, n, 0))) return "dy is not as large as x";
    if (!rg_type_equal(x, out_type(g, n, 0))) return "dx is not as large as x";
    return check_vectors(g, n, 2, 1, x.dim[3]);
}

static bool is_logits(rg_type type) {
    return type.cls == RG_T_ACT && type.dim[0] == RG_BATCH && type.dim[1] == 1 && type.dim[2] == 1;
}

static const char *check_logits(const rg_graph *g, const rg_node *n) {
    rg_type label = in_type(g, n, 1);
    if (!is_logits(in_type(g, n, 0))) return "logits are not [N 1 1 K]";
    return is_logits(label) && label.dim[3] == 1 ? NULL : "labels are not [N 1 1 1]";
}

static const char *check_loss(const rg_graph *g, const rg_node *n) {
    const char *wrong = check_vectors(g, n, n->in_count, 0, 1);
    return wrong ? wrong : check_logits(g, n);
}

static const char *check_loss_grad(const rg_graph *g, const rg_node *n) {
    if (!rg_type_equal(in_type(g, n, 0), out_type(g, n, 0))) return "dlogits are not as the logits";
    return check_logits(g, n);
}

typedef const char *(*check_fn)(const rg_graph *graph, const rg_node *node);

static const check_fn check_types[RG_OP_COUNT] = {
    [RG_OP_CONV2D_FPROP] = check_fprop,
    [RG_OP_CONV2D_DGRAD] = check_dgrad,
    [RG_OP_CONV2D_WGRAD] = check_wgrad,
    [RG_OP_MAXPOOL] = check_maxpool,
    [RG_OP_MAXPOOL_GRAD] = check_maxpool_grad,
    [RG_OP_AVGPOOL] = check_avgpool,
    [RG_OP_AVGPOOL_GRAD] = check_avgpool_grad,
    [RG_OP_POINTWISE] = check_pointwise,
    [RG_OP_REDUCE] = check_reduce,
    [RG_OP_BATCH_NORM] = check_batch_norm,
    [RG_OP_BATCH_NORM_GRAD] = check_batch_norm_grad,
    [RG_OP_BATCH_NORM_EVAL] = check_batch_norm,
    [RG_OP_LOSS] = check_loss,
    [RG_OP_LOSS_GRAD] = check_loss_grad,
};

const char *rg_node_check_types(const rg_graph *graph, const rg_node *node) {
    return check_types[node->op](graph, node);
}

/* ---- the graph as a whole ---- */

static bool type_is_sound(rg_type type) {
    if (type.cls != RG_T_ACT && type.cls != RG_T_WEIGHT) return false;
    for (int i = 0; i < 4; i++) {
        bool batch = type.cls == RG_T_ACT && i == 0 && type.dim[i] == RG_BATCH;
        if (type.dim[i] < 1 && !batch) return false;
    }
    if (type.cls == RG_T_ACT && type.dim[0] != 1 && type.dim[0] != RG_BATCH) return false;
    return rg_type_elements(type) <= INT32_MAX;
}

static const char *check_value(const rg_graph *graph, rg_vid v) {
    const rg_value *value = &graph->value[v];
    if (!type_is_sound(value->type)) return "has an impossible type";
    if (value->kind != RG_V_NODE) return value->def < 0 ? NULL : "is a leaf with a producer";
    if (value->def < 0 || value->def >= graph->node_count) return "has no producer";
    const rg_node *node = &graph->node[value->def];
    for (int32_t i = 0; i < node->out_count && i < RG_NODE_OUT; i++) {
        if (node->out[i] == v) return NULL;
    }
    return "is not among its producer's outputs";
}

/* Contractions alone have a format, and a graph has one. */
static bool format_fits(const rg_graph *graph, const rg_node *node) {
    bool contraction = node->op == RG_OP_CONV2D_FPROP || node->op == RG_OP_CONV2D_DGRAD ||
                       node->op == RG_OP_CONV2D_WGRAD;
    rg_kformat format = node->attr.format;
    return format == RG_KFORMAT_F32 || (contraction && format == graph->format);
}

static const char *check_node(const rg_graph *graph, rg_nid at) {
    const rg_node *node = &graph->node[at];
    if ((unsigned)node->op >= RG_OP_COUNT) return "no such op";
    op_arity want = arity[node->op];
    if (want.inputs >= 0 && node->in_count != want.inputs) return "wrong number of inputs";
    if (want.outputs >= 0 && node->out_count != want.outputs) return "wrong number of outputs";
    if (node->out_count < 1 || node->out_count > RG_NODE_OUT) return "wrong number of outputs";
    for (int32_t i = 0; i < node->in_count; i++) {
        rg_vid v = node->in[i];
        if (v < 0 || v >= graph->value_count) return "an input does not exist";
        if (graph->value[v].def >= at) return "an input is made later";
    }
    for (int32_t i = 0; i < node->out_count; i++) {
        rg_vid v = node->out[i];
        if (v < 0 || v >= graph->value_count) return "an output does not exist";
        if (graph->value[v].kind != RG_V_NODE || graph->value[v].def != at) {
            return "an output belongs to another node";
        }
    }
    if (!format_fits(graph, node)) return "its products have a format that the graph has not";
    return rg_node_check_types(graph, node);
}

rg_status rg_graph_verify(rg_ctx *ctx, const rg_graph *graph) {
    for (rg_vid v = 0; v < graph->value_count; v++) {
        const char *wrong = check_value(graph, v);
        if (wrong)
            return rg_fail(ctx, RG_E_INTERNAL, "graph %s: value %%%d %s", graph->name, v, wrong);
    }
    for (rg_nid n = 0; n < graph->node_count; n++) {
        const char *wrong = check_node(graph, n);
        if (!wrong) continue;
        const rg_node *node = &graph->node[n];
        bool known = (unsigned)node->op < RG_OP_COUNT;
        return rg_error(ctx, RG_E_INTERNAL, node->loc, "graph %s: node %d (%s '%s'): %s",
                        graph->name, n, known ? rg_op_name(node->op) : "?",
                        node->name ? node->name : "", wrong);
    }
    for (int32_t i = 0; i < graph->result_count; i++) {
        rg_vid v = graph->result[i].value;
        if (v >= 0 && v < graph->value_count) continue;
        return rg_fail(ctx, RG_E_INTERNAL, "graph %s: result %d is no value", graph->name, i);
    }
    return RG_OK;
}
