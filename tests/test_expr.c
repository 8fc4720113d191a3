/* Expression DAGs: meaning, sharing, folding, derivation, copying. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "rg_expr.h"

static rg_arena *arena;

static int setup(void **state) {
    (void)state;
    arena = rg_arena_new();
    return arena ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    rg_arena_fail_after(0);
    rg_arena_free(arena);
    return 0;
}

static void assert_near(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.17g is not %.17g", got, want);
}

static rg_expr new_expr(void) {
    rg_expr expr;
    rg_expr_init(&expr, arena);
    return expr;
}

static int32_t arg(rg_expr *expr, int32_t i) {
    return rg_expr_leaf(expr, RG_EXPR_ARG, i);
}

static double arg_value(void *user, rg_expr_op op, int32_t leaf) {
    assert_int_equal(op, RG_EXPR_ARG);
    return ((const double *)user)[leaf];
}

static double value_at(const rg_expr *expr, int32_t root, const double *args) {
    double value[64];
    assert_in_range(root, 0, expr->count - 1);
    assert_true(expr->count <= 64);
    rg_expr_eval(expr, arg_value, (void *)(uintptr_t)args, value);
    return value[root];
}

static const char *printed(const rg_expr *expr, int32_t root) {
    rg_text text = {0};
    rg_expr_print(&text, expr, root, NULL);
    assert_false(text.failed);
    const char *copy = rg_arena_strdup(arena, text.data);
    rg_text_free(&text);
    return copy;
}

static int32_t build(rg_expr *expr, rg_expr_op op) {
    switch (rg_expr_arity(op)) {
    case 1:
        return rg_expr_unary(expr, op, arg(expr, 0));
    case 2:
        return rg_expr_binary(expr, op, arg(expr, 0), arg(expr, 1));
    default:
        return rg_expr_ternary(expr, op, arg(expr, 0), arg(expr, 1), arg(expr, 2));
    }
}

static double meaning(rg_expr_op op, const double *x) {
    const double a = x[0], b = x[1], c = x[2];
    switch (op) {
    case RG_EXPR_NEG:
        return -a;
    case RG_EXPR_ABS:
        return fabs(a);
    case RG_EXPR_SQRT:
        return sqrt(a);
    case RG_EXPR_RSQRT:
        return 1 / sqrt(a);
    case RG_EXPR_EXP:
        return exp(a);
    case RG_EXPR_LOG:
        return log(a);
    case RG_EXPR_TANH:
        return tanh(a);
    case RG_EXPR_SIGMOID:
        return 1 / (1 + exp(-a));
    case RG_EXPR_ROUND_TF32:
    case RG_EXPR_ROUND_BF16:
    case RG_EXPR_ROUND_F16:
        return a; /* the points are numbers of all formats */
    case RG_EXPR_ADD:
        return a + b;
    case RG_EXPR_SUB:
        return a - b;
    case RG_EXPR_MUL:
        return a * b;
    case RG_EXPR_DIV:
        return a / b;
    case RG_EXPR_MAX:
        return fmax(a, b);
    case RG_EXPR_MIN:
        return fmin(a, b);
    case RG_EXPR_GT:
        return a > b;
    case RG_EXPR_GE:
        return a >= b;
    case RG_EXPR_EQ:
        return a == b;
    case RG_EXPR_FMA:
        return fma(a, b, c);
    case RG_EXPR_SELECT:
        return a != 0 ? b : c;
    default:
        fail_msg("operator %d has no expected value", op);
        return NAN;
    }
}

static const double points[][3] = {
    {0.75, 1.5, -2.0}, {2.5, -0.5, 3.0}, {1.0, 1.0, 1.0}, {0.0, 2.0, 5.0}};

static void test_every_operator_means_what_libm_says(void **state) {
    (void)state;
    for (int op = RG_EXPR_NEG; op < RG_EXPR_OP_COUNT; op++) {
        rg_expr expr = new_expr();
        int32_t root = build(&expr, (rg_expr_op)op);
        for (size_t p = 0; p < sizeof points / sizeof points[0]; p++) {
            double got = value_at(&expr, root, points[p]);
            double want = meaning((rg_expr_op)op, points[p]);
            assert_true(got == want);
        }
    }
}

