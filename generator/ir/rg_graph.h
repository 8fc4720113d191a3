/* The IR: SSA values over typed tensors. A graph is one program (grad, eval, predict); passes map
 * graphs to graphs. */
#ifndef RG_GRAPH_H
#define RG_GRAPH_H

#include "rg_kdesc.h"

/* dim: ACT: N H W C, where N is RG_BATCH or 1 (a constant over the batch), and 1 broadcasts: a
 * channel vector is 1 1 1 C, a value per image and channel RG_BATCH 1 1 C. WEIGHT: K R S C (logical
 * order of parameters is PyTorch's K C R S; only files know that). */
typedef enum rg_type_class { RG_T_ACT, RG_T_WEIGHT } rg_type_class;
#define RG_BATCH (-1)

typedef struct rg_type {
    rg_type_class cls;
    int32_t dim[4];
} rg_type;

bool rg_type_equal(rg_type a, rg_type b);
/* Elements for one image (N counted as 1). */
int64_t rg_type_elements(rg_type type);
bool rg_type_is_channel(rg_type type); /* ACT, N = H = W = 1 */
/* Can `from` be read at every element of `to`: same class, each extent equal or (ACT) 1? */
bool rg_type_broadcasts(rg_type from, rg_type to);
/* RG_AXIS_* over which `from` is repeated when read at every element of `to`. */
uint32_t rg_type_broadcast_axes(rg_type from, rg_type to);
/* `type` with the RG_AXIS_* of `axes` reduced to 1. */
rg_type rg_type_reduced(rg_type type, uint32_t axes);
/* "[N 11 11 128]", weights "[K64 R3 S3 C64]"; what rg_error messages and dumps show. */
typedef struct rg_type_text {
    char text[64];
} rg_type_text;
rg_type_text rg_type_print(rg_type type);
/* Image extents that a window reads, its span, stride and padding stay within this, so that
 * coordinates fit in 32 bits. */
#define RG_MAX_EXTENT (1 << 20)
/* Outputs along one axis of a window of `taps`; under 1 where it does not fit. */
int64_t rg_window_extent(int32_t in, int32_t taps, int32_t stride, int32_t pad, int32_t dilation);

typedef int32_t rg_vid; /* value */
typedef int32_t rg_nid; /* node */

/* One list of ops: generator/ops/ops.def. OP(id, name, inputs (-1: any), outputs) */
typedef enum rg_op {
#define OP(id, name, inputs, outputs) RG_OP_##id,
#include "ops.def"
#undef OP
    RG_OP_COUNT
} rg_op;

typedef enum rg_reduce_kind { RG_REDUCE_SUM, RG_REDUCE_MAX, RG_REDUCE_MOMENTS } rg_reduce_kind;

typedef struct rg_attr {
    /* conv2d_*, maxpool*, avgpool* */
    int32_t r, s, stride, pad, dilation;
    /* conv2d_*: what its products are made of; set by the pass `precision`. Weights are rounded
     * where they are read, the other operands by their own trees */
    rg_kformat format;
    /* pointwise: the DAG over ARG i = input i; leaves are CONST, ARG, INDEX, CTRL */
    rg_expr expr;
    int32_t root;
    bool seed; /* pointwise: reverse mode starts here: the gradient of the loss itself */
    /* reduce */
    rg_reduce_kind reduce;
    uint32_t axes; /* RG_AXIS_* of kernel/ : reduced axes */
    /* batch_norm */
    double eps, momentum;
    /* loss */
    double smoothing;
} rg_attr;

#define RG_NODE_OUT 5

typedef struct rg_node {
    rg_op op;
    int32_t in_count, out_count;
    rg_vid *in;
    rg_vid out[RG_NODE_OUT];
    rg_attr attr;
    const char *name; /* the spec's name of the layer, or made from it */
    rg_loc loc;
} rg_node;

typedef enum rg_value_kind {
    RG_V_INPUT, /* image, label */
    RG_V_PARAM, /* trained */
    RG_V_STATE, /* running statistics */
    RG_V_NODE,
} rg_value_kind;

