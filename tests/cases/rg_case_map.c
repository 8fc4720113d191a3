/* Maps over pixels: element-wise trees, reductions over every set of axes, softmax with its rows.
 */
#include "rg_case_build.h"

typedef bool (*maker)(rg_arena *arena, int32_t vector, rg_case *to);

/* out = relu(x + relu(bn(y))), stored, and its moments. */
static bool residual(rg_arena *arena, int32_t vector, int32_t h, int32_t w, int32_t c,
                     rg_case *to) {
    *to = (rg_case){.label = "residual add, moments"};
    build b = build_new(arena, vector, &to->desc, RG_K_MAP, "map_residual");
    int32_t x = build_act(&b, h, w, c, READ), y = build_act(&b, h, w, c, READ),
            out = build_act(&b, h, w, c, WRITE);
    int32_t mean = build_vec(&b, c, READ), scale = build_vec(&b, c, READ),
            one = build_vec(&b, 1, READ);
    build_site(&b, h, w, c);
    int32_t centred = ex2(&b, RG_EXPR_SUB, ex_arg(&b, y), ex_arg(&b, mean));
    int32_t bn = ex_relu(&b, ex3(&b, RG_EXPR_FMA, centred, ex_arg(&b, scale), ex_arg(&b, one)));
    int32_t sum = ex_relu(&b, ex2(&b, RG_EXPR_ADD, bn, ex_arg(&b, x)));
    build_out(&b, RG_KOUT_STORE, sum, out, 0);
    build_out(&b, RG_KOUT_MOMENTS, sum, build_part(&b, c, 3, WRITE), RG_AXES_NHW);
    build_out(&b, RG_KOUT_MAX, sum, build_part(&b, c, 1, WRITE), RG_AXES_NHW);
    return !b.failed;
}

static bool residual_64(rg_arena *arena, int32_t vector, rg_case *to) {
    return residual(arena, vector, 9, 7, 64, to);
}

static bool residual_3(rg_arena *arena, int32_t vector, rg_case *to) {
    return residual(arena, vector, 13, 5, 3, to);
}

static bool residual_1(rg_arena *arena, int32_t vector, rg_case *to) {
    return residual(arena, vector, 4, 6, 1, to);
}

static bool residual_21(rg_arena *arena, int32_t vector, rg_case *to) {
    return residual(arena, vector, 5, 5, 21, to);
}

/* More channels than a tile has side by side, and not whole groups of them. */
static bool residual_180(rg_arena *arena, int32_t vector, rg_case *to) {
    return residual(arena, vector, 3, 4, 180, to);
}

/* Every operator once. */
static bool operators(rg_arena *arena, int32_t vector, rg_case *to) {
    *to = (rg_case){.label = "operators"};
    build b = build_new(arena, vector, &to->desc, RG_K_MAP, "map_operators");
    int32_t x = build_act(&b, 6, 5, 19, READ), y = build_act(&b, 6, 5, 19, READ),
            out = build_act(&b, 6, 5, 19, WRITE);
    int32_t other = build_act(&b, 6, 5, 19, WRITE);
    build_site(&b, 6, 5, 19);
    int32_t u = ex_arg(&b, x), v = ex_arg(&b, y);
    int32_t positive = ex2(&b, RG_EXPR_ADD, ex1(&b, RG_EXPR_ABS, u), ex_const(&b, 0.1));
    int32_t s = ex2(&b, RG_EXPR_DIV, ex1(&b, RG_EXPR_SQRT, positive), ex1(&b, RG_EXPR_EXP, v));
    s = ex2(&b, RG_EXPR_ADD, s, ex1(&b, RG_EXPR_LOG, positive));
    s = ex2(&b, RG_EXPR_SUB, s, ex1(&b, RG_EXPR_RSQRT, positive));
    s = ex3(&b, RG_EXPR_FMA, s, ex1(&b, RG_EXPR_TANH, u),
            ex1(&b, RG_EXPR_SIGMOID, ex1(&b, RG_EXPR_NEG, v)));
    int32_t t = ex2(&b, RG_EXPR_MIN, ex2(&b, RG_EXPR_MAX, u, v), ex_const(&b, 0.5));
    int32_t sign = ex2(&b, RG_EXPR_GE, u, v), more = ex2(&b, RG_EXPR_GT, u, ex_const(&b, 0.25));
    t = ex2(&b, RG_EXPR_MUL, t, ex2(&b, RG_EXPR_ADD, sign, ex2(&b, RG_EXPR_EQ, u, v)));
    build_out(&b, RG_KOUT_STORE, s, out, 0);
    build_out(&b, RG_KOUT_STORE, ex3(&b, RG_EXPR_SELECT, more, t, v), other, 0);
    return !b.failed;
}

