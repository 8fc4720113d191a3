/* A bench for one op: a graph that holds it alone, random inputs, and its gradient by reverse mode
 * beside central differences.
 *
 * The objective is L = sum of probe * output 0 over the live images; the probe is what reverse mode
 * gets as dout. */
#ifndef RG_TEST_OP_BENCH_H
#define RG_TEST_OP_BENCH_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rg_kdesc.h"
#include "rg_ops.h"

#define BENCH_INPUTS 5

typedef struct bench {
    rg_ctx ctx;
    rg_graph *graph;
    rg_interp *interp;
    int32_t n, live;
    rg_nid node;
    int32_t in_count;
    rg_vid in[BENCH_INPUTS], probe, din[BENCH_INPUTS];
    uint32_t seed;
} bench;

static const rg_loc bench_loc = {"net.lua", 12};

static inline rg_type act_type(int32_t n, int32_t h, int32_t w, int32_t c) {
    return (rg_type){RG_T_ACT, {n, h, w, c}};
}

static inline rg_type weight_type(int32_t k, int32_t r, int32_t s, int32_t c) {
    return (rg_type){RG_T_WEIGHT, {k, r, s, c}};
}

static inline rg_attr window_attr(int32_t r, int32_t s, int32_t stride, int32_t pad,
                                  int32_t dilation) {
    return (rg_attr){.r = r, .s = s, .stride = stride, .pad = pad, .dilation = dilation};
}

/* (-1, 1); any generator will do that does not repeat itself in some thousand numbers. */
static inline double bench_random(bench *b) {
    b->seed = b->seed * 1664525u + 1013904223u;
    return (double)(b->seed >> 8) / (1 << 23) - 1.0;
}

static inline void bench_near(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.17g is not %.17g", got, want);
}

/* The node over fresh leaves, its types inferred. */
static inline void bench_begin(bench *b, int32_t n, int32_t live, rg_op op, const rg_attr *attr,
                               const rg_type *in, int32_t in_count) {
    *b = (bench){.n = n, .live = live, .in_count = in_count, .seed = 7, .probe = -1};
    assert_int_equal(rg_ctx_init(&b->ctx), RG_OK);
    b->graph = rg_graph_new(b->ctx.arena, "bench");
    assert_non_null(b->graph);
    for (int32_t i = 0; i < in_count; i++) {
        b->in[i] = rg_graph_add_leaf(b->graph, RG_V_INPUT, in[i], NULL, -1, bench_loc);
        assert_true(b->in[i] >= 0);
        b->din[i] = -1;
    }
    rg_node node = {.op = op, .in_count = in_count, .in = b->in, .out_count = 1, .attr = *attr};
    memset(node.out, -1, sizeof node.out);
    rg_type out[RG_NODE_OUT];
    assert_int_equal(rg_op_infer(&b->ctx, b->graph, &node, out), RG_OK);
    static const int32_t outputs[RG_OP_COUNT] = {
#define OP(id, name, inputs, outputs) [RG_OP_##id] = outputs,
#include "ops.def"
#undef OP
    };
    int32_t out_count = outputs[op] > 0 ? outputs[op] : attr->reduce == RG_REDUCE_MOMENTS ? 2 : 1;
    b->node =
        rg_graph_add_node(b->graph, op, b->in, in_count, out, out_count, attr, "layer", bench_loc);
    assert_true(b->node >= 0);
}

static inline rg_vid bench_out(const bench *b, int i) {
    return b->graph->node[b->node].out[i];
}

/* Appends the gradient of all inputs but those that no loss reaches. */
static inline void bench_add_gradient(bench *b, const bool *wanted) {
    if (b->graph->node[b->node].op != RG_OP_LOSS) {
        rg_type type = b->graph->value[bench_out(b, 0)].type;
        b->probe = rg_graph_add_leaf(b->graph, RG_V_INPUT, type, NULL, -1, bench_loc);
        assert_true(b->probe >= 0);
    }
    assert_int_equal(rg_op_grad(&b->ctx, b->graph, b->node, b->probe, wanted, b->din), RG_OK);
}

