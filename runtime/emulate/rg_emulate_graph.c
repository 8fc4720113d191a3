/* Graphs: nodes run in a random order that respects their dependences. A graph of which a
 * dependence was forgotten gives wrong numbers for some seeds. */
#include "rg_emulate_impl.h"

#include <stdlib.h>
#include <string.h>

struct CUgraphNode_st {
    struct CUgraph_st *graph;
    int index;
    bool fills, copies;
    rg_emu_call call; /* of a kernel; its arguments are the node's own */
    rg_cu_ptr at;     /* of a fill, or the device's side of a copy */
    const void *from; /* of a copy: the host's side, one of the two */
    void *to;
    size_t bytes;
    uint32_t value;
    size_t words;
    int *after; /* indices of the nodes before it */
    int after_count;
    struct CUgraphNode_st *next;
};

struct CUgraph_st {
    struct CUgraphNode_st *first, *last;
    int count;
    int users; /* the owner, and the executables made of it */
};

/* Nodes are frozen once they are added, so that an executable shares the graph's; what is added
 * later is not its own. */
struct CUgraphExec_st {
    struct CUgraph_st *graph;
    int count;
    struct CUgraphNode_st **node;
    int *left, *ready; /* while it runs: unfinished nodes before each; those that can go */
};

/* ---- building ---- */

static void node_free(struct CUgraphNode_st *node) {
    rg_emu_call_free(&node->call);
    free(node->after);
    free(node);
}

static void graph_release(struct CUgraph_st *graph) {
    if (--graph->users > 0) return;
    for (struct CUgraphNode_st *node = graph->first, *next; node; node = next) {
        next = node->next;
        node_free(node);
    }
    free(graph);
}

static rg_cu_result emu_graph_create(rg_cu_graph *graph, unsigned flags) {
    RG_EMU_ENTER(cuGraphCreate, RG_CU_OUT_OF_MEMORY);
    if (flags != 0) return RG_CU_INVALID_VALUE;
    struct CUgraph_st *made = calloc(1, sizeof *made);
    if (!made) return RG_CU_OUT_OF_MEMORY;
    made->users = 1;
    rg_emu.alive++;
    *graph = made;
    return RG_CU_SUCCESS;
}

static rg_cu_result emu_graph_destroy(rg_cu_graph graph) {
    RG_EMU_ENTER_RELEASE();
    if (!graph) return RG_CU_INVALID_HANDLE;
    graph_release(graph);
    rg_emu.alive--;
    return rg_emu_released(RG_EMU_CALL_cuGraphDestroy, RG_CU_INVALID_HANDLE, RG_CU_SUCCESS);
}

/* A node with its dependences, not yet in the graph. */
static rg_cu_result node_new(struct CUgraph_st *graph, const rg_cu_graph_node *before, size_t count,
                             struct CUgraphNode_st **made) {
    if (!graph) return RG_CU_INVALID_HANDLE;
    for (size_t i = 0; i < count; i++)
        if (!before[i] || before[i]->graph != graph) return RG_CU_INVALID_VALUE;
    struct CUgraphNode_st *node = calloc(1, sizeof *node);
    if (!node) return RG_CU_OUT_OF_MEMORY;
    node->after = calloc(count + 1, sizeof *node->after);
    if (!node->after) {
        free(node);
        return RG_CU_OUT_OF_MEMORY;
    }
    for (size_t i = 0; i < count; i++) node->after[i] = before[i]->index;
    node->after_count = (int)count;
    node->graph = graph;
    node->index = graph->count;
    *made = node;
    return RG_CU_SUCCESS;
}

static void node_add(struct CUgraphNode_st *node) {
    struct CUgraph_st *graph = node->graph;
    if (graph->last)
        graph->last->next = node;
    else
        graph->first = node;
    graph->last = node;
    graph->count++;
}

