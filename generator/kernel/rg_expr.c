/* Expression DAGs: builders that share nodes, copying, derivation, evaluation in double. Text
 * stands in rg_expr_print.c. */
#include "rg_expr.h"

#include <math.h>
#include <string.h>

typedef struct rg_expr_row {
    const char *name;
    int arity;
} rg_expr_row;

static const rg_expr_row op_row[RG_EXPR_OP_COUNT] = {
#define X(id, name) [RG_EXPR_##id] = {name, 0},
    RG_EXPR_LEAVES(X)
#undef X
#define X(id, name, arity) [RG_EXPR_##id] = {name, arity},
        RG_EXPR_OPS(X)
#undef X
};

int rg_expr_arity(rg_expr_op op) {
    return op_row[op].arity;
}

const char *rg_expr_name(rg_expr_op op) {
    return op_row[op].name;
}

rg_expr_op rg_expr_find(const char *name) {
    for (int i = 0; i < RG_EXPR_OP_COUNT; i++) {
        if (op_row[i].arity > 0 && strcmp(op_row[i].name, name) == 0) return (rg_expr_op)i;
    }
    return RG_EXPR_OP_COUNT;
}

void rg_expr_init(rg_expr *expr, rg_arena *arena) {
    *expr = (rg_expr){.arena = arena};
}

/* ---- meaning ---- */

static double max_or_nan(double a, double b) {
    if (isnan(a) || isnan(b)) return NAN;
    return a > b ? a : b;
}

/* To `bits` bits after the leading one; exponents under `lowest` are subnormal; from `infinite` on
 * there is no number. */
static double round_to(double v, int bits, int lowest, double infinite, double (*whole)(double)) {
    if (!isfinite(v) || v == 0) return v;
    int exponent = ilogb(v) < lowest ? lowest : ilogb(v);
    double unit = ldexp(1, exponent - bits), rounded = whole(v / unit) * unit;
    return fabs(rounded) >= infinite ? copysign(INFINITY, v) : rounded;
}

double rg_expr_apply(rg_expr_op op, double a, double b, double c) {
    switch (op) {
    case RG_EXPR_NEG:
        return -a;
    case RG_EXPR_ABS:
        return fabs(a);
    case RG_EXPR_SQRT:
        return sqrt(a);
    case RG_EXPR_RSQRT:
        return 1.0 / sqrt(a);
    case RG_EXPR_EXP:
        return exp(a);
    case RG_EXPR_LOG:
        return log(a);
    case RG_EXPR_TANH:
        return tanh(a);
    case RG_EXPR_SIGMOID:
        return 1.0 / (1.0 + exp(-a));
    case RG_EXPR_ROUND_TF32:
        return round_to(a, 10, -126, 0x1p128, round);
    case RG_EXPR_ROUND_BF16:
        return round_to(a, 7, -126, 0x1.ffp127, rint);
    case RG_EXPR_ROUND_F16:
        return round_to(a, 10, -14, 65520, rint);
    case RG_EXPR_ADD:
        return a + b;
    case RG_EXPR_SUB:
        return a - b;
    case RG_EXPR_MUL:
        return a * b;
    case RG_EXPR_DIV:
        return a / b;
    case RG_EXPR_MAX:
        return max_or_nan(a, b);
    case RG_EXPR_MIN:
        return -max_or_nan(-a, -b);
    case RG_EXPR_GT:
        return a > b ? 1.0 : 0.0;
    case RG_EXPR_GE:
        return a >= b ? 1.0 : 0.0;
    case RG_EXPR_EQ:
        return a == b ? 1.0 : 0.0;
    case RG_EXPR_FMA:
        return fma(a, b, c);
    case RG_EXPR_SELECT:
        return a != 0.0 ? b : c;
    default:
        return NAN;
    }
}

