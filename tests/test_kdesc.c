/* Kernel descriptions: their text, their checks, their counts, and their meaning. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rg_cases.h"
#include "rg_kinterp.h"

static rg_ctx ctx;

static int set_up(void **state) {
    (void)state;
    return rg_ctx_init(&ctx) == RG_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    rg_ctx_free(&ctx);
    return 0;
}

static rg_case *all_cases(int32_t *count) {
    rg_case *cases = rg_cases(ctx.arena, 16, count);
    assert_non_null(cases);
    assert_true(*count > 50);
    for (int32_t i = 0; i < *count; i++)
        rg_case_settle(&cases[i].desc, &(rg_kvariant){.parts_per_block = 3, .complete = true}, 0);
    return cases;
}

/* A number in [-1, 1) that depends on i alone. */
static double number(int64_t i) {
    uint64_t x = (uint64_t)i * 0x9e3779b97f4a7c15u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 29;
    return (double)(x >> 11) * 0x1p-52 - 1;
}

/* Arguments full of such numbers. Owner: ctx's arena. */
static double **numbers(const rg_kdesc *desc, int32_t blocks) {
    double **arg = RG_NEW_ARRAY(ctx.arena, double *, desc->arg_count);
    assert_non_null(arg);
    for (int32_t i = 0; i < desc->arg_count; i++) {
        int64_t floats = rg_karg_elements(&desc->arg[i], blocks);
        arg[i] = RG_NEW_ARRAY(ctx.arena, double, floats);
        assert_non_null(arg[i]);
        for (int64_t j = 0; j < floats; j++) arg[i][j] = number(j * 31 + i);
    }
    return arg;
}

static rg_ctrl control(int32_t live) {
    return (rg_ctrl){
        .live = live, .blocks = (live + RG_BLOCK - 1) / RG_BLOCK, .scalar = {1, 1, 1, 1, 1, 1}};
}

/* ---- text ---- */

static char *printed(const rg_kdesc *desc, bool with_variant) {
    rg_text text = {0};
    rg_kdesc_print(&text, desc, with_variant);
    assert_false(text.failed);
    char *copy = rg_arena_strdup(ctx.arena, text.data);
    assert_non_null(copy);
    rg_text_free(&text);
    return copy;
}

static void test_text_is_the_agreed_lua_table(void **state) {
    (void)state;
    rg_expr expr;
    rg_expr_init(&expr, ctx.arena);
    int32_t x = rg_expr_leaf(&expr, RG_EXPR_ARG, 0), tenth = rg_expr_const(&expr, 0.1);
    int32_t root = rg_expr_binary(&expr, RG_EXPR_MAX, x, tenth);
    rg_kout out = {RG_KOUT_STORE, root, 1, 0, -1};
    rg_ksite site = {3, 2, 5, expr, -1, 1, &out};
    rg_karg arg[2] = {{.layout = RG_LAYOUT_ACT, .read = true, .h = 3, .w = 2, .c = 5, .cp = 16},
                      {.layout = RG_LAYOUT_ACT, .written = true, .h = 3, .w = 2, .c = 5, .cp = 16}};
    rg_kdesc desc = {.kind = RG_K_MAP,
                     .name = "map_max",
                     .arg_count = 2,
                     .arg = arg,
                     .site_count = 1,
                     .site = &site,
                     .index_arg = -1};
    assert_string_equal(
        printed(&desc, true),
        "{\n"
        "  kind = \"map\", name = \"map_max\",\n"
        "  arg_count = 2, arg = {\n"
        "    [0] = {layout = \"act\", read = true, written = false, h = 3, w = 2, c = 5, cp = "
        "16},\n"
        "    [1] = {layout = \"act\", read = false, written = true, h = 3, w = 2, c = 5, cp = "
        "16},\n"
        "  },\n"
        "  site_count = 1, site = {\n"
        "    [0] = {h = 3, w = 2, c = 5, root = -1, expr_count = 3, out_count = 1,\n"
        "      expr = {[0] = {op = \"arg\", leaf = 0}, [1] = {op = \"const\", value = "
        "0x1.999999999999ap-4}, "
        "[2] = {op = \"max\", a = 0, b = 1}},\n"
        "      out = {\n"
        "        [0] = {kind = \"store\", root = 2, arg = 1, axes = \"\", row = -1},\n"
        "      }},\n"
        "  },\n"
        "  contr_count = 0, contr = {\n"
        "  },\n"
        "  fin_count = 0, fin = {\n"
        "  },\n"
        "}\n");
}

