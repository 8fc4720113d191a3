/* Inside the interpreter: values that carry a bound of their f32 error (running error analysis,
 * Higham, Accuracy and Stability of Numerical Algorithms, 3.3). The value is the meaning in double;
 * the bound says how far a kernel in f32 may be from it, comparisons that may go either way
 * included. */
#ifndef RG_KINTERP_H
#define RG_KINTERP_H

#include "rg_kdesc.h"

/* Unit roundoff of f32. */
#define RG_UNIT 0x1p-24

typedef struct rg_kval {
    double v, e;
} rg_kval;

/* One operator on values with bounds. */
rg_kval rg_kval_apply(rg_expr_op op, rg_kval a, rg_kval b, rg_kval c);
/* Roundings that a sum of `terms` products or numbers is charged with: the worst case for few, 4
 * sqrt(n) for many (Higham and Mary, A new approach to probabilistic rounding error analysis, 2019:
 * exceeded with probability 2 exp(-8)). */
double rg_kval_roundings(double terms);

/* A running reduction: everything that SUM, MAX and MOMENTS need. */
typedef struct rg_kacc {
    double count, sum, magnitude, nonzero, mean, m2, max;
    double reach; /* the largest distance from the mean so far */
    double sum_error, m2_error, max_error;
} rg_kacc;

void rg_kacc_init(rg_kacc *acc);
void rg_kacc_add(rg_kacc *acc, rg_kval value);
rg_kval rg_kacc_sum(const rg_kacc *acc);
rg_kval rg_kacc_max(const rg_kacc *acc);
rg_kval rg_kacc_mean(const rg_kacc *acc);
rg_kval rg_kacc_m2(const rg_kacc *acc);

/* State of one interpretation. Arrays over a site's space are [live images][h][w][c], without
 * padding. */
typedef struct rg_kinterp {
    rg_ctx *ctx;
    rg_arena *arena; /* gone with the interpretation */
    const rg_kdesc *desc;
    const rg_ctrl *ctrl;
    double *const *arg;
    double *const *error; /* NULL: no bounds wanted; error[i] may be NULL */
    rg_kval *acc[2];      /* the anchor's results over the epilogue's space */
    rg_kval **row;        /* by ROW leaf: [live][h][w] */
    rg_kval **fin;        /* by FIN leaf: [length] */
    int32_t *fin_length;  /* 1: the same for all */
    bool run;             /* the site at hand is over a run: a VEC kernel's, or a tail */
} rg_kinterp;

/* Evaluates a site over its whole space and does its outputs. `operand`, where not NULL, receives
 * the root's value. */
rg_status rg_kinterp_site(rg_kinterp *in, const rg_ksite *site, rg_kval *operand) RG_CHECKED;
/* The anchors: CONV and WINDOW fill in->acc from the operands; WGRAD writes its result; PACK its
 * argument. */
rg_status rg_kinterp_conv(rg_kinterp *in, rg_kval *const *operand) RG_CHECKED;
rg_status rg_kinterp_wgrad(rg_kinterp *in, const rg_kval *x, const rg_kval *dy) RG_CHECKED;
rg_status rg_kinterp_window(rg_kinterp *in, const rg_kval *operand) RG_CHECKED;
rg_status rg_kinterp_pack(rg_kinterp *in) RG_CHECKED;
/* INPUT writes image and label. */
rg_status rg_kinterp_input(rg_kinterp *in) RG_CHECKED;
/* Gathers every FIN leaf. */
rg_status rg_kinterp_fins(rg_kinterp *in) RG_CHECKED;

#endif
