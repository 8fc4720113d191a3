/* Programs on the stream: launches, and graphs of them. */
#include "rg_cuda_impl.h"

#include <string.h>

enum { MAX_ARGS = 256 };

static const char *const program_name[] = {
#define X(id, name) name,
    RG_PLAN_PROGRAM_LIST(X)
#undef X
};

/* What one op of the plan is on the device. */
typedef struct device_op {
    const rg_plan_op *op;
    const char *symbol, *label;
    rg_cu_kernel_node kernel;
    rg_cu_ptr value[MAX_ARGS];
    void *param[MAX_ARGS];
} device_op;

static rg_cu_ptr address_of(const rg_cuda_exec *exec, uint32_t buffer) {
    const rg_plan_buffer *at = &exec->plan->buffer[buffer];
    return exec->arena[at->arena] + at->offset;
}

static rg_status make_op(rg_ctx *ctx, rg_cuda_exec *exec, const rg_plan_op *op, int32_t blocks,
                         device_op *made) {
    const rg_plan *plan = exec->plan;
    const rg_plan_kernel *row = &plan->kernel[op->kind == RG_PO_LAUNCH ? op->kernel : 0];
    made->op = op;
    made->label = rg_plan_text(plan, op->label);
    made->symbol = op->kind == RG_PO_LAUNCH ? rg_plan_text(plan, row->symbol) : "zeros";
    if (op->arg_count + 1 > MAX_ARGS)
        return rg_fail(ctx, RG_E_LIMIT, "kernel '%s' has %u arguments, at most %d can be passed",
                       made->symbol, op->arg_count, MAX_ARGS - 1);
    for (uint32_t i = 0; i <= op->arg_count; i++) {
        bool last = i == op->arg_count;
        made->value[i] = last ? exec->ctrl : address_of(exec, plan->arg[op->first_arg + i]);
        made->param[i] = &made->value[i];
    }
    if (op->kind != RG_PO_LAUNCH) return RG_OK;
    made->kernel = (rg_cu_kernel_node){
        .func = exec->function[op->kernel],
        .gridDimX = row->tiles_per_block * (uint32_t)blocks + row->tiles_fixed,
        .gridDimY = 1,
        .gridDimZ = 1,
        .blockDimX = row->threads,
        .blockDimY = 1,
        .blockDimZ = 1,
        .sharedMemBytes = row->shared_bytes,
        .kernelParams = made->param,
    };
    return RG_OK;
}

static size_t fill_words(const rg_cuda_exec *exec, const rg_plan_op *op) {
    return (size_t)exec->plan->buffer[exec->plan->arg[op->first_arg]].bytes / sizeof(float);
}

/* ---- one after the other ---- */

static rg_status launch_op(rg_ctx *ctx, rg_cuda_exec *exec, device_op *made) {
    const rg_cuda_driver *driver = &exec->api->driver;
    const rg_cu_kernel_node *k = &made->kernel;
    if (made->op->kind == RG_PO_FILL)
        return rg_cuda_check(
            ctx, exec->api,
            driver->fill_async(made->value[0], 0, fill_words(exec, made->op), exec->stream),
            "cuMemsetD32Async", "zeros for '%s'", made->label);
    if (k->gridDimX == 0) return RG_OK;
    return rg_cuda_check(ctx, exec->api,
                         driver->launch(k->func, k->gridDimX, 1, 1, k->blockDimX, 1, 1,
                                        k->sharedMemBytes, exec->stream, made->param, NULL),
                         "cuLaunchKernel", "kernel '%s' of '%s'", made->symbol, made->label);
}

