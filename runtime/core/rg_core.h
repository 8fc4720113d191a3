/* Executes a plan. Depends on the C library, libm and OpenMP alone (and on runtime/base). */
#ifndef RG_CORE_H
#define RG_CORE_H

#include "rg_plan.h"

/* ---- rg_exec.c: arenas and programs ---- */

typedef struct rg_exec rg_exec;

/* Allocates the plan's arenas (64-byte aligned, zeroed) and each thread's scratch. kernel[i] is
 * plan->kernel[i]'s function. Plan and kernels must outlive it. Owner: caller, rg_exec_free. */
rg_status rg_exec_new(rg_ctx *ctx, const rg_plan *plan, const rg_cpu_kernel *kernel, int threads,
                      rg_exec **exec) RG_CHECKED;
void rg_exec_free(rg_exec *exec);
const rg_plan *rg_exec_plan(const rg_exec *exec);
float *rg_exec_buffer(rg_exec *exec, uint32_t buffer);
/* Runs a program: on the host in one parallel region, where tiles are handed out in any order and
 * the bits do not depend on the number of threads; else on the backend, which may return before the
 * program is done. Errors: the backend's alone. */
rg_status rg_exec_run(rg_ctx *ctx, rg_exec *exec, rg_plan_program_id program,
                      const rg_ctrl *ctrl) RG_CHECKED;
/* The same, op by op, with each op's time in microseconds (op_us[op_count of the program]). */
rg_status rg_exec_run_timed(rg_ctx *ctx, rg_exec *exec, rg_plan_program_id program,
                            const rg_ctrl *ctrl, double *op_us) RG_CHECKED;
/* Control block of a batch: live images; step t (from 1) gives Adam's corrections. */
rg_ctrl rg_exec_ctrl(const rg_plan *plan, int32_t live, uint64_t step, double lr);

/* Loss (mean over the batch) and right answers of the last run that left them (`grad`, `eval`), or
 * with back = 1 of the one before it. Waits for that run alone. */
rg_status rg_exec_results(rg_ctx *ctx, rg_exec *exec, int back, double *loss,
                          double *correct) RG_CHECKED;

/* ---- the same on a device with memory of its own ---- */

/* A batch to be made on the device: images order[0..live) of a set that it keeps. */
typedef struct rg_exec_batch {
    int set;
    const uint32_t *order; /* read before the call returns */
    int32_t live;
} rg_exec_batch;

/* Programs that run one after the other as one piece of work: on a CUDA device one graph. */
typedef struct rg_exec_work {
    rg_plan_program_id program[2];
    int count; /* 0 to 2 */
    rg_ctrl ctrl;
    const rg_exec_batch *next; /* made beside them, for the work after this one; NULL: none */
} rg_exec_work;

/* A data set as the plan's buffers hold it (rg_plan_set). */
typedef struct rg_exec_set {
    const void *pixels;
    const uint32_t *labels, *weights;
    uint64_t pixel_bytes, label_bytes, weight_bytes;
} rg_exec_set;

/* What runs a plan elsewhere than in this process. Each function but close records its error in
 * ctx. Offsets and sizes are those of the plan's buffers. */
typedef struct rg_exec_backend {
    void *self;
    void *io;      /* the host's side of the IO arena: zeroed, the backend's own until close */
    bool overlaps; /* run and send return before the device is done */
    /* op_us: NULL, or the time of each op of the one program, which then are run one after the
     * other. */
    rg_status (*run)(rg_ctx *ctx, void *self, const rg_exec_work *work, double *op_us);
    rg_status (*results)(rg_ctx *ctx, void *self, int back, double *loss, double *correct);
    /* Keeps what `input` reads, but the order. *set -1: there is no room (`why` says so). */
    rg_status (*keep)(rg_ctx *ctx, void *self, const rg_exec_set *from, int *set);
    void (*drop)(void *self, int set);
    /* A range in a profiler's picture begins; NULL: the innermost one ends. */
    void (*range)(void *self, const char *name);
    /* One buffer, by its number: buffers of one arena may share an offset. The other two are of a
     * whole arena, never of those that kernels alone share. */
    rg_status (*send)(rg_ctx *ctx, void *self, uint32_t buffer, const void *from);
    rg_status (*fetch)(rg_ctx *ctx, void *self, uint32_t buffer, void *to);
    rg_status (*send_arena)(rg_ctx *ctx, void *self, rg_plan_arena arena, const void *from);
    rg_status (*fetch_arena)(rg_ctx *ctx, void *self, rg_plan_arena arena, void *to);
    /* Waits until what was sent from `io` may be written again. */
    rg_status (*settle)(rg_ctx *ctx, void *self);
    /* Waits until all that was asked for is done. */
    rg_status (*finish)(rg_ctx *ctx, void *self);
    void (*close)(void *self);
} rg_exec_backend;

