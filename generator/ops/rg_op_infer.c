/* Shape rules, with errors for people who write specs. What is only wrong in our own graphs is left
 * to rg_node_check_types. */
#include "rg_op_table.h"

#include <stdio.h>

/* The op as a spec's author knows it. */
static const char *const user_word[RG_OP_COUNT] = {
    [RG_OP_CONV2D_FPROP] = "conv2d",        [RG_OP_CONV2D_DGRAD] = "conv2d",
    [RG_OP_CONV2D_WGRAD] = "conv2d",        [RG_OP_BATCH_NORM_EVAL] = "batch_norm",
    [RG_OP_BATCH_NORM_GRAD] = "batch_norm", [RG_OP_MAXPOOL_GRAD] = "maxpool",
    [RG_OP_AVGPOOL_GRAD] = "avgpool",       [RG_OP_LOSS_GRAD] = "loss",
};

static rg_type in_type(const rg_infer *f, int i) {
    return f->graph->value[f->node->in[i]].type;
}

/* "conv2d 'block1.conv1': ..." */
static rg_status RG_PRINTF(2, 3) wrong(const rg_infer *f, const char *format, ...) {
    char text[320];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *word = user_word[f->node->op] ? user_word[f->node->op] : rg_op_name(f->node->op);
    if (!f->node->name) return rg_error(f->ctx, RG_E_SHAPE, f->node->loc, "%s: %s", word, text);
    return rg_error(f->ctx, RG_E_SHAPE, f->node->loc, "%s '%s': %s", word, f->node->name, text);
}

/* Kernels index with 32 bits within an image. */
static rg_status fits(const rg_infer *f, rg_type type) {
    if (rg_type_elements(type) <= INT32_MAX) return RG_OK;
    return wrong(f, "its output %s has more than 2^31 elements an image", rg_type_print(type).text);
}

static rg_status want_inputs(const rg_infer *f, int32_t count) {
    if (f->node->in_count == count) return RG_OK;
    return wrong(f, "takes %d inputs, has %d", count, f->node->in_count);
}

static rg_status want_image(const rg_infer *f, rg_type x) {
    if (x.cls == RG_T_ACT) return RG_OK;
    return wrong(f, "its input is weights %s, not an image", rg_type_print(x).text);
}

/* One axis of a window: its outputs, or why there are none. `axis` is "high" or "wide". */
static rg_status extent(const rg_infer *f, int32_t in, int32_t taps, const char *axis,
                        int32_t *out) {
    const rg_attr *a = &f->node->attr;
    int64_t count = rg_window_extent(in, taps, a->stride, a->pad, a->dilation);
    *out = (int32_t)count;
    if (count >= 1) return RG_OK;
    int64_t span = (int64_t)a->dilation * (taps - 1) + 1;
    int64_t room = (int64_t)in + 2 * (int64_t)a->pad;
    return wrong(
        f, "a %dx%d window spans %lld, but its input is %d %s (%lld with padding %d): no output",
        a->r, a->s, (long long)span, in, axis, (long long)room, a->pad);
}

static rg_status in_range(const rg_infer *f, const char *what, int64_t value, int32_t least) {
    if (value < least)
        return wrong(f, "%s is %lld: at least %d is needed", what, (long long)value, least);
    if (value <= RG_MAX_EXTENT) return RG_OK;
    return wrong(f, "%s is %lld: at most %d is possible", what, (long long)value, RG_MAX_EXTENT);
}

static rg_status window_in_range(const rg_infer *f, rg_type x) {
    const rg_attr *a = &f->node->attr;
    RG_TRY(in_range(f, "window height", a->r, 1));
    RG_TRY(in_range(f, "window width", a->s, 1));
    RG_TRY(in_range(f, "stride", a->stride, 1));
    RG_TRY(in_range(f, "dilation", a->dilation, 1));
    RG_TRY(in_range(f, "padding", a->pad, 0));
    RG_TRY(in_range(f, "dilated window height", (int64_t)a->r * a->dilation, 1));
    RG_TRY(in_range(f, "dilated window width", (int64_t)a->s * a->dilation, 1));
    RG_TRY(in_range(f, "image height", x.dim[1], 1));
    return in_range(f, "image width", x.dim[2], 1);
}

