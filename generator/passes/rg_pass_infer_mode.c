#include "rg_passes.h"

static rg_status copy_batch_norm(rg_rewrite *rw, const rg_node *node) {
    rg_vid in[5];
    for (int32_t i = 0; i < 5; i++) in[i] = rw->map[node->in[i]];
    rg_nid id =
        rg_graph_add_node(rw->to, RG_OP_BATCH_NORM_EVAL, in, 5, &rw->from->value[node->out[0]].type,
                          1, &node->attr, node->name, node->loc);
    if (id < 0) return rg_nomem(rw->ctx);
    rw->map[node->out[0]] = rw->to->node[id].out[0];
    return RG_OK;
}

rg_status rg_pass_infer_mode(rg_ctx *ctx, const rg_graph *in, bool predict, rg_graph **out) {
    rg_rewrite rw;
    RG_TRY(rg_rewrite_begin(&rw, ctx, in, predict ? "predict" : "eval"));
    for (rg_nid n = 0; n < in->node_count; n++) {
        const rg_node *node = &in->node[n];
        if (predict && node->op == RG_OP_LOSS) continue;
        RG_TRY(node->op == RG_OP_BATCH_NORM ? copy_batch_norm(&rw, node)
                                            : rg_rewrite_copy(&rw, node));
    }
    RG_TRY(rg_rewrite_results(&rw));
    *out = rw.to;
    return rg_graph_verify(ctx, rw.to);
}