/* The host keeps a copy of each arena, which rg_exec_buffer points into: it is what was last
 * fetched or written there. The parameter functions below keep theirs in step by themselves. Owner:
 * caller, rg_exec_free; the backend is taken over, also where this fails. */
rg_status rg_exec_new_backend(rg_ctx *ctx, const rg_plan *plan, const rg_exec_backend *backend,
                              rg_exec **exec) RG_CHECKED;
/* Several programs at once, and the next batch beside them. */
rg_status rg_exec_work_run(rg_ctx *ctx, rg_exec *exec, const rg_exec_work *work) RG_CHECKED;
/* Names what follows in a profiler's picture, until NULL ends it. */
void rg_exec_range(rg_exec *exec, const char *name);
/* One buffer to the device, or back. Where there is none: nothing to do. */
rg_status rg_exec_send(rg_ctx *ctx, rg_exec *exec, uint32_t buffer) RG_CHECKED;
rg_status rg_exec_fetch(rg_ctx *ctx, rg_exec *exec, uint32_t buffer) RG_CHECKED;
/* To be called before a buffer that was sent is written again. */
rg_status rg_exec_settle(rg_ctx *ctx, rg_exec *exec) RG_CHECKED;
/* Waits until every run is done: what is timed must be. */
rg_status rg_exec_finish(rg_ctx *ctx, rg_exec *exec) RG_CHECKED;
/* Brings the host's copies of parameters, gradients, moments and statistics up to date. */
rg_status rg_exec_fetch_params(rg_ctx *ctx, rg_exec *exec) RG_CHECKED;
/* The host's copy of one of these arenas was written: the whole arena is sent before the next run,
 * so that it must have been up to date. */
void rg_exec_touch(rg_exec *exec, rg_plan_arena arena);
/* rg_data_keep's other half: *set -1 where there is no room, or no backend. */
rg_status rg_exec_keep(rg_ctx *ctx, rg_exec *exec, const rg_exec_set *from, int *set) RG_CHECKED;
/* True where a run may still be under way when rg_exec_run returns. */
bool rg_exec_overlaps(const rg_exec *exec);

/* ---- rg_params.c: the parameter table, in logical (PyTorch) order ---- */

int64_t rg_params_count(const rg_plan *plan, uint32_t row); /* elements; COUNTER 1 */
/* Which: RG_ARENA_PARAM (or STATE for state rows), GRAD, MOMENT1, MOMENT2. On a device what is read
 * is the host's copy: see rg_exec_fetch_params. Only logical elements move; surplus lanes are
 * written as zeros. */
void rg_params_read(rg_exec *exec, uint32_t row, rg_plan_arena which, float *to);
void rg_params_write(rg_exec *exec, uint32_t row, rg_plan_arena which, const float *from);
/* Fills parameters and states from their initialisation; Philox stream "init", keyed by seed and
 * row: element i is the i-th in logical order. */
void rg_params_init(rg_exec *exec, uint64_t seed);

/* ---- rg_random.c: counter-based random numbers (Philox 4x32-10, Salmon et al. 2011) ---- */

typedef enum rg_stream {
    RG_STREAM_INIT = 1,
    RG_STREAM_SHUFFLE,
    RG_STREAM_SYNTHETIC,
    RG_STREAM_AUGMENT,
    RG_STREAM_DROPOUT,
    RG_STREAM_TEST
} rg_stream;

/* One block: four words of counter (index, epoch, stream) under the key (seed). */
void rg_random_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
/* Word index%4 of block index/4; the counter is (block low, block high, epoch, stream), the key the
 * seed. */
uint32_t rg_random_u32(uint64_t seed, uint32_t stream, uint32_t epoch, uint64_t index);
float rg_random_unit(uint64_t seed, uint32_t stream, uint32_t epoch,
                     uint64_t index); /* [0, 1), 24 bits */
/* A permutation of 0..n-1 (Fisher-Yates with unbiased draws). */
void rg_random_permutation(uint64_t seed, uint32_t epoch, uint32_t n, uint32_t *order);

/* ---- rg_data.c: CIFAR-10 binary version, the synthetic set, resize, batches ---- */

enum { RG_DATASET_SIDE = 32 }; /* of the images of both sets below */

typedef struct rg_dataset {
    uint32_t count, height, width, channels, classes;
    uint8_t *pixels; /* [count][channels][height][width] as in the files */
    uint8_t *labels;
} rg_dataset;

/* Reads data_batch_1..5.bin (train) or test_batch.bin from DIR or DIR/cifar-10-batches-bin. Each
 * file must be whole records of 3073 bytes with labels under 10; missing, truncated or odd: one
 * line that says so. Owner: caller, rg_dataset_free. */
rg_status rg_dataset_cifar10(rg_ctx *ctx, const char *dir, bool train, rg_dataset *set) RG_CHECKED;
/* A learnable made-up set of the same shape (each class a coloured pattern plus noise), the same on
 * every machine. */