void rg_expr_eval(const rg_expr *expr, rg_expr_leaf_fn leaf, void *user, double *value) {
    for (int32_t i = 0; i < expr->count; i++) {
        const rg_enode *n = &expr->node[i];
        if (n->op == RG_EXPR_CONST) {
            value[i] = n->value;
        } else if (op_row[n->op].arity == 0) {
            value[i] = leaf(user, n->op, n->leaf);
        } else {
            value[i] = rg_expr_apply(n->op, value[n->a], n->b < 0 ? 0.0 : value[n->b],
                                     n->c < 0 ? 0.0 : value[n->c]);
        }
    }
}

/* ---- builders ---- */

static bool same_node(const rg_enode *x, const rg_enode *y) {
    return x->op == y->op && x->a == y->a && x->b == y->b && x->c == y->c && x->leaf == y->leaf &&
           memcmp(&x->value, &y->value, sizeof x->value) == 0;
}

static int32_t find_node(const rg_expr *expr, const rg_enode *node) {
    for (int32_t i = expr->count - 1; i >= 0; i--) {
        if (same_node(&expr->node[i], node)) return i;
    }
    return -1;
}

static bool grow(rg_expr *expr) {
    if (expr->count < expr->capacity) return true;
    if (expr->count >= RG_EXPR_MAX_NODES) return false;
    int32_t capacity = expr->capacity > 0 ? expr->capacity * 2 : 16;
    rg_enode *node = RG_NEW_ARRAY(expr->arena, rg_enode, capacity);
    if (!node) return false;
    if (expr->count > 0) memcpy(node, expr->node, (size_t)expr->count * sizeof *node);
    expr->node = node;
    expr->capacity = capacity;
    return true;
}

/* The old node that equals `node`, or a new one. a*b is b*a: rounding does not depend on the order.
 */
static int32_t make_node(rg_expr *expr, rg_enode node) {
    int32_t old = find_node(expr, &node);
    if (old < 0 && (node.op == RG_EXPR_ADD || node.op == RG_EXPR_MUL || node.op == RG_EXPR_EQ)) {
        rg_enode turned = node;
        turned.a = node.b;
        turned.b = node.a;
        old = find_node(expr, &turned);
    }
    if (old >= 0) return old;
    if (!grow(expr)) return -1;
    expr->node[expr->count] = node;
    return expr->count++;
}

int32_t rg_expr_const(rg_expr *expr, double value) {
    return make_node(expr,
                     (rg_enode){.op = RG_EXPR_CONST, .a = -1, .b = -1, .c = -1, .value = value});
}

int32_t rg_expr_leaf(rg_expr *expr, rg_expr_op op, int32_t leaf) {
    return make_node(expr, (rg_enode){.op = op, .a = -1, .b = -1, .c = -1, .leaf = leaf});
}

static bool is_const(const rg_expr *expr, int32_t i) {
    return expr->node[i].op == RG_EXPR_CONST;
}

static bool is_value(const rg_expr *expr, int32_t i, double value) {
    return is_const(expr, i) && expr->node[i].value == value;
}

/* Makes op(a, b, c), or the constant that it is. A result that is not finite stays an operation: it
 * has no literal. */
static int32_t make_op(rg_expr *expr, rg_expr_op op, int32_t a, int32_t b, int32_t c) {
    bool constant =
        is_const(expr, a) && (b < 0 || is_const(expr, b)) && (c < 0 || is_const(expr, c));
    if (constant) {
        double value = rg_expr_apply(op, expr->node[a].value, b < 0 ? 0.0 : expr->node[b].value,
                                     c < 0 ? 0.0 : expr->node[c].value);
        if (isfinite(value)) return rg_expr_const(expr, value);
    }
    return make_node(expr, (rg_enode){.op = op, .a = a, .b = b, .c = c});
}

int32_t rg_expr_unary(rg_expr *expr, rg_expr_op op, int32_t a) {
    if (a < 0) return -1;
    if (op == RG_EXPR_NEG && expr->node[a].op == RG_EXPR_NEG) return expr->node[a].a;
    return make_op(expr, op, a, -1, -1);
}

