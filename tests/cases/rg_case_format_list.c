/* The cases of one format. */
#include <math.h>
#include <string.h>

#include "rg_case_build.h"

enum { CASES = 192 };

/* Of no tile's size: larger in each direction, and smaller; as residual networks have them. */
static const rg_conv_shape shapes[] = {
    /*h   w   c   k  r  s  stride pad dilation */
    {7, 5, 16, 48, 3, 3, 1, 1, 1}, {9, 8, 40, 64, 3, 3, 2, 1, 1},   {13, 11, 3, 16, 7, 7, 2, 0, 1},
    {5, 6, 64, 48, 1, 1, 1, 0, 1}, {7, 7, 16, 64, 1, 1, 2, 0, 1},   {3, 3, 40, 10, 3, 3, 1, 0, 1},
    {9, 8, 16, 16, 3, 3, 1, 2, 2}, {8, 6, 3, 48, 5, 5, 1, 2, 1},    {6, 6, 40, 16, 5, 3, 1, 1, 1},
    {1, 1, 64, 10, 1, 1, 1, 0, 1}, {6, 17, 64, 160, 3, 3, 1, 1, 1}, {2, 2, 40, 80, 3, 3, 1, 1, 1},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

typedef struct list {
    rg_arena *arena;
    int32_t vector;
    rg_kformat format;
    rg_case *at;
    int32_t count;
    bool failed;
} list;

static void add_way(list *to, const rg_case *from, bool turned, bool held) {
    const rg_case_format way = {to->format, turned, held};
    if (!to->failed) to->failed = !rg_case_in_format(to->arena, from, &way, &to->at[to->count++]);
}

/* ---- convolutions ---- */

/* The image's own gradient is never made. One dgrad reads weights of its own, in two ways. */
static void add_convolutions(list *to) {
    static const int32_t live[] = {17, 1, 40};
    rg_case *from = RG_NEW_ARRAY(to->arena, rg_case, 4 * SHAPES + 1);
    int32_t count = 0;
    to->failed |=
        !from || !cases_conv_shapes(to->arena, to->vector, shapes, SHAPES, live, from, &count);
    for (int32_t i = 0; !to->failed && i < count; i++) {
        const rg_conv_shape *s = &shapes[i / 4 % SHAPES];
        if (from[i].dgrad && s->c == 3) continue;
        add_way(to, &from[i], true, i / 4 % 2 == 0);
    }
}

static void add_riders(list *to) {
    int32_t count = 0;
    const rg_case *from = rg_rider_cases(to->arena, to->vector, &count);
    to->failed |= !from;
    for (int32_t i = 0; !to->failed && i < count; i++) add_way(to, &from[i], false, i % 2 == 0);
}

/* ---- element by element ---- */

static bool is_elementwise(const rg_case *one) {
    static const char *const labels[] = {"residual", "operators",     "broadcasts", "squeeze",
                                         "maximum",  "gradient of a", "average"};
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++)
        if (strncmp(one->label, labels[i], strlen(labels[i])) == 0) return true;
    return false;
}

static void add_elementwise(list *to) {
    int32_t count, taken = 0;
    rg_case *from = rg_cases(to->arena, to->vector, &count);
    to->failed |= !from;
    /* The formats of 16 bits differ in the names of two functions: of one of them a few do. */
    int32_t step = to->format == RG_KFORMAT_BF16 ? 1 : 5;
    for (int32_t i = 0; !to->failed && i < count; i++)
        if (is_elementwise(&from[i]) && taken++ % step == 0) add_way(to, &from[i], false, false);
}

/* ---- runs ---- */

/* p -= lr * m, m the mean of gradients times a factor, nothing where that is 0; and p once more,
 * rounded. */
static bool optimiser(list *to, int64_t length, rg_case *one) {
    *one = (rg_case){.label = "optimiser with a copy", .live = 16};
    build b = build_new(to->arena, to->vector, &one->desc, RG_K_VEC, "sgd");
    int32_t p = build_flat(&b, length, READ), g = build_flat(&b, length, READ),
            m = build_flat(&b, length, READ), factor = build_flat(&b, 1, READ);
    int32_t new_p = build_flat(&b, length, WRITE), new_m = build_flat(&b, length, WRITE),
            copy = build_flat(&b, length, WRITE);
    b.desc->arg[copy].type = rg_kformat_type(to->format);
    build_site(&b, 1, 1, (int32_t)length);
    int32_t good = ex2(&b, RG_EXPR_GT, ex_arg(&b, factor), ex_const(&b, 0));
    int32_t scaled = ex2(&b, RG_EXPR_MUL, ex_arg(&b, g), ex_arg(&b, factor));
    int32_t mean = ex3(&b, RG_EXPR_FMA, ex_arg(&b, m), ex_const(&b, 0.9), scaled);
    int32_t step = ex2(&b, RG_EXPR_MUL, mean, ex_leaf(&b, RG_EXPR_CTRL, RG_CTRL_LR));
    int32_t moved = ex2(&b, RG_EXPR_SUB, ex_arg(&b, p), step);
    moved = ex3(&b, RG_EXPR_SELECT, good, moved, ex_arg(&b, p));
    build_out(&b, RG_KOUT_STORE, moved, new_p, 0);
    build_out(&b, RG_KOUT_STORE, ex3(&b, RG_EXPR_SELECT, good, mean, ex_arg(&b, m)), new_m, 0);
    build_out(&b, RG_KOUT_STORE, ex1(&b, rg_kformat_rounding(to->format), moved), copy, 0);
    return !b.failed;
}

