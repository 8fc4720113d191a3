/* A run from its slot to its results, and the data sets that `input` reads. */
#include "rg_cuda_impl.h"

#include <stddef.h>
#include <string.h>

/* ---- waiting ---- */

rg_status rg_cuda_wait(rg_ctx *ctx, rg_cuda_exec *exec, rg_cu_event event, const char *what) {
    return rg_cuda_check(ctx, exec->api, exec->api->driver.event_synchronize(event),
                         "cuEventSynchronize", "%s%s", what,
                         exec->stream_mode ? "" : "; --stream tells which kernel failed");
}

static rg_status mark_done(rg_ctx *ctx, rg_cuda_exec *exec, int slot) {
    exec->used[slot] = true;
    return rg_cuda_check(ctx, exec->api,
                         exec->api->driver.event_record(exec->done[slot], exec->stream),
                         "cuEventRecord", "the end of a run");
}

/* ---- what changes from run to run ---- */

static rg_ctrl batch_ctrl(const rg_exec_batch *batch) {
    return (rg_ctrl){.live = batch->live, .blocks = (batch->live + RG_BLOCK - 1) / RG_BLOCK};
}

/* The slot is free once the run before that had it is done. */
static rg_status write_slot(rg_ctx *ctx, rg_cuda_exec *exec, int slot, const rg_exec_work *work) {
    if (exec->used[slot])
        RG_TRY(rg_cuda_wait(ctx, exec, exec->done[slot], "the run before the last"));
    rg_cuda_step *step = (void *)(exec->slots + (size_t)slot * exec->step_bytes);
    step->now = work->ctrl;
    if (!work->next) return RG_OK;
    step->next = batch_ctrl(work->next);
    memcpy(step->order, work->next->order, (size_t)work->next->live * sizeof *step->order);
    return RG_OK;
}

static rg_status send_slot(rg_ctx *ctx, rg_cuda_exec *exec, int slot) {
    const char *from = exec->slots + (size_t)slot * exec->step_bytes;
    return rg_cuda_check(
        ctx, exec->api,
        exec->api->driver.copy_in_async(exec->step, from, exec->step_bytes, exec->stream),
        "cuMemcpyHtoDAsync", "the control block");
}

static rg_status fetch_result(rg_ctx *ctx, rg_cuda_exec *exec, uint32_t buffer, float *to) {
    return rg_cuda_check(ctx, exec->api,
                         exec->api->driver.copy_out_async(to, rg_cuda_address(exec, buffer),
                                                          sizeof *to, exec->stream),
                         "cuMemcpyDtoHAsync", "'%s'",
                         rg_plan_text(exec->plan, exec->plan->buffer[buffer].name));
}

/* ---- a run ---- */

static bool leaves_results(const rg_exec_work *work) {
    bool leaves = false;
    for (int i = 0; i < work->count; i++)
        leaves |= work->program[i] == RG_PP_GRAD || work->program[i] == RG_PP_EVAL;
    return leaves;
}

/* Graphs of programs that see no image are the same for both. */
static bool sees_image(const rg_exec_work *work) {
    bool sees = work->next || leaves_results(work);
    for (int i = 0; i < work->count; i++) sees |= work->program[i] == RG_PP_PREDICT;
    return sees;
}

/* Blocks that cover the batch at hand, and the next one, which is no larger but where it stands
 * alone. */
static rg_cuda_shape shape_of(const rg_cuda_exec *exec, const rg_exec_work *work) {
    rg_cuda_shape shape = {.count = work->count, .blocks = work->ctrl.blocks, .set = -1};
    memcpy(shape.program, work->program, sizeof shape.program);
    shape.slot = leaves_results(work) ? exec->turn : RG_CUDA_RESULT_SLOTS;
    shape.image = sees_image(work) ? exec->image : 0;
    if (!work->next) return shape;
    shape.set = work->next->set;
    if (work->count == 0) shape.blocks = batch_ctrl(work->next).blocks;
    return shape;
}

static rg_status run_one_by_one(rg_ctx *ctx, rg_cuda_exec *exec, const rg_cuda_shape *shape,
                                double *op_us) {
    RG_TRY(send_slot(ctx, exec, shape->slot));
    RG_TRY(rg_cuda_run_stream(ctx, exec, shape, op_us));
    if (shape->slot >= RG_CUDA_RESULT_SLOTS) return RG_OK;
    rg_cuda_results *left = &exec->left[shape->slot];
    RG_TRY(fetch_result(ctx, exec, exec->plan->io.loss, &left->loss));
    return fetch_result(ctx, exec, exec->plan->io.correct, &left->correct);
}

