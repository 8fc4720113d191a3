#include "rg_fuse_reach.h"

#include <string.h>

/* ---- what a node is ---- */

static bool is_anchor(const rg_node *node) {
    return node->op != RG_OP_POINTWISE && node->op != RG_OP_REDUCE;
}

static rg_kkind anchor_kind(rg_op op) {
    if (op == RG_OP_CONV2D_WGRAD) return RG_K_WGRAD;
    return op == RG_OP_CONV2D_FPROP || op == RG_OP_CONV2D_DGRAD ? RG_K_CONV : RG_K_WINDOW;
}

static double bytes_of(const rg_fusion *fu, rg_vid v) {
    if (!rg_fuse_is_big(fu, v)) return 0;
    double bytes = (double)rg_ktype_bytes(fu->type[v]);
    return bytes * (double)rg_type_elements(fu->graph->value[v].type);
}

/* ---- set-up ---- */

static rg_status add_group(rg_ctx *ctx, rg_fusion *fu, rg_kkind kind, rg_nid anchor, int32_t *at) {
    if (fu->group_count == fu->group_capacity) {
        int32_t capacity = fu->group_capacity ? fu->group_capacity * 2 : 64;
        rg_group *group = RG_NEW_ARRAY(ctx->arena, rg_group, capacity);
        if (!group) return rg_nomem(ctx);
        if (fu->group_count) memcpy(group, fu->group, (size_t)fu->group_count * sizeof *group);
        fu->group = group;
        fu->group_capacity = capacity;
    }
    *at = fu->group_count;
    fu->group[fu->group_count++] =
        (rg_group){.kind = kind, .anchor = anchor, .joined = -1, .rider = -1};
    return RG_OK;
}

static rg_status add_item(rg_ctx *ctx, rg_fusion *fu, int32_t g, rg_vid v) {
    rg_group *group = &fu->group[g];
    if (group->count == group->capacity) {
        int32_t capacity = group->capacity ? group->capacity * 2 : 8;
        rg_vid *item = RG_NEW_ARRAY(ctx->arena, rg_vid, capacity);
        if (!item) return rg_nomem(ctx);
        if (group->count) memcpy(item, group->item, (size_t)group->count * sizeof *item);
        group->item = item;
        group->capacity = capacity;
    }
    group->item[group->count++] = v;
    return RG_OK;
}

static rg_status index_users(rg_ctx *ctx, rg_fusion *fu) {
    const rg_graph *g = fu->graph;
    size_t values = (size_t)g->value_count + 1;
    fu->home = RG_NEW_ARRAY(ctx->arena, rg_home, values);
    fu->user = RG_NEW_ARRAY(ctx->arena, int32_t *, values);
    fu->user_count = RG_NEW_ARRAY(ctx->arena, int32_t, values);
    fu->is_result = RG_NEW_ARRAY(ctx->arena, bool, values);
    fu->joins = RG_NEW_ARRAY(ctx->arena, rg_nid, g->node_count + 1);
    fu->marks = RG_NEW(ctx->arena, rg_fuse_marks);
    if (fu->marks) fu->marks->met = RG_NEW_ARRAY(ctx->arena, uint32_t, values);
    if (!fu->home || !fu->user || !fu->user_count || !fu->is_result || !fu->joins || !fu->marks ||
        !fu->marks->met)
        return rg_nomem(ctx);
    for (rg_vid v = 0; v < g->value_count; v++) fu->home[v] = (rg_home){.group = -1, .part = -1};
    for (int32_t i = 0; i < g->result_count; i++) fu->is_result[g->result[i].value] = true;
    for (rg_nid n = 0; n < g->node_count; n++)
        for (int32_t i = 0; i < g->node[n].in_count; i++) fu->user_count[g->node[n].in[i]]++;
    for (rg_vid v = 0; v < g->value_count; v++) {
        fu->user[v] = RG_NEW_ARRAY(ctx->arena, int32_t, fu->user_count[v] + 1);
        if (!fu->user[v]) return rg_nomem(ctx);
        fu->user_count[v] = 0;
    }
    for (rg_nid n = 0; n < g->node_count; n++)
        for (int32_t i = 0; i < g->node[n].in_count; i++) {
            rg_vid v = g->node[n].in[i];
            int32_t k = fu->user_count[v];
            if (k == 0 || fu->user[v][k - 1] != n) fu->user[v][fu->user_count[v]++] = n;
        }
    return RG_OK;
}

