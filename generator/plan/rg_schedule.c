/* Order of execution, phases between barriers, and where each buffer lies.
 *
 * Launches of one phase run side by side; a phase ends with a barrier. A launch joins the current
 * phase if all it needs is complete, else it opens the next. Two WORK buffers share bytes only if
 * no phase holds both. */
#include <stdlib.h>
#include <string.h>

#include "rg_planner.h"

static int32_t launch_of_group(const rg_planner *pl, rg_plan_program_id p, int32_t g) {
    for (int32_t i = 0; i < pl->out->launch_count; i++)
        if (pl->out->launch[i].program == p && pl->out->launch[i].group == g) return i;
    return -1;
}

/* A split weight gradient is complete after its finishing stage; nothing in a program reads one, so
 * groups alone matter here. */
static rg_status find_needs(rg_planner *pl, int32_t index) {
    rg_launch *launch = &pl->out->launch[index];
    if (launch->program == RG_PP_UPDATE && launch->desc.kind == RG_K_PACK) {
        launch->need = RG_NEW_ARRAY(pl->ctx->arena, int32_t, 1);
        if (!launch->need) return rg_nomem(pl->ctx);
        launch->need[launch->need_count++] = 0; /* the optimiser, made first */
        return RG_OK;
    }
    if (launch->group < 0) return RG_OK;
    int32_t *groups, count;
    const rg_fusion *fusion = pl->out->program[launch->program].fusion;
    RG_TRY(rg_fuse_needs(pl->ctx, fusion, launch->group, &groups, &count));
    launch->need = RG_NEW_ARRAY(pl->ctx->arena, int32_t, count + 1);
    if (!launch->need) return rg_nomem(pl->ctx);
    for (int32_t i = 0; i < count; i++) {
        int32_t at = launch_of_group(pl, launch->program, groups[i]);
        if (at >= 0) launch->need[launch->need_count++] = at;
    }
    return RG_OK;
}

/* Place in the graph: launches that could run at the same time go in this order. */
static int32_t key_of(const rg_planner *pl, const rg_launch *launch) {
    if (launch->group < 0) return launch->need_count ? INT32_MAX / 2 : 0;
    const rg_fusion *fusion = pl->out->program[launch->program].fusion;
    const rg_group *group = &fusion->group[launch->group];
    int32_t key = group->anchor;
    for (int32_t i = 0; i < group->count; i++) {
        rg_vid v = group->item[i];
        int32_t def = fusion->graph->value[v].def;
        if (group->anchor < 0 && fusion->home[v].demanded && def > key) key = def;
    }
    return key;
}

typedef struct ordering {
    rg_planner *pl;
    int32_t *phase; /* by launch; -1: not placed */
    int32_t *key;
} ordering;

/* The phase in which everything that launch i needs is complete; -1 if something is not placed yet.
 */
static int32_t ready_phase(const ordering *ord, int32_t i) {
    const rg_launch *launch = &ord->pl->out->launch[i];
    int32_t phase = 0;
    for (int32_t k = 0; k < launch->need_count; k++) {
        int32_t at = ord->phase[launch->need[k]];
        if (at < 0) return -1;
        if (at + 1 > phase) phase = at + 1;
    }
    return phase;
}

/* The next launch of program p: of those that can run in `phase`, the first by key. */
static int32_t pick(const ordering *ord, rg_plan_program_id p, int32_t phase) {
    int32_t best = -1;
    for (int32_t i = 0; i < ord->pl->out->launch_count; i++) {
        if (ord->pl->out->launch[i].program != p || ord->phase[i] >= 0) continue;
        int32_t ready = ready_phase(ord, i);
        if (ready < 0 || ready > phase) continue;
        if (best < 0 || ord->key[i] < ord->key[best]) best = i;
    }
    return best;
}

