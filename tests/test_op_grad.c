/* The gradient rule of every op against central differences in double, through the interpreter. */
#include "op_bench.h"

static void check_conv(int32_t r, int32_t s, int32_t stride, int32_t pad, int32_t dilation,
                       int32_t h, int32_t w) {
    rg_attr attr = window_attr(r, s, stride, pad, dilation);
    const rg_type in[2] = {act_type(RG_BATCH, h, w, 3), weight_type(2, r, s, 3)};
    bench_check(RG_OP_CONV2D_FPROP, &attr, in, 2, 3, 2, NULL);
}

static void test_convolution_gradients(void **state) {
    (void)state;
    check_conv(3, 3, 1, 1, 1, 5, 6);
    check_conv(3, 3, 2, 1, 1, 5, 6);
    check_conv(3, 3, 2, 0, 1, 6, 6); /* the last row is read by no window */
    check_conv(3, 3, 1, 2, 2, 5, 5);
    check_conv(1, 1, 1, 0, 1, 4, 3);
    check_conv(1, 1, 2, 0, 1, 5, 4);
    check_conv(7, 7, 2, 3, 1, 6, 7);
    check_conv(2, 2, 2, 0, 1, 4, 6);
    check_conv(2, 3, 1, 1, 1, 3, 4); /* not square */
    check_conv(4, 4, 1, 0, 1, 4, 4); /* linear: the filter is the image */
    check_conv(3, 3, 3, 4, 1, 2, 2); /* windows that lie in the padding alone */
}

static void check_pool(rg_op op, int32_t size, int32_t stride, int32_t pad, int32_t h, int32_t w) {
    rg_attr attr = window_attr(size, size, stride, pad, 1);
    const rg_type in[1] = {act_type(RG_BATCH, h, w, 2)};
    bench_check(op, &attr, in, 1, 3, 2, NULL);
}

static void test_pooling_gradients(void **state) {
    (void)state;
    static const rg_op op[2] = {RG_OP_MAXPOOL, RG_OP_AVGPOOL};
    for (int i = 0; i < 2; i++) {
        check_pool(op[i], 3, 2, 0, 7, 6);
        check_pool(op[i], 3, 2, 1, 7, 6);
        check_pool(op[i], 2, 2, 0, 4, 6);
        check_pool(op[i], 2, 1, 1, 3, 3);
        check_pool(op[i], 3, 3, 0, 3, 3);
    }
}

/* ---- pointwise ---- */

static int32_t un(rg_expr *e, rg_expr_op op, int32_t a) {
    return rg_expr_unary(e, op, a);
}

static int32_t bin(rg_expr *e, rg_expr_op op, int32_t a, int32_t b) {
    return rg_expr_binary(e, op, a, b);
}

/* max(a*b + sigmoid(b), a - 0.3) / (2 + tanh(b)) */
static rg_attr mixed_tree(rg_arena *arena) {
    rg_attr attr = {0};
    rg_expr *e = &attr.expr;
    rg_expr_init(e, arena);
    int32_t a = rg_expr_leaf(e, RG_EXPR_ARG, 0), b = rg_expr_leaf(e, RG_EXPR_ARG, 1);
    int32_t fused = rg_expr_ternary(e, RG_EXPR_FMA, a, b, un(e, RG_EXPR_SIGMOID, b));
    int32_t top = bin(e, RG_EXPR_MAX, fused, bin(e, RG_EXPR_SUB, a, rg_expr_const(e, 0.3)));
    int32_t below = bin(e, RG_EXPR_ADD, rg_expr_const(e, 2.0), un(e, RG_EXPR_TANH, b));
    attr.root = bin(e, RG_EXPR_DIV, top, below);
    return attr;
}

