/* The program `input`: one kernel that makes a batch of a data set's bytes. Target cuda; on the
 * processor the runtime does that. */
#include <string.h>

#include "rg_planner.h"

static rg_karg one_pixel(int32_t words) {
    return (rg_karg){.layout = RG_LAYOUT_ACT,
                     .type = RG_KTYPE_U32,
                     .read = true,
                     .h = 1,
                     .w = 1,
                     .c = words,
                     .cp = words};
}

static rg_karg batch_arg(const rg_pbuffer *buffer) {
    return (rg_karg){.layout = RG_LAYOUT_ACT,
                     .written = true,
                     .h = (int32_t)buffer->dim[0],
                     .w = (int32_t)buffer->dim[1],
                     .c = (int32_t)buffer->dim[2],
                     .cp = (int32_t)buffer->dim[3]};
}

static void describe(const rg_planner *pl, rg_kdesc *desc) {
    const rg_plan_data *data = &pl->out->plan.data;
    uint32_t bytes = data->channels * data->set_height * data->set_width;
    *desc = (rg_kdesc){.kind = RG_K_INPUT,
                       .name = "input",
                       .arg_count = RG_KINPUT_ARGS,
                       .arg = desc->arg,
                       .index_arg = -1};
    desc->input = (rg_kinput){
        .h = (int32_t)data->set_height,
        .w = (int32_t)data->set_width,
        .taps_h = (int32_t)rg_resize_taps(data->set_height, data->height),
        .taps_w = (int32_t)rg_resize_taps(data->set_width, data->width),
    };
    memcpy(desc->input.mean, data->mean, sizeof desc->input.mean);
    memcpy(desc->input.std, data->std, sizeof desc->input.std);
    desc->arg[RG_KINPUT_IMAGE] = batch_arg(&pl->out->buffer[pl->io.image]);
    desc->arg[RG_KINPUT_LABEL] = batch_arg(&pl->out->buffer[pl->io.label]);
    desc->arg[RG_KINPUT_PIXELS] = one_pixel((int32_t)((bytes + 3) / 4));
    desc->arg[RG_KINPUT_LABELS] = desc->arg[RG_KINPUT_ORDER] = one_pixel(1);
    desc->arg[RG_KINPUT_WEIGHTS] =
        (rg_karg){.layout = RG_LAYOUT_FLAT,
                  .type = RG_KTYPE_U32,
                  .read = true,
                  .length = (int64_t)rg_resize_words(data->set_height, data->height) +
                            rg_resize_words(data->set_width, data->width)};
}

static rg_status bind(rg_planner *pl, rg_launch *launch) {
    static const char *const names[] = {"pixels", "labels", "order", "weights"};
    uint32_t *const slot[] = {&pl->set.pixels, &pl->set.labels, &pl->set.order, &pl->set.weights};
    launch->buffer[RG_KINPUT_IMAGE] = pl->io.image;
    launch->buffer[RG_KINPUT_LABEL] = pl->io.label;
    for (int i = 0; i < 4; i++) {
        const rg_karg *arg = &launch->desc.arg[RG_KINPUT_PIXELS + i];
        rg_pbuffer made = {.name = names[i],
                           .arena = RG_ARENA_DATA,
                           .layout = RG_PL_RAW,
                           .type = arg->type,
                           .elements = rg_karg_elements(arg, launch->blocks),
                           .program = -1};
        *slot[i] = launch->buffer[RG_KINPUT_PIXELS + i] = rg_buffers_add(pl, &made);
        if (*slot[i] == UINT32_MAX) return rg_nomem(pl->ctx);
    }
    return RG_OK;
}

/* An image in 16 bits, or of more channels than a data set has, is the host's to make. */
static bool wanted(const rg_planner *pl) {
    const rg_plan_data *data = &pl->out->plan.data;
    bool cuda = strcmp(pl->target->name, "cuda") == 0;
    if (!cuda || data->set_height == 0 || pl->io.image == UINT32_MAX || pl->io.label == UINT32_MAX)
        return false;
    const rg_pbuffer *image = &pl->out->buffer[pl->io.image];
    return image->type == RG_KTYPE_F32 && image->dim[2] == data->channels && image->dim[2] <= 4;
}

rg_status rg_input_expand(rg_planner *pl) {
    if (!wanted(pl)) return RG_OK;
    rg_launch *launch = rg_expand_add(pl);
    if (!launch) return rg_nomem(pl->ctx);
    launch->program = RG_PP_INPUT;
    launch->label = "data";
    launch->blocks = 1;
    for (int p = 0; p < RG_PP_COUNT; p++) {
        int32_t blocks = (pl->out->program[p].batch + RG_BLOCK - 1) / RG_BLOCK;
        if (blocks > launch->blocks) launch->blocks = blocks;
    }
    launch->desc.arg = RG_NEW_ARRAY(pl->ctx->arena, rg_karg, RG_KINPUT_ARGS);
    launch->buffer = RG_NEW_ARRAY(pl->ctx->arena, uint32_t, RG_KINPUT_ARGS);
    if (!launch->desc.arg || !launch->buffer) return rg_nomem(pl->ctx);
    describe(pl, &launch->desc);
    RG_TRY(bind(pl, launch));
    return rg_expand_select(pl, launch);
}
