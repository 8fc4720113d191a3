/* select and expand: a variant for every group, and what the picks need as launches of their own.
 */
#include <string.h>

#include "rg_planner.h"

static int32_t blocks_of(int32_t batch) {
    return batch > 0 ? (batch + RG_BLOCK - 1) / RG_BLOCK : 1;
}

rg_launch *rg_expand_add(rg_planner *pl) {
    rg_planned *out = pl->out;
    if (out->launch_count == out->launch_capacity) {
        int32_t capacity = out->launch_capacity ? out->launch_capacity * 2 : 256;
        rg_launch *list = RG_NEW_ARRAY(pl->ctx->arena, rg_launch, capacity);
        if (!list) return NULL;
        if (out->launch_count) memcpy(list, out->launch, (size_t)out->launch_count * sizeof *list);
        out->launch = list;
        out->launch_capacity = capacity;
    }
    rg_launch *launch = &out->launch[out->launch_count++];
    *launch = (rg_launch){.group = -1};
    return launch;
}

rg_status rg_expand_select(rg_planner *pl, rg_launch *launch) {
    RG_TRY(rg_tpl_candidates(pl->ctx, pl->tpl, &launch->desc, launch->dgrad, &launch->candidate,
                             &launch->candidate_count));
    launch->desc.variant = launch->candidate[0].variant;
    launch->why = launch->candidate_count == 1 ? "the only variant that applies"
                                               : "cheapest by the cost model";
    return RG_OK;
}

static rg_launch *find_group(rg_planner *pl, rg_plan_program_id p, int32_t group) {
    for (int32_t i = 0; i < pl->out->launch_count; i++)
        if (pl->out->launch[i].program == p && pl->out->launch[i].group == group)
            return &pl->out->launch[i];
    return NULL;
}

/* The number of partial sums is the producer's business: its readers are told. */
static void learn_parts(rg_planner *pl, rg_launch *launch, const rg_frozen *frozen) {
    rg_kdesc *desc = &launch->desc;
    for (int32_t i = 0; i < desc->arg_count; i++) {
        if (frozen->bind[i].kind != RG_BIND_PART) continue;
        int32_t part = pl->out->program[launch->program].fusion->home[frozen->bind[i].value].part;
        if (part == launch->group) continue;
        const rg_launch *producer = find_group(pl, launch->program, part);
        if (producer) desc->arg[i].parts_per_block = producer->desc.variant.parts_per_block;
    }
}

static void tell_parts(rg_launch *launch) {
    for (int32_t i = 0; i < launch->desc.arg_count; i++)
        if (launch->desc.arg[i].layout == RG_LAYOUT_PART && launch->desc.arg[i].written)
            launch->desc.arg[i].parts_per_block = launch->desc.variant.parts_per_block;
}

static const char *label_of(const rg_fusion *fusion, int32_t g) {
    const rg_group *group = &fusion->group[g];
    const rg_graph *graph = fusion->graph;
    rg_nid n = group->anchor >= 0 ? group->anchor : graph->value[group->item[0]].def;
    return graph->node[n].name ? graph->node[n].name : "";
}

/* ---- derived weights ---- */

/* The launch that packs `from` into the form `to`, in `program`; there is one a form. */
static rg_status add_pack(rg_planner *pl, rg_plan_program_id program, rg_kpack pack,
                          const rg_karg *from, const rg_karg *to, uint32_t master,
                          uint32_t derived) {
    for (int32_t i = 0; i < pl->out->launch_count; i++) {
        const rg_launch *old = &pl->out->launch[i];
        if (old->program == program && old->desc.kind == RG_K_PACK && old->buffer[1] == derived)
            return RG_OK;
    }
    rg_launch *launch = rg_expand_add(pl);
    if (!launch) return rg_nomem(pl->ctx);
    launch->program = program;
    launch->label = pl->out->buffer[master].name;
    launch->blocks = 1;
    launch->desc = (rg_kdesc){.kind = RG_K_PACK, .arg_count = 2, .index_arg = -1, .pack = pack};
    static const char *const names[] = {"pack_turn", "pack_wino", "pack_winoturn"};
    strcpy(launch->desc.name, names[pack]);
    launch->desc.arg = RG_NEW_ARRAY(pl->ctx->arena, rg_karg, 2);
    launch->buffer = RG_NEW_ARRAY(pl->ctx->arena, uint32_t, 2);
    if (!launch->desc.arg || !launch->buffer) return rg_nomem(pl->ctx);
    launch->desc.arg[0] = *from;
    launch->desc.arg[0].read = true;
    launch->desc.arg[0].written = false;
    launch->desc.arg[1] = *to;
    launch->desc.arg[1].read = false;
    launch->desc.arg[1].written = true;
    launch->buffer[0] = master;
    launch->buffer[1] = derived;
    return rg_expand_select(pl, launch);
}

