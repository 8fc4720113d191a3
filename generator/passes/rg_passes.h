/* The passes from graph to graph. Each leaves its input as it was and builds a new graph in the
 * same arena. */
#ifndef RG_PASSES_H
#define RG_PASSES_H

#include "rg_ops.h"

/* Forward graph -> forward and backward: appends the gradient of the loss with respect to every
 * trained parameter that the loss depends on, as RG_O_GRAD results. Gradients with respect to
 * inputs are never made: no plan holds the first convolution's dgrad. */
rg_status rg_pass_grad(rg_ctx *ctx, const rg_graph *in, rg_graph **out) RG_CHECKED;

/* Forward graph in training form -> inference: BATCH_NORM becomes BATCH_NORM_EVAL, new statistics
 * are dropped. With `predict` only the logits stay. */
rg_status rg_pass_infer_mode(rg_ctx *ctx, const rg_graph *in, bool predict,
                             rg_graph **out) RG_CHECKED;

/* batch_norm, loss and their gradients -> reduce, channel maths, pointwise. */
rg_status rg_pass_decompose(rg_ctx *ctx, const rg_graph *in, rg_graph **out) RG_CHECKED;

/* Inference only: BATCH_NORM_EVAL -> scale = gamma*rsqrt(var + eps), a value of parameters and
 * states alone (it becomes a derived value, made once after a load), and pointwise fma(x - mean,
 * scale, beta). */
rg_status rg_pass_fold(rg_ctx *ctx, const rg_graph *in, rg_graph **out) RG_CHECKED;

/* Common subexpressions, then what no result needs. */
rg_status rg_pass_simplify(rg_ctx *ctx, const rg_graph *in, rg_graph **out) RG_CHECKED;

/* Rounds values to numbers of the graph's format (rg_graph.format), each once, where it is made,
 * and gives contractions that format. f16: the gradient of the loss is multiplied by the leaf
 * RG_LOSS_SCALE, and so are all gradients then. f32: a copy. */
rg_status rg_pass_precision(rg_ctx *ctx, const rg_graph *in, rg_graph **out) RG_CHECKED;
#define RG_LOSS_SCALE "loss_scale"
/* By value: is it a number of the graph's format, as its tree shows? (f32: none.) Owner: ctx's
 * arena. */
rg_status rg_precision_analyse(rg_ctx *ctx, const rg_graph *graph, bool **exact) RG_CHECKED;
/* Every operand of a contraction is a number of the graph's format; nothing is rounded twice.
 * RG_E_INTERNAL with one line otherwise. */
rg_status rg_precision_check(rg_ctx *ctx, const rg_graph *graph) RG_CHECKED;

/* ---- for passes ---- */

/* A graph under construction and the map from old values to new. */
typedef struct rg_rewrite {
    rg_ctx *ctx;
    const rg_graph *from;
    rg_graph *to;
    rg_vid *map; /* old value -> new value; -1: not made yet */
} rg_rewrite;

/* Starts a rewrite: parameter table and leaf values are copied. */
rg_status rg_rewrite_begin(rg_rewrite *rw, rg_ctx *ctx, const rg_graph *from,
                           const char *name) RG_CHECKED;
/* Copies a node with mapped inputs and maps its outputs. */
rg_status rg_rewrite_copy(rg_rewrite *rw, const rg_node *node) RG_CHECKED;
/* Copies the results whose values are mapped. */
rg_status rg_rewrite_results(rg_rewrite *rw) RG_CHECKED;

#endif
