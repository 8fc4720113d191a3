/* The Lua state behind the templates: opening it, and rendering a description. */
#include "rg_tpl_impl.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

/* ---- compiling templates ---- */

static rg_status compile_template(rg_ctx *ctx, rg_tpl *tpl, const char *name) {
    const rg_tpl_embedded *file = rg_tpl_find(name);
    if (!file) return rg_fail(ctx, RG_E_INTERNAL, "there is no template '%s'", name);
    rg_text lua = {0};
    rg_status status = rg_tpl_translate(ctx, file->data, name, &lua);
    if (status == RG_OK) status = rg_lua_compile(ctx, tpl->lua, lua.data, lua.length, name);
    rg_text_free(&lua);
    return status;
}

/* template(name): the compiled template, made once. Upvalues: the rg_tpl, a table of those that
 * were made. */
static int template_by_name(lua_State *state) {
    rg_tpl *tpl = lua_touserdata(state, lua_upvalueindex(1));
    const char *name = luaL_checkstring(state, 1);
    if (lua_getfield(state, lua_upvalueindex(2), name) != LUA_TNIL) return 1;
    lua_pop(state, 1);
    rg_status status = compile_template(tpl->ctx, tpl, name);
    if (status != RG_OK) return rg_lua_abort(state, status);
    lua_pushvalue(state, -1);
    lua_setfield(state, lua_upvalueindex(2), name);
    return 1;
}

/* ---- opening ---- */

static void set_integer(lua_State *state, const char *name, lua_Integer value) {
    lua_pushinteger(state, value);
    lua_setfield(state, -2, name);
}

static void set_text(lua_State *state, const char *name, const char *value) {
    lua_pushstring(state, value);
    lua_setfield(state, -2, name);
}

static void set_target(lua_State *state, const rg_target *target) {
    lua_newtable(state);
    set_text(state, "name", target->name);
    set_text(state, "isa", target->isa);
    set_text(state, "prelude",
             rg_tpl_is_cuda(target->name) ? "prelude.cu.tpl" : "prelude_cpu.c.tpl");
    set_integer(state, "vector", target->vector);
    set_integer(state, "arch", target->arch);
    set_integer(state, "max_blocks", target->max_blocks);
    set_integer(state, "ctrl_scalars", RG_CTRL_SCALARS);
    if (target->only) set_text(state, "only", target->only);
    lua_setglobal(state, "t");
}

/* Runs an embedded Lua file with `args` arguments from the stack and leaves its result in the
 * registry under its name. */
static rg_status run_file(rg_ctx *ctx, rg_tpl *tpl, const char *name, int args) {
    const rg_tpl_embedded *file = rg_tpl_find(name);
    if (!file)
        return rg_fail(ctx, RG_E_INTERNAL, "there is no file '%s' among the templates", name);
    lua_State *state = rg_lua_state(tpl->lua);
    RG_TRY(rg_lua_compile(ctx, tpl->lua, file->data, file->length, name));
    lua_insert(state, -1 - args);
    RG_TRY(rg_lua_call(ctx, tpl->lua, args, 1));
    lua_setfield(state, LUA_REGISTRYINDEX, name);
    return RG_OK;
}

/* Files whose names begin with `prefix`, each with the table that lib.lua made. */
static rg_status run_parts(rg_ctx *ctx, rg_tpl *tpl, const char *prefix) {
    for (const rg_tpl_embedded *file = rg_tpl_embedded_files; file->name; file++) {
        if (strncmp(file->name, prefix, strlen(prefix)) != 0) continue;
        lua_getfield(rg_lua_state(tpl->lua), LUA_REGISTRYINDEX, "lib.lua");
        RG_TRY(run_file(ctx, tpl, file->name, 1));
    }
    return RG_OK;
}

/* The files cu_lib* come after lib*: some of their functions replace those for vectors. */
static rg_status run_libraries(rg_ctx *ctx, rg_tpl *tpl, bool cuda) {
    lua_State *state = rg_lua_state(tpl->lua);
    RG_TRY(run_file(ctx, tpl, "lib.lua", 0));
    lua_getfield(state, LUA_REGISTRYINDEX, "lib.lua");
    lua_setglobal(state, "L");
    RG_TRY(run_parts(ctx, tpl, "lib_"));
    if (cuda) RG_TRY(run_parts(ctx, tpl, "cu_lib"));
    return run_file(ctx, tpl, "variants.lua", 0);
}