static rg_cu_result emu_graph_kernel(rg_cu_graph_node *node, rg_cu_graph graph,
                                     const rg_cu_graph_node *before, size_t count,
                                     const rg_cu_kernel_node *params) {
    RG_EMU_ENTER(cuGraphAddKernelNode, RG_CU_OUT_OF_MEMORY);
    struct CUgraphNode_st *made;
    if (!params || params->extra) return RG_CU_INVALID_VALUE;
    const unsigned grid[3] = {params->gridDimX, params->gridDimY, params->gridDimZ};
    const unsigned block[3] = {params->blockDimX, params->blockDimY, params->blockDimZ};
    rg_cu_result result = node_new(graph, before, count, &made);
    if (result != RG_CU_SUCCESS) return result;
    result = rg_emu_call_make(&made->call, params->func, grid, block, params->sharedMemBytes,
                              params->kernelParams);
    if (result != RG_CU_SUCCESS) {
        node_free(made);
        return result;
    }
    node_add(made);
    *node = made;
    return RG_CU_SUCCESS;
}

static rg_cu_result emu_graph_memset(rg_cu_graph_node *node, rg_cu_graph graph,
                                     const rg_cu_graph_node *before, size_t count,
                                     const rg_cu_memset_node *params, rg_cu_context context) {
    RG_EMU_ENTER(cuGraphAddMemsetNode, RG_CU_OUT_OF_MEMORY);
    struct CUgraphNode_st *made;
    (void)context;
    if (!params || params->height != 1 || params->elementSize != 4 || params->width > SIZE_MAX / 4)
        return RG_CU_INVALID_VALUE;
    if (!rg_emu_memory_holds(params->dst, params->width * 4)) return RG_CU_INVALID_VALUE;
    rg_cu_result result = node_new(graph, before, count, &made);
    if (result != RG_CU_SUCCESS) return result;
    made->fills = true;
    made->at = params->dst;
    made->value = params->value;
    made->words = params->width;
    node_add(made);
    *node = made;
    return RG_CU_SUCCESS;
}

/* Between host and device, one run of bytes; what else there is, is not looked alike. */
static rg_cu_result emu_graph_memcpy(rg_cu_graph_node *node, rg_cu_graph graph,
                                     const rg_cu_graph_node *before, size_t count,
                                     const rg_cu_memcpy_node *params, rg_cu_context context) {
    RG_EMU_ENTER(cuGraphAddMemcpyNode, RG_CU_OUT_OF_MEMORY);
    struct CUgraphNode_st *made;
    (void)context;
    if (!params || params->Height != 1 || params->Depth != 1) return RG_CU_INVALID_VALUE;
    bool in =
        params->srcMemoryType == RG_CU_MEMORY_HOST && params->dstMemoryType == RG_CU_MEMORY_DEVICE;
    bool out =
        params->srcMemoryType == RG_CU_MEMORY_DEVICE && params->dstMemoryType == RG_CU_MEMORY_HOST;
    if (!in && !out) return RG_CU_NOT_SUPPORTED;
    rg_cu_ptr at = in ? params->dstDevice : params->srcDevice;
    if (!(in ? params->srcHost : params->dstHost)) return RG_CU_INVALID_VALUE;
    if (!rg_emu_memory_holds(at, params->WidthInBytes)) return RG_CU_INVALID_VALUE;
    rg_cu_result result = node_new(graph, before, count, &made);
    if (result != RG_CU_SUCCESS) return result;
    made->copies = true;
    made->at = at;
    if (in) made->from = params->srcHost;
    if (out) made->to = params->dstHost;
    made->bytes = params->WidthInBytes;
    node_add(made);
    *node = made;
    return RG_CU_SUCCESS;
}

/* ---- running ---- */

static rg_cu_result run_copy(const struct CUgraphNode_st *node) {
    if (node->to) {
        memcpy(node->to, (const void *)(uintptr_t)node->at, node->bytes);
    } else {
        memcpy((void *)(uintptr_t)node->at, node->from, node->bytes);
        rg_emu_memory_written(node->at, node->bytes);
    }
    return RG_CU_SUCCESS;
}

static rg_cu_result run_node(const struct CUgraphNode_st *node) {
    if (node->copies) return run_copy(node);
    if (node->fills) return rg_emu_fill_words(node->at, node->value, node->words);
    return rg_emu_call_run(&node->call);
}

