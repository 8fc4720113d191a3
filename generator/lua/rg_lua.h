/* Lua states with limits: specs (untrusted) and templates (ours) both run in one of these. */
#ifndef RG_LUA_H
#define RG_LUA_H

#include <lua.h>

#include "rg_base.h"

typedef struct rg_lua_limits {
    size_t memory_bytes;   /* 0: none. A single block may have a quarter of it */
    uint64_t instructions; /* 0: none. Otherwise the state is a guarded one */
} rg_lua_limits;

typedef struct rg_lua rg_lua;

/* A state with base (no dofile, load, loadfile, collectgarbage, print, warn), string (no dump; rep
 * is bounded), table and math (no random); nothing else. `pairs` visits numbers, then strings, in
 * ascending order, so that two runs make the same text. A guarded state also lacks whatever would
 * let a program run on in C where no instruction is counted: metatables (finalisers run without
 * hooks), patterns (find, match, gmatch, gsub), xpcall, next, table.move and table.sort. Owner:
 * caller, rg_lua_close. */
rg_status rg_lua_open(rg_ctx *ctx, rg_lua_limits limits, rg_lua **lua) RG_CHECKED;
void rg_lua_close(rg_lua *lua);
lua_State *rg_lua_state(rg_lua *lua);
/* Compiles a text chunk (never bytecode) and leaves the function on the stack. `name` is the file's
 * name in messages. Errors: RG_E_SYNTAX with file:line. */
rg_status rg_lua_compile(rg_ctx *ctx, rg_lua *lua, const char *text, size_t length,
                         const char *name) RG_CHECKED;
/* pcall; a Lua error "file:line: text" becomes a diagnostic with that place: RG_E_SPEC in a guarded
 * state, RG_E_INTERNAL in one without limits (its programs are ours). Limits: RG_E_LIMIT, even
 * where the program caught the error. */
rg_status rg_lua_call(rg_ctx *ctx, rg_lua *lua, int args, int results) RG_CHECKED;
/* For C functions that have recorded their diagnostic already: leaves the running program;
 * rg_lua_call returns `status` and records nothing more. Does not return. */
int rg_lua_abort(lua_State *state, rg_status status);

#endif