static void test_text_leaves_cost_and_variant_out_of_the_question(void **state) {
    (void)state;
    int32_t count;
    rg_case *cases = all_cases(&count);
    rg_kdesc one = cases[0].desc, two = cases[0].desc;
    one.variant = (rg_kvariant){.name = "direct", .file = "f", .isa = "avx2", .cost_us = 1};
    two.variant = (rg_kvariant){.name = "direct", .file = "f", .isa = "avx2", .cost_us = 2};
    assert_string_equal(printed(&one, true), printed(&two, true));
    two.variant.name = "wino4";
    assert_string_not_equal(printed(&one, true), printed(&two, true));
    assert_string_equal(printed(&one, false), printed(&two, false));
}

/* ---- checks ---- */

static void test_every_case_is_a_right_description(void **state) {
    (void)state;
    int32_t count;
    rg_case *cases = all_cases(&count);
    for (int32_t i = 0; i < count; i++)
        if (rg_kdesc_check(&ctx, &cases[i].desc) != RG_OK)
            fail_msg("case %d (%s): %s", i, cases[i].label, ctx.last->text);
}

/* Each number that decides about memory, set wrong: refused with one line. */
static void test_wrong_descriptions_are_refused(void **state) {
    (void)state;
    int32_t count;
    rg_case *cases = all_cases(&count);
    rg_kdesc *desc = NULL;
    for (int32_t i = 0; i < count && !desc; i++)
        if (cases[i].desc.kind == RG_K_CONV && cases[i].desc.site[1].out_count > 1)
            desc = &cases[i].desc;
    assert_non_null(desc);
    rg_ksite *last = &desc->site[1];
    const struct {
        int32_t *at, value;
    } wrong[] = {
        {&desc->arg[0].cp, desc->arg[0].c - 1},
        {&desc->arg[0].h, 0},
        {&desc->arg[1].kb, 0},
        {&desc->arg[1].k, desc->arg[1].k + 1},
        {&desc->contr[0].site, 1},
        {&desc->contr[0].w_arg, 99},
        {&desc->contr[0].gh.div, 0},
        {&desc->contr[0].r, 9},
        {&desc->contr[0].acc, 1},
        {&last->c, last->c + 1},
        {&last->h, last->h + 2},
        {&last->out[0].root, 99},
        {&last->out[0].arg, -1},
        {&last->out[0].arg, 0},
        {&last->expr.node[0].leaf, 7},
        {&desc->site[0].root, -1},
        {&desc->site[0].expr.node[0].leaf, 99},
        {&desc->index_arg, 0},
        {&desc->site_count, 1},
        {&desc->fin_count, 1},
        {&desc->arg_count, 0},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int32_t right = *wrong[i].at;
        *wrong[i].at = wrong[i].value;
        int before = ctx.count;
        if (rg_kdesc_check(&ctx, desc) != RG_E_INTERNAL) fail_msg("wrong number %zu is taken", i);
        assert_int_equal(ctx.count, before + 1);
        *wrong[i].at = right;
    }
    assert_int_equal(rg_kdesc_check(&ctx, desc), RG_OK);
}

/* ---- counts ---- */

