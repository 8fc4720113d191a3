/* What programs in our Lua states can call. */
#ifndef RG_LUA_LIB_H
#define RG_LUA_LIB_H

#include <lua.h>
#include <stdbool.h>

/* Fills the globals of a fresh state. Raises Lua errors: run it protected. */
void rg_lua_lib_open(lua_State *state, bool guarded);

#endif