static rg_status derived_buffer(rg_planner *pl, uint32_t master, const char *form,
                                const rg_karg *arg, uint32_t *buffer) {
    char *name = rg_arena_printf(pl->ctx->arena, "%s.%s", pl->out->buffer[master].name, form);
    if (!name) return rg_nomem(pl->ctx);
    for (int32_t i = 0; i < pl->out->buffer_count; i++)
        if (pl->out->buffer[i].arena == RG_ARENA_DERIVED &&
            strcmp(pl->out->buffer[i].name, name) == 0) {
            *buffer = (uint32_t)i;
            return RG_OK;
        }
    rg_pbuffer made = {.name = name, .arena = RG_ARENA_DERIVED, .layout = RG_PL_RAW, .program = -1};
    made.type = arg->type;
    made.elements = rg_karg_elements(arg, 1);
    *buffer = rg_buffers_add(pl, &made);
    return *buffer == UINT32_MAX ? rg_nomem(pl->ctx) : RG_OK;
}

/* In another format than f32 weights are read from the copy of all parameters, and turned ones by
 * other indices. */
static rg_status bind_copy(rg_planner *pl, rg_launch *launch, int32_t w) {
    if (strcmp(launch->candidate[0].weights, "master") != 0)
        return rg_fail(pl->ctx, RG_E_INTERNAL, "kernel '%s': variant %s wants weights of form %s",
                       launch->desc.name, launch->desc.variant.name, launch->candidate[0].weights);
    int32_t row = 0;
    while (pl->param_buffer[row] != launch->buffer[w]) row++;
    launch->buffer[w] = pl->copy_buffer[row];
    return RG_OK;
}

/* A dgrad reads its fprop's weights as they are: its own k and c stand in each other's place. */
static void read_turned(rg_karg *arg, const rg_pbuffer *master) {
    arg->turned = true;
    arg->kp = (int32_t)master->cp;
    arg->kb = (int32_t)master->kb;
}

/* Points a convolution's weight argument at the form that its variant wants, and has that form
 * made. */
static rg_status bind_weights(rg_planner *pl, int32_t index, int32_t w) {
    rg_launch *launch = &pl->out->launch[index];
    const rg_candidate *pick = &launch->candidate[0];
    uint32_t master = launch->buffer[w];
    const rg_pbuffer *mb = &pl->out->buffer[master];
    rg_karg from = {.layout = RG_LAYOUT_WEIGHT,
                    .k = (int32_t)mb->dim[0],
                    .r = (int32_t)mb->dim[1],
                    .s = (int32_t)mb->dim[2],
                    .c = (int32_t)mb->dim[3],
                    .kp = (int32_t)mb->cp,
                    .kb = (int32_t)mb->kb};
    rg_karg *arg = &launch->desc.arg[w];
    rg_kpack pack;
    if (pl->copy != UINT32_MAX) return bind_copy(pl, launch, w);
    if (strcmp(pick->weights, "master") == 0) {
        if (launch->dgrad) read_turned(arg, mb);
        return RG_OK;
    }
    if (strcmp(pick->weights, "turn") == 0)
        pack = RG_KPACK_TURN;
    else
        pack = strcmp(pick->weights, "wino") == 0 ? RG_KPACK_WINO : RG_KPACK_WINO_TURN;
    if (pack != RG_KPACK_TURN) {
        arg->layout = RG_LAYOUT_WINO;
        arg->h = pick->wino_m;
    }
    char form[32];
    strcpy(form, pick->weights);
    if (pack != RG_KPACK_TURN) {
        char digits[8] = {(char)('0' + pick->wino_m % 10), 0};
        strcat(form, digits);
    }
    RG_TRY(derived_buffer(pl, master, form, arg, &launch->buffer[w]));
    rg_plan_program_id program = launch->program;
    rg_karg to = *arg;
    uint32_t derived = launch->buffer[w];
    RG_TRY(add_pack(pl, RG_PP_DERIVE, pack, &from, &to, master, derived));
    return program == RG_PP_GRAD ? add_pack(pl, RG_PP_UPDATE, pack, &from, &to, master, derived)
                                 : RG_OK;
}

