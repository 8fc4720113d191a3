#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "rg_spec_build.h"

/* ---- errors of a call ---- */

bool rg_spec_call_is_dead(const rg_spec_call *call) {
    return call->poisoned || call->options.bad;
}

void rg_spec_call_error(rg_spec_call *call, rg_status status, const char *format, ...) {
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    call->options.bad = true;
    rg_builder_error(call->b, status, &call->options.place, "%s: %s", call->options.what, text);
}

rg_type rg_spec_type(const rg_spec_call *call, int operand) {
    return call->b->graph->value[call->in[operand].id].type;
}

/* ---- nodes ---- */

static bool within_limits(rg_spec_call *call, rg_type type) {
    rg_builder *b = call->b;
    const rg_spec *spec = b->spec;
    int64_t batch = spec->batch > spec->eval_batch ? spec->batch : spec->eval_batch;
    for (int i = 1; i < 4; i++) {
        if (type.dim[i] <= RG_SPEC_DIM) continue;
        rg_spec_call_error(call, RG_E_LIMIT, "expected extents of at most %d, found %s",
                           RG_SPEC_DIM, rg_spec_shape(b, type));
        return false;
    }
    int64_t images = type.dim[0] == RG_BATCH ? batch : 1;
    if (rg_type_elements(type) <= RG_SPEC_ELEMENTS / images) return true;
    rg_spec_call_error(call, RG_E_LIMIT, "expected at most 2^31 elements, found %s for %d images",
                       rg_spec_shape(b, type), (int)images);
    return false;
}

static bool room_for_node(rg_spec_call *call) {
    rg_builder *b = call->b;
    if (b->graph->node_count < RG_SPEC_NODES) return true;
    rg_builder_stop(b, rg_error(b->ctx, RG_E_LIMIT, call->options.place.loc,
                                "a network of more than %d operations", RG_SPEC_NODES));
}

bool rg_spec_add_node(rg_spec_call *call, rg_op op, const rg_vid *in, int32_t in_count,
                      const rg_attr *attr, rg_vid *out) {
    rg_builder *b = call->b;
    rg_type type[RG_NODE_OUT];
    rg_vid inputs[RG_NODE_OUT];
    memcpy(inputs, in, (size_t)in_count * sizeof *in);
    const rg_node node = {.op = op,
                          .in_count = in_count,
                          .in = inputs,
                          .attr = *attr,
                          .name = call->name,
                          .loc = call->options.place.loc};
    static const int32_t outputs[RG_OP_COUNT] = {
#define OP(id, name, inputs, outputs) outputs,
#include "ops.def"
#undef OP
    };
    if (!room_for_node(call)) return false;
    rg_status status = rg_op_infer(b->ctx, b->graph, &node, type);
    if (status == RG_E_NOMEM) rg_builder_stop(b, status);
    if (status != RG_OK || !within_limits(call, type[0])) return false;
    rg_nid id = rg_graph_add_node(b->graph, op, in, in_count, type, outputs[op], attr, call->name,
                                  node.loc);
    if (id < 0) rg_builder_stop(b, rg_nomem(b->ctx));
    b->title[id] = call->op->title;
    memcpy(out, b->graph->node[id].out, (size_t)outputs[op] * sizeof *out);
    return true;
}

rg_vid rg_spec_add_pointwise(rg_spec_call *call, const rg_vid *in, int32_t in_count,
                             const rg_expr *expr, int32_t root) {
    rg_attr attr = {.expr = *expr, .root = root};
    rg_vid out;
    if (root < 0) rg_builder_stop(call->b, rg_nomem(call->b->ctx));
    return rg_spec_add_node(call, RG_OP_POINTWISE, in, in_count, &attr, &out) ? out : -1;
}

/* ---- taking a call apart ---- */

static void read_operands(rg_spec_call *call) {
    lua_State *state = rg_lua_state(call->b->lua);
    int values = 0;
    bool poisoned = false;
    for (int i = 0; i < call->op->operands; i++) {
        rg_spec_value *value = rg_spec_to_value(state, i + 1);
        bool number = !value && call->op->operands > 1 && lua_type(state, i + 1) == LUA_TNUMBER;
        call->in[i] = value ? *value : rg_spec_poison;
        call->is_number[i] = number;
        call->number[i] = number ? lua_tonumber(state, i + 1) : 0;
        poisoned = poisoned || (value && value->id < 0);
        values += value != NULL;
        if (!value && !number)
            rg_spec_call_error(call, RG_E_SPEC, "expected a value%s, found %s",
                               call->op->operands > 1 ? " or a number" : "",
                               rg_spec_describe(call->b, i + 1));
    }
    call->poisoned = poisoned;
    if (values == 0 && !call->options.bad)
        rg_spec_call_error(call, RG_E_SPEC, "expected a value, found numbers only");
}

