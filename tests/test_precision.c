/* Mixed precision on the graph: what the pass rounds, what is stored in 16 bits, and that the
 * rounded network is the network. */
#include <math.h>

#include "spec_helpers.h"

#include "rg_fuse.h"

enum { GRAD, EVAL, PREDICT, PROGRAMS };

static const rg_kformat formats[] = {RG_KFORMAT_TF32, RG_KFORMAT_BF16, RG_KFORMAT_F16};
enum { FORMATS = sizeof formats / sizeof *formats };

/* ---- a spec's program after the passes ---- */

static rg_graph *run_pass(rg_status (*pass)(rg_ctx *, const rg_graph *, rg_graph **),
                          const rg_graph *in) {
    rg_graph *out = NULL;
    if (pass(&ctx, in, &out) != RG_OK) {
        print_diagnostics();
        fail_msg("a pass fails");
    }
    return out;
}

static rg_graph *program(const char *spec, int which, rg_kformat format) {
    rg_graph *graph = load(spec)->graph;
    graph->format = format;
    if (which == GRAD)
        graph = run_pass(rg_pass_grad, graph);
    else
        assert_int_equal(rg_pass_infer_mode(&ctx, graph, which == PREDICT, &graph), RG_OK);
    if (which != PREDICT) graph = run_pass(rg_pass_decompose, graph);
    if (which != GRAD) graph = run_pass(rg_pass_fold, graph);
    return run_pass(rg_pass_precision, run_pass(rg_pass_simplify, graph));
}

static bool *exact_values(const rg_graph *graph) {
    bool *exact = NULL;
    assert_int_equal(rg_precision_analyse(&ctx, graph, &exact), RG_OK);
    return exact;
}

/* ---- what every spec promises ---- */

static const char *const specs[] = {
    "specs/tiny/branches.lua", "specs/tiny/broadcast_sum.lua", "specs/tiny/mlp.lua",
    "specs/tiny/plain.lua",    "specs/tiny/preactivation.lua", "specs/tiny/shared_parts.lua",
    "specs/tiny/squeeze.lua",  "specs/tiny/tiny_residual.lua", "specs/resnet18_cifar.lua",
};
enum { SPECS = sizeof specs / sizeof *specs };

static bool is_contraction(const rg_node *node) {
    return node->op == RG_OP_CONV2D_FPROP || node->op == RG_OP_CONV2D_DGRAD ||
           node->op == RG_OP_CONV2D_WGRAD;
}

/* Results of contractions with one pixel go on in f32, unless a contraction reads them. */
static void check_one_pixel(const rg_graph *graph, const rg_node *node, const bool *exact) {
    const int32_t *dim = graph->value[node->out[0]].type.dim;
    if (node->op == RG_OP_CONV2D_WGRAD || dim[1] * dim[2] > 1) return;
    assert_false(exact[node->out[0]]);
    for (rg_nid n = 0; n < graph->node_count; n++) {
        const rg_node *reader = &graph->node[n];
        if (reader->in_count != 1 || reader->in[0] != node->out[0]) continue;
        if (!rg_fuse_is_rounding(reader)) continue;
        bool operand = false;
        for (rg_nid m = 0; m < graph->node_count; m++)
            operand |=
                is_contraction(&graph->node[m]) && (graph->node[m].in[0] == reader->out[0] ||
                                                    (graph->node[m].op == RG_OP_CONV2D_WGRAD &&
                                                     graph->node[m].in[1] == reader->out[0]));
        assert_true(operand);
    }
}

static void test_operands_are_rounded_once_and_one_pixel_results_are_not(void **state) {
    (void)state;
    for (int s = 0; s < SPECS; s++)
        for (int f = 0; f < FORMATS; f++)
            for (int p = 0; p < PROGRAMS; p++) {
                rg_graph *graph = program(specs[s], p, formats[f]);
                bool *exact = exact_values(graph);
                assert_int_equal(rg_precision_check(&ctx, graph), RG_OK);
                for (rg_nid n = 0; n < graph->node_count; n++) {
                    const rg_node *node = &graph->node[n];
                    if (!is_contraction(node)) continue;
                    assert_int_equal(node->attr.format, formats[f]);
                    assert_true(exact[node->in[0]]);
                    check_one_pixel(graph, node, exact);
                }
            }
}