/* ---- contractions that share an accumulator ---- */

/* Does the sum alone read it? */
static bool can_join(const rg_fusion *fu, rg_vid v) {
    return fu->user_count[v] == 1 && !fu->is_result[v] && fu->joins[fu->graph->value[v].def] < 0;
}

static void find_joins(rg_fusion *fu) {
    const rg_graph *g = fu->graph;
    for (rg_nid n = 0; n < g->node_count; n++) fu->joins[n] = -1;
    for (rg_nid n = 0; n < g->node_count; n++) {
        const rg_node *node = &g->node[n];
        if (!rg_fuse_adds_contractions(g, node) || !can_join(fu, node->in[0]) ||
            !can_join(fu, node->in[1]))
            continue;
        rg_nid a = g->value[node->in[0]].def, b = g->value[node->in[1]].def;
        bool swap = g->node[a].attr.r * g->node[a].attr.s < g->node[b].attr.r * g->node[b].attr.s;
        fu->joins[swap ? a : b] = swap ? b : a; /* the smaller filter adds to the larger */
    }
}

/* The group in whose accumulator the two inputs of this sum already are added; -1: none. */
static int32_t joined_group(const rg_fusion *fu, const rg_node *node) {
    if (!rg_fuse_is_sum_of_two(node)) return -1;
    int32_t a = fu->home[node->in[0]].group, b = fu->home[node->in[1]].group;
    return a >= 0 && a == b && fu->group[a].joined >= 0 ? a : -1;
}

static void set_anchor_home(rg_fusion *fu, rg_nid n, int32_t group, const char *why) {
    const rg_node *node = &fu->graph->node[n];
    for (int32_t i = 0; i < node->out_count; i++) {
        rg_home *home = &fu->home[node->out[i]];
        home->site = RG_SITE_ANCHOR;
        home->group = group;
        home->why = why;
    }
}

static rg_status make_anchor_groups(rg_ctx *ctx, rg_fusion *fu, const rg_ride *rides,
                                    int32_t ride_count) {
    const rg_graph *g = fu->graph;
    find_joins(fu);
    for (rg_nid n = 0; n < g->node_count; n++) {
        const rg_ride *ride = rg_fuse_ride_of(rides, ride_count, n);
        if (!is_anchor(&g->node[n]) || fu->joins[n] >= 0 || (ride && ride->rider == n)) continue;
        int32_t at;
        RG_TRY(add_group(ctx, fu, anchor_kind(g->node[n].op), n, &at));
        set_anchor_home(fu, n, at, "result of the anchor");
        if (ride) {
            fu->group[at].rider = ride->rider;
            set_anchor_home(fu, ride->rider, at, "rides with another contraction of its operand");
        }
        for (rg_nid b = 0; b < g->node_count; b++) {
            if (fu->joins[b] != n) continue;
            fu->group[at].joined = b;
            set_anchor_home(fu, b, at, "added in the anchor's accumulator");
        }
    }
    return RG_OK;
}

/* ---- hosts ---- */

static bool same_space(rg_type a, rg_type b) {
    return a.dim[0] == b.dim[0] && a.dim[1] == b.dim[1] && a.dim[2] == b.dim[2];
}

/* The latest anchor whose epilogue can make `node`'s value: -1 if none. `type`: of the value that
 * is formed there. */
