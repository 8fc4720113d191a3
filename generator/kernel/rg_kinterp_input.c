/* INPUT: a batch of a data set's bytes. The resize is whole numbers, so that it has no error. */
#include "rg_kinterp.h"

#include <math.h>

enum { BITS = 22, HALF = 1 << (BITS - 1) }; /* Pillow's fixed point */

/* An axis in the argument `weights`: where its outputs' first inputs, counts and weights begin. */
typedef struct axis {
    const double *first, *count, *weight;
    int32_t taps;
} axis;

static axis axis_at(const double *table, int32_t out, int32_t taps) {
    return (axis){table, table + out, table + 2 * out, taps};
}

static int32_t byte_of(const rg_kinterp *in, int32_t image, int64_t at) {
    double word =
        in->arg[RG_KINPUT_PIXELS][(int64_t)image * in->desc->arg[RG_KINPUT_PIXELS].cp + at / 4];
    return (int32_t)((uint32_t)word >> at % 4 * 8 & 255);
}

static int32_t rounded(int64_t sum) {
    int64_t value = sum >> BITS;
    return value < 0 ? 0 : value > 255 ? 255 : (int32_t)value;
}

/* Row y of the input, stretched, at output x. */
static int32_t stretched(const rg_kinterp *in, const axis *w, int32_t image, int64_t row,
                         int32_t x) {
    int64_t sum = HALF;
    for (int32_t t = 0; t < (int32_t)w->count[x]; t++)
        sum += (int64_t)w->weight[x * w->taps + t] *
               byte_of(in, image, row + (int64_t)w->first[x] + t);
    return rounded(sum);
}

static void put_pixel(const rg_kinterp *in, const axis *h, const axis *w, int32_t n, int32_t y,
                      int32_t x) {
    const rg_kinput *input = &in->desc->input;
    const rg_karg *to = &in->desc->arg[RG_KINPUT_IMAGE];
    double *const *error = in->error;
    int32_t image = (int32_t)in->arg[RG_KINPUT_ORDER][n];
    for (int32_t c = 0; c < to->c; c++) {
        int64_t sum = HALF, at = rg_karg_index(to, n, y, x, c);
        for (int32_t t = 0; t < (int32_t)h->count[y]; t++) {
            int64_t row = ((int64_t)c * input->h + (int32_t)h->first[y] + t) * input->w;
            sum += (int64_t)h->weight[y * h->taps + t] * stretched(in, w, image, row, x);
        }
        double share = rounded(sum) / 255.0, mean = (double)input->mean[c];
        in->arg[RG_KINPUT_IMAGE][at] = (share - mean) / (double)input->std[c];
        /* a rounding each for the quotient, the difference and the second quotient */
        if (error && error[RG_KINPUT_IMAGE])
            error[RG_KINPUT_IMAGE][at] =
                3 * RG_UNIT * (share + fabs(mean)) / fabs((double)input->std[c]);
    }
}

/* An image beyond the batch, and its label: exactly that. */
static void put_zeros(const rg_kinterp *in, int32_t n) {
    const rg_karg *to = &in->desc->arg[RG_KINPUT_IMAGE];
    in->arg[RG_KINPUT_LABEL][n] = 0;
    for (int32_t y = 0; y < to->h; y++)
        for (int32_t x = 0; x < to->w; x++)
            for (int32_t c = 0; c < to->c; c++)
                in->arg[RG_KINPUT_IMAGE][rg_karg_index(to, n, y, x, c)] = 0;
}

rg_status rg_kinterp_input(rg_kinterp *in) {
    const rg_kinput *input = &in->desc->input;
    const rg_karg *to = &in->desc->arg[RG_KINPUT_IMAGE];
    const double *table = in->arg[RG_KINPUT_WEIGHTS];
    axis h = axis_at(table, to->h, input->taps_h),
         w = axis_at(table + to->h * (2 + input->taps_h), to->w, input->taps_w);
    for (int32_t n = in->ctrl->live; n < in->ctrl->blocks * RG_BLOCK; n++) put_zeros(in, n);
    for (int32_t n = 0; n < in->ctrl->live; n++) {
        in->arg[RG_KINPUT_LABEL][n] =
            in->arg[RG_KINPUT_LABELS][(int64_t)in->arg[RG_KINPUT_ORDER][n]];
        for (int32_t y = 0; y < to->h; y++)
            for (int32_t x = 0; x < to->w; x++) put_pixel(in, &h, &w, n, y, x);
    }
    return RG_OK;
}