static bool rounded_copy(list *to, int64_t length, rg_case *one) {
    *one = (rg_case){.label = "copy of the parameters", .live = 16};
    build b = build_new(to->arena, to->vector, &one->desc, RG_K_VEC, "round_weights");
    int32_t p = build_flat(&b, length, READ), copy = build_flat(&b, length, WRITE);
    b.desc->arg[copy].type = rg_kformat_type(to->format);
    build_site(&b, 1, 1, (int32_t)length);
    build_out(&b, RG_KOUT_STORE, ex1(&b, rg_kformat_rounding(to->format), ex_arg(&b, p)), copy, 0);
    return !b.failed;
}

static bool largest(list *to, int64_t length, rg_case *one) {
    *one = (rg_case){.label = "largest of a run", .live = 40};
    build b = build_new(to->arena, to->vector, &one->desc, RG_K_VEC, "largest_gradient");
    int32_t g = build_flat(&b, length, READ), part = build_part(&b, 1, 1, WRITE);
    build_site(&b, 1, 1, (int32_t)length);
    build_out(&b, RG_KOUT_MAX, ex1(&b, RG_EXPR_ABS, ex_arg(&b, g)), part, RG_AXES_NHW | RG_AXIS_C);
    return !b.failed;
}

/* The loss scale: doubled, or halved where the largest gradient is not finite. */
static bool next_scale(list *to, rg_case *one) {
    *one = (rg_case){.label = "loss scale", .live = 40};
    build b = build_new(to->arena, to->vector, &one->desc, RG_K_VEC, "loss_scale_next");
    int32_t scale = build_flat(&b, 1, READ), part = build_part(&b, 1, 1, READ),
            next = build_flat(&b, 1, WRITE), factor = build_flat(&b, 1, WRITE);
    build_fin(&b, RG_KFIN_MAX, part);
    build_site(&b, 1, 1, 1);
    int32_t old = ex_arg(&b, scale), one_over = ex2(&b, RG_EXPR_DIV, ex_const(&b, 1), old);
    int32_t finite =
        ex2(&b, RG_EXPR_GT, ex_const(&b, (double)INFINITY), ex_leaf(&b, RG_EXPR_FIN, 0));
    int32_t twice = ex2(&b, RG_EXPR_MUL, old, ex_const(&b, 2)),
            half = ex2(&b, RG_EXPR_MUL, old, ex_const(&b, 0.5));
    build_out(&b, RG_KOUT_STORE, ex3(&b, RG_EXPR_SELECT, finite, twice, half), next, 0);
    build_out(&b, RG_KOUT_STORE, ex3(&b, RG_EXPR_SELECT, finite, one_over, ex_const(&b, 0)), factor,
              0);
    return !b.failed;
}

static void add_runs(list *to) {
    static const int64_t lengths[] = {9999, 4096, 3};
    for (int i = 0; i < 3 && !to->failed; i++) {
        to->failed = !optimiser(to, lengths[i], &to->at[to->count]) ||
                     !rounded_copy(to, lengths[i], &to->at[to->count + 1]);
        to->count += 2;
    }
    if (to->failed || to->format != RG_KFORMAT_F16) return;
    to->failed = !largest(to, 99996, &to->at[to->count]) || !next_scale(to, &to->at[to->count + 1]);
    to->count += 2;
}

rg_case *rg_format_cases(rg_arena *arena, int32_t vector, rg_kformat format, int32_t *count) {
    list to = {.arena = arena, .vector = vector, .format = format};
    to.at = RG_NEW_ARRAY(arena, rg_case, CASES);
    to.failed = !to.at;
    add_convolutions(&to);
    if (format != RG_KFORMAT_TF32) add_elementwise(&to); /* tf32 leaves those as they are */
    add_runs(&to);
    add_riders(&to);
    *count = to.count;
    return to.failed ? NULL : to.at;
}
