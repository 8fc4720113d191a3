/* Arenas and programs: a plan's ops run in one parallel region, tile by tile. */
#include "rg_core.h"

#include <math.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

enum {
    LINE_BYTES = 64,
    HUGE_BYTES = 2 << 20,
    HUGE_FROM_BYTES = 4 << 20,    /* smaller arenas would waste most of their last huge page */
    FILL_TILE_BYTES = 256 * 1024, /* a fill is cut into tiles of this size */
    MAX_THREADS = 1024,
};

/* The next tile of an op. Ops that overlap are counted by different threads: a line each. */
typedef struct exec_counter {
    _Alignas(LINE_BYTES) _Atomic uint32_t next;
} exec_counter;

struct rg_exec {
    rg_arena *memory; /* this struct and the small tables */
    const rg_plan *plan;
    const rg_cpu_kernel *kernel;
    int threads;
    rg_exec_backend backend;      /* close is NULL where the host's threads run the plan */
    bool touched[RG_ARENA_COUNT]; /* the host's copy is newer than the backend's */
    bool behind;                  /* the host's copies of parameters may be older */
    void *arena[RG_ARENA_COUNT];
    float **arg;   /* plan->arg as addresses */
    char *scratch; /* threads * scratch_stride bytes */
    size_t scratch_stride;
    exec_counter *counter; /* one for each op of the longest program */
    /* Arrivals at barriers. OpenMP's barrier orders memory by itself; race detectors that cannot
     * see into it see this. */
    _Atomic uint32_t arrivals;
};

/* ---- creation ---- */

static size_t round_up(size_t bytes, size_t to) {
    return (bytes + to - 1) / to * to;
}

/* Zeroed. Large blocks lie on huge pages where the system allows it. NULL when memory runs out. */
static void *alloc_aligned(size_t bytes) {
    bool huge = bytes >= HUGE_FROM_BYTES;
    void *at = NULL;
    if (bytes == 0) bytes = LINE_BYTES;
    if (posix_memalign(&at, huge ? HUGE_BYTES : LINE_BYTES, bytes) != 0) return NULL;
    if (huge) madvise(at, bytes, MADV_HUGEPAGE); /* a hint: refusal costs nothing but speed */
    return memset(at, 0, bytes);
}

static bool has_backend(const rg_exec *exec) {
    return exec->backend.close != NULL;
}

/* A backend's working memory is seldom looked at: calloc touches no page before it is. */
static void *alloc_arena(const rg_exec *exec, int arena) {
    size_t bytes = (size_t)exec->plan->arena_bytes[arena];
    if (!has_backend(exec)) return alloc_aligned(bytes);
    return arena == RG_ARENA_IO ? exec->backend.io : calloc(bytes + 1, 1);
}

static rg_status alloc_arenas(rg_ctx *ctx, rg_exec *exec) {
    static const char *const names[] = {
#define X(id, name) name,
        RG_PLAN_ARENA_LIST(X)
#undef X
    };
    for (int i = 0; i < RG_ARENA_COUNT; i++) {
        exec->arena[i] = alloc_arena(exec, i);
        if (!exec->arena[i])
            return rg_fail(ctx, RG_E_NOMEM, "cannot allocate %.1f MiB for the arena '%s'",
                           (double)exec->plan->arena_bytes[i] / (1 << 20), names[i]);
    }
    return RG_OK;
}

static rg_status alloc_scratch(rg_ctx *ctx, rg_exec *exec) {
    size_t bytes = 0, total;
    for (uint32_t i = 0; i < exec->plan->kernel_count; i++)
        if (exec->plan->kernel[i].scratch_bytes > bytes)
            bytes = (size_t)exec->plan->kernel[i].scratch_bytes;
    /* An odd number of lines keeps the threads' scratches out of each other's cache sets. */
    exec->scratch_stride = (round_up(bytes, LINE_BYTES) / LINE_BYTES | 1) * LINE_BYTES;
    if (__builtin_mul_overflow(exec->scratch_stride, (size_t)exec->threads, &total) ||
        !(exec->scratch = alloc_aligned(total)))
        return rg_fail(ctx, RG_E_NOMEM, "cannot allocate the scratch of %d threads (%.1f MiB each)",
                       exec->threads, (double)exec->scratch_stride / (1 << 20));
    return RG_OK;
}

