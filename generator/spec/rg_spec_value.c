#include <lauxlib.h>
#include <string.h>

#include "rg_spec_build.h"

#define VALUE_METATABLE "value"
const rg_spec_value rg_spec_poison = {-1, false};

void rg_spec_push(lua_State *state, rg_vid id, bool flat) {
    rg_spec_value *value = lua_newuserdatauv(state, sizeof *value, 0);
    *value = (rg_spec_value){id, flat};
    luaL_setmetatable(state, VALUE_METATABLE);
}

void rg_spec_push_poison(lua_State *state) {
    rg_spec_push(state, -1, false);
}

rg_spec_value *rg_spec_to_value(lua_State *state, int index) {
    return luaL_testudata(state, index, VALUE_METATABLE);
}

const char *rg_spec_shape(rg_builder *b, rg_type type) {
    rg_arena *arena = b->ctx->arena;
    const int32_t *d = type.dim;
    if (type.cls == RG_T_WEIGHT)
        return rg_builder_need(b, rg_arena_printf(arena, "[%d,%d,%d,%d]", d[0], d[3], d[1], d[2]));
    if (d[1] == 1 && d[2] == 1) return rg_builder_need(b, rg_arena_printf(arena, "[%d]", d[3]));
    return rg_builder_need(b, rg_arena_printf(arena, "[%d,%d,%d]", d[3], d[1], d[2]));
}

/* ---- unknown names ---- */

/* The text keys of the table on top of the stack, sorted: tables have no order of their own. */
static size_t collect_names(lua_State *state, const char **names, size_t room) {
    size_t count = 0;
    for (lua_pushnil(state); lua_next(state, -2); lua_pop(state, 1)) {
        if (lua_type(state, -2) != LUA_TSTRING || count == room) continue;
        const char *name = lua_tostring(state, -2);
        size_t at = count++;
        for (; at > 0 && strcmp(names[at - 1], name) > 0; at--) names[at] = names[at - 1];
        names[at] = name;
    }
    return count;
}

enum { MOST_NAMES = 256 };

/* Records "unknown KIND 'word'" with the nearest name of the table on top of the stack. */
static void report_unknown(rg_builder *b, const char *kind, const char *word) {
    const char *names[MOST_NAMES];
    rg_place place = rg_builder_place(b);
    size_t count = collect_names(rg_lua_state(b->lua), names, MOST_NAMES);
    const char *hint = rg_spec_suggest(b, word, names, count);
    if (!*hint && strcmp(kind, "name") == 0) hint = ": nothing has that name yet";
    rg_builder_error(b, RG_E_SPEC, &place, "unknown %s '%.64s'%s", kind, word, hint);
}

/* Names of Lua that a spec does without: it is not trusted. */
static bool is_withheld(const char *word) {
    static const char *const names[] = {
        "collectgarbage", "coroutine",  "debug",  "dofile",       "getmetatable", "io",    "load",
        "loadfile",       "loadstring", "next",   "os",           "package",      "pcall", "print",
        "rawequal",       "rawget",     "rawset", "setmetatable", "utf8",         "xpcall"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(word, names[i]) == 0) return true;
    return false;
}

/* A global that nobody set: an error, and poison to go on with. */
static int unknown_global(lua_State *state) {
    rg_builder *b = rg_builder_of(state);
    const char *word = lua_type(state, 2) == LUA_TSTRING ? lua_tostring(state, 2) : "?";
    if (is_withheld(word)) {
        rg_place place = rg_builder_place(b);
        rg_builder_error(b, RG_E_SPEC, &place, "'%s' is not available in a spec", word);
    } else {
        lua_pushglobaltable(state);
        report_unknown(b, "name", word);
    }
    rg_spec_push_poison(state);
    return 1;
}

/* ---- the metatable ---- */