static void test_counts_are_those_of_the_direct_algorithm(void **state) {
    (void)state;
    const rg_conv_shape shape = {22, 22, 64, 64, 3, 3, 1, 1, 1},
                        strided = {22, 22, 64, 128, 3, 3, 2, 1, 1};
    rg_case fprop, dgrad, wgrad;
    assert_true(rg_case_fprop(ctx.arena, 16, &shape, &fprop));
    assert_true(rg_case_wgrad(ctx.arena, 16, &shape, &wgrad));
    double all = 2.0 * 22 * 22 * 64 * 64 * 9, inside = 2.0 * 64 * 64 * 64 * 64;
    assert_true(rg_kdesc_flop(&fprop.desc, false) == all &&
                rg_kdesc_flop(&wgrad.desc, false) == all);
    assert_true(rg_kdesc_flop(&fprop.desc, true) == inside &&
                rg_kdesc_flop(&wgrad.desc, true) == inside);
    assert_true(rg_kdesc_bytes(&fprop.desc, 4) == 4.0 * (2.0 * 64 * 22 * 22 * 64 + 9 * 64 * 64));
    assert_true(rg_case_fprop(ctx.arena, 16, &strided, &fprop));
    assert_true(rg_case_dgrad(ctx.arena, 16, &strided, &dgrad));
    assert_true(rg_kdesc_flop(&fprop.desc, false) == rg_kdesc_flop(&dgrad.desc, false));
    assert_true(rg_kdesc_flop(&fprop.desc, true) == rg_kdesc_flop(&dgrad.desc, true));
}

/* ---- meaning ---- */

static void interpret(const rg_kdesc *desc, const rg_ctrl *ctrl, double **arg) {
    if (rg_kdesc_interpret(&ctx, desc, ctrl, arg) != RG_OK)
        fail_msg("%s: %s", desc->name, ctx.last->text);
}

static double dot_act(const rg_karg *arg, int32_t live, const double *a, const double *b) {
    double sum = 0;
    for (int32_t n = 0; n < live; n++)
        for (int32_t h = 0; h < arg->h; h++)
            for (int32_t w = 0; w < arg->w; w++)
                for (int32_t c = 0; c < arg->c; c++) {
                    int64_t at = rg_karg_index(arg, n, h, w, c);
                    sum += a[at] * b[at];
                }
    return sum;
}

static double dot_weights(const rg_karg *arg, const double *a, const double *b) {
    double sum = 0;
    for (int32_t k = 0; k < arg->k; k++)
        for (int32_t i = 0; i < arg->r * arg->s; i++)
            for (int32_t c = 0; c < arg->c; c++) {
                int64_t at = rg_karg_weight_index(arg, k, i / arg->s, i % arg->s, c);
                sum += a[at] * b[at];
            }
    return sum;
}

/* Turns (or transforms) a master weight as the argument `to` of a convolution wants it. */
static void pack(const rg_karg *master, const double *from, const rg_karg *to, double *into,
                 rg_kpack kind) {
    rg_karg pair[2] = {*master, *to};
    pair[0].layout = RG_LAYOUT_WEIGHT;
    pair[0].read = pair[1].written = true;
    rg_kdesc desc = {.kind = RG_K_PACK,
                     .name = "pack",
                     .arg_count = 2,
                     .arg = pair,
                     .index_arg = -1,
                     .pack = kind};
    double *copy =
        rg_arena_copy(ctx.arena, from, (size_t)rg_karg_elements(&pair[0], 1) * sizeof *from);
    assert_non_null(copy);
    rg_ctrl ctrl = control(1);
    interpret(&desc, &ctrl, (double *[]){copy, into});
}

static void test_gradients_are_adjoint_to_1e_12(void **state) {
    (void)state;
    rg_ctrl ctrl = control(19);
    for (int32_t i = 0; i < rg_conv_shape_count; i++) {
        rg_case fprop, dgrad, wgrad;
        assert_true(rg_case_fprop(ctx.arena, 16, &rg_conv_shapes[i], &fprop));
        assert_true(rg_case_dgrad(ctx.arena, 16, &rg_conv_shapes[i], &dgrad));
        assert_true(rg_case_wgrad(ctx.arena, 16, &rg_conv_shapes[i], &wgrad));
        double **f = numbers(&fprop.desc, 2), **d = numbers(&dgrad.desc, 2),
               **g = numbers(&wgrad.desc, 2);
        g[0] = f[0];
        g[1] = d[0];
        pack(&fprop.desc.arg[1], f[1], &dgrad.desc.arg[1], d[1], RG_KPACK_TURN);
        interpret(&fprop.desc, &ctrl, f);
        interpret(&dgrad.desc, &ctrl, d);
        interpret(&wgrad.desc, &ctrl, g);
        double by_y = dot_act(&fprop.desc.arg[2], 19, f[2], d[0]);
        assert_true(fabs(by_y - dot_act(&dgrad.desc.arg[2], 19, d[2], f[0])) <=
                    1e-12 * fabs(by_y) + 1e-9);
        assert_true(fabs(by_y - dot_weights(&wgrad.desc.arg[2], g[2], f[1])) <=
                    1e-12 * fabs(by_y) + 1e-9);
    }
}

