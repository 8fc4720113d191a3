/* Convolutions in double: one walk over (image, pixel, tap), and for each op what a tap does, with
 * its inner loop over contiguous channels. */
#include "rg_op_table.h"

#include <string.h>

typedef struct conv {
    const rg_tensor *x, *y;
    int32_t k, r, s, c;
    const rg_attr *attr;
    size_t tap_stride; /* from one tap's weights to the next in w */
} conv;

/* x: the C channels of an input pixel; y: the K of an output pixel; w: where the tap's weights
 * start. */
typedef void (*tap_fn)(const conv *conv, double *x, double *w, double *y);

static void walk_taps(const conv *cv, int32_t n, int32_t p, int32_t q, double *w, tap_fn tap) {
    const rg_attr *a = cv->attr;
    for (int32_t r = 0; r < cv->r; r++) {
        int32_t h = p * a->stride - a->pad + r * a->dilation;
        if (h < 0 || h >= cv->x->dim[1]) continue;
        for (int32_t s = 0; s < cv->s; s++) {
            int32_t at = q * a->stride - a->pad + s * a->dilation;
            if (at < 0 || at >= cv->x->dim[2]) continue;
            double *x = cv->x->data + rg_tensor_at(cv->x, n, h, at);
            double *y = cv->y->data + rg_tensor_at(cv->y, n, p, q);
            tap(cv, x, w + (size_t)(r * cv->s + s) * cv->tap_stride, y);
        }
    }
}

static void walk(const conv *cv, int32_t images, double *w, tap_fn tap) {
    for (int32_t n = 0; n < images; n++) {
        for (int32_t p = 0; p < cv->y->dim[1]; p++) {
            for (int32_t q = 0; q < cv->y->dim[2]; q++) walk_taps(cv, n, p, q, w, tap);
        }
    }
}

static void axpy(double *restrict y, double a, const double *restrict x, int32_t n) {
    for (int32_t i = 0; i < n; i++) y[i] += a * x[i];
}

/* w here is [R][S][C][K]. */
static void fprop_tap(const conv *cv, double *x, double *w, double *y) {
    for (int32_t c = 0; c < cv->c; c++) axpy(y, x[c], w + (size_t)c * (size_t)cv->k, cv->k);
}

/* From one k to the next in [K][R][S][C]. */
static size_t filter_size(const conv *cv) {
    return (size_t)cv->r * (size_t)cv->s * (size_t)cv->c;
}

static void dgrad_tap(const conv *cv, double *x, double *w, double *y) {
    for (int32_t k = 0; k < cv->k; k++) axpy(x, y[k], w + (size_t)k * filter_size(cv), cv->c);
}

static void wgrad_tap(const conv *cv, double *x, double *w, double *y) {
    for (int32_t k = 0; k < cv->k; k++) axpy(w + (size_t)k * filter_size(cv), y[k], x, cv->c);
}

static conv make_conv(const rg_ref *ref, const rg_tensor *x, const rg_tensor *w,
                      const rg_tensor *y) {
    const int32_t *d = w->dim;
    return (conv){x, y, d[0], d[1], d[2], d[3], ref->attr, (size_t)d[3]};
}

static void clear(const rg_tensor *tensor) {
    memset(tensor->data, 0, rg_tensor_count(tensor) * sizeof *tensor->data);
}

rg_status rg_ref_fprop(const rg_ref *ref) {
    conv cv = make_conv(ref, &ref->in[0], &ref->in[1], &ref->out[0]);
    const double *w = ref->in[1].data;
    size_t filter = filter_size(&cv), filters = (size_t)cv.k;
    double *turned = RG_NEW_ARRAY(ref->scratch, double, rg_tensor_count(&ref->in[1]));
    if (!turned) return RG_E_NOMEM;
    for (size_t k = 0; k < filters; k++) {
        for (size_t i = 0; i < filter; i++)
            turned[i * filters + k] = rg_kformat_round(ref->attr->format, w[k * filter + i]);
    }
    cv.tap_stride = (size_t)cv.c * filters;
    clear(cv.y);
    walk(&cv, cv.x->dim[0], turned, fprop_tap);
    return RG_OK;
}

rg_status rg_ref_dgrad(const rg_ref *ref) {
    conv cv = make_conv(ref, &ref->out[0], &ref->in[1], &ref->in[0]);
    size_t count = rg_tensor_count(&ref->in[1]);
    double *w = RG_NEW_ARRAY(ref->scratch, double, count);
    if (!w) return RG_E_NOMEM;
    for (size_t i = 0; i < count; i++)
        w[i] = rg_kformat_round(ref->attr->format, ref->in[1].data[i]);
    clear(cv.x);
    walk(&cv, cv.x->dim[0], w, dgrad_tap);
    return RG_OK;
}

/* A sum over images: the live ones alone. */
rg_status rg_ref_wgrad(const rg_ref *ref) {
    conv cv = make_conv(ref, &ref->in[0], &ref->out[0], &ref->in[1]);
    clear(&ref->out[0]);
    walk(&cv, rg_tensor_live(cv.x, ref->live), ref->out[0].data, wgrad_tap);
    return RG_OK;
}
