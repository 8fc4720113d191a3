/* Fewer launches: equal kernels that nothing in their program waits for share one launch.
 *
 * Weight gradients are such: `update` alone reads them, so that none reaches another, and waiting
 * for one another delays nothing but them. So is what makes BN's scale and shift for evaluation.
 * Who shares is settled before select, since several at once fill the device with fewer parts each;
 * they become one launch when tails are where they belong. At most MOST share, neighbours in the
 * program, since the operands of all must live until the last is ready. */
#include <string.h>

#include "rg_planner.h"

enum { MOST = 4, TAIL_ARGS = 2 }; /* launches; a weight gradient's tail: result, counters */

/* first[i]: in, the first item that is like item i (i itself where none is before it); out, the
 * first of those that share. Sets are of nearly equal sizes. */
static void share_out(int32_t count, int32_t *first) {
    for (int32_t i = 0; i < count; i++) {
        int32_t left = 0, taken = 0, set = 0;
        if (first[i] != i) continue;
        for (int32_t j = i; j < count; j++) left += first[j] == i;
        for (int32_t j = i; j < count; j++) {
            if (first[j] != i) continue;
            if (taken == 0) {
                int32_t sets = (left + MOST - 1) / MOST;
                taken = (left + sets - 1) / sets;
                set = j;
            }
            first[j] = set;
            taken--;
            left--;
        }
    }
}

/* ---- before select: weight gradients ---- */

/* Is a group needed by another of its program? */
static rg_status find_needed(rg_planner *pl, const rg_fusion *fusion, bool *needed) {
    for (int32_t g = 0; g < fusion->group_count; g++) {
        int32_t *needs, count;
        RG_TRY(rg_fuse_needs(pl->ctx, fusion, g, &needs, &count));
        for (int32_t i = 0; i < count; i++) needed[needs[i]] = true;
    }
    return RG_OK;
}

/* The canonical text of a group's description; NULL where it is no weight gradient that can share.
 */
static rg_status text_of(rg_planner *pl, const rg_fusion *fusion, int32_t g, bool needed,
                         const char **text) {
    rg_frozen frozen;
    *text = NULL;
    if (fusion->group[g].kind != RG_K_WGRAD || needed) return RG_OK;
    RG_TRY(rg_freeze(pl->ctx, fusion, g, pl->target->vector, &frozen));
    if ((frozen.desc.arg_count + TAIL_ARGS) * MOST > RG_PLAN_MAX_ARGS) return RG_OK;
    rg_text made = {0};
    rg_kdesc_print(&made, &frozen.desc, false);
    *text = made.failed ? NULL : rg_arena_strdup(pl->ctx->arena, made.data);
    rg_text_free(&made);
    return *text ? RG_OK : rg_nomem(pl->ctx);
}

rg_status rg_mates_find(rg_planner *pl, rg_plan_program_id p, rg_mates **mates) {
    const rg_fusion *fusion = pl->out->program[p].fusion;
    int32_t count = fusion->group_count;
    bool *needed = RG_NEW_ARRAY(pl->ctx->arena, bool, count + 1);
    const char **text = RG_NEW_ARRAY(pl->ctx->arena, const char *, count + 1);
    int32_t *first = RG_NEW_ARRAY(pl->ctx->arena, int32_t, count + 1);
    *mates = RG_NEW_ARRAY(pl->ctx->arena, rg_mates, count + 1);
    if (!needed || !text || !first || !*mates) return rg_nomem(pl->ctx);
    RG_TRY(find_needed(pl, fusion, needed));
    for (int32_t g = 0; g < count; g++) {
        RG_TRY(text_of(pl, fusion, g, needed[g], &text[g]));
        first[g] = g;
        for (int32_t h = g - 1; h >= 0 && text[g]; h--)
            if (text[h] && strcmp(text[h], text[g]) == 0) first[g] = first[h];
    }
    share_out(count, first);
    for (int32_t g = 0; g < count; g++) (*mates)[first[g]].count++;
    for (int32_t g = 0; g < count; g++)
        (*mates)[g] = (rg_mates){first[g], (*mates)[first[g]].count};
    return RG_OK;
}