typedef struct rg_value {
    rg_value_kind kind;
    rg_type type;
    rg_nid def;       /* NODE: its producer; else -1 */
    int32_t param;    /* PARAM, STATE: row of the parameter table; else -1 */
    const char *name; /* PARAM, STATE: PyTorch's name; INPUT: "image", "label"; NODE: for dumps, may
                         be NULL */
    rg_loc loc;
} rg_value;

/* What a result of the program is for. */
typedef enum rg_out_kind {
    RG_O_LOSS,    /* [1 1 1 1] mean over the live images */
    RG_O_CORRECT, /* [1 1 1 1] count of right answers */
    RG_O_LOGITS,  /* [N 1 1 K] */
    RG_O_GRAD,    /* gradient of parameter `param` */
    RG_O_STATE,   /* new value of state `param` */
} rg_out_kind;

typedef struct rg_result {
    rg_out_kind kind;
    rg_vid value;
    int32_t param;
} rg_result;

typedef enum rg_init { RG_INIT_CONST, RG_INIT_UNIFORM } rg_init;

typedef struct rg_param {
    const char *name;
    bool trained;
    rg_type type; /* WEIGHT, or ACT 1 1 1 C */
    int32_t rank; /* logical shape as in PyTorch's state_dict */
    int64_t shape[4];
    rg_init init;
    double value; /* CONST: the value; UNIFORM: the bound (-value, value) */
    rg_loc loc;
} rg_param;

typedef struct rg_graph {
    rg_arena *arena;
    const char *name; /* "grad", "eval", "predict" */
    rg_kformat
        format; /* of all contractions after `precision`; 16-bit ones also of what is stored */
    int32_t value_count, value_capacity;
    rg_value *value;
    int32_t node_count, node_capacity;
    rg_node *node; /* topological order */
    int32_t result_count, result_capacity;
    rg_result *result;
    int32_t param_count, param_capacity; /* the same table in every program of a spec */
    rg_param *param;
} rg_graph;

rg_graph *rg_graph_new(rg_arena *arena, const char *name) RG_CHECKED;
/* Adds a leaf value (INPUT, PARAM, STATE); -1 when memory runs out. */
rg_vid rg_graph_add_leaf(rg_graph *graph, rg_value_kind kind, rg_type type, const char *name,
                         int32_t param, rg_loc loc) RG_CHECKED;
/* Adds a row of the parameter table; its index, or -1. */
int32_t rg_graph_add_param(rg_graph *graph, const rg_param *param) RG_CHECKED;
/* Appends a node with `out_count` outputs of the given types. `in` and `attr` (with its tree) are
 * copied; attr may be NULL. -1 when memory runs out. */
rg_nid rg_graph_add_node(rg_graph *graph, rg_op op, const rg_vid *in, int32_t in_count,
                         const rg_type *out_type, int32_t out_count, const rg_attr *attr,
                         const char *name, rg_loc loc) RG_CHECKED;
rg_status rg_graph_add_result(rg_graph *graph, rg_out_kind kind, rg_vid value,
                              int32_t param) RG_CHECKED;
/* Convenience: a pointwise node of the given type whose tree is `root` of `expr` over the inputs;
 * the value, or -1. */
rg_vid rg_graph_pointwise(rg_graph *graph, const rg_vid *in, int32_t in_count, const rg_expr *expr,
                          int32_t root, rg_type type, const char *name, rg_loc loc) RG_CHECKED;
/* MOMENTS: the mean is returned, M2 is the producer's out[1]. */
rg_vid rg_graph_reduce(rg_graph *graph, rg_vid in, rg_reduce_kind kind, uint32_t axes,
                       const char *name, rg_loc loc) RG_CHECKED;

const char *rg_op_name(rg_op op);
/* One line a value and node: the dump of every graph stage. */
void rg_graph_dump(rg_text *text, const rg_graph *graph);
/* Do the types of a node's inputs and outputs go together? NULL, or what is wrong, in a few words.
 */
const char *rg_node_check_types(const rg_graph *graph, const rg_node *node);
/* SSA order, arity, types of every node against its inputs: RG_E_INTERNAL with one line otherwise.
 */
rg_status rg_graph_verify(rg_ctx *ctx, const rg_graph *graph) RG_CHECKED;

#endif