/* Neighbours in a format, and what lies between them. */
static void test_formats_round_as_the_standards_say(void **state) {
    (void)state;
    const rg_expr_op bf16 = RG_EXPR_ROUND_BF16, f16 = RG_EXPR_ROUND_F16, tf32 = RG_EXPR_ROUND_TF32;
    const struct {
        rg_expr_op op;
        double from, to;
    } row[] = {
        {bf16, 1 + 0x1p-8, 1},             /* a tie goes to the even */
        {bf16, 1 + 0x3p-8, 1 + 0x1p-6},    /* likewise */
        {bf16, 1 + 0x1.01p-8, 1 + 0x1p-7}, /* past the tie */
        {bf16, -0x1.fep127, -0x1.fep127},  /* the largest */
        {bf16, 0x1.ffp127, INFINITY},      /* half a step past it */
        {bf16, 0x1.8p-133, 0x1p-132},      /* subnormal, a tie */
        {f16, 1 + 0x1p-11, 1},
        {f16, 1 + 0x3p-11, 1 + 0x1p-9},
        {f16, 65519, 65504},
        {f16, -65520, -INFINITY},
        {f16, 0x1p-25, 0}, /* half the smallest */
        {f16, 0x1.8p-24, 0x1p-23},
        {tf32, 1 + 0x1p-11, 1 + 0x1p-10}, /* a tie goes away from zero */
        {tf32, -1 - 0x1p-11, -1 - 0x1p-10},
        {tf32, 1 + 0x1.fp-12, 1},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        assert_true(rg_expr_apply(row[i].op, row[i].from, 0, 0) == row[i].to);
    assert_true(isnan(rg_expr_apply(bf16, NAN, 0, 0)));
}

static void test_nan_wins_maximum_and_minimum(void **state) {
    (void)state;
    const rg_expr_op op[] = {RG_EXPR_MAX, RG_EXPR_MIN};
    for (int i = 0; i < 2; i++) {
        assert_true(isnan(rg_expr_apply(op[i], NAN, 1, 0)));
        assert_true(isnan(rg_expr_apply(op[i], 1, NAN, 0)));
    }
    assert_true(isinf(rg_expr_apply(RG_EXPR_MAX, INFINITY, 1, 0)));
}

static void test_operators_are_found_by_name(void **state) {
    (void)state;
    for (int op = RG_EXPR_NEG; op < RG_EXPR_OP_COUNT; op++) {
        assert_int_equal(rg_expr_find(rg_expr_name((rg_expr_op)op)), op);
    }
    assert_int_equal(rg_expr_find("const"), RG_EXPR_OP_COUNT);
    assert_int_equal(rg_expr_find("sine"), RG_EXPR_OP_COUNT);
}

/* Central differences in double: the error is about h^2 + eps/h, 1e-10 at h = 1e-5. */
static void test_derivative_of_every_operator_is_the_slope(void **state) {
    (void)state;
    const double h = 1e-5;
    for (int op = RG_EXPR_NEG; op < RG_EXPR_OP_COUNT; op++) {
        /* The identity's derivative is taken for theirs. */
        if (op >= RG_EXPR_ROUND_TF32 && op <= RG_EXPR_ROUND_F16) continue;
        for (int32_t wrt = 0; wrt < rg_expr_arity((rg_expr_op)op); wrt++) {
            rg_expr expr = new_expr();
            int32_t root = build(&expr, (rg_expr_op)op);
            int32_t slope = rg_expr_derive(&expr, root, wrt);
            for (int p = 0; p < 2; p++) {
                double x[3], up, down;
                memcpy(x, points[p], sizeof x);
                x[wrt] = points[p][wrt] + h;
                up = value_at(&expr, root, x);
                x[wrt] = points[p][wrt] - h;
                down = value_at(&expr, root, x);
                double got = value_at(&expr, slope, points[p]);
                assert_near(got, (up - down) / (2 * h), 1e-8 * (1 + fabs(got)));
            }
        }
    }
}

static void test_derivative_follows_the_chain_through_shared_nodes(void **state) {
    (void)state;
    rg_expr e = new_expr();
    int32_t x = arg(&e, 0);
    int32_t s = rg_expr_unary(&e, RG_EXPR_SIGMOID, rg_expr_binary(&e, RG_EXPR_MUL, x, x));
    int32_t root = rg_expr_binary(&e, RG_EXPR_DIV, rg_expr_unary(&e, RG_EXPR_TANH, s),
                                  rg_expr_binary(&e, RG_EXPR_ADD, x, s));
    int32_t slope = rg_expr_derive(&e, root, 0);
    const double h = 1e-5;
    double at[1] = {0.7}, up[1] = {0.7 + h}, down[1] = {0.7 - h};
    double want = (value_at(&e, root, up) - value_at(&e, root, down)) / (2 * h);
    assert_near(value_at(&e, slope, at), want, 1e-8);
    assert_int_equal(e.node[rg_expr_derive(&e, root, 1)].op, RG_EXPR_CONST);
}

/* max(x, 0) has no slope at 0, |x| neither: what PyTorch says there. */
static void test_gradient_at_the_kinks_is_pytorchs(void **state) {
    (void)state;
    rg_expr e = new_expr();
    int32_t x = arg(&e, 0), zero = rg_expr_const(&e, 0);
    int32_t relu = rg_expr_derive(&e, rg_expr_binary(&e, RG_EXPR_MAX, x, zero), 0);
    int32_t sign = rg_expr_derive(&e, rg_expr_unary(&e, RG_EXPR_ABS, x), 0);
    const double at[3] = {-1, 0, 1}, relu_want[3] = {0, 0, 1}, sign_want[3] = {-1, 0, 1};
    for (int i = 0; i < 3; i++) {
        assert_true(value_at(&e, relu, &at[i]) == relu_want[i]);
        assert_true(value_at(&e, sign, &at[i]) == sign_want[i]);
    }
}

static void test_tangent_puts_the_seed_inside_the_select(void **state) {
    (void)state;
    rg_expr e = new_expr();
    int32_t relu = rg_expr_binary(&e, RG_EXPR_MAX, arg(&e, 0), rg_expr_const(&e, 0));
    int32_t grad = rg_expr_tangent(&e, relu, 0, arg(&e, 1));
    assert_string_equal(printed(&e, grad), "select(arg0 > 0, arg1, 0)");
    const double infinite[2] = {-1, INFINITY};
    assert_true(value_at(&e, grad, infinite) == 0.0);
}

static void test_identical_nodes_are_made_once(void **state) {
    (void)state;
    rg_expr e = new_expr();
    int32_t a = arg(&e, 0), b = arg(&e, 1);
    int32_t sum = rg_expr_binary(&e, RG_EXPR_ADD, a, b);
    int32_t count = e.count;
    assert_int_equal(arg(&e, 0), a);
    assert_int_equal(rg_expr_binary(&e, RG_EXPR_ADD, a, b), sum);
    assert_int_equal(rg_expr_binary(&e, RG_EXPR_ADD, b, a), sum);
    assert_int_equal(e.count, count);
    int32_t ab = rg_expr_binary(&e, RG_EXPR_SUB, a, b), ba = rg_expr_binary(&e, RG_EXPR_SUB, b, a);
    assert_int_not_equal(ab, ba);
    assert_int_not_equal(rg_expr_const(&e, 0.0), rg_expr_const(&e, -0.0));
}

static void test_constants_and_neutral_elements_fold(void **state) {
    (void)state;
    rg_expr e = new_expr();
    int32_t x = arg(&e, 0), zero = rg_expr_const(&e, 0), one = rg_expr_const(&e, 1);
    int32_t two = rg_expr_const(&e, 2);
    assert_int_equal(rg_expr_binary(&e, RG_EXPR_MUL, x, one), x);
    assert_int_equal(rg_expr_binary(&e, RG_EXPR_MUL, one, x), x);
    assert_int_equal(rg_expr_binary(&e, RG_EXPR_ADD, zero, x), x);
    assert_int_equal(rg_expr_binary(&e, RG_EXPR_SUB, x, zero), x);
    assert_int_equal(rg_expr_binary(&e, RG_EXPR_DIV, x, one), x);
    assert_int_equal(rg_expr_ternary(&e, RG_EXPR_SELECT, one, x, two), x);
    assert_int_equal(rg_expr_ternary(&e, RG_EXPR_SELECT, zero, x, two), two);
    assert_int_equal(rg_expr_binary(&e, RG_EXPR_ADD, one, one), two);
    int32_t fma_one = rg_expr_ternary(&e, RG_EXPR_FMA, one, x, two);
    assert_string_equal(printed(&e, fma_one), "arg0 + 2");
}

/* 0*x is not 0 where x is NaN or infinite, and 1/0 has no literal. */
static void test_what_is_not_exact_does_not_fold(void **state) {
    (void)state;
    rg_expr e = new_expr();
    int32_t x = arg(&e, 0), zero = rg_expr_const(&e, 0), one = rg_expr_const(&e, 1);
    int32_t product = rg_expr_binary(&e, RG_EXPR_MUL, zero, x);
    const double nan[1] = {NAN};
    assert_true(isnan(value_at(&e, product, nan)));
    assert_int_equal(e.node[rg_expr_binary(&e, RG_EXPR_DIV, one, zero)].op, RG_EXPR_DIV);
}

static void test_graft_replaces_arguments_and_leaves_the_rest_behind(void **state) {
    (void)state;
    rg_expr from = new_expr(), to = new_expr();
    int32_t a = arg(&from, 0), b = arg(&from, 1);
    int32_t unused = rg_expr_unary(&from, RG_EXPR_EXP, b);
    int32_t root = rg_expr_binary(&from, RG_EXPR_SUB, rg_expr_binary(&from, RG_EXPR_MUL, a, b), a);
    assert_true(unused >= 0);
    const int32_t map[2] = {rg_expr_const(&to, 3), arg(&to, 7)};
    int32_t copy = rg_expr_graft(&to, &from, root, map);
    assert_string_equal(printed(&to, copy), "3*arg7 - 3");
    assert_int_equal(to.count, 4);
    int32_t plain = rg_expr_graft(&to, &from, root, NULL);
    assert_string_equal(printed(&to, plain), "arg0*arg1 - arg0");
    assert_int_equal(rg_expr_graft(&to, &from, root, NULL), plain);
}

static void test_graft_into_itself_composes(void **state) {
    (void)state;
    rg_expr e = new_expr();
    int32_t square = rg_expr_binary(&e, RG_EXPR_MUL, arg(&e, 0), arg(&e, 0));
    for (int i = 0; i < 4; i++) square = rg_expr_graft(&e, &e, square, &square);
    double x[1] = {1.5};
    assert_true(square >= 0);
    assert_true(value_at(&e, square, x) > 1.0);
}

static void test_prune_keeps_what_roots_need_and_renumbers_them(void **state) {
    (void)state;
    rg_expr e = new_expr();
    int32_t dead = rg_expr_unary(&e, RG_EXPR_EXP, arg(&e, 5));
    int32_t sum = rg_expr_binary(&e, RG_EXPR_ADD, arg(&e, 0), arg(&e, 1));
    int32_t dead2 = rg_expr_unary(&e, RG_EXPR_LOG, sum);
    int32_t root = rg_expr_binary(&e, RG_EXPR_MUL, sum, arg(&e, 2));
    assert_true(dead >= 0 && dead2 >= 0);
    int32_t roots[3] = {root, sum, -1};
    assert_int_equal(rg_expr_prune(&e, roots, 3), RG_OK);
    assert_int_equal(e.count, 5);
    assert_int_equal(roots[2], -1);
    const double x[3] = {1, 2, 5};
    assert_true(value_at(&e, roots[0], x) == 15.0);
    assert_true(value_at(&e, roots[1], x) == 3.0);
    for (int32_t i = 0; i < e.count; i++) {
        assert_true(e.node[i].a < i && e.node[i].b < i && e.node[i].c < i);
    }
    int32_t beyond[1] = {99};
    assert_int_equal(rg_expr_prune(&e, beyond, 1), RG_E_INTERNAL);
}

/* Two builders that made the same value in another order agree after pruning: keys of kernels rest
 * on it. */
static void test_prune_forgets_the_order_of_building(void **state) {
    (void)state;
    rg_expr e[2];
    for (int i = 0; i < 2; i++) {
        e[i] = new_expr();
        int32_t first = arg(&e[i], i), second = arg(&e[i], 1 - i);
        int32_t a = i == 0 ? first : second, b = i == 0 ? second : first;
        int32_t root[1] = {rg_expr_binary(&e[i], RG_EXPR_SUB, a, b)};
        assert_int_equal(rg_expr_prune(&e[i], root, 1), RG_OK);
    }
    assert_int_equal(e[0].count, e[1].count);
    for (int32_t i = 0; i < e[0].count; i++) {
        const rg_enode *x = &e[0].node[i], *y = &e[1].node[i];
        assert_true(x->op == y->op && x->a == y->a && x->b == y->b && x->leaf == y->leaf);
    }
}

static void test_uses_sees_only_what_the_value_depends_on(void **state) {
    (void)state;
    rg_expr e = new_expr();
    int32_t sum =
        rg_expr_binary(&e, RG_EXPR_ADD, arg(&e, 0), rg_expr_leaf(&e, RG_EXPR_CTRL, RG_CTRL_LR));
    int32_t other = rg_expr_unary(&e, RG_EXPR_EXP, arg(&e, 1));
    assert_true(rg_expr_uses(&e, sum, RG_EXPR_ARG, 0));
    assert_false(rg_expr_uses(&e, sum, RG_EXPR_ARG, 1));
    assert_true(rg_expr_uses(&e, sum, RG_EXPR_CTRL, -1));
    assert_false(rg_expr_uses(&e, other, RG_EXPR_CTRL, -1));
    assert_true(rg_expr_uses(&e, other, RG_EXPR_ARG, -1));
}

static void test_print_has_no_more_brackets_than_needed(void **state) {
    (void)state;
    rg_expr e = new_expr();
    int32_t a = arg(&e, 0), b = arg(&e, 1), c = rg_expr_const(&e, 0.5);
    int32_t sub = rg_expr_binary(&e, RG_EXPR_SUB, a, b);
    int32_t root = rg_expr_binary(&e, RG_EXPR_SUB, a, rg_expr_binary(&e, RG_EXPR_MUL, c, sub));
    assert_string_equal(printed(&e, root), "arg0 - 0.5*(arg0 - arg1)");
    int32_t right = rg_expr_binary(&e, RG_EXPR_SUB, b, sub);
    assert_string_equal(printed(&e, right), "arg1 - (arg0 - arg1)");
    assert_string_equal(printed(&e, rg_expr_unary(&e, RG_EXPR_NEG, sub)), "-(arg0 - arg1)");
    int32_t live = rg_expr_leaf(&e, RG_EXPR_CTRL, RG_CTRL_INV_COUNT);
    assert_string_equal(printed(&e, live), "invcount");
}

static void test_print_of_a_shared_tree_stays_short(void **state) {
    (void)state;
    rg_expr e = new_expr();
    int32_t x = arg(&e, 0);
    for (int i = 0; i < 60; i++) {
        x = rg_expr_binary(&e, RG_EXPR_SUB, rg_expr_unary(&e, RG_EXPR_EXP, x), x);
    }
    assert_true(strlen(printed(&e, x)) < 6000);
}

static void test_a_dag_has_a_largest_size(void **state) {
    (void)state;
    rg_expr e = new_expr();
    for (int32_t i = 0; i < RG_EXPR_MAX_NODES; i++) assert_int_equal(arg(&e, i), i);
    assert_int_equal(arg(&e, RG_EXPR_MAX_NODES), -1);
    assert_int_equal(rg_expr_unary(&e, RG_EXPR_EXP, -1), -1);
}

/* Builds, derives and prunes with the n-th allocation failing, for each n. */
static void test_running_out_of_memory_is_answered(void **state) {
    (void)state;
    bool done = false;
    for (long n = 1; n < 100 && !done; n++) {
        rg_arena_fail_after(0);
        rg_arena *small = rg_arena_new();
        assert_non_null(small);
        rg_expr e;
        rg_expr_init(&e, small);
        rg_arena_fail_after(n);
        int32_t x = arg(&e, 0);
        for (int i = 0; i < 30; i++) {
            x = rg_expr_unary(&e, RG_EXPR_SIGMOID, x);
        }
        int32_t root[1] = {rg_expr_derive(&e, x, 0)};
        done = root[0] >= 0 && rg_expr_prune(&e, root, 1) == RG_OK;
        rg_arena_fail_after(0);
        rg_arena_free(small);
    }
    assert_true(done);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_every_operator_means_what_libm_says),
        T(test_formats_round_as_the_standards_say),
        T(test_nan_wins_maximum_and_minimum),
        T(test_operators_are_found_by_name),
        T(test_derivative_of_every_operator_is_the_slope),
        T(test_derivative_follows_the_chain_through_shared_nodes),
        T(test_gradient_at_the_kinks_is_pytorchs),
        T(test_tangent_puts_the_seed_inside_the_select),
        T(test_identical_nodes_are_made_once),
        T(test_constants_and_neutral_elements_fold),
        T(test_what_is_not_exact_does_not_fold),
        T(test_graft_replaces_arguments_and_leaves_the_rest_behind),
        T(test_graft_into_itself_composes),
        T(test_prune_keeps_what_roots_need_and_renumbers_them),
        T(test_prune_forgets_the_order_of_building),
        T(test_uses_sees_only_what_the_value_depends_on),
        T(test_print_has_no_more_brackets_than_needed),
        T(test_print_of_a_shared_tree_stays_short),
        T(test_a_dag_has_a_largest_size),
        T(test_running_out_of_memory_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
