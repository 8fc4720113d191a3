/* The three kernels of a convolution held against one another: <conv(x), y> = <x, dgrad(y)> = <w,
 * wgrad(x, y)>. They share no code of the check against a description's meaning, nor its idea of
 * what a description means. */
#ifndef RG_HARNESS_ADJOINT_H
#define RG_HARNESS_ADJOINT_H

#include "rg_harness.h"

typedef enum rg_hrole { RG_HFPROP, RG_HDGRAD, RG_HWGRAD, RG_HROLES } rg_hrole;

/* A convolution, by its fprop: sizes and, for each axis, which input a tap reads. Equal ones are
 * equal in every byte. */
typedef struct rg_hgeom {
    int32_t h, w, c, k, r, s, p, q;
    rg_kgeom gh, gw;
} rg_hgeom;

/* The geometry of a contraction of a CONV or WGRAD description. `role`: what the kernel is. */
rg_hgeom rg_harness_geometry(const rg_kdesc *desc, int32_t contr, rg_hrole role);

/* That contraction alone: no prologue, no epilogue but a store, no reductions, no variant. Argument
 * 0 is the operand (wgrad: x), 1 the weights (wgrad: dy), 2 the result. Owner: ctx's arena. */
rg_status rg_harness_bare(rg_ctx *ctx, const rg_kdesc *desc, int32_t contr, rg_hrole role,
                          rg_kdesc *bare) RG_CHECKED;

/* A description with a variant: its weights in the form that the variant wants, its partial results
 * in their number. `desc` may have another variant. Owner: ctx's arena. */
rg_status rg_harness_settle(rg_ctx *ctx, const rg_kdesc *desc, const rg_candidate *candidate,
                            rg_kdesc *settled) RG_CHECKED;

/* A bare description with its variant, and its kernel. */
typedef struct rg_hbare {
    const rg_kdesc *desc; /* NULL: there is no such kernel (the first convolution has no dgrad) */
    rg_harness_run run;
} rg_hbare;

typedef struct rg_hadjoint {
    bool passed;
    double product[RG_HROLES]; /* <conv(x), y>, <x, dgrad(y)>, <w, wgrad(x, y)>; NaN: no kernel */
    double error;              /* the largest difference, relative to `size` */
    double worst;              /* the same, relative to its bound: above 1 fails */
    double size;               /* the largest sum of the magnitudes of a scalar product's terms */
} rg_hadjoint;

/* Runs the kernels on the same random x, y and w. fprop must be there.
 *
 * The bound: each element of a result is charged a relative error of 1e-5 (the kernels' own check
 * holds them to less), all of one sign, and 1e-6 for sums of nothing. Errors: only what keeps the
 * check from running. */
rg_status rg_harness_adjoint(rg_ctx *ctx, const rg_hbare bare[RG_HROLES], int32_t live,
                             uint64_t seed, rg_hadjoint *result) RG_CHECKED;

#endif
