/* Windows, runs of elements, packed weights. */
#include "rg_case_build.h"

/* ---- windows ---- */

typedef struct window {
    int32_t h, w, c, taps, stride, pad;
} window;

static const window windows[] = {{9, 7, 64, 3, 2, 0}, {8, 8, 16, 2, 2, 0}, {7, 6, 20, 3, 2, 1},
                                 {3, 3, 32, 3, 3, 0}, {6, 5, 3, 3, 1, 1},  {4, 4, 1, 2, 1, 0},
                                 {4, 5, 150, 2, 2, 1}};

static int32_t out_extent(int32_t in, const window *v) {
    return (in + 2 * v->pad - v->taps) / v->stride + 1;
}

static void forward(build *b, const window *v) {
    rg_kgeom geom = {v->stride, 1, -v->pad, 1};
    build_contr(b, 0, -1, v->taps, v->taps, geom, geom);
}

static void backward(build *b, const window *v) {
    rg_kgeom geom = {1, -1, v->pad, v->stride};
    build_contr(b, 0, -1, v->taps, v->taps, geom, geom);
}

/* Maximum of relu(x * scale + shift), which the prologue stores; value, index, moments. */
static bool max_pool(rg_arena *arena, int32_t vector, const window *v, bool fused, rg_case *to) {
    int32_t p = out_extent(v->h, v), q = out_extent(v->w, v);
    *to = (rg_case){.label = fused ? "maximum with prologue" : "maximum"};
    build b = build_new(arena, vector, &to->desc, RG_K_WINDOW, "maxpool");
    to->desc.window = RG_KWINDOW_MAX;
    int32_t x = build_act(&b, v->h, v->w, v->c, READ), y = build_act(&b, p, q, v->c, WRITE),
            index = build_act(&b, p, q, v->c, WRITE);
    rg_ksite *site = build_site(&b, v->h, v->w, v->c);
    site->root = ex_arg(&b, x);
    if (fused) {
        int32_t scale = build_vec(&b, v->c, READ), shift = build_vec(&b, v->c, READ);
        site->root =
            ex_relu(&b, ex3(&b, RG_EXPR_FMA, site->root, ex_arg(&b, scale), ex_arg(&b, shift)));
        build_out(&b, RG_KOUT_STORE, site->root, build_act(&b, v->h, v->w, v->c, WRITE), 0);
        build_out(&b, RG_KOUT_SUM, site->root, build_part(&b, v->c, 1, WRITE), RG_AXES_NHW);
    }
    forward(&b, v);
    build_site(&b, p, q, v->c);
    build_out(&b, RG_KOUT_STORE, ex_leaf(&b, RG_EXPR_ACC, 0), y, 0);
    build_out(&b, RG_KOUT_STORE, ex_leaf(&b, RG_EXPR_ACC, 1), index, 0);
    if (fused)
        build_out(&b, RG_KOUT_MOMENTS, ex_leaf(&b, RG_EXPR_ACC, 0), build_part(&b, v->c, 3, WRITE),
                  RG_AXES_NHW);
    return !b.failed;
}

/* dx of a maximum, masked by what comes before it, with its sum. */
static bool max_grad(rg_arena *arena, int32_t vector, const window *v, rg_case *to) {
    int32_t p = out_extent(v->h, v), q = out_extent(v->w, v);
    *to = (rg_case){.label = "gradient of a maximum"};
    build b = build_new(arena, vector, &to->desc, RG_K_WINDOW, "maxpool_grad");
    to->desc.window = RG_KWINDOW_MAXGRAD;
    int32_t dy = build_act(&b, p, q, v->c, READ), g = build_act(&b, p, q, v->c, READ);
    to->desc.index_arg = build_act(&b, p, q, v->c, READ);
    int32_t dx = build_act(&b, v->h, v->w, v->c, WRITE), x = build_act(&b, v->h, v->w, v->c, READ);
    rg_ksite *site = build_site(&b, p, q, v->c);
    site->root = ex2(&b, RG_EXPR_ADD, ex_arg(&b, dy), ex_arg(&b, g));
    backward(&b, v);
    build_site(&b, v->h, v->w, v->c);
    int32_t mask = ex2(&b, RG_EXPR_GT, ex_arg(&b, x), ex_const(&b, 0));
    int32_t dz = ex3(&b, RG_EXPR_SELECT, mask, ex_leaf(&b, RG_EXPR_ACC, 0), ex_const(&b, 0));
    build_out(&b, RG_KOUT_STORE, dz, dx, 0);
    build_out(&b, RG_KOUT_SUM, dz, build_part(&b, v->c, 1, WRITE), RG_AXES_NHW);
    return !b.failed;
}