int32_t rg_expr_binary(rg_expr *expr, rg_expr_op op, int32_t a, int32_t b) {
    if (a < 0 || b < 0) return -1;
    if (op == RG_EXPR_ADD && is_value(expr, a, 0.0)) return b;
    if (op == RG_EXPR_MUL && is_value(expr, a, 1.0)) return b;
    if ((op == RG_EXPR_ADD || op == RG_EXPR_SUB) && is_value(expr, b, 0.0)) return a;
    if ((op == RG_EXPR_MUL || op == RG_EXPR_DIV) && is_value(expr, b, 1.0)) return a;
    return make_op(expr, op, a, b, -1);
}

int32_t rg_expr_ternary(rg_expr *expr, rg_expr_op op, int32_t a, int32_t b, int32_t c) {
    if (a < 0 || b < 0 || c < 0) return -1;
    if (op == RG_EXPR_SELECT) {
        if (b == c) return b;
        if (is_const(expr, a)) return expr->node[a].value != 0.0 ? b : c;
    }
    if (op == RG_EXPR_FMA) {
        if (is_value(expr, a, 1.0)) return rg_expr_binary(expr, RG_EXPR_ADD, b, c);
        if (is_value(expr, b, 1.0)) return rg_expr_binary(expr, RG_EXPR_ADD, a, c);
        if (is_value(expr, c, 0.0)) return rg_expr_binary(expr, RG_EXPR_MUL, a, b);
    }
    return make_op(expr, op, a, b, c);
}

/* The builder for the operator's arity. */
static int32_t make_any(rg_expr *expr, rg_expr_op op, int32_t a, int32_t b, int32_t c) {
    switch (op_row[op].arity) {
    case 1:
        return rg_expr_unary(expr, op, a);
    case 2:
        return rg_expr_binary(expr, op, a, b);
    default:
        return rg_expr_ternary(expr, op, a, b, c);
    }
}

/* ---- reach: which nodes a root needs ---- */

/* A bit a node, on the stack, so that looking needs no memory. */
typedef struct node_set {
    uint64_t word[RG_EXPR_MAX_NODES / 64];
} node_set;

static void set_add(node_set *set, int32_t i) {
    if (i >= 0) set->word[i / 64] |= (uint64_t)1 << (i % 64);
}

static bool set_has(const node_set *set, int32_t i) {
    return set->word[i / 64] >> (i % 64) & 1;
}

/* Adds what the members of `set` need: operands stand before users, so one pass from above is
 * enough. */
static void set_close(node_set *set, const rg_expr *expr, int32_t top) {
    for (int32_t i = top; i >= 0; i--) {
        if (!set_has(set, i)) continue;
        set_add(set, expr->node[i].a);
        set_add(set, expr->node[i].b);
        set_add(set, expr->node[i].c);
    }
}

bool rg_expr_uses(const rg_expr *expr, int32_t root, rg_expr_op op, int32_t leaf) {
    node_set set = {{0}};
    set_add(&set, root);
    set_close(&set, expr, root);
    for (int32_t i = 0; i <= root; i++) {
        const rg_enode *n = &expr->node[i];
        if (set_has(&set, i) && n->op == op && (leaf < 0 || n->leaf == leaf)) return true;
    }
    return false;
}

int32_t rg_expr_graft(rg_expr *to, const rg_expr *from, int32_t root, const int32_t *arg) {
    if (root < 0) return -1;
    int32_t *map = RG_NEW_ARRAY(to->arena, int32_t, root + 1);
    if (!map) return -1;
    node_set set = {{0}};
    set_add(&set, root);
    set_close(&set, from, root);
    for (int32_t i = 0; i <= root; i++) {
        if (!set_has(&set, i)) continue;
        rg_enode n = from->node[i]; /* a copy: `to` may be `from` and move */
        if (n.op == RG_EXPR_CONST) {
            map[i] = rg_expr_const(to, n.value);
        } else if (n.op == RG_EXPR_ARG && arg) {
            map[i] = arg[n.leaf];
        } else if (op_row[n.op].arity == 0) {
            map[i] = rg_expr_leaf(to, n.op, n.leaf);
        } else {
            map[i] = make_any(to, n.op, map[n.a], n.b < 0 ? -1 : map[n.b], n.c < 0 ? -1 : map[n.c]);
        }
        if (map[i] < 0) return -1;
    }
    return map[root];
}