static rg_status alloc_tables(rg_ctx *ctx, rg_exec *exec) {
    const rg_plan *plan = exec->plan;
    uint32_t longest = 1;
    for (int i = 0; i < RG_PP_COUNT; i++)
        if (plan->program[i].op_count > longest) longest = plan->program[i].op_count;
    exec->counter = alloc_aligned(longest * sizeof *exec->counter);
    exec->arg = RG_NEW_ARRAY(exec->memory, float *, plan->arg_count + 1);
    if (!exec->counter || !exec->arg) return rg_nomem(ctx);
    for (uint32_t i = 0; i < plan->arg_count; i++)
        exec->arg[i] = rg_exec_buffer(exec, plan->arg[i]);
    return RG_OK;
}

static rg_exec *exec_new(const rg_plan *plan, const rg_cpu_kernel *kernel, int threads) {
    rg_arena *memory = rg_arena_new();
    rg_exec *made = memory ? RG_NEW(memory, rg_exec) : NULL;
    if (!made) {
        rg_arena_free(memory);
        return NULL;
    }
    made->memory = memory;
    made->plan = plan;
    made->kernel = kernel;
    made->threads = threads;
    return made;
}

rg_status rg_exec_new(rg_ctx *ctx, const rg_plan *plan, const rg_cpu_kernel *kernel, int threads,
                      rg_exec **exec) {
    *exec = NULL;
    if (threads == 0) threads = omp_get_num_procs();
    if (threads < 1 || threads > MAX_THREADS)
        return rg_fail(ctx, RG_E_USAGE, "%d threads: must be 1 to %d", threads, MAX_THREADS);
    rg_exec *made = exec_new(plan, kernel, threads);
    if (!made) return rg_nomem(ctx);
    rg_status status = alloc_arenas(ctx, made);
    if (status == RG_OK) status = alloc_scratch(ctx, made);
    if (status == RG_OK) status = alloc_tables(ctx, made);
    if (status != RG_OK) {
        rg_exec_free(made);
        return status;
    }
    *exec = made;
    return RG_OK;
}

rg_status rg_exec_new_backend(rg_ctx *ctx, const rg_plan *plan, const rg_exec_backend *backend,
                              rg_exec **exec) {
    *exec = NULL;
    rg_exec *made = exec_new(plan, NULL, 1);
    if (!made) {
        backend->close(backend->self);
        return rg_nomem(ctx);
    }
    made->backend = *backend;
    rg_status status = alloc_arenas(ctx, made);
    if (status != RG_OK) {
        rg_exec_free(made);
        return status;
    }
    *exec = made;
    return RG_OK;
}

void rg_exec_free(rg_exec *exec) {
    if (!exec) return;
    if (has_backend(exec)) {
        exec->arena[RG_ARENA_IO] = NULL; /* the backend's own */
        exec->backend.close(exec->backend.self);
    }
    for (int i = 0; i < RG_ARENA_COUNT; i++) free(exec->arena[i]);
    free(exec->scratch);
    free(exec->counter);
    rg_arena_free(exec->memory);
}

const rg_plan *rg_exec_plan(const rg_exec *exec) {
    return exec->plan;
}

float *rg_exec_buffer(rg_exec *exec, uint32_t buffer) {
    const rg_plan_buffer *at = &exec->plan->buffer[buffer];
    return (float *)((char *)exec->arena[at->arena] + at->offset);
}

/* ---- running ---- */

/* Subnormals are flushed to zero, as operands and as results. Returns what restores the thread. */
static uint64_t flush_on(void) {
#if defined(__SSE__)
    uint32_t saved = _mm_getcsr();
    _mm_setcsr(saved | 0x8040u);
    return saved;
#elif defined(__aarch64__)
    uint64_t saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    __asm__ volatile("msr fpcr, %0" : : "r"(saved | (1u << 24)));
    return saved;
#else
    return 0;
#endif
}

static void flush_restore(uint64_t saved) {
#if defined(__SSE__)
    _mm_setcsr((uint32_t)saved);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(saved));
#else
    (void)saved;
#endif
}

static void publish(rg_exec *exec) {
    atomic_fetch_add_explicit(&exec->arrivals, 1, memory_order_acq_rel);
}

static void observe(rg_exec *exec) {
    (void)atomic_load_explicit(&exec->arrivals, memory_order_acquire);
}

static void barrier(rg_exec *exec) {
    publish(exec);
#pragma omp barrier
    observe(exec);
}

static uint32_t take(exec_counter *counter) {
    return atomic_fetch_add_explicit(&counter->next, 1, memory_order_relaxed);
}