static bool are_mates(const rg_launch *a, const rg_launch *b) {
    return a->program == b->program && a->mates.count > 1 && b->mates.count > 1 &&
           a->mates.first == b->mates.first;
}

/* The launch among the first `count` whose mate this is; NULL where there is none. */
static const rg_launch *mate_of(const rg_planner *pl, const rg_launch *launch, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        if (are_mates(&pl->out->launch[i], launch)) return &pl->out->launch[i];
    return NULL;
}

static void take_pick(rg_launch *to, const rg_launch *from) {
    to->candidate = from->candidate;
    to->candidate_count = from->candidate_count;
    to->desc.variant = from->desc.variant;
    to->why = from->why;
}

rg_status rg_mates_select(rg_planner *pl, int32_t index) {
    rg_launch *launch = &pl->out->launch[index];
    const rg_launch *mate = mate_of(pl, launch, index);
    if (mate) {
        take_pick(launch, mate);
        return RG_OK;
    }
    RG_TRY(rg_expand_select(pl, launch));
    if (!launch->candidate[0].instances) launch->mates.count = 0;
    if (launch->mates.count < 2) return RG_OK;
    rg_launch all = *launch;
    RG_TRY(rg_kdesc_repeat(pl->ctx, &launch->desc, launch->mates.count, &all.desc));
    RG_TRY(rg_expand_select(pl, &all));
    take_pick(launch, &all);
    return RG_OK;
}

/* ---- after tails ---- */

/* VEC launches have their place now: what is still a launch is a result of its own. */
static bool may_join(const rg_launch *launch, bool needed) {
    return launch->desc.kind == RG_K_VEC && !needed && launch->candidate[0].instances &&
           launch->desc.arg_count * MOST <= RG_PLAN_MAX_ARGS;
}

static bool are_alike(const rg_launch *a, const rg_launch *b) {
    return a->program == b->program && a->blocks == b->blocks &&
           strcmp(a->name.key, b->name.key) == 0;
}

/* Does none touch what the other writes? */
static bool are_apart(const rg_launch *a, const rg_launch *b) {
    for (int32_t i = 0; i < a->desc.arg_count; i++)
        if (rg_launch_touches(b, a->buffer[i], a->desc.arg[i].written, true)) return false;
    return true;
}

/* Of launches 0 to i: can i join those whose first is `set`? */
static bool fits(const rg_planned *out, const bool *needed, const int32_t *first, int32_t i,
                 int32_t set) {
    const rg_launch *launch = &out->launch[i], *other = &out->launch[set];
    if (!may_join(launch, needed[i]) || !may_join(other, needed[set]) || !are_alike(launch, other))
        return false;
    for (int32_t j = set; j < i; j++)
        if (first[j] == set && !are_apart(&out->launch[j], launch)) return false;
    return true;
}

/* By launch: the first of those that share one with it, or itself. */
static rg_status find_sets(rg_planner *pl, int32_t *first) {
    const rg_planned *out = pl->out;
    bool *needed = RG_NEW_ARRAY(pl->ctx->arena, bool, out->launch_count + 1);
    if (!needed) return rg_nomem(pl->ctx);
    for (int32_t i = 0; i < out->launch_count; i++)
        for (int32_t k = 0; k < out->launch[i].need_count; k++)
            needed[out->launch[i].need[k]] = true;
    for (int32_t i = 0; i < out->launch_count; i++) {
        const rg_launch *launch = &out->launch[i];
        const rg_launch *mate = mate_of(pl, launch, i);
        first[i] = mate ? (int32_t)(mate - out->launch) : i;
        for (int32_t j = 0; j < i && first[i] == i; j++)
            if (first[j] == j && fits(out, needed, first, i, j)) first[i] = j;
    }
    share_out(out->launch_count, first);
    return RG_OK;
}

/* ---- one launch of several ---- */

/* Bytes at the front (`back`: at the end) that two labels share, whole parts between dots. */
static size_t common(const char *a, const char *b, bool back) {
    size_t na = strlen(a), nb = strlen(b), whole = 0;
    for (size_t i = 0; i < na && i < nb; i++) {
        char x = back ? a[na - 1 - i] : a[i], y = back ? b[nb - 1 - i] : b[i];
        if (x != y) break;
        if (x == '.') whole = i + 1;
    }
    return whole;
}