static rg_status find_epilogue(rg_fuse_state *st, const rg_node *node, rg_type type,
                               int32_t *host) {
    *host = -1;
    rg_fusion *fu = st->fu;
    for (int32_t g = fu->group_count - 1; g >= 0; g--) {
        const rg_group *group = &fu->group[g];
        if (group->kind != RG_K_CONV && group->kind != RG_K_WINDOW) continue;
        rg_vid raw = fu->graph->node[group->anchor].out[0];
        if (!rg_type_equal(fu->graph->value[raw].type, type)) continue;
        bool ok;
        RG_TRY(rg_fuse_fits(st, node, g, true, &ok));
        if (ok) {
            *host = g;
            return RG_OK;
        }
    }
    return RG_OK;
}

/* Do the taps of a convolution read every element of its operand? Then its prologue may store the
 * operand. */
static bool axis_covered(int32_t in, int32_t out, const rg_attr *attr, int32_t taps, bool dgrad) {
    for (int32_t h = 0; h < in; h++) {
        bool read = false;
        for (int32_t p = 0; p < out && !read; p++)
            for (int32_t r = 0; r < taps && !read; r++) {
                int32_t small = dgrad ? h : p, large = dgrad ? p : h;
                read = small * attr->stride + r * attr->dilation - attr->pad == large;
            }
        if (!read) return false;
    }
    return true;
}

static bool covers(const rg_graph *graph, const rg_node *node) {
    const rg_type *in = &graph->value[node->in[0]].type, *out = &graph->value[node->out[0]].type;
    bool dgrad = node->op == RG_OP_CONV2D_DGRAD;
    return axis_covered(in->dim[1], out->dim[1], &node->attr, node->attr.r, dgrad) &&
           axis_covered(in->dim[2], out->dim[2], &node->attr, node->attr.s, dgrad);
}

/* The first convolution that reads the whole of v as its operand, where making v in its prologue
 * leaves the order acyclic. */
static rg_status find_prologue(rg_fuse_state *st, rg_vid v, int32_t *host) {
    rg_fusion *fu = st->fu;
    const rg_node *node = rg_fuse_def(fu, v);
    *host = -1;
    for (int32_t g = 0; g < fu->group_count && *host < 0; g++) {
        const rg_group *group = &fu->group[g];
        if (group->kind != RG_K_CONV || group->joined >= 0) continue;
        const rg_node *anchor = &fu->graph->node[group->anchor];
        if (anchor->in[0] != v || !covers(fu->graph, anchor)) continue;
        bool acc;
        rg_fuse_collect_inputs(fu, node, -1, &st->leaves, &acc);
        bool ok = true;
        for (int32_t i = 0; ok && i < st->leaves.count; i++) {
            RG_TRY(rg_fuse_search_begin(st->ctx, &st->search, fu, g, v));
            ok = !rg_fuse_needs_value(&st->search, st->leaves.at[i]);
        }
        if (ok) *host = g;
    }
    return RG_OK;
}

/* Same pixels, and channels either equal or 1. */
static bool map_space(const rg_fusion *fu, const rg_group *group, rg_type type) {
    for (int32_t i = 0; i < group->count; i++) {
        const rg_node *node = rg_fuse_def(fu, group->item[i]);
        rg_vid v = node->op == RG_OP_REDUCE ? node->in[0] : group->item[i];
        rg_type there = fu->graph->value[v].type;
        bool channels = there.dim[3] == type.dim[3] || there.dim[3] == 1 || type.dim[3] == 1;
        if (!channels || !same_space(there, type)) return false;
    }
    return true;
}

static bool shares_leaf(rg_fuse_state *st, const rg_group *group) {
    for (int32_t i = 0; i < group->count; i++) {
        bool acc;
        rg_fuse_collect_inputs(st->fu, rg_fuse_def(st->fu, group->item[i]), -1, &st->others, &acc);
        for (int32_t a = 0; a < st->others.count; a++)
            for (int32_t b = 0; b < st->leaves.count; b++)
                if (st->others.at[a] == st->leaves.at[b] &&
                    rg_fuse_is_big(st->fu, st->others.at[a]))
                    return true;
    }
    return false;
}

