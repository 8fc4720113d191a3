/* Convolutions, forward and both gradients, with the prologues and epilogues of residual networks.
 */
#include "rg_case_build.h"

const rg_conv_shape rg_conv_shapes[] = {
    /*h  w   c   k  r  s  stride pad dilation */
    {7, 5, 16, 32, 3, 3, 1, 1, 1},   {8, 9, 32, 16, 3, 3, 2, 1, 1}, {9, 9, 3, 16, 7, 7, 2, 0, 1},
    {5, 5, 24, 48, 1, 1, 1, 0, 1},   {7, 7, 16, 24, 1, 1, 2, 0, 1}, {3, 3, 20, 10, 3, 3, 1, 0, 1},
    {9, 8, 8, 16, 3, 3, 1, 2, 2},    {6, 6, 5, 7, 5, 3, 1, 1, 1},   {1, 1, 64, 10, 1, 1, 1, 0, 1},
    {11, 11, 32, 32, 3, 3, 1, 1, 1}, {2, 2, 40, 80, 3, 3, 1, 1, 1},
};
const int32_t rg_conv_shape_count = sizeof rg_conv_shapes / sizeof *rg_conv_shapes;

static int32_t out_extent(int32_t in, int32_t taps, const rg_conv_shape *s) {
    return (in + 2 * s->pad - s->dilation * (taps - 1) - 1) / s->stride + 1;
}

static rg_kgeom forward(const rg_conv_shape *s) {
    return (rg_kgeom){s->stride, s->dilation, -s->pad, 1};
}

static rg_kgeom backward(const rg_conv_shape *s) {
    return (rg_kgeom){1, -s->dilation, s->pad, s->stride};
}

/* ---- prologues: arguments 0 (operand) is there already ---- */

typedef enum prologue { PLAIN, BNRELU, BNRELU_STORE, RESIDUAL_STORE, BN_GRAD } prologue;

/* relu(fma(y - mean, scale, beta)) */
static int32_t bnrelu(build *b, int32_t x, int32_t c) {
    int32_t mean = build_vec(b, c, READ), scale = build_vec(b, c, READ),
            beta = build_vec(b, c, READ);
    int32_t centred = ex2(b, RG_EXPR_SUB, x, ex_arg(b, mean));
    return ex_relu(b, ex3(b, RG_EXPR_FMA, centred, ex_arg(b, scale), ex_arg(b, beta)));
}

/* scale * (dz - a - (y - mean) * b): what batch norm's gradient looks like from the next
 * convolution. */
static int32_t bn_grad(build *b, int32_t dz, int32_t h, int32_t w, int32_t c) {
    int32_t y = build_act(b, h, w, c, READ), mean = build_vec(b, c, READ),
            first = build_vec(b, c, READ);
    int32_t second = build_vec(b, c, READ), scale = build_vec(b, c, READ);
    int32_t centred = ex2(b, RG_EXPR_SUB, ex_arg(b, y), ex_arg(b, mean));
    int32_t rest = ex2(b, RG_EXPR_MUL, centred, ex_arg(b, second));
    int32_t left = ex2(b, RG_EXPR_SUB, ex2(b, RG_EXPR_SUB, dz, ex_arg(b, first)), rest);
    return ex2(b, RG_EXPR_MUL, ex_arg(b, scale), left);
}

static void add_prologue(build *b, prologue kind, int32_t arg, int32_t h, int32_t w, int32_t c) {
    rg_ksite *site = build_site(b, h, w, c);
    int32_t x = ex_arg(b, arg);
    if (kind == BNRELU || kind == BNRELU_STORE) x = bnrelu(b, x, c);
    if (kind == RESIDUAL_STORE)
        x = ex_relu(b,
                    ex2(b, RG_EXPR_ADD, bnrelu(b, x, c), ex_arg(b, build_act(b, h, w, c, READ))));
    if (kind == BN_GRAD) x = bn_grad(b, x, h, w, c);
    site->root = x;
    if (kind == BNRELU_STORE || kind == RESIDUAL_STORE)
        build_out(b, RG_KOUT_STORE, x, build_act(b, h, w, c, WRITE), 0);
}

/* ---- epilogues: the result is argument `y` ---- */