/* "block5.{1,0}.conv2" */
static const char *label_of(rg_planner *pl, const rg_launch *const *one, int32_t n) {
    size_t front = strlen(one[0]->label), back = front;
    bool same = true;
    for (int32_t i = 1; i < n; i++) {
        size_t f = common(one[0]->label, one[i]->label, false);
        size_t b = common(one[0]->label, one[i]->label, true);
        front = f < front ? f : front;
        back = b < back ? b : back;
        same &= strcmp(one[0]->label, one[i]->label) == 0;
    }
    if (same) return one[0]->label;
    rg_text text = {0};
    rg_text_add(&text, "%.*s", (int)front, one[0]->label);
    for (int32_t i = 0; i < n; i++) {
        size_t length = strlen(one[i]->label), both = front + back;
        rg_text_add(&text, "%s%.*s", i ? "," : "{", (int)(length > both ? length - both : 0),
                    one[i]->label + front);
    }
    rg_text_add(&text, "}%s", one[0]->label + strlen(one[0]->label) - back);
    char *label = text.failed ? NULL : rg_arena_strdup(pl->ctx->arena, text.data);
    rg_text_free(&text);
    return label;
}

/* Arguments one after the other; all that any of them needs. */
static rg_status put_together(rg_planner *pl, const rg_launch *const *one, int32_t n,
                              rg_launch *to) {
    int32_t own = one[0]->desc.arg_count, needs = 0;
    for (int32_t i = 0; i < n; i++) needs += one[i]->need_count;
    to->buffer = RG_NEW_ARRAY(pl->ctx->arena, uint32_t, n * own + 1);
    to->need = RG_NEW_ARRAY(pl->ctx->arena, int32_t, needs + 1);
    to->label = label_of(pl, one, n);
    if (!to->buffer || !to->need || !to->label) return rg_nomem(pl->ctx);
    to->need_count = 0;
    for (int32_t i = 0; i < n; i++) {
        memcpy(to->buffer + i * own, one[i]->buffer, (size_t)own * sizeof *to->buffer);
        for (int32_t k = 0; k < one[i]->need_count; k++)
            to->need[to->need_count++] = one[i]->need[k];
    }
    return rg_kdesc_repeat(pl->ctx, &one[0]->desc, n, &to->desc);
}

/* The launches whose first is `at`. */
static rg_status join(rg_planner *pl, const int32_t *first, int32_t at) {
    rg_launch *launch = &pl->out->launch[at], all = *launch;
    const rg_launch *one[MOST];
    int32_t n = 0;
    for (int32_t i = at; i < pl->out->launch_count; i++)
        if (first[i] == at) one[n++] = &pl->out->launch[i];
    bool alike = launch->mates.count < 2 || launch->mates.count == n;
    for (int32_t i = 1; i < n; i++) alike &= are_alike(one[i], one[0]);
    if (!alike)
        return rg_fail(pl->ctx, RG_E_INTERNAL, "plan: kernel %s (%s): those that share it differ",
                       launch->name.symbol, launch->label);
    if (n < 2) return RG_OK;
    RG_TRY(put_together(pl, one, n, &all));
    if (all.desc.kind == RG_K_VEC) RG_TRY(rg_expand_select(pl, &all));
    RG_TRY(rg_kdesc_check(pl->ctx, &all.desc));
    RG_TRY(rg_emit_name(pl->ctx, pl->tpl, &all.desc, &all.name));
    *launch = all;
    return RG_OK;
}

rg_status rg_mates_join(rg_planner *pl) {
    int32_t *first = RG_NEW_ARRAY(pl->ctx->arena, int32_t, pl->out->launch_count + 1);
    if (!first) return rg_nomem(pl->ctx);
    RG_TRY(find_sets(pl, first));
    for (int32_t i = 0; i < pl->out->launch_count; i++)
        if (first[i] == i) RG_TRY(join(pl, first, i));
    return rg_launches_close_up(pl, first);
}
