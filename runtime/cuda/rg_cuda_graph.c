/* Graphs: a run as explicit nodes. First the run's step block, copied from its slot; behind it the
 * programs' kernels phase by phase and, beside them, the next batch; behind the program that leaves
 * results, their copies to the slot. */
#include "rg_cuda_impl.h"

/* The nodes of a chain of phases. Those of a phase depend on all of the phase before, which itself
 * waits for all before it. */
typedef struct graph_nodes {
    rg_cu_graph graph;
    rg_cu_graph_node *node;
    size_t count, phase, before; /* nodes; where this phase and the one before it begin */
} graph_nodes;

static void next_phase(graph_nodes *nodes) {
    if (nodes->count == nodes->phase) return;
    nodes->before = nodes->phase;
    nodes->phase = nodes->count;
}

static const rg_cu_graph_node *needs_of(const graph_nodes *nodes, size_t *count) {
    *count = nodes->phase - nodes->before;
    return nodes->node + nodes->before;
}

/* ---- nodes ---- */

static rg_status add_op(rg_ctx *ctx, rg_cuda_exec *exec, graph_nodes *nodes, rg_cuda_op *made) {
    const rg_cuda_driver *driver = &exec->api->driver;
    size_t count;
    const rg_cu_graph_node *needs = needs_of(nodes, &count);
    rg_cu_graph_node *node = nodes->node + nodes->count;
    bool fill = made->op->kind == RG_PO_FILL;
    if (!fill && made->kernel.gridDimX == 0) return RG_OK;
    nodes->count++;
    if (!fill)
        return rg_cuda_check(
            ctx, exec->api, driver->graph_kernel(node, nodes->graph, needs, count, &made->kernel),
            "cuGraphAddKernelNode", "kernel '%s' of '%s'", made->symbol, made->label);
    rg_cu_memset_node zeros = {.dst = made->value[0],
                               .elementSize = sizeof(float),
                               .width = made->fill_words,
                               .height = 1};
    return rg_cuda_check(
        ctx, exec->api,
        driver->graph_memset(node, nodes->graph, needs, count, &zeros, exec->context),
        "cuGraphAddMemsetNode", "zeros for '%s'", made->label);
}

static rg_status add_program(rg_ctx *ctx, rg_cuda_exec *exec, const rg_cuda_shape *shape,
                             rg_plan_program_id id, graph_nodes *nodes) {
    const rg_plan_program *program = &exec->plan->program[id];
    rg_cuda_op made;
    next_phase(nodes);
    for (uint32_t i = 0; i < program->op_count; i++) {
        const rg_plan_op *op = &exec->plan->op[program->first_op + i];
        if (op->wait) next_phase(nodes);
        RG_TRY(rg_cuda_op_make(ctx, exec, shape, id, op, &made));
        RG_TRY(add_op(ctx, exec, nodes, &made));
    }
    return RG_OK;
}

/* What both kinds of copies have. */
static rg_cu_memcpy_node copy_of(size_t bytes) {
    return (rg_cu_memcpy_node){.srcPitch = bytes,
                               .srcHeight = 1,
                               .dstPitch = bytes,
                               .dstHeight = 1,
                               .WidthInBytes = bytes,
                               .Height = 1,
                               .Depth = 1};
}

static rg_status add_copy(rg_ctx *ctx, rg_cuda_exec *exec, graph_nodes *nodes,
                          const rg_cu_memcpy_node *copy, const char *what) {
    size_t count;
    const rg_cu_graph_node *needs = needs_of(nodes, &count);
    return rg_cuda_check(ctx, exec->api,
                         exec->api->driver.graph_memcpy(nodes->node + nodes->count++, nodes->graph,
                                                        needs, count, copy, exec->context),
                         "cuGraphAddMemcpyNode", "%s", what);
}

static rg_status add_step(rg_ctx *ctx, rg_cuda_exec *exec, int slot, graph_nodes *nodes) {
    rg_cu_memcpy_node copy = copy_of(exec->step_bytes);
    copy.srcMemoryType = RG_CU_MEMORY_HOST;
    copy.srcHost = exec->slots + (size_t)slot * exec->step_bytes;
    copy.dstMemoryType = RG_CU_MEMORY_DEVICE;
    copy.dstDevice = exec->step;
    return add_copy(ctx, exec, nodes, &copy, "the control block");
}

/* Loss and right answers: nobody waits for these copies but the graph's end. */
static rg_status add_results(rg_ctx *ctx, rg_cuda_exec *exec, int slot, graph_nodes *nodes) {
    const rg_plan *plan = exec->plan;
    rg_cuda_results *left = &exec->left[slot];
    const struct {
        uint32_t buffer;
        float *to;
    } result[] = {{plan->io.loss, &left->loss}, {plan->io.correct, &left->correct}};
    graph_nodes side = *nodes;
    next_phase(&side);
    for (int i = 0; i < 2; i++) {
        const rg_plan_buffer *from = &plan->buffer[result[i].buffer];
        rg_cu_memcpy_node copy = copy_of(sizeof(float));
        copy.srcMemoryType = RG_CU_MEMORY_DEVICE;
        copy.srcDevice = rg_cuda_address(exec, result[i].buffer);
        copy.dstMemoryType = RG_CU_MEMORY_HOST;
        copy.dstHost = result[i].to;
        RG_TRY(add_copy(ctx, exec, &side, &copy, rg_plan_text(plan, from->name)));
    }
    return RG_OK;
}