/* The same convolution with transformed weights, forward and backward: only double's own rounding
 * differs. */
static void test_transformed_weights_mean_the_same_convolution(void **state) {
    (void)state;
    const rg_conv_shape *shape = &rg_conv_shapes[0];
    rg_ctrl ctrl = control(3);
    for (int32_t m = 2; m <= 6; m++)
        for (int back = 0; back < 2; back++) {
            rg_case master, direct, wino;
            assert_true(rg_case_fprop(ctx.arena, 16, shape, &master));
            assert_true((back ? rg_case_dgrad : rg_case_fprop)(ctx.arena, 16, shape, &direct));
            assert_true((back ? rg_case_dgrad : rg_case_fprop)(ctx.arena, 16, shape, &wino));
            rg_case_settle(&wino.desc, &(rg_kvariant){.complete = true}, m);
            double **from = numbers(&master.desc, 1), **a = numbers(&direct.desc, 1),
                   **b = numbers(&wino.desc, 1);
            if (back) pack(&master.desc.arg[1], from[1], &direct.desc.arg[1], a[1], RG_KPACK_TURN);
            pack(&master.desc.arg[1], from[1], &wino.desc.arg[1], b[1],
                 back ? RG_KPACK_WINO_TURN : RG_KPACK_WINO);
            interpret(&direct.desc, &ctrl, a);
            interpret(&wino.desc, &ctrl, b);
            const rg_karg *y = &direct.desc.arg[2];
            for (int32_t c = 0; c < y->c; c++)
                for (int32_t p = 0; p < y->h * y->w; p++) {
                    int64_t at = rg_karg_index(y, 2, p / y->w, p % y->w, c);
                    assert_true(fabs(a[2][at] - b[2][at]) < 1e-11);
                }
        }
}

/* The sum over taps and channels of one image's output, in plain loops: argument 0 times weights.
 */
static double plain_sum(const rg_kdesc *desc, const rg_kcontr *contr, double *const *arg, int32_t n,
                        int32_t p, int32_t q, int32_t k) {
    const rg_karg *x = &desc->arg[0], *w = &desc->arg[contr->w_arg];
    double sum = 0;
    for (int32_t r = 0; r < w->r; r++)
        for (int32_t s = 0; s < w->s; s++) {
            int32_t h = p * contr->gh.mul + r * contr->gh.tap_mul + contr->gh.off;
            int32_t v = q * contr->gw.mul + s * contr->gw.tap_mul + contr->gw.off;
            if (h < 0 || h >= x->h || v < 0 || v >= x->w) continue;
            for (int32_t c = 0; c < x->c; c++)
                sum += arg[0][rg_karg_index(x, n, h, v, c)] *
                       arg[contr->w_arg][rg_karg_weight_index(w, k, r, s, c)];
        }
    return sum;
}

/* Arguments 2 and 4 are the results, 5 what is made of both, 6 and 7 the biases. */
static void test_a_rider_is_a_sum_of_its_own(void **state) {
    (void)state;
    int32_t count;
    const rg_case *one = rg_rider_cases(ctx.arena, 16, &count) + 1; /* a plain operand */
    const rg_kdesc *desc = &one->desc;
    double **arg = numbers(desc, 1);
    rg_ctrl ctrl = control(one->live);
    interpret(desc, &ctrl, arg);
    const rg_karg *y = &desc->arg[2];
    int32_t n = one->live - 1;
    for (int32_t p = 0; p < y->h * y->w; p++)
        for (int32_t k = 0; k < y->c; k++) {
            int64_t at = rg_karg_index(y, n, p / y->w, p % y->w, k);
            double a = plain_sum(desc, &desc->contr[0], arg, n, p / y->w, p % y->w, k);
            double b = plain_sum(desc, &desc->contr[1], arg, n, p / y->w, p % y->w, k);
            assert_true(fabs(fmax(a + arg[6][k], 0) - arg[2][at]) < 1e-12);
            assert_true(fabs(b + arg[7][k] - arg[4][at]) < 1e-12);
            assert_true(fabs(fmax(a * (b + arg[7][k]), 0) - arg[5][at]) < 1e-12);
        }
}