/* P and Q of a window over x; y's channels are the caller's. */
static rg_status window(const rg_infer *f, rg_type x, rg_type *y) {
    const rg_attr *a = &f->node->attr;
    RG_TRY(want_image(f, x));
    RG_TRY(window_in_range(f, x));
    *y = x;
    RG_TRY(extent(f, x.dim[1], a->r, "high", &y->dim[1]));
    return extent(f, x.dim[2], a->s, "wide", &y->dim[2]);
}

rg_status rg_infer_fprop(rg_infer *f) {
    RG_TRY(want_inputs(f, 2));
    rg_type x = in_type(f, 0), w = in_type(f, 1);
    RG_TRY(window(f, x, &f->out[0]));
    if (w.cls != RG_T_WEIGHT) return wrong(f, "its second input is not weights");
    if (w.dim[1] != f->node->attr.r || w.dim[2] != f->node->attr.s) {
        return wrong(f, "its weights are %s, its window %dx%d", rg_type_print(w).text,
                     f->node->attr.r, f->node->attr.s);
    }
    if (x.dim[3] != w.dim[3]) {
        return wrong(f, "its weights expect %d channels, its input %s has %d", w.dim[3],
                     rg_type_print(x).text, x.dim[3]);
    }
    f->out[0].dim[3] = w.dim[0];
    return fits(f, f->out[0]);
}

rg_status rg_infer_wgrad(rg_infer *f) {
    RG_TRY(want_inputs(f, 2));
    rg_type x = in_type(f, 0), dy = in_type(f, 1), y;
    RG_TRY(window(f, x, &y));
    y.dim[3] = dy.dim[3];
    if (!rg_type_equal(y, dy)) {
        return wrong(f, "expected dy %s, found %s", rg_type_print(y).text, rg_type_print(dy).text);
    }
    f->out[0] = (rg_type){RG_T_WEIGHT, {dy.dim[3], f->node->attr.r, f->node->attr.s, x.dim[3]}};
    return fits(f, f->out[0]);
}

/* So that every window holds a pixel; PyTorch's rule. */
static rg_status pool(rg_infer *f) {
    const rg_attr *a = &f->node->attr;
    RG_TRY(want_inputs(f, 1));
    RG_TRY(window(f, in_type(f, 0), &f->out[0]));
    if (2 * (int64_t)a->pad > a->r || 2 * (int64_t)a->pad > a->s) {
        return wrong(f, "padding %d is more than half of the %dx%d window", a->pad, a->r, a->s);
    }
    return fits(f, f->out[0]);
}

rg_status rg_infer_maxpool(rg_infer *f) {
    RG_TRY(pool(f));
    f->out[1] = f->out[0];
    return RG_OK;
}

rg_status rg_infer_avgpool(rg_infer *f) {
    return pool(f);
}

/* The type that the graph already holds for the node's output 0. */
static bool recorded(const rg_infer *f, rg_type *type) {
    rg_vid v = f->node->out[0];
    if (v < 0 || v >= f->graph->value_count || f->node->out_count < 1) return false;
    const rg_value *value = &f->graph->value[v];
    if (value->kind != RG_V_NODE || f->graph->node[value->def].op != f->node->op) return false;
    *type = value->type;
    return true;
}

rg_status rg_infer_recorded(rg_infer *f) {
    bool known = recorded(f, &f->out[0]);
    if (!known) return wrong(f, "the shape of its gradient is not known");
    const char *text = rg_node_check_types(f->graph, f->node);
    return text ? wrong(f, "%s", text) : RG_OK;
}

/* What two shapes broadcast to together. */
static bool join(rg_type *to, rg_type with) {
    if (to->cls != with.cls) return false;
    for (int i = 0; i < 4; i++) {
        if (to->dim[i] == with.dim[i]) continue;
        if (to->cls != RG_T_ACT || (to->dim[i] != 1 && with.dim[i] != 1)) return false;
        if (to->dim[i] == 1) to->dim[i] = with.dim[i];
    }
    return true;
}