static bool average(rg_arena *arena, int32_t vector, const window *v, bool grad, rg_case *to) {
    int32_t p = out_extent(v->h, v), q = out_extent(v->w, v);
    int32_t ih = grad ? p : v->h, iw = grad ? q : v->w, oh = grad ? v->h : p, ow = grad ? v->w : q;
    *to = (rg_case){.label = grad ? "gradient of an average" : "average"};
    build b = build_new(arena, vector, &to->desc, RG_K_WINDOW, grad ? "avgpool_grad" : "avgpool");
    to->desc.window = RG_KWINDOW_SUM;
    int32_t x = build_act(&b, ih, iw, v->c, READ), y = build_act(&b, oh, ow, v->c, WRITE);
    rg_ksite *site = build_site(&b, ih, iw, v->c);
    site->root = ex_arg(&b, x);
    if (grad)
        backward(&b, v);
    else
        forward(&b, v);
    build_site(&b, oh, ow, v->c);
    int32_t mean =
        ex2(&b, RG_EXPR_MUL, ex_leaf(&b, RG_EXPR_ACC, 0), ex_const(&b, 1.0 / (v->taps * v->taps)));
    build_out(&b, RG_KOUT_STORE, mean, y, 0);
    return !b.failed;
}

/* ---- runs ---- */

/* Batch norm's finalisation: mean, 1/sqrt(var + eps), running variance with the unbiased estimate.
 */
static bool finalise(rg_arena *arena, int32_t vector, int32_t c, rg_case *to) {
    *to = (rg_case){.label = "moments finalised"};
    build b = build_new(arena, vector, &to->desc, RG_K_VEC, "batch_norm_finalise");
    int32_t part = build_part(&b, c, 3, READ), mean = build_vec(&b, c, WRITE),
            invstd = build_vec(&b, c, WRITE);
    int32_t running = build_vec(&b, c, READ), updated = build_vec(&b, c, WRITE);
    build_fin(&b, RG_KFIN_MEAN, part);
    build_fin(&b, RG_KFIN_M2, part);
    build_fin(&b, RG_KFIN_COUNT, part);
    build_site(&b, 1, 1, c);
    int32_t m2 = ex_leaf(&b, RG_EXPR_FIN, 1), n = ex_leaf(&b, RG_EXPR_FIN, 2);
    int32_t var = ex2(&b, RG_EXPR_ADD, ex2(&b, RG_EXPR_DIV, m2, n), ex_const(&b, 1e-5));
    int32_t unbiased = ex2(&b, RG_EXPR_DIV, m2, ex2(&b, RG_EXPR_SUB, n, ex_const(&b, 1)));
    int32_t step = ex2(&b, RG_EXPR_SUB, unbiased, ex_arg(&b, running));
    build_out(&b, RG_KOUT_STORE, ex_leaf(&b, RG_EXPR_FIN, 0), mean, 0);
    build_out(&b, RG_KOUT_STORE, ex1(&b, RG_EXPR_RSQRT, var), invstd, 0);
    build_out(&b, RG_KOUT_STORE, ex3(&b, RG_EXPR_FMA, step, ex_const(&b, 0.1), ex_arg(&b, running)),
              updated, 0);
    return !b.failed;
}

/* Sums and maxima of parts, one value for all among them. */
static bool gathered(rg_arena *arena, int32_t vector, int32_t c, rg_case *to) {
    *to = (rg_case){.label = "parts gathered"};
    build b = build_new(arena, vector, &to->desc, RG_K_VEC, "gather");
    int32_t one = build_part(&b, c, 1, READ), two = build_part(&b, 1, 1, READ),
            out = build_vec(&b, c, WRITE);
    build_fin(&b, RG_KFIN_SUM, one);
    build_fin(&b, RG_KFIN_MAX, one);
    build_fin(&b, RG_KFIN_SUM, two);
    build_site(&b, 1, 1, c);
    int32_t sum = ex2(&b, RG_EXPR_MUL, ex_leaf(&b, RG_EXPR_FIN, 0),
                      ex_leaf(&b, RG_EXPR_CTRL, RG_CTRL_INV_COUNT));
    sum = ex2(&b, RG_EXPR_ADD, sum, ex_leaf(&b, RG_EXPR_FIN, 1));
    build_out(&b, RG_KOUT_STORE, ex2(&b, RG_EXPR_ADD, sum, ex_leaf(&b, RG_EXPR_FIN, 2)), out, 0);
    return !b.failed;
}

/* Weight gradients in parts, added up. */
static bool weights_gathered(rg_arena *arena, int32_t vector, rg_case *to) {
    *to = (rg_case){.label = "weight gradients gathered"};
    build b = build_new(arena, vector, &to->desc, RG_K_VEC, "wgrad_finish");
    int32_t dw = build_weight(&b, 24, 3, 3, 20, WRITE), part = build_partw(&b, dw, 1);
    build_fin(&b, RG_KFIN_SUM, part);
    build_site(&b, 1, 1, (int32_t)b.desc->arg[part].length);
    build_out(&b, RG_KOUT_STORE, ex_leaf(&b, RG_EXPR_FIN, 0), dw, 0);
    return !b.failed;
}