static rg_case *find_case(const char *label) {
    int32_t count;
    rg_case *cases = all_cases(&count);
    for (int32_t i = 0; i < count; i++)
        if (strcmp(cases[i].label, label) == 0) return &cases[i];
    fail_msg("no case '%s'", label);
    return NULL;
}

/* Windows 3x3, stride 2, of a 9x7 image. */
static void test_maximum_takes_the_first_of_equals_and_nan_wins(void **state) {
    (void)state;
    rg_case *one = find_case("maximum");
    double **arg = numbers(&one->desc, 1);
    rg_ctrl ctrl = control(1);
    const rg_karg *x = &one->desc.arg[0], *y = &one->desc.arg[1];
    for (int32_t p = 0; p < 9 * 7; p++) arg[0][rg_karg_index(x, 0, p / 7, p % 7, 0)] = 5;
    arg[0][rg_karg_index(x, 0, 3, 3, 0)] = NAN;
    interpret(&one->desc, &ctrl, arg);
    assert_true(arg[1][rg_karg_index(y, 0, 0, 0, 0)] == 5);
    assert_true(arg[2][rg_karg_index(y, 0, 0, 0, 0)] == 0);
    assert_true(isnan(arg[1][rg_karg_index(y, 0, 1, 1, 0)]));
    assert_true(arg[2][rg_karg_index(y, 0, 1, 1, 0)] == 4);
}

/* Only live images count, and part 0 has everything. */
static void test_reductions_select_live_images(void **state) {
    (void)state;
    rg_case *one = find_case("residual add, moments");
    double **arg = numbers(&one->desc, 2);
    rg_ctrl ctrl = control(18);
    const rg_karg *x = &one->desc.arg[0], *out = &one->desc.arg[2], *part = &one->desc.arg[6];
    for (int32_t c = 0; c < x->c; c++)
        for (int32_t p = 0; p < x->h * x->w; p++)
            arg[0][rg_karg_index(x, 18, p / x->w, p % x->w, c)] = NAN;
    interpret(&one->desc, &ctrl, arg);
    double sum = 0, square = 0, count = 18.0 * out->h * out->w;
    for (int32_t n = 0; n < 18; n++)
        for (int32_t p = 0; p < out->h * out->w; p++)
            sum += arg[2][rg_karg_index(out, n, p / out->w, p % out->w, 3)];
    for (int32_t n = 0; n < 18; n++)
        for (int32_t p = 0; p < out->h * out->w; p++)
            square +=
                pow(arg[2][rg_karg_index(out, n, p / out->w, p % out->w, 3)] - sum / count, 2);
    assert_true(arg[6][3] == count);
    assert_true(fabs(arg[6][part->cp + 3] - sum / count) < 1e-12);
    assert_true(fabs(arg[6][2 * part->cp + 3] - square) < 1e-9);
    for (int64_t p = 1; p < 2 * part->parts_per_block; p++) {
        assert_true(arg[6][p * 3 * part->cp + 3] == 0);
        assert_true(arg[7][p * part->cp + 3] == -INFINITY);
    }
}

