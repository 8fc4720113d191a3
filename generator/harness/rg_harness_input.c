/* What an INPUT kernel reads: a data set of as many images as the batch has. */
#include "rg_core.h"
#include "rg_harness_data.h"
#include "rg_resize.h"

static uint32_t drawn(uint64_t seed, int32_t arg, int64_t index) {
    return rg_random_u32(seed, RG_STREAM_TEST, (uint32_t)arg, (uint64_t)index);
}

static rg_status fill_weights(rg_ctx *ctx, const rg_kdesc *desc, rg_hdata *data) {
    const rg_karg *image = &desc->arg[RG_KINPUT_IMAGE];
    rg_resize *resize;
    RG_TRY(rg_resize_new(ctx, (uint32_t)desc->input.h, (uint32_t)desc->input.w, (uint32_t)image->h,
                         (uint32_t)image->w, &resize));
    rg_resize_table(resize, (uint32_t *)(void *)data->buffer[RG_KINPUT_WEIGHTS].data);
    return RG_OK;
}

rg_status rg_hdata_fill_input(rg_ctx *ctx, const rg_kdesc *desc, int32_t arg, uint64_t seed,
                              rg_hdata *data) {
    uint32_t *word = (uint32_t *)(void *)data->buffer[arg].data;
    uint32_t images = (uint32_t)data->ctrl.blocks * RG_BLOCK;
    if (arg == RG_KINPUT_WEIGHTS) return fill_weights(ctx, desc, data);
    for (int64_t i = 0; i < data->buffer[arg].elements; i++) {
        word[i] = drawn(seed, arg, i);
        if (arg == RG_KINPUT_LABELS) word[i] %= 256;
        if (arg == RG_KINPUT_ORDER) word[i] %= images;
    }
    return RG_OK;
}
