/* A batch of a data set's bytes. */
#include "rg_case_build.h"
#include "rg_resize.h"

static int32_t build_words(build *b, int32_t c) {
    int32_t arg = build_act(b, 1, 1, c, READ);
    if (!b->failed) b->desc->arg[arg].type = RG_KTYPE_U32;
    if (!b->failed) b->desc->arg[arg].cp = c;
    return arg;
}

/* Images of h x w pixels made larger or smaller. */
bool rg_case_input(rg_arena *arena, int32_t vector, int32_t h, int32_t w, int32_t to_h,
                   int32_t to_w, rg_case *to) {
    const uint32_t from[2] = {(uint32_t)h, (uint32_t)w}, into[2] = {(uint32_t)to_h, (uint32_t)to_w};
    *to = (rg_case){.label = "input", .live = 21};
    build b = build_new(arena, vector, &to->desc, RG_K_INPUT, "input");
    build_act(&b, to_h, to_w, 3, WRITE);
    build_act(&b, 1, 1, 1, WRITE);
    build_words(&b, (3 * h * w + 3) / 4);
    build_words(&b, 1);
    build_words(&b, 1);
    int32_t weights = build_flat(
        &b, (int64_t)rg_resize_words(from[0], into[0]) + rg_resize_words(from[1], into[1]), READ);
    if (!b.failed) b.desc->arg[weights].type = RG_KTYPE_U32;
    b.desc->input = (rg_kinput){.h = h,
                                .w = w,
                                .taps_h = (int32_t)rg_resize_taps(from[0], into[0]),
                                .taps_w = (int32_t)rg_resize_taps(from[1], into[1]),
                                .mean = {0.5f, 0.25f, 0.125f},
                                .std = {0.5f, 0.75f, 1}};
    return !b.failed;
}
