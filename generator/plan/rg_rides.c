/* Which contractions ride with another one: what the cost model says of the whole program, since a
 * ride also decides where the values behind it are made. */
#include "rg_planner.h"

/* All groups of a program, one after the other. INFINITY: one of them has no variant. */
static rg_status cost_of(rg_planner *pl, const rg_fusion *fusion, double *us) {
    *us = 0;
    for (int32_t g = 0; g < fusion->group_count; g++) {
        rg_frozen frozen;
        double one;
        RG_TRY(rg_freeze(pl->ctx, fusion, g, pl->target->vector, &frozen));
        RG_TRY(rg_tpl_cheapest_us(pl->ctx, pl->tpl, &frozen.desc, frozen.dgrad, &one));
        *us += one;
    }
    return RG_OK;
}

/* Each ride in turn, beside those that were taken before it. */
static rg_status take_rides(rg_planner *pl, const rg_graph *graph, rg_fusion **fusion) {
    rg_ride *rides;
    int32_t count, taken = 0;
    double best;
    RG_TRY(rg_fuse_find_rides(pl->ctx, *fusion, &rides, &count));
    if (count == 0) return RG_OK;
    RG_TRY(cost_of(pl, *fusion, &best));
    for (int32_t i = 0; i < count; i++) {
        rg_fusion *with;
        double us;
        rides[taken] = rides[i];
        RG_TRY(rg_fuse(pl->ctx, graph, rides, taken + 1, &with));
        RG_TRY(cost_of(pl, with, &us));
        if (us >= best) continue;
        best = us;
        taken++;
        *fusion = with;
    }
    return RG_OK;
}

rg_status rg_rides_fuse(rg_planner *pl, rg_plan_program_id program) {
    const rg_graph *graph = pl->out->program[program].graph;
    rg_fusion **fusion = &pl->out->program[program].fusion;
    RG_TRY(rg_fuse(pl->ctx, graph, NULL, 0, fusion));
    return pl->target->riders ? take_rides(pl, graph, fusion) : RG_OK;
}
