/* Emitted sources: names, keys, the same bytes for the same description, and nothing that is not
 * used. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rg_emit.h"
#include "tpl_conv.h"

typedef struct world {
    rg_ctx ctx;
    rg_tpl *tpl;
    tpl_conv conv;
} world;

static int open_world(void **state) {
    static world w;
    const rg_target target = {
        .name = "cpu", .isa = "avx512", .vector = 16, .max_blocks = 4, .only = "direct"};
    rg_candidate *list;
    int32_t count;
    if (rg_ctx_init(&w.ctx) != RG_OK || rg_tpl_open(&w.ctx, &target, &w.tpl) != RG_OK) return -1;
    tpl_conv_make(&w.conv, w.ctx.arena);
    if (rg_tpl_candidates(&w.ctx, w.tpl, &w.conv.desc, false, &list, &count) != RG_OK) return -1;
    w.conv.desc.variant = list[0].variant;
    w.conv.arg[3].parts_per_block = list[0].variant.parts_per_block;
    *state = &w;
    return 0;
}

static int close_world(void **state) {
    world *w = *state;
    rg_tpl_close(w->tpl);
    rg_ctx_free(&w->ctx);
    return 0;
}

static rg_emitted emit(world *w) {
    rg_emitted out;
    assert_int_equal(rg_emit_kernel(&w->ctx, w->tpl, &w->conv.desc, &out), RG_OK);
    return out;
}

/* ---- names and keys ---- */

static void test_a_symbol_tells_operation_variant_shape_and_key(void **state) {
    rg_emitted out = emit(*state);
    const char *stem = "rg_conv2d_fprop_direct_bnrelu_moments__f32_h6w5c16_k32r3s3_";
    assert_int_equal(strlen(out.key), 32);
    assert_memory_equal(out.symbol, stem, strlen(stem));
    assert_int_equal(strlen(out.symbol), strlen(stem) + 8);
    assert_memory_equal(out.symbol + strlen(stem), out.key, 8);
}

static void test_the_source_defines_the_symbol(void **state) {
    rg_emitted out = emit(*state);
    const char *at = strstr(out.source, "\nvoid rg_conv2d");
    assert_non_null(at);
    assert_memory_equal(at + 6, out.symbol, strlen(out.symbol));
}

static void test_name_and_kernel_agree(void **state) {
    world *w = *state;
    rg_emitted kernel = emit(w), name;
    assert_int_equal(rg_emit_name(&w->ctx, w->tpl, &w->conv.desc, &name), RG_OK);
    assert_string_equal(kernel.symbol, name.symbol);
    assert_string_equal(kernel.key, name.key);
    assert_null(name.source);
}

static void test_the_key_follows_parameters_and_not_costs(void **state) {
    world *w = *state;
    rg_emitted before = emit(w), after;
    w->conv.desc.variant.cost_us *= 2;
    after = emit(w);
    assert_string_equal(before.key, after.key);
    w->conv.desc.variant.param[0].value++;
    assert_int_equal(rg_emit_name(&w->ctx, w->tpl, &w->conv.desc, &after), RG_OK);
    assert_string_not_equal(before.key, after.key);
}

static void test_a_kernel_without_a_variant_is_refused(void **state) {
    world *w = *state;
    rg_emitted out;
    w->conv.desc.variant.name = NULL;
    assert_int_equal(rg_emit_kernel(&w->ctx, w->tpl, &w->conv.desc, &out), RG_E_INTERNAL);
}

/* ---- text ---- */

static void test_the_same_description_gives_the_same_bytes(void **state) {
    world *w = *state;
    const rg_target target = {
        .name = "cpu", .isa = "avx512", .vector = 16, .max_blocks = 4, .only = NULL};
    rg_tpl *other;
    rg_emitted first = emit(w), again = emit(w), elsewhere;
    assert_int_equal(rg_tpl_open(&w->ctx, &target, &other), RG_OK);
    assert_int_equal(rg_emit_kernel(&w->ctx, other, &w->conv.desc, &elsewhere), RG_OK);
    rg_tpl_close(other);
    assert_string_equal(first.source, again.source);
    assert_string_equal(first.source, elsewhere.source);
}

static void test_the_header_tells_formula_counts_and_launch(void **state) {
    const char *source = emit(*state).source, *end = strstr(source, "*/");
    static const char *const lines[] = {
        "x0 = max(fma(a0 - a4, a5, a6), 0)",
        "acc0[n, p, q, k] = sum over r, s, c of x0[n, p + r - 1, q + s - 1, c] a1[k, r, s, c]",
        "a3 = moments over N H W of acc0",
        "GFLOP",
        "FLOP a byte",
        "Tiles: ",
    };
    assert_memory_equal(source, "/* rg_", 6);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        const char *at = strstr(source, lines[i]);
        assert_non_null(at);
        assert_true(at < end);
    }
}

static void test_only_used_parts_of_the_prelude_are_pasted(void **state) {
    const char *source = emit(*state).source;
    assert_non_null(strstr(source, "RG_INLINE vf rg_fma("));
    assert_non_null(strstr(source, "RG_INLINE void rg_moments_rows("));
    assert_non_null(strstr(source, "RG_INLINE vf rg_raw_max(")); /* used by rg_maxc alone */
    assert_null(strstr(source, "rg_exp"));
    assert_null(strstr(source, "rg_tanh"));
    assert_null(strstr(source, "#include"));
    assert_null(strstr(source, "//@"));
    assert_null(strstr(source, "${"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_symbol_tells_operation_variant_shape_and_key,
                                        open_world, close_world),
        cmocka_unit_test_setup_teardown(test_the_source_defines_the_symbol, open_world,
                                        close_world),
        cmocka_unit_test_setup_teardown(test_name_and_kernel_agree, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_the_key_follows_parameters_and_not_costs, open_world,
                                        close_world),
        cmocka_unit_test_setup_teardown(test_a_kernel_without_a_variant_is_refused, open_world,
                                        close_world),
        cmocka_unit_test_setup_teardown(test_the_same_description_gives_the_same_bytes, open_world,
                                        close_world),
        cmocka_unit_test_setup_teardown(test_the_header_tells_formula_counts_and_launch, open_world,
                                        close_world),
        cmocka_unit_test_setup_teardown(test_only_used_parts_of_the_prelude_are_pasted, open_world,
                                        close_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
