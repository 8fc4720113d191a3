/* Inside of rg_resize, shared by rg_resize.c (one plane) and rg_data.c (16 images at once). */
#ifndef RG_RESIZE_H
#define RG_RESIZE_H

#include "rg_core.h"

/* Fixed point of Pillow's coefficients: a weight of 1 is 1 << RG_RESIZE_BITS. */
enum { RG_RESIZE_BITS = 22, RG_RESIZE_HALF = 1 << (RG_RESIZE_BITS - 1), RG_RESIZE_MAX = 65535 };

/* Output i of an axis is the sum over t < count[i] of weight[i*taps + t] * in[first[i] + t]. */
typedef struct rg_resize_axis {
    uint32_t in, out, taps;
    uint32_t *first, *count;
    int32_t *weight;
} rg_resize_axis;

struct rg_resize {
    rg_resize_axis h, w;
};

/* Both axes as words, height first: the buffer `weights` of a plan (rg_plan_set). */
void rg_resize_table(const rg_resize *resize, uint32_t *to);

/* A weighted sum that began at RG_RESIZE_HALF, as the byte that Pillow makes of it. */
static inline uint8_t rg_resize_round(int32_t sum) {
    int32_t value = sum >> RG_RESIZE_BITS;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

#endif
