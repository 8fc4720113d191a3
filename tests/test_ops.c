/* Ops: shape errors in the user's words, and what the references mean. Gradients are in
 * test_op_grad.c. */
#include "op_bench.h"

/* ---- shape rules ---- */

typedef struct shape_case {
    rg_op op;
    rg_attr attr;
    int32_t in_count;
    rg_type in[5];
    const char *text;
} shape_case;

#define ACT(n, h, w, c)                                                                            \
    {                                                                                              \
        RG_T_ACT, {                                                                                \
            n, h, w, c                                                                             \
        }                                                                                          \
    }
#define WEIGHT(k, r, s, c)                                                                         \
    {                                                                                              \
        RG_T_WEIGHT, {                                                                             \
            k, r, s, c                                                                             \
        }                                                                                          \
    }
#define WINDOW(size, step, padding)                                                                \
    { .r = size, .s = size, .stride = step, .pad = padding, .dilation = 1 }
#define N RG_BATCH

static const shape_case shape_cases[] = {
    {RG_OP_CONV2D_FPROP,
     WINDOW(3, 1, 1),
     2,
     {ACT(N, 22, 22, 64), WEIGHT(128, 3, 3, 32)},
     "conv2d 'layer': its weights expect 32 channels, its input [N 22 22 64] has 64"},
    {RG_OP_CONV2D_FPROP,
     WINDOW(7, 2, 1),
     2,
     {ACT(N, 4, 9, 3), WEIGHT(8, 7, 7, 3)},
     "conv2d 'layer': a 7x7 window spans 7, but its input is 4 high (6 with padding 1): no output"},
    {RG_OP_CONV2D_FPROP,
     {.r = 3, .s = 3, .stride = 1, .pad = 0, .dilation = 4},
     2,
     {ACT(N, 9, 8, 3), WEIGHT(8, 3, 3, 3)},
     "conv2d 'layer': a 3x3 window spans 9, but its input is 8 wide (8 with padding 0): no output"},
    {RG_OP_CONV2D_FPROP,
     WINDOW(3, 0, 0),
     2,
     {ACT(N, 9, 8, 3), WEIGHT(8, 3, 3, 3)},
     "conv2d 'layer': stride is 0: at least 1 is needed"},
    {RG_OP_CONV2D_FPROP,
     WINDOW(3, 1, -1),
     2,
     {ACT(N, 9, 8, 3), WEIGHT(8, 3, 3, 3)},
     "conv2d 'layer': padding is -1: at least 0 is needed"},
    {RG_OP_CONV2D_FPROP,
     WINDOW(3, 1, INT32_MAX),
     2,
     {ACT(N, 9, 8, 3), WEIGHT(8, 3, 3, 3)},
     "conv2d 'layer': padding is 2147483647: at most 1048576 is possible"},
    {RG_OP_CONV2D_FPROP,
     {.r = 3, .s = 3, .stride = 1, .pad = 0, .dilation = INT32_MAX},
     2,
     {ACT(N, 9, 8, 3), WEIGHT(8, 3, 3, 3)},
     "conv2d 'layer': dilation is 2147483647: at most"},
    {RG_OP_CONV2D_FPROP,
     WINDOW(1, 1, 0),
     2,
     {ACT(N, 100000, 100000, 3), WEIGHT(8, 1, 1, 3)},
     "conv2d 'layer': its output [N 100000 100000 8] has more than 2^31 elements an image"},
    {RG_OP_CONV2D_FPROP,
     WINDOW(3, 1, 0),
     2,
     {ACT(N, 9, 8, 3), WEIGHT(8, 5, 5, 3)},
     "conv2d 'layer': its weights are [K8 R5 S5 C3], its window 3x3"},
    {RG_OP_CONV2D_FPROP,
     WINDOW(3, 1, 0),
     2,
     {WEIGHT(8, 3, 3, 3), WEIGHT(8, 3, 3, 3)},
     "conv2d 'layer': its input is weights [K8 R3 S3 C3], not an image"},
    {RG_OP_MAXPOOL,
     WINDOW(3, 2, 0),
     1,
     {ACT(N, 2, 2, 8)},
     "maxpool 'layer': a 3x3 window spans 3, but its input is 2 high"},
    {RG_OP_AVGPOOL,
     WINDOW(3, 2, 2),
     1,
     {ACT(N, 9, 9, 8)},
     "avgpool 'layer': padding 2 is more than half of the 3x3 window"},
    {RG_OP_POINTWISE,
     {0},
     2,
     {ACT(N, 11, 11, 128), ACT(N, 22, 22, 64)},
     "pointwise 'layer': expected [N 11 11 128], found [N 22 22 64]"},
    {RG_OP_POINTWISE,
     {0},
     2,
     {WEIGHT(8, 1, 1, 8), WEIGHT(1, 1, 1, 8)},
     "pointwise 'layer': expected [K8 R1 S1 C8], found [K1 R1 S1 C8]"},
    {RG_OP_POINTWISE, {0}, 0, {ACT(N, 1, 1, 1)}, "pointwise 'layer': it has no input"},
    {RG_OP_REDUCE, {0}, 1, {ACT(N, 2, 2, 2)}, "reduce 'layer': it reduces over no axis"},
    {RG_OP_BATCH_NORM,
     {.eps = 1e-5},
     5,
     {ACT(N, 6, 6, 64), ACT(1, 1, 1, 64), ACT(1, 1, 1, 32), ACT(1, 1, 1, 64), ACT(1, 1, 1, 64)},
     "batch_norm 'layer': its input has 64 channels, its parameters are [1 1 1 32]"},
    {RG_OP_LOSS,
     {0},
     2,
     {ACT(N, 3, 3, 10), ACT(N, 1, 1, 1)},
     "loss 'layer': it takes one value a class, [N 1 1 classes], found [N 3 3 10]"},
    {RG_OP_LOSS,
     {0},
     2,
     {ACT(N, 1, 1, 10), ACT(N, 1, 1, 10)},
     "loss 'layer': it takes one label an image, found [N 1 1 10]"},
    {RG_OP_CONV2D_DGRAD,
     WINDOW(3, 1, 1),
     2,
     {ACT(N, 4, 4, 8), WEIGHT(8, 3, 3, 3)},
     "conv2d 'layer': the shape of its gradient is not known"},
    {RG_OP_CONV2D_FPROP, WINDOW(3, 1, 1), 1, {ACT(N, 4, 4, 8)}, "takes 2 inputs, has 1"},
};

