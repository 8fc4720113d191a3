#include "rg_fuse_reach.h"

#include <string.h>

/* ---- order between groups ---- */

static bool visit_inputs(rg_fuse_search *s, const rg_node *node) {
    for (int32_t i = 0; i < node->in_count; i++)
        if (rg_fuse_needs_value(s, node->in[i])) return true;
    return false;
}

bool rg_fuse_needs_group(rg_fuse_search *s, int32_t g) {
    if (g < 0) return false;
    if (g == s->group) return true;
    if (s->seen_group[g]) return false;
    s->seen_group[g] = true;
    const rg_group *group = &s->fu->group[g];
    if (group->anchor >= 0 && visit_inputs(s, &s->fu->graph->node[group->anchor])) return true;
    if (group->joined >= 0 && visit_inputs(s, &s->fu->graph->node[group->joined])) return true;
    if (group->rider >= 0 && visit_inputs(s, &s->fu->graph->node[group->rider])) return true;
    for (int32_t i = 0; i < group->count; i++) {
        const rg_node *node = rg_fuse_def(s->fu, group->item[i]);
        /* a gathered sum needs its parts; the parts themselves (in the group that leaves them) need
         * the summed value */
        int32_t part = s->fu->home[group->item[i]].part;
        if (part >= 0 && part != g) {
            if (rg_fuse_needs_group(s, part)) return true;
        } else if (visit_inputs(s, node)) {
            return true;
        }
    }
    return false;
}

bool rg_fuse_needs_value(rg_fuse_search *s, rg_vid v) {
    if (v == s->value) return true;
    if (s->seen_value[v]) return false;
    s->seen_value[v] = true;
    const rg_home *home = &s->fu->home[v];
    if (home->group >= 0 && rg_fuse_needs_group(s, home->group)) return true;
    if (home->part >= 0 && rg_fuse_needs_group(s, home->part)) return true;
    const rg_node *node = rg_fuse_def(s->fu, v);
    return home->group < 0 && node && visit_inputs(s, node);
}

rg_status rg_fuse_search_begin(rg_ctx *ctx, rg_fuse_search *s, const rg_fusion *fu, int32_t group,
                               rg_vid value) {
    if (!s->seen_value) {
        s->seen_value = RG_NEW_ARRAY(ctx->arena, bool, fu->graph->value_count + 1);
        s->seen_group = RG_NEW_ARRAY(ctx->arena, bool, fu->graph->value_count * 4 + 64);
        if (!s->seen_value || !s->seen_group) return rg_nomem(ctx);
    }
    memset(s->seen_value, 0, (size_t)fu->graph->value_count);
    memset(s->seen_group, 0, (size_t)fu->group_count);
    s->fu = fu;
    s->group = group;
    s->value = value;
    return RG_OK;
}

/* ---- trees seen from a group ---- */

static void add_leaf(rg_fuse_leaves *set, rg_vid v) {
    for (int32_t i = 0; i < set->count; i++)
        if (set->at[i] == v) return;
    set->at[set->count++] = v;
}

bool rg_fuse_is_inside(const rg_fusion *fu, rg_vid v, int32_t g, int32_t operand) {
    const rg_home *home = &fu->home[v];
    if (g < 0 || home->group != g) return false;
    if (operand >= 0) return home->site == RG_SITE_PROLOGUE && home->operand == operand;
    if (home->site == RG_SITE_PROLOGUE) return false;
    const rg_node *node = rg_fuse_def(fu, v);
    return node->op != RG_OP_REDUCE || home->site == RG_SITE_VEC || rg_fuse_is_row_reduce(node);
}

void rg_fuse_walk_begin(const rg_fusion *fu) {
    fu->marks->epoch++;
}

bool rg_fuse_meet(const rg_fusion *fu, rg_vid v) {
    bool first = fu->marks->met[v] != fu->marks->epoch;
    fu->marks->met[v] = fu->marks->epoch;
    return first;
}

static void collect(const rg_fusion *fu, rg_vid v, int32_t g, rg_fuse_leaves *set, bool *acc) {
    if (!rg_fuse_meet(fu, v)) return;
    if (rg_fuse_is_inside(fu, v, g, -1)) {
        *acc = true;
        return;
    }
    const rg_node *node = rg_fuse_def(fu, v);
    if (!node || fu->home[v].group >= 0) {
        add_leaf(set, v);
        return;
    }
    for (int32_t i = 0; i < node->in_count; i++) collect(fu, node->in[i], g, set, acc);
}

void rg_fuse_collect(const rg_fusion *fu, rg_vid v, int32_t g, rg_fuse_leaves *set, bool *acc) {
    rg_fuse_walk_begin(fu);
    collect(fu, v, g, set, acc);
}

void rg_fuse_collect_inputs(const rg_fusion *fu, const rg_node *node, int32_t g,
                            rg_fuse_leaves *set, bool *acc) {
    set->count = 0;
    *acc = false;
    for (int32_t i = 0; i < node->in_count; i++) rg_fuse_collect(fu, node->in[i], g, set, acc);
}

rg_status rg_fuse_fits(rg_fuse_state *st, const rg_node *node, int32_t g, bool must_touch,
                       bool *ok) {
    bool acc;
    rg_fuse_collect_inputs(st->fu, node, g, &st->leaves, &acc);
    *ok = acc || !must_touch;
    if (!*ok) return RG_OK;
    RG_TRY(rg_fuse_search_begin(st->ctx, &st->search, st->fu, g, -1));
    for (int32_t i = 0; *ok && i < st->leaves.count; i++)
        *ok = !rg_fuse_needs_value(&st->search, st->leaves.at[i]);
    return RG_OK;
}