typedef struct pruner {
    const rg_enode *old;
    rg_enode *kept;
    int32_t count;
    int32_t *map; /* old index -> new index + 1; 0: not yet */
} pruner;

/* Depth first, a before b before c: the order does not tell in which order the DAG was built. */
static int32_t keep(pruner *p, int32_t i) {
    if (i < 0) return -1;
    if (p->map[i] > 0) return p->map[i] - 1;
    rg_enode n = p->old[i];
    n.a = keep(p, n.a);
    n.b = keep(p, n.b);
    n.c = keep(p, n.c);
    p->kept[p->count++] = n;
    p->map[i] = p->count;
    return p->count - 1;
}

rg_status rg_expr_prune(rg_expr *expr, int32_t *roots, int count) {
    pruner p = {.old = expr->node};
    for (int i = 0; i < count; i++) {
        if (roots[i] >= expr->count) return RG_E_INTERNAL;
    }
    p.map = RG_NEW_ARRAY(expr->arena, int32_t, expr->count + 1);
    p.kept = RG_NEW_ARRAY(expr->arena, rg_enode, expr->count + 1);
    if (!p.map || !p.kept) return RG_E_NOMEM;
    for (int i = 0; i < count; i++) roots[i] = keep(&p, roots[i]);
    expr->capacity = expr->count + 1;
    expr->count = p.count;
    expr->node = p.kept;
    return RG_OK;
}

/* ---- derivation ---- */

static int32_t neg(rg_expr *e, int32_t a) {
    return rg_expr_unary(e, RG_EXPR_NEG, a);
}

static int32_t add(rg_expr *e, int32_t a, int32_t b) {
    return rg_expr_binary(e, RG_EXPR_ADD, a, b);
}

static int32_t sub(rg_expr *e, int32_t a, int32_t b) {
    if (a >= 0 && b >= 0 && is_value(e, a, 0.0) && !is_value(e, b, 0.0)) return neg(e, b);
    return rg_expr_binary(e, RG_EXPR_SUB, a, b);
}

/* A factor 0 here is a derivative that does not exist, not a number that may meet a NaN: the
 * product is left out. */
static int32_t mul(rg_expr *e, int32_t a, int32_t b) {
    if (a < 0 || b < 0) return -1;
    if (is_value(e, a, 0.0)) return a;
    if (is_value(e, b, 0.0)) return b;
    return rg_expr_binary(e, RG_EXPR_MUL, a, b);
}

static int32_t divide(rg_expr *e, int32_t a, int32_t b) {
    if (a < 0 || b < 0 || is_value(e, a, 0.0)) return a;
    return rg_expr_binary(e, RG_EXPR_DIV, a, b);
}

/* x > y ? a : b */
static int32_t where_gt(rg_expr *e, int32_t x, int32_t y, int32_t a, int32_t b) {
    return rg_expr_ternary(e, RG_EXPR_SELECT, rg_expr_binary(e, RG_EXPR_GT, x, y), a, b);
}

/* C leaves the order of arguments open; where two of a call make nodes, they are made in lines of
 * their own, so that every compiler's resgen builds the same DAG. */

static int32_t derive_abs(rg_expr *e, int32_t x, int32_t dx, int32_t zero) {
    int32_t below = neg(e, dx);
    int32_t not_above = where_gt(e, zero, x, below, zero); /* sign(0) = 0 */
    return where_gt(e, x, zero, dx, not_above);
}

/* dx/2 / sqrt(x) */
static int32_t derive_sqrt(rg_expr *e, int32_t y, int32_t dx) {
    int32_t half = mul(e, rg_expr_const(e, 0.5), dx);
    return divide(e, half, y);
}

/* -dx/2 * y^3 */
static int32_t derive_rsqrt(rg_expr *e, int32_t y, int32_t dx) {
    int32_t half = mul(e, rg_expr_const(e, -0.5), dx);
    int32_t square = mul(e, y, y);
    int32_t cube = mul(e, y, square);
    return mul(e, half, cube);
}

