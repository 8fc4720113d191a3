/* Which buffer stands for a value. */
#include <string.h>

#include "rg_planner.h"

static uint32_t round_up(uint32_t n, uint32_t to) {
    return (n + to - 1) / to * to;
}

uint32_t rg_buffers_add(rg_planner *pl, const rg_pbuffer *buffer) {
    rg_planned *out = pl->out;
    if (out->buffer_count == out->buffer_capacity) {
        int32_t capacity = out->buffer_capacity ? out->buffer_capacity * 2 : 256;
        rg_pbuffer *list = RG_NEW_ARRAY(pl->ctx->arena, rg_pbuffer, capacity);
        if (!list) return UINT32_MAX;
        if (out->buffer_count) memcpy(list, out->buffer, (size_t)out->buffer_count * sizeof *list);
        out->buffer = list;
        out->buffer_capacity = capacity;
    }
    out->buffer[out->buffer_count] = *buffer;
    return (uint32_t)out->buffer_count++;
}

/* The physical form of a parameter or of its gradient. */
static rg_pbuffer param_form(const rg_param *param, rg_plan_arena arena, uint32_t vector) {
    rg_pbuffer buffer = {.name = param->name, .arena = arena, .program = -1};
    if (param->type.cls == RG_T_WEIGHT) {
        for (int i = 0; i < 4; i++) buffer.dim[i] = (uint32_t)param->type.dim[i];
        buffer.layout = RG_PL_WEIGHT;
        buffer.cp = round_up(buffer.dim[0], vector);
        buffer.kb = buffer.cp % (2 * vector) == 0 ? 2 * vector : vector;
        buffer.elements = (int64_t)buffer.cp * buffer.dim[1] * buffer.dim[2] * buffer.dim[3];
    } else {
        buffer.layout = RG_PL_VEC;
        buffer.dim[0] = (uint32_t)param->type.dim[3];
        buffer.dim[1] = buffer.cp = buffer.dim[0] == 1 ? 1 : round_up(buffer.dim[0], vector);
        buffer.elements = buffer.cp;
    }
    return buffer;
}

/* The copy of all parameters, and each parameter's part of it: at the beginning of its arena. */
static rg_status make_copies(rg_planner *pl) {
    rg_kformat format = pl->target->precision;
    pl->copy = UINT32_MAX;
    if (format == RG_KFORMAT_F32) return RG_OK;
    pl->copy_buffer = RG_NEW_ARRAY(pl->ctx->arena, uint32_t, pl->table->param_count + 1);
    if (!pl->copy_buffer) return rg_nomem(pl->ctx);
    for (int32_t i = -1; i < pl->table->param_count; i++) {
        rg_pbuffer copy = pl->out->buffer[i < 0 ? pl->flat[0] : pl->param_buffer[i]];
        if (copy.arena != RG_ARENA_PARAM) continue;
        copy.name = rg_arena_printf(pl->ctx->arena, "%s.%s", copy.name, rg_kformat_name(format));
        copy.arena = RG_ARENA_DERIVED;
        copy.layout = RG_PL_RAW;
        copy.type = rg_kformat_type(format);
        copy.offset = copy.offset / 4 * (uint64_t)rg_ktype_bytes(copy.type);
        copy.placed = true;
        uint32_t *at = i < 0 ? &pl->copy : &pl->copy_buffer[i];
        *at = copy.name ? rg_buffers_add(pl, &copy) : UINT32_MAX;
        if (*at == UINT32_MAX) return rg_nomem(pl->ctx);
    }
    return RG_OK;
}

/* The state of f16's loss scaling lies behind the statistics: a line each. */
static rg_status make_loss_scale(rg_planner *pl, uint64_t offset) {
    uint32_t *const at[3] = {&pl->loss_scale.scale, &pl->loss_scale.steps, &pl->loss_scale.factor};
    static const char *const names[3] = {"loss scale", "loss scale: steps", "loss scale: factor"};
    for (int i = 0; i < 3; i++) {
        *at[i] = UINT32_MAX;
        if (pl->target->precision != RG_KFORMAT_F16 || !pl->out->program[RG_PP_GRAD].graph)
            continue;
        rg_pbuffer one = {.name = names[i], .arena = RG_ARENA_STATE, .layout = RG_PL_VEC};
        one.program = -1;
        one.dim[0] = one.dim[1] = one.cp = 1;
        one.elements = 1;
        one.offset = offset + (uint64_t)i * 64;
        *at[i] = rg_buffers_add(pl, &one);
        if (*at[i] == UINT32_MAX) return rg_nomem(pl->ctx);
    }
    return RG_OK;
}

/* From one parameter to the next: whole lines in the arena, and in its copy in 16 bits too. */
static uint64_t padded_bytes(const rg_planner *pl, const rg_pbuffer *buffer) {
    int64_t line = 64 * (4 / rg_ktype_bytes(rg_kformat_type(pl->target->precision)));
    return (uint64_t)((buffer->elements * 4 + line - 1) / line * line);
}

