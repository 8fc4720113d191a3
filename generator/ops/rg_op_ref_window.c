/* Windows in double: maximum and average pooling and their gradients. */
#include "rg_op_table.h"

#include <string.h>

/* A walk over the elements of y; taps that fall in the padding are not visited. */
typedef struct window {
    const rg_attr *attr;
    const rg_tensor *x, *y;
    const rg_tensor *index; /* MAXPOOL, MAXPOOL_GRAD */
} window;

/* One output element at y[at]; `x` is the element of tap `tap` in the same channel. */
typedef void (*tap_fn)(const window *w, double *x, size_t at, int32_t tap);

static void walk_element(const window *w, const int32_t pixel[3], int32_t c, tap_fn fn) {
    const rg_attr *a = w->attr;
    size_t at = rg_tensor_at(w->y, pixel[0], pixel[1], pixel[2]) + (size_t)c;
    for (int32_t r = 0; r < a->r; r++) {
        int32_t h = pixel[1] * a->stride - a->pad + r * a->dilation;
        if (h < 0 || h >= w->x->dim[1]) continue;
        for (int32_t s = 0; s < a->s; s++) {
            int32_t q = pixel[2] * a->stride - a->pad + s * a->dilation;
            if (q < 0 || q >= w->x->dim[2]) continue;
            double *x = w->x->data + rg_tensor_at(w->x, pixel[0], h, q) + c;
            fn(w, x, at, r * a->s + s);
        }
    }
}

static void walk(const window *w, tap_fn fn) {
    const int32_t *d = w->y->dim;
    for (int32_t n = 0; n < d[0]; n++) {
        for (int32_t p = 0; p < d[1]; p++) {
            for (int32_t q = 0; q < d[2]; q++) {
                const int32_t pixel[3] = {n, p, q};
                for (int32_t c = 0; c < d[3]; c++) walk_element(w, pixel, c, fn);
            }
        }
    }
}

static void clear(const rg_tensor *tensor) {
    memset(tensor->data, 0, rg_tensor_count(tensor) * sizeof *tensor->data);
}

/* index is -1 until the first tap was seen. */
static void max_tap(const window *w, double *x, size_t at, int32_t tap) {
    if (w->index->data[at] >= 0 && !rg_ref_beats(*x, w->y->data[at])) return;
    w->y->data[at] = *x;
    w->index->data[at] = tap;
}

rg_status rg_ref_maxpool(const rg_ref *ref) {
    window w = {ref->attr, &ref->in[0], &ref->out[0], &ref->out[1]};
    size_t count = rg_tensor_count(w.index);
    for (size_t i = 0; i < count; i++) w.index->data[i] = -1;
    walk(&w, max_tap);
    return RG_OK;
}

static void max_grad_tap(const window *w, double *x, size_t at, int32_t tap) {
    if (w->index->data[at] == tap) *x += w->y->data[at];
}

rg_status rg_ref_maxpool_grad(const rg_ref *ref) {
    window w = {ref->attr, &ref->out[0], &ref->in[0], &ref->in[1]};
    clear(w.x);
    walk(&w, max_grad_tap);
    return RG_OK;
}

/* Every window divides by r*s, padding counted. */
static double share(const rg_attr *a) {
    return 1.0 / ((double)a->r * (double)a->s);
}

/* Once for the whole sum, as kernels do: a sum of r*s equal numbers then gives that number back,
 * and what is rounded next meets the same ties. */
static void share_out(const rg_tensor *sum, const rg_attr *a) {
    size_t count = rg_tensor_count(sum);
    for (size_t i = 0; i < count; i++) sum->data[i] *= share(a);
}

static void avg_tap(const window *w, double *x, size_t at, int32_t tap) {
    (void)tap;
    w->y->data[at] += *x;
}

rg_status rg_ref_avgpool(const rg_ref *ref) {
    window w = {ref->attr, &ref->in[0], &ref->out[0], NULL};
    clear(w.y);
    walk(&w, avg_tap);
    share_out(w.y, ref->attr);
    return RG_OK;
}

static void avg_grad_tap(const window *w, double *x, size_t at, int32_t tap) {
    (void)tap;
    *x += w->y->data[at];
}

rg_status rg_ref_avgpool_grad(const rg_ref *ref) {
    window w = {ref->attr, &ref->out[0], &ref->in[0], NULL};
    clear(w.x);
    walk(&w, avg_grad_tap);
    share_out(w.x, ref->attr);
    return RG_OK;
}
