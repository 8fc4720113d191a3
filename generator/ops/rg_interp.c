/* Runs a graph by the ops' references, node by node, in double. */
#include "rg_op_table.h"

struct rg_interp {
    rg_arena *arena;
    const rg_graph *graph;
    int32_t n;
    rg_tensor *tensor;     /* one a value */
    rg_interp_watch watch; /* NULL: nobody */
    void *user;
};

size_t rg_tensor_count(const rg_tensor *t) {
    return (size_t)t->dim[0] * (size_t)t->dim[1] * (size_t)t->dim[2] * (size_t)t->dim[3];
}

/* The graph was verified: extents are at least 1 and an image has at most INT32_MAX elements. */
static bool make_tensor(rg_interp *interp, rg_type type, rg_tensor *tensor) {
    tensor->cls = type.cls;
    tensor->batched = type.cls == RG_T_ACT && type.dim[0] == RG_BATCH;
    for (int i = 0; i < 4; i++) tensor->dim[i] = type.dim[i];
    if (tensor->batched) tensor->dim[0] = interp->n;
    tensor->data = RG_NEW_ARRAY(interp->arena, double, rg_tensor_count(tensor));
    return tensor->data != NULL;
}

static bool make_tensors(rg_interp *interp) {
    const rg_graph *graph = interp->graph;
    interp->tensor = RG_NEW_ARRAY(interp->arena, rg_tensor, graph->value_count);
    if (!interp->tensor) return false;
    for (rg_vid v = 0; v < graph->value_count; v++) {
        if (!make_tensor(interp, graph->value[v].type, &interp->tensor[v])) return false;
    }
    return true;
}

rg_status rg_interp_new(rg_ctx *ctx, const rg_graph *graph, int32_t n, rg_interp **interp) {
    *interp = NULL;
    if (n < 1)
        return rg_fail(ctx, RG_E_INTERNAL, "the interpreter needs a batch of at least 1, not %d",
                       n);
    RG_TRY(rg_graph_verify(ctx, graph));
    rg_arena *arena = rg_arena_new();
    rg_interp *made = arena ? RG_NEW(arena, rg_interp) : NULL;
    if (made) *made = (rg_interp){.arena = arena, .graph = graph, .n = n};
    if (!made || !make_tensors(made)) {
        rg_arena_free(arena);
        return rg_nomem(ctx);
    }
    *interp = made;
    return RG_OK;
}

void rg_interp_free(rg_interp *interp) {
    if (interp) rg_arena_free(interp->arena);
}

double *rg_interp_value(rg_interp *interp, rg_vid value) {
    return interp->tensor[value].data;
}

int64_t rg_interp_count(const rg_interp *interp, rg_vid value) {
    return (int64_t)rg_tensor_count(&interp->tensor[value]);
}

void rg_interp_watch_nodes(rg_interp *interp, rg_interp_watch watch, void *user) {
    interp->watch = watch;
    interp->user = user;
}

static rg_status run_node(const rg_interp *interp, const rg_node *node, const rg_ctrl *ctrl,
                          rg_arena *scratch) {
    rg_tensor out[RG_NODE_OUT] = {{0}};
    rg_tensor *in = RG_NEW_ARRAY(scratch, rg_tensor, node->in_count);
    if (!in) return RG_E_NOMEM;
    for (int32_t i = 0; i < node->in_count; i++) in[i] = interp->tensor[node->in[i]];
    for (int32_t i = 0; i < node->out_count; i++) out[i] = interp->tensor[node->out[i]];
    rg_ref ref = {&node->attr, ctrl, ctrl->live, node->in_count, node->out_count, in, out, scratch};
    return rg_op_rows[node->op].reference(&ref);
}

rg_status rg_interp_run(rg_ctx *ctx, rg_interp *interp, const rg_ctrl *ctrl) {
    if (ctrl->live < 1 || ctrl->live > interp->n) {
        return rg_fail(ctx, RG_E_INTERNAL, "%d live images in a batch of %d", ctrl->live,
                       interp->n);
    }
    rg_arena *scratch = rg_arena_new();
    if (!scratch) return rg_nomem(ctx);
    rg_status status = RG_OK;
    for (rg_nid i = 0; i < interp->graph->node_count && status == RG_OK; i++) {
        const rg_node *node = &interp->graph->node[i];
        status = run_node(interp, node, ctrl, scratch);
        if (interp->watch && status == RG_OK) interp->watch(interp->user, interp, node);
    }
    rg_arena_free(scratch);
    return status == RG_E_NOMEM ? rg_nomem(ctx) : status;
}
