#include "rg_resize.h"

#include <math.h>
#include <string.h>

static double triangle(double x) {
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* The weights of output `i`. Every operation is Pillow's, in its order: the fixed-point weights
 * must be the same numbers. Source: Pillow, src/libImaging/Resample.c, precompute_coeffs and
 * normalize_coeffs_8bpc. */
static void axis_weights(rg_resize_axis *axis, uint32_t i, double *value) {
    double scale = (double)axis->in / axis->out;
    double stretch = scale < 1.0 ? 1.0 : scale;
    double center = (i + 0.5) * scale, inverse = 1.0 / stretch, sum = 0.0;
    double low = center - stretch + 0.5, high = center + stretch + 0.5;
    uint32_t first = low < 0.0 ? 0 : (uint32_t)low;
    uint32_t end = high > axis->in ? axis->in : (uint32_t)high;
    for (uint32_t t = 0; t < end - first; t++) {
        value[t] = triangle(((double)(t + first) - center + 0.5) * inverse);
        sum += value[t];
    }
    int32_t *weight = axis->weight + (size_t)i * axis->taps;
    uint32_t count = 0;
    for (uint32_t t = 0; t < end - first; t++) {
        weight[t] = (int32_t)(0.5 + value[t] / sum * (1 << RG_RESIZE_BITS));
        if (weight[t]) count = t + 1; /* zeros at the end add nothing */
    }
    axis->first[i] = first;
    axis->count[i] = count;
}

static rg_status axis_init(rg_ctx *ctx, rg_resize_axis *axis, uint32_t in, uint32_t out) {
    uint32_t taps = rg_resize_taps(in, out);
    *axis = (rg_resize_axis){.in = in, .out = out, .taps = taps};
    axis->first = RG_NEW_ARRAY(ctx->arena, uint32_t, out);
    axis->count = RG_NEW_ARRAY(ctx->arena, uint32_t, out);
    axis->weight = RG_NEW_ARRAY(ctx->arena, int32_t, (size_t)out * taps);
    double *value = RG_NEW_ARRAY(ctx->arena, double, taps);
    if (!axis->first || !axis->count || !axis->weight || !value) return rg_nomem(ctx);
    for (uint32_t i = 0; i < out; i++) axis_weights(axis, i, value);
    return RG_OK;
}

rg_status rg_resize_new(rg_ctx *ctx, uint32_t in_h, uint32_t in_w, uint32_t out_h, uint32_t out_w,
                        rg_resize **resize) {
    const uint32_t side[4] = {in_h, in_w, out_h, out_w};
    for (int i = 0; i < 4; i++)
        if (side[i] < 1 || side[i] > RG_RESIZE_MAX)
            return rg_fail(ctx, RG_E_LIMIT, "cannot resize %ux%u to %ux%u: sides must be 1 to %d",
                           in_h, in_w, out_h, out_w, RG_RESIZE_MAX);
    rg_resize *made = RG_NEW(ctx->arena, rg_resize);
    if (!made) return rg_nomem(ctx);
    RG_TRY(axis_init(ctx, &made->h, in_h, out_h));
    RG_TRY(axis_init(ctx, &made->w, in_w, out_w));
    *resize = made;
    return RG_OK;
}

static uint32_t *axis_table(const rg_resize_axis *axis, uint32_t *to) {
    size_t out = axis->out;
    memcpy(to, axis->first, out * sizeof *to);
    memcpy(to + out, axis->count, out * sizeof *to);
    memcpy(to + 2 * out, axis->weight, out * axis->taps * sizeof *to);
    return to + out * (2 + axis->taps);
}

void rg_resize_table(const rg_resize *resize, uint32_t *to) {
    axis_table(&resize->w, axis_table(&resize->h, to));
}

/* One output line: out[i*out_step] for each i of the axis, from in[..*in_step]. */
static void resize_line(const rg_resize_axis *axis, const uint8_t *in, size_t in_step, uint8_t *out,
                        size_t out_step) {
    for (uint32_t i = 0; i < axis->out; i++) {
        const int32_t *weight = axis->weight + (size_t)i * axis->taps;
        const uint8_t *from = in + axis->first[i] * in_step;
        int32_t sum = RG_RESIZE_HALF;
        for (uint32_t t = 0; t < axis->count[i]; t++) sum += weight[t] * from[t * in_step];
        out[i * out_step] = rg_resize_round(sum);
    }
}

/* Horizontal first, as Pillow did for all shapes before version 13 and does since for all but those
 * that grow much flatter. */
void rg_resize_plane(const rg_resize *resize, const uint8_t *in, uint8_t *out, uint8_t *scratch) {
    const rg_resize_axis *h = &resize->h, *w = &resize->w;
    for (uint32_t y = 0; y < h->in; y++)
        resize_line(w, in + (size_t)y * w->in, 1, scratch + (size_t)y * w->out, 1);
    for (uint32_t x = 0; x < w->out; x++) resize_line(h, scratch + x, w->out, out + x, w->out);
}
