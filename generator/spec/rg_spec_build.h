/* Inside the module: the builder that runs a spec and what its parts need of each other. */
#ifndef RG_SPEC_BUILD_H
#define RG_SPEC_BUILD_H

#include "rg_lua.h"
#include "rg_spec.h"

/* Limits of a spec; products are checked against RG_SPEC_ELEMENTS. */
enum {
    RG_SPEC_DIM = 65536,
    RG_SPEC_NODES = 20000,
    RG_SPEC_SCOPES = 32,
    RG_SPEC_ERRORS = 100,
    RG_SPEC_NAME = 64, /* characters of one name */
    RG_SPEC_FILE_BYTES = 1 << 20,
    RG_SPEC_MEMORY_BYTES = 64 << 20,
    RG_SPEC_INSTRUCTIONS = 10000000,
};
/* Registry: name of an op -> its function; the methods of values. */
#define RG_SPEC_OPS      "rg.ops"
#define RG_SPEC_ELEMENTS INT64_C(2147483648)

/* A place in the spec, and the line of a library that led to it (file NULL: none). */
typedef struct rg_place {
    rg_loc loc, via;
} rg_place;

typedef struct rg_builder {
    rg_ctx *ctx;
    rg_lua *lua;
    rg_spec *spec;
    rg_graph *graph;
    const char *path;  /* of the spec, as in messages */
    const char *scope; /* "block2.1", "" at the top */
    int32_t depth;     /* of scopes */
    int32_t layer_capacity;
    rg_text read; /* all that was read, for the hash */
    int32_t errors_before;
    double smoothing;
    rg_loc data_loc, train_loc; /* line 0: not declared */
    bool image_known;           /* data's extents are right, so that the network can be looked at */
    const char **title;         /* of each node: the op as messages call it */
} rg_builder;

/* What a spec holds in its hands: a value of the graph. A poison value (id -1) stands for one that
 * could not be made: it is accepted everywhere and says nothing, so that one mistake gives one
 * message. */
typedef struct rg_spec_value {
    rg_vid id;
    bool flat; /* flatten was applied: the image is one vector, in the order C, H, W */
} rg_spec_value;

/* ---- rg_spec_base.c: places, messages, names ---- */

rg_builder *rg_builder_of(lua_State *state); /* from the registry */
void rg_builder_register(lua_State *state, rg_builder *b);
rg_place rg_builder_place(rg_builder *b);
/* Records an error and goes on. */
void rg_builder_error(rg_builder *b, rg_status status, const rg_place *place, const char *format,
                      ...) RG_PRINTF(4, 5);
/* Leaves the running program: for what cannot go on (memory). */
void rg_builder_stop(rg_builder *b, rg_status status) __attribute__((noreturn));
/* Not NULL, or the program is left. */
void *rg_builder_need(rg_builder *b, void *pointer);
/* " (did you mean 'x'?)" for the nearest of the names, or "". */
const char *rg_spec_suggest(rg_builder *b, const char *word, const char *const *names,
                            size_t count);
/* A short description of a Lua value for "found ...". */
const char *rg_spec_describe(rg_builder *b, int index);

/* ---- rg_spec_value.c: values in Lua ---- */

void rg_spec_value_open(rg_builder *b);
void rg_spec_push(lua_State *state, rg_vid id, bool flat);
void rg_spec_push_poison(lua_State *state);
/* NULL where the stack has something else. */
rg_spec_value *rg_spec_to_value(lua_State *state, int index);
/* "[64,22,22]", PyTorch's order without the batch. */
const char *rg_spec_shape(rg_builder *b, rg_type type);

/* ---- rg_spec_scope.c: scopes and the table of layers ---- */

void rg_spec_scope_open(rg_builder *b);
/* A name at `index` (text or integer), checked; NULL after an error, which is recorded. */
const char *rg_spec_name(rg_builder *b, int index, const rg_place *place);
/* "scope.name". */
const char *rg_spec_join(rg_builder *b, const char *scope, const char *name);
/* Adds a row to the table of layers. */
void rg_spec_add_layer(rg_builder *b, const char *name, const char *kind, rg_vid value);

