#include "rg_spec.h"

#include <lauxlib.h>
#include <string.h>

#include "rg_spec_build.h"

/* ---- the network ---- */

static rg_vid add_input(rg_builder *b, const char *name, rg_type type) {
    rg_vid id = rg_graph_add_leaf(b->graph, RG_V_INPUT, type, name, -1, b->data_loc);
    if (id < 0) rg_builder_stop(b, rg_nomem(b->ctx));
    return id;
}

/* The value that network() returned must be one row of class scores. */
static bool check_logits(rg_builder *b, const rg_spec_value *value, const rg_place *place) {
    if (!value) {
        rg_builder_error(b, RG_E_SPEC, place, "network: expected it to return a value, found %s",
                         rg_spec_describe(b, -1));
        return false;
    }
    if (value->id < 0) return false;
    rg_type type = b->graph->value[value->id].type;
    if (type.dim[0] == RG_BATCH && type.dim[1] == 1 && type.dim[2] == 1 &&
        type.dim[3] == b->spec->classes)
        return true;
    rg_builder_error(b, RG_E_SHAPE, place, "network: expected one score a class, [%d], found %s",
                     b->spec->classes, rg_spec_shape(b, type));
    return false;
}

static void add_result(rg_builder *b, rg_out_kind kind, rg_vid value) {
    if (rg_graph_add_result(b->graph, kind, value, -1) != RG_OK)
        rg_builder_stop(b, rg_nomem(b->ctx));
}

static void add_loss(rg_builder *b, rg_vid logits, rg_vid label, const rg_place *place) {
    static const rg_spec_op loss = {.name = "loss", .title = "loss"};
    rg_spec_call call = {
        .b = b, .op = &loss, .name = "loss", .options = {.b = b, .what = "loss", .place = *place}};
    const rg_attr attr = {.smoothing = b->smoothing};
    rg_vid in[2] = {logits, label}, out[RG_NODE_OUT];
    if (!rg_spec_add_node(&call, RG_OP_LOSS, in, 2, &attr, out)) return;
    add_result(b, RG_O_LOSS, out[0]);
    add_result(b, RG_O_CORRECT, out[1]);
    add_result(b, RG_O_LOGITS, logits);
}

/* ---- what leads nowhere ---- */

/* Every value must be read: a branch that was forgotten would be built, trained on nothing and
 * never seen. */
static void check_used(rg_builder *b) {
    const rg_graph *graph = b->graph;
    bool *used = RG_NEW_ARRAY(b->ctx->arena, bool, graph->value_count);
    rg_builder_need(b, used);
    for (int32_t i = 0; i < graph->node_count; i++)
        for (int32_t k = 0; k < graph->node[i].in_count; k++) used[graph->node[i].in[k]] = true;
    for (int32_t i = 0; i < graph->node_count; i++) {
        const rg_node *node = &graph->node[i];
        const rg_place place = {.loc = node->loc};
        if (node->op == RG_OP_LOSS || used[node->out[0]]) continue;
        rg_builder_error(b, RG_E_SPEC, &place, "%s '%s': its output goes nowhere", b->title[i],
                         node->name);
    }
    const rg_place data = {.loc = b->data_loc};
    if (!used[0]) rg_builder_error(b, RG_E_SPEC, &data, "network: the image is not used");
}

/* ---- running a spec ---- */

static bool failed(const rg_builder *b) {
    return b->ctx->count > b->errors_before;
}

/* The line of network()'s definition, for what it returns. */
static rg_place network_place(rg_builder *b) {
    lua_State *state = rg_lua_state(b->lua);
    rg_place place = {.loc = {b->path, 0}};
    lua_Debug info;
    lua_pushvalue(state, -1);
    lua_getinfo(state, ">S", &info);
    if (strcmp(info.source + 1, b->path) == 0) place.loc.line = info.linedefined;
    return place;
}

static bool push_network(rg_builder *b) {
    lua_State *state = rg_lua_state(b->lua);
    const rg_place file = {.loc = {b->path, 0}};
    lua_pushglobaltable(state);
    lua_pushliteral(state, "network");
    if (lua_rawget(state, -2) == LUA_TFUNCTION) return true;
    rg_builder_error(b, RG_E_SPEC, &file, "expected a function network(image), found %s",
                     rg_spec_describe(b, -1));
    return false;
}

static bool image_within_limits(rg_builder *b, rg_type image) {
    const rg_spec *spec = b->spec;
    const rg_place data = {.loc = b->data_loc};
    int32_t images = spec->batch > spec->eval_batch ? spec->batch : spec->eval_batch;
    if (rg_type_elements(image) <= RG_SPEC_ELEMENTS / images) return true;
    rg_builder_error(b, RG_E_LIMIT, &data,
                     "data: expected at most 2^31 elements, found %s for %d images",
                     rg_spec_shape(b, image), images);
    return false;
}