static void run_launch(rg_exec *exec, const rg_plan_op *op, const rg_ctrl *ctrl,
                       exec_counter *counter, float *scratch) {
    const rg_plan_kernel *row = &exec->plan->kernel[op->kernel];
    rg_cpu_kernel kernel = exec->kernel[op->kernel];
    float *const *arg = exec->arg + op->first_arg;
    uint32_t tiles = row->tiles_per_block * (uint32_t)ctrl->blocks + row->tiles_fixed;
    for (uint32_t tile; (tile = take(counter)) < tiles;) kernel(arg, ctrl, (int32_t)tile, scratch);
}

static void run_fill(rg_exec *exec, const rg_plan_op *op, exec_counter *counter) {
    size_t bytes = (size_t)exec->plan->buffer[exec->plan->arg[op->first_arg]].bytes, from;
    char *to = (char *)exec->arg[op->first_arg];
    while ((from = (size_t)take(counter) * FILL_TILE_BYTES) < bytes)
        memset(to + from, 0, bytes - from < FILL_TILE_BYTES ? bytes - from : FILL_TILE_BYTES);
}

static double now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec * 1e-3;
}

/* One thread's way through a program. `op_us` (or NULL) is written by thread 0, between barriers.
 */
static void run_ops(rg_exec *exec, const rg_plan_program *program, const rg_ctrl *ctrl,
                    double *op_us) {
    int thread = omp_get_thread_num();
    float *scratch = (float *)(exec->scratch + (size_t)thread * exec->scratch_stride);
    double start = 0;
    for (uint32_t i = 0; i < program->op_count; i++) {
        const rg_plan_op *op = &exec->plan->op[program->first_op + i];
        if (op_us || (op->wait && i > 0)) barrier(exec);
        if (op_us && thread == 0) start = now_us();
        if (op->kind == RG_PO_LAUNCH)
            run_launch(exec, op, ctrl, &exec->counter[i], scratch);
        else
            run_fill(exec, op, &exec->counter[i]);
        if (!op_us) continue;
        barrier(exec);
        if (thread == 0) op_us[i] = now_us() - start;
    }
}

static void run(rg_exec *exec, rg_plan_program_id id, const rg_ctrl *ctrl, double *op_us) {
    const rg_plan_program *program = &exec->plan->program[id];
    if (program->op_count == 0) return;
    for (uint32_t i = 0; i < program->op_count; i++)
        atomic_store_explicit(&exec->counter[i].next, 0, memory_order_relaxed);
    publish(exec);
#pragma omp parallel num_threads(exec->threads)
    {
        observe(exec);
        uint64_t saved = flush_on();
        run_ops(exec, program, ctrl, op_us);
        flush_restore(saved);
        publish(exec);
    }
    observe(exec);
}

/* ---- a backend's memory ---- */

rg_status rg_exec_send(rg_ctx *ctx, rg_exec *exec, uint32_t buffer) {
    if (!has_backend(exec)) return RG_OK;
    return exec->backend.send(ctx, exec->backend.self, buffer, rg_exec_buffer(exec, buffer));
}

rg_status rg_exec_fetch(rg_ctx *ctx, rg_exec *exec, uint32_t buffer) {
    if (!has_backend(exec)) return RG_OK;
    return exec->backend.fetch(ctx, exec->backend.self, buffer, rg_exec_buffer(exec, buffer));
}

rg_status rg_exec_settle(rg_ctx *ctx, rg_exec *exec) {
    return has_backend(exec) ? exec->backend.settle(ctx, exec->backend.self) : RG_OK;
}

rg_status rg_exec_finish(rg_ctx *ctx, rg_exec *exec) {
    return has_backend(exec) ? exec->backend.finish(ctx, exec->backend.self) : RG_OK;
}

/* The arenas that outlive a program and that the host reads and writes as a whole. */
static const rg_plan_arena kept[] = {RG_ARENA_PARAM, RG_ARENA_GRAD, RG_ARENA_MOMENT1,
                                     RG_ARENA_MOMENT2, RG_ARENA_STATE};
enum { KEPT = sizeof kept / sizeof *kept };

static rg_status send_touched(rg_ctx *ctx, rg_exec *exec) {
    for (int i = 0; i < KEPT; i++) {
        rg_plan_arena arena = kept[i];
        if (!exec->touched[arena]) continue;
        RG_TRY(exec->backend.send_arena(ctx, exec->backend.self, arena, exec->arena[arena]));
        exec->touched[arena] = false;
    }
    return RG_OK;
}

