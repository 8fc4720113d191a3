/* The anchors of the interpreter: contractions, windows, weight packing. */
#include <math.h>

#include "rg_kinterp.h"

int32_t rg_kgeom_tap(const rg_kgeom *geom, int32_t out, int32_t tap, int32_t extent) {
    int32_t at = out * geom->mul + tap * geom->tap_mul + geom->off;
    if (at < 0 || at % geom->div != 0 || at / geom->div >= extent) return -1;
    return at / geom->div;
}

/* ---- Winograd ---- */

/* The points, in the order of use, then infinity; F(m, r) takes the first m + r - 2. */
static const double wino_point[] = {0, 1, -1, 0.5, -2, -0.5, 2};

/* Row i: powers of point i over the product of its differences to the other points; last row: the
 * point at infinity. */
bool rg_wino_weights(int32_t m, int32_t r, double *g) {
    int32_t points = m + r - 2;
    if (m < 1 || r < 1 || points > (int32_t)(sizeof wino_point / sizeof *wino_point)) return false;
    for (int32_t i = 0; i < points; i++) {
        double scale = 1, power = 1;
        for (int32_t j = 0; j < points; j++)
            if (j != i) scale *= wino_point[i] - wino_point[j];
        for (int32_t j = 0; j < r; j++, power *= wino_point[i]) g[i * r + j] = power / scale;
    }
    for (int32_t j = 0; j < r; j++) g[points * r + j] = j == r - 1;
    return true;
}

/* Solves the r x r system (G'G) X = G' in place by Gauss-Jordan: X (r x t) is G's left inverse,
 * which gives back weights from transformed ones. G'G is positive definite: no pivoting. */
static void left_inverse(const double *g, int32_t t, int32_t r, double *x) {
    double gram[8 * 8] = {0};
    for (int32_t i = 0; i < r; i++)
        for (int32_t j = 0; j < r; j++)
            for (int32_t p = 0; p < t; p++) gram[i * r + j] += g[p * r + i] * g[p * r + j];
    for (int32_t i = 0; i < r; i++)
        for (int32_t p = 0; p < t; p++) x[i * t + p] = g[p * r + i];
    for (int32_t i = 0; i < r; i++)
        for (int32_t row = 0; row < r; row++) {
            if (row == i) continue;
            double factor = gram[row * r + i] / gram[i * r + i];
            for (int32_t j = 0; j < r; j++) gram[row * r + j] -= factor * gram[i * r + j];
            for (int32_t p = 0; p < t; p++) x[row * t + p] -= factor * x[i * t + p];
        }
    for (int32_t i = 0; i < r; i++)
        for (int32_t p = 0; p < t; p++) x[i * t + p] /= gram[i * r + i];
}

/* to = left . from . left' for matrices to (rows x rows), from (cols x cols), left (rows x cols).
 */
static void transform(const double *left, int32_t rows, int32_t cols, const double *from,
                      double *to) {
    for (int32_t i = 0; i < rows; i++)
        for (int32_t j = 0; j < rows; j++) {
            double sum = 0;
            for (int32_t p = 0; p < cols; p++)
                for (int32_t q = 0; q < cols; q++)
                    sum += left[i * cols + p] * left[j * cols + q] * from[p * cols + q];
            to[i * rows + j] = sum;
        }
}

/* Element (point i, k, c) of transformed weights. */
static int64_t wino_index(const rg_karg *arg, int32_t point, int32_t k, int32_t c) {
    int64_t block = (int64_t)point * (arg->kp / arg->kb) + k / arg->kb;
    return (block * arg->c + c) * arg->kb + k % arg->kb;
}

/* Weights as [r][s][c][k], whatever their layout, as numbers of the contraction's format. */
static rg_status plain_weights(rg_kinterp *in, const rg_kcontr *contr, double **weights) {
    int32_t index = contr->w_arg;
    const rg_karg *arg = &in->desc->arg[index];
    const double *from = in->arg[index];
    double g[8 * 8], inverse[8 * 8], u[8 * 8], w[8 * 8];
    int32_t r = arg->r, s = arg->s, t = arg->h + r - 1;
    *weights = RG_NEW_ARRAY(in->arena, double, (int64_t)r *s * arg->c * arg->k);
    if (!*weights) return rg_nomem(in->ctx);
    if (arg->layout == RG_LAYOUT_WINO) {
        if (!rg_wino_weights(arg->h, r, g))
            return rg_fail(in->ctx, RG_E_INTERNAL, "%s: no F(%d,%d)", in->desc->name, arg->h, r);
        left_inverse(g, t, r, inverse);
    }
    for (int32_t c = 0; c < arg->c; c++)
        for (int32_t k = 0; k < arg->k; k++) {
            if (arg->layout == RG_LAYOUT_WINO) {
                for (int32_t p = 0; p < t * t; p++) u[p] = from[wino_index(arg, p, k, c)];
                transform(inverse, r, t, u, w);
            }
            for (int32_t i = 0; i < r * s; i++)
                (*weights)[((int64_t)i * arg->c + c) * arg->k + k] =
                    arg->layout == RG_LAYOUT_WINO
                        ? w[i]
                        : rg_kformat_round(contr->format,
                                           from[rg_karg_weight_index(arg, k, i / s, i % s, c)]);
        }
    return RG_OK;
}

