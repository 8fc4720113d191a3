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

/* A case as it is where contractions take numbers of a format: roundings, types of storage, and
 * (`turned`) a dgrad's weights as its fprop reads them. */
typedef struct rg_case_format {
    rg_kformat format;
    bool turned;
    bool held; /* TF32: activations hold such numbers already, no rounding stands before them */
} rg_case_format;
/* false when memory runs out. Owner: arena. */
bool rg_case_in_format(rg_arena *arena, const rg_case *from, const rg_case_format *way,
                       rg_case *to);
/* The cases of one format, element-wise kernels among them. */
rg_case *rg_format_cases(rg_arena *arena, int32_t vector, rg_kformat format, int32_t *count);

/* A data set's images of h x w pixels, made to_h x to_w. */
bool rg_case_input(rg_arena *arena, int32_t vector, int32_t h, int32_t w, int32_t to_h,
                   int32_t to_w, rg_case *to);

/* Two fprops of one operand in one kernel, each with its own sum; target cuda alone has such
 * kernels. NULL when memory runs out. Owner: arena. */
rg_case *rg_rider_cases(rg_arena *arena, int32_t vector, int32_t *count);

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
/* A dgrad that reads its fprop's weights as they are. */
void rg_case_turn(rg_kdesc *desc, int32_t vector);

/* The VEC kernel that gathers argument `part`, which a settled description writes: its argument 0
 * are the parts, then come (of partial sums) a vector that is read, and the result. */
bool rg_case_finish(rg_arena *arena, int32_t vector, const rg_kdesc *desc, int32_t part,
                    rg_kdesc *vec);
/* Such a tail for each of its parts, where an equally long one reads what the one before stored,
 * and the counter. Owner: ctx's arena. */
bool rg_case_add_tails(rg_ctx *ctx, int32_t vector, rg_kdesc *desc, int32_t *tails);

#endif