static inline double *bench_value(bench *b, rg_vid v) {
    return rg_interp_value(b->interp, v);
}

/* Elements that belong to live images; an unbatched tensor has no others. */
static inline int64_t bench_live_count(bench *b, rg_vid v) {
    int64_t count = rg_interp_count(b->interp, v);
    bool batched = b->graph->value[v].type.dim[0] == RG_BATCH;
    return batched ? count / b->n * b->live : count;
}

/* Random leaves. Images beyond the live ones are NaN: whoever multiplies these by zero is found
 * out. */
static inline void bench_fill(bench *b, rg_vid v) {
    int64_t count = rg_interp_count(b->interp, v), live = bench_live_count(b, v);
    for (int64_t i = 0; i < count; i++) bench_value(b, v)[i] = i < live ? bench_random(b) : NAN;
}

static inline void bench_start(bench *b) {
    assert_int_equal(rg_graph_verify(&b->ctx, b->graph), RG_OK);
    assert_int_equal(rg_interp_new(&b->ctx, b->graph, b->n, &b->interp), RG_OK);
    for (rg_vid v = 0; v < b->graph->value_count; v++) {
        if (b->graph->value[v].kind != RG_V_NODE) bench_fill(b, v);
    }
}

static inline void bench_run(bench *b) {
    rg_ctrl ctrl = {.live = b->live, .blocks = 1};
    for (int i = 0; i < RG_CTRL_SCALARS; i++) ctrl.scalar[i] = 0.25f * (float)(i + 1);
    assert_int_equal(rg_interp_run(&b->ctx, b->interp, &ctrl), RG_OK);
}

static inline double bench_objective(bench *b) {
    rg_vid out = bench_out(b, 0);
    bench_run(b);
    if (b->probe < 0) return bench_value(b, out)[0];
    double sum = 0;
    int64_t count = bench_live_count(b, out);
    for (int64_t i = 0; i < count; i++) sum += bench_value(b, out)[i] * bench_value(b, b->probe)[i];
    return sum;
}

/* The slope along one element: error about h^2 + eps/h of values of size 1 to 10, 1e-9 at h = 1e-5.
 */
static inline double bench_slope(bench *b, double *x) {
    const double h = 1e-5, at = *x;
    *x = at + h;
    double up = bench_objective(b);
    *x = at - h;
    double down = bench_objective(b);
    *x = at;
    return (up - down) / (2 * h);
}

/* Reverse mode against central differences, element by element, for one input. */
static inline void bench_check_input(bench *b, int32_t i, double tolerance) {
    assert_true(b->din[i] >= 0);
    assert_true(rg_type_equal(b->graph->value[b->in[i]].type, b->graph->value[b->din[i]].type));
    int64_t count = bench_live_count(b, b->in[i]);
    bench_run(b);
    double *got = malloc((size_t)count * sizeof *got);
    assert_non_null(got);
    memcpy(got, bench_value(b, b->din[i]), (size_t)count * sizeof *got);
    for (int64_t e = 0; e < count; e++) {
        double want = bench_slope(b, bench_value(b, b->in[i]) + e);
        bench_near(got[e], want, tolerance * (1 + fabs(want)));
    }
    free(got);
}

static inline void bench_end(bench *b) {
    rg_interp_free(b->interp);
    rg_ctx_free(&b->ctx);
}

/* The whole check of one op; wanted NULL: all inputs. */
static inline void bench_check(rg_op op, const rg_attr *attr, const rg_type *in, int32_t in_count,
                               int32_t n, int32_t live, const bool *wanted) {
    static const bool all[BENCH_INPUTS] = {true, true, true, true, true};
    bench b;
    bench_begin(&b, n, live, op, attr, in, in_count);
    bench_add_gradient(&b, wanted ? wanted : all);
    bench_start(&b);
    for (int32_t i = 0; i < in_count; i++) {
        if (!wanted || wanted[i]) bench_check_input(&b, i, 1e-7);
    }
    bench_end(&b);
}

#endif
