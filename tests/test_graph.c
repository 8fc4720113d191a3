/* Graphs: building them, and that the check catches each way of breaking one. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "rg_graph.h"
#include "rg_kdesc.h"

static rg_ctx ctx;

static int setup(void **state) {
    (void)state;
    return rg_ctx_init(&ctx) == RG_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    rg_arena_fail_after(0);
    rg_ctx_free(&ctx);
    return 0;
}

static const rg_loc nowhere = {NULL, 0};

static rg_type act(int32_t n, int32_t h, int32_t w, int32_t c) {
    return (rg_type){RG_T_ACT, {n, h, w, c}};
}

/* A graph with a node of most kinds: conv, batch norm, relu, sum over the image. */
typedef struct sample {
    rg_graph *graph;
    rg_vid image, weight, conv, vector[4], norm, relu, sum;
} sample;

static rg_vid add_relu(rg_graph *graph, rg_vid in) {
    rg_expr expr;
    rg_expr_init(&expr, graph->arena);
    int32_t x = rg_expr_leaf(&expr, RG_EXPR_ARG, 0);
    int32_t root = rg_expr_binary(&expr, RG_EXPR_MAX, x, rg_expr_const(&expr, 0));
    return rg_graph_pointwise(graph, &in, 1, &expr, root, act(RG_BATCH, 4, 4, 8), "relu", nowhere);
}

static rg_vid add_norm(sample *s) {
    static const char *const name[4] = {"bn.weight", "bn.bias", "bn.mean", "bn.var"};
    const rg_type v = act(1, 1, 1, 8);
    for (int i = 0; i < 4; i++) {
        rg_value_kind kind = i < 2 ? RG_V_PARAM : RG_V_STATE;
        s->vector[i] = rg_graph_add_leaf(s->graph, kind, v, name[i], 1 + i, nowhere);
    }
    const rg_vid in[5] = {s->conv, s->vector[0], s->vector[1], s->vector[2], s->vector[3]};
    const rg_type out[5] = {act(RG_BATCH, 4, 4, 8), v, v, v, v};
    rg_attr attr = {.eps = 1e-5, .momentum = 0.1};
    rg_nid node =
        rg_graph_add_node(s->graph, RG_OP_BATCH_NORM, in, 5, out, 5, &attr, "bn", nowhere);
    return node < 0 ? -1 : s->graph->node[node].out[0];
}

static rg_status make_sample(sample *s) {
    rg_graph *g = s->graph = rg_graph_new(ctx.arena, "grad");
    if (!g) return RG_E_NOMEM;
    rg_attr conv = {.r = 3, .s = 3, .stride = 1, .pad = 1, .dilation = 1};
    const rg_type out = act(RG_BATCH, 4, 4, 8), w = {RG_T_WEIGHT, {8, 3, 3, 3}};
    rg_param param = {.name = "conv.weight", .trained = true, .type = w};
    if (rg_graph_add_param(g, &param) < 0) return RG_E_NOMEM;
    s->image = rg_graph_add_leaf(g, RG_V_INPUT, act(RG_BATCH, 4, 4, 3), "image", -1, nowhere);
    s->weight = rg_graph_add_leaf(g, RG_V_PARAM, w, "conv.weight", 0, (rg_loc){"a.lua", 7});
    const rg_vid in[2] = {s->image, s->weight};
    rg_nid node = rg_graph_add_node(g, RG_OP_CONV2D_FPROP, in, 2, &out, 1, &conv, "conv", nowhere);
    if (node < 0) return RG_E_NOMEM;
    s->conv = g->node[node].out[0];
    s->norm = add_norm(s);
    s->relu = add_relu(g, s->norm);
    s->sum = rg_graph_reduce(g, s->relu, RG_REDUCE_SUM, RG_AXIS_H | RG_AXIS_W, "pool", nowhere);
    return s->sum < 0 ? RG_E_NOMEM : rg_graph_add_result(g, RG_O_LOGITS, s->sum, -1);
}

static sample good(void) {
    sample s;
    assert_int_equal(make_sample(&s), RG_OK);
    return s;
}

static rg_node *node_of(sample *s, rg_vid value) {
    return &s->graph->node[s->graph->value[value].def];
}

static void test_a_sound_graph_passes(void **state) {
    (void)state;
    sample s = good();
    assert_int_equal(rg_graph_verify(&ctx, s.graph), RG_OK);
    assert_int_equal(ctx.count, 0);
}

/* ---- one way of breaking it each ---- */