/* A map group over the same pixels that shares an operand; else a new one. */
static rg_status find_map(rg_fuse_state *st, const rg_node *node, rg_type type, int32_t *host) {
    rg_fusion *fu = st->fu;
    for (int32_t g = fu->group_count - 1; g >= 0; g--) {
        const rg_group *group = &fu->group[g];
        if (group->kind != RG_K_MAP || !map_space(fu, group, type)) continue;
        bool ok, acc;
        RG_TRY(rg_fuse_fits(st, node, g, false, &ok));
        if (!ok) continue;
        rg_fuse_collect_inputs(fu, node, g, &st->leaves, &acc);
        if (acc || shares_leaf(st, group)) {
            *host = g;
            return RG_OK;
        }
    }
    return add_group(st->ctx, fu, RG_K_MAP, -1, host);
}

static int32_t channels(const rg_fusion *fu, rg_vid v) {
    return fu->graph->value[v].type.dim[3];
}

static rg_status find_vec(rg_fuse_state *st, rg_vid v, int32_t *host) {
    rg_fusion *fu = st->fu;
    const rg_node *node = rg_fuse_def(fu, v);
    for (int32_t g = fu->group_count - 1; g >= 0; g--) {
        const rg_group *group = &fu->group[g];
        if (group->kind != RG_K_VEC || channels(fu, group->item[0]) != channels(fu, v)) continue;
        bool ok;
        if (node->op == RG_OP_REDUCE) {
            RG_TRY(rg_fuse_search_begin(st->ctx, &st->search, fu, g, -1));
            ok = !rg_fuse_needs_group(&st->search, fu->home[v].part);
        } else {
            RG_TRY(rg_fuse_fits(st, node, g, false, &ok));
        }
        if (ok) {
            *host = g;
            return RG_OK;
        }
    }
    return add_group(st->ctx, fu, RG_K_VEC, -1, host);
}

/* ---- store or recompute ---- */

/* Arithmetic as bytes: a plain operation on an element costs about a twentieth of moving a float, a
 * transcendental half a float. */
static double add_tree_cost(const rg_fusion *fu, rg_vid v) {
    const rg_node *node = rg_fuse_def(fu, v);
    if (!rg_fuse_meet(fu, v) || !node || fu->home[v].group >= 0 || node->op != RG_OP_POINTWISE)
        return 0;
    double cost = 0;
    for (int32_t i = 0; i < node->attr.expr.count; i++) {
        rg_expr_op op = node->attr.expr.node[i].op;
        bool heavy = op == RG_EXPR_DIV || (op >= RG_EXPR_SQRT && op <= RG_EXPR_SIGMOID);
        if (rg_expr_arity(op) > 0) cost += heavy ? 2.0 : 0.2;
    }
    cost *= (double)rg_type_elements(fu->graph->value[v].type);
    for (int32_t i = 0; i < node->in_count; i++) cost += add_tree_cost(fu, node->in[i]);
    return cost;
}

static double tree_cost(const rg_fusion *fu, rg_vid v) {
    rg_fuse_walk_begin(fu);
    return add_tree_cost(fu, v);
}

/* Bytes that reader n loads more if v is inlined into it instead of nothing: v's leaves less what n
 * reads anyway. */
static double extra_bytes(rg_fuse_state *st, rg_vid v, const rg_node *reader,
                          const rg_fuse_leaves *own) {
    bool acc = false;
    st->others.count = 0;
    if (!is_anchor(reader))
        for (int32_t i = 0; i < reader->in_count; i++)
            if (reader->in[i] != v) rg_fuse_collect(st->fu, reader->in[i], -1, &st->others, &acc);
    double bytes = 0;
    for (int32_t i = 0; i < own->count; i++) {
        bool there = false;
        for (int32_t k = 0; k < st->others.count; k++) there |= st->others.at[k] == own->at[i];
        if (!there) bytes += bytes_of(st->fu, own->at[i]);
    }
    return bytes;
}

