#include <math.h>
#include <string.h>

#include "rg_spec_build.h"

static const int32_t zero = 0, one = 1;
/* Extents of filters and windows. */
enum { KERNEL_MOST = 1024 };

/* ---- parameters ---- */

static void check_unique(rg_spec_call *call, const char *name) {
    const rg_graph *graph = call->b->graph;
    for (int32_t i = 0; i < graph->param_count; i++) {
        if (call->options.bad || strcmp(graph->param[i].name, name) != 0) continue;
        rg_spec_call_error(
            call, RG_E_SPEC,
            "parameter '%s' exists already (line %d): every layer needs its own name", name,
            graph->param[i].loc.line);
    }
}

/* A row of the parameter table and its leaf; `suffix` as in PyTorch. */
static rg_vid add_param(rg_spec_call *call, const char *suffix, rg_param param) {
    rg_builder *b = call->b;
    param.name = rg_spec_join(b, call->name, suffix);
    param.loc = call->options.place.loc;
    check_unique(call, param.name);
    int32_t row = rg_graph_add_param(b->graph, &param);
    rg_value_kind kind = param.trained ? RG_V_PARAM : RG_V_STATE;
    rg_vid leaf =
        row < 0 ? -1 : rg_graph_add_leaf(b->graph, kind, param.type, param.name, row, param.loc);
    if (leaf < 0) rg_builder_stop(b, rg_nomem(b->ctx));
    return leaf;
}

static rg_vid add_vector(rg_spec_call *call, const char *suffix, int32_t channels, bool trained,
                         rg_init init, double value) {
    return add_param(call, suffix,
                     (rg_param){.trained = trained,
                                .type = {RG_T_ACT, {1, 1, 1, channels}},
                                .rank = 1,
                                .shape = {channels},
                                .init = init,
                                .value = value});
}

/* PyTorch's default: Kaiming uniform with a = sqrt 5, which is a bound of 1/sqrt(fan_in) for
 * weights and biases alike. */
static double uniform_bound(rg_type weight) {
    return 1.0 / sqrt((double)weight.dim[1] * weight.dim[2] * weight.dim[3]);
}

static bool weights_within_limits(rg_spec_call *call, rg_type weight) {
    if (rg_type_elements(weight) <= RG_SPEC_ELEMENTS) return true;
    rg_spec_call_error(call, RG_E_LIMIT, "expected at most 2^31 weights, found %s",
                       rg_spec_shape(call->b, weight));
    return false;
}

/* y + bias, a channel vector. */
static rg_vid add_bias(rg_spec_call *call, rg_vid y, rg_type weight) {
    rg_expr expr;
    rg_vid in[2] = {
        y, add_vector(call, "bias", weight.dim[0], true, RG_INIT_UNIFORM, uniform_bound(weight))};
    rg_expr_init(&expr, call->b->ctx->arena);
    int32_t left = rg_expr_leaf(&expr, RG_EXPR_ARG, 0), right = rg_expr_leaf(&expr, RG_EXPR_ARG, 1);
    return rg_spec_add_pointwise(call, in, 2, &expr,
                                 rg_expr_binary(&expr, RG_EXPR_ADD, left, right));
}

/* The convolution itself, for conv and linear; `rank` is that of the weight's logical shape. */
static rg_vid add_conv(rg_spec_call *call, const rg_attr *attr, int32_t out, int rank, bool bias) {
    rg_type x = rg_spec_type(call, 0);
    rg_type weight = {RG_T_WEIGHT, {out, attr->r, attr->s, x.dim[3]}};
    if (!weights_within_limits(call, weight)) return -1;
    rg_param row = {.trained = true,
                    .type = weight,
                    .rank = rank,
                    .init = RG_INIT_UNIFORM,
                    .value = uniform_bound(weight)};
    int64_t taps = (int64_t)attr->r * attr->s;
    int64_t shape[4] = {out, rank == 2 ? x.dim[3] * taps : x.dim[3], rank == 2 ? 0 : attr->r,
                        rank == 2 ? 0 : attr->s};
    memcpy(row.shape, shape, sizeof shape);
    rg_vid in[2] = {call->in[0].id, add_param(call, "weight", row)}, y;
    if (rg_spec_call_is_dead(call)) return -1;
    if (!rg_spec_add_node(call, RG_OP_CONV2D_FPROP, in, 2, attr, &y)) return -1;
    return bias ? add_bias(call, y, weight) : y;
}