static rg_status infer_case(rg_ctx *ctx, const shape_case *c) {
    rg_graph *graph = rg_graph_new(ctx->arena, "spec");
    assert_non_null(graph);
    rg_vid in[5];
    for (int32_t i = 0; i < c->in_count; i++) {
        in[i] = rg_graph_add_leaf(graph, RG_V_INPUT, c->in[i], "x", -1, bench_loc);
        assert_true(in[i] >= 0);
    }
    rg_node node = {.op = c->op,
                    .in = in,
                    .in_count = c->in_count,
                    .attr = c->attr,
                    .name = "layer",
                    .loc = bench_loc};
    rg_type out[RG_NODE_OUT];
    return rg_op_infer(ctx, graph, &node, out);
}

static void test_shape_errors_tell_the_user_what_is_wrong(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof shape_cases / sizeof shape_cases[0]; i++) {
        rg_ctx ctx;
        assert_int_equal(rg_ctx_init(&ctx), RG_OK);
        assert_int_equal(infer_case(&ctx, &shape_cases[i]), RG_E_SHAPE);
        if (!strstr(ctx.last->text, shape_cases[i].text)) {
            fail_msg("case %zu: \"%s\" lacks \"%s\"", i, ctx.last->text, shape_cases[i].text);
        }
        assert_int_equal(ctx.last->loc.line, bench_loc.line);
        rg_ctx_free(&ctx);
    }
}