static rg_status make_params(rg_planner *pl) {
    const rg_graph *table = pl->table;
    size_t rows = (size_t)table->param_count + 1;
    pl->param_buffer = RG_NEW_ARRAY(pl->ctx->arena, uint32_t, rows);
    pl->grad_buffer = RG_NEW_ARRAY(pl->ctx->arena, uint32_t, rows);
    if (!pl->param_buffer || !pl->grad_buffer) return rg_nomem(pl->ctx);
    uint64_t offset[2] = {0, 0}; /* PARAM (and GRAD), STATE */
    for (int32_t i = 0; i < table->param_count; i++) {
        bool trained = table->param[i].trained;
        rg_plan_arena arena = trained ? RG_ARENA_PARAM : RG_ARENA_STATE;
        rg_pbuffer buffer = param_form(&table->param[i], arena, (uint32_t)pl->target->vector);
        buffer.offset = offset[!trained];
        offset[!trained] += padded_bytes(pl, &buffer);
        pl->param_buffer[i] = rg_buffers_add(pl, &buffer);
        buffer.arena = RG_ARENA_GRAD;
        pl->grad_buffer[i] = trained ? rg_buffers_add(pl, &buffer) : UINT32_MAX;
        if (pl->param_buffer[i] == UINT32_MAX) return rg_nomem(pl->ctx);
    }
    static const rg_plan_arena arenas[4] = {RG_ARENA_PARAM, RG_ARENA_GRAD, RG_ARENA_MOMENT1,
                                            RG_ARENA_MOMENT2};
    static const char *const names[4] = {"all parameters", "all gradients", "moment 1", "moment 2"};
    for (int i = 0; i < 4; i++) {
        rg_pbuffer all = {.name = names[i], .arena = arenas[i], .layout = RG_PL_RAW, .program = -1};
        all.elements = (int64_t)(offset[0] / 4);
        pl->flat[i] = rg_buffers_add(pl, &all);
        if (pl->flat[i] == UINT32_MAX) return rg_nomem(pl->ctx);
    }
    RG_TRY(make_copies(pl));
    return make_loss_scale(pl, offset[1]);
}

static int32_t blocks_of(int32_t batch) {
    return (batch + RG_BLOCK - 1) / RG_BLOCK;
}

/* Image, label and logits: large enough for every program. */
static uint32_t io_buffer(rg_planner *pl, const char *name, uint32_t h, uint32_t w, uint32_t c,
                          uint32_t cp) {
    int32_t blocks = 1;
    for (int p = 0; p < RG_PP_COUNT; p++)
        if (blocks_of(pl->out->program[p].batch) > blocks)
            blocks = blocks_of(pl->out->program[p].batch);
    rg_pbuffer buffer = {.name = name, .arena = RG_ARENA_IO, .layout = RG_PL_ACT, .program = -1};
    buffer.dim[0] = h;
    buffer.dim[1] = w;
    buffer.dim[2] = c;
    buffer.dim[3] = buffer.cp = cp;
    buffer.elements = (int64_t)blocks * RG_BLOCK * h * w * cp;
    return rg_buffers_add(pl, &buffer);
}

static uint32_t io_scalar(rg_planner *pl, const char *name) {
    rg_pbuffer buffer = {.name = name, .arena = RG_ARENA_IO, .layout = RG_PL_VEC, .program = -1};
    buffer.dim[0] = buffer.dim[1] = buffer.cp = 1;
    buffer.elements = 1;
    return rg_buffers_add(pl, &buffer);
}

/* Leaves that every program shares. An image that some program reads beside its convolutions is
 * padded to vectors in all of them. */
static rg_status make_leaves(rg_planner *pl, rg_plan_program_id p) {
    const rg_graph *graph = pl->out->program[p].graph;
    const rg_fusion *fusion = pl->out->program[p].fusion;
    for (rg_vid v = 0; v < graph->value_count; v++) {
        const rg_value *value = &graph->value[v];
        uint32_t *slot = &pl->out->program[p].buffer[v];
        if (value->kind == RG_V_PARAM || value->kind == RG_V_STATE)
            *slot = pl->param_buffer[value->param];
        if (value->kind != RG_V_INPUT) continue;
        if (strcmp(value->name, RG_LOSS_SCALE) == 0) {
            *slot = pl->loss_scale.scale;
            continue;
        }
        bool label = strcmp(value->name, "label") == 0;
        uint32_t *shared = label ? &pl->io.label : &pl->io.image;
        uint32_t cp = (uint32_t)rg_fuse_padded(fusion, v, pl->target->vector);
        if (*shared == UINT32_MAX) {
            const int32_t *dim = value->type.dim;
            *shared = io_buffer(pl, value->name, (uint32_t)dim[1], (uint32_t)dim[2],
                                (uint32_t)dim[3], cp);
        }
        if (*shared == UINT32_MAX) return rg_nomem(pl->ctx);
        if (pl->out->buffer[*shared].cp != cp)
            return rg_fail(pl->ctx, RG_E_INTERNAL, "the programs want the %s in different layouts",
                           value->name);
        *slot = *shared;
    }
    return RG_OK;
}

