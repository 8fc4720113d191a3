#include "rg_passes.h"

rg_status rg_rewrite_begin(rg_rewrite *rw, rg_ctx *ctx, const rg_graph *from, const char *name) {
    *rw = (rg_rewrite){.ctx = ctx, .from = from};
    rw->to = rg_graph_new(ctx->arena, name);
    rw->map = RG_NEW_ARRAY(ctx->arena, rg_vid, from->value_count + 1);
    if (!rw->to || !rw->map) return rg_nomem(ctx);
    rw->to->format = from->format;
    for (int32_t i = 0; i < from->param_count; i++)
        if (rg_graph_add_param(rw->to, &from->param[i]) < 0) return rg_nomem(ctx);
    for (rg_vid v = 0; v < from->value_count; v++) {
        const rg_value *value = &from->value[v];
        rw->map[v] = -1;
        if (value->kind == RG_V_NODE) continue;
        rw->map[v] = rg_graph_add_leaf(rw->to, value->kind, value->type, value->name, value->param,
                                       value->loc);
        if (rw->map[v] < 0) return rg_nomem(ctx);
    }
    return RG_OK;
}

rg_status rg_rewrite_copy(rg_rewrite *rw, const rg_node *node) {
    rg_vid *in = RG_NEW_ARRAY(rw->ctx->arena, rg_vid, node->in_count + 1);
    rg_type type[RG_NODE_OUT];
    if (!in) return rg_nomem(rw->ctx);
    for (int32_t i = 0; i < node->in_count; i++) in[i] = rw->map[node->in[i]];
    for (int32_t i = 0; i < node->out_count; i++) type[i] = rw->from->value[node->out[i]].type;
    rg_nid id = rg_graph_add_node(rw->to, node->op, in, node->in_count, type, node->out_count,
                                  &node->attr, node->name, node->loc);
    if (id < 0) return rg_nomem(rw->ctx);
    for (int32_t i = 0; i < node->out_count; i++) rw->map[node->out[i]] = rw->to->node[id].out[i];
    return RG_OK;
}

rg_status rg_rewrite_results(rg_rewrite *rw) {
    for (int32_t i = 0; i < rw->from->result_count; i++) {
        const rg_result *result = &rw->from->result[i];
        rg_vid value = rw->map[result->value];
        if (value >= 0 && rg_graph_add_result(rw->to, result->kind, value, result->param) != RG_OK)
            return rg_nomem(rw->ctx);
    }
    return RG_OK;
}
