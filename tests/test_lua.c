/* Lua states keep programs inside: no way out of the limits, nothing of the system in reach. */
#include <lauxlib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rg_lua.h"

static const rg_lua_limits guarded = {64u << 20, 1000000};
static const rg_lua_limits unlimited = {0, 0};

/* Runs a program; its status, and the first diagnostic as text in `line` (size 256). */
static rg_status run(rg_lua_limits limits, const char *name, const char *text, char *line) {
    rg_ctx ctx;
    rg_lua *lua = NULL;
    line[0] = '\0';
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    assert_int_equal(rg_lua_open(&ctx, limits, &lua), RG_OK);
    rg_status status = rg_lua_compile(&ctx, lua, text, strlen(text), name);
    if (status == RG_OK) status = rg_lua_call(&ctx, lua, 0, 0);
    assert_int_equal(ctx.count, status == RG_OK ? 0 : 1);
    if (ctx.first) {
        char *formatted = rg_diag_format(ctx.arena, ctx.first);
        assert_non_null(formatted);
        strncpy(line, formatted, 255);
        line[255] = '\0';
    }
    rg_lua_close(lua);
    rg_ctx_free(&ctx);
    return status;
}

static void test_errors_carry_file_and_line(void **state) {
    (void)state;
    char line[256];
    assert_int_equal(run(guarded, "a.lua", "local x = 1\nerror('no')", line), RG_E_SPEC);
    assert_string_equal(line, "a.lua:2: error[spec]: no");
    assert_int_equal(run(unlimited, "a.lua", "local x = 1\nerror('no')", line), RG_E_INTERNAL);
    assert_string_equal(line, "a.lua:2: error[internal]: no");
    assert_int_equal(run(guarded, "a.lua", "x = = 1", line), RG_E_SYNTAX);
    assert_string_equal(line, "a.lua:1: error[syntax]: unexpected symbol near '='");
    assert_int_equal(run(guarded, "a.lua", "error({})", line), RG_E_SPEC);
    assert_string_equal(line, "error[spec]: the program raised a table value as an error");
}

/* Lua shortens the names of chunks to 60 characters. */
static void test_long_file_names_stay_whole(void **state) {
    (void)state;
    const char *name =
        "a/very/long/folder/whose/name/has/no/end/but/is/a/folder/all/the/same/spec.lua";
    char line[256];
    assert_int_equal(run(guarded, name, "\n\nerror('no')", line), RG_E_SPEC);
    assert_memory_equal(line, name, strlen(name));
    assert_string_equal(line + strlen(name), ":3: error[spec]: no");
    assert_int_equal(run(guarded, name, "\n\n(", line), RG_E_SYNTAX);
    assert_memory_equal(line, name, strlen(name));
    assert_memory_equal(line + strlen(name), ":3: ", 4);
}

/* Each would run for ever. */
static void test_no_loop_outlives_the_instruction_limit(void **state) {
    (void)state;
    static const char *const programs[] = {
        "while true do end",
        "repeat until false",
        "local function f() return f() end f()",
        "while true do pcall(function() while true do end end) end",
        "local function f() pcall(f) return f() end f()",
        "return pcall(function() while true do end end)",
        "for i = 1, math.huge do local s = 'x' .. i end",
        "local t <close> = nil while true do pcall(error) end",
        "while true do pairs({a = 1}) end",
        "while true do ('x'):rep(1000) end",
        "goto top ::top:: goto top",
    };
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        char line[256];
        rg_status status = run(guarded, "a.lua", programs[i], line);
        if (status == RG_E_SYNTAX) fail_msg("%s: %s", programs[i], line);
        if (status != RG_E_LIMIT) fail_msg("%s: %s", programs[i], line);
    }
}

static void test_a_limit_names_the_line(void **state) {
    (void)state;
    char line[256];
    run(guarded, "a.lua", "\n\nwhile true do end", line);
    assert_string_equal(line,
                        "a.lua:3: error[limit]: more than 1000000 instructions: an endless loop?");
    run(guarded, "a.lua", "local t = {}\nfor i = 1, 9999 do\nt[i] = ('x'):rep(99999 + i)\nend",
        line);
    assert_string_equal(
        line, "a.lua:3: error[limit]: more memory than 64 MB in all or 16 MB in one piece");
}

static void test_memory_is_bounded(void **state) {
    (void)state;
    static const char *const programs[] = {
        "local s = 'x' while true do s = s .. s end",
        "local t = {} for i = 1, 1e9 do t[i] = {i} end",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
    };
    static const rg_lua_limits tight = {8u << 20, 100000000};
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        char line[256];
        if (run(tight, "a.lua", programs[i], line) != RG_E_LIMIT)
            fail_msg("%s: %s", programs[i], line);
        assert_non_null(strstr(line, "more memory than 8 MB"));
    }
    char line[256];
    const char *piece = "local s = ('x'):rep(2^20) s = s .. s .. s .. s";
    assert_int_equal(run(tight, "a.lua", piece, line), RG_E_LIMIT);
    assert_int_equal(run(guarded, "a.lua", piece, line), RG_OK);
}