/* A reader that goes wherever v's own tree is: sums in the same epilogue, and trees that only such
 * sums read. */
static bool rides_along(const rg_fusion *fu, const rg_node *reader) {
    if (reader->op == RG_OP_REDUCE) return true;
    if (reader->op != RG_OP_POINTWISE || fu->is_result[reader->out[0]]) return false;
    if (fu->user_count[reader->out[0]] == 0) return false;
    for (int32_t i = 0; i < fu->user_count[reader->out[0]]; i++)
        if (fu->graph->node[fu->user[reader->out[0]][i]].op != RG_OP_REDUCE) return false;
    return true;
}

/* Is v made of a reduction over its own channels (a softmax)? Then it is formed where the reduction
 * is. */
static bool follows_row(const rg_fusion *fu, rg_vid v) {
    const rg_node *node = rg_fuse_def(fu, v);
    for (int32_t i = 0; i < node->in_count; i++) {
        const rg_node *in = rg_fuse_def(fu, node->in[i]);
        if (in && rg_fuse_is_row_reduce(in)) return true;
    }
    return false;
}

/* Must v be stored whatever it costs? The reason, or NULL. */
static const char *must_store(const rg_fusion *fu, rg_vid v) {
    if (fu->is_result[v]) return "a result of the program";
    bool only_sums = true;
    for (int32_t u = 0; u < fu->user_count[v]; u++)
        only_sums &= fu->graph->node[fu->user[v][u]].op == RG_OP_REDUCE;
    if (!only_sums && follows_row(fu, v)) return "made of a reduction over its own channels";
    for (int32_t u = 0; u < fu->user_count[v]; u++) {
        const rg_node *reader = &fu->graph->node[fu->user[v][u]];
        if (reader->op == RG_OP_MAXPOOL_GRAD && reader->in[1] == v) return "read as an index";
        if (reader->op != RG_OP_POINTWISE) continue;
        if (rg_type_elements(fu->graph->value[reader->out[0]].type) >
            rg_type_elements(fu->graph->value[v].type))
            return "broadcast by a reader";
    }
    return NULL;
}

/* What is rounded to 16 bits on its way to another anchor's epilogue is not wanted there in f32. */
static bool rides_into_one(const rg_fusion *fu, rg_vid v) {
    if (fu->user_count[v] != 1) return false;
    if (fu->type[v] != RG_KTYPE_F32 && rg_fuse_rounds_root(rg_fuse_def(fu, v))) return false;
    rg_op op = fu->graph->node[fu->user[v][0]].op;
    return op == RG_OP_POINTWISE || op == RG_OP_REDUCE;
}

/* An input is read as it came: its layout is made for that. */
static bool is_rounded_input(const rg_fusion *fu, rg_vid v) {
    const rg_node *node = rg_fuse_def(fu, v);
    return rg_fuse_is_rounding(node) && fu->graph->value[node->in[0]].kind == RG_V_INPUT &&
           !fu->is_result[v];
}

typedef struct host {
    rg_site_kind site;
    int32_t group;
} host;

static rg_status find_host(rg_fuse_state *st, rg_vid v, host *found) {
    const rg_node *node = rg_fuse_def(st->fu, v);
    rg_type type = st->fu->graph->value[v].type;
    *found = (host){RG_SITE_EPILOGUE, -1};
    RG_TRY(find_epilogue(st, node, type, &found->group));
    if (found->group >= 0) return RG_OK;
    found->site = RG_SITE_PROLOGUE;
    RG_TRY(find_prologue(st, v, &found->group));
    if (found->group < 0) found->site = RG_SITE_MAP;
    return RG_OK;
}

/* Would `leaf` be stored by group g for the sake of v alone? The result of the anchor; where v
 * takes 16 bits, also what is f32 of two contractions in one accumulator. */
