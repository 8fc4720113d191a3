#include <ctype.h>
#include <lauxlib.h>
#include <string.h>

#include "rg_spec_build.h"

/* ---- names ---- */

static bool name_is_plain(const char *name) {
    size_t length = strlen(name);
    if (length == 0 || length > RG_SPEC_NAME) return false;
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)name[i]) && name[i] != '_') return false;
    return true;
}

const char *rg_spec_name(rg_builder *b, int index, const rg_place *place) {
    lua_State *state = rg_lua_state(b->lua);
    if (rg_spec_to_value(state, index)) return NULL;
    if (lua_type(state, index) == LUA_TSTRING || lua_isinteger(state, index)) {
        lua_pushvalue(state, index);
        const char *text = lua_tostring(state, -1);
        bool plain = strlen(text) == lua_rawlen(state, -1) && name_is_plain(text);
        const char *name = plain ? rg_builder_need(b, rg_arena_strdup(b->ctx->arena, text)) : NULL;
        lua_pop(state, 1);
        if (name) return name;
    }
    rg_builder_error(b, RG_E_SPEC, place,
                     "a name is made of letters, digits and _ (at most %d), found %s", RG_SPEC_NAME,
                     rg_spec_describe(b, index));
    return NULL;
}

const char *rg_spec_join(rg_builder *b, const char *scope, const char *name) {
    if (!*scope) return name;
    return rg_builder_need(b, rg_arena_printf(b->ctx->arena, "%s.%s", scope, name));
}

/* ---- the table of layers ---- */

void rg_spec_add_layer(rg_builder *b, const char *name, const char *kind, rg_vid value) {
    rg_spec *spec = b->spec;
    if (spec->layer_count == b->layer_capacity) {
        int32_t capacity = b->layer_capacity ? 2 * b->layer_capacity : 64;
        rg_spec_layer *rows = RG_NEW_ARRAY(b->ctx->arena, rg_spec_layer, capacity);
        rg_builder_need(b, rows);
        if (spec->layer_count > 0)
            memcpy(rows, spec->layer, (size_t)spec->layer_count * sizeof *rows);
        spec->layer = rows;
        b->layer_capacity = capacity;
    }
    spec->layer[spec->layer_count++] = (rg_spec_layer){name, kind, b->depth, value};
}

/* ---- scopes ---- */

/* What to go back to. */
typedef struct scope_mark {
    const char *outer;
    int32_t row; /* the scope's own */
} scope_mark;

static scope_mark enter_scope(rg_builder *b, const char *name) {
    scope_mark mark = {b->scope, b->spec->layer_count};
    if (b->depth >= RG_SPEC_SCOPES) {
        rg_place place = rg_builder_place(b);
        rg_builder_stop(b, rg_error(b->ctx, RG_E_LIMIT, place.loc,
                                    "scopes nested more than %d deep: a block that uses itself?",
                                    RG_SPEC_SCOPES));
    }
    const char *path = rg_spec_join(b, b->scope, name);
    rg_spec_add_layer(b, path, "block", -1);
    b->scope = path;
    b->depth++;
    return mark;
}

/* A scope of one layer that has no name of its own is that layer: one row, not two. */
static void leave_scope(rg_builder *b, scope_mark mark, rg_vid value) {
    rg_spec *spec = b->spec;
    rg_spec_layer *own = &spec->layer[mark.row];
    own->value = value;
    b->depth--;
    b->scope = mark.outer;
    bool single = spec->layer_count == mark.row + 2 && own[1].value == value;
    if (!single) return;
    if (strcmp(own[1].name, own->name) != 0) return;
    own->kind = own[1].kind;
    spec->layer_count--;
}

/* Calls the layer on top of the stack with the value at `input` in a scope; leaves its result,
 * which is a value, on the stack. */
