/* Fewer launches: what gathers the parts of one launch alone becomes that launch's tail.
 *
 * A VEC launch moves to where its producer is, so nothing may need it to be later: all else that it
 * needs is complete before the producer starts, and what it writes is read by launches alone that
 * come after it (running statistics are read where they are written). */
#include <string.h>

#include "rg_planner.h"

typedef struct tails {
    rg_planner *pl;
    int32_t count;
    int32_t *moved; /* by launch: whose tail it is; -1: it stays a launch */
    bool *seen;     /* of a walk over needs */
} tails;

static const rg_launch *launch_at(const tails *t, int32_t i) {
    return &t->pl->out->launch[i];
}

/* Where a launch is done: by the one whose tail it is, or by itself. */
static int32_t home_of(const tails *t, int32_t i) {
    return t->moved[i] >= 0 ? t->moved[i] : i;
}

/* Marks all that launch i needs, at once or by others. */
static void mark_needs(const tails *t, int32_t i) {
    const rg_launch *launch = launch_at(t, i);
    for (int32_t k = 0; k < launch->need_count; k++) {
        int32_t need = home_of(t, launch->need[k]);
        if (t->seen[need]) continue;
        t->seen[need] = true;
        mark_needs(t, need);
    }
}

static bool needs(const tails *t, int32_t i, int32_t other) {
    memset(t->seen, 0, (size_t)t->count * sizeof *t->seen);
    mark_needs(t, i);
    return t->seen[other];
}

/* The one launch that leaves all parts that launch i gathers; -1 where there is none. */
static int32_t producer_of(const tails *t, int32_t i) {
    const rg_launch *launch = launch_at(t, i);
    int32_t found = -1;
    for (int32_t f = 0; f < launch->desc.fin_count; f++) {
        uint32_t part = launch->buffer[launch->desc.fin[f].arg];
        for (int32_t p = 0; p < t->count; p++) {
            const rg_launch *other = launch_at(t, p);
            if (other->program != launch->program || t->moved[p] >= 0) continue;
            if (!rg_launch_touches(other, part, false, true)) continue;
            if (found >= 0 && found != p) return -1;
            found = p;
        }
    }
    return found;
}

/* Parts of weights: the producer says whether it adds them up. */
static bool may_have(const rg_launch *producer, const rg_launch *vec) {
    for (int32_t i = 0; i < vec->desc.site[0].out_count; i++)
        if (vec->desc.site[0].out[i].kind != RG_KOUT_STORE) return false;
    bool weights = producer->desc.kind == RG_K_WGRAD;
    for (int32_t f = 0; f < vec->desc.fin_count; f++)
        if ((vec->desc.arg[vec->desc.fin[f].arg].layout == RG_LAYOUT_PARTW) != weights)
            return false;
    return !weights || (producer->desc.variant.counters > 0 && producer->desc.tail_count == 0);
}

/* Are all parts that launch i gathers its own? A tail leaves nothing of partial weight gradients.
 */
static bool gathers_alone(const tails *t, int32_t i, int32_t producer) {
    const rg_launch *launch = launch_at(t, i);
    for (int32_t f = 0; f < launch->desc.fin_count; f++)
        for (int32_t other = 0; other < t->count; other++)
            if (other != i && other != producer &&
                rg_launch_touches(launch_at(t, other), launch->buffer[launch->desc.fin[f].arg],
                                  true, false) &&
                launch_at(t, other)->program == launch->program)
                return false;
    return true;
}

static bool all_needs_are_before(const tails *t, int32_t i, int32_t producer) {
    const rg_launch *launch = launch_at(t, i);
    for (int32_t k = 0; k < launch->need_count; k++) {
        int32_t need = home_of(t, launch->need[k]);
        if (need != producer && !needs(t, producer, need)) return false;
    }
    return true;
}

/* Does a launch read, or write too, what launch i writes, without coming after it? */
static bool result_is_read_before(const tails *t, int32_t i) {
    const rg_launch *launch = launch_at(t, i);
    for (int32_t a = 0; a < launch->desc.arg_count; a++) {
        if (!launch->desc.arg[a].written) continue;
        for (int32_t other = 0; other < t->count; other++) {
            const rg_launch *reader = launch_at(t, other);
            if (other == i || reader->program != launch->program || t->moved[other] >= 0) continue;
            if (rg_launch_touches(reader, launch->buffer[a], true, true) && !needs(t, other, i))
                return true;
        }
    }
    return false;
}

