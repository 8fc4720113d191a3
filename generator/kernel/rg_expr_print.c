/* Expression trees as text that people read: infix, with no more brackets than needed. */
#include "rg_expr.h"

/* A DAG printed as a tree can grow without bound; past this the rest is three dots. */
#define PRINT_LIMIT 4000

typedef struct printer {
    rg_text *text;
    size_t start;
    const rg_expr *expr;
    const char *const *arg_name;
} printer;

typedef struct infix_row {
    const char *sign;
    int level; /* binds tighter the higher; 0: not infix */
} infix_row;

static const infix_row infix[RG_EXPR_OP_COUNT] = {
    [RG_EXPR_GT] = {" > ", 1},  [RG_EXPR_GE] = {" >= ", 1}, [RG_EXPR_EQ] = {" == ", 1},
    [RG_EXPR_ADD] = {" + ", 2}, [RG_EXPR_SUB] = {" - ", 2}, [RG_EXPR_MUL] = {"*", 3},
    [RG_EXPR_DIV] = {"/", 3},
};
#define LEVEL_UNARY 4

static const char *const ctrl_name[RG_CTRL_SCALARS] = {
#define X(id, text) [RG_CTRL_##id] = text,
    RG_CTRL_LIST(X)
#undef X
};

static void print_leaf(printer *p, const rg_enode *n) {
    switch (n->op) {
    case RG_EXPR_CONST:
        rg_text_add(p->text, "%.9g", n->value);
        return;
    case RG_EXPR_ARG:
        if (p->arg_name)
            rg_text_add(p->text, "%s", p->arg_name[n->leaf]);
        else
            rg_text_add(p->text, "arg%d", n->leaf);
        return;
    case RG_EXPR_INDEX:
        rg_text_add(p->text, "index_%c", "nhwc"[n->leaf & 3]);
        return;
    case RG_EXPR_CTRL:
        rg_text_add(p->text, "%s", ctrl_name[n->leaf]);
        return;
    default:
        rg_text_add(p->text, "%s%d", rg_expr_name(n->op), n->leaf);
        return;
    }
}

static void print_node(printer *p, int32_t i, int level);

static void print_infix(printer *p, const rg_enode *n, int outer) {
    int level = infix[n->op].level;
    if (level < outer) rg_text_add(p->text, "(");
    print_node(p, n->a, level);
    rg_text_add(p->text, "%s", infix[n->op].sign);
    print_node(p, n->b, level + 1); /* a - (b - c) keeps its brackets */
    if (level < outer) rg_text_add(p->text, ")");
}

static void print_call(printer *p, const rg_enode *n) {
    const int32_t operand[3] = {n->a, n->b, n->c};
    rg_text_add(p->text, "%s(", rg_expr_name(n->op));
    for (int i = 0; i < rg_expr_arity(n->op); i++) {
        if (i > 0) rg_text_add(p->text, ", ");
        print_node(p, operand[i], 0);
    }
    rg_text_add(p->text, ")");
}

/* `level`: how tightly the surrounding operator binds. */
static void print_node(printer *p, int32_t i, int level) {
    const rg_enode *n = &p->expr->node[i];
    if (p->text->length - p->start > PRINT_LIMIT) {
        rg_text_add(p->text, "...");
    } else if (rg_expr_arity(n->op) == 0) {
        print_leaf(p, n);
    } else if (n->op == RG_EXPR_NEG) {
        rg_text_add(p->text, "-");
        print_node(p, n->a, LEVEL_UNARY);
    } else if (infix[n->op].level > 0) {
        print_infix(p, n, level);
    } else {
        print_call(p, n);
    }
}

void rg_expr_print(rg_text *text, const rg_expr *expr, int32_t root, const char *const *arg_name) {
    printer p = {text, text->length, expr, arg_name};
    print_node(&p, root, 0);
}
