/* The text of CUDA kernels, looked at and not run: keys, header, limits of the architectures, what
 * may stand in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rg_cases.h"
#include "rg_cuda.h"
#include "rg_emit.h"
#include "rg_emulate.h"

typedef struct world {
    rg_ctx ctx;
    rg_tpl *tpl;
    rg_case *cases;
    int32_t count;
} world;

static void fail_with(const rg_ctx *ctx, const char *what) {
    fail_msg("%s: %s", what, ctx->last ? ctx->last->text : "no diagnostic");
}

static world world_open(int arch) {
    world w = {0};
    const rg_target target = {
        .name = "cuda", .isa = "cuda", .vector = 16, .arch = arch, .max_blocks = 4};
    assert_int_equal(rg_ctx_init(&w.ctx), RG_OK);
    if (rg_tpl_open(&w.ctx, &target, &w.tpl) != RG_OK) fail_with(&w.ctx, "templates");
    w.cases = rg_cases(w.ctx.arena, 16, &w.count);
    assert_non_null(w.cases);
    return w;
}

static void world_close(world *w) {
    rg_tpl_close(w->tpl);
    rg_ctx_free(&w->ctx);
}

/* Candidates of a case; 0: none applies. */
static int32_t candidates(world *w, const rg_case *one, rg_candidate **list) {
    int32_t count = 0;
    rg_status status = rg_tpl_candidates(&w->ctx, w->tpl, &one->desc, one->dgrad, list, &count);
    if (status != RG_OK && status != RG_E_UNSUPPORTED) fail_with(&w->ctx, one->label);
    return status == RG_OK ? count : 0;
}

static char *emit(world *w, const rg_case *one, const rg_candidate *candidate) {
    rg_emitted made;
    rg_kdesc desc = one->desc;
    desc.arg = rg_arena_copy(w->ctx.arena, desc.arg, (size_t)desc.arg_count * sizeof *desc.arg);
    assert_non_null(desc.arg);
    rg_case_settle(&desc, &candidate->variant, candidate->wino_m);
    if (rg_emit_kernel(&w->ctx, w->tpl, &desc, &made) != RG_OK) fail_with(&w->ctx, one->label);
    return made.source;
}

typedef void (*check_fn)(const rg_case *one, const rg_candidate *candidate, char *source);

/* Every kernel of every case; `check` may write into the text. */
static void check_sources(int arch, check_fn check) {
    world w = world_open(arch);
    int kernels = 0;
    for (int32_t i = 0; i < w.count; i++) {
        rg_candidate *list;
        int32_t count = candidates(&w, &w.cases[i], &list);
        for (int32_t j = 0; j < count; j++, kernels++)
            check(&w.cases[i], &list[j], emit(&w, &w.cases[i], &list[j]));
    }
    assert_true(kernels > 0);
    world_close(&w);
}

/* ---- keys ---- */

static void test_keys_hang_on_the_files_of_their_own_target(void **state) {
    static const char *const cuda[] = {"==== cu_lib.lua", "==== cu_lib_conv.lua",
                                       "==== prelude.cu.tpl", "==== cu_stage.cu.tpl"};
    (void)state;
    rg_text of_cpu = {0}, of_cuda = {0};
    rg_tpl_sources(&of_cpu, "cpu_conv_direct.c.tpl");
    rg_tpl_sources(&of_cuda, "cu_conv.cu.tpl");
    for (size_t i = 0; i < sizeof cuda / sizeof *cuda; i++) {
        assert_null(strstr(of_cpu.data, cuda[i]));
        assert_non_null(strstr(of_cuda.data, cuda[i]));
    }
    assert_non_null(strstr(of_cpu.data, "==== prelude_cpu.c.tpl"));
    assert_null(strstr(of_cuda.data, "==== prelude_cpu.c.tpl"));
    rg_text_free(&of_cpu);
    rg_text_free(&of_cuda);
}

/* ---- header and limits ---- */

static void header_tells_launch(const rg_case *one, const rg_candidate *candidate, char *source) {
    char line[128];
    snprintf(line, sizeof line,
             "A tile is a block of %d threads, %d bytes of dynamic shared memory.",
             candidate->variant.threads, candidate->variant.shared_bytes);
    char *found = strstr(source, line);
    if (!found || found > strstr(source, "*/")) fail_msg("%s: no '%s'", one->label, line);
}

static void test_the_header_tells_the_launch_of_a_block(void **state) {
    (void)state;
    check_sources(90, header_tells_launch);
}

/* Threads in whole warps, 64 K registers, and the shared memory that one block may have. */
static void check_limits(int arch, int32_t shared_bytes) {
    world w = world_open(arch);
    for (int32_t i = 0; i < w.count; i++) {
        rg_candidate *list;
        int32_t count = candidates(&w, &w.cases[i], &list);
        for (int32_t j = 0; j < count; j++) {
            const rg_kvariant *variant = &list[j].variant;
            assert_true(variant->threads > 0 && variant->threads <= 1024);
            assert_int_equal(variant->threads % 32, 0);
            if (variant->shared_bytes > shared_bytes)
                fail_msg("sm_%d, %s: %d bytes of shared memory", arch, w.cases[i].label,
                         variant->shared_bytes);
        }
    }
    world_close(&w);
}