static void test_gradients_of_convolutions_keep_their_recorded_shape(void **state) {
    (void)state;
    bench b;
    rg_attr attr = window_attr(3, 3, 2, 0, 1);
    const rg_type in[2] = {act_type(N, 6, 7, 3), weight_type(4, 3, 3, 3)};
    bench_begin(&b, 2, 2, RG_OP_CONV2D_FPROP, &attr, in, 2);
    bench_add_gradient(&b, (bool[]){true, true});
    for (int i = 0; i < 2; i++) {
        rg_node *node = &b.graph->node[b.graph->value[b.din[i]].def];
        rg_type out[RG_NODE_OUT];
        assert_int_equal(rg_op_infer(&b.ctx, b.graph, node, out), RG_OK);
        assert_true(rg_type_equal(out[0], in[i]));
    }
    b.graph->value[b.din[0]].type.dim[1] = 9;
    rg_type out[RG_NODE_OUT];
    const rg_node *dgrad = &b.graph->node[b.graph->value[b.din[0]].def];
    assert_int_equal(rg_op_infer(&b.ctx, b.graph, dgrad, out), RG_E_SHAPE);
    bench_end(&b);
}

/* 2*K*R*S*C*P*Q, the same for the three convolutions. */
static void test_flop_counts_all_taps(void **state) {
    (void)state;
    bench b;
    rg_attr attr = window_attr(7, 7, 2, 0, 1);
    const rg_type in[2] = {act_type(N, 96, 96, 3), weight_type(64, 7, 7, 3)};
    bench_begin(&b, 1, 1, RG_OP_CONV2D_FPROP, &attr, in, 2);
    bench_add_gradient(&b, (bool[]){true, true});
    for (rg_nid n = 0; n < 3; n++) {
        assert_true(rg_op_flop(b.graph, &b.graph->node[n]) == 2.0 * 64 * 7 * 7 * 3 * 45 * 45);
    }
    bench_end(&b);
}

/* ---- convolutions ---- */

/* One output by the definition. */
static double conv_at(bench *b, const rg_attr *a, rg_type x, rg_type w, const int32_t at[4]) {
    const double *xs = bench_value(b, b->in[0]), *ws = bench_value(b, b->in[1]);
    double sum = 0;
    for (int32_t i = 0; i < w.dim[1] * w.dim[2] * w.dim[3]; i++) {
        int32_t c = i % w.dim[3], s = i / w.dim[3] % w.dim[2], r = i / w.dim[3] / w.dim[2];
        int32_t h = at[1] * a->stride - a->pad + r * a->dilation;
        int32_t v = at[2] * a->stride - a->pad + s * a->dilation;
        if (h < 0 || v < 0 || h >= x.dim[1] || v >= x.dim[2]) continue;
        double pixel = xs[((at[0] * x.dim[1] + h) * x.dim[2] + v) * x.dim[3] + c];
        sum += pixel * ws[at[3] * w.dim[1] * w.dim[2] * w.dim[3] + i];
    }
    return sum;
}

static void check_conv(rg_attr attr, rg_type x, rg_type w) {
    bench b;
    bench_begin(&b, 2, 2, RG_OP_CONV2D_FPROP, &attr, (rg_type[]){x, w}, 2);
    bench_start(&b);
    bench_run(&b);
    rg_type y = b.graph->value[bench_out(&b, 0)].type;
    int64_t count = rg_interp_count(b.interp, bench_out(&b, 0));
    for (int32_t i = 0; i < count; i++) {
        int32_t k = i % y.dim[3], q = i / y.dim[3] % y.dim[2],
                p = i / y.dim[3] / y.dim[2] % y.dim[1];
        const int32_t at[4] = {i / y.dim[3] / y.dim[2] / y.dim[1], p, q, k};
        bench_near(bench_value(&b, bench_out(&b, 0))[i], conv_at(&b, &attr, x, w, at), 1e-13);
    }
    bench_end(&b);
}