/* Chan's rule over parts gives what the whole gives. */
static void test_gathered_moments_are_those_of_the_whole(void **state) {
    (void)state;
    rg_case *one = find_case("moments finalised");
    double **arg = numbers(&one->desc, 1), value[5][4], sum = 0, square = 0;
    rg_ctrl ctrl = control(16);
    const rg_karg *part = &one->desc.arg[0];
    assert_int_equal(part->parts_per_block, 5);
    for (int p = 0; p < 5; p++) {
        double mean = 0, m2 = 0;
        for (int i = 0; i < 4; i++) mean += (value[p][i] = number(p * 4 + i) + 3) / 4;
        for (int i = 0; i < 4; i++) m2 += pow(value[p][i] - mean, 2), sum += value[p][i];
        double *at = arg[0] + p * 3 * part->cp;
        at[0] = 4, at[part->cp] = mean, at[2 * part->cp] = m2;
    }
    for (int p = 0; p < 5; p++)
        for (int i = 0; i < 4; i++) square += pow(value[p][i] - sum / 20, 2);
    interpret(&one->desc, &ctrl, arg);
    assert_true(fabs(arg[1][0] - sum / 20) < 1e-12);
    assert_true(fabs(arg[2][0] - 1 / sqrt(square / 20 + 1e-5)) < 1e-9);
}

/* ---- bounds ---- */

static void test_a_comparison_too_close_to_call_counts_as_both_ways(void **state) {
    (void)state;
    rg_kval near = {1e-7, 1e-6}, far = {0.5, 1e-6}, zero = {0, 0}, ten = {10, 0};
    rg_kval open = rg_kval_apply(RG_EXPR_GT, near, zero, zero),
            sure = rg_kval_apply(RG_EXPR_GT, far, zero, zero);
    assert_true(open.e == 1 && sure.e == 0 && sure.v == 1);
    assert_true(rg_kval_apply(RG_EXPR_SELECT, open, ten, zero).e == 10);
    assert_true(rg_kval_apply(RG_EXPR_SELECT, sure, ten, zero).e == 0);
    assert_true(rg_kval_apply(RG_EXPR_GE, ten, ten, zero).e == 0);
    rg_kval dead = rg_kval_apply(RG_EXPR_MAX, (rg_kval){-1, 1e-6}, zero, zero);
    assert_true(dead.v == 0 && dead.e == 0);
}

/* Sums in f32 of numbers in f32 stay inside the bound, and the bound is not idle. */
static void test_bound_of_a_sum_holds(void **state) {
    (void)state;
    rg_kacc acc;
    rg_kacc_init(&acc);
    float sum = 0;
    for (int i = 0; i < 100000; i++) {
        float value = (float)number(i);
        sum += value;
        rg_kacc_add(&acc, (rg_kval){(double)value, 0});
    }
    rg_kval want = rg_kacc_sum(&acc);
    assert_true(fabs((double)sum - want.v) <= want.e);
    assert_true(want.e < 100);
    /* deviation 0.58 and reach 1 of terms whose mean size is 0.5: 3.2 times the sum's bound */
    assert_true(rg_kacc_mean(&acc).e <= 4 * want.e / 100000);
    rg_kacc_init(&acc);
    rg_kacc_add(&acc, (rg_kval){0, 0});
    rg_kacc_add(&acc, (rg_kval){0.1, 0});
    assert_true(rg_kacc_sum(&acc).e == 0);
}

/* ---- memory ---- */

static void test_running_out_of_memory_is_an_error(void **state) {
    (void)state;
    rg_case *one = find_case("softmax cross-entropy");
    double **arg = numbers(&one->desc, 1);
    rg_ctrl ctrl = control(5);
    rg_status status = RG_E_NOMEM;
    long n = 0;
    while (status == RG_E_NOMEM && n < 1000) {
        rg_arena_fail_after(++n);
        status = rg_kdesc_interpret(&ctx, &one->desc, &ctrl, arg);
        rg_arena_fail_after(0);
    }
    assert_int_equal(status, RG_OK);
    assert_true(n > 3);
}

/* The case `label`, three times in one launch. */
static rg_kdesc three_of(const char *label, rg_kdesc *one) {
    int32_t count, at = 0;
    rg_case *cases = all_cases(&count);
    rg_kdesc three;
    while (at < count && strcmp(cases[at].label, label) != 0) at++;
    assert_true(at < count);
    *one = cases[at].desc;
    assert_int_equal(rg_kdesc_repeat(&ctx, one, 3, &three), RG_OK);
    return three;
}