/* ---- rg_spec_option.c: tables of options ---- */

/* One table of options: where it is on the stack, whose it is, whether a mistake was found. */
typedef struct rg_options {
    rg_builder *b;
    int index;        /* 0: no table */
    const char *what; /* "conv2d 'block1'" */
    rg_place place;
    bool bad;
} rg_options;

void rg_spec_option_open(rg_builder *b);
/* Every key must be one of `names`. */
void rg_options_check_names(rg_options *o, const char *const *names, size_t count);
/* A number option; `fallback` where it is absent, an error where that is NULL. */
int32_t rg_options_int(rg_options *o, const char *name, const int32_t *fallback, int32_t least,
                       int32_t most);
double rg_options_real(rg_options *o, const char *name, const double *fallback, double least,
                       double most);
bool rg_options_bool(rg_options *o, const char *name, bool fallback);
const char *rg_options_text(rg_options *o, const char *name, const char *fallback,
                            const char *const *allowed, size_t count);
/* An integer, or a pair {height, width}. */
void rg_options_pair(rg_options *o, const char *name, const int32_t *fallback, int32_t most,
                     int32_t pair[2]);
/* A list of exactly `count` numbers, or one number for all. */
void rg_options_reals(rg_options *o, const char *name, double fallback, double least, double most,
                      int count, double *values);
bool rg_options_has(const rg_options *o, const char *name);

/* ---- rg_spec_op.c: how an op is called; rg_spec_layer.c, rg_spec_pointwise.c: what it makes ----
 */

/* A call of an op, taken apart. */
typedef struct rg_spec_call {
    rg_builder *b;
    const struct rg_spec_op *op;
    const char *name; /* whole name of the layer */
    rg_spec_value in[2];
    double number[2]; /* operand i where is_number[i] */
    bool is_number[2];
    bool poisoned; /* an operand is poison */
    rg_options options;
} rg_spec_call;

/* Gives the result's value, poison after an error. */
typedef rg_spec_value (*rg_spec_build)(rg_spec_call *call);

typedef struct rg_spec_op {
    const char *name;  /* in specs: "conv" */
    const char *title; /* in messages: "conv2d" */
    int operands;
    bool has_params;   /* needs a name, its own or its scope's */
    bool element_wise; /* without a name it is called after itself, not after its scope */
    rg_spec_build build;
    int32_t detail; /* rg_expr_op of an element-wise op */
    const char *options[8];
} rg_spec_op;

extern const rg_spec_op rg_spec_layers[];
extern const size_t rg_spec_layer_rows;
extern const rg_spec_op rg_spec_pointwises[];
extern const size_t rg_spec_pointwise_rows;

void rg_spec_op_open(rg_builder *b);
/* An operand or option is wrong, and that has been said: nothing can be made. */
bool rg_spec_call_is_dead(const rg_spec_call *call);
/* Records an error of the call: "title 'name': ...". */
void rg_spec_call_error(rg_spec_call *call, rg_status status, const char *format, ...)
    RG_PRINTF(3, 4);
rg_type rg_spec_type(const rg_spec_call *call, int operand);
/* Infers, checks the limits and appends a node; false after an error. */
bool rg_spec_add_node(rg_spec_call *call, rg_op op, const rg_vid *in, int32_t in_count,
                      const rg_attr *attr, rg_vid *out);
/* `root` of `expr` over the inputs; poison after an error. */
rg_vid rg_spec_add_pointwise(rg_spec_call *call, const rg_vid *in, int32_t in_count,
                             const rg_expr *expr, int32_t root);
extern const rg_spec_value rg_spec_poison;

/* ---- rg_spec_setup.c: data and train; rg_spec_require.c: modules ---- */

void rg_spec_setup_open(rg_builder *b);
void rg_spec_require_open(rg_builder *b);
/* Reads a text file, keeps it for the hash. Owner: ctx's arena. */
rg_status rg_spec_read(rg_builder *b, const char *path, char **text, size_t *length) RG_CHECKED;

#endif
