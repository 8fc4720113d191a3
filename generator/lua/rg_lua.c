#include "rg_lua.h"

#include <ctype.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rg_lua_lib.h"

/* Instructions between two looks at the limits. */
enum { HOOK_STEP = 100 };
/* A guarded program's processor time: a second fence, far behind the count of instructions, for
 * operations that are one instruction but long (comparing long strings). */
enum { GUARD_SECONDS = 20 };

/* The chunks that were compiled: messages have shortened names, diagnostics whole ones. */
typedef struct chunk {
    struct chunk *next;
    char short_name[LUA_IDSIZE];
    char name[];
} chunk;

struct rg_lua {
    lua_State *state;
    rg_lua_limits limits;
    size_t used;
    uint64_t steps;
    double start_seconds;
    bool spent;             /* the instruction limit was reached; nothing runs any more */
    bool refused;           /* the memory limit refused a block in this call */
    rg_status abort;        /* what rg_lua_abort left */
    char place[LUA_IDSIZE]; /* where memory was refused */
    int place_line;
    chunk *chunks;
};

static const char abort_mark; /* its address is the error value of rg_lua_abort */

static rg_lua *owner(lua_State *state) {
    return *(rg_lua **)lua_getextraspace(state);
}

/* ---- limits ---- */

static double cpu_seconds(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) != 0) return 0;
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Notes the innermost line of Lua: allocates nothing, so it may run inside the allocator. */
static void note_place(rg_lua *lua) {
    lua_Debug frame;
    lua->place_line = 0;
    for (int level = 0; lua->state && lua_getstack(lua->state, level, &frame); level++) {
        lua_getinfo(lua->state, "Sl", &frame);
        if (frame.currentline <= 0) continue;
        memcpy(lua->place, frame.short_src, sizeof lua->place);
        lua->place_line = frame.currentline;
        return;
    }
}

static void *limited_alloc(void *user, void *block, size_t old_size, size_t new_size) {
    rg_lua *lua = user;
    size_t old = block ? old_size : 0, limit = lua->limits.memory_bytes;
    if (new_size == 0) {
        free(block);
        lua->used -= old;
        return NULL;
    }
    if (limit && new_size > old && (new_size > limit / 4 || lua->used - old > limit - new_size)) {
        lua->refused = true;
        note_place(lua);
        return NULL;
    }
    void *moved = realloc(block, new_size);
    if (moved) lua->used += new_size - old;
    return moved;
}

static void count_hook(lua_State *state, lua_Debug *frame) {
    rg_lua *lua = owner(state);
    if (!lua->spent) {
        lua->steps += HOOK_STEP;
        bool late = lua->steps % 1000 == 0 && cpu_seconds() - lua->start_seconds > GUARD_SECONDS;
        if (lua->steps < lua->limits.instructions && !late) return;
        lua->spent = true;
        /* From here on every instruction fails, so that no pcall can carry on. */
        lua_sethook(state, count_hook, LUA_MASKCOUNT, 1);
    }
    lua_getinfo(state, "Sl", frame);
    lua_pushfstring(state, "%s:%d: more than %I instructions: an endless loop?", frame->short_src,
                    frame->currentline, (LUAI_UACINT)lua->limits.instructions);
    lua_error(state);
}

/* ---- open and close ---- */

static int open_protected(lua_State *state) {
    rg_lua_lib_open(state, owner(state)->limits.instructions != 0);
    return 0;
}

rg_status rg_lua_open(rg_ctx *ctx, rg_lua_limits limits, rg_lua **result) {
    rg_lua *lua = calloc(1, sizeof *lua);
    if (!lua) return rg_nomem(ctx);
    lua->limits = limits;
    lua->state = lua_newstate(limited_alloc, lua);
    if (!lua->state) {
        free(lua);
        return rg_nomem(ctx);
    }
    *(rg_lua **)lua_getextraspace(lua->state) = lua;
    lua_pushcfunction(lua->state, open_protected);
    if (lua_pcall(lua->state, 0, 0, 0) != LUA_OK) {
        rg_lua_close(lua);
        return rg_nomem(ctx);
    }
    lua->start_seconds = cpu_seconds();
    if (limits.instructions) lua_sethook(lua->state, count_hook, LUA_MASKCOUNT, HOOK_STEP);
    *result = lua;
    return RG_OK;
}

void rg_lua_close(rg_lua *lua) {
    if (!lua) return;
    lua_close(lua->state);
    for (chunk *at = lua->chunks, *next; at; at = next) {
        next = at->next;
        free(at);
    }
    free(lua);
}

lua_State *rg_lua_state(rg_lua *lua) {
    return lua->state;
}

/* ---- from messages to diagnostics ---- */