/* ---- finishing stage of a split weight gradient ---- */

rg_status rg_expand_site(rg_planner *pl, rg_kdesc *desc, int64_t length) {
    if (length > INT32_MAX)
        return rg_fail(pl->ctx, RG_E_LIMIT, "%lld elements in one buffer: too many",
                       (long long)length);
    desc->site = RG_NEW_ARRAY(pl->ctx->arena, rg_ksite, 1);
    if (!desc->site) return rg_nomem(pl->ctx);
    desc->site_count = 1;
    desc->site[0] = (rg_ksite){.h = 1, .w = 1, .c = (int32_t)length, .root = -1};
    rg_expr_init(&desc->site[0].expr, pl->ctx->arena);
    return RG_OK;
}

static rg_status add_finish(rg_planner *pl, int32_t producer, const rg_karg *part,
                            uint32_t part_buffer, uint32_t dw) {
    rg_launch *launch = rg_expand_add(pl);
    if (!launch) return rg_nomem(pl->ctx);
    const rg_launch *from = &pl->out->launch[producer];
    launch->program = from->program;
    launch->blocks = from->blocks;
    launch->label = from->label;
    launch->desc = (rg_kdesc){.kind = RG_K_VEC, .arg_count = 2, .index_arg = -1, .fin_count = 1};
    strcpy(launch->desc.name, "wgrad_finish");
    launch->desc.arg = RG_NEW_ARRAY(pl->ctx->arena, rg_karg, 2);
    launch->desc.fin = RG_NEW_ARRAY(pl->ctx->arena, rg_kfin, 1);
    launch->buffer = RG_NEW_ARRAY(pl->ctx->arena, uint32_t, 2);
    launch->need = RG_NEW_ARRAY(pl->ctx->arena, int32_t, 1);
    if (!launch->desc.arg || !launch->desc.fin || !launch->buffer || !launch->need)
        return rg_nomem(pl->ctx);
    launch->desc.arg[0] = *part;
    launch->desc.arg[0].written = false;
    launch->desc.arg[0].read = true;
    launch->desc.arg[1] =
        (rg_karg){.layout = RG_LAYOUT_FLAT, .written = true, .length = part->length};
    launch->desc.fin[0] = (rg_kfin){RG_KFIN_SUM, 0};
    launch->buffer[0] = part_buffer;
    launch->buffer[1] = dw;
    launch->need[0] = producer;
    launch->need_count = 1;
    RG_TRY(rg_expand_site(pl, &launch->desc, part->length));
    rg_ksite *site = launch->desc.site;
    site->out = RG_NEW_ARRAY(pl->ctx->arena, rg_kout, 1);
    if (!site->out) return rg_nomem(pl->ctx);
    site->out_count = 1;
    site->out[0] = (rg_kout){RG_KOUT_STORE, rg_expr_leaf(&site->expr, RG_EXPR_FIN, 0), 1, 0, -1};
    return rg_expand_select(pl, launch);
}

static rg_status split_wgrad(rg_planner *pl, int32_t index) {
    rg_launch *launch = &pl->out->launch[index];
    if (launch->desc.kind != RG_K_WGRAD || launch->desc.variant.complete) return RG_OK;
    int32_t w = launch->desc.contr[0].w_arg;
    rg_karg *arg = &launch->desc.arg[w];
    uint32_t dw = launch->buffer[w];
    arg->length = rg_karg_elements(arg, 1);
    arg->layout = RG_LAYOUT_PARTW;
    arg->parts_per_block = launch->desc.variant.parts_per_block;
    rg_karg part = *arg;
    rg_pbuffer made = {
        .name = pl->out->buffer[dw].name, .arena = RG_ARENA_WORK, .layout = RG_PL_RAW};
    made.program = (int32_t)launch->program;
    made.elements = rg_karg_elements(arg, launch->blocks);
    uint32_t buffer = rg_buffers_add(pl, &made);
    if (buffer == UINT32_MAX) return rg_nomem(pl->ctx);
    launch->buffer[w] = buffer;
    return add_finish(pl, index, &part, buffer, dw);
}

/* ---- groups ---- */

/* A group of the eval programs whose operands are parameters and states alone is made once, after a
 * load: its values are derived. */
