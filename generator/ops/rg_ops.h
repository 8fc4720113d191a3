/* What the ops mean: shape rules, gradients, double-precision references. */
#ifndef RG_OPS_H
#define RG_OPS_H

#include "rg_graph.h"

/* Output types of a node from its inputs' types. Errors: RG_E_SHAPE with the node's place, in words
 * a user of the spec understands. Gradients of windows and convolutions take back what they read
 * from, which their inputs do not tell: for these the type recorded for out[0] in the graph is
 * checked and returned. A pointwise node's type is what its inputs broadcast to together, unless a
 * recorded one is larger. `node` need not be in the graph (its `out` is then -1 or zero). */
rg_status rg_op_infer(rg_ctx *ctx, const rg_graph *graph, const rg_node *node,
                      rg_type *out_type) RG_CHECKED;

/* Appends the gradient of `node` to the graph: given the value of d loss / d output 0 in `dout`,
 * leaves d loss / d input i in din[i] (-1: none wanted or none exists). `wanted[i]` says which are
 * asked for. BN and the loss use their closed forms. The loss starts reverse mode: its dout is 1 by
 * definition and not read (pass -1). Values of images beyond the live ones are of no meaning in
 * gradients, and every sum over images leaves them out. Ops without a rule: RG_E_UNSUPPORTED. */
rg_status rg_op_grad(rg_ctx *ctx, rg_graph *graph, rg_nid node, rg_vid dout, const bool *wanted,
                     rg_vid *din) RG_CHECKED;

/* Useful FLOP of a node per image, counted as the direct algorithm (all taps); other ops: an
 * operation an element of their tree or rule. */
double rg_op_flop(const rg_graph *graph, const rg_node *node);

/* The reference interpreter: the meaning of a network. Tensors are doubles in logical order (ACT: N
 * H W C; WEIGHT: K R S C). */
typedef struct rg_interp rg_interp;

/* Room for every value of the graph at batch n. Owner: caller, freed by rg_interp_free. */
rg_status rg_interp_new(rg_ctx *ctx, const rg_graph *graph, int32_t n,
                        rg_interp **interp) RG_CHECKED;
void rg_interp_free(rg_interp *interp);
/* The tensor of a value: fill those of leaves, read any after the run. */
double *rg_interp_value(rg_interp *interp, rg_vid value);
int64_t rg_interp_count(const rg_interp *interp, rg_vid value);
/* Runs all nodes in order. Works on graphs before and after every pass. `ctrl` gives the live
 * images (1 to n: leaves COUNT and INV_COUNT follow from it) and the other CTRL leaves. Sums over
 * images take the live ones; everything else is computed for all n. */
rg_status rg_interp_run(rg_ctx *ctx, rg_interp *interp, const rg_ctrl *ctrl) RG_CHECKED;
/* In runs to come, `watch` is called after each node; it may change what the node has made. */
typedef void (*rg_interp_watch)(void *user, rg_interp *interp, const rg_node *node);
void rg_interp_watch_nodes(rg_interp *interp, rg_interp_watch watch, void *user);

/* The optimisers as expression trees over ARG 0 parameter, 1 gradient, 2 and 3 moments (as many as
 * the kind has): new values in roots. */
typedef enum rg_optim_kind { RG_OPTIM_SGD, RG_OPTIM_ADAM } rg_optim_kind;
typedef struct rg_optim {
    rg_optim_kind kind;
    double lr, beta1, beta2, eps, momentum, weight_decay;
    bool nesterov;
} rg_optim;
/* Adam 2, SGD 1 with momentum, else 0. */
int32_t rg_optim_moments(const rg_optim *optim);
/* root[0] the parameter, root[1..] the moments; *moments their number. lr, bias corrections: CTRL
 * leaves. */
rg_status rg_optim_expr(const rg_optim *optim, rg_expr *expr, int32_t root[3],
                        int32_t *moments) RG_CHECKED;
/* f16's loss scale, as PyTorch's GradScaler has it: so many good steps in a row double it, a step
 * with a gradient that is not finite is left out and halves it. */
#define RG_LOSS_SCALE_FIRST 65536.0
#define RG_LOSS_SCALE_MOST  16777216.0
#define RG_LOSS_SCALE_STEPS 2000.0
/* Nodes: the state (scale, good steps) and the largest |gradient|, scaled and NaN where there is
 * one, in; the next state and the factor of this step's gradients out, 1/scale or, for a step to be
 * left out, 0. -1 when memory runs out. */
typedef struct rg_loss_scale_nodes {
    int32_t scale, steps, factor;
} rg_loss_scale_nodes;
rg_loss_scale_nodes rg_optim_loss_scale(rg_expr *expr, int32_t scale, int32_t steps,
                                        int32_t largest);
/* The same in double: changes the state, returns the factor. */
typedef struct rg_loss_scaling {
    double scale, steps;
} rg_loss_scaling;
double rg_loss_scaling_next(rg_loss_scaling *state, double largest);
/* The reference: step `step` (from 1) of the optimiser in double, learning rate and corrections
 * too, on one tensor. */
rg_status rg_optim_step(rg_ctx *ctx, const rg_optim *optim, uint64_t step, double *param,
                        const double *grad, double *const moment[2], int64_t count) RG_CHECKED;

#endif