static void test_every_block_fits_its_architecture(void **state) {
    static const int limit[][2] = {{75, 64},  {80, 163},  {86, 99},  {89, 99},
                                   {90, 227}, {100, 227}, {120, 99}, {61, 48}};
    (void)state;
    for (size_t i = 0; i < sizeof limit / sizeof *limit; i++)
        check_limits(limit[i][0], limit[i][1] * 1024);
}

/* KiB of an architecture in a table of the templates ("name = {[75] = 64, ..."); 0: it has none. */
static int told_by_templates(const char *table, int arch) {
    char row[32];
    int kib = 0;
    rg_text sources = {0};
    rg_tpl_sources(&sources, "cu_conv.cu.tpl");
    const char *at = strstr(sources.data, table);
    assert_non_null(at);
    snprintf(row, sizeof row, "[%d] = ", arch);
    const char *end = strchr(at, '}'), *found = strstr(at, row);
    if (end && found && found < end) kib = atoi(found + strlen(row));
    rg_text_free(&sources);
    return kib;
}

/* 0: the emulator is none of this architecture. */
static int told_by_emulator(unsigned attribute, int arch) {
    const rg_cuda_api *api = rg_emulate_api(&(rg_emulate_options){.arch = arch});
    int bytes = 0;
    if (api->driver.init(0) != RG_CU_SUCCESS) return 0;
    assert_int_equal(api->driver.device_attribute(&bytes, attribute, 0), RG_CU_SUCCESS);
    return bytes / 1024;
}

static void test_all_tables_have_the_same_architectures(void **state) {
    (void)state;
    int known = 0;
    for (int arch = 1; arch < 200; arch++) {
        const rg_cuda_limits *limits = rg_cuda_limits_of(arch);
        int block = limits ? limits->block_shared_bytes / 1024 : 0;
        int all = limits ? limits->shared_bytes / 1024 : 0;
        known += limits != NULL;
        const int told[][2] = {
            {told_by_templates("block_shared = {", arch), block},
            {told_by_emulator(RG_CU_DEVICE_MAX_SHARED_PER_BLOCK_OPTIN, arch), block},
            {told_by_templates("sm_shared = {", arch), all},
            {told_by_emulator(RG_CU_DEVICE_MAX_SHARED_PER_MULTIPROCESSOR, arch), all},
        };
        for (int i = 0; i < 4; i++)
            if (told[i][0] != told[i][1])
                fail_msg("sm_%d: %s's %d KiB, limits have %d", arch,
                         i % 2 ? "the emulator" : "the templates", told[i][0], told[i][1]);
    }
    assert_true(known >= 10);
}

/* ---- what may stand in the text ---- */

/* Blanks what stands between the brackets that a host replaces. */
static void blank_hardware(char *source) {
    for (char *at = source; (at = strstr(at, "#ifndef RG_EMULATE")) != NULL;) {
        char *end = strstr(at, "#endif");
        assert_non_null(end);
        memset(at, ' ', (size_t)(end - at));
    }
}

static void is_portable(const rg_case *one, const rg_candidate *candidate, char *source) {
    static const char *const words[] = {"threadIdx",  "blockIdx", "asm",     "__shared__",
                                        "__device__", "__sync",   "__shfl",  "__builtin",
                                        "__float_as", "float4",   "#include"};
    blank_hardware(source);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(source, words[i]))
            fail_msg("%s, %s: '%s' stands outside RG_EMULATE's brackets", one->label,
                     candidate->variant.name, words[i]);
}

static void test_the_hardware_is_touched_in_named_functions_alone(void **state) {
    (void)state;
    check_sources(80, is_portable);
}

static void is_free_of_atomics(const rg_case *one, const rg_candidate *candidate, char *source) {
    if (strstr(source, "atomic"))
        fail_msg("%s, %s: an atomic operation", one->label, candidate->variant.name);
}

static void test_no_sum_is_made_by_atomics(void **state) {
    (void)state;
    check_sources(75, is_free_of_atomics);
}

static void has_used_parts(const rg_case *one, const rg_candidate *candidate, char *source) {
    assert_non_null(strstr(source, "RG_KERNEL "));
    assert_null(strstr(source, "//@"));
    assert_null(strstr(source, "${"));
    if (one->desc.kind != RG_K_CONV && one->desc.kind != RG_K_WGRAD) return;
    assert_non_null(strstr(source, "rg_fma("));
    if (strstr(source, "rg_tanh") || strstr(source, "rg_last_block"))
        fail_msg("%s, %s: a function that is not used", one->label, candidate->variant.name);
}

static void test_a_kernel_holds_those_prelude_functions_that_it_uses(void **state) {
    (void)state;
    check_sources(90, has_used_parts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_hang_on_the_files_of_their_own_target),
        cmocka_unit_test(test_the_header_tells_the_launch_of_a_block),
        cmocka_unit_test(test_every_block_fits_its_architecture),
        cmocka_unit_test(test_all_tables_have_the_same_architectures),
        cmocka_unit_test(test_the_hardware_is_touched_in_named_functions_alone),
        cmocka_unit_test(test_no_sum_is_made_by_atomics),
        cmocka_unit_test(test_a_kernel_holds_those_prelude_functions_that_it_uses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
