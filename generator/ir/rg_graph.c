/* Building graphs: growing tables in one arena. Checks stand in rg_graph_check.c, text in
 * rg_graph_dump.c. */
#include "rg_graph.h"

#include <string.h>

/* ---- types ---- */

bool rg_type_equal(rg_type a, rg_type b) {
    return a.cls == b.cls && memcmp(a.dim, b.dim, sizeof a.dim) == 0;
}

int64_t rg_type_elements(rg_type type) {
    int64_t count = 1;
    for (int i = 0; i < 4; i++) {
        int64_t dim = type.dim[i] == RG_BATCH ? 1 : type.dim[i];
        if (__builtin_mul_overflow(count, dim, &count)) return INT64_MAX;
    }
    return count;
}

bool rg_type_is_channel(rg_type type) {
    return type.cls == RG_T_ACT && type.dim[0] == 1 && type.dim[1] == 1 && type.dim[2] == 1;
}

bool rg_type_broadcasts(rg_type from, rg_type to) {
    if (from.cls != to.cls) return false;
    for (int i = 0; i < 4; i++) {
        bool repeated = from.cls == RG_T_ACT && from.dim[i] == 1;
        if (from.dim[i] != to.dim[i] && !repeated) return false;
    }
    return true;
}

uint32_t rg_type_broadcast_axes(rg_type from, rg_type to) {
    uint32_t axes = 0;
    for (int i = 0; i < 4; i++) {
        if (from.dim[i] == 1 && to.dim[i] != 1) axes |= RG_AXIS_N << i;
    }
    return axes;
}

rg_type rg_type_reduced(rg_type type, uint32_t axes) {
    for (int i = 0; i < 4; i++) {
        if (axes & RG_AXIS_N << i) type.dim[i] = 1;
    }
    return type;
}

int64_t rg_window_extent(int32_t in, int32_t taps, int32_t stride, int32_t pad, int32_t dilation) {
    int64_t span = (int64_t)dilation * (taps - 1) + 1;
    int64_t room = (int64_t)in + 2 * (int64_t)pad - span;
    return room < 0 ? 0 : room / stride + 1;
}

/* ---- growing ---- */

/* An arena's array with room for one more: itself, or a copy of twice the size; NULL when memory
 * runs out. */
static void *roomy(rg_arena *arena, void *array, int32_t count, int32_t *capacity, size_t size) {
    if (count < *capacity) return array;
    if (*capacity > INT32_MAX / 2) return NULL;
    int32_t wanted = *capacity > 0 ? *capacity * 2 : 32;
    void *bigger = rg_arena_alloc(arena, (size_t)wanted, size);
    if (!bigger) return NULL;
    if (count > 0) memcpy(bigger, array, (size_t)count * size);
    *capacity = wanted;
    return bigger;
}

rg_graph *rg_graph_new(rg_arena *arena, const char *name) {
    rg_graph *graph = RG_NEW(arena, rg_graph);
    if (!graph) return NULL;
    graph->arena = arena;
    graph->name = rg_arena_strdup(arena, name);
    return graph->name ? graph : NULL;
}

static rg_vid add_value(rg_graph *graph, const rg_value *value) {
    rg_value *room =
        roomy(graph->arena, graph->value, graph->value_count, &graph->value_capacity, sizeof *room);
    if (!room) return -1;
    graph->value = room;
    graph->value[graph->value_count] = *value;
    return graph->value_count++;
}

/* A copy of a name that may be NULL. */
static bool copy_name(rg_graph *graph, const char *name, const char **copy) {
    *copy = name ? rg_arena_strdup(graph->arena, name) : NULL;
    return !name || *copy;
}

rg_vid rg_graph_add_leaf(rg_graph *graph, rg_value_kind kind, rg_type type, const char *name,
                         int32_t param, rg_loc loc) {
    rg_value value = {.kind = kind, .type = type, .def = -1, .param = param, .loc = loc};
    if (!copy_name(graph, name, &value.name)) return -1;
    return add_value(graph, &value);
}