/* Runs protected, after the file itself: builds the graph from network(image). */
static int build_network(lua_State *state) {
    rg_builder *b = rg_builder_of(state);
    const rg_spec *spec = b->spec;
    const rg_place file = {.loc = {b->path, 0}};
    bool ready = push_network(b);
    if (b->data_loc.line == 0)
        rg_builder_error(b, RG_E_SPEC, &file, "expected data { ... }, found none");
    if (!ready || !b->image_known) return 0;
    rg_type image = {RG_T_ACT, {RG_BATCH, spec->height, spec->width, spec->channels}};
    if (!image_within_limits(b, image)) return 0;
    rg_place place = network_place(b);
    rg_spec_push(state, add_input(b, "image", image), false);
    rg_vid label = add_input(b, "label", (rg_type){RG_T_ACT, {RG_BATCH, 1, 1, 1}});
    lua_call(state, 1, 1);
    const rg_spec_value *logits = rg_spec_to_value(state, -1);
    if (!check_logits(b, logits, &place) || failed(b)) return 0;
    add_loss(b, logits->id, label, &place);
    check_used(b);
    return 0;
}

static int open_environment(lua_State *state) {
    rg_builder *b = rg_builder_of(state);
    rg_spec_op_open(b);
    rg_spec_scope_open(b);
    rg_spec_option_open(b);
    rg_spec_setup_open(b);
    rg_spec_require_open(b);
    /* A caught error would leave scopes open. */
    lua_pushnil(state);
    lua_setglobal(state, "pcall");
    rg_spec_value_open(b);
    return 0;
}

/* rg_builder_register allocates: protected, too. */
static int register_builder(lua_State *state) {
    rg_builder_register(state, lua_touserdata(state, 1));
    return 0;
}

static rg_status call_protected(rg_builder *b, lua_CFunction function) {
    lua_pushcfunction(rg_lua_state(b->lua), function);
    return rg_lua_call(b->ctx, b->lua, 0, 0);
}

static rg_status run_spec(rg_builder *b, const char *text, size_t length) {
    lua_pushcfunction(rg_lua_state(b->lua), register_builder);
    lua_pushlightuserdata(rg_lua_state(b->lua), b);
    RG_TRY(rg_lua_call(b->ctx, b->lua, 1, 0));
    RG_TRY(call_protected(b, open_environment));
    RG_TRY(rg_lua_compile(b->ctx, b->lua, text, length, b->path));
    RG_TRY(rg_lua_call(b->ctx, b->lua, 0, 0));
    return call_protected(b, build_network);
}

/* ---- load ---- */

static rg_status first_error(const rg_builder *b, const rg_diag *last_before) {
    const rg_diag *diag = last_before ? last_before->next : b->ctx->first;
    return diag ? diag->status : RG_E_SPEC;
}

/* The file's name without folder and ending. */
static const char *spec_name(rg_builder *b) {
    const char *slash = strrchr(b->path, '/'), *start = slash ? slash + 1 : b->path;
    size_t length = strlen(start);
    if (length > 4 && strcmp(start + length - 4, ".lua") == 0) length -= 4;
    return rg_arena_printf(b->ctx->arena, "%.*s", (int)length, start);
}

static rg_status prepare(rg_builder *b, const char *path) {
    static const rg_lua_limits limits = {RG_SPEC_MEMORY_BYTES, RG_SPEC_INSTRUCTIONS};
    rg_arena *arena = b->ctx->arena;
    b->path = rg_arena_strdup(arena, path);
    b->spec = RG_NEW(arena, rg_spec);
    b->graph = rg_graph_new(arena, "grad");
    b->title = RG_NEW_ARRAY(arena, const char *, RG_SPEC_NODES);
    if (!b->path || !b->spec || !b->graph || !b->title) return rg_nomem(b->ctx);
    b->spec->name = spec_name(b);
    if (!b->spec->name) return rg_nomem(b->ctx);
    b->spec->path = b->path;
    b->spec->graph = b->graph;
    return rg_lua_open(b->ctx, limits, &b->lua);
}

rg_status rg_spec_load(rg_ctx *ctx, const char *path, rg_spec **spec) {
    rg_builder b = {.ctx = ctx, .scope = "", .errors_before = ctx->count};
    const rg_diag *last_before = ctx->last;
    char *text;
    size_t length;
    rg_status status = prepare(&b, path);
    if (status == RG_OK) status = rg_spec_read(&b, b.path, &text, &length);
    if (status == RG_OK) status = run_spec(&b, text, length);
    if (status != RG_E_NOMEM && failed(&b)) status = first_error(&b, last_before);
    if (status == RG_OK) {
        b.spec->hash = rg_hash_bytes(b.read.data, b.read.length);
        *spec = b.spec;
    }
    rg_lua_close(b.lua);
    rg_text_free(&b.read);
    return status;
}