static void run_layer(rg_builder *b, const char *name, int input) {
    lua_State *state = rg_lua_state(b->lua);
    scope_mark mark = {NULL, 0};
    if (name) mark = enter_scope(b, name);
    lua_pushvalue(state, input);
    lua_call(state, 1, 1);
    rg_spec_value *value = rg_spec_to_value(state, -1);
    if (!value) {
        rg_place place = rg_builder_place(b);
        rg_builder_error(b, RG_E_SPEC, &place,
                         "layer '%s': expected it to return a value, found %s", b->scope,
                         rg_spec_describe(b, -1));
        lua_pop(state, 1);
        rg_spec_push_poison(state);
        value = rg_spec_to_value(state, -1);
    }
    if (name) leave_scope(b, mark, value->id);
}

static bool check_input(rg_builder *b, const char *op, const rg_place *place) {
    lua_State *state = rg_lua_state(b->lua);
    if (rg_spec_to_value(state, 1)) return true;
    rg_builder_error(b, RG_E_SPEC, place, "%s: expected a value, found %s", op,
                     rg_spec_describe(b, 1));
    return false;
}

static bool is_layer(lua_State *state, int index) {
    return lua_isfunction(state, index) || rg_spec_to_value(state, index);
}

/* scope(x, name, layer) */
static int scope_op(lua_State *state) {
    rg_builder *b = rg_builder_of(state);
    rg_place place = rg_builder_place(b);
    lua_settop(state, 3);
    const char *name = check_input(b, "scope", &place) ? rg_spec_name(b, 2, &place) : NULL;
    if (name && !is_layer(state, 3)) {
        rg_builder_error(b, RG_E_SPEC, &place,
                         "scope '%s': expected a layer (a function of a value), found %s", name,
                         rg_spec_describe(b, 3));
        name = NULL;
    }
    if (name)
        run_layer(b, name, 1);
    else
        rg_spec_push_poison(state);
    return 1;
}

/* Runs the layers of the list at `list` one after the other, each in a scope of its number from 0.
 * The value at 1 becomes the result. */
static void run_list(rg_builder *b, int list, const rg_place *place) {
    lua_State *state = rg_lua_state(b->lua);
    lua_Integer count = (lua_Integer)lua_rawlen(state, list);
    for (lua_Integer i = 1; i <= count; i++) {
        char number[32];
        lua_rawgeti(state, list, i);
        lua_pushinteger(state, i - 1);
        strncpy(number, lua_tostring(state, -1), sizeof number - 1);
        number[sizeof number - 1] = '\0';
        lua_pop(state, 1);
        if (is_layer(state, -1)) {
            run_layer(b, rg_builder_need(b, rg_arena_strdup(b->ctx->arena, number)), 1);
        } else {
            rg_builder_error(
                b, RG_E_SPEC, place,
                "sequential '%s': entry %d: expected a layer (a function of a value), found %s",
                b->scope, (int)i, rg_spec_describe(b, -1));
            lua_pop(state, 1);
            rg_spec_push_poison(state);
        }
        lua_replace(state, 1);
    }
}

/* sequential(x, name, {layer, ...}) */
static int sequential_op(lua_State *state) {
    rg_builder *b = rg_builder_of(state);
    rg_place place = rg_builder_place(b);
    lua_settop(state, 3);
    const char *name = check_input(b, "sequential", &place) ? rg_spec_name(b, 2, &place) : NULL;
    if (name && lua_type(state, 3) != LUA_TTABLE) {
        rg_builder_error(b, RG_E_SPEC, &place,
                         "sequential '%s': expected a list of layers, found %s", name,
                         rg_spec_describe(b, 3));
        name = NULL;
    }
    if (!name) {
        rg_spec_push_poison(state);
        return 1;
    }
    scope_mark mark = enter_scope(b, name);
    run_list(b, 3, &place);
    lua_settop(state, 1);
    leave_scope(b, mark, rg_spec_to_value(state, 1)->id);
    return 1;
}

void rg_spec_scope_open(rg_builder *b) {
    static const luaL_Reg functions[] = {
        {"scope", scope_op}, {"sequential", sequential_op}, {NULL, NULL}};
    lua_State *state = rg_lua_state(b->lua);
    luaL_getsubtable(state, LUA_REGISTRYINDEX, RG_SPEC_OPS);
    luaL_setfuncs(state, functions, 0);
    lua_pop(state, 1);
}
