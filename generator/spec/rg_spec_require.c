#include <lauxlib.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rg_spec_build.h"

enum { DEPTH_MOST = 8, NAME_MOST = 64 };
/* Registry: name of a module -> what it returned; false while it is being loaded. */
#define MODULES_TABLE "rg.modules"

rg_status rg_spec_read(rg_builder *b, const char *path, char **text, size_t *length) {
    RG_TRY(rg_file_read(b->ctx, b->ctx->arena, path, RG_SPEC_FILE_BYTES, text, length));
    rg_text_add(&b->read, "%zu\n", *length);
    rg_text_add_bytes(&b->read, *text, *length);
    return b->read.failed ? rg_nomem(b->ctx) : RG_OK;
}

/* ---- where a module may be ---- */

/* Words of letters, digits and _ with single dots between them: no way out of the folders. */
static bool module_name_is_plain(const char *name) {
    size_t length = strlen(name);
    if (length == 0 || length > NAME_MOST || name[0] == '.' || name[length - 1] == '.')
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.") == length && !strstr(name, "..");
}

/* How many folders above the spec's is one called `specs`; 0 where there is none. */
static int levels_to_root(const char *folder) {
    char real[PATH_MAX];
    if (!realpath(folder, real)) return 0;
    int levels = 0;
    for (char *slash; (slash = strrchr(real, '/')) && levels < DEPTH_MOST; levels++) {
        if (strcmp(slash + 1, "specs") == 0) return levels;
        *slash = '\0';
    }
    return 0;
}

static const char *parent_of(rg_builder *b, const char *folder) {
    const char *slash = strrchr(folder, '/'), *last = slash ? slash + 1 : folder;
    char *parent;
    if (strcmp(last, "..") == 0)
        parent = rg_arena_printf(b->ctx->arena, "%s/..", folder);
    else if (strcmp(folder, ".") == 0)
        parent = rg_arena_strdup(b->ctx->arena, "..");
    else if (!slash)
        parent = rg_arena_strdup(b->ctx->arena, ".");
    else
        parent = rg_arena_printf(b->ctx->arena, "%.*s", slash == folder ? 1 : (int)(slash - folder),
                                 folder);
    return rg_builder_need(b, parent);
}

static const char *folder_of(rg_builder *b, const char *path) {
    return strchr(path, '/') ? parent_of(b, path) : ".";
}

/* "folder/" to put before a name; nothing for the current folder. */
static const char *file_in(rg_builder *b, const char *folder, const char *lib, const char *file) {
    bool here = strcmp(folder, ".") == 0;
    char *path = rg_arena_printf(b->ctx->arena, "%s%s%s%s.lua", here ? "" : folder, here ? "" : "/",
                                 lib, file);
    rg_builder_need(b, path);
    return access(path, R_OK) == 0 ? path : NULL;
}

/* Beside the spec, in its lib/, then in the lib/ of each folder up to `specs`. */
static const char *find_module(rg_builder *b, const char *name) {
    char *file = rg_builder_need(b, rg_arena_strdup(b->ctx->arena, name));
    for (char *at = file; *at; at++)
        if (*at == '.') *at = '/';
    const char *folder = folder_of(b, b->path);
    const char *path = file_in(b, folder, "", file);
    int levels = levels_to_root(folder);
    for (int i = 0; !path && i <= levels; i++) {
        path = file_in(b, folder, "lib/", file);
        folder = parent_of(b, folder);
    }
    return path;
}

/* ---- require ---- */

/* Runs the file; leaves what it returned. */
static void load_module(rg_builder *b, const char *name, const char *path) {
    lua_State *state = rg_lua_state(b->lua);
    char *text;
    size_t length;
    rg_status status = rg_spec_read(b, path, &text, &length);
    if (status == RG_OK) status = rg_lua_compile(b->ctx, b->lua, text, length, path);
    if (status != RG_OK) rg_builder_stop(b, status);
    lua_pushstring(state, name);
    lua_call(state, 1, 1);
    if (lua_isnil(state, -1)) luaL_error(state, "module '%s' returns nothing", name);
}

static int require_module(lua_State *state) {
    rg_builder *b = rg_builder_of(state);
    const char *name = luaL_checkstring(state, 1);
    if (!module_name_is_plain(name))
        return luaL_error(state,
                          "require: a module's name has lower-case letters, digits, _ and single "
                          "dots, found '%s'",
                          name);
    luaL_getsubtable(state, LUA_REGISTRYINDEX, MODULES_TABLE);
    int known = lua_getfield(state, -1, name);
    if (known == LUA_TBOOLEAN && !lua_toboolean(state, -1))
        return luaL_error(state, "require: module '%s' requires itself", name);
    if (known != LUA_TNIL) return 1;
    lua_pop(state, 1);
    const char *path = find_module(b, name);
    if (!path) return luaL_error(state, "require: no module '%s' beside the spec or in lib/", name);
    lua_pushboolean(state, 0);
    lua_setfield(state, -2, name);
    load_module(b, name, path);
    lua_pushvalue(state, -1);
    lua_setfield(state, -3, name);
    return 1;
}

void rg_spec_require_open(rg_builder *b) {
    lua_pushcfunction(rg_lua_state(b->lua), require_module);
    lua_setglobal(rg_lua_state(b->lua), "require");
}