static void test_f32_is_left_as_it_is(void **state) {
    (void)state;
    rg_graph *before = run_pass(
        rg_pass_simplify,
        run_pass(rg_pass_decompose, run_pass(rg_pass_grad, load("specs/tiny/squeeze.lua")->graph)));
    rg_graph *after = run_pass(rg_pass_precision, before);
    rg_text a = {0}, b = {0};
    rg_graph_dump(&a, before);
    rg_graph_dump(&b, after);
    assert_string_equal(a.data, b.data);
    rg_text_free(&a);
    rg_text_free(&b);
    for (rg_vid v = 0; v < after->value_count; v++) assert_false(exact_values(after)[v]);
}

/* ---- the checker sees ---- */

static void expect_caught(const rg_graph *graph, const char *what) {
    int before = ctx.count;
    assert_int_equal(rg_precision_check(&ctx, graph), RG_E_INTERNAL);
    assert_int_equal(ctx.count, before + 1);
    assert_non_null(strstr(ctx.last->text, what));
}

static void test_the_checker_sees_what_is_wrong(void **state) {
    (void)state;
    rg_graph *graph = program("specs/tiny/plain.lua", GRAD, RG_KFORMAT_BF16);
    rg_node *conv = NULL;
    for (rg_nid n = 0; n < graph->node_count; n++)
        if (graph->node[n].op == RG_OP_CONV2D_FPROP) conv = &graph->node[n];
    rg_vid operand = conv->in[0];
    conv->in[0] = 0; /* the image as it came */
    expect_caught(graph, "reads an operand that is not rounded");
    conv->in[0] = operand;
    conv->attr.format = RG_KFORMAT_F32;
    expect_caught(graph, "has not the graph's format of products");
    conv->attr.format = RG_KFORMAT_BF16;
    assert_int_equal(rg_precision_check(&ctx, graph), RG_OK);
    rg_expr expr;
    rg_expr_init(&expr, graph->arena);
    int32_t arg = rg_expr_leaf(&expr, RG_EXPR_ARG, 0);
    int32_t root = rg_expr_unary(&expr, RG_EXPR_ROUND_BF16, arg);
    rg_type type = graph->value[operand].type;
    assert_true(rg_graph_pointwise(graph, &operand, 1, &expr, root, type, "again", (rg_loc){0}) >=
                0);
    expect_caught(graph, "rounds what is rounded already");
}

/* ---- what is stored ---- */

typedef struct stored {
    int narrow, wide; /* values with more than one pixel that kernels write and others read */
} stored;

static stored count_stored(const char *spec, int which) {
    rg_graph *graph = program(spec, which, RG_KFORMAT_BF16);
    rg_fusion *fusion;
    stored count = {0};
    assert_int_equal(rg_fuse(&ctx, graph, NULL, 0, &fusion), RG_OK);
    for (rg_vid v = 0; v < graph->value_count; v++) {
        rg_type type = graph->value[v].type;
        bool act = graph->value[v].kind == RG_V_NODE && type.cls == RG_T_ACT;
        if (!act || !fusion->home[v].demanded || type.dim[1] * type.dim[2] == 1) continue;
        if (fusion->type[v] == RG_KTYPE_BF16)
            count.narrow++;
        else
            count.wide++;
    }
    return count;
}

/* What is neither an operand nor an anchor's result stays f32 where fuse keeps it:
 * shared_parts.lua is made of such values. */