rg_status rg_dataset_synthetic(rg_ctx *ctx, uint64_t seed, bool train, uint32_t count,
                               uint32_t classes, rg_dataset *set) RG_CHECKED;
void rg_dataset_free(rg_dataset *set);

/* PIL's bilinear resize (triangle filter with support scaled when shrinking, 22-bit fixed point
 * coefficients, 8-bit rounding after the horizontal and after the vertical pass; Pillow's
 * Resample.c gives the rule). One channel plane. */
typedef struct rg_resize rg_resize;
rg_status rg_resize_new(rg_ctx *ctx, uint32_t in_h, uint32_t in_w, uint32_t out_h, uint32_t out_w,
                        rg_resize **resize) RG_CHECKED; /* Owner: ctx's arena */
void rg_resize_plane(const rg_resize *resize, const uint8_t *in, uint8_t *out,
                     uint8_t *scratch /* in_h*out_w */);

/* Keeps a set on the device, which then makes batches of it (rg_exec_work). *kept: its number, or
 * -1 where batches are the host's to make (rg_data_fill): on the processor, or where *why (a line;
 * NULL: no reason to tell) says. Owner: caller, rg_exec_drop; rg_exec_free drops all. */
rg_status rg_data_keep(rg_ctx *ctx, rg_exec *exec, const rg_dataset *set, const rg_resize *resize,
                       int *kept, const char **why) RG_CHECKED;
void rg_exec_drop(rg_exec *exec, int kept);

/* Fills the plan's image and label buffers with the images order[0..live) of the set: resized,
 * (x/255 - mean)/std, images beyond `live` zeros. Parallel. */
rg_status rg_data_fill(rg_ctx *ctx, rg_exec *exec, const rg_dataset *set, const rg_resize *resize,
                       const uint32_t *order, int32_t live) RG_CHECKED;

/* ---- rg_safetensors.c ---- */

typedef struct rg_tensor_entry {
    const char *name, *dtype; /* "F32", "F64", "I64", ... */
    uint32_t rank;
    uint64_t shape[8];
    const uint8_t *data;
    uint64_t bytes;
} rg_tensor_entry;

typedef struct rg_safetensors {
    uint32_t count;
    rg_tensor_entry *entry;
    uint32_t meta_count; /* __metadata__ */
    const char *(*meta)[2];
} rg_safetensors;

/* Reads and checks a whole file: header length, JSON, names once, offsets inside and not
 * overlapping, bytes = shape * dtype. RG_E_FORMAT with one line that names the tensor. Owner: ctx's
 * arena. */
rg_status rg_safetensors_read(rg_ctx *ctx, const char *path, rg_safetensors *file) RG_CHECKED;
/* The same of a file in memory, which `file` then points into and whose names are unescaped in
 * place; `path` is for messages alone. */
rg_status rg_safetensors_parse(rg_ctx *ctx, rg_arena *arena, const char *path, uint8_t *bytes,
                               size_t length, rg_safetensors *file) RG_CHECKED;
const rg_tensor_entry *rg_safetensors_find(const rg_safetensors *file, const char *name);
/* Atomically; header padded with spaces to a multiple of 8; entries in the given order. */
rg_status rg_safetensors_write(rg_ctx *ctx, const char *path,
                               const rg_safetensors *file) RG_CHECKED;

/* ---- rg_params_file.c ---- */

/* How far a training has come. */
typedef struct rg_trained {
    uint64_t steps;
    uint64_t optim_steps; /* those that the optimiser's state has seen; 0: it is zeros */
    uint64_t batch, seed; /* images a step, of their order; batch 0: neither is known */
    bool unused[2];       /* the file has first, second moments that the plan's optimiser keeps not;
                             loading sets it */
} rg_trained;

/* Loads parameters and states by name; F32 or F64 (rounded to f32), counters I64; and what a
 * checkpoint holds besides: the optimiser's moments (`optim.moment1.NAME`, with the shape of the
 * parameter), its steps, f16's loss scaling, the steps of the training (else the largest counter
 * tells them), their batch and seed. Moments that the plan's optimiser has no use for are passed
 * over, and `trained` says so. A missing name, a name too many, a wrong shape: one line, nothing is
 * changed. `trained` may be NULL. */
rg_status rg_params_load(rg_ctx *ctx, rg_exec *exec, const char *path,
                         rg_trained *trained) RG_CHECKED;
/* PyTorch's state_dict alone. */
rg_status rg_params_save(rg_ctx *ctx, rg_exec *exec, const char *path, uint64_t steps) RG_CHECKED;
/* All that a run needs to go on with the bits of one that was never stopped. */
rg_status rg_checkpoint_save(rg_ctx *ctx, rg_exec *exec, const char *path,
                             const rg_trained *trained) RG_CHECKED;
/* Does the plan's optimiser keep anything from step to step? */
bool rg_params_has_optim(const rg_plan *plan);

#endif