static void break_arity(sample *s) {
    node_of(s, s->conv)->in_count = 1;
}
static void break_outputs(sample *s) {
    node_of(s, s->norm)->out_count = 3;
}
static void break_missing_input(sample *s) {
    node_of(s, s->conv)->in[0] = 99;
}
static void break_order(sample *s) {
    rg_graph *g = s->graph;
    rg_node first = g->node[0];
    g->node[0] = g->node[1];
    g->node[1] = first;
    for (int n = 0; n < 2; n++) {
        for (int i = 0; i < g->node[n].out_count; i++) g->value[g->node[n].out[i]].def = n;
    }
}
static void break_self_use(sample *s) {
    node_of(s, s->relu)->in[0] = s->relu;
}
static void break_two_definitions(sample *s) {
    node_of(s, s->relu)->out[0] = s->conv;
}
static void break_leaf_with_producer(sample *s) {
    s->graph->value[s->image].def = 0;
}
static void break_extent(sample *s) {
    s->graph->value[s->conv].type.dim[1] = 5;
}
static void break_zero_extent(sample *s) {
    s->graph->value[s->image].type.dim[2] = 0;
}
static void break_batch(sample *s) {
    s->graph->value[s->image].type.dim[0] = 2;
}
static void break_size(sample *s) {
    s->graph->value[s->image].type = act(RG_BATCH, 1 << 20, 1 << 20, 3);
}
static void break_channels(sample *s) {
    s->graph->value[s->weight].type.dim[3] = 4;
}
static void break_class(sample *s) {
    s->graph->value[s->weight].type.cls = RG_T_ACT;
    s->graph->value[s->weight].type.dim[0] = 1;
}
static void break_vector(sample *s) {
    s->graph->value[s->vector[1]].type.dim[3] = 9;
}
static void break_tree_argument(sample *s) {
    node_of(s, s->relu)->attr.expr.node[0].leaf = 1;
}
static void break_tree_leaf(sample *s) {
    node_of(s, s->relu)->attr.expr.node[0].op = RG_EXPR_ACC;
}
static void break_tree_order(sample *s) {
    rg_attr *a = &node_of(s, s->relu)->attr;
    a->expr.node[a->root].a = a->root;
}
static void break_tree_root(sample *s) {
    node_of(s, s->relu)->attr.root = 3;
}
static void break_broadcast(sample *s) {
    rg_node *relu = node_of(s, s->relu);
    relu->in[0] = s->image;
}
static void break_axes(sample *s) {
    node_of(s, s->sum)->attr.axes = 0;
}
static void break_reduced(sample *s) {
    node_of(s, s->sum)->attr.axes = RG_AXIS_H;
}
static void break_result(sample *s) {
    s->graph->result[0].value = -1;
}
static void break_op(sample *s) {
    node_of(s, s->conv)->op = RG_OP_COUNT;
}
static void break_stride(sample *s) {
    node_of(s, s->conv)->attr.stride = 0;
}