static void test_activations_are_stored_in_16_bits(void **state) {
    (void)state;
    static const struct {
        const char *spec;
        int wide[2]; /* GRAD, EVAL */
        int narrow[2];
    } rows[] = {
        {"specs/tiny/branches.lua", {0, 0}, {24, 11}},
        {"specs/tiny/mlp.lua", {0, 0}, {0, 0}},
        {"specs/tiny/plain.lua", {0, 0}, {10, 4}},
        {"specs/tiny/preactivation.lua", {0, 0}, {13, 6}},
        {"specs/tiny/shared_parts.lua", {2, 1}, {2, 0}},
        {"specs/tiny/squeeze.lua", {0, 0}, {6, 2}},
        {"specs/tiny/tiny_residual.lua", {0, 0}, {17, 7}},
        {"specs/resnet18_cifar.lua", {0, 0}, {52, 21}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int p = 0; p < 2; p++) {
            stored count = count_stored(rows[i].spec, p);
            if (count.wide != rows[i].wide[p] || count.narrow != rows[i].narrow[p])
                print_error("%s, program %d: %d in 16 bits, %d in f32\n", rows[i].spec, p,
                            count.narrow, count.wide);
            assert_int_equal(count.wide, rows[i].wide[p]);
            assert_int_equal(count.narrow, rows[i].narrow[p]);
        }
}

/* ---- the rounded network is the network ---- */

static double pseudo_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return (double)(*state >> 8) / (1 << 24) * 2 - 1;
}

/* The same leaves, whatever the graph: they are found by name. */
static void fill(rg_interp *interp, const rg_graph *graph, double scale, uint32_t draw) {
    for (rg_vid v = 0; v < graph->value_count; v++) {
        const rg_value *value = &graph->value[v];
        if (value->kind == RG_V_NODE) continue;
        double *to = rg_interp_value(interp, v);
        int64_t count = rg_interp_count(interp, v);
        uint32_t seed = draw;
        for (const char *c = value->name; *c; c++) seed = seed * 31 + (unsigned char)*c;
        bool vector = value->type.cls == RG_T_ACT && rg_type_is_channel(value->type);
        double size = value->type.cls == RG_T_WEIGHT
                          ? sqrt(3.0 / ((double)count / value->type.dim[0]))
                      : vector ? 0.2
                               : 1;
        double offset = vector && strstr(value->name, "bias") == NULL ? 1 : 0;
        for (int64_t i = 0; i < count; i++) to[i] = offset + size * pseudo_random(&seed);
        if (strcmp(value->name, "label") == 0)
            for (int64_t i = 0; i < count; i++) to[i] = (double)(i % 3);
        if (strcmp(value->name, RG_LOSS_SCALE) == 0) *to = scale;
    }
}

static rg_interp *interpret(const rg_graph *graph, int32_t n, double scale, uint32_t draw) {
    rg_interp *interp = NULL;
    assert_int_equal(rg_interp_new(&ctx, graph, n, &interp), RG_OK);
    fill(interp, graph, scale, draw);
    rg_ctrl ctrl = {.live = n, .blocks = 1};
    assert_int_equal(rg_interp_run(&ctx, interp, &ctrl), RG_OK);
    return interp;
}

/* Norm of the difference over the norm, of all gradients together, with b's divided by `scale`. */
static double gradients_apart(const rg_graph *ga, rg_interp *a, const rg_graph *gb, rg_interp *b,
                              double scale) {
    double off = 0, all = 0;
    for (int32_t i = 0; i < ga->result_count; i++) {
        if (ga->result[i].kind != RG_O_GRAD) continue;
        assert_int_equal(gb->result[i].kind, RG_O_GRAD);
        const double *x = rg_interp_value(a, ga->result[i].value);
        const double *y = rg_interp_value(b, gb->result[i].value);
        for (int64_t k = 0; k < rg_interp_count(a, ga->result[i].value); k++) {
            off += (y[k] / scale - x[k]) * (y[k] / scale - x[k]);
            all += x[k] * x[k];
        }
    }
    return sqrt(off / all);
}

