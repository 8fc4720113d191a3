/* Contractions that can ride with another one. */
#include "rg_fuse_reach.h"

const rg_ride *rg_fuse_ride_of(const rg_ride *rides, int32_t count, rg_nid n) {
    for (int32_t i = 0; i < count; i++)
        if (rides[i].anchor == n || rides[i].rider == n) return &rides[i];
    return NULL;
}

bool rg_fuse_is_rider(const rg_fusion *fu, rg_nid n) {
    const rg_node *node = &fu->graph->node[n];
    int32_t group = node->out_count > 0 ? fu->home[node->out[0]].group : -1;
    return group >= 0 && fu->group[group].rider == n;
}

bool rg_fuse_share_operand(const rg_graph *g, rg_nid a, rg_nid b) {
    const rg_node *one = &g->node[a], *other = &g->node[b];
    if (a == b || one->op != RG_OP_CONV2D_FPROP || other->op != one->op) return false;
    bool parameters = g->value[one->in[1]].def < 0 && g->value[other->in[1]].def < 0;
    rg_type type = g->value[one->out[0]].type;
    return parameters && one->in[0] == other->in[0] &&
           rg_type_equal(type, g->value[other->out[0]].type);
}

static bool is_alone(const rg_fusion *fu, rg_nid n) {
    const rg_group *group = &fu->group[fu->home[fu->graph->node[n].out[0]].group];
    return group->anchor == n && group->joined < 0 && group->rider < 0;
}

/* No two rides can make their kernels wait for each other: a kernel needs its one operand alone. */
static bool can_ride(const rg_fusion *fu, rg_nid a, rg_nid b) {
    return rg_fuse_share_operand(fu->graph, a, b) && is_alone(fu, a) && is_alone(fu, b);
}

rg_status rg_fuse_find_rides(rg_ctx *ctx, const rg_fusion *fu, rg_ride **rides, int32_t *count) {
    const rg_graph *g = fu->graph;
    *rides = RG_NEW_ARRAY(ctx->arena, rg_ride, g->node_count / 2 + 1);
    *count = 0;
    if (!*rides) return rg_nomem(ctx);
    for (rg_nid a = 0; a < g->node_count; a++)
        for (rg_nid b = a + 1; b < g->node_count && !rg_fuse_ride_of(*rides, *count, a); b++) {
            if (rg_fuse_ride_of(*rides, *count, b) || !can_ride(fu, a, b)) continue;
            const rg_attr *one = &g->node[a].attr, *other = &g->node[b].attr;
            bool swap = one->r * one->s < other->r * other->s;
            (*rides)[(*count)++] = (rg_ride){swap ? b : a, swap ? a : b};
        }
    return RG_OK;
}