static void test_convolution_is_its_definition(void **state) {
    (void)state;
    check_conv(window_attr(3, 3, 1, 1, 1), act_type(N, 5, 6, 4), weight_type(3, 3, 3, 4));
    check_conv(window_attr(3, 3, 2, 1, 1), act_type(N, 6, 5, 4), weight_type(3, 3, 3, 4));
    check_conv(window_attr(2, 3, 2, 2, 2), act_type(N, 6, 5, 3), weight_type(5, 2, 3, 3));
    check_conv(window_attr(7, 7, 2, 0, 1), act_type(N, 9, 8, 3), weight_type(2, 7, 7, 3));
    check_conv(window_attr(1, 1, 2, 0, 1), act_type(N, 4, 7, 3), weight_type(5, 1, 1, 3));
}

/* ---- windows ---- */

static void begin_pool(bench *b, rg_op op, int32_t size, int32_t stride, int32_t pad, int32_t h,
                       int32_t w) {
    rg_attr attr = window_attr(size, size, stride, pad, 1);
    bench_begin(b, 1, 1, op, &attr, (rg_type[]){act_type(N, h, w, 1)}, 1);
    bench_start(b);
}

static void test_of_equal_maxima_the_first_in_row_order_wins(void **state) {
    (void)state;
    bench b;
    begin_pool(&b, RG_OP_MAXPOOL, 2, 2, 0, 2, 4);
    const double x[8] = {1, 5, 3, 3, 5, 5, 3, 3};
    memcpy(bench_value(&b, b.in[0]), x, sizeof x);
    bench_run(&b);
    const double *y = bench_value(&b, bench_out(&b, 0)), *index = bench_value(&b, bench_out(&b, 1));
    assert_true(y[0] == 5 && y[1] == 3);
    assert_true(index[0] == 1 && index[1] == 0);
    bench_end(&b);
}

static void test_nan_wins_the_maximum_and_padding_never_does(void **state) {
    (void)state;
    bench b;
    begin_pool(&b, RG_OP_MAXPOOL, 3, 2, 1, 3, 3);
    const double x[9] = {-5, -6, -7, -4, -4, -8, -9, NAN, -INFINITY};
    memcpy(bench_value(&b, b.in[0]), x, sizeof x);
    bench_run(&b);
    const double *y = bench_value(&b, bench_out(&b, 0)), *index = bench_value(&b, bench_out(&b, 1));
    assert_true(y[0] == -4 && index[0] == 7); /* the lower left of its four pixels */
    assert_true(isnan(y[2]) && index[2] == 5);
    bench_end(&b);
}

static void test_lowest_value_still_has_an_index(void **state) {
    (void)state;
    bench b;
    begin_pool(&b, RG_OP_MAXPOOL, 2, 2, 0, 2, 2);
    for (int i = 0; i < 4; i++) bench_value(&b, b.in[0])[i] = -INFINITY;
    bench_run(&b);
    assert_true(bench_value(&b, bench_out(&b, 1))[0] == 0);
    bench_end(&b);
}

static void test_average_divides_by_the_whole_window(void **state) {
    (void)state;
    bench b;
    begin_pool(&b, RG_OP_AVGPOOL, 3, 2, 1, 3, 3);
    for (int i = 0; i < 9; i++) bench_value(&b, b.in[0])[i] = 9;
    bench_run(&b);
    for (int i = 0; i < 4; i++) bench_near(bench_value(&b, bench_out(&b, 0))[i], 4.0, 1e-14);
    bench_end(&b);
}

/* ---- trees and reductions ---- */

