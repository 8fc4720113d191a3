#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "rg_spec_build.h"

/* ---- names ---- */

/* The smallest text key of the table after `last` that is not among the names (tables have no order
 * of their own). */
static const char *next_unknown(rg_options *o, const char *last, const char *const *names,
                                size_t count) {
    lua_State *state = rg_lua_state(o->b->lua);
    const char *found = NULL;
    for (lua_pushnil(state); lua_next(state, o->index); lua_pop(state, 1)) {
        if (lua_type(state, -2) != LUA_TSTRING) continue;
        const char *key = lua_tostring(state, -2);
        bool known = false;
        for (size_t i = 0; i < count && names[i]; i++) known = known || strcmp(key, names[i]) == 0;
        if (known || (last && strcmp(key, last) <= 0) || (found && strcmp(key, found) >= 0))
            continue;
        found = key;
    }
    return found;
}

static bool has_unnamed(const rg_options *o) {
    lua_State *state = rg_lua_state(o->b->lua);
    for (lua_pushnil(state); lua_next(state, o->index); lua_pop(state, 1)) {
        if (lua_type(state, -2) == LUA_TSTRING) continue;
        lua_pop(state, 2);
        return true;
    }
    return false;
}

void rg_options_check_names(rg_options *o, const char *const *names, size_t count) {
    if (!o->index) return;
    for (const char *key = NULL; (key = next_unknown(o, key, names, count));) {
        const char *hint = rg_spec_suggest(o->b, key, names, count);
        o->bad = true;
        rg_builder_error(o->b, RG_E_SPEC, &o->place, "%s: unknown option '%.64s'%s", o->what, key,
                         hint);
    }
    if (!has_unnamed(o)) return;
    o->bad = true;
    rg_builder_error(o->b, RG_E_SPEC, &o->place, "%s: every option is written name = value",
                     o->what);
}

/* ---- values ---- */

/* Pushes the option; its type, LUA_TNIL where it is absent (nothing is said then if there is a
 * fallback). */
static int push_option(rg_options *o, const char *name, bool required) {
    lua_State *state = rg_lua_state(o->b->lua);
    if (o->index) {
        lua_pushstring(state, name);
        lua_rawget(state, o->index);
    } else {
        lua_pushnil(state);
    }
    if (lua_isnil(state, -1) && required) {
        o->bad = true;
        rg_builder_error(o->b, RG_E_SPEC, &o->place, "%s: option '%s' is missing", o->what, name);
    }
    return lua_type(state, -1);
}

/* Says what was expected of the option on top of the stack; poison there has been spoken of
 * already. */
static void wrong_option(rg_options *o, const char *name, const char *expected) {
    o->bad = true;
    if (rg_spec_to_value(rg_lua_state(o->b->lua), -1)) return;
    rg_builder_error(o->b, RG_E_SPEC, &o->place, "%s: option '%s': expected %s, found %s", o->what,
                     name, expected, rg_spec_describe(o->b, -1));
}

static bool integer_within(lua_State *state, int index, int32_t least, int32_t most,
                           int32_t *value) {
    int exact = 0;
    if (lua_type(state, index) != LUA_TNUMBER) return false;
    lua_Integer read = lua_tointegerx(state, index, &exact);
    if (!exact || read < least || read > most) return false;
    *value = (int32_t)read;
    return true;
}

int32_t rg_options_int(rg_options *o, const char *name, const int32_t *fallback, int32_t least,
                       int32_t most) {
    lua_State *state = rg_lua_state(o->b->lua);
    int32_t value = fallback ? *fallback : least;
    char expected[64];
    if (push_option(o, name, !fallback) != LUA_TNIL &&
        !integer_within(state, -1, least, most, &value)) {
        snprintf(expected, sizeof expected, "an integer from %d to %d", least, most);
        wrong_option(o, name, expected);
    }
    lua_pop(state, 1);
    return value;
}

/* NaN is never within. */
static bool real_within(lua_State *state, int index, double least, double most, double *value) {
    if (lua_type(state, index) != LUA_TNUMBER) return false;
    double read = lua_tonumber(state, index);
    if (!(read >= least && read <= most)) return false;
    *value = read;
    return true;
}

double rg_options_real(rg_options *o, const char *name, const double *fallback, double least,
                       double most) {
    lua_State *state = rg_lua_state(o->b->lua);
    double value = fallback ? *fallback : least;
    char expected[96];
    if (push_option(o, name, !fallback) != LUA_TNIL &&
        !real_within(state, -1, least, most, &value)) {
        snprintf(expected, sizeof expected, "a number from %g to %g", least, most);
        wrong_option(o, name, expected);
    }
    lua_pop(state, 1);
    return value;
}

bool rg_options_bool(rg_options *o, const char *name, bool fallback) {
    lua_State *state = rg_lua_state(o->b->lua);
    bool value = fallback;
    int type = push_option(o, name, false);
    if (type == LUA_TBOOLEAN)
        value = lua_toboolean(state, -1);
    else if (type != LUA_TNIL)
        wrong_option(o, name, "true or false");
    lua_pop(state, 1);
    return value;
}