void rg_tpl_push_engine(rg_tpl *tpl, const char *name) {
    lua_State *state = rg_lua_state(tpl->lua);
    lua_getfield(state, LUA_REGISTRYINDEX, "engine.lua");
    lua_getfield(state, -1, name);
    lua_remove(state, -2);
}

static rg_status fill_state(rg_ctx *ctx, rg_tpl *tpl, const rg_target *target) {
    lua_State *state = rg_lua_state(tpl->lua);
    if (!lua_checkstack(state, 16)) return rg_nomem(ctx);
    set_target(state, target);
    lua_pushlightuserdata(state, tpl);
    lua_newtable(state);
    lua_pushcclosure(state, template_by_name, 2);
    RG_TRY(run_file(ctx, tpl, "engine.lua", 1));
    RG_TRY(run_libraries(ctx, tpl, rg_tpl_is_cuda(target->name)));
    rg_tpl_push_engine(tpl, "seal");
    return rg_lua_call(ctx, tpl->lua, 0, 0);
}

rg_status rg_tpl_open(rg_ctx *ctx, const rg_target *target, rg_tpl **result) {
    rg_tpl *tpl = calloc(1, sizeof *tpl);
    if (!tpl) return rg_nomem(ctx);
    rg_status status = rg_lua_open(ctx, (rg_lua_limits){0}, &tpl->lua);
    tpl->isa = strdup(target->isa);
    if (status == RG_OK && !tpl->isa) status = rg_nomem(ctx);
    tpl->ctx = ctx;
    if (status == RG_OK) status = fill_state(ctx, tpl, target);
    if (status == RG_OK)
        *result = tpl;
    else
        rg_tpl_close(tpl);
    return status;
}

void rg_tpl_close(rg_tpl *tpl) {
    if (!tpl) return;
    rg_lua_close(tpl->lua);
    free(tpl->isa);
    free(tpl);
}

/* ---- rendering ---- */

rg_status rg_tpl_push_desc(rg_ctx *ctx, rg_tpl *tpl, const rg_kdesc *desc, bool with_variant) {
    rg_text text = {0};
    rg_text_add(&text, "return ");
    rg_kdesc_print(&text, desc, with_variant);
    rg_status status = text.failed
                           ? rg_nomem(ctx)
                           : rg_lua_compile(ctx, tpl->lua, text.data, text.length, desc->name);
    rg_text_free(&text);
    RG_TRY(status);
    return rg_lua_call(ctx, tpl->lua, 0, 1);
}

static rg_status take_text(rg_ctx *ctx, lua_State *state, rg_text *out) {
    size_t length;
    const char *text = lua_tolstring(state, -1, &length);
    rg_text_add_bytes(out, text, length);
    return out->failed ? rg_nomem(ctx) : RG_OK;
}

static rg_status render(rg_ctx *ctx, rg_tpl *tpl, const rg_kdesc *desc, const char *symbol,
                        rg_text *out) {
    lua_State *state = rg_lua_state(tpl->lua);
    rg_tpl_push_engine(tpl, "render");
    lua_pushstring(state, desc->variant.file);
    RG_TRY(rg_tpl_push_desc(ctx, tpl, desc, true));
    lua_pushstring(state, symbol);
    RG_TRY(rg_lua_call(ctx, tpl->lua, 3, 1));
    return take_text(ctx, state, out);
}

rg_status rg_tpl_render(rg_ctx *ctx, rg_tpl *tpl, const rg_kdesc *desc, const char *symbol,
                        rg_text *out) {
    if (!desc->variant.name)
        return rg_fail(ctx, RG_E_INTERNAL, "kernel '%s' has no variant", desc->name);
    tpl->ctx = ctx;
    rg_status status = render(ctx, tpl, desc, symbol, out);
    lua_settop(rg_lua_state(tpl->lua), 0);
    return status;
}

rg_status rg_tpl_text(rg_ctx *ctx, rg_tpl *tpl, const char *body, rg_text *out) {
    lua_State *state = rg_lua_state(tpl->lua);
    tpl->ctx = ctx;
    rg_tpl_push_engine(tpl, "render");
    lua_pushstring(state, "cu_text.cu.tpl");
    lua_pushnil(state);
    lua_pushstring(state, body);
    rg_status status = rg_lua_call(ctx, tpl->lua, 3, 1);
    if (status == RG_OK) status = take_text(ctx, state, out);
    lua_settop(state, 0);
    return status;
}
