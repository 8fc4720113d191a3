/* Kernel descriptions as test cases: one list for correctness, adjoints and support of every
 * variant. */
#ifndef RG_CASES_H
#define RG_CASES_H

#include "rg_kdesc.h"

typedef struct rg_case {
    const char *label;
    rg_kdesc desc; /* without a variant */
    int32_t live;  /* images to run with */
    bool dgrad;
    bool
        optional; /* a store or a sum in a prologue: a variant may say that it cannot do it there */
} rg_case;

/* All cases for vectors of `vector` floats. NULL when memory runs out. Owner: arena. */
rg_case *rg_cases(rg_arena *arena, int32_t vector, int32_t *count);

/* A plain convolution (NHWC sizes of its fprop) and its two gradients, for the adjoint identities:
 * argument 0 the operand (wgrad: x), 1 the weights (wgrad: dy), 2 the result. */
typedef struct rg_conv_shape {
    int32_t h, w, c, k, r, s, stride, pad, dilation;
} rg_conv_shape;
extern const rg_conv_shape rg_conv_shapes[];
extern const int32_t rg_conv_shape_count;
bool rg_case_fprop(rg_arena *arena, int32_t vector, const rg_conv_shape *shape, rg_case *to);
bool rg_case_dgrad(rg_arena *arena, int32_t vector, const rg_conv_shape *shape, rg_case *to);
bool rg_case_wgrad(rg_arena *arena, int32_t vector, const rg_conv_shape *shape, rg_case *to);

/* Takes a variant into a description: parts of its reductions, partial or transformed weights.
 * `wino_m` 0: as they are. */
void rg_case_settle(rg_kdesc *desc, const rg_kvariant *variant, int32_t wino_m);

#endif
