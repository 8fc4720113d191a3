#include "rg_spec_build.h"

/* ---- one operand ---- */

static rg_spec_value finish_unary(rg_spec_call *call, const rg_expr *expr, int32_t root) {
    rg_vid id = rg_spec_add_pointwise(call, &call->in[0].id, 1, expr, root);
    return (rg_spec_value){id, call->in[0].flat};
}

static int32_t start_tree(rg_spec_call *call, rg_expr *expr) {
    rg_expr_init(expr, call->b->ctx->arena);
    return rg_expr_leaf(expr, RG_EXPR_ARG, 0);
}

static rg_spec_value build_unary(rg_spec_call *call) {
    rg_expr expr;
    if (rg_spec_call_is_dead(call)) return rg_spec_poison;
    int32_t x = start_tree(call, &expr);
    return finish_unary(call, &expr, rg_expr_unary(&expr, (rg_expr_op)call->op->detail, x));
}

static rg_spec_value build_relu(rg_spec_call *call) {
    rg_expr expr;
    if (rg_spec_call_is_dead(call)) return rg_spec_poison;
    int32_t x = start_tree(call, &expr);
    int32_t root = rg_expr_binary(&expr, RG_EXPR_MAX, x, rg_expr_const(&expr, 0));
    return finish_unary(call, &expr, root);
}

static rg_spec_value build_silu(rg_spec_call *call) {
    rg_expr expr;
    if (rg_spec_call_is_dead(call)) return rg_spec_poison;
    int32_t x = start_tree(call, &expr);
    int32_t gate = rg_expr_unary(&expr, RG_EXPR_SIGMOID, x);
    return finish_unary(call, &expr, rg_expr_binary(&expr, RG_EXPR_MUL, x, gate));
}

static rg_spec_value build_leaky_relu(rg_spec_call *call) {
    static const double usual = 0.01;
    double slope = rg_options_real(&call->options, "slope", &usual, 0, 1);
    rg_expr expr;
    if (rg_spec_call_is_dead(call)) return rg_spec_poison;
    int32_t x = start_tree(call, &expr);
    int32_t positive = rg_expr_binary(&expr, RG_EXPR_GT, x, rg_expr_const(&expr, 0));
    int32_t scaled = rg_expr_binary(&expr, RG_EXPR_MUL, x, rg_expr_const(&expr, slope));
    return finish_unary(call, &expr, rg_expr_ternary(&expr, RG_EXPR_SELECT, positive, x, scaled));
}

/* ---- two operands ---- */

static bool is_vector(rg_type type) {
    return type.dim[1] == 1 && type.dim[2] == 1;
}

/* A flattened image and one that is not have different meanings of their axes. */
static bool same_form(rg_spec_call *call, rg_type a, rg_type b) {
    if (call->in[0].flat == call->in[1].flat || (is_vector(a) && is_vector(b))) return true;
    const rg_type flat = call->in[0].flat ? a : b;
    if (is_vector(flat)) return true; /* one value an image and channel */
    rg_spec_call_error(call, RG_E_SHAPE,
                       "expected both operands flattened or neither, found %s and %s",
                       rg_spec_shape(call->b, a), rg_spec_shape(call->b, b));
    return false;
}

/* One shape, where an extent of 1 is repeated. */
static bool same_shape(rg_spec_call *call, rg_type a, rg_type b) {
    for (int i = 0; i < 4; i++) {
        if (a.dim[i] == b.dim[i] || a.dim[i] == 1 || b.dim[i] == 1) continue;
        rg_spec_call_error(call, RG_E_SHAPE, "expected operands of one shape, found %s and %s",
                           rg_spec_shape(call->b, a), rg_spec_shape(call->b, b));
        return false;
    }
    return true;
}

static rg_spec_value build_binary(rg_spec_call *call) {
    rg_expr expr;
    rg_vid in[2];
    int32_t leaf[2], count = 0;
    if (rg_spec_call_is_dead(call)) return rg_spec_poison;
    bool both = !call->is_number[0] && !call->is_number[1];
    if (both) {
        rg_type a = rg_spec_type(call, 0), b = rg_spec_type(call, 1);
        if (!same_form(call, a, b) || !same_shape(call, a, b)) return rg_spec_poison;
    }
    rg_expr_init(&expr, call->b->ctx->arena);
    for (int i = 0; i < 2; i++) {
        if (call->is_number[i]) {
            leaf[i] = rg_expr_const(&expr, call->number[i]);
            continue;
        }
        /* x + x has one input. */
        if (count == 0 || in[0] != call->in[i].id) in[count++] = call->in[i].id;
        leaf[i] = rg_expr_leaf(&expr, RG_EXPR_ARG, count - 1);
    }
    int32_t root = rg_expr_binary(&expr, (rg_expr_op)call->op->detail, leaf[0], leaf[1]);
    rg_vid id = rg_spec_add_pointwise(call, in, count, &expr, root);
    return (rg_spec_value){id, call->in[0].flat || call->in[1].flat};
}

/* ---- the list ---- */

#define UNARY(name, op)                                                                            \
    {                                                                                              \
        name, name, 1, false, true, build_unary, RG_EXPR_##op, {                                   \
            0                                                                                      \
        }                                                                                          \
    }
#define BINARY(name, op)                                                                           \
    {                                                                                              \
        name, name, 2, false, true, build_binary, RG_EXPR_##op, {                                  \
            0                                                                                      \
        }                                                                                          \
    }

const rg_spec_op rg_spec_pointwises[] = {
    {"relu", "relu", 1, false, true, build_relu, 0, {0}},
    {"leaky_relu", "leaky_relu", 1, false, true, build_leaky_relu, 0, {"slope"}},
    {"silu", "silu", 1, false, true, build_silu, 0, {0}},
    UNARY("sigmoid", SIGMOID),
    UNARY("tanh", TANH),
    UNARY("exp", EXP),
    UNARY("log", LOG),
    UNARY("abs", ABS),
    UNARY("sqrt", SQRT),
    UNARY("rsqrt", RSQRT),
    UNARY("neg", NEG),
    BINARY("add", ADD),
    BINARY("sub", SUB),
    BINARY("mul", MUL),
    BINARY("div", DIV),
    BINARY("maximum", MAX),
    BINARY("minimum", MIN),
};
const size_t rg_spec_pointwise_rows = sizeof rg_spec_pointwises / sizeof *rg_spec_pointwises;