static rg_status order_program(ordering *ord, rg_plan_program_id p, int32_t *order,
                               int32_t *count) {
    rg_planned *out = ord->pl->out;
    int32_t total = 0, placed = 0, phase = 0;
    for (int32_t i = 0; i < out->launch_count; i++) total += out->launch[i].program == p;
    while (placed < total) {
        int32_t i = pick(ord, p, phase);
        if (i < 0 && (i = pick(ord, p, ++phase)) < 0)
            return rg_fail(ord->pl->ctx, RG_E_INTERNAL,
                           "schedule: the groups of a program wait for each other");
        ord->phase[i] = phase;
        out->launch[i].phase = phase;
        order[(*count)++] = i;
        placed++;
    }
    return RG_OK;
}

static rg_status order_all(rg_planner *pl) {
    rg_planned *out = pl->out;
    size_t n = (size_t)out->launch_count + 1;
    ordering ord = {pl, RG_NEW_ARRAY(pl->ctx->arena, int32_t, n),
                    RG_NEW_ARRAY(pl->ctx->arena, int32_t, n)};
    int32_t *order = RG_NEW_ARRAY(pl->ctx->arena, int32_t, n), count = 0;
    int32_t *place = RG_NEW_ARRAY(pl->ctx->arena, int32_t, n);
    rg_launch *sorted = RG_NEW_ARRAY(pl->ctx->arena, rg_launch, n);
    if (!ord.phase || !ord.key || !order || !place || !sorted) return rg_nomem(pl->ctx);
    for (int32_t i = 0; i < out->launch_count; i++) {
        ord.phase[i] = -1;
        ord.key[i] = key_of(pl, &out->launch[i]);
    }
    for (int p = 0; p < RG_PP_COUNT; p++)
        RG_TRY(order_program(&ord, (rg_plan_program_id)p, order, &count));
    for (int32_t i = 0; i < count; i++) {
        place[order[i]] = i;
        sorted[i] = out->launch[order[i]];
        bool first = i == 0 || sorted[i - 1].program != sorted[i].program;
        sorted[i].wait = !first && sorted[i].phase != sorted[i - 1].phase;
    }
    for (int32_t i = 0; i < count; i++)
        for (int32_t k = 0; k < sorted[i].need_count; k++)
            sorted[i].need[k] = place[sorted[i].need[k]];
    out->launch = sorted;
    out->launch_capacity = (int32_t)n;
    return RG_OK;
}

/* ---- liveness ---- */

static void find_lives(rg_planner *pl) {
    for (int32_t b = 0; b < pl->out->buffer_count; b++) pl->out->buffer[b].first = -1;
    for (int32_t i = 0; i < pl->out->launch_count; i++) {
        const rg_launch *launch = &pl->out->launch[i];
        for (int32_t a = 0; a < launch->desc.arg_count; a++) {
            rg_pbuffer *buffer = &pl->out->buffer[launch->buffer[a]];
            if (buffer->first < 0) buffer->first = launch->phase;
            buffer->last = launch->phase;
        }
    }
}

static uint64_t bytes_of(const rg_pbuffer *buffer) {
    return (uint64_t)(rg_pbuffer_bytes(buffer) + 63) / 64 * 64;
}

static bool overlap_in_time(const rg_pbuffer *a, const rg_pbuffer *b) {
    return a->program == b->program && a->first <= b->last && b->first <= a->last;
}

static rg_pbuffer *sort_base; /* of compare_size: qsort has no context argument in C11 */

static int compare_size(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    uint64_t bx = bytes_of(&sort_base[x]), by = bytes_of(&sort_base[y]);
    if (bx != by) return bx > by ? -1 : 1;
    return x < y ? -1 : 1;
}

/* The lowest offset at which `buffer` meets none of those placed before it that live at the same
 * time. */
static uint64_t find_gap(const rg_pbuffer *buffer, rg_pbuffer *all, const int32_t *order,
                         int32_t placed) {
    uint64_t offset = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (int32_t i = 0; i < placed; i++) {
            const rg_pbuffer *other = &all[order[i]];
            if (!overlap_in_time(buffer, other)) continue;
            uint64_t end = other->offset + bytes_of(other);
            if (offset < end && other->offset < offset + bytes_of(buffer)) {
                offset = end;
                moved = true;
            }
        }
    }
    return offset;
}

