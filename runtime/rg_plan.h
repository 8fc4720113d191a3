/* The plan: all that generator and runtime share. No pointers: names are offsets into the plan's
 * text pool and lists are (first, count) into its tables, so that a plan can be written out, read
 * back (rg_plan_check looks at everything) and emitted as static C. */
#ifndef RG_PLAN_H
#define RG_PLAN_H

#include "rg_base.h"

#define RG_PLAN_MAGIC      0x31504752u /* the bytes "RGP1" */
#define RG_PLAN_VERSION    3u
#define RG_PLAN_MAX_BLOCKS 4096
#define RG_PLAN_MAX_ARGS   255 /* target cuda: of a launch, beside the control block */

typedef uint32_t rg_pname; /* offset into text */

/* Arenas. WORK is shared by the programs of a plan (one runs at a time); its contents die with the
 * program. */
#define RG_PLAN_ARENA_LIST(X)                                                                      \
    X(PARAM, "param")     /* master weights, updated by `update` */                                \
    X(GRAD, "grad")       /* gradients; same offsets as PARAM */                                   \
    X(MOMENT1, "moment1") /* optimiser; same offsets as PARAM */                                   \
    X(MOMENT2, "moment2") /* the same */                                                           \
    X(STATE, "state")     /* running statistics */                                                 \
    X(DERIVED, "derived") /* packed and transformed weights: made of PARAM and STATE */            \
    X(IO, "io")           /* image, label, loss, correct, logits */                                \
    X(WORK, "work")       /* activations and the rest */                                           \
    X(DATA, "data")       /* what `input` reads: each buffer is the runtime's own, as long as the  \
                             data set wants it (bytes: for as many images as the image buffer) */

typedef enum rg_plan_arena {
#define X(id, name) RG_ARENA_##id,
    RG_PLAN_ARENA_LIST(X)
#undef X
        RG_ARENA_COUNT
} rg_plan_arena;

/* Layouts of buffers whose logical order the runtime must know. dim as in the field comments. */
typedef enum rg_plan_layout {
    RG_PL_RAW,    /* bytes */
    RG_PL_ACT,    /* dim: H W C CP : float [blocks][H][W][16][CP] */
    RG_PL_VEC,    /* dim: C CP : float [CP] */
    RG_PL_WEIGHT, /* dim: K R S C, cp: KP, kb: KB : float [KP/KB][R][S][C][KB] */
} rg_plan_layout;

typedef struct rg_plan_buffer {
    rg_pname name;
    uint32_t arena, layout;
    uint32_t dim[4];
    uint32_t cp, kb;
    uint64_t offset, bytes; /* at the largest batch of the plan */
} rg_plan_buffer;

typedef struct rg_plan_kernel {
    rg_pname symbol; /* C function; also file name and label */
    rg_pname key;    /* 32 hex digits */
    uint32_t tiles_per_block, tiles_fixed;
    uint64_t scratch_bytes; /* a thread (cpu) */
    uint32_t threads;       /* of a block (cuda: a tile is a block); else 0 */
    uint32_t shared_bytes;  /* dynamic shared memory of a block (cuda); else 0 */
    uint32_t arg_count;
    double flop_per_image; /* useful */
    double bytes_per_image;
} rg_plan_kernel;

typedef enum rg_plan_op_kind { RG_PO_LAUNCH, RG_PO_FILL } rg_plan_op_kind;

typedef struct rg_plan_op {
    uint32_t kind;
    uint32_t kernel;               /* LAUNCH */
    uint32_t first_arg, arg_count; /* into arg[]: buffers, in the kernel's order. FILL: one buffer,
                                      filled with zeros */
    uint32_t wait;  /* 1: all earlier ops of the program must be complete before this one starts */
    rg_pname label; /* the layer, for tables */
} rg_plan_op;

#define RG_PLAN_PROGRAM_LIST(X)                                                                    \
    X(GRAD, "grad")                                                                                \
    X(UPDATE, "update")                                                                            \
    X(DERIVE, "derive")                                                                            \
    X(EVAL, "eval")                                                                                \
    X(PREDICT, "predict")                                                                          \
    X(INPUT, "input") /* makes the next batch, beside the others (cuda) */

typedef enum rg_plan_program_id {
#define X(id, name) RG_PP_##id,
    RG_PLAN_PROGRAM_LIST(X)
#undef X
        RG_PP_COUNT
} rg_plan_program_id;

typedef struct rg_plan_program {
    uint32_t first_op, op_count; /* op_count 0: the plan has not got it */
} rg_plan_program;