/* ---- shapes ---- */

static bool is_image(rg_spec_call *call) {
    rg_type x = rg_spec_type(call, 0);
    if (!call->in[0].flat || (x.dim[1] == 1 && x.dim[2] == 1)) return true;
    rg_spec_call_error(
        call, RG_E_SHAPE,
        "expected an image, found one that was flattened (%s): put it before flatten",
        rg_spec_shape(call->b, x));
    return false;
}

/* Does the window fit the padded image? */
static bool window_fits(rg_spec_call *call, const rg_attr *a) {
    rg_type x = rg_spec_type(call, 0);
    int64_t height = x.dim[1] + 2 * (int64_t)a->pad, width = x.dim[2] + 2 * (int64_t)a->pad;
    int64_t rows = (int64_t)a->dilation * (a->r - 1) + 1,
            columns = (int64_t)a->dilation * (a->s - 1) + 1;
    if (rows <= height && columns <= width) return true;
    rg_spec_call_error(call, RG_E_SHAPE,
                       "the output is empty: expected an image of at least %lldx%lld with its "
                       "padding, found %lldx%lld",
                       (long long)rows, (long long)columns, (long long)height, (long long)width);
    return false;
}

static void add_row(rg_spec_call *call, const rg_attr *a, rg_vid value) {
    rg_builder *b = call->b;
    char *kind =
        rg_arena_printf(b->ctx->arena, "%s %dx%d/%d", call->op->title, a->r, a->s, a->stride);
    if (value >= 0) rg_spec_add_layer(b, call->name, rg_builder_need(b, kind), value);
}

/* ---- layers ---- */

static rg_spec_value build_conv(rg_spec_call *call) {
    rg_options *o = &call->options;
    int32_t kernel[2], out = rg_options_int(o, "out", NULL, 1, RG_SPEC_DIM);
    rg_options_pair(o, "kernel", NULL, KERNEL_MOST, kernel);
    rg_attr attr = {.r = kernel[0], .s = kernel[1]};
    attr.stride = rg_options_int(o, "stride", &one, 1, RG_SPEC_DIM);
    attr.pad = rg_options_int(o, "pad", &zero, 0, RG_SPEC_DIM);
    attr.dilation = rg_options_int(o, "dilation", &one, 1, RG_SPEC_DIM);
    bool bias = rg_options_bool(o, "bias", true);
    if (rg_spec_call_is_dead(call) || !is_image(call) || !window_fits(call, &attr))
        return rg_spec_poison;
    rg_vid y = add_conv(call, &attr, out, 4, bias);
    add_row(call, &attr, y);
    return (rg_spec_value){y, false};
}

static rg_spec_value build_linear(rg_spec_call *call) {
    int32_t out = rg_options_int(&call->options, "out", NULL, 1, RG_SPEC_DIM);
    bool bias = rg_options_bool(&call->options, "bias", true);
    if (rg_spec_call_is_dead(call)) return rg_spec_poison;
    rg_type x = rg_spec_type(call, 0);
    if (!call->in[0].flat && (x.dim[1] > 1 || x.dim[2] > 1)) {
        rg_spec_call_error(call, RG_E_SHAPE,
                           "expected a vector, found an image %s: flatten it first",
                           rg_spec_shape(call->b, x));
        return rg_spec_poison;
    }
    /* The filter is the image: its order K R S C holds PyTorch's K, C*H*W. */
    const rg_attr attr = {.r = x.dim[1], .s = x.dim[2], .stride = 1, .dilation = 1};
    rg_vid y = add_conv(call, &attr, out, 2, bias);
    if (y >= 0) rg_spec_add_layer(call->b, call->name, "linear", y);
    return (rg_spec_value){y, true};
}