/* Each of the sixteen ways in which an input can be repeated, on either side. */
static void test_pointwise_gradient_sums_over_repeated_axes(void **state) {
    (void)state;
    rg_arena *arena = rg_arena_new();
    assert_non_null(arena);
    rg_attr attr = mixed_tree(arena);
    for (uint32_t axes = 0; axes < 16; axes++) {
        const rg_type full = act_type(RG_BATCH, 2, 3, 4), small = rg_type_reduced(full, axes);
        bench_check(RG_OP_POINTWISE, &attr, (rg_type[]){full, small}, 2, 3, 2, NULL);
        bench_check(RG_OP_POINTWISE, &attr, (rg_type[]){small, full}, 2, 3, 3, NULL);
    }
    const rg_type rows = act_type(RG_BATCH, 2, 1, 4), columns = act_type(1, 1, 3, 4);
    bench_check(RG_OP_POINTWISE, &attr, (rg_type[]){rows, columns}, 2, 3, 2, NULL);
    rg_arena_free(arena);
}

static void test_pointwise_gradient_of_weights(void **state) {
    (void)state;
    rg_arena *arena = rg_arena_new();
    assert_non_null(arena);
    rg_attr attr = mixed_tree(arena);
    const rg_type w = weight_type(2, 3, 1, 2);
    bench_check(RG_OP_POINTWISE, &attr, (rg_type[]){w, w}, 2, 1, 1, NULL);
    rg_arena_free(arena);
}

/* relu(x + y): both gradients are one select, dz needs no multiplication, and x - y's second input
 * is negated. */
static void test_pointwise_gradient_reads_only_what_it_needs(void **state) {
    (void)state;
    bench b;
    rg_attr attr = {0};
    rg_arena *arena = rg_arena_new();
    assert_non_null(arena);
    rg_expr_init(&attr.expr, arena);
    int32_t x = rg_expr_leaf(&attr.expr, RG_EXPR_ARG, 0),
            y = rg_expr_leaf(&attr.expr, RG_EXPR_ARG, 1);
    int32_t scaled = bin(&attr.expr, RG_EXPR_MUL, y, rg_expr_leaf(&attr.expr, RG_EXPR_ARG, 2));
    attr.root = bin(&attr.expr, RG_EXPR_ADD, x, scaled);
    const rg_type full = act_type(RG_BATCH, 2, 2, 3);
    bench_begin(&b, 2, 2, RG_OP_POINTWISE, &attr, (rg_type[]){full, full, full}, 3);
    bench_add_gradient(&b, (bool[]){true, true, false});
    assert_int_equal(b.din[0], b.probe); /* no node at all */
    assert_int_equal(b.din[2], -1);
    const rg_node *node = &b.graph->node[b.graph->value[b.din[1]].def];
    assert_int_equal(node->in_count, 2);
    assert_int_equal(node->in[0], b.in[2]);
    assert_int_equal(node->in[1], b.probe);
    bench_end(&b);
    rg_arena_free(arena);
}

/* A comparison has slope 0 everywhere: no gradient, rather than a tensor of zeros. */
static void test_comparison_has_no_gradient(void **state) {
    (void)state;
    bench b;
    rg_attr attr = {0};
    rg_arena *arena = rg_arena_new();
    assert_non_null(arena);
    rg_expr_init(&attr.expr, arena);
    int32_t x = rg_expr_leaf(&attr.expr, RG_EXPR_ARG, 0);
    attr.root = bin(&attr.expr, RG_EXPR_GT, x, rg_expr_const(&attr.expr, 0.5));
    bench_begin(&b, 2, 2, RG_OP_POINTWISE, &attr, (rg_type[]){act_type(RG_BATCH, 2, 2, 3)}, 1);
    bench_add_gradient(&b, (bool[]){true});
    assert_int_equal(b.din[0], -1);
    bench_end(&b);
    rg_arena_free(arena);
}

static void test_sum_gradient_is_the_broadcast(void **state) {
    (void)state;
    for (uint32_t axes = 1; axes < 16; axes++) {
        rg_attr attr = {.reduce = RG_REDUCE_SUM, .axes = axes};
        const rg_type in[1] = {act_type(RG_BATCH, 2, 3, 4)};
        bench_check(RG_OP_REDUCE, &attr, in, 1, 3, 2, NULL);
    }
}

/* ---- batch norm and loss: closed forms ---- */