typedef enum epilogue { STORE, BIAS, MOMENTS, MASK_SUMS, ALL } epilogue;

/* dz = acc * (a > 0), sum dz, sum dz * (y - mean) * invstd */
static int32_t mask_sums(build *b, int32_t acc, int32_t h, int32_t w, int32_t c) {
    int32_t a = build_act(b, h, w, c, READ), mean = build_vec(b, c, READ),
            invstd = build_vec(b, c, READ);
    int32_t centred = ex2(b, RG_EXPR_SUB, ex_arg(b, a), ex_arg(b, mean));
    int32_t mask = ex2(b, RG_EXPR_GT, ex_arg(b, a), ex_const(b, 0));
    int32_t dz = ex3(b, RG_EXPR_SELECT, mask, acc, ex_const(b, 0));
    int32_t xhat = ex2(b, RG_EXPR_MUL, centred, ex_arg(b, invstd));
    build_out(b, RG_KOUT_SUM, dz, build_part(b, c, 1, WRITE), RG_AXES_NHW);
    build_out(b, RG_KOUT_SUM, ex2(b, RG_EXPR_MUL, dz, xhat), build_part(b, c, 1, WRITE),
              RG_AXES_NHW);
    return dz;
}

static void add_epilogue(build *b, epilogue kind, int32_t y, int32_t h, int32_t w, int32_t c) {
    build_site(b, h, w, c);
    int32_t acc = ex_leaf(b, RG_EXPR_ACC, 0);
    if (kind == BIAS || kind == ALL)
        acc = ex_relu(b, ex2(b, RG_EXPR_ADD, acc, ex_arg(b, build_vec(b, c, READ))));
    if (kind == MASK_SUMS || kind == ALL) acc = mask_sums(b, acc, h, w, c);
    build_out(b, RG_KOUT_STORE, acc, y, 0);
    if (kind == MOMENTS || kind == ALL)
        build_out(b, RG_KOUT_MOMENTS, acc, build_part(b, c, 3, WRITE), RG_AXES_NHW);
    if (kind == ALL) build_out(b, RG_KOUT_MAX, acc, build_part(b, c, 1, WRITE), RG_AXES_NHW);
}

/* ---- descriptions ---- */

static bool conv(rg_arena *arena, int32_t vector, const rg_conv_shape *s, bool dgrad,
                 prologue before, epilogue after, rg_case *to) {
    int32_t p = out_extent(s->h, s->r, s), q = out_extent(s->w, s->s, s);
    int32_t ih = dgrad ? p : s->h, iw = dgrad ? q : s->w, ic = dgrad ? s->k : s->c;
    int32_t oh = dgrad ? s->h : p, ow = dgrad ? s->w : q, oc = dgrad ? s->c : s->k;
    *to = (rg_case){.label = dgrad ? "dgrad" : "fprop", .dgrad = dgrad};
    build b =
        build_new(arena, vector, &to->desc, RG_K_CONV, dgrad ? "conv2d_dgrad" : "conv2d_fprop");
    int32_t x = build_act(&b, ih, iw, ic, READ), w = build_weight(&b, oc, s->r, s->s, ic, READ),
            y = build_act(&b, oh, ow, oc, WRITE);
    add_prologue(&b, before, x, ih, iw, ic);
    rg_kgeom geom = dgrad ? backward(s) : forward(s);
    build_contr(&b, 0, w, s->r, s->s, geom, geom);
    add_epilogue(&b, after, y, oh, ow, oc);
    return !b.failed;
}

static bool wgrad(rg_arena *arena, int32_t vector, const rg_conv_shape *s, prologue on_x,
                  prologue on_dy, bool bias, rg_case *to) {
    int32_t p = out_extent(s->h, s->r, s), q = out_extent(s->w, s->s, s);
    *to = (rg_case){.label = "wgrad"};
    build b = build_new(arena, vector, &to->desc, RG_K_WGRAD, "conv2d_wgrad");
    int32_t x = build_act(&b, s->h, s->w, s->c, READ), dy = build_act(&b, p, q, s->k, READ);
    int32_t dw = build_weight(&b, s->k, s->r, s->s, s->c, WRITE);
    add_prologue(&b, on_x, x, s->h, s->w, s->c);
    add_prologue(&b, on_dy, dy, p, q, s->k);
    if (bias)
        build_out(&b, RG_KOUT_SUM, b.desc->site[1].root, build_part(&b, s->k, 1, WRITE),
                  RG_AXES_NHW);
    build_contr(&b, 0, dw, s->r, s->s, forward(s), forward(s));
    return !b.failed;
}