static void exec_free(struct CUgraphExec_st *exec) {
    free(exec->node);
    free(exec->left);
    free(exec->ready);
    free(exec);
}

static rg_cu_result emu_graph_instantiate(rg_cu_graph_exec *exec, rg_cu_graph graph,
                                          unsigned long long flags) {
    RG_EMU_ENTER(cuGraphInstantiateWithFlags, RG_CU_OUT_OF_MEMORY);
    if (!graph) return RG_CU_INVALID_HANDLE;
    if (flags != 0) return RG_CU_INVALID_VALUE;
    struct CUgraphExec_st *made = calloc(1, sizeof *made);
    if (!made) return RG_CU_OUT_OF_MEMORY;
    size_t room = (size_t)graph->count + 1;
    made->count = graph->count;
    made->node = calloc(room, sizeof *made->node);
    made->left = calloc(room, sizeof *made->left);
    made->ready = calloc(room, sizeof *made->ready);
    if (!made->node || !made->left || !made->ready) {
        exec_free(made);
        return RG_CU_OUT_OF_MEMORY;
    }
    for (struct CUgraphNode_st *node = graph->first; node; node = node->next)
        made->node[node->index] = node;
    made->graph = graph;
    graph->users++;
    rg_emu.alive++;
    *exec = made;
    return RG_CU_SUCCESS;
}

static rg_cu_result emu_graph_exec_destroy(rg_cu_graph_exec exec) {
    RG_EMU_ENTER_RELEASE();
    if (!exec) return RG_CU_INVALID_HANDLE;
    rg_cu_result result = rg_emu.error ? rg_emu.error : rg_emu_drain(false);
    if (rg_emu.error)
        rg_emu_streams_close(); /* what a lost context has not done, and may name this graph */
    graph_release(exec->graph);
    exec_free(exec);
    rg_emu.alive--;
    return rg_emu_released(RG_EMU_CALL_cuGraphExecDestroy, RG_CU_INVALID_HANDLE, result);
}

/* The node is done: those that waited for it alone can go. */
static void release_after(struct CUgraphExec_st *exec, int done, int *ready_count) {
    for (int i = done + 1; i < exec->count; i++)
        for (int j = 0; j < exec->node[i]->after_count; j++)
            if (exec->node[i]->after[j] == done && --exec->left[i] == 0)
                exec->ready[(*ready_count)++] = i;
}

rg_cu_result rg_emu_graph_run(struct CUgraphExec_st *exec) {
    int ready = 0;
    for (int i = 0; i < exec->count; i++) {
        exec->left[i] = exec->node[i]->after_count;
        if (exec->left[i] == 0) exec->ready[ready++] = i;
    }
    while (ready > 0) {
        uint32_t lot = rg_emu_random(&rg_emu.random, (uint32_t)ready);
        int index = exec->ready[lot];
        const struct CUgraphNode_st *node = exec->node[index];
        exec->ready[lot] = exec->ready[--ready];
        rg_cu_result result = run_node(node);
        if (result != RG_CU_SUCCESS) return result;
        release_after(exec, index, &ready);
    }
    return RG_CU_SUCCESS;
}

static rg_cu_result emu_graph_launch(rg_cu_graph_exec exec, rg_cu_stream stream) {
    RG_EMU_ENTER(cuGraphLaunch, RG_CU_LAUNCH_FAILED);
    if (!exec) return RG_CU_INVALID_HANDLE;
    rg_emu_op op = {.kind = RG_EMU_GRAPH, .graph = exec};
    return rg_emu_enqueue(stream, &op);
}

void rg_emu_graph_fill(rg_cuda_driver *driver) {
    driver->graph_create = emu_graph_create;
    driver->graph_destroy = emu_graph_destroy;
    driver->graph_kernel = emu_graph_kernel;
    driver->graph_memset = emu_graph_memset;
    driver->graph_memcpy = emu_graph_memcpy;
    driver->graph_instantiate = emu_graph_instantiate;
    driver->graph_exec_destroy = emu_graph_exec_destroy;
    driver->graph_launch = emu_graph_launch;
}