static void test_every_broken_graph_is_caught(void **state) {
    (void)state;
    static const struct {
        void (*damage)(sample *s);
        const char *text;
    } cases[] = {
        {break_arity, "wrong number of inputs"},
        {break_outputs, "outputs"},
        {break_missing_input, "an input does not exist"},
        {break_order, "an input is made later"},
        {break_self_use, "an input is made later"},
        {break_two_definitions, "outputs"},
        {break_leaf_with_producer, "leaf with a producer"},
        {break_extent, "extents do not follow"},
        {break_zero_extent, "impossible type"},
        {break_batch, "impossible type"},
        {break_size, "impossible type"},
        {break_channels, "channels are not the filter's"},
        {break_class, "not of class WEIGHT"},
        {break_vector, "not a vector of the channels"},
        {break_tree_argument, "reads what is not there"},
        {break_tree_leaf, "reads what is not there"},
        {break_tree_order, "not in order"},
        {break_tree_root, "no root"},
        {break_broadcast, "does not broadcast"},
        {break_axes, "axes"},
        {break_reduced, "not the reduced input"},
        {break_result, "result 0 is no value"},
        {break_op, "no such op"},
        {break_stride, "extents do not follow"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sample s = good();
        cases[i].damage(&s);
        assert_int_equal(rg_graph_verify(&ctx, s.graph), RG_E_INTERNAL);
        if (!strstr(ctx.last->text, cases[i].text)) {
            fail_msg("case %zu: \"%s\" lacks \"%s\"", i, ctx.last->text, cases[i].text);
        }
    }
}

static void test_a_node_owns_its_tree_and_inputs(void **state) {
    (void)state;
    sample s = good();
    rg_graph *g = s.graph;
    rg_expr expr;
    rg_expr_init(&expr, ctx.arena);
    rg_vid in[1] = {s.relu};
    int32_t root = rg_expr_unary(&expr, RG_EXPR_TANH, rg_expr_leaf(&expr, RG_EXPR_ARG, 0));
    rg_vid v = rg_graph_pointwise(g, in, 1, &expr, root, act(RG_BATCH, 4, 4, 8), "tanh", nowhere);
    in[0] = 0;
    expr.node[0].leaf = 5;
    assert_true(rg_expr_unary(&expr, RG_EXPR_EXP, root) >= 0);
    const rg_node *node = &g->node[g->value[v].def];
    assert_int_equal(node->in[0], s.relu);
    assert_int_equal(node->attr.expr.count, 2);
    assert_int_equal(rg_graph_verify(&ctx, g), RG_OK);
}

static void test_moments_leave_mean_and_squares(void **state) {
    (void)state;
    sample s = good();
    const uint32_t axes = RG_AXIS_N | RG_AXIS_H | RG_AXIS_W;
    rg_vid mean = rg_graph_reduce(s.graph, s.conv, RG_REDUCE_MOMENTS, axes, "moments", nowhere);
    const rg_node *node = node_of(&s, mean);
    assert_int_equal(node->out_count, 2);
    assert_true(rg_type_is_channel(s.graph->value[node->out[1]].type));
    assert_int_equal(rg_graph_verify(&ctx, s.graph), RG_OK);
}

static void test_broadcast_names_the_repeated_axes(void **state) {
    (void)state;
    const rg_type full = act(RG_BATCH, 4, 5, 8);
    assert_true(rg_type_broadcasts(act(1, 1, 1, 8), full));
    assert_int_equal(rg_type_broadcast_axes(act(1, 1, 1, 8), full),
                     RG_AXIS_N | RG_AXIS_H | RG_AXIS_W);
    assert_int_equal(rg_type_broadcast_axes(act(RG_BATCH, 4, 1, 1), full), RG_AXIS_W | RG_AXIS_C);
    assert_int_equal(rg_type_broadcast_axes(full, full), 0);
    assert_false(rg_type_broadcasts(act(RG_BATCH, 4, 4, 8), full));
    assert_false(rg_type_broadcasts(full, act(1, 4, 5, 8)));
    const rg_type w = {RG_T_WEIGHT, {1, 1, 1, 8}};
    assert_false(rg_type_broadcasts(w, full));
    assert_false(rg_type_broadcasts(w, (rg_type){RG_T_WEIGHT, {8, 1, 1, 8}}));
}

static void test_window_extent_is_the_usual_formula(void **state) {
    (void)state;
    assert_int_equal(rg_window_extent(96, 7, 2, 0, 1), 45);
    assert_int_equal(rg_window_extent(45, 3, 2, 0, 1), 22);
    assert_int_equal(rg_window_extent(11, 3, 2, 1, 1), 6);
    assert_int_equal(rg_window_extent(22, 1, 2, 0, 1), 11);
    assert_int_equal(rg_window_extent(9, 3, 1, 0, 4), 1);
    assert_int_equal(rg_window_extent(8, 3, 1, 0, 4), 0);
}

static void test_elements_do_not_overflow(void **state) {
    (void)state;
    assert_int_equal(rg_type_elements(act(RG_BATCH, 3, 4, 5)), 60);
    const int32_t top = INT32_MAX;
    assert_true(rg_type_elements(act(RG_BATCH, top, top, top)) == INT64_MAX);
}

static void test_dump_shows_every_node_with_shape_and_tree(void **state) {
    (void)state;
    sample s = good();
    rg_text text = {0};
    rg_graph_dump(&text, s.graph);
    assert_false(text.failed);
    static const char *const lines[] = {
        "graph grad\n",
        "  %0 [N 4 4 3] = input image\n",
        "  %1 [K8 R3 S3 C3] = param conv.weight  a.lua:7\n",
        "  %2 [N 4 4 8] = conv2d_fprop %0, %1 3x3 stride 1 pad 1  ; conv\n",
        " = batch_norm %2, %3, %4, %5, %6 eps 1e-05 momentum 0.1  ; bn\n",
        "  %12 [N 4 4 8] = pointwise max(%7, 0)  ; relu\n",
        "  %13 [N 1 1 8] = reduce %12 sum over hw  ; pool\n",
        "  result logits %13\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        if (!strstr(text.data, lines[i])) fail_msg("no line \"%s\" in\n%s", lines[i], text.data);
    }
    rg_text_free(&text);
}

static void test_running_out_of_memory_is_answered(void **state) {
    (void)state;
    rg_status status = RG_E_NOMEM;
    for (long n = 1; n < 200 && status != RG_OK; n++) {
        sample s;
        rg_arena_fail_after(n);
        status = make_sample(&s);
        rg_arena_fail_after(0);
        assert_true(status == RG_OK || status == RG_E_NOMEM);
    }
    assert_int_equal(status, RG_OK);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_a_sound_graph_passes),
        T(test_every_broken_graph_is_caught),
        T(test_a_node_owns_its_tree_and_inputs),
        T(test_moments_leave_mean_and_squares),
        T(test_broadcast_names_the_repeated_axes),
        T(test_window_extent_is_the_usual_formula),
        T(test_elements_do_not_overflow),
        T(test_dump_shows_every_node_with_shape_and_tree),
        T(test_running_out_of_memory_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