/* Each with its own arguments, and the bounds of its own. */
static void test_instances_mean_as_many_kernels(void **state) {
    (void)state;
    static const char *const labels[] = {"wgrad", "moments finalised"};
    rg_ctrl ctrl = control(20);
    for (size_t l = 0; l < 2; l++) {
        rg_kdesc one, three = three_of(labels[l], &one);
        double **all = numbers(&three, 2), **bound = numbers(&three, 2);
        double **apart = numbers(&three, 2), **own = numbers(&three, 2);
        assert_int_equal(rg_kdesc_interpret_bound(&ctx, &three, &ctrl, all, bound), RG_OK);
        for (int32_t a = 0; a < three.arg_count; a += one.arg_count)
            assert_int_equal(rg_kdesc_interpret_bound(&ctx, &one, &ctrl, apart + a, own + a),
                             RG_OK);
        for (int32_t a = 0; a < three.arg_count; a++) {
            size_t bytes = (size_t)rg_karg_elements(&three.arg[a], 2) * sizeof(double);
            assert_memory_equal(all[a], apart[a], bytes);
            assert_memory_equal(bound[a], own[a], bytes);
        }
        assert_true(rg_kdesc_flop(&three, true) == 3 * rg_kdesc_flop(&one, true));
        assert_true(rg_kdesc_bytes(&three, 2) == 3 * rg_kdesc_bytes(&one, 2));
    }
}

/* Their number and one's arguments, nothing else. */
static void test_text_of_instances_is_that_of_one_and_their_number(void **state) {
    (void)state;
    rg_kdesc one, three = three_of("wgrad", &one);
    assert_int_equal(three.arg_count, 3 * one.arg_count);
    strcpy(three.name, one.name);
    char *text = printed(&three, false), *line = strstr(text, "  instances = 3,\n");
    assert_non_null(line);
    const char *rest = line + strlen("  instances = 3,\n");
    memmove(line, rest, strlen(rest) + 1);
    assert_string_equal(text, printed(&one, false));
}

static void test_wrong_instances_are_refused(void **state) {
    (void)state;
    rg_kdesc one, three = three_of("wgrad", &one), more;
    assert_int_equal(rg_kdesc_check(&ctx, &three), RG_OK);
    three.arg_count--;
    assert_int_equal(rg_kdesc_check(&ctx, &three), RG_E_INTERNAL);
    three.arg_count++;
    three.instances = -3;
    assert_int_equal(rg_kdesc_check(&ctx, &three), RG_E_INTERNAL);
    three.instances = INT32_MAX;
    assert_int_equal(rg_kdesc_check(&ctx, &three), RG_E_INTERNAL);
    three.instances = 3;
    three.arg[one.arg_count].h++; /* not like the first's */
    assert_int_equal(rg_kdesc_check(&ctx, &three), RG_E_INTERNAL);
    three.arg[one.arg_count].h--;
    assert_int_equal(rg_kdesc_check(&ctx, &three), RG_OK);
    assert_int_equal(rg_kdesc_repeat(&ctx, &three, 2, &more), RG_E_INTERNAL);
    assert_int_equal(rg_kdesc_repeat(&ctx, &one, 1, &more), RG_E_INTERNAL);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_text_is_the_agreed_lua_table),
        TEST(test_text_leaves_cost_and_variant_out_of_the_question),
        TEST(test_every_case_is_a_right_description),
        TEST(test_wrong_descriptions_are_refused),
        TEST(test_counts_are_those_of_the_direct_algorithm),
        TEST(test_gradients_are_adjoint_to_1e_12),
        TEST(test_transformed_weights_mean_the_same_convolution),
        TEST(test_a_rider_is_a_sum_of_its_own),
        TEST(test_maximum_takes_the_first_of_equals_and_nan_wins),
        TEST(test_reductions_select_live_images),
        TEST(test_gathered_moments_are_those_of_the_whole),
        TEST(test_a_comparison_too_close_to_call_counts_as_both_ways),
        TEST(test_bound_of_a_sum_holds),
        TEST(test_running_out_of_memory_is_an_error),
        TEST(test_instances_mean_as_many_kernels),
        TEST(test_text_of_instances_is_that_of_one_and_their_number),
        TEST(test_wrong_instances_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
