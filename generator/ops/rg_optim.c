/* The optimisers as expression trees, as PyTorch computes them. Learning rate and bias corrections
 * change from step to step: CTRL leaves. */
#include "rg_ops.h"

#include <math.h>

static int32_t mul(rg_expr *e, int32_t a, int32_t b) {
    return rg_expr_binary(e, RG_EXPR_MUL, a, b);
}

static int32_t divide(rg_expr *e, int32_t a, int32_t b) {
    return rg_expr_binary(e, RG_EXPR_DIV, a, b);
}

static int32_t ctrl(rg_expr *e, rg_ctrl_id id) {
    return rg_expr_leaf(e, RG_EXPR_CTRL, (int32_t)id);
}

static int32_t mul_const(rg_expr *e, double a, int32_t b) {
    return mul(e, rg_expr_const(e, a), b);
}

static int32_t fma_const(rg_expr *e, double a, int32_t b, int32_t c) {
    return rg_expr_ternary(e, RG_EXPR_FMA, rg_expr_const(e, a), b, c);
}

/* The gradient with the decay of the weights in it (L2, as Adam and SGD of PyTorch; not AdamW). */
static int32_t decayed(const rg_optim *o, rg_expr *e, int32_t param) {
    int32_t grad = rg_expr_leaf(e, RG_EXPR_ARG, 1);
    return o->weight_decay == 0.0 ? grad : fma_const(e, o->weight_decay, param, grad);
}

/* m += (1-b1)*(g - m); v = b2*v + (1-b2)*g*g; p -= lr/bc1 * m / (sqrt(v/bc2) + eps) */
static void adam(const rg_optim *o, rg_expr *e, int32_t root[3]) {
    int32_t param = rg_expr_leaf(e, RG_EXPR_ARG, 0);
    int32_t grad = decayed(o, e, param);
    int32_t m = rg_expr_leaf(e, RG_EXPR_ARG, 2);
    int32_t v = rg_expr_leaf(e, RG_EXPR_ARG, 3);
    m = fma_const(e, 1.0 - o->beta1, rg_expr_binary(e, RG_EXPR_SUB, grad, m), m);
    int32_t square = mul_const(e, 1.0 - o->beta2, mul(e, grad, grad));
    v = fma_const(e, o->beta2, v, square);
    int32_t deviation = rg_expr_unary(e, RG_EXPR_SQRT, divide(e, v, ctrl(e, RG_CTRL_BC2)));
    int32_t eps = rg_expr_const(e, o->eps);
    int32_t below = rg_expr_binary(e, RG_EXPR_ADD, deviation, eps);
    int32_t lr = ctrl(e, RG_CTRL_LR);
    int32_t rate = divide(e, lr, ctrl(e, RG_CTRL_BC1));
    int32_t step = mul(e, rate, divide(e, m, below));
    root[0] = rg_expr_binary(e, RG_EXPR_SUB, param, step);
    root[1] = m;
    root[2] = v;
}

/* buf = first ? g : momentum*buf + g; p -= lr * (nesterov ? g + momentum*buf : buf) */
static void sgd(const rg_optim *o, rg_expr *e, int32_t root[3]) {
    int32_t param = rg_expr_leaf(e, RG_EXPR_ARG, 0);
    int32_t grad = decayed(o, e, param), step = grad;
    if (o->momentum != 0.0) {
        int32_t moved = fma_const(e, o->momentum, rg_expr_leaf(e, RG_EXPR_ARG, 2), grad);
        int32_t first = ctrl(e, RG_CTRL_FIRST);
        int32_t buffer = rg_expr_ternary(e, RG_EXPR_SELECT, first, grad, moved);
        step = o->nesterov ? fma_const(e, o->momentum, buffer, grad) : buffer;
        root[1] = buffer;
    }
    int32_t scaled = mul(e, ctrl(e, RG_CTRL_LR), step);
    root[0] = rg_expr_binary(e, RG_EXPR_SUB, param, scaled);
}

int32_t rg_optim_moments(const rg_optim *optim) {
    if (optim->kind == RG_OPTIM_ADAM) return 2;
    return optim->momentum != 0.0 ? 1 : 0;
}

rg_status rg_optim_expr(const rg_optim *optim, rg_expr *expr, int32_t root[3], int32_t *moments) {
    root[0] = root[1] = root[2] = -1;
    *moments = rg_optim_moments(optim);
    if (optim->kind == RG_OPTIM_ADAM)
        adam(optim, expr, root);
    else
        sgd(optim, expr, root);
    for (int32_t i = 0; i <= *moments; i++) {
        if (root[i] < 0) return RG_E_NOMEM;
    }
    return RG_OK;
}