typedef enum rg_plan_param_kind { RG_PK_TRAINED, RG_PK_STATE, RG_PK_COUNTER } rg_plan_param_kind;
typedef enum rg_plan_init { RG_PI_CONST, RG_PI_UNIFORM } rg_plan_init;

/* A row of the parameter table, in the order of PyTorch's state_dict. */
typedef struct rg_plan_param {
    rg_pname name;
    uint32_t kind;
    uint32_t rank; /* logical shape; COUNTER: rank 0, int64, the number of training steps */
    uint64_t shape[4];
    uint32_t buffer; /* PARAM or STATE arena; COUNTER: unused. WEIGHT: logical order K C R S
                        (linear: K, C*R*S the same way) */
    uint32_t init;
    double value; /* CONST: the value; UNIFORM: bound of (-bound, bound) */
} rg_plan_param;

/* Well-known buffers; UINT32_MAX where the plan has none. */
typedef struct rg_plan_io {
    uint32_t image, label;          /* ACT H W C; ACT 1 1 1 as floats */
    uint32_t loss, correct, logits; /* VEC 1, VEC 1, ACT 1 1 K */
} rg_plan_io;

/* What f16's loss scaling keeps from step to step: VEC 1 of the arena STATE; UINT32_MAX where there
 * is no scaling. 0 stands for the first scale. */
typedef struct rg_plan_scaling {
    uint32_t scale, steps; /* steps: good ones in a row */
} rg_plan_scaling;

/* Buffers of the arena DATA, in a plan that has the program `input`. */
typedef struct rg_plan_set {
    uint32_t pixels;  /* u32 [images][ceil(C*H*W/4)]: the set's bytes, of each image [C][H][W] */
    uint32_t labels;  /* u32 [images] */
    uint32_t order;   /* u32 [images of the batch]: which images it is made of */
    uint32_t weights; /* u32 [rg_resize_words]: for height, then width: first[out], count[out],
                         weight[out][rg_resize_taps]; as in rg_resize_axis */
} rg_plan_set;

typedef struct rg_plan_data {
    rg_pname dataset;                          /* "cifar10" */
    uint32_t height, width, channels, classes; /* of the image that the network sees */
    uint32_t set_height, set_width;            /* of the images that `input` reads; 0: no matter */
    float mean[4], std[4];
    uint32_t batch, eval_batch, epochs;
    uint64_t seed;
    uint32_t optim_kind; /* 0 SGD, 1 Adam */
    double lr, beta1, beta2;
} rg_plan_data;

typedef struct rg_plan {
    uint32_t magic; /* "RGP1" */
    uint32_t version;
    rg_hash source;      /* of spec, target and options */
    uint32_t max_blocks; /* image blocks for which buffers are sized */
    uint32_t text_bytes, buffer_count, kernel_count, arg_count, op_count, param_count;
    uint64_t arena_bytes[RG_ARENA_COUNT];
    uint64_t work_lower_bound; /* most bytes live at once in WORK */
    rg_plan_program program[RG_PP_COUNT];
    rg_plan_io io;
    rg_plan_scaling scaling;
    rg_plan_set set;
    rg_plan_data data;
    /* tables: in memory these are pointers into the plan's own block; in a file the tables follow
     * this header in this order */
    const char *text;
    const rg_plan_buffer *buffer;
    const rg_plan_kernel *kernel;
    const uint32_t *arg;
    const rg_plan_op *op;
    const rg_plan_param *param;
} rg_plan;

static inline const char *rg_plan_text(const rg_plan *plan, rg_pname name) {
    return plan->text + name;
}

/* Weights of an output of PIL's bilinear resize, zeros included. */
static inline uint32_t rg_resize_taps(uint32_t in, uint32_t out) {
    return 2 * ((in + out - 1) / out) + 1;
}

/* Words that an axis takes in the buffer `weights`. */
static inline uint32_t rg_resize_words(uint32_t in, uint32_t out) {
    return out * (2 + rg_resize_taps(in, out));
}

/* Looks at every index, offset, size, layout and alias of a plan that came from anywhere.
 * RG_E_FORMAT with one line. */
rg_status rg_plan_check(rg_ctx *ctx, const rg_plan *plan) RG_CHECKED;

/* What a kernel is on the CPU. a: the arguments; tile: 0 <= tile < tiles; scratch: the thread's
 * own, 64-byte aligned. */
typedef void (*rg_cpu_kernel)(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch);

#endif