/* value.height, value.width, value.channels: blocks may ask. */
static bool push_extent(rg_builder *b, const rg_spec_value *value, const char *field) {
    static const char *const fields[] = {"height", "width", "channels"};
    lua_State *state = rg_lua_state(b->lua);
    for (int i = 0; i < 3; i++) {
        if (strcmp(field, fields[i]) != 0) continue;
        if (value->id < 0)
            rg_spec_push_poison(state);
        else
            lua_pushinteger(state, b->graph->value[value->id].type.dim[i + 1]);
        return true;
    }
    return false;
}

static int value_index(lua_State *state) {
    rg_builder *b = rg_builder_of(state);
    const rg_spec_value *value = luaL_checkudata(state, 1, VALUE_METATABLE);
    const char *field = lua_type(state, 2) == LUA_TSTRING ? lua_tostring(state, 2) : "?";
    if (push_extent(b, value, field)) return 1;
    luaL_getsubtable(state, LUA_REGISTRYINDEX, RG_SPEC_OPS);
    if (lua_getfield(state, -1, field) != LUA_TNIL) return 1;
    lua_pop(state, 1);
    if (value->id >= 0) report_unknown(b, "op", field);
    rg_spec_push_poison(state);
    return 1;
}

static int value_newindex(lua_State *state) {
    return luaL_error(state, "a value of the network cannot be changed: ops give new values");
}

/* Poison may be called: it stands for a function that nobody knows. */
static int value_call(lua_State *state) {
    const rg_spec_value *value = luaL_checkudata(state, 1, VALUE_METATABLE);
    rg_builder *b = rg_builder_of(state);
    rg_place place = rg_builder_place(b);
    if (value->id >= 0)
        rg_builder_error(b, RG_E_SPEC, &place, "a value of the network is not a function");
    rg_spec_push_poison(state);
    return 1;
}

static int value_compare(lua_State *state) {
    const rg_spec_value *left = rg_spec_to_value(state, 1), *right = rg_spec_to_value(state, 2);
    bool poison = (left && left->id < 0) || (right && right->id < 0);
    if (!poison) return luaL_error(state, "values of the network have no order");
    lua_pushboolean(state, 0);
    return 1;
}

static int value_text(lua_State *state) {
    const rg_spec_value *value = luaL_checkudata(state, 1, VALUE_METATABLE);
    rg_builder *b = rg_builder_of(state);
    if (value->id < 0)
        lua_pushliteral(state, "value that could not be made");
    else
        lua_pushfstring(state, "value %s", rg_spec_shape(b, b->graph->value[value->id].type));
    return 1;
}

/* Every op is a method of values and a global function; unknown globals are an error. */
static void open_globals(lua_State *state) {
    luaL_getsubtable(state, LUA_REGISTRYINDEX, RG_SPEC_OPS);
    for (lua_pushnil(state); lua_next(state, -2); lua_pop(state, 1)) {
        lua_pushvalue(state, -1);
        lua_setglobal(state, lua_tostring(state, -3));
    }
    lua_pop(state, 1);
    lua_pushglobaltable(state);
    lua_newtable(state);
    lua_pushcfunction(state, unknown_global);
    lua_setfield(state, -2, "__index");
    lua_setmetatable(state, -2);
    lua_pop(state, 1);
}

void rg_spec_value_open(rg_builder *b) {
    static const luaL_Reg methods[] = {
        {"__index", value_index},
        {"__newindex", value_newindex},
        {"__call", value_call},
        {"__lt", value_compare},
        {"__le", value_compare},
        {"__tostring", value_text},
        {NULL, NULL},
    };
    static const struct {
        const char *event, *op;
    } operators[] = {
        {"__add", "add"}, {"__sub", "sub"}, {"__mul", "mul"}, {"__div", "div"}, {"__unm", "neg"}};
    lua_State *state = rg_lua_state(b->lua);
    luaL_newmetatable(state, VALUE_METATABLE);
    luaL_setfuncs(state, methods, 0);
    luaL_getsubtable(state, LUA_REGISTRYINDEX, RG_SPEC_OPS);
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        lua_getfield(state, -1, operators[i].op);
        lua_setfield(state, -3, operators[i].event);
    }
    lua_pop(state, 2);
    open_globals(state);
}