int32_t rg_graph_add_param(rg_graph *graph, const rg_param *param) {
    rg_param row = *param;
    rg_param *room =
        roomy(graph->arena, graph->param, graph->param_count, &graph->param_capacity, sizeof *room);
    if (!room || !copy_name(graph, param->name, &row.name)) return -1;
    graph->param = room;
    graph->param[graph->param_count] = row;
    return graph->param_count++;
}

/* The node's own copies of what its builder lent. */
static bool own_node(rg_graph *graph, rg_node *node, const rg_vid *in, const char *name) {
    size_t in_bytes = (size_t)node->in_count * sizeof *in;
    node->in = rg_arena_copy(graph->arena, in, in_bytes);
    if (!node->in || !copy_name(graph, name, &node->name)) return false;
    rg_expr *expr = &node->attr.expr;
    size_t expr_bytes = (size_t)expr->count * sizeof *expr->node;
    expr->arena = graph->arena;
    expr->capacity = expr->count;
    expr->node = expr->count > 0 ? rg_arena_copy(graph->arena, expr->node, expr_bytes) : NULL;
    return expr->count == 0 || expr->node;
}

rg_nid rg_graph_add_node(rg_graph *graph, rg_op op, const rg_vid *in, int32_t in_count,
                         const rg_type *out_type, int32_t out_count, const rg_attr *attr,
                         const char *name, rg_loc loc) {
    for (int32_t i = 0; i < in_count; i++) {
        if (in[i] < 0) return -1; /* the producer could not be made */
    }
    rg_node node = {.op = op, .in_count = in_count, .out_count = out_count, .loc = loc};
    if (attr) node.attr = *attr;
    rg_node *room =
        roomy(graph->arena, graph->node, graph->node_count, &graph->node_capacity, sizeof *room);
    if (!room || !own_node(graph, &node, in, name)) return -1;
    graph->node = room;
    for (int32_t i = 0; i < RG_NODE_OUT; i++) {
        node.out[i] = -1;
        if (i >= out_count) continue;
        rg_value value = {.kind = RG_V_NODE, .type = out_type[i], .param = -1, .loc = loc};
        value.def = graph->node_count;
        node.out[i] = add_value(graph, &value);
        if (node.out[i] < 0) return -1;
    }
    graph->node[graph->node_count] = node;
    return graph->node_count++;
}

rg_status rg_graph_add_result(rg_graph *graph, rg_out_kind kind, rg_vid value, int32_t param) {
    rg_result *room = roomy(graph->arena, graph->result, graph->result_count,
                            &graph->result_capacity, sizeof *room);
    if (!room) return RG_E_NOMEM;
    graph->result = room;
    graph->result[graph->result_count++] = (rg_result){kind, value, param};
    return RG_OK;
}

rg_vid rg_graph_pointwise(rg_graph *graph, const rg_vid *in, int32_t in_count, const rg_expr *expr,
                          int32_t root, rg_type type, const char *name, rg_loc loc) {
    rg_attr attr = {.expr = *expr, .root = root};
    if (root < 0) return -1;
    rg_nid node =
        rg_graph_add_node(graph, RG_OP_POINTWISE, in, in_count, &type, 1, &attr, name, loc);
    return node < 0 ? -1 : graph->node[node].out[0];
}

rg_vid rg_graph_reduce(rg_graph *graph, rg_vid in, rg_reduce_kind kind, uint32_t axes,
                       const char *name, rg_loc loc) {
    if (in < 0) return -1;
    rg_attr attr = {.reduce = kind, .axes = axes};
    rg_type type = rg_type_reduced(graph->value[in].type, axes);
    rg_nid node = rg_graph_add_node(graph, RG_OP_REDUCE, &in, 1, (rg_type[]){type, type},
                                    kind == RG_REDUCE_MOMENTS ? 2 : 1, &attr, name, loc);
    return node < 0 ? -1 : graph->node[node].out[0];
}