rg_status rg_infer_pointwise(rg_infer *f) {
    rg_type type, given;
    bool known = recorded(f, &given);
    if (f->node->in_count < 1) {
        if (!known) return wrong(f, "it has no input to take its shape from");
        f->out[0] = given;
        return RG_OK;
    }
    type = in_type(f, 0);
    for (int32_t i = 1; i < f->node->in_count; i++) {
        rg_type found = in_type(f, i), expected = type;
        if (join(&type, found)) continue;
        return wrong(f, "expected %s, found %s", rg_type_print(expected).text,
                     rg_type_print(found).text);
    }
    if (known && !rg_type_broadcasts(type, given)) {
        return wrong(f, "expected %s, found %s", rg_type_print(given).text,
                     rg_type_print(type).text);
    }
    f->out[0] = known ? given : type;
    return fits(f, f->out[0]);
}

rg_status rg_infer_reduce(rg_infer *f) {
    RG_TRY(want_inputs(f, 1));
    RG_TRY(want_image(f, in_type(f, 0)));
    if (f->node->attr.axes == 0) return wrong(f, "it reduces over no axis");
    f->out[0] = rg_type_reduced(in_type(f, 0), f->node->attr.axes);
    if (f->node->attr.reduce == RG_REDUCE_MOMENTS) f->out[1] = f->out[0];
    return RG_OK;
}

/* Inputs from `first` on are vectors of x's channels. */
static rg_status want_channels(rg_infer *f, int32_t first, int32_t c) {
    for (int32_t i = first; i < f->node->in_count; i++) {
        rg_type type = in_type(f, i);
        if (rg_type_is_channel(type) && type.dim[3] == c) continue;
        return wrong(f, "its input has %d channels, its parameters are %s", c,
                     rg_type_print(type).text);
    }
    return RG_OK;
}

rg_status rg_infer_batch_norm(rg_infer *f) {
    RG_TRY(want_inputs(f, 5));
    rg_type x = in_type(f, 0);
    RG_TRY(want_image(f, x));
    RG_TRY(want_channels(f, 1, x.dim[3]));
    f->out[0] = x;
    if (f->node->op == RG_OP_BATCH_NORM_EVAL) return RG_OK;
    for (int i = 1; i < 5; i++) f->out[i] = (rg_type){RG_T_ACT, {1, 1, 1, x.dim[3]}};
    return RG_OK;
}

rg_status rg_infer_batch_norm_grad(rg_infer *f) {
    RG_TRY(want_inputs(f, 5));
    rg_type dy = in_type(f, 0), x = in_type(f, 1);
    if (!rg_type_equal(dy, x)) {
        return wrong(f, "expected %s, found %s", rg_type_print(x).text, rg_type_print(dy).text);
    }
    RG_TRY(want_channels(f, 2, x.dim[3]));
    f->out[0] = x;
    f->out[1] = f->out[2] = (rg_type){RG_T_ACT, {1, 1, 1, x.dim[3]}};
    return RG_OK;
}

static rg_status want_logits(rg_infer *f) {
    RG_TRY(want_inputs(f, 2));
    rg_type logits = in_type(f, 0), label = in_type(f, 1);
    const rg_type want = {RG_T_ACT, {RG_BATCH, 1, 1, logits.dim[3]}};
    if (!rg_type_equal(logits, want)) {
        return wrong(f, "it takes one value a class, [N 1 1 classes], found %s",
                     rg_type_print(logits).text);
    }
    if (!rg_type_equal(label, (rg_type){RG_T_ACT, {RG_BATCH, 1, 1, 1}})) {
        return wrong(f, "it takes one label an image, found %s", rg_type_print(label).text);
    }
    return RG_OK;
}

rg_status rg_infer_loss(rg_infer *f) {
    RG_TRY(want_logits(f));
    f->out[0] = f->out[1] = (rg_type){RG_T_ACT, {1, 1, 1, 1}};
    return RG_OK;
}

rg_status rg_infer_loss_grad(rg_infer *f) {
    RG_TRY(want_logits(f));
    f->out[0] = in_type(f, 0);
    return RG_OK;
}