/* 1000*n + 100*h + 10*w + c, and the control block. */
static void test_leaves_give_coordinates_and_control(void **state) {
    (void)state;
    bench b;
    rg_attr attr = {0};
    rg_arena *arena = rg_arena_new();
    assert_non_null(arena);
    rg_expr *e = &attr.expr;
    rg_expr_init(e, arena);
    int32_t sum = rg_expr_leaf(e, RG_EXPR_CTRL, RG_CTRL_COUNT);
    sum =
        rg_expr_ternary(e, RG_EXPR_FMA, sum, rg_expr_leaf(e, RG_EXPR_CTRL, RG_CTRL_INV_COUNT), sum);
    sum = rg_expr_binary(e, RG_EXPR_ADD, sum, rg_expr_leaf(e, RG_EXPR_CTRL, RG_CTRL_LR));
    static const double scale[4] = {1000, 100, 10, 1};
    for (int32_t axis = 0; axis < 4; axis++) {
        int32_t index = rg_expr_leaf(e, RG_EXPR_INDEX, axis);
        sum = rg_expr_ternary(e, RG_EXPR_FMA, index, rg_expr_const(e, scale[axis]), sum);
    }
    attr.root = sum;
    bench_begin(&b, 4, 3, RG_OP_POINTWISE, &attr, (rg_type[]){act_type(N, 2, 3, 5)}, 1);
    bench_start(&b);
    bench_run(&b);
    const double *y = bench_value(&b, bench_out(&b, 0));
    bench_near(y[0], 3 + 3 * (1.0 / 3) + 0.75, 1e-12); /* LR is the bench's 0.25*3 */
    bench_near(y[119] - y[0], 3124, 1e-9);
    bench_end(&b);
    rg_arena_free(arena);
}

static void begin_reduce(bench *b, rg_reduce_kind kind, uint32_t axes) {
    rg_attr attr = {.reduce = kind, .axes = axes};
    bench_begin(b, 3, 2, RG_OP_REDUCE, &attr, (rg_type[]){act_type(N, 2, 2, 2)}, 1);
    bench_start(b);
    for (int i = 0; i < 16; i++) bench_value(b, b->in[0])[i] = (i * 7) % 16;
    bench_run(b);
}

/* The third image is NaN and does not count where images are summed. */
static void test_reductions_take_the_live_images(void **state) {
    (void)state;
    bench b;
    begin_reduce(&b, RG_REDUCE_SUM, RG_AXIS_N | RG_AXIS_H | RG_AXIS_W);
    assert_true(bench_value(&b, bench_out(&b, 0))[0] == 0 + 14 + 12 + 10 + 8 + 6 + 4 + 2);
    bench_end(&b);
    begin_reduce(&b, RG_REDUCE_MAX, RG_AXIS_N | RG_AXIS_C);
    const double want[4] = {15, 14, 12, 10};
    const double *y = bench_value(&b, bench_out(&b, 0));
    assert_true(y[0] == want[0] && y[1] == want[1] && y[2] == want[2] && y[3] == want[3]);
    bench_end(&b);
    begin_reduce(&b, RG_REDUCE_SUM, RG_AXIS_H | RG_AXIS_W | RG_AXIS_C);
    y = bench_value(&b, bench_out(&b, 0));
    assert_true(y[0] == 52 && y[1] == 68 && isnan(y[2]));
    bench_end(&b);
}

/* Mean 1000, deviation 0.1: the squares are of the deviations, so nothing cancels. */
static void test_moments_do_not_cancel(void **state) {
    (void)state;
    bench b;
    rg_attr attr = {.reduce = RG_REDUCE_MOMENTS, .axes = RG_AXIS_N | RG_AXIS_H | RG_AXIS_W};
    bench_begin(&b, 3, 2, RG_OP_REDUCE, &attr, (rg_type[]){act_type(N, 4, 4, 1)}, 1);
    bench_start(&b);
    for (int i = 0; i < 32; i++) bench_value(&b, b.in[0])[i] = 1000 + (i % 2 ? 0.1 : -0.1);
    bench_run(&b);
    bench_near(bench_value(&b, bench_out(&b, 0))[0], 1000, 1e-12);
    bench_near(bench_value(&b, bench_out(&b, 1))[0], 32 * 0.01, 1e-11);
    bench_end(&b);
}

/* ---- batch norm ---- */