static rg_status check_next(rg_ctx *ctx, const rg_cuda_exec *exec, const rg_exec_work *work) {
    const rg_exec_batch *next = work->next;
    if (!next) return RG_OK;
    int32_t most =
        work->count ? work->ctrl.blocks * RG_BLOCK : (int32_t)exec->plan->max_blocks * RG_BLOCK;
    bool kept = next->set >= 0 && next->set < RG_CUDA_SETS && exec->set[next->set].pixels;
    if (kept && next->live >= 0 && next->live <= most) return RG_OK;
    return rg_fail(ctx, RG_E_INTERNAL, "a batch of %d images of set %d, at most %d beside this run",
                   next->live, next->set, most);
}

rg_status rg_cuda_run(rg_ctx *ctx, void *self, const rg_exec_work *work, double *op_us) {
    rg_cuda_exec *exec = self;
    RG_TRY(check_next(ctx, exec, work));
    rg_cuda_shape shape = shape_of(exec, work);
    const char *name = rg_cuda_program_name(work->count ? work->program[0] : RG_PP_INPUT);
    RG_TRY(write_slot(ctx, exec, shape.slot, work));
    rg_cuda_range(exec->api, name);
    rg_status status = exec->stream_mode || op_us ? run_one_by_one(ctx, exec, &shape, op_us)
                                                  : rg_cuda_run_graph(ctx, exec, &shape);
    rg_cuda_range(exec->api, NULL);
    RG_TRY(status);
    if (work->next) exec->image = !exec->image;
    if (shape.slot < RG_CUDA_RESULT_SLOTS) exec->turn = !exec->turn;
    return mark_done(ctx, exec, shape.slot);
}

rg_status rg_cuda_results_of(rg_ctx *ctx, void *self, int back, double *loss, double *correct) {
    rg_cuda_exec *exec = self;
    int slot = back ? exec->turn : !exec->turn;
    if (!exec->used[slot]) return rg_fail(ctx, RG_E_INTERNAL, "no run has left results");
    RG_TRY(rg_cuda_wait(ctx, exec, exec->done[slot], "loss and accuracy"));
    *loss = (double)exec->left[slot].loss;
    *correct = (double)exec->left[slot].correct;
    return RG_OK;
}

/* ---- data sets ---- */

/* *at 0 where there is no room. */
static rg_status keep_array(rg_ctx *ctx, rg_cuda_exec *exec, const char *what, const void *from,
                            uint64_t bytes, rg_cu_ptr *at) {
    const rg_cuda_driver *driver = &exec->api->driver;
    rg_cu_result result = driver->memory_alloc(at, (size_t)bytes);
    if (result == RG_CU_OUT_OF_MEMORY) {
        *at = 0;
        return RG_OK;
    }
    double mib = (double)bytes / (1 << 20);
    RG_TRY(rg_cuda_check(ctx, exec->api, result, "cuMemAlloc", "%.1f MiB for the data set's %s",
                         mib, what));
    return rg_cuda_check(ctx, exec->api, driver->copy_in(*at, from, (size_t)bytes), "cuMemcpyHtoD",
                         "%.1f MiB of the data set's %s", mib, what);
}

static void free_set(rg_cuda_exec *exec, rg_cuda_set *set) {
    const rg_cu_ptr array[] = {set->pixels, set->labels, set->weights};
    for (int i = 0; i < 3; i++)
        if (array[i]) exec->api->driver.memory_free(array[i]);
    *set = (rg_cuda_set){0};
}

rg_status rg_cuda_keep(rg_ctx *ctx, void *self, const rg_exec_set *from, int *set) {
    rg_cuda_exec *exec = self;
    int place = 0;
    *set = -1;
    while (place < RG_CUDA_SETS && exec->set[place].pixels) place++;
    if (place == RG_CUDA_SETS) return RG_OK;
    rg_cuda_set *at = &exec->set[place];
    rg_status status =
        keep_array(ctx, exec, "pixels", from->pixels, from->pixel_bytes, &at->pixels);
    if (status == RG_OK && at->pixels)
        status = keep_array(ctx, exec, "labels", from->labels, from->label_bytes, &at->labels);
    if (status == RG_OK && at->labels)
        status = keep_array(ctx, exec, "weights", from->weights, from->weight_bytes, &at->weights);
    /* A copy from pageable memory may still be on its way when its call returns, and the programs'
     * stream does not wait for the default one. */
    if (status == RG_OK)
        status = rg_cuda_check(ctx, exec->api, exec->api->driver.stream_synchronize(NULL),
                               "cuStreamSynchronize", "the data set");
    if (status != RG_OK || !at->weights)
        free_set(exec, at);
    else
        *set = place;
    return status;
}

void rg_cuda_drop(void *self, int set) {
    rg_cuda_exec *exec = self;
    exec->api->driver.stream_synchronize(exec->stream);
    rg_cuda_graphs_free(exec, set);
    free_set(exec, &exec->set[set]);
}