static uint64_t lower_bound(const rg_planned *out) {
    uint64_t worst = 0;
    for (int p = 0; p < RG_PP_COUNT; p++)
        for (int32_t i = 0; i < out->launch_count; i++) {
            if (out->launch[i].program != (rg_plan_program_id)p) continue;
            uint64_t live = 0;
            for (int32_t b = 0; b < out->buffer_count; b++) {
                const rg_pbuffer *buffer = &out->buffer[b];
                if (buffer->arena == RG_ARENA_WORK && buffer->program == p && buffer->first >= 0 &&
                    buffer->first <= out->launch[i].phase && out->launch[i].phase <= buffer->last)
                    live += bytes_of(buffer);
            }
            if (live > worst) worst = live;
        }
    return worst;
}

static rg_status place_work(rg_planner *pl) {
    rg_planned *out = pl->out;
    int32_t *order = RG_NEW_ARRAY(pl->ctx->arena, int32_t, out->buffer_count + 1), count = 0;
    if (!order) return rg_nomem(pl->ctx);
    for (int32_t b = 0; b < out->buffer_count; b++)
        if (out->buffer[b].arena == RG_ARENA_WORK && out->buffer[b].first >= 0) order[count++] = b;
    sort_base = out->buffer;
    qsort(order, (size_t)count, sizeof *order, compare_size);
    for (int32_t i = 0; i < count; i++) {
        rg_pbuffer *buffer = &out->buffer[order[i]];
        buffer->offset = find_gap(buffer, out->buffer, order, i);
        uint64_t end = buffer->offset + bytes_of(buffer);
        if (end > out->plan.arena_bytes[RG_ARENA_WORK]) out->plan.arena_bytes[RG_ARENA_WORK] = end;
    }
    out->plan.work_lower_bound = lower_bound(out);
    return RG_OK;
}

/* Arenas in which everything lives for ever: one after the other. PARAM, GRAD and the moments have
 * their offsets already. */
static void place_rest(rg_planner *pl) {
    rg_planned *out = pl->out;
    for (int32_t b = 0; b < out->buffer_count; b++) {
        rg_pbuffer *buffer = &out->buffer[b];
        uint64_t *end = &out->plan.arena_bytes[buffer->arena];
        bool here = buffer->arena == RG_ARENA_IO || buffer->arena == RG_ARENA_DERIVED ||
                    buffer->arena == RG_ARENA_DATA;
        if (here && !buffer->placed) buffer->offset = *end;
        if (buffer->arena != RG_ARENA_WORK && buffer->offset + bytes_of(buffer) > *end)
            *end = buffer->offset + bytes_of(buffer);
    }
}

rg_status rg_schedule_needs(rg_planner *pl) {
    for (int32_t i = 0; i < pl->out->launch_count; i++) RG_TRY(find_needs(pl, i));
    return RG_OK;
}

bool rg_launch_touches(const rg_launch *launch, uint32_t buffer, bool reads, bool writes) {
    for (int32_t a = 0; a < launch->desc.arg_count; a++) {
        const rg_karg *arg = &launch->desc.arg[a];
        if (launch->buffer[a] == buffer && ((reads && arg->read) || (writes && arg->written)))
            return true;
    }
    return false;
}

rg_status rg_launches_close_up(rg_planner *pl, const int32_t *home) {
    rg_planned *out = pl->out;
    int32_t *place = RG_NEW_ARRAY(pl->ctx->arena, int32_t, out->launch_count + 1), left = 0;
    if (!place) return rg_nomem(pl->ctx);
    for (int32_t i = 0; i < out->launch_count; i++)
        if (home[i] == i) place[i] = left++;
    for (int32_t i = 0; i < out->launch_count; i++) {
        rg_launch *launch = &out->launch[i];
        if (home[i] != i) continue;
        for (int32_t k = 0; k < launch->need_count; k++)
            launch->need[k] = place[home[launch->need[k]]];
        out->launch[place[i]] = *launch;
    }
    out->launch_count = left;
    return RG_OK;
}

rg_status rg_schedule(rg_planner *pl) {
    RG_TRY(order_all(pl));
    find_lives(pl);
    RG_TRY(place_work(pl));
    place_rest(pl);
    return RG_OK;
}