static double loss_of(rg_interp *interp, const rg_graph *graph) {
    for (int32_t i = 0; i < graph->result_count; i++)
        if (graph->result[i].kind == RG_O_LOSS)
            return rg_interp_value(interp, graph->result[i].value)[0];
    return NAN;
}

/* Unit roundoffs. */
static const double unit[] = {
    [RG_KFORMAT_TF32] = 1.0 / 2048, [RG_KFORMAT_BF16] = 1.0 / 256, [RG_KFORMAT_F16] = 1.0 / 2048};

typedef struct apart {
    double loss, gradients; /* in unit roundoffs */
} apart;

enum { DRAWS = 5 };

static apart draw(const char *spec, rg_kformat format, uint32_t seed) {
    double scale = format == RG_KFORMAT_F16 ? 1024 : 1;
    rg_graph *plain = program(spec, GRAD, RG_KFORMAT_F32), *graph = program(spec, GRAD, format);
    rg_interp *want = interpret(plain, 8, 1, seed), *got = interpret(graph, 8, scale, seed);
    apart off = {fabs(loss_of(got, graph) - loss_of(want, plain)) / unit[format],
                 gradients_apart(plain, want, graph, got, scale) / unit[format]};
    rg_interp_free(want);
    rg_interp_free(got);
    return off;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Some tens of roundings on the way from the image to a gradient, each of half a unit at most and
 * of either sign; normalisation over a few values amplifies them. A relu that flips costs more than
 * that: the median of some draws is looked at. */
static void test_rounded_networks_follow_the_network(void **state) {
    (void)state;
    const double most = 60;
    for (int s = 0; s < SPECS - 1; s++)
        for (int f = 0; f < FORMATS; f++) {
            double gradients[DRAWS];
            for (uint32_t i = 0; i < DRAWS; i++) {
                apart off = draw(specs[s], formats[f], i + 1);
                gradients[i] = off.gradients;
                assert_true(off.loss <= 4);
                assert_true(off.gradients > 0);
            }
            qsort(gradients, DRAWS, sizeof *gradients, by_size);
            if (gradients[DRAWS / 2] > most)
                print_error("%s %s: off by %.1f units\n", specs[s], rg_kformat_name(formats[f]),
                            gradients[DRAWS / 2]);
            assert_true(gradients[DRAWS / 2] <= most);
        }
}

/* A power of two is exact until something is too small or too large for f16. */
static void test_the_loss_scale_multiplies_gradients_and_nothing_else(void **state) {
    (void)state;
    rg_graph *graph = program("specs/tiny/preactivation.lua", GRAD, RG_KFORMAT_F16);
    rg_interp *one = interpret(graph, 8, 4096, 3), *two = interpret(graph, 8, 16384, 3);
    for (int32_t i = 0; i < graph->result_count; i++) {
        double scale = graph->result[i].kind == RG_O_GRAD ? 4 : 1;
        const double *x = rg_interp_value(one, graph->result[i].value);
        const double *y = rg_interp_value(two, graph->result[i].value);
        double most = 0, off = 0;
        for (int64_t k = 0; k < rg_interp_count(one, graph->result[i].value); k++) {
            most = fmax(most, fabs(x[k]));
            off = fmax(off, fabs(y[k] / scale - x[k]));
        }
        if (scale == 1) assert_true(off == 0);
        assert_true(off <= most * 1e-3); /* gradients under 2^-14 / 4096 lose bits */
    }
    rg_interp_free(one);
    rg_interp_free(two);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_operands_are_rounded_once_and_one_pixel_results_are_not),
        TEST(test_f32_is_left_as_it_is),
        TEST(test_the_checker_sees_what_is_wrong),
        TEST(test_activations_are_stored_in_16_bits),
        TEST(test_rounded_networks_follow_the_network),
        TEST(test_the_loss_scale_multiplies_gradients_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