bool rg_case_fprop(rg_arena *arena, int32_t vector, const rg_conv_shape *shape, rg_case *to) {
    return conv(arena, vector, shape, false, PLAIN, STORE, to);
}

bool rg_case_dgrad(rg_arena *arena, int32_t vector, const rg_conv_shape *shape, rg_case *to) {
    return conv(arena, vector, shape, true, PLAIN, STORE, to);
}

bool rg_case_wgrad(rg_arena *arena, int32_t vector, const rg_conv_shape *shape, rg_case *to) {
    return wgrad(arena, vector, shape, PLAIN, PLAIN, false, to);
}

/* A residual block's first convolution and its 1x1 shortcut add into one sum: two operands, two
 * lists of taps. */
static bool joined_dgrad(rg_arena *arena, int32_t vector, rg_case *to) {
    const rg_conv_shape three = {8, 7, 16, 32, 3, 3, 2, 1, 1}, one = {8, 7, 16, 32, 1, 1, 2, 0, 1};
    int32_t p = out_extent(8, 3, &three), q = out_extent(7, 3, &three);
    *to = (rg_case){.label = "dgrad of 3x3 and 1x1", .dgrad = true};
    build b = build_new(arena, vector, &to->desc, RG_K_CONV, "conv2d_dgrad_joined");
    int32_t dy = build_act(&b, p, q, 32, READ), w3 = build_weight(&b, 16, 3, 3, 32, READ),
            dx = build_act(&b, 8, 7, 16, WRITE);
    int32_t g = build_act(&b, p, q, 32, READ), w1 = build_weight(&b, 16, 1, 1, 32, READ);
    add_prologue(&b, BN_GRAD, dy, p, q, 32);
    add_prologue(&b, PLAIN, g, p, q, 32);
    build_contr(&b, 0, w3, 3, 3, backward(&three), backward(&three));
    build_contr(&b, 1, w1, 1, 1, backward(&one), backward(&one));
    add_epilogue(&b, MASK_SUMS, dx, 8, 7, 16);
    return !b.failed;
}

/* Every shape with a prologue and an epilogue that change from one to the next. */
bool cases_conv_shapes(rg_arena *arena, int32_t vector, const rg_conv_shape *shape, int32_t shapes,
                       const int32_t live[3], rg_case *list, int32_t *count) {
    static const prologue before[] = {PLAIN, BNRELU, BNRELU_STORE, RESIDUAL_STORE};
    static const epilogue after[] = {MOMENTS, STORE, MASK_SUMS, BIAS, ALL};
    bool ok = true;
    for (int32_t i = 0; i < shapes; i++) {
        const rg_conv_shape *s = &shape[i];
        rg_case *at = &list[*count];
        ok &= conv(arena, vector, s, false, before[i % 4], after[i % 5], &at[0]);
        ok &= conv(arena, vector, s, true, i % 2 ? BN_GRAD : PLAIN, after[(i + 2) % 5], &at[1]);
        ok &=
            wgrad(arena, vector, s, i % 2 ? BNRELU : PLAIN, i % 3 ? BN_GRAD : PLAIN, false, &at[2]);
        ok &= wgrad(arena, vector, s, before[(i + 1) % 4], i % 2 ? PLAIN : BN_GRAD, i % 3 == 0,
                    &at[3]);
        at[0].optional = at[3].optional = true;
        for (int j = 0; j < 4; j++) at[j].live = live[(i + j) % 3];
        *count += 4;
    }
    ok &= joined_dgrad(arena, vector, &list[*count]);
    list[(*count)++].live = 20;
    return ok;
}

/* Live images: part of a block, one, three. */
void cases_conv(rg_arena *arena, int32_t vector, rg_case *list, int32_t *count) {
    static const int32_t live[] = {11, 16, 37};
    if (!cases_conv_shapes(arena, vector, rg_conv_shapes, rg_conv_shape_count, live, list, count))
        *count = -1;
}

