/* Shared by the files of the CUDA device. */
#ifndef RG_CUDA_IMPL_H
#define RG_CUDA_IMPL_H

#include "rg_cuda.h"

/* RG_OK, or a diagnostic: "cuMemAlloc_v2 (the arena 'work'): out of memory (error 2)". `about` is a
 * printf format for what the call was about. */
rg_status rg_cuda_check(rg_ctx *ctx, const rg_cuda_api *api, rg_cu_result result, const char *call,
                        const char *about, ...) RG_PRINTF(5, 6) RG_CHECKED;

/* ---- a plan on a device ---- */

enum { RG_CUDA_RING = 8 }; /* control blocks that may be under way */

/* A program at one number of image blocks. */
typedef struct rg_cuda_graph {
    rg_plan_program_id program;
    int32_t blocks;
    rg_cu_graph graph;
    rg_cu_graph_exec exec;
    struct rg_cuda_graph *next;
} rg_cuda_graph;

typedef struct rg_cuda_exec {
    rg_arena *memory; /* this struct and its tables */
    const rg_cuda_api *api;
    const rg_plan *plan;
    bool stream_mode;
    rg_cu_device device;
    rg_cu_context context;
    rg_cu_stream stream;
    rg_cu_ptr arena[RG_ARENA_COUNT];
    rg_cu_module *module; /* of each kernel */
    rg_cu_function *function;
    rg_cuda_graph *graph;
    /* The control block on the device and the pinned ones that are copied to it, in turn. */
    rg_cu_ptr ctrl;
    rg_ctrl *ring;
    rg_cu_event ring_free[RG_CUDA_RING];
    bool ring_used[RG_CUDA_RING];
    int ring_next;
    void *io;            /* pinned: the host's side of the IO arena */
    rg_cu_event sent;    /* what was sent from io has left it */
    rg_cu_event results; /* loss and correct are in io */
    rg_cu_event timer[2];
    bool sending, results_coming;
} rg_cuda_exec;

/* ---- rg_cuda_run.c ---- */

/* Puts a program on the stream: as one graph, or launch after launch. `op_us` (or NULL): see
 * rg_exec_backend. The control block is on the device by then. */
rg_status rg_cuda_run_program(rg_ctx *ctx, rg_cuda_exec *exec, rg_plan_program_id id,
                              int32_t blocks, double *op_us) RG_CHECKED;
void rg_cuda_graphs_free(rg_cuda_exec *exec);

#endif