/* ---- CONV ---- */

/* How much more than a direct sum an F(m) kernel may be off (measured: F(4) 8 times, F(6) 40
 * times). */
static double wino_factor(const rg_karg *weight) {
    return weight->layout != RG_LAYOUT_WINO ? 1 : weight->h >= 6 ? 64 : weight->h >= 4 ? 16 : 4;
}

/* One pixel of the operand, `c` numbers, times one tap's weights, `c` rows of `k`. `unit`: relative
 * error of each product's share. */
static void add_tap(const rg_kval *x, const double *w, int32_t c, int32_t k, double unit,
                    rg_kval *sum) {
    for (int32_t i = 0; i < c; i++, w += k) {
        double v = x[i].v, e = x[i].e + unit * fabs(v);
        if (v == 0 && e == 0) continue;
        for (int32_t j = 0; j < k; j++) {
            sum[j].v += v * w[j];
            sum[j].e += e * fabs(w[j]);
        }
    }
}

/* Transformed weights of a dgrad were turned by 180 degrees before: tap r is their row r counted
 * from the end. */
static int64_t tap_of(const rg_kinterp *in, const rg_kcontr *contr, int32_t r, int32_t s) {
    bool wino = in->desc->arg[contr->w_arg].layout == RG_LAYOUT_WINO;
    if (wino && contr->gh.tap_mul < 0) r = contr->r - 1 - r;
    if (wino && contr->gw.tap_mul < 0) s = contr->s - 1 - s;
    return (int64_t)r * contr->s + s;
}

static void conv_pixel(const rg_kinterp *in, const rg_kcontr *contr, const rg_kval *x,
                       const double *w, double unit, int32_t n, int32_t p, int32_t q,
                       rg_kval *sum) {
    const rg_ksite *site = &in->desc->site[contr->site];
    int32_t k = in->desc->arg[contr->w_arg].k;
    for (int32_t r = 0; r < contr->r; r++)
        for (int32_t s = 0; s < contr->s; s++) {
            int32_t h = rg_kgeom_tap(&contr->gh, p, r, site->h);
            int32_t v = rg_kgeom_tap(&contr->gw, q, s, site->w);
            if (h < 0 || v < 0) continue;
            add_tap(x + (((int64_t)n * site->h + h) * site->w + v) * site->c,
                    w + tap_of(in, contr, r, s) * site->c * k, site->c, k, unit, sum);
        }
}

/* Relative error of each product's share in a sum of `terms`. A matrix unit cuts the sum off at 24
 * bits, always towards zero, for every 4, 8 or 16 products, all of which are cut off likewise
 * (MMA-Sim, arXiv 2511.10909): no two of these errors need cancel. */
static double sum_unit(rg_kformat format, double terms) {
    if (format == RG_KFORMAT_F32) return rg_kval_roundings(terms) * RG_UNIT;
    return 2 * (terms + 2) * RG_UNIT;
}

static rg_status conv_one(rg_kinterp *in, const rg_kcontr *contr, const rg_kval *x, double terms) {
    const rg_karg *weight = &in->desc->arg[contr->w_arg];
    const rg_ksite *out = &in->desc->site[in->desc->site_count - 1];
    double *w, unit = sum_unit(contr->format, terms) * wino_factor(weight);
    RG_TRY(plain_weights(in, contr, &w));
    for (int32_t n = 0; n < in->ctrl->live; n++)
        for (int32_t p = 0; p < out->h; p++)
            for (int32_t q = 0; q < out->w; q++)
                conv_pixel(in, contr, x, w, unit, n, p, q,
                           in->acc[contr->acc] + (((int64_t)n * out->h + p) * out->w + q) * out->c);
    return RG_OK;
}

rg_status rg_kinterp_conv(rg_kinterp *in, rg_kval *const *operand) {
    double terms[2] = {0, 0};
    for (int32_t i = 0; i < in->desc->contr_count; i++) {
        const rg_kcontr *contr = &in->desc->contr[i];
        terms[contr->acc] += (double)contr->r * contr->s * in->desc->site[contr->site].c;
    }
    for (int32_t i = 0; i < in->desc->contr_count; i++) {
        const rg_kcontr *contr = &in->desc->contr[i];
        RG_TRY(conv_one(in, contr, operand[contr->site], terms[contr->acc]));
    }
    return RG_OK;
}

