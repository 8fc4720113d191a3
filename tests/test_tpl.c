/* Templates: text and its errors, the library's numbers and taps, the choice of variants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rg_tpl_impl.h"
#include "tpl_conv.h"

typedef struct world {
    rg_ctx ctx;
    rg_tpl *tpl;
} world;

static int open_world(void **state) {
    static world w;
    const rg_target target = {
        .name = "cpu", .isa = "avx512", .vector = 16, .max_blocks = 4, .only = NULL};
    if (rg_ctx_init(&w.ctx) != RG_OK) return -1;
    if (rg_tpl_open(&w.ctx, &target, &w.tpl) != RG_OK) {
        print_message("%s\n", w.ctx.first->text);
        return -1;
    }
    *state = &w;
    return 0;
}

static int close_world(void **state) {
    world *w = *state;
    rg_tpl_close(w->tpl);
    rg_ctx_free(&w->ctx);
    return 0;
}

/* ---- text ---- */

/* Runs `text` as a template called x.tpl; its output is on top of the stack when the result is
 * RG_OK. */
static rg_status run_text(world *w, const char *text) {
    rg_text lua = {0};
    lua_settop(rg_lua_state(w->tpl->lua), 0);
    rg_tpl_push_engine(w->tpl, "run");
    rg_status status = rg_tpl_translate(&w->ctx, text, "x.tpl", &lua);
    if (status == RG_OK)
        status = rg_lua_compile(&w->ctx, w->tpl->lua, lua.data, lua.length, "x.tpl");
    rg_text_free(&lua);
    return status == RG_OK ? rg_lua_call(&w->ctx, w->tpl->lua, 1, 1) : status;
}

static void expect_text(world *w, const char *text, const char *expected) {
    assert_int_equal(run_text(w, text), RG_OK);
    assert_string_equal(lua_tostring(rg_lua_state(w->tpl->lua), -1), expected);
}

static void expect_error(world *w, const char *text, rg_status status, int line,
                         const char *words) {
    assert_int_equal(run_text(w, text), status);
    const rg_diag *diag = w->ctx.last;
    assert_non_null(diag);
    assert_string_equal(diag->loc.file, "x.tpl");
    assert_int_equal(diag->loc.line, line);
    assert_non_null(strstr(diag->text, words));
}

static void test_text_is_kept_and_expressions_are_filled_in(void **state) {
    expect_text(*state, "a \"q\" \\n ${1 + 2}%\n% for i = 1, 2 do\n  b${i};\n% end\n",
                "a \"q\" \\n 3%\n  b1;\n  b2;\n");
}

static void test_braces_and_strings_may_stand_in_an_expression(void **state) {
    expect_text(*state, "${({[0] = 'a}'})[0]}-${\"}\"}\n", "a}-}\n");
}

static void test_lists_are_indented_and_empty_lists_leave_no_line(void **state) {
    expect_text(*state, "{\n    ${{\"a;\", \"\", \"b;\"}}\n    ${{}}\n}\n",
                "{\n    a;\n\n    b;\n}\n");
}

static void test_an_unset_name_is_an_error_with_the_template_s_line(void **state) {
    expect_error(*state, "one\ntwo\n${missing}\n", RG_E_INTERNAL, 3, "unset name 'missing'");
}

static void test_a_global_cannot_be_set(void **state) {
    expect_error(*state, "% local fine = 1\n% wrong = 1\n", RG_E_INTERNAL, 2, "'wrong'");
}

static void test_a_float_in_text_is_an_error(void **state) {
    expect_error(*state, "\nx = ${0.5};\n", RG_E_INTERNAL, 2, "a float in ${}");
}

static void test_an_unfinished_expression_names_its_line(void **state) {
    expect_error(*state, "fine\nx ${1 + y\n", RG_E_SYNTAX, 2, "${ without its }");
}

static void test_a_lua_error_names_its_line(void **state) {
    expect_error(*state, "fine\nfine\n% if then\n", RG_E_SYNTAX, 3, "");
}

/* ---- the library ---- */

/* Runs Lua that fails by error(). */
static void run_lua(world *w, const char *chunk) {
    rg_status status = rg_lua_compile(&w->ctx, w->tpl->lua, chunk, strlen(chunk), "check");
    if (status == RG_OK) status = rg_lua_call(&w->ctx, w->tpl->lua, 0, 0);
    if (status != RG_OK) print_message("%s\n", w->ctx.last->text);
    assert_int_equal(status, RG_OK);
}