static void begin_norm(bench *b, rg_op op, int32_t live) {
    const rg_type v = act_type(1, 1, 1, 1);
    rg_attr attr = {.eps = 1e-5, .momentum = 0.25};
    const rg_type in[5] = {act_type(N, 1, 2, 1), v, v, v, v};
    bench_begin(b, 3, live, op, &attr, in, 5);
    bench_start(b);
    const double x[4] = {1, 2, 4, 9}, rest[4] = {3, 0.5, 10, 20}; /* gamma beta mean var */
    memcpy(bench_value(b, b->in[0]), x, sizeof x);
    for (int i = 0; i < 4; i++) bench_value(b, b->in[i + 1])[0] = rest[i];
    bench_run(b);
}

static void test_batch_norm_keeps_unbiased_running_variance(void **state) {
    (void)state;
    bench b;
    begin_norm(&b, RG_OP_BATCH_NORM, 2);
    const double invstd = 1 / sqrt(38.0 / 4 + 1e-5);
    bench_near(bench_value(&b, bench_out(&b, 0))[3], (9 - 4) * invstd * 3 + 0.5, 1e-12);
    bench_near(bench_value(&b, bench_out(&b, 1))[0], 0.75 * 10 + 0.25 * 4, 1e-12);
    bench_near(bench_value(&b, bench_out(&b, 2))[0], 0.75 * 20 + 0.25 * 38 / 3, 1e-12);
    bench_near(bench_value(&b, bench_out(&b, 3))[0], 4, 1e-12);
    bench_near(bench_value(&b, bench_out(&b, 4))[0], invstd, 1e-12);
    bench_end(&b);
}

static void test_batch_norm_counts_live_images(void **state) {
    (void)state;
    bench b;
    begin_norm(&b, RG_OP_BATCH_NORM, 1);
    bench_near(bench_value(&b, bench_out(&b, 3))[0], 1.5, 1e-12);
    bench_near(bench_value(&b, bench_out(&b, 2))[0], 0.75 * 20 + 0.25 * 0.5, 1e-12);
    bench_end(&b);
}

static void test_batch_norm_in_evaluation_uses_running_statistics(void **state) {
    (void)state;
    bench b;
    begin_norm(&b, RG_OP_BATCH_NORM_EVAL, 2);
    bench_near(bench_value(&b, bench_out(&b, 0))[0], (1 - 10) / sqrt(20 + 1e-5) * 3 + 0.5, 1e-12);
    bench_end(&b);
}

/* ---- loss ---- */

static void begin_loss(bench *b, double smoothing, int32_t live) {
    rg_attr attr = {.smoothing = smoothing};
    bench_begin(b, 3, live, RG_OP_LOSS, &attr,
                (rg_type[]){act_type(N, 1, 1, 4), act_type(N, 1, 1, 1)}, 2);
    bench_start(b);
    const double z[12] = {1, 2, 0, -1, 3, 3, 1, 1000, 5, 5, 5, 5}, label[3] = {1, 0, 0};
    memcpy(bench_value(b, b->in[0]), z, sizeof z);
    memcpy(bench_value(b, b->in[1]), label, sizeof label);
    bench_run(b);
}

static void test_loss_is_the_mean_cross_entropy_with_smoothing(void **state) {
    (void)state;
    bench b;
    begin_loss(&b, 0.1, 1);
    double all = log(exp(1) + exp(2) + 1 + exp(-1));
    double want = 0.9 * (all - 2) + 0.1 / 4 * (4 * all - 2);
    bench_near(bench_value(&b, bench_out(&b, 0))[0], want, 1e-12);
    bench_end(&b);
    begin_loss(&b, 0, 2);
    want = (all - 2 + (1000 - 3)) / 2; /* no overflow at a logit of 1000 */
    bench_near(bench_value(&b, bench_out(&b, 0))[0], want, 1e-9);
    assert_true(bench_value(&b, bench_out(&b, 1))[0] == 1);
    bench_end(&b);
}