/* Coordinates, control values, and every way in which an argument may be smaller than the space. */
static bool broadcasts(rg_arena *arena, int32_t vector, rg_case *to) {
    *to = (rg_case){.label = "broadcasts"};
    build b = build_new(arena, vector, &to->desc, RG_K_MAP, "map_broadcasts");
    int32_t out = build_act(&b, 5, 3, 24, WRITE), sum;
    const int32_t in[] = {build_act(&b, 1, 1, 24, READ), build_act(&b, 5, 1, 24, READ),
                          build_act(&b, 1, 3, 1, READ),  build_act(&b, 1, 1, 1, READ),
                          build_vec(&b, 24, READ),       build_vec(&b, 1, READ)};
    build_site(&b, 5, 3, 24);
    sum = ex_leaf(&b, RG_EXPR_CTRL, RG_CTRL_INV_COUNT);
    for (int32_t axis = 0; axis < 4; axis++)
        sum = ex3(&b, RG_EXPR_FMA, ex_leaf(&b, RG_EXPR_INDEX, axis),
                  ex_const(&b, 0.125 * (axis + 1)), sum);
    for (int i = 0; i < 6; i++)
        sum = ex3(&b, RG_EXPR_FMA, ex_arg(&b, in[i]), ex_const(&b, 1.5), sum);
    build_out(&b, RG_KOUT_STORE, sum, out, 0);
    return !b.failed;
}

/* Squeeze: mean over H and W of each image and channel; then a gate made of it, over more pixels,
 * is another kernel. */
static bool squeeze(rg_arena *arena, int32_t vector, int32_t c, rg_case *to) {
    *to = (rg_case){.label = "squeeze"};
    build b = build_new(arena, vector, &to->desc, RG_K_MAP, "map_squeeze");
    int32_t x = build_act(&b, 7, 6, c, READ), sum = build_act(&b, 1, 1, c, WRITE),
            max = build_act(&b, 1, 1, c, WRITE);
    int32_t whole = build_part(&b, 1, 1, WRITE), largest = build_part(&b, 1, 1, WRITE);
    build_site(&b, 7, 6, c);
    int32_t v = ex_relu(&b, ex_arg(&b, x));
    build_out(&b, RG_KOUT_SUM, v, sum, RG_AXIS_H | RG_AXIS_W);
    build_out(&b, RG_KOUT_MAX, ex_arg(&b, x), max, RG_AXIS_H | RG_AXIS_W);
    build_out(&b, RG_KOUT_SUM, v, whole, RG_AXES_NHW | RG_AXIS_C);
    build_out(&b, RG_KOUT_MAX, v, largest, RG_AXES_NHW | RG_AXIS_C);
    return !b.failed;
}

static bool squeeze_48(rg_arena *arena, int32_t vector, rg_case *to) {
    return squeeze(arena, vector, 48, to);
}

static bool squeeze_10(rg_arena *arena, int32_t vector, rg_case *to) {
    return squeeze(arena, vector, 10, to);
}

static bool squeeze_150(rg_arena *arena, int32_t vector, rg_case *to) {
    return squeeze(arena, vector, 150, to);
}

