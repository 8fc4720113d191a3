/* Shared by the files of the CUDA device. */
#ifndef RG_CUDA_IMPL_H
#define RG_CUDA_IMPL_H

#include "rg_cuda.h"

/* RG_OK, or a diagnostic: "cuMemAlloc_v2 (the arena 'work'): out of memory (error 2)". `about` is a
 * printf format for what the call was about. */
rg_status rg_cuda_check(rg_ctx *ctx, const rg_cuda_api *api, rg_cu_result result, const char *call,
                        const char *about, ...) RG_PRINTF(5, 6) RG_CHECKED;

/* ---- a plan on a device ---- */

/* A slot is what a run has in pinned memory. Those that leave results take two in turn, so that one
 * may be under way while the other's results are read; all others share the third. */
enum { RG_CUDA_RESULT_SLOTS = 2, RG_CUDA_SLOTS = 3, RG_CUDA_SETS = 4 };
enum { RG_CUDA_ARGS = RG_PLAN_MAX_ARGS + 1 }; /* and the control block */

/* What changes from run to run. The device has one, which a run's first node (or copy) fills from
 * the run's slot, and which the kernels read. */
typedef struct rg_cuda_step {
    rg_ctrl now, next; /* of the programs; of the batch that `input` makes */
    uint32_t order[];  /* of that batch */
} rg_cuda_step;

typedef struct rg_cuda_results {
    float loss, correct;
} rg_cuda_results;

/* Which nodes a graph has. */
typedef struct rg_cuda_shape {
    rg_plan_program_id program[2];
    int count, blocks;
    int slot;
    int image; /* which of the two images the programs read */
    int set;   /* from which `input` makes the other; -1: it does not */
} rg_cuda_shape;

typedef struct rg_cuda_graph {
    rg_cuda_shape shape;
    rg_cu_graph graph;
    rg_cu_graph_exec exec;
    struct rg_cuda_graph *next;
} rg_cuda_graph;

/* A data set on the device; pixels 0: the place is free. */
typedef struct rg_cuda_set {
    rg_cu_ptr pixels, labels, weights;
} rg_cuda_set;

typedef struct rg_cuda_exec {
    rg_arena *memory; /* this struct and its tables */
    const rg_cuda_api *api;
    const rg_plan *plan;
    bool stream_mode;
    rg_cu_device device;
    rg_cu_context context;
    rg_cu_stream stream;
    rg_cu_ptr arena[RG_ARENA_COUNT];
    rg_cu_ptr *apart; /* by buffer: an allocation of its own (0: it has none), or NULL */
    rg_cu_ptr twin;   /* image and label once more, where `input` makes the next batch */
    int image;        /* 0: those of the arena are read next; 1: the twins */
    rg_cuda_set set[RG_CUDA_SETS];
    rg_cu_module *module; /* of each kernel */
    rg_cu_function *function;
    rg_cuda_graph *graph;
    size_t step_bytes;
    rg_cu_ptr step;        /* rg_cuda_step */
    char *slots;           /* pinned: step_bytes each */
    rg_cuda_results *left; /* pinned: by result slot */
    rg_cu_event done[RG_CUDA_SLOTS];
    bool used[RG_CUDA_SLOTS];
    int turn;         /* of the result slots: the next one */
    void *io;         /* pinned: the host's side of the IO arena */
    rg_cu_event sent; /* what was sent from io has left it */
    rg_cu_event timer[2];
    bool sending;
} rg_cuda_exec;

/* ---- rg_cuda_op.c: one op of the plan ---- */

typedef struct rg_cuda_op {
    const rg_plan_op *op;
    const char *symbol, *label;
    rg_cu_kernel_node kernel; /* gridDimX 0: nothing to do */
    size_t fill_words;        /* FILL */
    rg_cu_ptr value[RG_CUDA_ARGS];
    void *param[RG_CUDA_ARGS];
} rg_cuda_op;

/* `input` has a control block of its own and writes the image that the others do not read. */
rg_status rg_cuda_op_make(rg_ctx *ctx, const rg_cuda_exec *exec, const rg_cuda_shape *shape,
                          rg_plan_program_id program, const rg_plan_op *op,
                          rg_cuda_op *made) RG_CHECKED;
/* Where a buffer lies for programs that read image `image`. */
rg_cu_ptr rg_cuda_seen_by(const rg_cuda_exec *exec, uint32_t buffer, int image);
const char *rg_cuda_program_name(rg_plan_program_id program);
/* Puts ops on the stream one after the other, each waited for. `op_us`: see rg_exec_backend. */
rg_status rg_cuda_run_stream(rg_ctx *ctx, rg_cuda_exec *exec, const rg_cuda_shape *shape,
                             double *op_us) RG_CHECKED;

/* ---- rg_cuda_apart.c ---- */

/* An allocation for each buffer that kernels alone share. */
rg_status rg_cuda_apart_alloc(rg_ctx *ctx, rg_cuda_exec *exec) RG_CHECKED;
void rg_cuda_apart_free(rg_cuda_exec *exec);
/* Where a buffer lies. */
rg_cu_ptr rg_cuda_address(const rg_cuda_exec *exec, uint32_t buffer);

/* ---- rg_cuda_graph.c ---- */

rg_status rg_cuda_run_graph(rg_ctx *ctx, rg_cuda_exec *exec, const rg_cuda_shape *shape) RG_CHECKED;
/* Those that read from a set; -1: all. */
void rg_cuda_graphs_free(rg_cuda_exec *exec, int set);

/* ---- rg_cuda_run.c: a backend's run, results, keep and drop ---- */

rg_status rg_cuda_run(rg_ctx *ctx, void *self, const rg_exec_work *work, double *op_us) RG_CHECKED;
rg_status rg_cuda_results_of(rg_ctx *ctx, void *self, int back, double *loss,
                             double *correct) RG_CHECKED;
rg_status rg_cuda_keep(rg_ctx *ctx, void *self, const rg_exec_set *from, int *set) RG_CHECKED;
void rg_cuda_drop(void *self, int set);
rg_status rg_cuda_wait(rg_ctx *ctx, rg_cuda_exec *exec, rg_cu_event event,
                       const char *what) RG_CHECKED;

#endif
