/* Graphs as text: one line a parameter, leaf, node and result. */
#include "rg_graph.h"

#include <stdio.h>

static const char *const op_name[RG_OP_COUNT] = {
#define OP(id, name, inputs, outputs) [RG_OP_##id] = name,
#include "ops.def"
#undef OP
};

static const char *const kind_name[] = {"input", "param", "state", "node"};
static const char *const reduce_name[] = {"sum", "max", "moments"};
static const char *const result_name[] = {"loss", "correct", "logits", "grad", "state"};

const char *rg_op_name(rg_op op) {
    return op_name[op];
}

rg_type_text rg_type_print(rg_type type) {
    rg_type_text out;
    const int32_t *d = type.dim;
    if (type.cls == RG_T_WEIGHT) {
        snprintf(out.text, sizeof out.text, "[K%d R%d S%d C%d]", d[0], d[1], d[2], d[3]);
    } else if (d[0] == RG_BATCH) {
        snprintf(out.text, sizeof out.text, "[N %d %d %d]", d[1], d[2], d[3]);
    } else {
        snprintf(out.text, sizeof out.text, "[%d %d %d %d]", d[0], d[1], d[2], d[3]);
    }
    return out;
}

static void dump_axes(rg_text *text, uint32_t axes) {
    for (uint32_t i = 0; i < 4; i++) {
        if (axes & RG_AXIS_N << i) rg_text_add(text, "%c", "nhwc"[i]);
    }
}

/* A pointwise tree with its inputs under their own names: max(%4 + %5, 0). */
static void dump_tree(rg_text *text, const rg_graph *graph, const rg_node *node) {
    const char **name = RG_NEW_ARRAY(graph->arena, const char *, node->in_count + 1);
    for (int32_t i = 0; name && i < node->in_count; i++) {
        name[i] = rg_arena_printf(graph->arena, "%%%d", node->in[i]);
        if (!name[i]) name = NULL;
    }
    rg_text_add(text, " ");
    rg_expr_print(text, &node->attr.expr, node->attr.root, (const char *const *)name);
}

static void dump_attr(rg_text *text, const rg_node *node) {
    const rg_attr *a = &node->attr;
    if (a->r > 0) {
        rg_text_add(text, " %dx%d stride %d pad %d", a->r, a->s, a->stride, a->pad);
        if (a->dilation > 1) rg_text_add(text, " dilation %d", a->dilation);
    }
    if (a->format != RG_KFORMAT_F32) rg_text_add(text, " %s", rg_kformat_name(a->format));
    if (node->op == RG_OP_REDUCE) {
        rg_text_add(text, " %s over ", reduce_name[a->reduce]);
        dump_axes(text, a->axes);
    }
    if (a->eps > 0) rg_text_add(text, " eps %g", a->eps);
    if (a->momentum > 0) rg_text_add(text, " momentum %g", a->momentum);
    if (a->smoothing > 0) rg_text_add(text, " smoothing %g", a->smoothing);
}

static void dump_place(rg_text *text, const char *name, rg_loc loc) {
    if (name) rg_text_add(text, "  ; %s", name);
    if (loc.file) rg_text_add(text, "  %s:%d", loc.file, loc.line);
    rg_text_add(text, "\n");
}

static void dump_node(rg_text *text, const rg_graph *graph, const rg_node *node) {
    rg_text_add(text, "  ");
    for (int32_t i = 0; i < node->out_count; i++) {
        rg_type_text type = rg_type_print(graph->value[node->out[i]].type);
        rg_text_add(text, "%s%%%d %s", i > 0 ? ", " : "", node->out[i], type.text);
    }
    rg_text_add(text, " = %s", rg_op_name(node->op));
    if (node->op == RG_OP_POINTWISE) {
        dump_tree(text, graph, node);
    } else {
        for (int32_t i = 0; i < node->in_count; i++) {
            rg_text_add(text, "%s %%%d", i > 0 ? "," : "", node->in[i]);
        }
    }
    dump_attr(text, node);
    dump_place(text, node->name, node->loc);
}

void rg_graph_dump(rg_text *text, const rg_graph *graph) {
    rg_text_add(text, "graph %s\n", graph->name);
    for (int32_t i = 0; i < graph->value_count; i++) {
        const rg_value *value = &graph->value[i];
        if (value->kind == RG_V_NODE) continue;
        rg_type_text type = rg_type_print(value->type);
        rg_text_add(text, "  %%%d %s = %s %s", i, type.text, kind_name[value->kind],
                    value->name ? value->name : "-");
        dump_place(text, NULL, value->loc);
    }
    for (int32_t i = 0; i < graph->node_count; i++) dump_node(text, graph, &graph->node[i]);
    for (int32_t i = 0; i < graph->result_count; i++) {
        const rg_result *result = &graph->result[i];
        rg_text_add(text, "  result %s %%%d", result_name[result->kind], result->value);
        bool named = result->param >= 0 && result->param < graph->param_count;
        if (named) rg_text_add(text, " %s", graph->param[result->param].name);
        rg_text_add(text, "\n");
    }
}
