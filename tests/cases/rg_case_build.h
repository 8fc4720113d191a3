/* How the cases are put together. */
#ifndef RG_CASE_BUILD_H
#define RG_CASE_BUILD_H

#include "rg_cases.h"

enum { BUILD_ARGS = 16, BUILD_SITES = 4, BUILD_OUTS = 6, BUILD_CONTRS = 2 };

typedef struct build {
    rg_arena *arena;
    rg_kdesc *desc;
    rg_expr *e; /* of the site that was begun last */
    int32_t vector;
    bool failed;
} build;

build build_new(rg_arena *arena, int32_t vector, rg_kdesc *desc, rg_kkind kind, const char *name);

enum { READ = 1, WRITE = 2 };
int32_t build_act(build *b, int32_t h, int32_t w, int32_t c, int flow);
int32_t build_vec(build *b, int32_t c, int flow);
int32_t build_flat(build *b, int64_t length, int flow);
int32_t build_weight(build *b, int32_t k, int32_t r, int32_t s, int32_t c, int flow);
int32_t build_part(build *b, int32_t c, int32_t stats, int flow);
int32_t build_partw(build *b, int32_t weight, int32_t parts_per_block);
int32_t build_fin(build *b, rg_kfin_kind kind, int32_t arg);

rg_ksite *build_site(build *b, int32_t h, int32_t w, int32_t c);
void build_out(build *b, rg_kout_kind kind, int32_t root, int32_t arg, uint32_t axes);
void build_row(build *b, rg_kout_kind kind, int32_t root, int32_t row);
void build_contr(build *b, int32_t site, int32_t w_arg, int32_t r, int32_t s, rg_kgeom gh,
                 rg_kgeom gw);
/* A contraction with a sum of its own, of the first one's operand. */
void build_rider(build *b, int32_t w_arg, int32_t r, int32_t s, rg_kgeom gh, rg_kgeom gw);

/* Nodes of the site that was begun last. */
int32_t ex_arg(build *b, int32_t i);
int32_t ex_leaf(build *b, rg_expr_op op, int32_t leaf);
int32_t ex_const(build *b, double value);
int32_t ex1(build *b, rg_expr_op op, int32_t x);
int32_t ex2(build *b, rg_expr_op op, int32_t x, int32_t y);
int32_t ex3(build *b, rg_expr_op op, int32_t x, int32_t y, int32_t z);
int32_t ex_relu(build *b, int32_t x);

#define RG_AXES_NHW (RG_AXIS_N | RG_AXIS_H | RG_AXIS_W)

/* The four convolutions of each shape, with live images in turn; false when memory runs out. */
bool cases_conv_shapes(rg_arena *arena, int32_t vector, const rg_conv_shape *shape, int32_t shapes,
                       const int32_t live[3], rg_case *list, int32_t *count);

/* The families, each in its file: append to list[*count]. */
void cases_conv(rg_arena *arena, int32_t vector, rg_case *list, int32_t *count);
void cases_map(rg_arena *arena, int32_t vector, rg_case *list, int32_t *count);
void cases_rest(rg_arena *arena, int32_t vector, rg_case *list, int32_t *count);

#endif