/* What was written here and not yet sent is the newer one. */
rg_status rg_exec_fetch_params(rg_ctx *ctx, rg_exec *exec) {
    if (!has_backend(exec) || !exec->behind) return RG_OK;
    for (int i = 0; i < KEPT; i++) {
        rg_plan_arena arena = kept[i];
        if (exec->touched[arena]) continue;
        RG_TRY(exec->backend.fetch_arena(ctx, exec->backend.self, arena, exec->arena[arena]));
    }
    exec->behind = false;
    return RG_OK;
}

void rg_exec_touch(rg_exec *exec, rg_plan_arena arena) {
    exec->touched[arena] = true;
}

rg_status rg_exec_keep(rg_ctx *ctx, rg_exec *exec, const rg_exec_set *from, int *set) {
    *set = -1;
    return has_backend(exec) ? exec->backend.keep(ctx, exec->backend.self, from, set) : RG_OK;
}

void rg_exec_drop(rg_exec *exec, int kept) {
    if (has_backend(exec) && kept >= 0) exec->backend.drop(exec->backend.self, kept);
}

void rg_exec_range(rg_exec *exec, const char *name) {
    if (has_backend(exec)) exec->backend.range(exec->backend.self, name);
}

rg_status rg_exec_results(rg_ctx *ctx, rg_exec *exec, int back, double *loss, double *correct) {
    const rg_plan_io *io = &exec->plan->io;
    if (has_backend(exec))
        return exec->backend.results(ctx, exec->backend.self, back, loss, correct);
    *loss = (double)rg_exec_buffer(exec, io->loss)[0];
    *correct = (double)rg_exec_buffer(exec, io->correct)[0];
    return RG_OK;
}

bool rg_exec_overlaps(const rg_exec *exec) {
    return exec->backend.overlaps;
}

/* ---- running anywhere ---- */

static rg_status run_work(rg_ctx *ctx, rg_exec *exec, const rg_exec_work *work, double *op_us) {
    bool any = work->next != NULL;
    for (int i = 0; i < work->count; i++) any |= exec->plan->program[work->program[i]].op_count > 0;
    if (!any) return RG_OK;
    if (!has_backend(exec)) {
        for (int i = 0; i < work->count; i++) run(exec, work->program[i], &work->ctrl, op_us);
        return RG_OK;
    }
    RG_TRY(send_touched(ctx, exec));
    exec->behind |= work->count > 0;
    return exec->backend.run(ctx, exec->backend.self, work, op_us);
}

rg_status rg_exec_work_run(rg_ctx *ctx, rg_exec *exec, const rg_exec_work *work) {
    return run_work(ctx, exec, work, NULL);
}

rg_status rg_exec_run_timed(rg_ctx *ctx, rg_exec *exec, rg_plan_program_id program,
                            const rg_ctrl *ctrl, double *op_us) {
    rg_exec_work work = {.program = {program}, .count = 1, .ctrl = *ctrl};
    return run_work(ctx, exec, &work, op_us);
}

rg_status rg_exec_run(rg_ctx *ctx, rg_exec *exec, rg_plan_program_id program, const rg_ctrl *ctrl) {
    return rg_exec_run_timed(ctx, exec, program, ctrl, NULL);
}

rg_ctrl rg_exec_ctrl(const rg_plan *plan, int32_t live, uint64_t step, double lr) {
    bool adam = plan->data.optim_kind == 1;
    double t = (double)step;
    rg_ctrl ctrl = {.live = live, .blocks = (live + RG_BLOCK - 1) / RG_BLOCK};
    ctrl.scalar[RG_CTRL_COUNT] = (float)live;
    ctrl.scalar[RG_CTRL_INV_COUNT] = live > 0 ? (float)(1.0 / live) : 0.0f;
    ctrl.scalar[RG_CTRL_LR] = (float)lr;
    ctrl.scalar[RG_CTRL_BC1] = adam ? (float)(1.0 - pow(plan->data.beta1, t)) : 1.0f;
    ctrl.scalar[RG_CTRL_BC2] = adam ? (float)(1.0 - pow(plan->data.beta2, t)) : 1.0f;
    ctrl.scalar[RG_CTRL_FIRST] = step <= 1 ? 1.0f : 0.0f;
    return ctrl;
}