const char *rg_options_text(rg_options *o, const char *name, const char *fallback,
                            const char *const *allowed, size_t count) {
    lua_State *state = rg_lua_state(o->b->lua);
    const char *value = fallback, *hint = "";
    int type = push_option(o, name, !fallback);
    if (type == LUA_TSTRING) {
        const char *text = lua_tostring(state, -1);
        value = NULL;
        for (size_t i = 0; i < count; i++)
            if (strcmp(text, allowed[i]) == 0) value = allowed[i];
        if (!value) hint = rg_spec_suggest(o->b, text, allowed, count);
    }
    if (type != LUA_TNIL && (type != LUA_TSTRING || !value)) {
        char list[256] = "";
        for (size_t i = 0; i < count; i++) {
            size_t at = strlen(list);
            snprintf(list + at, sizeof list - at, "%s'%s'", i ? " or " : "", allowed[i]);
        }
        o->bad = true;
        rg_builder_error(o->b, RG_E_SPEC, &o->place, "%s: option '%s': expected %s, found %s%s",
                         o->what, name, list, rg_spec_describe(o->b, -1), hint);
        value = allowed[0];
    }
    lua_pop(state, 1);
    return value ? value : allowed[0];
}

void rg_options_pair(rg_options *o, const char *name, const int32_t *fallback, int32_t most,
                     int32_t pair[2]) {
    lua_State *state = rg_lua_state(o->b->lua);
    char expected[96];
    pair[0] = pair[1] = fallback ? *fallback : 1;
    int type = push_option(o, name, !fallback);
    int table = lua_gettop(state);
    bool right = type == LUA_TNIL || integer_within(state, -1, 1, most, &pair[0]);
    pair[1] = pair[0];
    if (type == LUA_TTABLE && lua_rawlen(state, table) == 2) {
        lua_rawgeti(state, table, 1);
        lua_rawgeti(state, table, 2);
        right = integer_within(state, -2, 1, most, &pair[0]) &&
                integer_within(state, -1, 1, most, &pair[1]);
        lua_settop(state, table);
    }
    if (!right) {
        snprintf(expected, sizeof expected, "an integer from 1 to %d or {height, width}", most);
        wrong_option(o, name, expected);
    }
    lua_pop(state, 1);
}

void rg_options_reals(rg_options *o, const char *name, double fallback, double least, double most,
                      int count, double *values) {
    lua_State *state = rg_lua_state(o->b->lua);
    char expected[128];
    int type = push_option(o, name, false), table = lua_gettop(state);
    bool right = type == LUA_TNIL || real_within(state, -1, least, most, &fallback);
    for (int i = 0; i < count; i++) values[i] = fallback;
    if (type == LUA_TTABLE) {
        right = lua_rawlen(state, table) == (size_t)count;
        for (int i = 0; right && i < count; i++) {
            lua_rawgeti(state, table, i + 1);
            right = real_within(state, -1, least, most, &values[i]);
            lua_settop(state, table);
        }
    }
    if (!right) {
        snprintf(expected, sizeof expected, "%d numbers from %g to %g, or one for all", count,
                 least, most);
        wrong_option(o, name, expected);
    }
    lua_pop(state, 1);
}

bool rg_options_has(const rg_options *o, const char *name) {
    lua_State *state = rg_lua_state(o->b->lua);
    if (!o->index) return false;
    lua_pushstring(state, name);
    bool has = lua_rawget(state, o->index) != LUA_TNIL;
    lua_pop(state, 1);
    return has;
}

/* ---- options(what, table, {required, ...}, {optional, ...}): blocks written in Lua check theirs
 * ---- */

enum { NAMES_MOST = 32 };

/* Adds the texts of the list at `index` to the names. */
static size_t add_names(lua_State *state, int index, const char **names, size_t count) {
    luaL_checktype(state, index, LUA_TTABLE);
    lua_Integer length = (lua_Integer)lua_rawlen(state, index);
    for (lua_Integer i = 1; i <= length; i++) {
        if (lua_rawgeti(state, index, i) != LUA_TSTRING || count == NAMES_MOST)
            luaL_error(state, "options: expected lists of at most %d names", NAMES_MOST);
        names[count++] = lua_tostring(state, -1);
        lua_pop(state, 1);
    }
    return count;
}

/* A required option that is absent becomes poison, so that the block says no more about it. */
static void require_options(rg_options *o, const char *const *names, size_t count) {
    lua_State *state = rg_lua_state(o->b->lua);
    for (size_t i = 0; i < count; i++) {
        if (rg_options_has(o, names[i])) continue;
        rg_builder_error(o->b, RG_E_SPEC, &o->place, "%s: option '%s' is missing", o->what,
                         names[i]);
        lua_pushstring(state, names[i]);
        rg_spec_push_poison(state);
        lua_rawset(state, o->index);
    }
}

static int check_options(lua_State *state) {
    rg_builder *b = rg_builder_of(state);
    const char *names[NAMES_MOST];
    rg_options o = {
        .b = b, .index = 2, .what = luaL_checkstring(state, 1), .place = rg_builder_place(b)};
    o.place.via = (rg_loc){NULL, 0}; /* the block's own line says nothing about a wrong option */
    lua_settop(state, 4);
    size_t required = add_names(state, 3, names, 0);
    size_t count = lua_isnil(state, 4) ? required : add_names(state, 4, names, required);
    if (lua_type(state, 2) != LUA_TTABLE) {
        rg_builder_error(b, RG_E_SPEC, &o.place, "%.64s: expected a table of options, found %s",
                         o.what, rg_spec_describe(b, 2));
        lua_newtable(state);
        lua_replace(state, 2);
        for (size_t i = 0; i < required; i++) {
            rg_spec_push_poison(state);
            lua_setfield(state, 2, names[i]);
        }
    }
    rg_options_check_names(&o, names, count);
    require_options(&o, names, required);
    lua_settop(state, 2);
    return 1;
}

void rg_spec_option_open(rg_builder *b) {
    lua_pushcfunction(rg_lua_state(b->lua), check_options);
    lua_setglobal(rg_lua_state(b->lua), "options");
}
