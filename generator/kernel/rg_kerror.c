/* Running error bounds: operators and reductions. */
#include "rg_kinterp.h"

#include <float.h>
#include <math.h>

/* What a rounding of `v` costs; the subnormal range is flushed. */
static double rounded(double v, double units) {
    return units * RG_UNIT * fabs(v) + FLT_MIN;
}

static rg_kval divide(double v, rg_kval a, rg_kval b) {
    double room = fabs(b.v) - b.e;
    double e = a.e == 0 && b.e == 0 ? 0 : room > 0 ? (a.e + fabs(v) * b.e) / room : INFINITY;
    return (rg_kval){v, e + rounded(v, 1)};
}

static rg_kval root(rg_expr_op op, double v, rg_kval a) {
    if (a.e == 0) return (rg_kval){v, rounded(v, 2)};
    double low = a.v - a.e;
    if (op == RG_EXPR_SQRT)
        return (rg_kval){v, (low > 0 ? a.e / (2 * sqrt(low)) : sqrt(2 * a.e)) + rounded(v, 2)};
    return (rg_kval){v, (low > 0 ? a.e / (2 * low * sqrt(low)) : INFINITY) + rounded(v, 2)};
}

/* A comparison whose operands overlap may go either way: that costs 1. Exact operands never do. */
static rg_kval compare(double v, rg_kval a, rg_kval b) {
    double e = a.e + b.e;
    return (rg_kval){v, e > 0 && !(fabs(a.v - b.v) > e) ? 1 : 0};
}

static rg_kval choose(double v, rg_kval a, rg_kval b, rg_kval c) {
    if (a.e == 0) return (rg_kval){v, a.v != 0 ? b.e : c.e};
    return (rg_kval){v, fabs(b.v - c.v) + fmax(b.e, c.e)};
}

/* A maximum or minimum of two. Where it is certain which, its own bound alone counts: the zero of a
 * relu is exact. */
static rg_kval extreme(double v, rg_kval a, rg_kval b) {
    if (a.v - a.e > b.v + b.e) return (rg_kval){v, v == a.v ? a.e : b.e};
    if (b.v - b.e > a.v + a.e) return (rg_kval){v, v == b.v ? b.e : a.e};
    return (rg_kval){v, fmax(a.e, b.e)};
}

/* The prelude's own functions are held to four units; near the zero of log and tanh to four units
 * of 1. */
rg_kval rg_kval_apply(rg_expr_op op, rg_kval a, rg_kval b, rg_kval c) {
    double v = rg_expr_apply(op, a.v, b.v, c.v);
    double product = fabs(a.v) * b.e + fabs(b.v) * a.e + a.e * b.e;
    switch (op) {
    case RG_EXPR_NEG:
    case RG_EXPR_ABS:
        return (rg_kval){v, a.e};
    case RG_EXPR_SQRT:
    case RG_EXPR_RSQRT:
        return root(op, v, a);
    case RG_EXPR_EXP:
        return (rg_kval){v, v * expm1(a.e) + rounded(v, 4)};
    case RG_EXPR_LOG:
        return (rg_kval){v, (a.e == 0    ? 0
                             : a.e < a.v ? a.e / (a.v - a.e)
                                         : INFINITY) +
                                rounded(fmax(1, fabs(v)), 4)};
    case RG_EXPR_TANH:
    case RG_EXPR_SIGMOID:
        return (rg_kval){v, a.e + rounded(1, 4)};
    case RG_EXPR_ROUND_TF32:
    case RG_EXPR_ROUND_BF16:
    case RG_EXPR_ROUND_F16: {
        double low = rg_expr_apply(op, a.v - a.e, 0, 0), high = rg_expr_apply(op, a.v + a.e, 0, 0);
        return (rg_kval){v, a.e == 0 ? 0 : fmax(fabs(v - low), fabs(high - v))};
    }
    case RG_EXPR_ADD:
    case RG_EXPR_SUB:
        return (rg_kval){v, a.e + b.e + rounded(v, 1)};
    case RG_EXPR_MUL:
        return (rg_kval){v, product + rounded(v, 1)};
    case RG_EXPR_DIV:
        return divide(v, a, b);
    case RG_EXPR_MAX:
    case RG_EXPR_MIN:
        return extreme(v, a, b);
    case RG_EXPR_GT:
    case RG_EXPR_GE:
    case RG_EXPR_EQ:
        return compare(v, a, b);
    case RG_EXPR_FMA:
        return (rg_kval){v, product + c.e + rounded(v, 1)};
    case RG_EXPR_SELECT:
        return choose(v, a, b, c);
    default:
        return (rg_kval){v, INFINITY};
    }
}

double rg_kval_roundings(double terms) {
    return terms <= 0 ? 0 : fmin(terms, 4 * sqrt(terms));
}

/* ---- reductions ---- */

void rg_kacc_init(rg_kacc *acc) {
    *acc = (rg_kacc){.max = -INFINITY};
}

/* Welford's update: in double it is as good as two passes. A NaN stays the maximum. */
void rg_kacc_add(rg_kacc *acc, rg_kval value) {
    double delta = value.v - acc->mean;
    acc->count += 1;
    acc->sum += value.v;
    acc->magnitude += fabs(value.v);
    acc->nonzero += value.v != 0 || value.e != 0;
    acc->mean += delta / acc->count;
    acc->m2 += delta * (value.v - acc->mean);
    if (isnan(value.v) || value.v > acc->max) acc->max = value.v;
    acc->sum_error += value.e;
    acc->m2_error += (2 * fabs(delta) + value.e) * value.e;
    acc->max_error = fmax(acc->max_error, value.e);
    acc->reach = fmax(acc->reach, fabs(value.v - acc->mean));
}

/* Adding zeros is exact, so a sum of one number has no error of its own. */
rg_kval rg_kacc_sum(const rg_kacc *acc) {
    double own = rg_kval_roundings(acc->nonzero - 1) * RG_UNIT * acc->magnitude;
    return (rg_kval){acc->sum, acc->sum_error + own};
}

rg_kval rg_kacc_max(const rg_kacc *acc) {
    return (rg_kval){acc->max, acc->max_error};
}

/* The mean is summed as differences from a tile's first value, which lies up to the reach from it:
 * the sum of their sizes is at most sqrt(n M2) + n reach (Cauchy-Schwarz). */
rg_kval rg_kacc_mean(const rg_kacc *acc) {
    if (acc->count == 0) return (rg_kval){0, 0};
    double terms = sqrt(acc->count * acc->m2) + acc->count * acc->reach;
    double own = RG_UNIT * ((2 + rg_kval_roundings(acc->count)) * terms + 2 * acc->magnitude);
    return (rg_kval){acc->mean, (acc->sum_error + own) / acc->count};
}

/* M2 is a sum of squared differences from a tile's first value, which may be as far from the mean
 * as any; an error of the shift enters squared. */
rg_kval rg_kacc_m2(const rg_kacc *acc) {
    double shift = rg_kacc_mean(acc).e;
    double squares = acc->m2 + acc->count * acc->reach * acc->reach;
    double own = 2 * (2 + rg_kval_roundings(acc->count)) * RG_UNIT * squares;
    double cross = 2 * RG_UNIT * acc->magnitude * sqrt(acc->count > 0 ? acc->m2 / acc->count : 0);
    return (rg_kval){acc->m2, acc->m2_error + own + cross + acc->count * shift * shift};
}