static bool is_raw(const rg_fusion *fu, rg_vid v, rg_vid leaf, int32_t g) {
    const rg_home *home = &fu->home[leaf];
    if (home->group != g) return false;
    bool sum = home->site == RG_SITE_EPILOGUE && joined_group(fu, rg_fuse_def(fu, leaf)) == g;
    return home->site == RG_SITE_ANCHOR || (sum && fu->type[v] != RG_KTYPE_F32);
}

/* Fills in both costs of v, per image. A write counts twice: the cache line is read before it is
 * written. */
static rg_status weigh(rg_fuse_state *st, rg_vid v, const host *found) {
    rg_fusion *fu = st->fu;
    rg_home *home = &fu->home[v];
    const rg_node *node = rg_fuse_def(fu, v);
    rg_fuse_leaves own = {RG_NEW_ARRAY(st->ctx->arena, rg_vid, fu->graph->value_count + 1), 0};
    if (!own.at) return rg_nomem(st->ctx);
    bool acc = false;
    for (int32_t i = 0; i < node->in_count; i++) rg_fuse_collect(fu, node->in[i], -1, &own, &acc);
    double size = bytes_of(fu, v), leaves = 0, arithmetic = tree_cost(fu, v), raw = 0;
    for (int32_t i = 0; i < own.count; i++) {
        leaves += bytes_of(fu, own.at[i]);
        bool mine = is_raw(fu, v, own.at[i], found->group);
        if (found->site == RG_SITE_EPILOGUE && mine) raw += 2 * bytes_of(fu, own.at[i]);
    }
    home->store_cost = 2 * size + (found->site == RG_SITE_EPILOGUE ? 0 : leaves + arithmetic);
    home->inline_cost = raw;
    bool host_seen = false;
    for (int32_t i = 0; i < fu->user_count[v]; i++) {
        rg_nid n = fu->user[v][i];
        const rg_node *reader = &fu->graph->node[n];
        if (found->site == RG_SITE_EPILOGUE && rides_along(fu, reader)) continue;
        if (rg_fuse_is_rider(fu, n)) continue; /* its anchor reads the operand for both */
        bool is_host = found->site == RG_SITE_PROLOGUE && fu->group[found->group].anchor == n;
        if (!(is_host && !host_seen)) home->store_cost += size;
        host_seen |= is_host;
        home->inline_cost += extra_bytes(st, v, reader, &own) + arithmetic;
    }
    return RG_OK;
}

static rg_status settle(rg_fuse_state *st, rg_vid v, const host *found, const char *why) {
    rg_fusion *fu = st->fu;
    int32_t g = found->group;
    if (found->site == RG_SITE_MAP)
        RG_TRY(find_map(st, rg_fuse_def(fu, v), fu->graph->value[v].type, &g));
    rg_home *home = &fu->home[v];
    home->site = found->site;
    home->group = g;
    home->why = why;
    return add_item(st->ctx, fu, g, v);
}

static rg_status place_pointwise(rg_fuse_state *st, rg_vid v) {
    rg_fusion *fu = st->fu;
    rg_home *home = &fu->home[v];
    int32_t sum = joined_group(fu, rg_fuse_def(fu, v));
    if (sum >= 0) {
        host there = {RG_SITE_EPILOGUE, sum};
        return settle(st, v, &there, "two contractions in one accumulator");
    }
    if (is_rounded_input(fu, v)) {
        home->why = "the program's input, rounded where it is read";
        return RG_OK;
    }
    const char *must = must_store(fu, v);
    if (!must && rides_into_one(fu, v)) {
        home->why = "one reader, which makes it on the way";
        return RG_OK;
    }
    host found = {RG_SITE_MAP, -1};
    if (!follows_row(fu, v)) RG_TRY(find_host(st, v, &found));
    if (must) return settle(st, v, &found, must);
    RG_TRY(weigh(st, v, &found));
    if (home->inline_cost < home->store_cost) {
        home->why = "recomputed by its readers: fewer bytes than storing it";
        return RG_OK;
    }
    return settle(st, v, &found, "stored once: fewer bytes than recomputing it");
}

