/* An op of the plan as a launch, and launches one after the other. */
#include "rg_cuda_impl.h"

#include <stddef.h>

static const char *const program_name[] = {
#define X(id, name) name,
    RG_PLAN_PROGRAM_LIST(X)
#undef X
};

const char *rg_cuda_program_name(rg_plan_program_id program) {
    return program_name[program];
}

/* ---- addresses ---- */

static rg_cu_ptr set_address(const rg_cuda_exec *exec, uint32_t buffer, int set) {
    const rg_plan_set *of = &exec->plan->set;
    const rg_cuda_set *at = &exec->set[set];
    if (buffer == of->pixels) return at->pixels;
    if (buffer == of->labels) return at->labels;
    if (buffer == of->weights) return at->weights;
    return exec->step + offsetof(rg_cuda_step, order);
}

rg_cu_ptr rg_cuda_seen_by(const rg_cuda_exec *exec, uint32_t buffer, int image) {
    const rg_plan *plan = exec->plan;
    bool twin = exec->twin && image == 1;
    if (twin && buffer == plan->io.image) return exec->twin;
    if (twin && buffer == plan->io.label) return exec->twin + plan->buffer[plan->io.image].bytes;
    return rg_cuda_address(exec, buffer);
}

static rg_cu_ptr argument(const rg_cuda_exec *exec, const rg_cuda_shape *shape, uint32_t buffer,
                          bool input) {
    if (exec->plan->buffer[buffer].arena == RG_ARENA_DATA)
        return set_address(exec, buffer, shape->set);
    return rg_cuda_seen_by(exec, buffer, input ? !shape->image : shape->image);
}

/* ---- an op ---- */

static void make_launch(const rg_cuda_exec *exec, int blocks, rg_cuda_op *made) {
    const rg_plan_kernel *row = &exec->plan->kernel[made->op->kernel];
    made->kernel = (rg_cu_kernel_node){
        .func = exec->function[made->op->kernel],
        .gridDimX = row->tiles_per_block * (uint32_t)blocks + row->tiles_fixed,
        .gridDimY = 1,
        .gridDimZ = 1,
        .blockDimX = row->threads,
        .blockDimY = 1,
        .blockDimZ = 1,
        .sharedMemBytes = row->shared_bytes,
        .kernelParams = made->param,
    };
}

rg_status rg_cuda_op_make(rg_ctx *ctx, const rg_cuda_exec *exec, const rg_cuda_shape *shape,
                          rg_plan_program_id program, const rg_plan_op *op, rg_cuda_op *made) {
    const rg_plan *plan = exec->plan;
    bool launch = op->kind == RG_PO_LAUNCH, input = program == RG_PP_INPUT;
    made->op = op;
    made->label = rg_plan_text(plan, op->label);
    made->symbol = launch ? rg_plan_text(plan, plan->kernel[op->kernel].symbol) : "zeros";
    if (op->arg_count + 1 > RG_CUDA_ARGS)
        return rg_fail(ctx, RG_E_LIMIT, "kernel '%s' has %u arguments, at most %d can be passed",
                       made->symbol, op->arg_count, RG_CUDA_ARGS - 1);
    for (uint32_t i = 0; i < op->arg_count; i++)
        made->value[i] = argument(exec, shape, plan->arg[op->first_arg + i], input);
    made->value[op->arg_count] = exec->step + (input ? offsetof(rg_cuda_step, next) : 0);
    for (uint32_t i = 0; i <= op->arg_count; i++) made->param[i] = &made->value[i];
    made->kernel.gridDimX = 0;
    made->fill_words = 0;
    if (launch)
        make_launch(exec, shape->blocks, made);
    else
        made->fill_words = (size_t)plan->buffer[plan->arg[op->first_arg]].bytes / sizeof(float);
    return RG_OK;
}

/* ---- one after the other ---- */

static rg_status launch_op(rg_ctx *ctx, rg_cuda_exec *exec, rg_cuda_op *made) {
    const rg_cuda_driver *driver = &exec->api->driver;
    const rg_cu_kernel_node *k = &made->kernel;
    if (made->op->kind == RG_PO_FILL)
        return rg_cuda_check(ctx, exec->api,
                             driver->fill_async(made->value[0], 0, made->fill_words, exec->stream),
                             "cuMemsetD32Async", "zeros for '%s'", made->label);
    if (k->gridDimX == 0) return RG_OK;
    return rg_cuda_check(ctx, exec->api,
                         driver->launch(k->func, k->gridDimX, 1, 1, k->blockDimX, 1, 1,
                                        k->sharedMemBytes, exec->stream, made->param, NULL),
                         "cuLaunchKernel", "kernel '%s' of '%s'", made->symbol, made->label);
}

static rg_status record_time(rg_ctx *ctx, rg_cuda_exec *exec, int timer) {
    return rg_cuda_check(ctx, exec->api,
                         exec->api->driver.event_record(exec->timer[timer], exec->stream),
                         "cuEventRecord", "a kernel's time");
}

static rg_status elapsed(rg_ctx *ctx, rg_cuda_exec *exec, double *us) {
    float ms = 0;
    RG_TRY(rg_cuda_check(ctx, exec->api,
                         exec->api->driver.event_elapsed(&ms, exec->timer[0], exec->timer[1]),
                         "cuEventElapsedTime", "a kernel's time"));
    *us = 1e3 * (double)ms;
    return RG_OK;
}

static rg_status run_op(rg_ctx *ctx, rg_cuda_exec *exec, const rg_cuda_shape *shape,
                        rg_plan_program_id program, const rg_plan_op *op, double *us) {
    rg_cuda_op made;
    RG_TRY(rg_cuda_op_make(ctx, exec, shape, program, op, &made));
    if (us) RG_TRY(record_time(ctx, exec, 0));
    RG_TRY(launch_op(ctx, exec, &made));
    if (us) RG_TRY(record_time(ctx, exec, 1));
    RG_TRY(rg_cuda_check(ctx, exec->api, exec->api->driver.stream_synchronize(exec->stream),
                         "cuStreamSynchronize", "kernel '%s' of '%s'", made.symbol, made.label));
    return us ? elapsed(ctx, exec, us) : RG_OK;
}

static rg_status run_program(rg_ctx *ctx, rg_cuda_exec *exec, const rg_cuda_shape *shape,
                             rg_plan_program_id id, double *op_us) {
    const rg_plan_program *program = &exec->plan->program[id];
    for (uint32_t i = 0; i < program->op_count; i++)
        RG_TRY(run_op(ctx, exec, shape, id, &exec->plan->op[program->first_op + i],
                      op_us ? &op_us[i] : NULL));
    return RG_OK;
}

rg_status rg_cuda_run_stream(rg_ctx *ctx, rg_cuda_exec *exec, const rg_cuda_shape *shape,
                             double *op_us) {
    if (shape->set >= 0) RG_TRY(run_program(ctx, exec, shape, RG_PP_INPUT, NULL));
    for (int i = 0; i < shape->count; i++)
        RG_TRY(run_program(ctx, exec, shape, shape->program[i], op_us));
    return RG_OK;
}