static rg_status make_results(rg_planner *pl, rg_plan_program_id p) {
    const rg_graph *graph = pl->out->program[p].graph;
    for (int32_t i = 0; i < graph->result_count; i++) {
        const rg_result *result = &graph->result[i];
        const int32_t *dim = graph->value[result->value].type.dim;
        uint32_t *slot = &pl->out->program[p].buffer[result->value];
        switch (result->kind) {
        case RG_O_LOSS:
            *slot = pl->io.loss;
            break;
        case RG_O_CORRECT:
            *slot = pl->io.correct;
            break;
        case RG_O_LOGITS:
            if (pl->io.logits == UINT32_MAX) {
                int32_t cp =
                    rg_fuse_padded(pl->out->program[p].fusion, result->value, pl->target->vector);
                pl->io.logits = io_buffer(pl, "logits", 1, 1, (uint32_t)dim[3], (uint32_t)cp);
            }
            *slot = pl->io.logits;
            break;
        case RG_O_GRAD:
            *slot = pl->grad_buffer[result->param];
            break;
        case RG_O_STATE:
            *slot = pl->param_buffer[result->param];
            break;
        }
        if (*slot == UINT32_MAX) return rg_nomem(pl->ctx);
    }
    return RG_OK;
}

rg_status rg_buffers_init(rg_planner *pl) {
    for (int p = 0; p < RG_PP_COUNT && !pl->table; p++) pl->table = pl->out->program[p].graph;
    RG_TRY(make_params(pl));
    pl->io = (rg_plan_io){UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};
    pl->io.loss = io_scalar(pl, "loss");
    pl->io.correct = io_scalar(pl, "correct");
    if (pl->io.loss == UINT32_MAX || pl->io.correct == UINT32_MAX) return rg_nomem(pl->ctx);
    for (int p = 0; p < RG_PP_COUNT; p++) {
        const rg_graph *graph = pl->out->program[p].graph;
        if (!graph) continue;
        size_t bytes = (size_t)(graph->value_count + 1) * sizeof(uint32_t);
        pl->out->program[p].buffer = rg_arena_alloc(pl->ctx->arena, bytes, 1);
        pl->part_buffer[p] = rg_arena_alloc(pl->ctx->arena, bytes, 1);
        if (!pl->out->program[p].buffer || !pl->part_buffer[p]) return rg_nomem(pl->ctx);
        memset(pl->out->program[p].buffer, 0xff, bytes);
        memset(pl->part_buffer[p], 0xff, bytes);
        RG_TRY(make_leaves(pl, (rg_plan_program_id)p));
        RG_TRY(make_results(pl, (rg_plan_program_id)p));
    }
    return RG_OK;
}

rg_status rg_buffers_bind(rg_planner *pl, rg_plan_program_id p, const rg_bind *bind,
                          const rg_karg *arg, uint32_t *buffer) {
    bool part = bind->kind == RG_BIND_PART;
    uint32_t *slot =
        part ? &pl->part_buffer[p][bind->value] : &pl->out->program[p].buffer[bind->value];
    if (*slot == UINT32_MAX) {
        const char *name = pl->out->program[p].graph->value[bind->value].name;
        rg_pbuffer made = {.name = name ? name : "", .arena = RG_ARENA_WORK, .program = (int32_t)p};
        made.layout = arg->layout == RG_LAYOUT_ACT   ? RG_PL_ACT
                      : arg->layout == RG_LAYOUT_VEC ? RG_PL_VEC
                                                     : RG_PL_RAW;
        made.type = arg->type;
        if (arg->type != RG_KTYPE_F32) made.layout = RG_PL_RAW; /* of floats alone does it know */
        if (made.layout == RG_PL_ACT) {
            made.dim[0] = (uint32_t)arg->h;
            made.dim[1] = (uint32_t)arg->w;
            made.dim[2] = (uint32_t)arg->c;
            made.dim[3] = made.cp = (uint32_t)arg->cp;
        } else if (made.layout == RG_PL_VEC) {
            made.dim[0] = (uint32_t)arg->c;
            made.dim[1] = made.cp = (uint32_t)arg->cp;
        }
        made.elements = rg_karg_elements(arg, blocks_of(pl->out->program[p].batch));
        *slot = rg_buffers_add(pl, &made);
        if (*slot == UINT32_MAX) return rg_nomem(pl->ctx);
    }
    *buffer = *slot;
    return RG_OK;
}