static rg_spec_value build_batch_norm(rg_spec_call *call) {
    static const double eps = 1e-5, momentum = 0.1;
    rg_builder *b = call->b;
    rg_attr attr = {.eps = rg_options_real(&call->options, "eps", &eps, 1e-30, 1),
                    .momentum = rg_options_real(&call->options, "momentum", &momentum, 0, 1)};
    if (rg_spec_call_is_dead(call) || !is_image(call)) return rg_spec_poison;
    int32_t c = rg_spec_type(call, 0).dim[3];
    rg_vid out[RG_NODE_OUT], in[5] = {
                                 call->in[0].id,
                                 add_vector(call, "weight", c, true, RG_INIT_CONST, 1),
                                 add_vector(call, "bias", c, true, RG_INIT_CONST, 0),
                                 add_vector(call, "running_mean", c, false, RG_INIT_CONST, 0),
                                 add_vector(call, "running_var", c, false, RG_INIT_CONST, 1),
                             };
    if (rg_spec_call_is_dead(call)) return rg_spec_poison;
    if (!rg_spec_add_node(call, RG_OP_BATCH_NORM, in, 5, &attr, out)) return rg_spec_poison;
    for (int i = 1; i <= 2; i++) {
        int32_t row = b->graph->value[in[i + 2]].param;
        if (rg_graph_add_result(b->graph, RG_O_STATE, out[i], row) != RG_OK)
            rg_builder_stop(b, rg_nomem(b->ctx));
    }
    rg_spec_add_layer(b, call->name, "batch_norm", out[0]);
    return (rg_spec_value){out[0], call->in[0].flat};
}

static rg_spec_value add_pool(rg_spec_call *call, const rg_attr *attr) {
    rg_vid out[RG_NODE_OUT];
    if (!is_image(call) || !window_fits(call, attr)) return rg_spec_poison;
    if (!rg_spec_add_node(call, (rg_op)call->op->detail, &call->in[0].id, 1, attr, out))
        return rg_spec_poison;
    add_row(call, attr, out[0]);
    return (rg_spec_value){out[0], false};
}

static rg_spec_value build_pool(rg_spec_call *call) {
    rg_options *o = &call->options;
    int32_t kernel[2];
    rg_options_pair(o, "kernel", NULL, KERNEL_MOST, kernel);
    bool square = kernel[0] == kernel[1];
    rg_attr attr = {.r = kernel[0], .s = kernel[1], .dilation = 1};
    attr.stride = rg_options_int(o, "stride", square ? &kernel[0] : NULL, 1, RG_SPEC_DIM);
    attr.pad = rg_options_int(o, "pad", &zero, 0, RG_SPEC_DIM);
    int32_t most = (kernel[0] < kernel[1] ? kernel[0] : kernel[1]) / 2;
    if (!o->bad && attr.pad > most)
        rg_spec_call_error(call, RG_E_SPEC,
                           "option 'pad': expected at most half of the kernel (%d), found %d", most,
                           attr.pad);
    return rg_spec_call_is_dead(call) ? rg_spec_poison : add_pool(call, &attr);
}

static rg_spec_value build_global_avgpool(rg_spec_call *call) {
    if (rg_spec_call_is_dead(call)) return rg_spec_poison;
    rg_type x = rg_spec_type(call, 0);
    const rg_attr attr = {.r = x.dim[1], .s = x.dim[2], .stride = 1, .dilation = 1};
    return add_pool(call, &attr);
}

/* No operation: linear reads an image in the order C, H, W. */
static rg_spec_value build_flatten(rg_spec_call *call) {
    if (rg_spec_call_is_dead(call)) return rg_spec_poison;
    return (rg_spec_value){call->in[0].id, true};
}

const rg_spec_op rg_spec_layers[] = {
    {"conv",
     "conv2d",
     1,
     true,
     false,
     build_conv,
     0,
     {"out", "kernel", "stride", "pad", "dilation", "bias"}},
    {"bn", "batch_norm", 1, true, false, build_batch_norm, 0, {"eps", "momentum"}},
    {"linear", "linear", 1, true, false, build_linear, 0, {"out", "bias"}},
    {"maxpool", "maxpool", 1, false, false, build_pool, RG_OP_MAXPOOL, {"kernel", "stride", "pad"}},
    {"avgpool", "avgpool", 1, false, false, build_pool, RG_OP_AVGPOOL, {"kernel", "stride", "pad"}},
    {"global_avgpool", "avgpool", 1, false, false, build_global_avgpool, RG_OP_AVGPOOL, {0}},
    {"flatten", "flatten", 1, false, false, build_flatten, 0, {0}},
};
const size_t rg_spec_layer_rows = sizeof rg_spec_layers / sizeof *rg_spec_layers;