/* Softmax cross-entropy with label smoothing, its gradient and the count of right answers: rows,
 * then rows of rows. */
static bool loss(rg_arena *arena, int32_t vector, int32_t h, int32_t k, rg_case *to) {
    *to = (rg_case){.label = "softmax cross-entropy"};
    build b = build_new(arena, vector, &to->desc, RG_K_MAP, "map_loss");
    int32_t x = build_act(&b, h, h, k, READ), label = build_act(&b, h, h, 1, READ),
            grad = build_act(&b, h, h, k, WRITE);
    int32_t total = build_part(&b, 1, 1, WRITE), right = build_part(&b, 1, 1, WRITE);
    build_site(&b, h, h, k);
    build_row(&b, RG_KOUT_MAX, ex_arg(&b, x), 0);
    build_site(&b, h, h, k);
    int32_t shifted = ex2(&b, RG_EXPR_SUB, ex_arg(&b, x), ex_leaf(&b, RG_EXPR_ROW, 0));
    int32_t hot = ex2(&b, RG_EXPR_EQ, ex_leaf(&b, RG_EXPR_INDEX, 3), ex_arg(&b, label));
    build_row(&b, RG_KOUT_SUM, ex1(&b, RG_EXPR_EXP, shifted), 1);
    build_row(&b, RG_KOUT_SUM, ex3(&b, RG_EXPR_SELECT, hot, shifted, ex_const(&b, 0)), 2);
    build_site(&b, h, h, k);
    shifted = ex2(&b, RG_EXPR_SUB, ex_arg(&b, x), ex_leaf(&b, RG_EXPR_ROW, 0));
    hot = ex2(&b, RG_EXPR_EQ, ex_leaf(&b, RG_EXPR_INDEX, 3), ex_arg(&b, label));
    int32_t p = ex2(&b, RG_EXPR_DIV, ex1(&b, RG_EXPR_EXP, shifted), ex_leaf(&b, RG_EXPR_ROW, 1));
    int32_t away = ex2(&b, RG_EXPR_SUB, p, hot);
    build_out(&b, RG_KOUT_STORE,
              ex2(&b, RG_EXPR_MUL, away, ex_leaf(&b, RG_EXPR_CTRL, RG_CTRL_INV_COUNT)), grad, 0);
    build_site(&b, h, h, 1);
    int32_t nll = ex2(&b, RG_EXPR_SUB, ex1(&b, RG_EXPR_LOG, ex_leaf(&b, RG_EXPR_ROW, 1)),
                      ex_leaf(&b, RG_EXPR_ROW, 2));
    build_out(&b, RG_KOUT_SUM, nll, total, RG_AXES_NHW);
    build_out(&b, RG_KOUT_SUM, ex2(&b, RG_EXPR_GE, ex_leaf(&b, RG_EXPR_ROW, 2), ex_const(&b, 0)),
              right, RG_AXES_NHW);
    return !b.failed;
}

static bool loss_10(rg_arena *arena, int32_t vector, rg_case *to) {
    return loss(arena, vector, 1, 10, to);
}

static bool loss_37(rg_arena *arena, int32_t vector, rg_case *to) {
    return loss(arena, vector, 3, 37, to);
}

static bool loss_200(rg_arena *arena, int32_t vector, rg_case *to) {
    return loss(arena, vector, 1, 200, to);
}

void cases_map(rg_arena *arena, int32_t vector, rg_case *list, int32_t *count) {
    static const maker make[] = {residual_64, residual_3,  residual_1,  residual_21, operators,
                                 broadcasts,  squeeze_48,  squeeze_10,  loss_10,     loss_37,
                                 loss_200,    squeeze_150, residual_180};
    static const int32_t live[] = {37, 16, 5};
    if (*count < 0) return;
    for (size_t i = 0; i < sizeof make / sizeof *make; i++) {
        if (!make[i](arena, vector, &list[*count])) {
            *count = -1;
            return;
        }
        list[(*count)++].live = live[i % 3];
    }
}