/* What would run on in C, uncounted, is not there. */
static void test_guarded_states_lack_uncounted_loops(void **state) {
    (void)state;
    static const char *const absent[] = {"dofile",
                                         "load",
                                         "loadfile",
                                         "collectgarbage",
                                         "print",
                                         "warn",
                                         "require",
                                         "os",
                                         "io",
                                         "debug",
                                         "package",
                                         "coroutine",
                                         "utf8",
                                         "setmetatable",
                                         "getmetatable",
                                         "xpcall",
                                         "next",
                                         "string.dump",
                                         "string.find",
                                         "string.match",
                                         "string.gmatch",
                                         "string.gsub",
                                         "table.move",
                                         "table.sort",
                                         "math.random",
                                         "math.randomseed"};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        char program[128], line[256];
        snprintf(program, sizeof program, "assert(%s == nil)", absent[i]);
        if (run(guarded, "a.lua", program, line) != RG_OK) fail_msg("%s is there", absent[i]);
    }
    char line[256];
    assert_int_equal(run(guarded, "a.lua", "string.rep('', 2^53)", line), RG_E_SPEC);
    assert_int_equal(run(guarded, "a.lua", "string.rep('ab', 2^20)", line), RG_E_SPEC);
    assert_int_equal(run(guarded, "a.lua", "string.rep('ab', 1e300)", line), RG_E_SPEC);
    assert_int_equal(run(guarded, "a.lua", "assert(string.rep('ab', 3, '-') == 'ab-ab-ab')", line),
                     RG_OK);
    assert_int_equal(run(guarded, "a.lua", "assert(('ab'):rep(-1) == '')", line), RG_OK);
}

static void test_templates_keep_patterns_and_metatables(void **state) {
    (void)state;
    char line[256];
    assert_int_equal(run(unlimited, "a.lua", "assert(('abc'):match('b(.)') == 'c')", line), RG_OK);
    assert_int_equal(
        run(unlimited, "a.lua", "assert(setmetatable({}, {__index = {a = 2}}).a == 2)", line),
        RG_OK);
    assert_int_equal(run(unlimited, "a.lua", "assert(getmetatable('') == false)", line), RG_OK);
    assert_int_equal(
        run(unlimited, "a.lua", "assert(load == nil and os == nil and string.dump == nil)", line),
        RG_OK);
}

static void test_bytecode_is_refused(void **state) {
    (void)state;
    char line[256];
    assert_int_equal(run(unlimited, "a.lua", "\x1bLua", line), RG_E_SYNTAX);
    assert_non_null(strstr(line, "attempt to load a binary chunk"));
}

/* Tables have no order of their own, and a seed that differs from run to run. */
static void test_pairs_is_in_ascending_order(void **state) {
    (void)state;
    char line[256];
    const char *program =
        "local t, seen = {z = 1, b = 1, a = 1, [3] = 1, [1] = 1, [-2.5] = 1, [true] = 1}, {}\n"
        "for k, v in pairs(t) do seen[#seen + 1] = tostring(k) t[k] = nil end\n"
        "assert(table.concat(seen, ' ') == '-2.5 1 3 a b z true', table.concat(seen, ' '))\n"
        "local u, count = {a = 1, b = 2, c = 3}, 0\n"
        "for k in pairs(u) do u.b = nil count = count + 1 end\n"
        "assert(count == 2)";
    if (run(guarded, "a.lua", program, line) != RG_OK) fail_msg("%s", line);
}

static int abort_now(lua_State *state) {
    return rg_lua_abort(state, RG_E_SHAPE);
}

static void test_an_abort_adds_no_diagnostic(void **state) {
    (void)state;
    rg_ctx ctx;
    rg_lua *lua;
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    assert_int_equal(rg_lua_open(&ctx, guarded, &lua), RG_OK);
    lua_pushcfunction(rg_lua_state(lua), abort_now);
    assert_int_equal(rg_lua_call(&ctx, lua, 0, 0), RG_E_SHAPE);
    assert_int_equal(ctx.count, 0);
    assert_int_equal(lua_gettop(rg_lua_state(lua)), 0);
    rg_lua_close(lua);
    rg_ctx_free(&ctx);
}

/* Too little memory at any point of opening comes back as an error. */
static void test_opening_survives_every_memory_limit(void **state) {
    (void)state;
    rg_ctx ctx;
    bool opened = false;
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    for (size_t bytes = 1; bytes < 1u << 18 && !opened; bytes += 512) {
        rg_lua *lua = NULL;
        rg_status status = rg_lua_open(&ctx, (rg_lua_limits){bytes, 1000}, &lua);
        assert_true(status == RG_OK || status == RG_E_NOMEM);
        opened = status == RG_OK;
        if (opened) rg_lua_close(lua);
    }
    assert_true(opened);
    rg_ctx_free(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors_carry_file_and_line),
        cmocka_unit_test(test_long_file_names_stay_whole),
        cmocka_unit_test(test_no_loop_outlives_the_instruction_limit),
        cmocka_unit_test(test_a_limit_names_the_line),
        cmocka_unit_test(test_memory_is_bounded),
        cmocka_unit_test(test_guarded_states_lack_uncounted_loops),
        cmocka_unit_test(test_templates_keep_patterns_and_metatables),
        cmocka_unit_test(test_bytecode_is_refused),
        cmocka_unit_test(test_pairs_is_in_ascending_order),
        cmocka_unit_test(test_an_abort_adds_no_diagnostic),
        cmocka_unit_test(test_opening_survives_every_memory_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
