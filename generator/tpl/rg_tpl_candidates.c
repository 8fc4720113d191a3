/* The variants that apply to a description: asked in Lua, copied into the context's arena. */
#include <math.h>
#include <string.h>

#include <lauxlib.h>

#include "rg_tpl_impl.h"

static int32_t get_int(lua_State *state, const char *name) {
    lua_getfield(state, -1, name);
    lua_Integer value = lua_tointeger(state, -1);
    lua_pop(state, 1);
    return (int32_t)value;
}

/* A field's text in the arena; NULL where it is absent, or where memory runs out (*failed). */
static const char *get_text(rg_ctx *ctx, lua_State *state, const char *name, bool *failed) {
    lua_getfield(state, -1, name);
    const char *text = lua_tostring(state, -1);
    char *copy = text ? rg_arena_strdup(ctx->arena, text) : NULL;
    if (text && !copy) *failed = true;
    lua_pop(state, 1);
    return copy;
}

static bool read_params(rg_ctx *ctx, lua_State *state, rg_kvariant *variant) {
    bool failed = false;
    lua_getfield(state, -1, "param");
    variant->param_count = (int32_t)lua_rawlen(state, -1);
    variant->param = RG_NEW_ARRAY(ctx->arena, rg_kparam, variant->param_count);
    if (!variant->param) failed = true;
    for (int32_t i = 0; !failed && i < variant->param_count; i++) {
        lua_rawgeti(state, -1, i + 1);
        variant->param[i].name = get_text(ctx, state, "name", &failed);
        variant->param[i].value = get_int(state, "value");
        lua_pop(state, 1);
    }
    lua_pop(state, 1);
    return !failed;
}

static bool get_bool(lua_State *state, const char *name) {
    lua_getfield(state, -1, name);
    bool value = lua_toboolean(state, -1);
    lua_pop(state, 1);
    return value;
}

/* The candidate on top of the stack. */
static rg_status read_candidate(rg_ctx *ctx, const rg_tpl *tpl, lua_State *state,
                                rg_candidate *to) {
    bool failed = false;
    rg_kvariant *variant = &to->variant;
    variant->name = get_text(ctx, state, "name", &failed);
    variant->file = get_text(ctx, state, "file", &failed);
    variant->isa = rg_arena_strdup(ctx->arena, tpl->isa);
    variant->tiles_per_block = get_int(state, "tiles_per_block");
    variant->tiles_fixed = get_int(state, "tiles_fixed");
    variant->parts_per_block = get_int(state, "parts_per_block");
    variant->threads = get_int(state, "threads");
    variant->shared_bytes = get_int(state, "shared_bytes");
    variant->counters = get_int(state, "counters");
    lua_getfield(state, -1, "scratch_floats");
    variant->scratch_floats = lua_tointeger(state, -1);
    lua_getfield(state, -2, "cost_us");
    variant->cost_us = lua_tonumber(state, -1);
    lua_pop(state, 2);
    variant->complete = get_bool(state, "complete");
    to->weights = get_text(ctx, state, "weights", &failed);
    to->wino_m = get_int(state, "wino_m");
    failed |= !read_params(ctx, state, variant) || !variant->isa;
    return failed ? rg_nomem(ctx) : RG_OK;
}

/* Of row number `place` in the list. */
static bool row_has_instances(lua_State *state, int32_t place) {
    lua_getfield(state, LUA_REGISTRYINDEX, "variants.lua");
    lua_rawgeti(state, -1, place);
    bool has = get_bool(state, "instances");
    lua_pop(state, 2);
    return has;
}

static void set_dgrad(lua_State *state, bool dgrad) {
    lua_getglobal(state, "t");
    lua_pushboolean(state, dgrad);
    lua_setfield(state, -2, "dgrad");
    lua_pop(state, 1);
}

/* Leaves the list on the stack. Equal descriptions, of which a network has many, are planned once:
 * `text` is the description's. */