static void test_float_literals_are_exact(void **state) {
    world *w = *state;
    static const float cases[] = {0.0f,          1.0f,           -2.5f,       0.1f,       1e-5f,
                                  3.4028235e38f, 1.1754944e-38f, 16777216.0f, 11.7647295f};
    lua_State *lua = rg_lua_state(w->tpl->lua);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lua_settop(lua, 0);
        const char *chunk = "local v = ... return L.float(v)";
        assert_int_equal(rg_lua_compile(&w->ctx, w->tpl->lua, chunk, strlen(chunk), "check"),
                         RG_OK);
        lua_pushnumber(lua, (double)cases[i]);
        assert_int_equal(rg_lua_call(&w->ctx, w->tpl->lua, 1, 1), RG_OK);
        const char *text = lua_tostring(lua, -1);
        assert_true(strtof(text, NULL) == cases[i]);
        assert_int_equal(text[strlen(text) - 1], 'f');
        assert_true(strchr(text, '.') || strchr(text, 'e'));
    }
}

static void test_every_output_is_in_one_class_with_its_taps(void **state) {
    run_lua(*state, "for _, g in ipairs {{1, 1, -1, 1}, {2, 1, -3, 1}, {1, -1, 1, 2}, {1, -2, 2, "
                    "1}, {1, -1, 0, 3}, {3, 2, -4, 2}, {2, 1, -1, 2}} do\n"
                    "  local geom = {mul = g[1], tap_mul = g[2], off = g[3], div = g[4]}\n"
                    "  for extent = 1, 9 do for taps = 1, 4 do\n"
                    "    local seen = {}\n"
                    "    for _, class in ipairs(L.tap_classes(geom, taps, 11, extent)) do\n"
                    "      for i = 0, class.count - 1 do\n"
                    "        local out, n = class.first + i * class.step, 0\n"
                    "        if seen[out] then error('twice') end\n"
                    "        seen[out] = true\n"
                    "        for tap = 0, taps - 1 do\n"
                    "          local input = L.tap_input(geom, out, tap, extent)\n"
                    "          if input then\n"
                    "            n = n + 1\n"
                    "            local t = class.taps[n]\n"
                    "            if t.tap ~= tap or t.input + i * t.input_step ~= input then "
                    "error('wrong tap') end\n"
                    "          end\n"
                    "        end\n"
                    "        if n ~= #class.taps then error('too many taps') end\n"
                    "      end\n"
                    "    end\n"
                    "    for out = 0, 10 do if not seen[out] then error('missing') end end\n"
                    "  end end\n"
                    "end\n");
}

static void test_a_comparison_under_select_becomes_a_mask_alone(void **state) {
    run_lua(
        *state,
        "local site = {expr_count = 5, expr = {[0] = {op = 'arg', leaf = 0}, {op = 'const', value "
        "= 0x0p+0},\n"
        "  {op = 'gt', a = 0, b = 1}, {op = 'select', a = 2, b = 0, c = 1}, {op = 'neg', a = 0}}}\n"
        "local dag = L.dag(site, {3}, function() return 'x', false end)\n"
        "local text = table.concat(dag.inner, '|')\n"
        "local expected = 'const vf e0 = x;|const vm m2 = rg_mask_gt(e0, rg_splat(0.0f));|'\n"
        "  .. 'const vf e3 = rg_blend(m2, e0, rg_splat(0.0f));'\n"
        "if text ~= expected then error(text) end\n");
}

static void test_what_depends_on_channels_alone_is_computed_outside_the_loop(void **state) {
    run_lua(
        *state,
        "local site = {expr_count = 4, expr = {[0] = {op = 'arg', leaf = 0}, {op = 'arg', leaf = "
        "1},\n"
        "  {op = 'sqrt', a = 1}, {op = 'mul', a = 0, b = 2}}}\n"
        "local dag = L.dag(site, {3}, function(node) return 'x' .. node.leaf, node.leaf == 1 end)\n"
        "if #dag.outer ~= 2 or #dag.inner ~= 2 then error(#dag.outer .. ' ' .. #dag.inner) end\n"
        "if dag.outer[2] ~= 'const vf e2 = rg_sqrt(e1);' then error(dag.outer[2]) end\n");
}

/* ---- variants ---- */

