#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "rg_spec_build.h"

static const char registry_key; /* its address is the key of the builder in the registry */

void rg_builder_register(lua_State *state, rg_builder *b) {
    lua_pushlightuserdata(state, b);
    lua_rawsetp(state, LUA_REGISTRYINDEX, &registry_key);
}

rg_builder *rg_builder_of(lua_State *state) {
    lua_rawgetp(state, LUA_REGISTRYINDEX, &registry_key);
    rg_builder *b = lua_touserdata(state, -1);
    lua_pop(state, 1);
    return b;
}

void rg_builder_stop(rg_builder *b, rg_status status) {
    rg_lua_abort(rg_lua_state(b->lua), status);
    __builtin_unreachable();
}

void *rg_builder_need(rg_builder *b, void *pointer) {
    if (!pointer) rg_builder_stop(b, rg_nomem(b->ctx));
    return pointer;
}

/* The innermost line of the spec itself; a library's line stands beside it. */
rg_place rg_builder_place(rg_builder *b) {
    lua_State *state = rg_lua_state(b->lua);
    rg_place place = {0};
    lua_Debug frame;
    for (int level = 0; lua_getstack(state, level, &frame); level++) {
        lua_getinfo(state, "Sl", &frame);
        if (frame.currentline <= 0) continue;
        if (strcmp(frame.source + 1, b->path) == 0) {
            place.loc = (rg_loc){b->path, frame.currentline};
            return place;
        }
        if (!place.via.file) {
            char *file = rg_builder_need(b, rg_arena_strdup(b->ctx->arena, frame.source + 1));
            place.via = (rg_loc){file, frame.currentline};
        }
    }
    place.loc = place.via.file ? place.via : (rg_loc){b->path, 0};
    place.via = (rg_loc){NULL, 0};
    return place;
}

void rg_builder_error(rg_builder *b, rg_status status, const rg_place *place, const char *format,
                      ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (b->ctx->count - b->errors_before >= RG_SPEC_ERRORS)
        rg_builder_stop(b, rg_error(b->ctx, RG_E_LIMIT, place->loc,
                                    "more than %d errors: the rest is left out", RG_SPEC_ERRORS));
    if (place->via.file)
        rg_error(b->ctx, status, place->loc, "%s (at %s:%d)", text, place->via.file,
                 place->via.line);
    else
        rg_error(b->ctx, status, place->loc, "%s", text);
}

/* ---- words ---- */

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Levenshtein's distance of two words of at most RG_SPEC_NAME characters. */
static size_t word_distance(const char *a, const char *b) {
    size_t row[RG_SPEC_NAME + 1], columns = strlen(b);
    for (size_t j = 0; j <= columns; j++) row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < columns; j++) {
            size_t above = row[j + 1];
            size_t replaced = diagonal + (a[i] != b[j]);
            row[j + 1] = least(least(above, row[j]) + 1, replaced);
            diagonal = above;
        }
    }
    return row[columns];
}

const char *rg_spec_suggest(rg_builder *b, const char *word, const char *const *names,
                            size_t count) {
    const char *best = NULL;
    size_t best_distance = 3, length = strlen(word);
    if (length < 2 || length > RG_SPEC_NAME) return "";
    for (size_t i = 0; i < count && names[i]; i++) {
        if (strlen(names[i]) > RG_SPEC_NAME) continue;
        size_t distance = word_distance(word, names[i]);
        /* Two letters may be wrong, but never half of the word. */
        if (distance >= best_distance || 2 * distance > length) continue;
        best_distance = distance;
        best = names[i];
    }
    if (!best) return "";
    return rg_builder_need(b, rg_arena_printf(b->ctx->arena, " (did you mean '%s'?)", best));
}

const char *rg_spec_describe(rg_builder *b, int index) {
    lua_State *state = rg_lua_state(b->lua);
    int type = lua_type(state, index);
    char *text;
    if (type == LUA_TNUMBER) {
        lua_pushvalue(state, index);
        text = rg_arena_strdup(b->ctx->arena, lua_tostring(state, -1));
        lua_pop(state, 1);
    } else if (type == LUA_TSTRING) {
        text = rg_arena_printf(b->ctx->arena, "'%.40s'", lua_tostring(state, index));
    } else if (type == LUA_TBOOLEAN) {
        return lua_toboolean(state, index) ? "true" : "false";
    } else if (type == LUA_TUSERDATA) {
        return "a value of the network";
    } else if (type == LUA_TNIL || type == LUA_TNONE) {
        return "nil";
    } else {
        text = rg_arena_printf(b->ctx->arena, "a %s", lua_typename(state, type));
    }
    return rg_builder_need(b, text);
}