static rg_status push_candidates(rg_ctx *ctx, rg_tpl *tpl, const rg_kdesc *desc, bool dgrad,
                                 const char *text) {
    lua_State *state = rg_lua_state(tpl->lua);
    luaL_getsubtable(state, LUA_REGISTRYINDEX, dgrad ? "planned dgrads" : "planned");
    if (lua_getfield(state, -1, text) == LUA_TTABLE) return RG_OK;
    set_dgrad(state, dgrad);
    rg_tpl_push_engine(tpl, "candidates");
    lua_getfield(state, LUA_REGISTRYINDEX, "variants.lua");
    RG_TRY(rg_tpl_push_desc(ctx, tpl, desc, false));
    RG_TRY(rg_lua_call(ctx, tpl->lua, 2, 1));
    lua_pushvalue(state, -1);
    lua_setfield(state, 1, text);
    return RG_OK;
}

static rg_status read_list(rg_ctx *ctx, rg_tpl *tpl, rg_candidate **list, int32_t *count) {
    lua_State *state = rg_lua_state(tpl->lua);
    *count = (int32_t)lua_rawlen(state, -1);
    *list = RG_NEW_ARRAY(ctx->arena, rg_candidate, *count + 1);
    if (!*list) return rg_nomem(ctx);
    for (int32_t i = 0; i < *count; i++) {
        lua_rawgeti(state, -1, i + 1);
        RG_TRY(read_candidate(ctx, tpl, state, &(*list)[i]));
        (*list)[i].instances = row_has_instances(state, get_int(state, "place"));
        lua_pop(state, 1);
    }
    return RG_OK;
}

/* *count 0: no variant applies. */
static rg_status ask(rg_ctx *ctx, rg_tpl *tpl, const rg_kdesc *desc, bool dgrad,
                     rg_candidate **list, int32_t *count) {
    rg_text text = {0};
    tpl->ctx = ctx;
    rg_kdesc_print(&text, desc, false);
    rg_status status =
        text.failed ? rg_nomem(ctx) : push_candidates(ctx, tpl, desc, dgrad, text.data);
    rg_text_free(&text);
    if (status == RG_OK) status = read_list(ctx, tpl, list, count);
    lua_settop(rg_lua_state(tpl->lua), 0);
    return status;
}

rg_status rg_tpl_candidates(rg_ctx *ctx, rg_tpl *tpl, const rg_kdesc *desc, bool dgrad,
                            rg_candidate **list, int32_t *count) {
    RG_TRY(ask(ctx, tpl, desc, dgrad, list, count));
    if (*count > 0) return RG_OK;
    return rg_fail(ctx, RG_E_UNSUPPORTED, "no %s variant applies to kernel '%s'", tpl->isa,
                   desc->name);
}

rg_status rg_tpl_cheapest_us(rg_ctx *ctx, rg_tpl *tpl, const rg_kdesc *desc, bool dgrad,
                             double *us) {
    rg_candidate *list;
    int32_t count;
    RG_TRY(ask(ctx, tpl, desc, dgrad, &list, &count));
    *us = count > 0 ? list[0].variant.cost_us : (double)INFINITY;
    return RG_OK;
}

rg_status rg_tpl_check_only(rg_ctx *ctx, rg_tpl *tpl, const rg_target *target) {
    lua_State *state = rg_lua_state(tpl->lua);
    rg_status status = RG_OK;
    if (!target->only) return RG_OK;
    rg_tpl_push_engine(tpl, "unknown_variant");
    lua_getfield(state, LUA_REGISTRYINDEX, "variants.lua");
    RG_TRY(rg_lua_call(ctx, tpl->lua, 1, 2));
    const char *name = lua_tostring(state, -2);
    if (name)
        status = rg_fail(ctx, RG_E_USAGE,
                         "--variant=%s: target %s has no variant '%s', expected one of %s",
                         target->only, target->name, name, lua_tostring(state, -1));
    lua_settop(state, 0);
    return status;
}