/* ---- graphs ---- */

static rg_status add_nodes(rg_ctx *ctx, rg_cuda_exec *exec, const rg_cuda_shape *shape,
                           graph_nodes *nodes) {
    RG_TRY(add_step(ctx, exec, shape->slot, nodes));
    next_phase(nodes);
    if (shape->set >= 0) {
        graph_nodes branch = *nodes;
        RG_TRY(add_program(ctx, exec, shape, RG_PP_INPUT, &branch));
    }
    for (int i = 0; i < shape->count; i++) {
        RG_TRY(add_program(ctx, exec, shape, shape->program[i], nodes));
        bool leaves = shape->program[i] == RG_PP_GRAD || shape->program[i] == RG_PP_EVAL;
        if (leaves) RG_TRY(add_results(ctx, exec, shape->slot, nodes));
    }
    return RG_OK;
}

static size_t most_nodes(const rg_plan *plan, const rg_cuda_shape *shape) {
    size_t most = 4 + (size_t)plan->program[RG_PP_INPUT].op_count;
    for (int i = 0; i < shape->count; i++) most += plan->program[shape->program[i]].op_count;
    return most;
}

static rg_status build_graph(rg_ctx *ctx, rg_cuda_exec *exec, rg_cuda_graph *made) {
    const rg_cuda_driver *driver = &exec->api->driver;
    const rg_cuda_shape *shape = &made->shape;
    const char *name = rg_cuda_program_name(shape->count ? shape->program[0] : RG_PP_INPUT);
    rg_arena *scratch = rg_arena_new();
    graph_nodes nodes = {.count = 0};
    if (scratch)
        nodes.node = RG_NEW_ARRAY(scratch, rg_cu_graph_node, most_nodes(exec->plan, shape));
    rg_status status = nodes.node ? RG_OK : rg_nomem(ctx);
    if (status == RG_OK)
        status = rg_cuda_check(ctx, exec->api, driver->graph_create(&made->graph, 0),
                               "cuGraphCreate", "program '%s'", name);
    nodes.graph = made->graph;
    if (status == RG_OK) status = add_nodes(ctx, exec, shape, &nodes);
    if (status == RG_OK)
        status =
            rg_cuda_check(ctx, exec->api, driver->graph_instantiate(&made->exec, made->graph, 0),
                          "cuGraphInstantiateWithFlags", "program '%s'", name);
    rg_arena_free(scratch);
    return status;
}

static bool same_shape(const rg_cuda_shape *a, const rg_cuda_shape *b) {
    bool same = a->count == b->count && a->blocks == b->blocks && a->slot == b->slot &&
                a->image == b->image && a->set == b->set;
    for (int i = 0; same && i < a->count; i++) same = a->program[i] == b->program[i];
    return same;
}

/* Listed before it is built, so that what a failed build leaves is given back as well. */
static rg_status find_graph(rg_ctx *ctx, rg_cuda_exec *exec, const rg_cuda_shape *shape,
                            rg_cuda_graph **found) {
    for (*found = exec->graph; *found; *found = (*found)->next)
        if ((*found)->exec && same_shape(&(*found)->shape, shape)) return RG_OK;
    rg_cuda_graph *made = RG_NEW(exec->memory, rg_cuda_graph);
    if (!made) return rg_nomem(ctx);
    *made = (rg_cuda_graph){.shape = *shape, .next = exec->graph};
    exec->graph = *found = made;
    return build_graph(ctx, exec, made);
}

void rg_cuda_graphs_free(rg_cuda_exec *exec, int set) {
    for (rg_cuda_graph **link = &exec->graph; *link;) {
        rg_cuda_graph *graph = *link;
        if (set >= 0 && graph->shape.set != set) {
            link = &graph->next;
            continue;
        }
        if (graph->exec) exec->api->driver.graph_exec_destroy(graph->exec);
        if (graph->graph) exec->api->driver.graph_destroy(graph->graph);
        *link = graph->next;
    }
}

rg_status rg_cuda_run_graph(rg_ctx *ctx, rg_cuda_exec *exec, const rg_cuda_shape *shape) {
    rg_cuda_graph *graph;
    RG_TRY(find_graph(ctx, exec, shape, &graph));
    return rg_cuda_check(ctx, exec->api, exec->api->driver.graph_launch(graph->exec, exec->stream),
                         "cuGraphLaunch", "program '%s'",
                         rg_cuda_program_name(shape->count ? shape->program[0] : RG_PP_INPUT));
}
