#include "kinks.h"

#include <math.h>

static double root_mean_square(rg_interp *interp, rg_vid v) {
    int64_t count = rg_interp_count(interp, v);
    return parity_norm(rg_interp_value(interp, v), count) / sqrt((double)count);
}

/* An operand of a comparison: an input of the node, or a constant. */
typedef struct operand {
    const double *value; /* NULL: a constant */
    double constant, scale;
    int64_t count;
} operand;

static bool find_operand(rg_interp *interp, const rg_node *node, int32_t index, operand *o) {
    const rg_enode *e = &node->attr.expr.node[index];
    *o = (operand){.constant = e->value, .count = 1};
    if (e->op == RG_EXPR_CONST) return true;
    if (e->op != RG_EXPR_ARG) return false;
    rg_vid v = node->in[e->leaf];
    *o = (operand){rg_interp_value(interp, v), 0, root_mean_square(interp, v),
                   rg_interp_count(interp, v)};
    return true;
}

/* The smallest difference that is not zero. Operands of different extents are left alone: no spec
 * of the tests compares such. */
static double nearest_tie(const operand *a, const operand *b) {
    int64_t count = a->count > b->count ? a->count : b->count;
    double least = INFINITY;
    if (a->value && b->value && a->count != b->count) return least;
    for (int64_t i = 0; i < count; i++) {
        double off =
            fabs((a->value ? a->value[i] : a->constant) - (b->value ? b->value[i] : b->constant));
        if (off != 0 && off < least) least = off;
    }
    return least / fmax(a->scale, b->scale);
}

/* Comparisons of an input with a constant or another input: relu, leaky relu, maximum, abs and
 * their gradients. */
static double pointwise_kink(rg_interp *interp, const rg_node *node) {
    static const bool compares[RG_EXPR_OP_COUNT] = {[RG_EXPR_MAX] = true,
                                                    [RG_EXPR_MIN] = true,
                                                    [RG_EXPR_GT] = true,
                                                    [RG_EXPR_GE] = true,
                                                    [RG_EXPR_ABS] = true};
    const rg_expr *expr = &node->attr.expr;
    double least = INFINITY;
    for (int32_t i = 0; i < expr->count; i++) {
        const rg_enode *e = &expr->node[i];
        operand a, b = {.count = 1};
        if (!compares[e->op] || !find_operand(interp, node, e->a, &a)) continue;
        if (e->op != RG_EXPR_ABS && !find_operand(interp, node, e->b, &b)) continue;
        if (a.value || b.value) least = fmin(least, nearest_tie(&a, &b));
    }
    return least;
}

/* The lead of the largest over the next in the window at (p, q). */
static double window_lead(const double *x, const int32_t *dim, const rg_attr *attr, int32_t p,
                          int32_t q) {
    double first = -INFINITY, second = -INFINITY;
    for (int32_t r = 0; r < attr->r; r++)
        for (int32_t s = 0; s < attr->s; s++) {
            int32_t h = p * attr->stride - attr->pad + r, w = q * attr->stride - attr->pad + s;
            if (h < 0 || h >= dim[1] || w < 0 || w >= dim[2]) continue;
            double value = x[((int64_t)h * dim[2] + w) * dim[3]];
            second = value > first ? first : fmax(second, value);
            first = fmax(first, value);
        }
    return first == second || isinf(second) ? INFINITY : first - second;
}

static double maxpool_kink(rg_interp *interp, const rg_graph *graph, const rg_node *node,
                           int32_t n) {
    const int32_t *in = graph->value[node->in[0]].type.dim,
                  *out = graph->value[node->out[0]].type.dim;
    const double *x = rg_interp_value(interp, node->in[0]);
    int64_t image = rg_type_elements(graph->value[node->in[0]].type);
    double least = INFINITY;
    for (int32_t i = 0; i < n; i++)
        for (int32_t p = 0; p < out[1]; p++)
            for (int32_t q = 0; q < out[2]; q++)
                for (int32_t c = 0; c < in[3]; c++)
                    least = fmin(least, window_lead(x + i * image + c, in, &node->attr, p, q));
    return least / root_mean_square(interp, node->in[0]);
}

double parity_nearest_kink(rg_interp *interp, const rg_graph *graph, int32_t n) {
    double least = INFINITY;
    for (int32_t i = 0; i < graph->node_count; i++) {
        const rg_node *node = &graph->node[i];
        if (node->op == RG_OP_POINTWISE) least = fmin(least, pointwise_kink(interp, node));
        if (node->op == RG_OP_MAXPOOL) least = fmin(least, maxpool_kink(interp, graph, node, n));
    }
    return least;
}