static void test_first_of_equal_logits_is_the_answer(void **state) {
    (void)state;
    bench b;
    begin_loss(&b, 0, 3);
    assert_true(bench_value(&b, bench_out(&b, 1))[0] == 2);
    bench_value(&b, b.in[1])[2] = 3;
    bench_run(&b);
    assert_true(bench_value(&b, bench_out(&b, 1))[0] == 1);
    bench_value(&b, b.in[1])[2] = 4; /* no such class */
    bench_run(&b);
    assert_true(isnan(bench_value(&b, bench_out(&b, 0))[0]));
    bench_end(&b);
}

/* ---- interpreter ---- */

static void test_interpreter_refuses_impossible_batches(void **state) {
    (void)state;
    bench b;
    rg_attr attr = {.reduce = RG_REDUCE_SUM, .axes = RG_AXIS_N};
    bench_begin(&b, 3, 3, RG_OP_REDUCE, &attr, (rg_type[]){act_type(N, 1, 1, 2)}, 1);
    rg_interp *none;
    assert_int_equal(rg_interp_new(&b.ctx, b.graph, 0, &none), RG_E_INTERNAL);
    assert_null(none);
    bench_start(&b);
    rg_ctrl ctrl = {.live = 4};
    assert_int_equal(rg_interp_run(&b.ctx, b.interp, &ctrl), RG_E_INTERNAL);
    ctrl.live = 0;
    assert_int_equal(rg_interp_run(&b.ctx, b.interp, &ctrl), RG_E_INTERNAL);
    bench_end(&b);
}

static void test_interpreter_out_of_memory_is_answered(void **state) {
    (void)state;
    bench b;
    rg_attr attr = window_attr(3, 3, 1, 1, 1);
    const rg_type in[2] = {act_type(N, 40, 40, 16), weight_type(80, 3, 3, 16)};
    bench_begin(&b, 2, 2, RG_OP_CONV2D_FPROP, &attr, in, 2);
    rg_status status = RG_E_NOMEM;
    for (long n = 1; n < 50 && status != RG_OK; n++) {
        rg_interp *interp;
        rg_arena_fail_after(n);
        status = rg_interp_new(&b.ctx, b.graph, 2, &interp);
        if (status == RG_OK) status = rg_interp_run(&b.ctx, interp, &(rg_ctrl){.live = 2});
        rg_arena_fail_after(0);
        assert_true(status == RG_OK || status == RG_E_NOMEM);
        rg_interp_free(interp);
    }
    assert_int_equal(status, RG_OK);
    bench_end(&b);
}

/* ---- optimisers ---- */

typedef struct optim_state {
    double arg[4]; /* parameter, gradient, moments */
    double ctrl[RG_CTRL_SCALARS];
} optim_state;

static double optim_leaf(void *user, rg_expr_op op, int32_t leaf) {
    const optim_state *s = user;
    return op == RG_EXPR_CTRL ? s->ctrl[leaf] : s->arg[leaf];
}

/* Three steps of the trees with gradient p^2 - 0.5, from p = 1. */
static double run_optim(const rg_optim *optim, int32_t want_moments) {
    rg_arena *arena = rg_arena_new();
    assert_non_null(arena);
    rg_expr expr;
    rg_expr_init(&expr, arena);
    int32_t root[3], moments;
    assert_int_equal(rg_optim_expr(optim, &expr, root, &moments), RG_OK);
    assert_int_equal(moments, want_moments);
    optim_state s = {.arg = {1.0, 0, 0, 0}};
    for (int t = 1; t <= 3; t++) {
        double value[64];
        s.arg[1] = s.arg[0] * s.arg[0] - 0.5;
        s.ctrl[RG_CTRL_LR] = optim->lr;
        s.ctrl[RG_CTRL_FIRST] = t == 1;
        s.ctrl[RG_CTRL_BC1] = 1 - pow(optim->beta1, t);
        s.ctrl[RG_CTRL_BC2] = 1 - pow(optim->beta2, t);
        if (t == 1 && moments == 1) s.arg[2] = NAN; /* SGD's buffer starts as the gradient */
        rg_expr_eval(&expr, optim_leaf, &s, value);
        s.arg[0] = value[root[0]];
        for (int i = 0; i < moments; i++) s.arg[2 + i] = value[root[1 + i]];
    }
    rg_arena_free(arena);
    return s.arg[0];
}

