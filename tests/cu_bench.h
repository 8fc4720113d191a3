/* A bench for emitted cuda kernels: templates, the emulator as a device, and a list of subjects. */
#ifndef CU_BENCH_H
#define CU_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "rg_cases.h"
#include "rg_emulate.h"
#include "rg_harness_cuda.h"

enum { ARCH = 90, VECTOR = 16, KERNELS = 1024 };

/* A kernel, emitted. */
typedef struct subject {
    const char *label;
    rg_kdesc desc;
    int32_t live;
    rg_emitted text;
} subject;

typedef struct bench {
    rg_ctx ctx;
    int arch;
    rg_kformat format;
    rg_tpl *tpl;
    const rg_cuda_api *api;
    rg_harness_cuda cuda;
    int32_t count;
    subject *subject;
    rg_cuda_object *object; /* once they are built */
} bench;

static inline void fail_with(const rg_ctx *ctx, const char *what) {
    char *line = ctx->last ? rg_diag_format(ctx->arena, ctx->last) : NULL;
    fail_msg("%s: %s", what, line ? line : "no diagnostic");
}

static inline void bench_open(bench *b, int arch, int32_t max_blocks, rg_kformat format) {
    const rg_target target = {.name = "cuda",
                              .isa = "cuda",
                              .vector = VECTOR,
                              .arch = arch,
                              .precision = format,
                              .max_blocks = max_blocks};
    const rg_emulate_options options = {.arch = arch, .seed = 1};
    *b = (bench){.arch = arch, .format = format, .api = rg_emulate_api(&options)};
    assert_int_equal(rg_ctx_init(&b->ctx), RG_OK);
    if (rg_tpl_open(&b->ctx, &target, &b->tpl) != RG_OK) fail_with(&b->ctx, "templates");
    if (rg_harness_cuda_open(&b->ctx, b->api, 0, &b->cuda) != RG_OK) fail_with(&b->ctx, "device");
    b->subject = RG_NEW_ARRAY(b->ctx.arena, subject, KERNELS);
    assert_non_null(b->subject);
}

static inline void bench_close(bench *b) {
    rg_harness_cuda_close(&b->cuda);
    rg_tpl_close(b->tpl);
    rg_ctx_free(&b->ctx);
}

/* `desc`, which has its variant, as one more subject. */
static inline void bench_add(bench *b, const char *label, const rg_kdesc *desc, int32_t live) {
    assert_true(b->count < KERNELS);
    subject *to = &b->subject[b->count++];
    *to = (subject){.label = label, .desc = *desc, .live = live};
    if (rg_kdesc_check(&b->ctx, desc) != RG_OK) fail_with(&b->ctx, label);
    if (rg_emit_kernel(&b->ctx, b->tpl, desc, &to->text) != RG_OK) fail_with(&b->ctx, label);
}

static inline void bench_build(bench *b, const char *cache) {
    const rg_cuda_build_options options = {.arch = b->arch, .cache_dir = cache};
    rg_cuda_source *source = RG_NEW_ARRAY(b->ctx.arena, rg_cuda_source, b->count);
    b->object = RG_NEW_ARRAY(b->ctx.arena, rg_cuda_object, b->count);
    rg_cuda_stats stats;
    assert_true(source && b->object);
    for (int32_t i = 0; i < b->count; i++)
        source[i] = (rg_cuda_source){b->subject[i].text.symbol, b->subject[i].text.source};
    if (rg_cuda_build(&b->ctx, b->api, source, b->count, &options, b->object, &stats) != RG_OK)
        fail_with(&b->ctx, "build");
}

/* Subject i of `live` images against its meaning; false with a line where it could not run. */
static inline bool bench_run(bench *b, int32_t i, int32_t live, rg_harness_result *result) {
    const subject *s = &b->subject[i];
    *result = (rg_harness_result){0};
    if (rg_harness_cuda_check(&b->ctx, &b->cuda, &s->desc, &b->object[i], live, 7, result) == RG_OK)
        return true;
    print_message("WRONG  %s, %s, %d images: %s %s\n", s->label, s->text.symbol, live,
                  b->ctx.last->text, rg_emulate_fault());
    rg_harness_cuda_close(&b->cuda); /* the context is lost with a fault */
    if (rg_harness_cuda_open(&b->ctx, b->api, 0, &b->cuda) != RG_OK) fail_with(&b->ctx, "device");
    return false;
}

#endif