/* Splits "file:line: text"; *text is the whole message where there is no place. */
static int split_place(const char *message, size_t *file_length, const char **text) {
    *text = message;
    for (const char *at = strchr(message, ':'); at; at = strchr(at + 1, ':')) {
        const char *end = at + 1;
        while (isdigit((unsigned char)*end)) end++;
        if (end == at + 1 || end[0] != ':' || end[1] != ' ') continue;
        *file_length = (size_t)(at - message);
        *text = end + 2;
        return atoi(at + 1);
    }
    return 0;
}

static const char *whole_name(const rg_lua *lua, const char *short_name, size_t length) {
    for (const chunk *at = lua->chunks; at; at = at->next)
        if (strlen(at->short_name) == length && memcmp(at->short_name, short_name, length) == 0)
            return at->name;
    return NULL;
}

static rg_status report_message(rg_ctx *ctx, const rg_lua *lua, rg_status status,
                                const char *message) {
    const char *text;
    size_t length = 0;
    int line = split_place(message, &length, &text);
    const char *file = line > 0 ? whole_name(lua, message, length) : NULL;
    if (!file) return rg_fail(ctx, status, "%s", message);
    return rg_error(ctx, status, (rg_loc){file, line}, "%s", text);
}

static rg_status report_memory(rg_ctx *ctx, const rg_lua *lua, const char *name) {
    if (!lua->refused) return rg_nomem(ctx);
    if (lua->place_line > 0) name = whole_name(lua, lua->place, strlen(lua->place));
    return rg_error(ctx, RG_E_LIMIT, (rg_loc){name, name ? lua->place_line : 0},
                    "more memory than %zu MB in all or %zu MB in one piece",
                    lua->limits.memory_bytes >> 20, lua->limits.memory_bytes >> 22);
}

/* ---- compile and call ---- */

static rg_status remember_chunk(rg_ctx *ctx, rg_lua *lua, const char *name) {
    lua_Debug info;
    chunk *added = malloc(sizeof *added + strlen(name) + 1);
    if (!added) return rg_nomem(ctx);
    lua_pushvalue(lua->state, -1);
    lua_getinfo(lua->state, ">S", &info);
    memcpy(added->short_name, info.short_src, sizeof added->short_name);
    strcpy(added->name, name);
    added->next = lua->chunks;
    lua->chunks = added;
    return RG_OK;
}

static rg_status report_syntax(rg_ctx *ctx, rg_lua *lua, const char *name) {
    const char *message = lua_tostring(lua->state, -1), *text;
    size_t length;
    int line = split_place(message ? message : "unreadable chunk", &length, &text);
    rg_status status = rg_error(ctx, RG_E_SYNTAX, (rg_loc){name, line}, "%s", text);
    lua_pop(lua->state, 1);
    return status;
}

rg_status rg_lua_compile(rg_ctx *ctx, rg_lua *lua, const char *text, size_t length,
                         const char *name) {
    if (!lua_checkstack(lua->state, 4)) return rg_nomem(ctx);
    char *label = rg_arena_printf(ctx->arena, "@%s", name);
    if (!label) return rg_nomem(ctx);
    lua->refused = false;
    int failed = luaL_loadbufferx(lua->state, text, length, label, "t");
    if (failed == LUA_ERRMEM) {
        lua_pop(lua->state, 1);
        return report_memory(ctx, lua, name);
    }
    if (failed) return report_syntax(ctx, lua, name);
    return remember_chunk(ctx, lua, name);
}

static rg_status report_call(rg_ctx *ctx, rg_lua *lua, int failed) {
    if (failed == LUA_ERRMEM) return report_memory(ctx, lua, NULL);
    if (lua_touserdata(lua->state, -1) == &abort_mark) return lua->abort;
    rg_status status = lua->spent                 ? RG_E_LIMIT
                       : lua->limits.instructions ? RG_E_SPEC
                                                  : RG_E_INTERNAL;
    if (lua_type(lua->state, -1) == LUA_TSTRING) {
        const char *message = lua_tostring(lua->state, -1);
        return report_message(ctx, lua, strstr(message, "stack overflow") ? RG_E_LIMIT : status,
                              message);
    }
    return rg_fail(ctx, status, "the program raised a %s value as an error",
                   lua_typename(lua->state, lua_type(lua->state, -1)));
}

rg_status rg_lua_call(rg_ctx *ctx, rg_lua *lua, int args, int results) {
    lua->refused = false;
    int failed = lua_pcall(lua->state, args, results, 0);
    if (!failed && lua->spent) {
        lua_settop(lua->state, 0);
        return rg_fail(ctx, RG_E_LIMIT, "more than %llu instructions: an endless loop?",
                       (unsigned long long)lua->limits.instructions);
    }
    if (!failed) return RG_OK;
    rg_status status = report_call(ctx, lua, failed);
    lua_pop(lua->state, 1);
    return status;
}

int rg_lua_abort(lua_State *state, rg_status status) {
    owner(state)->abort = status;
    lua_pushlightuserdata(state, (void *)(uintptr_t)&abort_mark);
    return lua_error(state);
}
