/* Element-wise trees and reductions in double. */
#include "rg_op_table.h"

#include <math.h>

/* An element's coordinates, N H W C (weights: K R S C). */
typedef struct element {
    int32_t at[4];
} element;

/* Steps by which `from` moves in a space that it broadcasts to: 0 where it has one element. */
typedef struct strides {
    size_t step[4];
} strides;

static strides strides_of(const rg_tensor *from) {
    strides out;
    size_t step = 1;
    for (int i = 3; i >= 0; i--) {
        out.step[i] = from->dim[i] == 1 ? 0 : step;
        step *= (size_t)from->dim[i];
    }
    return out;
}

static size_t offset(const strides *s, const element *e) {
    size_t at = 0;
    for (int i = 0; i < 4; i++) at += s->step[i] * (size_t)e->at[i];
    return at;
}

/* The next element of the first `images` images of `space`, in logical order; false after the last.
 */
static bool next(const rg_tensor *space, int32_t images, element *e) {
    for (int i = 3; i > 0; i--) {
        if (++e->at[i] < space->dim[i]) return true;
        e->at[i] = 0;
    }
    return ++e->at[0] < images;
}

/* ---- pointwise ---- */

typedef struct point {
    const rg_ref *ref;
    strides *in;
    element e;
} point;

static double leaf_value(void *user, rg_expr_op op, int32_t leaf) {
    const point *p = user;
    const rg_ref *ref = p->ref;
    switch (op) {
    case RG_EXPR_ARG:
        return ref->in[leaf].data[offset(&p->in[leaf], &p->e)];
    case RG_EXPR_INDEX:
        return p->e.at[leaf];
    case RG_EXPR_CTRL:
        if (leaf == RG_CTRL_COUNT) return ref->live;
        if (leaf == RG_CTRL_INV_COUNT) return 1.0 / ref->live;
        return (double)ref->ctrl->scalar[leaf];
    default:
        return NAN; /* the graph's check lets no other leaf through */
    }
}

rg_status rg_ref_pointwise(const rg_ref *ref) {
    const rg_expr *expr = &ref->attr->expr;
    point p = {.ref = ref, .in = RG_NEW_ARRAY(ref->scratch, strides, ref->in_count)};
    double *value = RG_NEW_ARRAY(ref->scratch, double, expr->count);
    if (!p.in || !value) return RG_E_NOMEM;
    for (int32_t i = 0; i < ref->in_count; i++) p.in[i] = strides_of(&ref->in[i]);
    const rg_tensor *out = &ref->out[0];
    double *to = out->data;
    do {
        rg_expr_eval(expr, leaf_value, &p, value);
        *to++ = value[ref->attr->root];
    } while (next(out, out->dim[0], &p.e));
    return RG_OK;
}

/* ---- reduce ---- */

/* Calls fn for every element that counts, with its place in the outputs. */
typedef void (*gather_fn)(const rg_ref *ref, double value, size_t at);

static int32_t counted_images(const rg_ref *ref) {
    const rg_tensor *in = &ref->in[0];
    return ref->attr->axes & RG_AXIS_N ? rg_tensor_live(in, ref->live) : in->dim[0];
}

static void gather(const rg_ref *ref, gather_fn fn) {
    const double *from = ref->in[0].data;
    strides to = strides_of(&ref->out[0]);
    int32_t images = counted_images(ref);
    element e = {{0}};
    do {
        fn(ref, *from++, offset(&to, &e));
    } while (next(&ref->in[0], images, &e));
}

static void fill(const rg_tensor *tensor, double value) {
    size_t count = rg_tensor_count(tensor);
    for (size_t i = 0; i < count; i++) tensor->data[i] = value;
}

static void gather_sum(const rg_ref *ref, double value, size_t at) {
    ref->out[0].data[at] += value;
}

static void gather_max(const rg_ref *ref, double value, size_t at) {
    if (rg_ref_beats(value, ref->out[0].data[at])) ref->out[0].data[at] = value;
}

static void gather_squares(const rg_ref *ref, double value, size_t at) {
    double off = value - ref->out[0].data[at];
    ref->out[1].data[at] += off * off;
}

/* Elements that one output gathers. */
static double gathered(const rg_ref *ref) {
    double count = (double)counted_images(ref);
    for (int i = 1; i < 4; i++) count *= ref->in[0].dim[i];
    for (int i = 0; i < 4; i++) count /= ref->out[0].dim[i];
    return count;
}

rg_status rg_ref_reduce(const rg_ref *ref) {
    const rg_tensor *out = &ref->out[0];
    if (ref->attr->reduce == RG_REDUCE_MAX) {
        fill(out, -INFINITY);
        gather(ref, gather_max);
        return RG_OK;
    }
    fill(out, 0.0);
    gather(ref, gather_sum);
    if (ref->attr->reduce == RG_REDUCE_SUM) return RG_OK;
    size_t count = rg_tensor_count(out);
    for (size_t i = 0; i < count; i++) out->data[i] /= gathered(ref);
    fill(&ref->out[1], 0.0);
    gather(ref, gather_squares);
    return RG_OK;
}
