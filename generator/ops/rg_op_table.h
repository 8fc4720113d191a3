/* A row for each op: what generator/ops knows of it. Private to this folder. */
#ifndef RG_OP_TABLE_H
#define RG_OP_TABLE_H

#include "rg_kdesc.h"
#include "rg_ops.h"

/* ---- rg_op_infer.c ---- */

typedef struct rg_infer {
    rg_ctx *ctx;
    const rg_graph *graph;
    const rg_node *node;
    rg_type *out;
} rg_infer;

rg_status rg_infer_fprop(rg_infer *infer);
rg_status rg_infer_wgrad(rg_infer *infer);
rg_status rg_infer_maxpool(rg_infer *infer);
rg_status rg_infer_avgpool(rg_infer *infer);
rg_status rg_infer_recorded(rg_infer *infer); /* the gradients of convolutions and windows */
rg_status rg_infer_pointwise(rg_infer *infer);
rg_status rg_infer_reduce(rg_infer *infer);
rg_status rg_infer_batch_norm(rg_infer *infer);
rg_status rg_infer_batch_norm_grad(rg_infer *infer);
rg_status rg_infer_loss(rg_infer *infer);
rg_status rg_infer_loss_grad(rg_infer *infer);

/* ---- rg_op_grad.c ---- */

/* `node` is a copy: the graph's own array moves as nodes are added. */
typedef struct rg_grad {
    rg_ctx *ctx;
    rg_graph *graph;
    rg_node node;
    rg_vid dout;
    const bool *wanted;
    rg_vid *din;
} rg_grad;

rg_status rg_grad_fprop(rg_grad *grad);
rg_status rg_grad_maxpool(rg_grad *grad);
rg_status rg_grad_avgpool(rg_grad *grad);
rg_status rg_grad_pointwise(rg_grad *grad);
rg_status rg_grad_reduce(rg_grad *grad);
rg_status rg_grad_batch_norm(rg_grad *grad);
rg_status rg_grad_loss(rg_grad *grad);

/* ---- rg_op_ref_*.c: the meaning of each op, in double ---- */

/* Extents with the batch filled in, and elements in logical order. */
typedef struct rg_tensor {
    rg_type_class cls;
    bool batched; /* dim[0] is the batch: sums over it take the live images */
    int32_t dim[4];
    double *data;
} rg_tensor;

typedef struct rg_ref {
    const rg_attr *attr;
    const rg_ctrl *ctrl;
    int32_t live;
    int32_t in_count, out_count;
    const rg_tensor *in, *out;
    rg_arena *scratch; /* dies with the run */
} rg_ref;

/* RG_OK, or RG_E_NOMEM. */
typedef rg_status (*rg_ref_fn)(const rg_ref *ref);

rg_status rg_ref_fprop(const rg_ref *ref);
rg_status rg_ref_dgrad(const rg_ref *ref);
rg_status rg_ref_wgrad(const rg_ref *ref);
rg_status rg_ref_maxpool(const rg_ref *ref);
rg_status rg_ref_maxpool_grad(const rg_ref *ref);
rg_status rg_ref_avgpool(const rg_ref *ref);
rg_status rg_ref_avgpool_grad(const rg_ref *ref);
rg_status rg_ref_pointwise(const rg_ref *ref);
rg_status rg_ref_reduce(const rg_ref *ref);
rg_status rg_ref_batch_norm(const rg_ref *ref);
rg_status rg_ref_batch_norm_grad(const rg_ref *ref);
rg_status rg_ref_batch_norm_eval(const rg_ref *ref);
rg_status rg_ref_loss(const rg_ref *ref);
rg_status rg_ref_loss_grad(const rg_ref *ref);

/* Elements of a tensor. */
size_t rg_tensor_count(const rg_tensor *tensor);
/* Where the row of channels of a pixel starts. */
static inline size_t rg_tensor_at(const rg_tensor *t, int32_t n, int32_t h, int32_t w) {
    size_t pixel = ((size_t)n * (size_t)t->dim[1] + (size_t)h) * (size_t)t->dim[2] + (size_t)w;
    return pixel * (size_t)t->dim[3];
}
/* Images that a sum over this tensor takes. */
static inline int32_t rg_tensor_live(const rg_tensor *t, int32_t live) {
    return t->batched && live < t->dim[0] ? live : t->dim[0];
}
/* Does `value` replace the maximum so far? The first of equals stays; a NaN wins and stays. */
static inline bool rg_ref_beats(double value, double best) {
    return value > best || (value != value && best == best);
}

/* ---- the table ---- */

typedef struct rg_op_row {
    rg_status (*infer)(rg_infer *infer);
    rg_status (*grad)(rg_grad *grad); /* NULL: no rule */
    double (*flop)(const rg_graph *graph, const rg_node *node);
    rg_ref_fn reference;
} rg_op_row;

extern const rg_op_row rg_op_rows[RG_OP_COUNT];

#endif