/* The derivative of node y = op(a) given that of its operand. */
static int32_t derive_unary(rg_expr *e, const rg_enode *n, int32_t y, int32_t da) {
    int32_t zero = rg_expr_const(e, 0.0);
    int32_t one = rg_expr_const(e, 1.0);
    if (zero < 0 || one < 0) return -1;
    if (da < 0 || da == zero) return da;
    switch (n->op) {
    case RG_EXPR_NEG:
        return neg(e, da);
    case RG_EXPR_ROUND_TF32:
    case RG_EXPR_ROUND_BF16:
    case RG_EXPR_ROUND_F16:
        return da; /* that of the identity: rounding is no part of what is learned */
    case RG_EXPR_ABS:
        return derive_abs(e, n->a, da, zero);
    case RG_EXPR_SQRT:
        return derive_sqrt(e, y, da);
    case RG_EXPR_RSQRT:
        return derive_rsqrt(e, y, da);
    case RG_EXPR_EXP:
        return mul(e, da, y);
    case RG_EXPR_LOG:
        return divide(e, da, n->a);
    case RG_EXPR_TANH:
        return mul(e, da, sub(e, one, mul(e, y, y)));
    default:
        return mul(e, da, mul(e, y, sub(e, one, y))); /* SIGMOID */
    }
}

/* da*b + a*db */
static int32_t derive_product(rg_expr *e, int32_t a, int32_t b, int32_t da, int32_t db) {
    int32_t left = mul(e, da, b);
    int32_t right = mul(e, a, db);
    return add(e, left, right);
}

static int32_t derive_binary(rg_expr *e, const rg_enode *n, int32_t y, int32_t da, int32_t db) {
    switch (n->op) {
    case RG_EXPR_ADD:
        return add(e, da, db);
    case RG_EXPR_SUB:
        return sub(e, da, db);
    case RG_EXPR_MUL:
        return derive_product(e, n->a, n->b, da, db);
    case RG_EXPR_DIV:
        return divide(e, sub(e, da, mul(e, y, db)), n->b);
    case RG_EXPR_MAX:
        return where_gt(e, n->a, n->b, da, db);
    case RG_EXPR_MIN:
        return where_gt(e, n->b, n->a, da, db);
    default:
        return rg_expr_const(e, 0.0); /* comparisons */
    }
}

static int32_t derive_node(rg_expr *e, int32_t y, const int32_t *d) {
    rg_enode n = e->node[y]; /* a copy: the array moves as nodes are added */
    switch (op_row[n.op].arity) {
    case 1:
        return derive_unary(e, &n, y, d[n.a]);
    case 2:
        return derive_binary(e, &n, y, d[n.a], d[n.b]);
    default:
        break;
    }
    if (n.op == RG_EXPR_SELECT) return rg_expr_ternary(e, n.op, n.a, d[n.b], d[n.c]);
    return add(e, derive_product(e, n.a, n.b, d[n.a], d[n.b]), d[n.c]); /* FMA */
}

int32_t rg_expr_tangent(rg_expr *expr, int32_t root, int32_t arg, int32_t seed) {
    int32_t zero = rg_expr_const(expr, 0.0);
    if (root < 0 || seed < 0 || zero < 0) return -1;
    int32_t *d = RG_NEW_ARRAY(expr->arena, int32_t, root + 1);
    if (!d) return -1;
    node_set set = {{0}};
    set_add(&set, root);
    set_close(&set, expr, root);
    for (int32_t i = 0; i <= root; i++) {
        if (!set_has(&set, i)) continue;
        const rg_enode *n = &expr->node[i];
        if (op_row[n->op].arity > 0) {
            d[i] = derive_node(expr, i, d);
        } else {
            d[i] = n->op == RG_EXPR_ARG && n->leaf == arg ? seed : zero;
        }
        if (d[i] < 0) return -1;
    }
    return d[root];
}

int32_t rg_expr_derive(rg_expr *expr, int32_t root, int32_t arg) {
    return rg_expr_tangent(expr, root, arg, rg_expr_const(expr, 1.0));
}