/* p -= lr * (m / bc1) / (sqrt(v / bc2) + eps) */
static bool adam(rg_arena *arena, int32_t vector, int64_t length, rg_case *to) {
    *to = (rg_case){.label = "Adam"};
    build b = build_new(arena, vector, &to->desc, RG_K_VEC, "adam");
    int32_t in[4], out[3];
    for (int i = 0; i < 4; i++) in[i] = build_flat(&b, length, READ);
    for (int i = 0; i < 3; i++) out[i] = build_flat(&b, length, WRITE);
    build_site(&b, 1, 1, (int32_t)length);
    int32_t g = ex_arg(&b, in[1]);
    int32_t m = ex3(&b, RG_EXPR_FMA, ex2(&b, RG_EXPR_SUB, g, ex_arg(&b, in[2])), ex_const(&b, 0.1),
                    ex_arg(&b, in[2]));
    int32_t square = ex2(&b, RG_EXPR_MUL, ex2(&b, RG_EXPR_MUL, g, g), ex_const(&b, 0.001));
    int32_t v = ex3(&b, RG_EXPR_FMA, ex_arg(&b, in[3]), ex_const(&b, 0.999), square);
    int32_t root =
        ex1(&b, RG_EXPR_SQRT, ex2(&b, RG_EXPR_DIV, v, ex_leaf(&b, RG_EXPR_CTRL, RG_CTRL_BC2)));
    int32_t step =
        ex2(&b, RG_EXPR_DIV, ex2(&b, RG_EXPR_DIV, m, ex_leaf(&b, RG_EXPR_CTRL, RG_CTRL_BC1)),
            ex2(&b, RG_EXPR_ADD, root, ex_const(&b, 1e-8)));
    int32_t moved = ex2(&b, RG_EXPR_MUL, step, ex_leaf(&b, RG_EXPR_CTRL, RG_CTRL_LR));
    build_out(&b, RG_KOUT_STORE, ex2(&b, RG_EXPR_SUB, ex_arg(&b, in[0]), moved), out[0], 0);
    build_out(&b, RG_KOUT_STORE, m, out[1], 0);
    build_out(&b, RG_KOUT_STORE, v, out[2], 0);
    return !b.failed;
}

/* ---- packing ---- */

static bool packed(rg_arena *arena, int32_t vector, rg_kpack kind, int32_t m, int32_t k,
                   int32_t taps, int32_t c, rg_case *to) {
    static const char *const label[] = {"weights turned", "weights transformed",
                                        "weights turned and transformed"};
    bool turn = kind != RG_KPACK_WINO;
    *to = (rg_case){.label = label[kind]};
    build b = build_new(arena, vector, &to->desc, RG_K_PACK, "pack");
    to->desc.pack = kind;
    build_weight(&b, k, taps, taps, c, READ);
    int32_t packed = build_weight(&b, turn ? c : k, taps, taps, turn ? k : c, WRITE);
    if (m > 0 && !b.failed) {
        to->desc.arg[packed].layout = RG_LAYOUT_WINO;
        to->desc.arg[packed].h = m;
    }
    return !b.failed;
}

static bool make_windows(rg_arena *arena, int32_t vector, rg_case *list, int32_t *count) {
    static const int32_t live[] = {19, 16, 3};
    bool ok = true;
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        const window *v = &windows[i];
        rg_case *at = &list[*count];
        ok &= max_pool(arena, vector, v, i % 2, &at[0]) && max_grad(arena, vector, v, &at[1]);
        ok &= average(arena, vector, v, false, &at[2]) && average(arena, vector, v, true, &at[3]);
        for (int j = 0; j < 4; j++) at[j].live = live[i % 3];
        *count += 4;
    }
    return ok;
}

static bool make_runs(rg_arena *arena, int32_t vector, rg_case *list, int32_t *count) {
    static const int32_t channels[] = {64, 10, 1, 3};
    rg_case *at = &list[*count];
    bool ok = true;
    for (int i = 0; i < 4; i++) {
        ok &= finalise(arena, vector, channels[i], at++);
        ok &= gathered(arena, vector, channels[i], at++);
    }
    ok &= weights_gathered(arena, vector, at++);
    ok &= adam(arena, vector, 9999, at++) && adam(arena, vector, 8192, at++) &&
          adam(arena, vector, 5, at++);
    for (rg_case *one = &list[*count]; one < at; one++) one->live = 35;
    *count = (int32_t)(at - list);
    return ok;
}

void cases_rest(rg_arena *arena, int32_t vector, rg_case *list, int32_t *count) {
    if (*count < 0) return;
    bool ok = make_windows(arena, vector, list, count) && make_runs(arena, vector, list, count);
    rg_case *at = &list[*count];
    ok &= packed(arena, vector, RG_KPACK_TURN, 0, 24, 3, 20, at++) &&
          packed(arena, vector, RG_KPACK_TURN, 0, 64, 1, 32, at++) &&
          packed(arena, vector, RG_KPACK_TURN, 0, 40, 2, 40, at++);
    for (int32_t m = 2; m <= 4; m += 2) {
        ok &= packed(arena, vector, RG_KPACK_WINO, m, 24, 3, 20, at++);
        ok &= packed(arena, vector, RG_KPACK_WINO_TURN, m, 40, 3, 32, at++);
    }
    for (rg_case *one = &list[*count]; one < at; one++) one->live = 16;
    *count = ok ? (int32_t)(at - list) : -1;
}