static void test_adam_steps_as_pytorch(void **state) {
    (void)state;
    const rg_optim o = {RG_OPTIM_ADAM, 0.1, 0.9, 0.999, 1e-8, 0, 0.01, false};
    double p = 1, m = 0, v = 0;
    for (int t = 1; t <= 3; t++) {
        double g = p * p - 0.5 + o.weight_decay * p;
        m = o.beta1 * m + (1 - o.beta1) * g;
        v = o.beta2 * v + (1 - o.beta2) * g * g;
        double denominator = sqrt(v) / sqrt(1 - pow(o.beta2, t)) + o.eps;
        p -= o.lr / (1 - pow(o.beta1, t)) * m / denominator;
    }
    bench_near(run_optim(&o, 2), p, 1e-14);
}

static double sgd_by_hand(const rg_optim *o) {
    double p = 1, buffer = 0;
    for (int t = 1; t <= 3; t++) {
        double g = p * p - 0.5 + o->weight_decay * p;
        buffer = t == 1 ? g : o->momentum * buffer + g;
        double step = o->nesterov ? g + o->momentum * buffer : buffer;
        if (o->momentum == 0) step = g;
        p -= o->lr * step;
    }
    return p;
}

static void test_sgd_steps_as_pytorch(void **state) {
    (void)state;
    const rg_optim plain = {RG_OPTIM_SGD, 0.1, 0, 0, 0, 0, 0, false};
    const rg_optim decay = {RG_OPTIM_SGD, 0.1, 0, 0, 0, 0, 0.01, false};
    const rg_optim momentum = {RG_OPTIM_SGD, 0.1, 0, 0, 0, 0.9, 0.01, false};
    const rg_optim nesterov = {RG_OPTIM_SGD, 0.1, 0, 0, 0, 0.9, 0.01, true};
    bench_near(run_optim(&plain, 0), sgd_by_hand(&plain), 1e-14);
    bench_near(run_optim(&decay, 0), sgd_by_hand(&decay), 1e-14);
    bench_near(run_optim(&momentum, 1), sgd_by_hand(&momentum), 1e-14);
    bench_near(run_optim(&nesterov, 1), sgd_by_hand(&nesterov), 1e-14);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shape_errors_tell_the_user_what_is_wrong),
        cmocka_unit_test(test_gradients_of_convolutions_keep_their_recorded_shape),
        cmocka_unit_test(test_flop_counts_all_taps),
        cmocka_unit_test(test_convolution_is_its_definition),
        cmocka_unit_test(test_of_equal_maxima_the_first_in_row_order_wins),
        cmocka_unit_test(test_nan_wins_the_maximum_and_padding_never_does),
        cmocka_unit_test(test_lowest_value_still_has_an_index),
        cmocka_unit_test(test_average_divides_by_the_whole_window),
        cmocka_unit_test(test_leaves_give_coordinates_and_control),
        cmocka_unit_test(test_reductions_take_the_live_images),
        cmocka_unit_test(test_moments_do_not_cancel),
        cmocka_unit_test(test_batch_norm_keeps_unbiased_running_variance),
        cmocka_unit_test(test_batch_norm_counts_live_images),
        cmocka_unit_test(test_batch_norm_in_evaluation_uses_running_statistics),
        cmocka_unit_test(test_loss_is_the_mean_cross_entropy_with_smoothing),
        cmocka_unit_test(test_first_of_equal_logits_is_the_answer),
        cmocka_unit_test(test_interpreter_refuses_impossible_batches),
        cmocka_unit_test(test_interpreter_out_of_memory_is_answered),
        cmocka_unit_test(test_adam_steps_as_pytorch),
        cmocka_unit_test(test_sgd_steps_as_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
