/* Reverse mode: nodes are visited from the last to the first; the gradient of a value is the sum of
 * what its users left. */
#include "rg_passes.h"

typedef struct grad_state {
    rg_rewrite rw;
    bool *active;   /* new value -> depends on a trained parameter */
    rg_vid *dvalue; /* new value -> its gradient so far; -1: none */
    int32_t count;  /* values of the forward part */
} grad_state;

/* dvalue[v] += dv, as a pointwise node where something is there already. */
static rg_status accumulate(grad_state *st, rg_vid v, rg_vid dv) {
    if (st->dvalue[v] < 0) {
        st->dvalue[v] = dv;
        return RG_OK;
    }
    rg_graph *graph = st->rw.to;
    rg_expr expr;
    rg_expr_init(&expr, graph->arena);
    int32_t a = rg_expr_leaf(&expr, RG_EXPR_ARG, 0);
    int32_t b = rg_expr_leaf(&expr, RG_EXPR_ARG, 1);
    int32_t root = rg_expr_binary(&expr, RG_EXPR_ADD, a, b);
    rg_vid in[2] = {st->dvalue[v], dv};
    st->dvalue[v] = rg_graph_pointwise(graph, in, 2, &expr, root, graph->value[v].type, "grad_sum",
                                       graph->value[v].loc);
    return st->dvalue[v] < 0 ? rg_nomem(st->rw.ctx) : RG_OK;
}

static rg_status visit(grad_state *st, rg_nid id) {
    rg_graph *graph = st->rw.to;
    rg_vid y = graph->node[id].out[0];
    rg_vid dout = st->dvalue[y];
    if (dout < 0 || !st->active[y]) return RG_OK;
    int32_t in_count = graph->node[id].in_count;
    bool *wanted = RG_NEW_ARRAY(graph->arena, bool, in_count + 1);
    rg_vid *din = RG_NEW_ARRAY(graph->arena, rg_vid, in_count + 1);
    if (!wanted || !din) return rg_nomem(st->rw.ctx);
    for (int32_t i = 0; i < in_count; i++) wanted[i] = st->active[graph->node[id].in[i]];
    RG_TRY(rg_op_grad(st->rw.ctx, graph, id, dout, wanted, din));
    for (int32_t i = 0; i < in_count; i++) {
        if (wanted[i] && din[i] >= 0) RG_TRY(accumulate(st, graph->node[id].in[i], din[i]));
    }
    return RG_OK;
}

static void mark_active(grad_state *st) {
    const rg_graph *graph = st->rw.to;
    for (rg_vid v = 0; v < st->count; v++) st->active[v] = graph->value[v].kind == RG_V_PARAM;
    for (rg_nid n = 0; n < graph->node_count; n++) {
        bool active = false;
        for (int32_t i = 0; i < graph->node[n].in_count; i++)
            active |= st->active[graph->node[n].in[i]];
        for (int32_t i = 0; i < graph->node[n].out_count; i++)
            st->active[graph->node[n].out[i]] = active;
    }
}

static rg_vid find_loss(const rg_graph *graph) {
    for (int32_t i = 0; i < graph->result_count; i++)
        if (graph->result[i].kind == RG_O_LOSS) return graph->result[i].value;
    return -1;
}

static rg_status add_results(grad_state *st) {
    rg_graph *graph = st->rw.to;
    for (rg_vid v = 0; v < st->count; v++) {
        if (graph->value[v].kind != RG_V_PARAM || st->dvalue[v] < 0) continue;
        if (rg_graph_add_result(graph, RG_O_GRAD, st->dvalue[v], graph->value[v].param) != RG_OK)
            return rg_nomem(st->rw.ctx);
    }
    return RG_OK;
}

rg_status rg_pass_grad(rg_ctx *ctx, const rg_graph *in, rg_graph **out) {
    grad_state st = {0};
    RG_TRY(rg_rewrite_begin(&st.rw, ctx, in, "grad"));
    for (rg_nid n = 0; n < in->node_count; n++) RG_TRY(rg_rewrite_copy(&st.rw, &in->node[n]));
    RG_TRY(rg_rewrite_results(&st.rw));
    rg_graph *graph = st.rw.to;
    st.count = graph->value_count;
    st.active = RG_NEW_ARRAY(ctx->arena, bool, st.count + 1);
    st.dvalue = RG_NEW_ARRAY(ctx->arena, rg_vid, st.count + 1);
    if (!st.active || !st.dvalue) return rg_nomem(ctx);
    for (rg_vid v = 0; v < st.count; v++) st.dvalue[v] = -1;
    mark_active(&st);
    rg_vid loss = find_loss(graph);
    if (loss < 0) return rg_fail(ctx, RG_E_INTERNAL, "grad: the graph has no loss");
    st.dvalue[loss] = loss; /* LOSS_GRAD starts from the loss itself: its dout is 1 and not read */
    for (rg_nid n = in->node_count - 1; n >= 0; n--) RG_TRY(visit(&st, n));
    RG_TRY(add_results(&st));
    *out = graph;
    return rg_graph_verify(ctx, graph);
}