/* The layer's whole name, from the argument at `index` or from the scope; moves `index` on. */
static const char *read_name(rg_spec_call *call, int *index) {
    rg_builder *b = call->b;
    lua_State *state = rg_lua_state(b->lua);
    int type = lua_type(state, *index);
    if (type != LUA_TNONE && type != LUA_TNIL && type != LUA_TTABLE) {
        const char *name = rg_spec_name(b, (*index)++, &call->options.place);
        if (name) return rg_spec_join(b, b->scope, name);
        call->options.bad = true;
    } else if (type == LUA_TNIL) {
        (*index)++;
    }
    if (call->op->element_wise) return rg_spec_join(b, b->scope, call->op->name);
    return *b->scope ? b->scope : NULL;
}

static void read_options(rg_spec_call *call, int index) {
    rg_builder *b = call->b;
    lua_State *state = rg_lua_state(b->lua);
    size_t room = sizeof call->op->options / sizeof *call->op->options;
    if (lua_type(state, index) == LUA_TTABLE) call->options.index = index++;
    if (!lua_isnoneornil(state, index) && !rg_spec_to_value(state, index))
        rg_spec_call_error(call, RG_E_SPEC, "expected a table of options, found %s",
                           rg_spec_describe(b, index));
    rg_options_check_names(&call->options, call->op->options, room);
}

/* Arguments from 1: operands, name (may be left out), options (may be left out). Leaves the result.
 */
static int run_call(rg_builder *b, const rg_spec_op *op, rg_place place) {
    lua_State *state = rg_lua_state(b->lua);
    rg_spec_call call = {.b = b, .op = op, .options = {.b = b, .place = place}};
    int index = op->operands + 1;
    call.options.what = op->title;
    /* An operator's metamethod passes its operand twice. */
    if (op->operands == 1 && lua_gettop(state) == 2 && rg_spec_to_value(state, 2))
        lua_settop(state, 1);
    call.name = read_name(&call, &index);
    bool nameless = !call.name;
    if (nameless) call.name = op->name;
    call.options.what =
        rg_builder_need(b, rg_arena_printf(b->ctx->arena, "%s '%s'", op->title, call.name));
    if (nameless && op->has_params && !call.options.bad)
        rg_spec_call_error(&call, RG_E_SPEC,
                           "a layer with parameters needs a name: x:%s(\"name\", ...)", op->name);
    read_operands(&call);
    read_options(&call, index);
    rg_spec_value result = op->build(&call);
    rg_spec_push(state, result.id, result.flat);
    return 1;
}

/* ---- layers: a call without its value ---- */

enum {
    LAYER_OP = 1,
    LAYER_NAME,
    LAYER_OPTIONS,
    LAYER_FILE,
    LAYER_LINE,
    LAYER_UPVALUES = LAYER_LINE
};

static int run_layer(lua_State *state) {
    rg_place place = {0};
    place.loc.file = lua_touserdata(state, lua_upvalueindex(LAYER_FILE));
    place.loc.line = (int)lua_tointeger(state, lua_upvalueindex(LAYER_LINE));
    lua_settop(state, 1);
    lua_pushvalue(state, lua_upvalueindex(LAYER_NAME));
    lua_pushvalue(state, lua_upvalueindex(LAYER_OPTIONS));
    return run_call(rg_builder_of(state), lua_touserdata(state, lua_upvalueindex(LAYER_OP)), place);
}

/* Arguments: name (may be left out), options. */
static int make_layer(rg_builder *b, const rg_spec_op *op) {
    lua_State *state = rg_lua_state(b->lua);
    rg_place place = rg_builder_place(b);
    if (lua_type(state, 1) != LUA_TSTRING) {
        lua_pushnil(state);
        lua_insert(state, 1);
    }
    lua_settop(state, 2);
    lua_pushlightuserdata(state, (void *)(uintptr_t)op);
    lua_insert(state, 1);
    lua_pushlightuserdata(state, (void *)(uintptr_t)place.loc.file);
    lua_pushinteger(state, place.loc.line);
    lua_pushcclosure(state, run_layer, LAYER_UPVALUES);
    return 1;
}

static int op_entry(lua_State *state) {
    const rg_spec_op *op = lua_touserdata(state, lua_upvalueindex(1));
    rg_builder *b = rg_builder_of(state);
    int type = lua_type(state, 1);
    if (op->operands == 1 && (type == LUA_TNONE || type == LUA_TSTRING || type == LUA_TTABLE))
        return make_layer(b, op);
    return run_call(b, op, rg_builder_place(b));
}

static void add_ops(lua_State *state, const rg_spec_op *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        lua_pushlightuserdata(state, (void *)(uintptr_t)&rows[i]);
        lua_pushcclosure(state, op_entry, 1);
        lua_setfield(state, -2, rows[i].name);
    }
}

void rg_spec_op_open(rg_builder *b) {
    lua_State *state = rg_lua_state(b->lua);
    luaL_getsubtable(state, LUA_REGISTRYINDEX, RG_SPEC_OPS);
    add_ops(state, rg_spec_layers, rg_spec_layer_rows);
    add_ops(state, rg_spec_pointwises, rg_spec_pointwise_rows);
    lua_pop(state, 1);
}
