/* What groups take from memory: which values must be stored, and which groups must come first. */
#include "rg_fuse_reach.h"

typedef void (*leaf_fn)(void *user, rg_vid v);

/* Calls `leaf` for every value that the tree of v at this site takes from memory. */
static void walk_on(const rg_fusion *fu, rg_vid v, int32_t g, int32_t operand, leaf_fn leaf,
                    void *user) {
    if (!rg_fuse_meet(fu, v)) return;
    const rg_node *node = rg_fuse_def(fu, v);
    bool inside = rg_fuse_is_inside(fu, v, g, operand);
    if (!node || (fu->home[v].group >= 0 && !inside)) {
        leaf(user, v);
        return;
    }
    if (inside && (node->op != RG_OP_POINTWISE)) return; /* ACC, ROW or FIN */
    for (int32_t i = 0; i < node->in_count; i++) walk_on(fu, node->in[i], g, operand, leaf, user);
}

static void walk(const rg_fusion *fu, rg_vid v, int32_t g, int32_t operand, leaf_fn leaf,
                 void *user) {
    rg_fuse_walk_begin(fu);
    walk_on(fu, v, g, operand, leaf, user);
}

static void walk_group(const rg_fusion *fu, int32_t g, leaf_fn leaf, void *user) {
    const rg_group *group = &fu->group[g];
    if (group->anchor >= 0) {
        const rg_node *anchor = &fu->graph->node[group->anchor];
        for (int32_t i = 0; i < anchor->in_count; i++) walk(fu, anchor->in[i], g, i, leaf, user);
    }
    if (group->joined >= 0) {
        const rg_node *joined = &fu->graph->node[group->joined];
        for (int32_t i = 0; i < 2; i++)
            walk(fu, joined->in[i], g, RG_FUSE_JOINED_OPERAND, leaf, user);
    }
    if (group->rider >= 0) /* its operand is the anchor's */
        walk(fu, fu->graph->node[group->rider].in[1], g, RG_FUSE_JOINED_OPERAND, leaf, user);
    for (int32_t i = 0; i < group->count; i++) {
        rg_vid v = group->item[i];
        const rg_node *node = rg_fuse_def(fu, v);
        if (fu->home[v].site == RG_SITE_PROLOGUE && fu->home[v].group == g) continue;
        if (fu->home[v].group == g && fu->home[v].part >= 0)
            continue; /* gathered: its parts come from elsewhere */
        for (int32_t k = 0; k < node->in_count; k++) walk(fu, node->in[k], g, -1, leaf, user);
    }
}

static void demand(void *user, rg_vid v) {
    ((rg_home *)user)[v].demanded = true;
}

rg_status rg_fuse_demand(rg_ctx *ctx, rg_fusion *fu) {
    (void)ctx;
    for (rg_vid v = 0; v < fu->graph->value_count; v++) fu->home[v].demanded = fu->is_result[v];
    for (int32_t g = 0; g < fu->group_count; g++) walk_group(fu, g, demand, fu->home);
    return RG_OK;
}

typedef struct need_set {
    const rg_fusion *fu;
    bool *seen;
} need_set;

static void need(void *user, rg_vid v) {
    need_set *set = user;
    if (set->fu->home[v].group >= 0) set->seen[set->fu->home[v].group] = true;
}

rg_status rg_fuse_needs(rg_ctx *ctx, const rg_fusion *fu, int32_t g, int32_t **needs,
                        int32_t *count) {
    need_set set = {fu, RG_NEW_ARRAY(ctx->arena, bool, fu->group_count + 1)};
    *needs = RG_NEW_ARRAY(ctx->arena, int32_t, fu->group_count + 1);
    if (!set.seen || !*needs) return rg_nomem(ctx);
    walk_group(fu, g, need, &set);
    const rg_group *group = &fu->group[g];
    for (int32_t i = 0; i < group->count; i++) {
        const rg_home *home = &fu->home[group->item[i]];
        if (home->group == g && home->part >= 0) set.seen[home->part] = true;
    }
    *count = 0;
    for (int32_t i = 0; i < fu->group_count; i++)
        if (set.seen[i] && i != g) (*needs)[(*count)++] = i;
    return RG_OK;
}