static void test_candidates_are_sorted_and_complete(void **state) {
    world *w = *state;
    tpl_conv conv;
    rg_candidate *list;
    int32_t count;
    tpl_conv_make(&conv, w->ctx.arena);
    assert_int_equal(rg_tpl_candidates(&w->ctx, w->tpl, &conv.desc, false, &list, &count), RG_OK);
    bool direct = false;
    for (int32_t i = 0; i < count; i++) {
        const rg_kvariant *variant = &list[i].variant;
        if (i) assert_true(list[i - 1].variant.cost_us <= variant->cost_us);
        assert_non_null(rg_tpl_file(variant->file));
        assert_string_equal(variant->isa, "avx512");
        assert_true(variant->tiles_per_block > 0 && variant->parts_per_block > 0 &&
                    variant->cost_us > 0);
        if (strcmp(variant->name, "direct") == 0) {
            direct = true;
            assert_string_equal(list[i].weights, "master");
        }
    }
    assert_true(direct);
}

static void test_a_dgrad_wants_turned_weights(void **state) {
    world *w = *state;
    tpl_conv conv;
    rg_candidate *list;
    int32_t count;
    tpl_conv_make(&conv, w->ctx.arena);
    assert_int_equal(rg_tpl_candidates(&w->ctx, w->tpl, &conv.desc, true, &list, &count), RG_OK);
    for (int32_t i = 0; i < count; i++)
        assert_string_equal(list[i].weights, list[i].wino_m ? "winoturn" : "turn");
}

static void test_only_narrows_the_choice(void **state) {
    world *w = *state;
    const rg_target target = {
        .name = "cpu", .isa = "avx2", .vector = 8, .max_blocks = 4, .only = "direct"};
    rg_tpl *tpl;
    tpl_conv conv;
    rg_candidate *list;
    int32_t count;
    tpl_conv_make(&conv, w->ctx.arena);
    assert_int_equal(rg_tpl_open(&w->ctx, &target, &tpl), RG_OK);
    assert_int_equal(rg_tpl_candidates(&w->ctx, tpl, &conv.desc, false, &list, &count), RG_OK);
    assert_int_equal(count, 1);
    assert_string_equal(list[0].variant.name, "direct");
    rg_tpl_close(tpl);
}

static void test_a_description_without_a_variant_is_refused(void **state) {
    world *w = *state;
    tpl_conv conv;
    rg_candidate *list;
    int32_t count;
    tpl_conv_make(&conv, w->ctx.arena);
    conv.out[1].axes = RG_AXIS_H; /* a reduction that no convolution can leave */
    assert_int_equal(rg_tpl_candidates(&w->ctx, w->tpl, &conv.desc, false, &list, &count),
                     RG_E_UNSUPPORTED);
    assert_non_null(strstr(w->ctx.last->text, "conv2d_fprop_bnrelu_moments"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_text_is_kept_and_expressions_are_filled_in, open_world,
                                        close_world),
        cmocka_unit_test_setup_teardown(test_braces_and_strings_may_stand_in_an_expression,
                                        open_world, close_world),
        cmocka_unit_test_setup_teardown(test_lists_are_indented_and_empty_lists_leave_no_line,
                                        open_world, close_world),
        cmocka_unit_test_setup_teardown(test_an_unset_name_is_an_error_with_the_template_s_line,
                                        open_world, close_world),
        cmocka_unit_test_setup_teardown(test_a_global_cannot_be_set, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_a_float_in_text_is_an_error, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_an_unfinished_expression_names_its_line, open_world,
                                        close_world),
        cmocka_unit_test_setup_teardown(test_a_lua_error_names_its_line, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_float_literals_are_exact, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_every_output_is_in_one_class_with_its_taps, open_world,
                                        close_world),
        cmocka_unit_test_setup_teardown(test_a_comparison_under_select_becomes_a_mask_alone,
                                        open_world, close_world),
        cmocka_unit_test_setup_teardown(
            test_what_depends_on_channels_alone_is_computed_outside_the_loop, open_world,
            close_world),
        cmocka_unit_test_setup_teardown(test_candidates_are_sorted_and_complete, open_world,
                                        close_world),
        cmocka_unit_test_setup_teardown(test_a_dgrad_wants_turned_weights, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_only_narrows_the_choice, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_a_description_without_a_variant_is_refused, open_world,
                                        close_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