static void test_batch_norm_gradient(void **state) {
    (void)state;
    const rg_type v = act_type(1, 1, 1, 3);
    const bool wanted[5] = {true, true, true, false, false};
    rg_attr attr = {.eps = 1e-2, .momentum = 0.1};
    for (int32_t live = 1; live <= 4; live++) {
        const rg_type in[5] = {act_type(RG_BATCH, 2, 3, 3), v, v, v, v};
        bench_check(RG_OP_BATCH_NORM, &attr, in, 5, 4, live, wanted);
    }
    const rg_type flat[5] = {act_type(RG_BATCH, 1, 1, 3), v, v, v, v};
    bench_check(RG_OP_BATCH_NORM, &attr, flat, 5, 4, 3, wanted);
}

static void test_loss_gradient(void **state) {
    (void)state;
    static const double smoothing[3] = {0.0, 0.1, 0.5};
    for (int i = 0; i < 3; i++) {
        bench b;
        rg_attr attr = {.smoothing = smoothing[i]};
        const rg_type in[2] = {act_type(RG_BATCH, 1, 1, 5), act_type(RG_BATCH, 1, 1, 1)};
        bench_begin(&b, 4, 3, RG_OP_LOSS, &attr, in, 2);
        bench_add_gradient(&b, (bool[]){true, false});
        bench_start(&b);
        for (int n = 0; n < 4; n++)
            bench_value(&b, b.in[1])[n] = n < 3 ? (double)(3 * n % 5) : (double)NAN;
        bench_check_input(&b, 0, 1e-7);
        bench_run(&b);
        for (int k = 15; k < 20; k++) assert_true(bench_value(&b, b.din[0])[k] == 0.0);
        bench_end(&b);
    }
}

static void test_ops_without_a_rule_say_so(void **state) {
    (void)state;
    bench b;
    rg_attr attr = {.reduce = RG_REDUCE_MAX, .axes = RG_AXIS_H};
    const rg_type in[1] = {act_type(RG_BATCH, 2, 3, 4)};
    bench_begin(&b, 2, 2, RG_OP_REDUCE, &attr, in, 1);
    rg_vid din[1];
    const bool wanted[1] = {true};
    rg_status status = rg_op_grad(&b.ctx, b.graph, b.node, bench_out(&b, 0), wanted, din);
    assert_int_equal(status, RG_E_UNSUPPORTED);
    assert_non_null(strstr(b.ctx.last->text, "only sums have a gradient"));
    bench_end(&b);
}

static void test_gradient_out_of_memory_is_answered(void **state) {
    (void)state;
    rg_arena *arena = rg_arena_new();
    assert_non_null(arena);
    rg_attr attr = mixed_tree(arena);
    const rg_type in[2] = {act_type(RG_BATCH, 2, 3, 4), act_type(1, 1, 1, 4)};
    rg_status status = RG_E_NOMEM;
    for (long n = 1; n < 200 && status != RG_OK; n++) {
        bench b;
        bench_begin(&b, 2, 2, RG_OP_POINTWISE, &attr, in, 2);
        rg_arena_fail_after(n);
        const bool wanted[2] = {true, true};
        status = rg_op_grad(&b.ctx, b.graph, b.node, bench_out(&b, 0), wanted, b.din);
        rg_arena_fail_after(0);
        assert_true(status == RG_OK || status == RG_E_NOMEM);
        bench_end(&b);
    }
    assert_int_equal(status, RG_OK);
    rg_arena_free(arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convolution_gradients),
        cmocka_unit_test(test_pooling_gradients),
        cmocka_unit_test(test_pointwise_gradient_sums_over_repeated_axes),
        cmocka_unit_test(test_pointwise_gradient_of_weights),
        cmocka_unit_test(test_pointwise_gradient_reads_only_what_it_needs),
        cmocka_unit_test(test_comparison_has_no_gradient),
        cmocka_unit_test(test_sum_gradient_is_the_broadcast),
        cmocka_unit_test(test_batch_norm_gradient),
        cmocka_unit_test(test_loss_gradient),
        cmocka_unit_test(test_ops_without_a_rule_say_so),
        cmocka_unit_test(test_gradient_out_of_memory_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