/* ---- WGRAD ---- */

/* dw += x' dy for one pair of pixels of one image. */
static void add_outer(const rg_kval *x, const rg_kval *dy, int32_t c, int32_t k, double unit,
                      rg_kval *dw) {
    for (int32_t i = 0; i < c; i++, dw += k) {
        double v = x[i].v, size = fabs(v);
        for (int32_t j = 0; j < k; j++) {
            dw[j].v += v * dy[j].v;
            dw[j].e += (unit * size + x[i].e) * fabs(dy[j].v) + (size + x[i].e) * dy[j].e;
        }
    }
}

static void wgrad_tap(const rg_kinterp *in, const rg_kcontr *contr, int32_t r, int32_t s,
                      const rg_kval *x, const rg_kval *dy, rg_kval *dw) {
    const rg_ksite *xs = &in->desc->site[0], *ys = &in->desc->site[1];
    double unit = sum_unit(contr->format, (double)in->ctrl->live * ys->h * ys->w);
    for (int32_t n = 0; n < in->ctrl->live; n++)
        for (int32_t p = 0; p < ys->h; p++)
            for (int32_t q = 0; q < ys->w; q++) {
                int32_t h = rg_kgeom_tap(&contr->gh, p, r, xs->h);
                int32_t w = rg_kgeom_tap(&contr->gw, q, s, xs->w);
                if (h < 0 || w < 0) continue;
                add_outer(x + (((int64_t)n * xs->h + h) * xs->w + w) * xs->c,
                          dy + (((int64_t)n * ys->h + p) * ys->w + q) * ys->c, xs->c, ys->c, unit,
                          dw);
            }
}

static void put_wgrad(const rg_kinterp *in, const rg_kcontr *contr, const rg_kval *dw, int32_t r,
                      int32_t s) {
    const rg_karg *arg = &in->desc->arg[contr->w_arg];
    double *error = in->error ? in->error[contr->w_arg] : NULL;
    for (int32_t c = 0; c < arg->c; c++)
        for (int32_t k = 0; k < arg->k; k++) {
            int64_t at = rg_karg_weight_index(arg, k, r, s, c);
            in->arg[contr->w_arg][at] = dw[(int64_t)c * arg->k + k].v;
            if (error) error[at] = dw[(int64_t)c * arg->k + k].e;
        }
}

rg_status rg_kinterp_wgrad(rg_kinterp *in, const rg_kval *x, const rg_kval *dy) {
    const rg_kcontr *contr = &in->desc->contr[0];
    const rg_karg *arg = &in->desc->arg[contr->w_arg];
    int64_t whole = rg_karg_elements(arg, in->ctrl->blocks), slice = (int64_t)arg->c * arg->k;
    rg_kval *dw = RG_NEW_ARRAY(in->arena, rg_kval, slice);
    if (!dw) return rg_nomem(in->ctx);
    for (int64_t i = 0; arg->layout == RG_LAYOUT_PARTW && i < whole; i++)
        in->arg[contr->w_arg][i] = 0;
    for (int32_t r = 0; r < contr->r; r++)
        for (int32_t s = 0; s < contr->s; s++) {
            for (int64_t i = 0; i < slice; i++) dw[i] = (rg_kval){0, 0};
            wgrad_tap(in, contr, r, s, x, dy, dw);
            put_wgrad(in, contr, dw, r, s);
        }
    return RG_OK;
}

/* ---- WINDOW ---- */

/* The first maximum in row order; a NaN wins, the last one if there are several, as in PyTorch. Its
 * index is open (bound r*s) where another tap comes within the bounds. */
static void window_max(const rg_kval *tap, const int32_t *number, int32_t count, rg_kval *max,
                       rg_kval *index, double open) {
    int32_t best = 0;
    for (int32_t i = 1; i < count; i++)
        if (isnan(tap[i].v) || tap[i].v > tap[best].v) best = i;
    *max = count ? tap[best] : (rg_kval){-INFINITY, 0};
    *index = (rg_kval){count ? number[best] : 0, 0};
    for (int32_t i = 0; i < count; i++) {
        double e = tap[i].e + tap[best].e;
        if (i == best || e == 0 || tap[best].v - tap[i].v > e) continue;
        max->e = fmax(max->e, tap[i].e);
        index->e = open;
    }
}

