/* A small plan put together by hand, for tests of what executes plans. */
#ifndef TEST_PLAN_H
#define TEST_PLAN_H

#include "rg_core.h"

#include <assert.h>
#include <string.h>

enum { TP_MAX = 32, TP_ARGS = 128, TP_TEXT = 4096 };

typedef struct test_plan {
    rg_plan plan;
    char text[TP_TEXT];
    rg_plan_buffer buffer[TP_MAX];
    rg_plan_kernel kernel[TP_MAX];
    uint32_t arg[TP_ARGS];
    rg_plan_op op[TP_MAX];
    rg_plan_param param[TP_MAX];
    rg_cpu_kernel function[TP_MAX];
} test_plan;

static inline rg_pname tp_text(test_plan *tp, const char *text) {
    rg_pname at = tp->plan.text_bytes;
    assert(at + strlen(text) < TP_TEXT);
    strcpy(tp->text + at, text);
    tp->plan.text_bytes += (uint32_t)strlen(text) + 1;
    return at;
}

/* Images of 2 x 2 x 1 in `classes` classes; batches of 32, evaluation by 48. */
static inline void tp_init(test_plan *tp, uint32_t classes) {
    memset(tp, 0, sizeof *tp);
    rg_plan *plan = &tp->plan;
    plan->magic = RG_PLAN_MAGIC;
    plan->version = RG_PLAN_VERSION;
    plan->max_blocks = 3;
    plan->text = tp->text;
    plan->buffer = tp->buffer;
    plan->kernel = tp->kernel;
    plan->arg = tp->arg;
    plan->op = tp->op;
    plan->param = tp->param;
    plan->io = (rg_plan_io){UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};
    plan->scaling = (rg_plan_scaling){UINT32_MAX, UINT32_MAX};
    plan->data = (rg_plan_data){.dataset = tp_text(tp, "synthetic"),
                                .height = 2,
                                .width = 2,
                                .channels = 1,
                                .classes = classes,
                                .mean = {0.5f, 0.5f, 0.5f, 0.5f},
                                .std = {0.5f, 0.5f, 0.5f, 0.5f},
                                .batch = 32,
                                .eval_batch = 48,
                                .epochs = 2,
                                .optim_kind = 1,
                                .lr = 0.5,
                                .beta1 = 0.9,
                                .beta2 = 0.999};
}

/* Appends a buffer at the end of its arena. */
static inline uint32_t tp_buffer(test_plan *tp, const char *name, rg_plan_arena arena,
                                 rg_plan_buffer like, uint64_t floats) {
    uint32_t index = tp->plan.buffer_count++;
    assert(index < TP_MAX);
    like.name = tp_text(tp, name);
    like.arena = arena;
    like.offset = tp->plan.arena_bytes[arena];
    like.bytes = floats * sizeof(float);
    tp->buffer[index] = like;
    tp->plan.arena_bytes[arena] += (like.bytes + 63) / 64 * 64;
    return index;
}

static inline uint32_t tp_act(test_plan *tp, const char *name, rg_plan_arena arena, uint32_t h,
                              uint32_t w, uint32_t c) {
    rg_plan_buffer like = {.layout = RG_PL_ACT, .dim = {h, w, c, c}};
    return tp_buffer(tp, name, arena, like, (uint64_t)tp->plan.max_blocks * RG_BLOCK * h * w * c);
}

static inline uint32_t tp_vec(test_plan *tp, const char *name, rg_plan_arena arena, uint32_t c) {
    uint32_t padded = (c + 15) / 16 * 16;
    rg_plan_buffer like = {.layout = RG_PL_VEC, .dim = {c, padded}};
    return tp_buffer(tp, name, arena, like, padded);
}

static inline uint32_t tp_kernel(test_plan *tp, const char *symbol, rg_cpu_kernel function,
                                 uint32_t arg_count, uint32_t tiles_per_block,
                                 uint32_t tiles_fixed) {
    uint32_t index = tp->plan.kernel_count++;
    assert(index < TP_MAX);
    tp->kernel[index] = (rg_plan_kernel){.symbol = tp_text(tp, symbol),
                                         .key = tp_text(tp, "0123456789abcdef0123456789abcdef"),
                                         .tiles_per_block = tiles_per_block,
                                         .tiles_fixed = tiles_fixed,
                                         .scratch_bytes = 256,
                                         .arg_count = arg_count};
    tp->function[index] = function;
    return index;
}

/* Appends an op to the program; a program's ops are added one after another. */
static inline rg_plan_op *tp_op(test_plan *tp, rg_plan_program_id program, rg_plan_op op,
                                const uint32_t *arg, uint32_t arg_count) {
    rg_plan_program *row = &tp->plan.program[program];
    uint32_t index = tp->plan.op_count++;
    assert(index < TP_MAX && tp->plan.arg_count + arg_count <= TP_ARGS);
    if (row->op_count == 0) row->first_op = index;
    assert(row->first_op + row->op_count == index);
    row->op_count++;
    op.first_arg = tp->plan.arg_count;
    op.arg_count = arg_count;
    op.label = tp_text(tp, "layer");
    if (arg_count) memcpy(tp->arg + op.first_arg, arg, arg_count * sizeof *arg);
    tp->plan.arg_count += arg_count;
    tp->op[index] = op;
    return &tp->op[index];
}

static inline void tp_launch(test_plan *tp, rg_plan_program_id program, uint32_t kernel,
                             const uint32_t *arg, uint32_t wait) {
    rg_plan_op op = {.kind = RG_PO_LAUNCH, .kernel = kernel, .wait = wait};
    tp_op(tp, program, op, arg, tp->kernel[kernel].arg_count);
}

static inline void tp_fill(test_plan *tp, rg_plan_program_id program, uint32_t buffer,
                           uint32_t wait) {
    tp_op(tp, program, (rg_plan_op){.kind = RG_PO_FILL, .wait = wait}, &buffer, 1);
}

static inline void tp_param(test_plan *tp, const char *name, uint32_t buffer) {
    rg_plan_param row = {.name = tp_text(tp, name), .rank = 1, .buffer = buffer};
    row.kind = tp->buffer[buffer].arena == RG_ARENA_PARAM ? RG_PK_TRAINED : RG_PK_STATE;
    row.shape[0] = tp->buffer[buffer].dim[0];
    assert(tp->plan.param_count < TP_MAX);
    tp->param[tp->plan.param_count++] = row;
}

#endif