/* ---- f16's loss scale ---- */

rg_loss_scale_nodes rg_optim_loss_scale(rg_expr *e, int32_t scale, int32_t steps, int32_t largest) {
    int32_t zero = rg_expr_const(e, 0), one = rg_expr_const(e, 1);
    int32_t finite = rg_expr_binary(e, RG_EXPR_GT, rg_expr_const(e, INFINITY), largest);
    int32_t more = rg_expr_binary(e, RG_EXPR_ADD, steps, one);
    int32_t enough = rg_expr_binary(e, RG_EXPR_GE, more, rg_expr_const(e, RG_LOSS_SCALE_STEPS));
    int32_t twice = mul_const(e, 2, scale), half = mul_const(e, 0.5, scale);
    twice = rg_expr_binary(e, RG_EXPR_MIN, twice, rg_expr_const(e, RG_LOSS_SCALE_MOST));
    half = rg_expr_binary(e, RG_EXPR_MAX, half, one);
    int32_t grown = rg_expr_ternary(e, RG_EXPR_SELECT, enough, twice, scale);
    int32_t counted = rg_expr_ternary(e, RG_EXPR_SELECT, enough, zero, more);
    int32_t inverse = divide(e, one, scale);
    return (rg_loss_scale_nodes){.scale = rg_expr_ternary(e, RG_EXPR_SELECT, finite, grown, half),
                                 .steps = rg_expr_ternary(e, RG_EXPR_SELECT, finite, counted, zero),
                                 .factor =
                                     rg_expr_ternary(e, RG_EXPR_SELECT, finite, inverse, zero)};
}

double rg_loss_scaling_next(rg_loss_scaling *state, double largest) {
    double factor = largest < INFINITY ? 1 / state->scale : 0;
    state->steps = factor > 0 ? state->steps + 1 : 0;
    if (factor == 0) state->scale = fmax(state->scale / 2, 1);
    if (state->steps < RG_LOSS_SCALE_STEPS) return factor;
    state->scale = fmin(state->scale * 2, RG_LOSS_SCALE_MOST);
    state->steps = 0;
    return factor;
}

/* ---- the reference ---- */

typedef struct step_leaves {
    double value[4]; /* parameter, gradient, moments */
    double ctrl[RG_CTRL_SCALARS];
} step_leaves;

static double step_leaf(void *user, rg_expr_op op, int32_t leaf) {
    const step_leaves *leaves = user;
    return op == RG_EXPR_CTRL ? leaves->ctrl[leaf] : leaves->value[leaf];
}

static void step_tensor(const rg_expr *expr, const int32_t root[3], int32_t moments,
                        step_leaves *leaves, double *node, double *param, const double *grad,
                        double *const moment[2], int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        leaves->value[0] = param[i];
        leaves->value[1] = grad[i];
        for (int32_t m = 0; m < moments; m++) leaves->value[2 + m] = moment[m][i];
        rg_expr_eval(expr, step_leaf, leaves, node);
        param[i] = node[root[0]];
        for (int32_t m = 0; m < moments; m++) moment[m][i] = node[root[1 + m]];
    }
}

rg_status rg_optim_step(rg_ctx *ctx, const rg_optim *optim, uint64_t step, double *param,
                        const double *grad, double *const moment[2], int64_t count) {
    rg_arena *arena = rg_arena_new(); /* a step's tree must not stay in the permanent arena */
    if (!arena) return rg_nomem(ctx);
    rg_expr expr;
    int32_t root[3], moments;
    double *node = NULL;
    rg_expr_init(&expr, arena);
    rg_status status = rg_optim_expr(optim, &expr, root, &moments);
    if (status == RG_OK && !(node = RG_NEW_ARRAY(arena, double, expr.count + 1)))
        status = RG_E_NOMEM;
    if (status == RG_OK) {
        step_leaves leaves = {.ctrl = {[RG_CTRL_LR] = optim->lr,
                                       [RG_CTRL_BC1] = 1 - pow(optim->beta1, (double)step),
                                       [RG_CTRL_BC2] = 1 - pow(optim->beta2, (double)step),
                                       [RG_CTRL_FIRST] = step <= 1}};
        step_tensor(&expr, root, moments, &leaves, node, param, grad, moment, count);
    }
    rg_arena_free(arena);
    return status == RG_OK ? RG_OK : rg_nomem(ctx);
}