static bool is_derived(const rg_planner *pl, rg_plan_program_id p, int32_t g) {
    const rg_fusion *fusion = pl->out->program[p].fusion;
    if (p == RG_PP_GRAD || fusion->group[g].kind != RG_K_VEC) return false;
    for (int32_t i = 0; i < fusion->group[g].count; i++) {
        rg_vid v = fusion->group[g].item[i];
        if (fusion->home[v].part >= 0 || fusion->is_result[v]) return false;
        const rg_node *node = &fusion->graph->node[fusion->graph->value[v].def];
        for (int32_t k = 0; k < node->in_count; k++) {
            rg_value_kind kind = fusion->graph->value[node->in[k]].kind;
            bool own = fusion->home[node->in[k]].group == g;
            if (kind != RG_V_PARAM && kind != RG_V_STATE && !own) return false;
        }
        for (int32_t k = 0; k < node->attr.expr.count; k++)
            if (node->attr.expr.node[k].op == RG_EXPR_CTRL) return false;
    }
    return true;
}

static rg_status bind_all(rg_planner *pl, rg_launch *launch, rg_plan_program_id values,
                          const rg_frozen *frozen) {
    launch->buffer = RG_NEW_ARRAY(pl->ctx->arena, uint32_t, frozen->desc.arg_count + 1);
    if (!launch->buffer) return rg_nomem(pl->ctx);
    for (int32_t i = 0; i < frozen->desc.arg_count; i++) {
        RG_TRY(rg_buffers_bind(pl, values, &frozen->bind[i], &launch->desc.arg[i],
                               &launch->buffer[i]));
        rg_pbuffer *buffer = &pl->out->buffer[launch->buffer[i]];
        if (launch->program == RG_PP_DERIVE && buffer->arena == RG_ARENA_WORK) {
            buffer->arena = RG_ARENA_DERIVED;
            buffer->program = -1;
        }
    }
    return RG_OK;
}

static rg_status expand_group(rg_planner *pl, rg_plan_program_id p, int32_t g,
                              const rg_mates *mates) {
    const rg_fusion *fusion = pl->out->program[p].fusion;
    rg_frozen frozen;
    RG_TRY(rg_freeze(pl->ctx, fusion, g, pl->target->vector, &frozen));
    rg_launch *launch = rg_expand_add(pl);
    if (!launch) return rg_nomem(pl->ctx);
    int32_t index = pl->out->launch_count - 1;
    bool derived = is_derived(pl, p, g);
    launch->program = derived ? RG_PP_DERIVE : p;
    launch->group = derived ? -1 : g;
    launch->label = label_of(fusion, g);
    launch->desc = frozen.desc;
    launch->dgrad = frozen.dgrad;
    launch->blocks = blocks_of(pl->out->program[p].batch);
    launch->mates = *mates;
    if (!derived) learn_parts(pl, launch, &frozen);
    RG_TRY(rg_mates_select(pl, index));
    tell_parts(launch);
    RG_TRY(bind_all(pl, launch, p, &frozen));
    int32_t contractions = launch->desc.kind == RG_K_CONV ? launch->desc.contr_count : 0;
    for (int32_t i = 0; i < contractions; i++) /* each may append launches and move them all */
        RG_TRY(bind_weights(pl, index, pl->out->launch[index].desc.contr[i].w_arg));
    return split_wgrad(pl, index);
}

/* Groups in an order in which each finds what it needs placed already: producers of partial sums
 * before those that gather them. */
static rg_status expand_program(rg_planner *pl, rg_plan_program_id p) {
    const rg_fusion *fusion = pl->out->program[p].fusion;
    rg_mates *mates;
    RG_TRY(rg_mates_find(pl, p, &mates));
    for (int vec = 0; vec < 2; vec++)
        for (int32_t g = 0; g < fusion->group_count; g++)
            if ((fusion->group[g].kind == RG_K_VEC) == (vec == 1))
                RG_TRY(expand_group(pl, p, g, &mates[g]));
    return RG_OK;
}

rg_status rg_expand(rg_planner *pl) {
    static const rg_plan_program_id programs[] = {RG_PP_GRAD, RG_PP_EVAL, RG_PP_PREDICT};
    RG_TRY(rg_update_expand(pl));
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
        if (pl->out->program[programs[i]].graph) RG_TRY(expand_program(pl, programs[i]));
    RG_TRY(rg_input_expand(pl));
    for (int32_t i = 0; i < pl->out->launch_count; i++) {
        rg_launch *launch = &pl->out->launch[i];
        RG_TRY(rg_kdesc_check(pl->ctx, &launch->desc));
        RG_TRY(rg_emit_name(pl->ctx, pl->tpl, &launch->desc, &launch->name));
    }
    return RG_OK;
}
