/* Kernel texts that are given the prelude that templates get; bits of floats. */
#ifndef EMULATE_PRELUDE_H
#define EMULATE_PRELUDE_H

#include "emulate_helpers.h"

#include "rg_cuda.h"
#include "rg_tpl.h"

/* Owner: caller (free). */
static char *with_prelude(int arch, const char *text) {
    const rg_target target = {
        .name = "cuda", .isa = "cuda", .vector = 16, .arch = arch, .max_blocks = 4};
    rg_ctx ctx;
    rg_tpl *tpl;
    rg_text body = {0}, whole = {0};
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    if (rg_tpl_open(&ctx, &target, &tpl) != RG_OK) fail_msg("%s", ctx.last->text);
    rg_text_add(&body, "%s%s", arch < 80 ? "#define TURING\n" : "", text);
    assert_false(body.failed);
    if (rg_tpl_text(&ctx, tpl, body.data, &whole) != RG_OK) fail_msg("%s", ctx.last->text);
    rg_text_free(&body);
    rg_tpl_close(tpl);
    rg_ctx_free(&ctx);
    return whole.data;
}

/* On a device of this architecture, opened anew. */
static rg_cu_module build_for(int arch, const char *text) {
    options.arch = arch;
    reopen(1);
    char *whole = with_prelude(arch, text), *cubin = compile_for(arch, whole, NULL);
    if (!cubin) fail_msg("%s", message);
    rg_cu_module module = load(cubin);
    free(cubin);
    free(whole);
    return module;
}

static uint32_t bits_of(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static float value_of(uint32_t bits) {
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static uint32_t lot = 12345;

static uint32_t draw(void) {
    lot = lot * 1664525u + 1013904223u;
    return lot >> 8 | lot << 24;
}

/* NVRTC takes the texts for architectures of each kind, and spills nothing. Skips where there is no
 * NVRTC. */
static inline void expect_compiled(const char *const *text, int texts) {
    static const int targets[] = {75, 80, 90, 120};
    rg_ctx ctx;
    rg_cuda_api real;
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    if (rg_cuda_open(&ctx, NULL, RG_CUDA_NVRTC, &real) != RG_OK) {
        print_message("NVRTC is missing: %s\n", ctx.last->text);
        rg_ctx_free(&ctx);
        skip();
    }
    for (int i = 0; i < 4 * texts; i++) {
        char *whole = with_prelude(targets[i % 4], text[i / 4]);
        const rg_cuda_source source = {"k", whole};
        /* nothing is kept */
        const rg_cuda_build_options build = {
            .arch = targets[i % 4], .cache_dir = "/dev/null/none", .jobs = 1};
        rg_cuda_object object;
        rg_cuda_stats stats;
        if (rg_cuda_build(&ctx, &real, &source, 1, &build, &object, &stats) != RG_OK)
            fail_msg("sm_%d: %s", targets[i % 4], ctx.last->text);
        assert_true(object.report.known && object.report.registers > 4);
        assert_int_equal(object.report.stack_bytes, 0);
        free(whole);
    }
    rg_cuda_close(&real);
    rg_ctx_free(&ctx);
}

#endif