static rg_status record(rg_ctx *ctx, rg_cuda_exec *exec, int timer) {
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

static rg_status run_stream(rg_ctx *ctx, rg_cuda_exec *exec, const rg_plan_program *program,
                            int32_t blocks, double *op_us) {
    device_op made;
    for (uint32_t i = 0; i < program->op_count; i++) {
        RG_TRY(make_op(ctx, exec, &exec->plan->op[program->first_op + i], blocks, &made));
        if (op_us) RG_TRY(record(ctx, exec, 0));
        RG_TRY(launch_op(ctx, exec, &made));
        if (op_us) RG_TRY(record(ctx, exec, 1));
        RG_TRY(rg_cuda_check(ctx, exec->api, exec->api->driver.stream_synchronize(exec->stream),
                             "cuStreamSynchronize", "kernel '%s' of '%s'", made.symbol,
                             made.label));
        if (op_us) RG_TRY(elapsed(ctx, exec, &op_us[i]));
    }
    return RG_OK;
}

/* ---- graphs ---- */

/* The nodes of a program. Those of a phase depend on all of the phase before, which itself waits
 * for all before it. */
typedef struct graph_nodes {
    rg_cu_graph_node *node;
    size_t count, phase, before; /* nodes; where this phase and the one before it begin */
} graph_nodes;

static rg_status add_node(rg_ctx *ctx, rg_cuda_exec *exec, rg_cu_graph graph, device_op *made,
                          graph_nodes *nodes) {
    const rg_cuda_driver *driver = &exec->api->driver;
    const rg_cu_graph_node *needs = nodes->node + nodes->before;
    rg_cu_graph_node *node = nodes->node + nodes->count;
    size_t count = nodes->phase - nodes->before;
    bool fill = made->op->kind == RG_PO_FILL;
    if (!fill && made->kernel.gridDimX == 0) return RG_OK;
    nodes->count++;
    if (!fill)
        return rg_cuda_check(
            ctx, exec->api, driver->graph_kernel(node, graph, needs, count, &made->kernel),
            "cuGraphAddKernelNode", "kernel '%s' of '%s'", made->symbol, made->label);
    rg_cu_memset_node zeros = {.dst = made->value[0],
                               .elementSize = sizeof(float),
                               .width = fill_words(exec, made->op),
                               .height = 1};
    return rg_cuda_check(ctx, exec->api,
                         driver->graph_memset(node, graph, needs, count, &zeros, exec->context),
                         "cuGraphAddMemsetNode", "zeros for '%s'", made->label);
}

static rg_status add_nodes(rg_ctx *ctx, rg_cuda_exec *exec, const rg_plan_program *program,
                           int32_t blocks, rg_cu_graph graph, graph_nodes *nodes) {
    device_op made;
    for (uint32_t i = 0; i < program->op_count; i++) {
        const rg_plan_op *op = &exec->plan->op[program->first_op + i];
        if (op->wait && nodes->count > nodes->phase) {
            nodes->before = nodes->phase;
            nodes->phase = nodes->count;
        }
        RG_TRY(make_op(ctx, exec, op, blocks, &made));
        RG_TRY(add_node(ctx, exec, graph, &made, nodes));
    }
    return RG_OK;
}

static rg_status build_graph(rg_ctx *ctx, rg_cuda_exec *exec, rg_cuda_graph *made) {
    const rg_cuda_driver *driver = &exec->api->driver;
    const rg_plan_program *program = &exec->plan->program[made->program];
    const char *name = program_name[made->program];
    rg_arena *scratch = rg_arena_new();
    graph_nodes nodes = {.count = 0};
    if (scratch) nodes.node = RG_NEW_ARRAY(scratch, rg_cu_graph_node, program->op_count + 1);
    rg_status status = nodes.node ? RG_OK : rg_nomem(ctx);
    if (status == RG_OK)
        status = rg_cuda_check(ctx, exec->api, driver->graph_create(&made->graph, 0),
                               "cuGraphCreate", "program '%s'", name);
    if (status == RG_OK) status = add_nodes(ctx, exec, program, made->blocks, made->graph, &nodes);
    if (status == RG_OK)
        status =
            rg_cuda_check(ctx, exec->api, driver->graph_instantiate(&made->exec, made->graph, 0),
                          "cuGraphInstantiateWithFlags", "program '%s'", name);
    rg_arena_free(scratch);
    return status;
}

/* Listed before it is built, so that what a failed build leaves is given back as well. */
static rg_status find_graph(rg_ctx *ctx, rg_cuda_exec *exec, rg_plan_program_id id, int32_t blocks,
                            rg_cuda_graph **found) {
    for (*found = exec->graph; *found; *found = (*found)->next)
        if ((*found)->program == id && (*found)->blocks == blocks && (*found)->exec) return RG_OK;
    rg_cuda_graph *made = RG_NEW(exec->memory, rg_cuda_graph);
    if (!made) return rg_nomem(ctx);
    *made = (rg_cuda_graph){.program = id, .blocks = blocks, .next = exec->graph};
    exec->graph = *found = made;
    return build_graph(ctx, exec, made);
}

void rg_cuda_graphs_free(rg_cuda_exec *exec) {
    for (rg_cuda_graph *graph = exec->graph; graph; graph = graph->next) {
        if (graph->exec) exec->api->driver.graph_exec_destroy(graph->exec);
        if (graph->graph) exec->api->driver.graph_destroy(graph->graph);
    }
    exec->graph = NULL;
}

rg_status rg_cuda_run_program(rg_ctx *ctx, rg_cuda_exec *exec, rg_plan_program_id id,
                              int32_t blocks, double *op_us) {
    if (exec->stream_mode || op_us)
        return run_stream(ctx, exec, &exec->plan->program[id], blocks, op_us);
    rg_cuda_graph *graph;
    RG_TRY(find_graph(ctx, exec, id, blocks, &graph));
    return rg_cuda_check(ctx, exec->api, exec->api->driver.graph_launch(graph->exec, exec->stream),
                         "cuGraphLaunch", "program '%s'", program_name[id]);
}
