#include "rg_lua_lib.h"

#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

/* The longest text that string.rep makes, and the most repetitions (of "", too). */
enum { REP_LIMIT = 1 << 20 };
/* The most keys of a table that `pairs` sorts. */
enum { PAIRS_LIMIT = 1 << 16 };

/* ---- functions that we replace ---- */

/* string.rep loops n times even over an empty text: bounded here. Upvalue 1: the library's own. */
static int bounded_rep(lua_State *state) {
    size_t length, separator = 0;
    luaL_checklstring(state, 1, &length);
    lua_Integer times = luaL_checkinteger(state, 2);
    luaL_optlstring(state, 3, "", &separator);
    size_t piece = length + separator;
    if (times > REP_LIMIT || (times > 0 && piece > (size_t)REP_LIMIT / (size_t)times))
        return luaL_error(state, "string.rep: a text of more than %d bytes", REP_LIMIT);
    lua_pushvalue(state, lua_upvalueindex(1));
    lua_insert(state, 1);
    lua_call(state, lua_gettop(state) - 1, 1);
    return 1;
}

static int key_rank(lua_State *state, int index) {
    int type = lua_type(state, index);
    return type == LUA_TNUMBER ? 0 : type == LUA_TSTRING ? 1 : 2;
}

/* The order of `pairs`. */
static int key_before(lua_State *state) {
    int left = key_rank(state, 1), right = key_rank(state, 2);
    bool before = left != right ? left < right : left < 2 && lua_compare(state, 1, 2, LUA_OPLT);
    lua_pushboolean(state, before);
    return 1;
}

/* Upvalues: table, sorted keys, position. Keys that were removed on the way are passed over. */
static int pairs_step(lua_State *state) {
    for (;;) {
        lua_Integer at = lua_tointeger(state, lua_upvalueindex(3)) + 1;
        lua_pushinteger(state, at);
        lua_replace(state, lua_upvalueindex(3));
        if (lua_rawgeti(state, lua_upvalueindex(2), at) == LUA_TNIL) return 1;
        lua_pushvalue(state, -1);
        if (lua_rawget(state, lua_upvalueindex(1)) != LUA_TNIL) return 2;
        lua_pop(state, 2);
    }
}

/* Upvalue 1: table.sort. */
static int sorted_pairs(lua_State *state) {
    luaL_checktype(state, 1, LUA_TTABLE);
    lua_settop(state, 1);
    lua_newtable(state);
    lua_Integer count = 0;
    for (lua_pushnil(state); lua_next(state, 1); lua_pop(state, 1)) {
        lua_pushvalue(state, -2);
        lua_rawseti(state, 2, ++count);
        if (count > PAIRS_LIMIT)
            return luaL_error(state, "pairs: a table of more than %d keys", PAIRS_LIMIT);
    }
    lua_pushvalue(state, lua_upvalueindex(1));
    lua_pushvalue(state, 2);
    lua_pushcfunction(state, key_before);
    lua_call(state, 2, 0);
    lua_pushinteger(state, 0);
    lua_pushcclosure(state, pairs_step, 3);
    return 1;
}

/* ---- what a state has ---- */

/* Names taken out of each library; a guarded state loses both lists. */
typedef struct removal {
    const char *library; /* "_G": the globals */
    const char *always[8];
    const char *guarded[8];
} removal;

static const removal removals[] = {
    {"_G",
     {"dofile", "load", "loadfile", "collectgarbage", "print", "warn"},
     {"getmetatable", "setmetatable", "xpcall", "next", "rawset", "rawget", "rawequal"}},
    {"string", {"dump"}, {"find", "match", "gmatch", "gsub", "pack", "unpack", "packsize"}},
    {"table", {NULL}, {"move", "sort"}},
    {"math", {"random", "randomseed"}, {NULL}},
};

static void remove_names(lua_State *state, const char *const *names) {
    for (int i = 0; i < 8 && names[i]; i++) {
        lua_pushnil(state);
        lua_setfield(state, -2, names[i]);
    }
}

static void wrap_function(lua_State *state, const char *library, const char *name,
                          lua_CFunction wrapper) {
    lua_getglobal(state, library);
    lua_getfield(state, -1, name);
    lua_pushcclosure(state, wrapper, 1);
    lua_setfield(state, -2, name);
    lua_pop(state, 1);
}

/* All texts share one metatable: nobody may get at it. */
static void lock_string_metatable(lua_State *state) {
    lua_pushliteral(state, "");
    if (lua_getmetatable(state, -1)) {
        lua_pushboolean(state, 0);
        lua_setfield(state, -2, "__metatable");
        lua_pop(state, 1);
    }
    lua_pop(state, 1);
}

void rg_lua_lib_open(lua_State *state, bool guarded) {
    static const luaL_Reg libraries[] = {
        {LUA_GNAME, luaopen_base},
        {LUA_STRLIBNAME, luaopen_string},
        {LUA_TABLIBNAME, luaopen_table},
        {LUA_MATHLIBNAME, luaopen_math},
    };
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        luaL_requiref(state, libraries[i].name, libraries[i].func, 1);
        lua_pop(state, 1);
    }
    wrap_function(state, "string", "rep", bounded_rep);
    lua_getglobal(state, "table");
    lua_getfield(state, -1, "sort");
    lua_pushcclosure(state, sorted_pairs, 1);
    lua_setglobal(state, "pairs");
    lua_pop(state, 1);
    lock_string_metatable(state);
    for (size_t i = 0; i < sizeof removals / sizeof *removals; i++) {
        lua_getglobal(state, removals[i].library);
        remove_names(state, removals[i].always);
        if (guarded) remove_names(state, removals[i].guarded);
        lua_pop(state, 1);
    }
}