/* ---- sums and channel maths ---- */

static rg_status place_vec(rg_fuse_state *st, rg_vid v) {
    int32_t g;
    RG_TRY(find_vec(st, v, &g));
    rg_home *home = &st->fu->home[v];
    home->site = RG_SITE_VEC;
    home->group = g;
    home->why = home->part >= 0 ? "partial sums gathered with channel maths" : "channel maths";
    return add_item(st->ctx, st->fu, g, v);
}

static rg_status place_sum(rg_fuse_state *st, const rg_node *node) {
    rg_fusion *fu = st->fu;
    int32_t g;
    rg_type type = fu->graph->value[node->in[0]].type;
    bool keeps_channels = channels(fu, node->out[0]) == type.dim[3];
    g = -1;
    if (keeps_channels) RG_TRY(find_epilogue(st, node, type, &g));
    if (g < 0) RG_TRY(find_map(st, node, type, &g));
    RG_TRY(add_item(st->ctx, fu, g, node->out[0]));
    for (int32_t i = 0; i < node->out_count; i++) fu->home[node->out[i]].part = g;
    for (int32_t i = 0; i < node->out_count; i++) RG_TRY(place_vec(st, node->out[i]));
    return RG_OK;
}

static rg_status place_reduce(rg_fuse_state *st, const rg_node *node) {
    rg_fusion *fu = st->fu;
    if (rg_fuse_is_channel_sum(fu->graph, node)) return place_sum(st, node);
    rg_type type = fu->graph->value[node->in[0]].type, out = fu->graph->value[node->out[0]].type;
    bool pixels = out.dim[0] == type.dim[0] && out.dim[1] == 1 && out.dim[2] == 1 &&
                  out.dim[3] == type.dim[3];
    if (!pixels && !rg_fuse_is_row_reduce(node))
        return rg_error(
            st->ctx, RG_E_UNSUPPORTED, node->loc,
            "reduce '%s': sums over N,H,W, over H,W or over C are supported, found axes %u",
            node->name ? node->name : "", node->attr.axes);
    int32_t g;
    RG_TRY(find_map(st, node, type, &g));
    rg_home *home = &fu->home[node->out[0]];
    home->site = RG_SITE_MAP;
    home->group = g;
    home->why = pixels ? "sum over each image" : "reduction over channels";
    return add_item(st->ctx, fu, g, node->out[0]);
}

static rg_status place(rg_fuse_state *st, const rg_node *node) {
    if (node->op == RG_OP_REDUCE) return place_reduce(st, node);
    if (node->op != RG_OP_POINTWISE) return RG_OK;
    return rg_fuse_is_big(st->fu, node->out[0]) ? place_pointwise(st, node->out[0])
                                                : place_vec(st, node->out[0]);
}

rg_status rg_fuse(rg_ctx *ctx, const rg_graph *graph, const rg_ride *rides, int32_t ride_count,
                  rg_fusion **fusion) {
    rg_fusion *fu = RG_NEW(ctx->arena, rg_fusion);
    if (!fu) return rg_nomem(ctx);
    fu->graph = graph;
    RG_TRY(index_users(ctx, fu));
    RG_TRY(rg_fuse_find_types(ctx, fu));
    RG_TRY(make_anchor_groups(ctx, fu, rides, ride_count));
    rg_fuse_state st = {.ctx = ctx, .fu = fu};
    st.leaves.at = RG_NEW_ARRAY(ctx->arena, rg_vid, graph->value_count + 1);
    st.others.at = RG_NEW_ARRAY(ctx->arena, rg_vid, graph->value_count + 1);
    if (!st.leaves.at || !st.others.at) return rg_nomem(ctx);
    for (rg_nid n = 0; n < graph->node_count; n++) RG_TRY(place(&st, &graph->node[n]));
    RG_TRY(rg_fuse_demand(ctx, fu));
    *fusion = fu;
    return RG_OK;
}
