/* The optimisers as expression trees, as PyTorch computes them. Learning rate and bias corrections
 * change from step to step: CTRL leaves. */
#include "rg_ops.h"

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

rg_status rg_optim_expr(const rg_optim *optim, rg_expr *expr, int32_t root[3], int32_t *moments) {
    root[0] = root[1] = root[2] = -1;
    if (optim->kind == RG_OPTIM_ADAM) {
        adam(optim, expr, root);
        *moments = 2;
    } else {
        sgd(optim, expr, root);
        *moments = optim->momentum != 0.0 ? 1 : 0;
    }
    for (int32_t i = 0; i <= *moments; i++) {
        if (root[i] < 0) return RG_E_NOMEM;
    }
    return RG_OK;
}
