/* Expression trees: element-wise maths over tensors, shared by graph nodes and kernel descriptions.
 *
 * An rg_expr is a DAG in topological order (operands before users). Identical nodes are made once.
 * Values are f32 in emitted code and double in the interpreters. Comparisons give 1 or 0. */
#ifndef RG_EXPR_H
#define RG_EXPR_H

#include "rg_base.h"

/* id, name, arity: operators. Emission text stands in templates/lib.lua under the same name; double
 * semantics in rg_expr.c. */
#define RG_EXPR_OPS(X)                                                                             \
    X(NEG, "neg", 1)                                                                               \
    X(ABS, "abs", 1)                                                                               \
    X(SQRT, "sqrt", 1)                                                                             \
    X(RSQRT, "rsqrt", 1)                                                                           \
    X(EXP, "exp", 1)                                                                               \
    X(LOG, "log", 1)                                                                               \
    X(TANH, "tanh", 1)                                                                             \
    X(SIGMOID, "sigmoid", 1)                                                                       \
    X(ROUND_TF32, "round_tf32", 1) /* to 10 fraction bits, ties away from zero */                  \
    X(ROUND_BF16, "round_bf16", 1) /* to bfloat16, ties to even */                                 \
    X(ROUND_F16, "round_f16", 1)   /* to binary16, ties to even; too large: infinite */            \
    X(ADD, "add", 2)                                                                               \
    X(SUB, "sub", 2)                                                                               \
    X(MUL, "mul", 2)                                                                               \
    X(DIV, "div", 2)                                                                               \
    X(MAX, "max", 2) /* NaN if either is NaN */                                                    \
    X(MIN, "min", 2) /* NaN if either is NaN */                                                    \
    X(GT, "gt", 2)                                                                                 \
    X(GE, "ge", 2)                                                                                 \
    X(EQ, "eq", 2)                                                                                 \
    X(FMA, "fma", 3)       /* a*b + c, rounded once */                                             \
    X(SELECT, "select", 3) /* a != 0 ? b : c */

/* id, name: leaves. `leaf` holds the index. */
#define RG_EXPR_LEAVES(X)                                                                          \
    X(CONST, "const") /* value */                                                                  \
    X(ARG, "arg")     /* leaf: input of the graph node, or argument of the kernel */               \
    X(ACC, "acc")     /* leaf: result of the kernel's anchor (0; maxpool also 1: the index) */     \
    X(INDEX, "index") /* leaf: an axis, 0 N, 1 H, 2 W, 3 C: the element's coordinate */            \
    X(CTRL, "ctrl")   /* leaf: an rg_ctrl_id */                                                    \
    X(ROW, "row")     /* leaf: an earlier reduction over C of this pixel and image (MAP) */        \
    X(FIN, "fin")     /* leaf: an rg_kfin: partial results in their fixed order (VEC) */

typedef enum rg_expr_op {
#define X(id, name) RG_EXPR_##id,
    RG_EXPR_LEAVES(X)
#undef X
#define X(id, name, arity) RG_EXPR_##id,
        RG_EXPR_OPS(X)
#undef X
            RG_EXPR_OP_COUNT
} rg_expr_op;

typedef struct rg_enode {
    rg_expr_op op;
    int32_t a, b, c; /* operands: indices of earlier nodes; -1 where there is none */
    int32_t leaf;
    double value;
} rg_enode;

/* A DAG never grows past this; its builders then answer -1. */
#define RG_EXPR_MAX_NODES 16384

typedef struct rg_expr {
    int32_t count, capacity;
    rg_enode *node;
    rg_arena *arena;
} rg_expr;

void rg_expr_init(rg_expr *expr, rg_arena *arena);

/* Builders return the index of the node, an old one where the same node is there already (and fold
 * constants and x*1, x+0, select of a constant; never 0*x). -1 when memory runs out or an operand
 * is -1, so that only the last index needs a look. */
int32_t rg_expr_const(rg_expr *expr, double value) RG_CHECKED;
int32_t rg_expr_leaf(rg_expr *expr, rg_expr_op op, int32_t leaf) RG_CHECKED;
int32_t rg_expr_unary(rg_expr *expr, rg_expr_op op, int32_t a) RG_CHECKED;
int32_t rg_expr_binary(rg_expr *expr, rg_expr_op op, int32_t a, int32_t b) RG_CHECKED;
int32_t rg_expr_ternary(rg_expr *expr, rg_expr_op op, int32_t a, int32_t b, int32_t c) RG_CHECKED;

/* Copies node `root` of `from` (and what it needs) into `to`; leaves ARG i become the node arg[i]
 * of `to` (arg may be NULL: leaves are copied as they are). Returns the new root, -1 when memory
 * runs out. */
int32_t rg_expr_graft(rg_expr *to, const rg_expr *from, int32_t root,
                      const int32_t *arg) RG_CHECKED;

/* d root / d ARG `arg`, as a new node of the same DAG. GT, GE, EQ and INDEX have derivative 0;
 * MAX(a,b) passes to a where a > b, to b otherwise; SELECT's condition has none. Returns -1 when
 * memory runs out. */
int32_t rg_expr_derive(rg_expr *expr, int32_t root, int32_t arg) RG_CHECKED;
/* The same times node `seed`, which is what reverse mode wants: the seed goes inside, so that
 * relu's is select(x > 0, seed, 0). */
int32_t rg_expr_tangent(rg_expr *expr, int32_t root, int32_t arg, int32_t seed) RG_CHECKED;

/* Keeps what `roots` need (-1: no root) and renumbers these in place. Nodes then stand in the order
 * of a depth-first walk from the roots, whatever the order in which they were built. */
rg_status rg_expr_prune(rg_expr *expr, int32_t *roots, int count) RG_CHECKED;

/* Does the value of `root` depend on a leaf (op, leaf)? leaf -1: on any leaf of that kind. */
bool rg_expr_uses(const rg_expr *expr, int32_t root, rg_expr_op op, int32_t leaf);

/* Values of leaves for the interpreter. */
typedef double (*rg_expr_leaf_fn)(void *user, rg_expr_op op, int32_t leaf);
/* Computes every node into value[0..count). */
void rg_expr_eval(const rg_expr *expr, rg_expr_leaf_fn leaf, void *user, double *value);
/* One operator in double: the meaning of each row of RG_EXPR_OPS. */
double rg_expr_apply(rg_expr_op op, double a, double b, double c);

int rg_expr_arity(rg_expr_op op); /* 0 for leaves */
const char *rg_expr_name(rg_expr_op op);
/* An operator by name; RG_EXPR_OP_COUNT when there is none. */
rg_expr_op rg_expr_find(const char *name);
/* Readable infix text of `root`; argument i is printed as arg_name[i] (NULL: "arg<i>"). */
void rg_expr_print(rg_text *text, const rg_expr *expr, int32_t root, const char *const *arg_name);

#endif