static void window_element(const rg_kinterp *in, int32_t n, int32_t p, int32_t q, int32_t c,
                           const rg_kval *operand, rg_kval *tap, int32_t *number, int64_t at) {
    const rg_kcontr *contr = &in->desc->contr[0];
    const rg_ksite *site = &in->desc->site[contr->site];
    int32_t count = 0, taps = contr->r * contr->s;
    for (int32_t i = 0; i < taps; i++) {
        int32_t h = rg_kgeom_tap(&contr->gh, p, i / contr->s, site->h);
        int32_t w = rg_kgeom_tap(&contr->gw, q, i % contr->s, site->w);
        if (h < 0 || w < 0) continue;
        if (in->desc->window == RG_KWINDOW_MAXGRAD) {
            const rg_karg *index = &in->desc->arg[in->desc->index_arg];
            double from = in->arg[in->desc->index_arg][rg_karg_index(index, n, h, w, c)];
            if (from != i) continue;
        }
        tap[count] = operand[(((int64_t)n * site->h + h) * site->w + w) * site->c + c];
        number[count++] = i;
    }
    if (in->desc->window == RG_KWINDOW_MAX) {
        window_max(tap, number, count, &in->acc[0][at], &in->acc[1][at], taps);
        return;
    }
    rg_kacc acc;
    rg_kacc_init(&acc);
    for (int32_t i = 0; i < count; i++) rg_kacc_add(&acc, tap[i]);
    in->acc[0][at] = rg_kacc_sum(&acc);
}

rg_status rg_kinterp_window(rg_kinterp *in, const rg_kval *operand) {
    const rg_kcontr *contr = &in->desc->contr[0];
    const rg_ksite *out = &in->desc->site[1];
    rg_kval *tap = RG_NEW_ARRAY(in->arena, rg_kval, (int64_t)contr->r * contr->s);
    int32_t *number = RG_NEW_ARRAY(in->arena, int32_t, (int64_t)contr->r * contr->s);
    if (!tap || !number) return rg_nomem(in->ctx);
    int64_t at = 0;
    for (int32_t n = 0; n < in->ctrl->live; n++)
        for (int32_t p = 0; p < out->h; p++)
            for (int32_t q = 0; q < out->w; q++)
                for (int32_t c = 0; c < out->c; c++)
                    window_element(in, n, p, q, c, operand, tap, number, at++);
    return RG_OK;
}

/* ---- PACK ---- */

/* Weight (k, r, s, c) of the result, untransformed; `turn`: k and c exchanged, `flip`: taps turned
 * by 180 degrees. */
static double pack_source(const rg_kinterp *in, int32_t k, int32_t r, int32_t s, int32_t c) {
    const rg_karg *from = &in->desc->arg[0];
    bool turn = in->desc->pack != RG_KPACK_WINO, flip = in->desc->pack == RG_KPACK_WINO_TURN;
    int32_t fr = flip ? from->r - 1 - r : r, fs = flip ? from->s - 1 - s : s;
    return in->arg[0][turn ? rg_karg_weight_index(from, c, fr, fs, k)
                           : rg_karg_weight_index(from, k, fr, fs, c)];
}

static void pack_wino(const rg_kinterp *in, const double *g, int32_t k, int32_t c) {
    const rg_karg *to = &in->desc->arg[1];
    double w[8 * 8], size[8 * 8], u[8 * 8], bound[8 * 8], absolute[8 * 8];
    int32_t r = to->r, t = to->h + r - 1;
    for (int32_t i = 0; i < r * r; i++) {
        w[i] = pack_source(in, k, i / r, i % r, c);
        size[i] = fabs(w[i]);
    }
    for (int32_t i = 0; i < t * r; i++) absolute[i] = fabs(g[i]);
    transform(g, t, r, w, u);
    transform(absolute, t, r, size, bound);
    for (int32_t p = 0; p < t * t; p++) {
        int64_t at = wino_index(to, p, k, c);
        in->arg[1][at] = u[p];
        if (in->error && in->error[1]) in->error[1][at] = 4 * (r + 1) * RG_UNIT * bound[p];
    }
}

rg_status rg_kinterp_pack(rg_kinterp *in) {
    const rg_karg *to = &in->desc->arg[1];
    double g[8 * 8];
    bool wino = to->layout == RG_LAYOUT_WINO;
    if (wino && !rg_wino_weights(to->h, to->r, g))
        return rg_fail(in->ctx, RG_E_INTERNAL, "%s: no F(%d,%d)", in->desc->name, to->h, to->r);
    for (int32_t k = 0; k < to->k; k++)
        for (int32_t c = 0; c < to->c; c++) {
            if (wino) pack_wino(in, g, k, c);
            for (int32_t i = 0; !wino && i < to->r * to->s; i++) {
                int64_t at = rg_karg_weight_index(to, k, i / to->s, i % to->s, c);
                in->arg[1][at] =
                    rg_ktype_round(to->type, pack_source(in, k, i / to->s, i % to->s, c));
                if (in->error && in->error[1]) in->error[1][at] = 0;
            }
        }
    return RG_OK;
}