/* ---- moving ---- */

static rg_status move(tails *t, int32_t i, int32_t producer) {
    rg_launch *launch = &t->pl->out->launch[i], *to = &t->pl->out->launch[producer];
    rg_ctx *ctx = t->pl->ctx;
    int32_t own = to->desc.arg_count, more = launch->desc.arg_count;
    int32_t *same = RG_NEW_ARRAY(ctx->arena, int32_t, more + 1);
    uint32_t *buffer = RG_NEW_ARRAY(ctx->arena, uint32_t, own + more + 1);
    if (!same || !buffer) return rg_nomem(ctx);
    memcpy(buffer, to->buffer, (size_t)own * sizeof *buffer);
    for (int32_t a = 0; a < more; a++) {
        same[a] = -1;
        for (int32_t b = 0; b < own; b++)
            if (buffer[b] == launch->buffer[a] &&
                rg_karg_same_layout(&launch->desc.arg[a], &to->desc.arg[b]))
                same[a] = b;
    }
    RG_TRY(rg_kdesc_add_tail(ctx, &to->desc, &launch->desc, same));
    for (int32_t a = 0; a < more; a++) buffer[same[a]] = launch->buffer[a];
    to->buffer = buffer;
    t->moved[i] = producer;
    return RG_OK;
}

/* One that another launch's tail stands for may be what a third waits for: until nothing moves. */
static rg_status move_all(tails *t) {
    for (bool again = true; again;) {
        again = false;
        for (int32_t i = 0; i < t->count; i++) {
            const rg_launch *launch = launch_at(t, i);
            if (t->moved[i] >= 0 || launch->desc.kind != RG_K_VEC) continue;
            int32_t producer = producer_of(t, i);
            if (producer < 0 || !may_have(launch_at(t, producer), launch)) continue;
            if (!gathers_alone(t, i, producer)) continue;
            if (!all_needs_are_before(t, i, producer) || result_is_read_before(t, i)) continue;
            RG_TRY(move(t, i, producer));
            again = true;
        }
    }
    return RG_OK;
}

/* ---- what is left ---- */

/* Zeros when the arenas are made, and after every launch: nothing else writes there. They lie among
 * what is derived, which lives as long as the plan. */
static rg_status add_counters(rg_planner *pl, rg_launch *launch) {
    RG_TRY(rg_kdesc_add_counter(pl->ctx, &launch->desc));
    rg_pbuffer made = {.name = "counters", .arena = RG_ARENA_DERIVED, .layout = RG_PL_RAW};
    made.program = -1;
    made.type = RG_KTYPE_U32;
    made.elements = launch->desc.arg[launch->desc.counter_arg].length;
    uint32_t counters = rg_buffers_add(pl, &made);
    if (counters == UINT32_MAX) return rg_nomem(pl->ctx);
    launch->buffer[launch->desc.counter_arg] = counters;
    RG_TRY(rg_kdesc_check(pl->ctx, &launch->desc));
    return rg_emit_name(pl->ctx, pl->tpl, &launch->desc, &launch->name);
}

rg_status rg_tails(rg_planner *pl) {
    tails t = {.pl = pl, .count = pl->out->launch_count};
    t.moved = RG_NEW_ARRAY(pl->ctx->arena, int32_t, t.count + 1);
    t.seen = RG_NEW_ARRAY(pl->ctx->arena, bool, t.count + 1);
    if (!t.moved || !t.seen) return rg_nomem(pl->ctx);
    for (int32_t i = 0; i < t.count; i++) t.moved[i] = -1;
    RG_TRY(move_all(&t));
    for (int32_t i = 0; i < t.count; i++) t.moved[i] = home_of(&t, i);
    RG_TRY(rg_launches_close_up(pl, t.moved));
    for (int32_t i = 0; i < pl->out->launch_count; i++)
        if (pl->out->launch[i].desc.tail_count > 0) RG_TRY(add_counters(pl, &pl->out->launch[i]));
    return RG_OK;
}