/* ---- two of one operand ---- */

/* The shape of a kernel's first contraction, and the filter of the one that rides. */
typedef struct ride {
    rg_conv_shape main;
    int32_t r, s, pad;
    prologue before;
    epilogue after; /* of the first sum */
    int32_t live;
} ride;

/* The second sum: with a bias, its maxima; and what is made of both. */
static void add_rider_epilogue(build *b, int32_t z, int32_t both, int32_t c) {
    int32_t sum = ex2(b, RG_EXPR_ADD, ex_leaf(b, RG_EXPR_ACC, 1), ex_arg(b, build_vec(b, c, READ)));
    build_out(b, RG_KOUT_STORE, sum, z, 0);
    build_out(b, RG_KOUT_MAX, sum, build_part(b, c, 1, WRITE), RG_AXES_NHW);
    if (both < 0) return;
    int32_t product = ex2(b, RG_EXPR_MUL, ex_leaf(b, RG_EXPR_ACC, 0), sum);
    build_out(b, RG_KOUT_STORE, ex_relu(b, product), both, 0);
}

static bool ridden(rg_arena *arena, int32_t vector, const ride *of, rg_case *to) {
    const rg_conv_shape *s = &of->main;
    rg_conv_shape other = *s;
    other.pad = of->pad;
    int32_t p = out_extent(s->h, s->r, s), q = out_extent(s->w, s->s, s);
    *to = (rg_case){.label = "fprop with a rider", .live = of->live};
    build b = build_new(arena, vector, &to->desc, RG_K_CONV, "conv2d_fprop_rider");
    int32_t x = build_act(&b, s->h, s->w, s->c, READ),
            w = build_weight(&b, s->k, s->r, s->s, s->c, READ),
            y = build_act(&b, p, q, s->k, WRITE);
    int32_t v = build_weight(&b, s->k, of->r, of->s, s->c, READ),
            z = build_act(&b, p, q, s->k, WRITE);
    int32_t both = of->after == BIAS ? build_act(&b, p, q, s->k, WRITE) : -1;
    add_prologue(&b, of->before, x, s->h, s->w, s->c);
    build_contr(&b, 0, w, s->r, s->s, forward(s), forward(s));
    build_rider(&b, v, of->r, of->s, forward(&other), forward(&other));
    add_epilogue(&b, of->after, y, p, q, s->k);
    add_rider_epilogue(&b, z, both, s->k);
    return !b.failed;
}

/* A down-sampling residual's and others: the rider's pixel is a tap of the filter, its first one,
 * one of the padding's, its only one; or the rider has a filter of its own. */
rg_case *rg_rider_cases(rg_arena *arena, int32_t vector, int32_t *count) {
    static const ride rides[] = {
        {{9, 7, 24, 48, 3, 3, 2, 1, 1}, 1, 1, 0, BNRELU_STORE, MOMENTS, 20},
        {{5, 6, 20, 10, 3, 3, 1, 1, 1}, 1, 1, 0, PLAIN, BIAS, 11},
        {{8, 6, 40, 80, 2, 2, 2, 0, 1}, 1, 1, 0, RESIDUAL_STORE, STORE, 16},
        {{6, 5, 64, 32, 5, 5, 1, 2, 1}, 3, 3, 1, BNRELU, MOMENTS, 17},
        {{9, 8, 16, 160, 3, 3, 2, 2, 2}, 1, 1, 0, BNRELU, BIAS, 37},
        {{4, 5, 64, 64, 3, 3, 1, 2, 1}, 1, 1, 1, PLAIN, MOMENTS, 5},
        {{7, 7, 16, 64, 1, 1, 2, 0, 1}, 1, 1, 0, BNRELU, STORE, 33},
        {{11, 10, 64, 128, 3, 3, 2, 1, 1}, 1, 1, 0, RESIDUAL_STORE, MOMENTS, 18},
    };
    enum { RIDES = sizeof rides / sizeof *rides };
    rg_case *list = RG_NEW_ARRAY(arena, rg_case, RIDES);
    for (*count = 0; list && *count < RIDES; ++*count)
        if (!ridden(arena, vector, &rides[*count], &list[*count])) return NULL;
    return list;
}
