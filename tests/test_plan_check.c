/* A plan is untrusted: each mutation of a good plan is refused with one line that says what is
 * wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>

#include "test_plan.h"

/* Buffers of the good plan, in their order. */
enum { IMAGE, LABEL, LOSS, CORRECT, LOGITS, X, Y, PART, GAMMA, WEIGHT, FC, MEAN, SCALE };

static rg_ctx ctx;
static test_plan tp;

static void nothing(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)a, (void)ctrl, (void)tile, (void)scratch;
}

static void add_buffers(void) {
    tp_act(&tp, "image", RG_ARENA_IO, 2, 2, 1);
    tp_act(&tp, "label", RG_ARENA_IO, 1, 1, 1);
    tp_vec(&tp, "loss", RG_ARENA_IO, 1);
    tp_vec(&tp, "correct", RG_ARENA_IO, 1);
    tp_act(&tp, "logits", RG_ARENA_IO, 1, 1, 10);
    tp_act(&tp, "x", RG_ARENA_WORK, 2, 2, 16);
    tp_act(&tp, "y", RG_ARENA_WORK, 2, 2, 16);
    tp_buffer(&tp, "part", RG_ARENA_WORK, (rg_plan_buffer){.layout = RG_PL_RAW}, 300);
    tp_vec(&tp, "gamma", RG_ARENA_PARAM, 20);
    rg_plan_buffer weight = {.layout = RG_PL_WEIGHT, .dim = {20, 3, 3, 4}, .cp = 32, .kb = 16};
    tp_buffer(&tp, "weight", RG_ARENA_PARAM, weight, 32 * 9 * 4);
    rg_plan_buffer fc = {.layout = RG_PL_WEIGHT, .dim = {10, 2, 2, 16}, .cp = 16, .kb = 16};
    tp_buffer(&tp, "fc", RG_ARENA_PARAM, fc, 16 * 64);
    tp_vec(&tp, "mean", RG_ARENA_STATE, 20);
    tp_vec(&tp, "scale", RG_ARENA_STATE, 1);
    for (int i = RG_ARENA_GRAD; i <= RG_ARENA_MOMENT2; i++)
        tp.plan.arena_bytes[i] = tp.plan.arena_bytes[RG_ARENA_PARAM];
    tp.plan.io = (rg_plan_io){IMAGE, LABEL, LOSS, CORRECT, LOGITS};
}

static void add_params(void) {
    tp_param(&tp, "bn.weight", GAMMA);
    tp_param(&tp, "bn.running_mean", MEAN);
    tp_param(&tp, "conv.weight", WEIGHT);
    tp.param[2].rank = 4;
    memcpy(tp.param[2].shape, (uint64_t[4]){20, 4, 3, 3}, sizeof tp.param[2].shape);
    tp.param[2].init = RG_PI_UNIFORM;
    tp.param[2].value = 0.1;
    tp_param(&tp, "fc.weight", FC);
    tp.param[3].rank = 2;
    tp.param[3].shape[1] = 64;
    tp.param[tp.plan.param_count++] =
        (rg_plan_param){.name = tp_text(&tp, "bn.num_batches_tracked"),
                        .kind = RG_PK_COUNTER,
                        .buffer = UINT32_MAX};
}

static void add_programs(void) {
    uint32_t three = tp_kernel(&tp, "rg_three", nothing, 3, 4, 1);
    uint32_t one = tp_kernel(&tp, "rg_one", nothing, 1, 0, 1);
    uint32_t grad[] = {IMAGE, GAMMA, X}, eval[] = {X, WEIGHT, Y}, loss = LOSS, logits = LOGITS;
    tp_launch(&tp, RG_PP_GRAD, three, grad, 0);
    tp_fill(&tp, RG_PP_GRAD, PART, 0);
    tp_launch(&tp, RG_PP_GRAD, three, eval, 1);
    tp_launch(&tp, RG_PP_EVAL, three, eval, 0);
    tp_launch(&tp, RG_PP_EVAL, one, &loss, 1);
    tp_launch(&tp, RG_PP_PREDICT, one, &logits, 0);
}

static int setup(void **state) {
    (void)state;
    tp_init(&tp, 10);
    add_buffers();
    add_params();
    add_programs();
    return rg_ctx_init(&ctx) == RG_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    rg_ctx_free(&ctx);
    return 0;
}

static void test_a_good_plan_passes(void **state) {
    (void)state;
    rg_status status = rg_plan_check(&ctx, &tp.plan);
    if (status != RG_OK) fail_msg("%s", ctx.last->text);
    assert_int_equal(ctx.count, 0);
}

/* One change, the check, and back; `word` must stand in the line. */
static void expect_bad(void *at, const void *value, size_t bytes, const char *word,
                       const char *what) {
    char saved[64];
    assert_true(bytes <= sizeof saved);
    memcpy(saved, at, bytes);
    memcpy(at, value, bytes);
    int before = ctx.count;
    rg_status status = rg_plan_check(&ctx, &tp.plan);
    memcpy(at, saved, bytes);
    if (status != RG_E_FORMAT) fail_msg("%s: passed as '%s'", what, rg_status_name(status));
    if (ctx.count != before + 1) fail_msg("%s: %d lines", what, ctx.count - before);
    if (!strstr(ctx.last->text, word)) fail_msg("%s: '%s' lacks '%s'", what, ctx.last->text, word);
}

/* The field is changed to the value, which has the field's type. */
#define BAD(field, val, word)                                                                      \
    do {                                                                                           \
        __typeof__(field) changed = (val);                                                         \
        expect_bad(&(field), &changed, sizeof changed, word, #field " = " #val);                   \
    } while (0)

static void test_a_wrong_header_is_refused(void **state) {
    (void)state;
    BAD(tp.plan.magic, 0, "RGP1");
    BAD(tp.plan.version, 1, "version 1");
    BAD(tp.plan.max_blocks, 0, "image blocks");
    BAD(tp.plan.max_blocks, RG_PLAN_MAX_BLOCKS + 1, "image blocks");
    BAD(tp.plan.text_bytes, 0, "terminated");
    BAD(tp.plan.text_bytes, 12, "terminated");
    BAD(tp.text[tp.plan.text_bytes - 1], 'x', "terminated");
    BAD(tp.plan.op, NULL, "missing");
    BAD(tp.plan.param, NULL, "missing");
    BAD(tp.plan.arena_bytes[RG_ARENA_WORK], UINT64_MAX, "'work'");
    BAD(tp.plan.arena_bytes[RG_ARENA_GRAD], 64, "'grad'");
    BAD(tp.plan.arena_bytes[RG_ARENA_MOMENT2], 64, "'moment2'");
    BAD(tp.plan.work_lower_bound, tp.plan.arena_bytes[RG_ARENA_WORK] + 1, "lower bound");
}

static void test_wrong_data_is_refused(void **state) {
    (void)state;
    BAD(tp.plan.data.dataset, 1000000, "data set");
    BAD(tp.plan.data.channels, 0, "images");
    BAD(tp.plan.data.channels, 5, "images");
    BAD(tp.plan.data.height, 1 << 20, "images");
    BAD(tp.plan.data.classes, 0, "classes");
    BAD(tp.plan.data.batch, 0, "batches");
    BAD(tp.plan.data.eval_batch, 49, "batches");
    BAD(tp.plan.data.std[0], 0, "deviation");
    BAD(tp.plan.data.mean[0], NAN, "mean");
    BAD(tp.plan.data.lr, NAN, "optimiser");
    BAD(tp.plan.data.optim_kind, 2, "optimiser");
}

static void test_a_wrong_buffer_is_refused(void **state) {
    (void)state;
    BAD(tp.buffer[X].name, tp.plan.text_bytes, "name of buffer");
    BAD(tp.buffer[X].arena, RG_ARENA_COUNT, "arena");
    BAD(tp.buffer[X].layout, 4, "layout");
    BAD(tp.buffer[X].offset, tp.buffer[X].offset + 32, "aligned");
    BAD(tp.buffer[PART].offset, UINT64_MAX - 63, "beyond");
    BAD(tp.buffer[PART].bytes, UINT64_MAX, "beyond");
    BAD(tp.buffer[PART].bytes, tp.buffer[PART].bytes + 4096, "beyond");
    BAD(tp.buffer[X].bytes, 1024, "needs");
    BAD(tp.buffer[X].dim[3], 15, "extents");
    BAD(tp.buffer[X].dim[0], 0, "extents");
    BAD(tp.buffer[X].dim[0], UINT32_MAX, "extents");
    BAD(tp.buffer[GAMMA].dim[1], 19, "extents");
    BAD(tp.buffer[GAMMA].dim[1], 64, "needs");
    BAD(tp.buffer[WEIGHT].kb, 0, "extents");
    BAD(tp.buffer[WEIGHT].kb, 20, "extents");
    BAD(tp.buffer[WEIGHT].cp, 16, "extents");
    BAD(tp.buffer[WEIGHT].dim[3], 5, "needs");
}

static void test_sizes_that_overflow_are_refused(void **state) {
    (void)state;
    uint32_t dim[4] = {1 << 24, 1 << 24, 1 << 24, 1 << 24};
    expect_bad(tp.buffer[X].dim, dim, sizeof dim, "extents", "16.8 million in each dimension");
    expect_bad(tp.buffer[WEIGHT].dim, (uint32_t[4]){20, 1 << 24, 1 << 24, 1 << 24}, sizeof dim,
               "extents", "a filter that overflows");
}

static void test_a_wrong_kernel_is_refused(void **state) {
    (void)state;
    BAD(tp.kernel[0].symbol, UINT32_MAX, "symbol");
    BAD(tp.text[tp.kernel[0].symbol], '/', "C name");
    BAD(tp.text[tp.kernel[0].symbol], '0', "C name");
    BAD(tp.text[tp.kernel[0].key], 'G', "hex");
    BAD(tp.text[tp.kernel[0].key + 31], 0, "hex");
    BAD(tp.kernel[0].tiles_per_block, INT32_MAX, "tiles");
    BAD(tp.kernel[0].tiles_fixed, UINT32_MAX, "tiles");
    BAD(tp.kernel[0].scratch_bytes, UINT64_MAX, "scratch");
    BAD(tp.kernel[0].flop_per_image, NAN, "FLOP");
    BAD(tp.kernel[0].bytes_per_image, -1, "FLOP");
}

static void test_a_wrong_op_is_refused(void **state) {
    (void)state;
    BAD(tp.op[0].kind, 2, "kind");
    BAD(tp.op[0].wait, 2, "wait");
    BAD(tp.op[0].label, UINT32_MAX, "label");
    BAD(tp.op[0].kernel, 2, "kernel 2 of 2");
    BAD(tp.op[0].kernel, 1, "wants 1");
    BAD(tp.op[0].arg_count, 2, "wants 3");
    BAD(tp.op[1].arg_count, 0, "wants 1");
    BAD(tp.op[0].first_arg, tp.plan.arg_count, "outside");
    BAD(tp.op[0].first_arg, UINT32_MAX, "outside");
    BAD(tp.op[0].arg_count, UINT32_MAX, "outside");
    BAD(tp.arg[0], tp.plan.buffer_count, "argument 0");
    BAD(tp.plan.program[RG_PP_GRAD].op_count, tp.plan.op_count + 1, "'grad'");
    BAD(tp.plan.program[RG_PP_EVAL].first_op, UINT32_MAX, "'eval'");
}

static void test_an_activation_holds_the_batch_of_its_program(void **state) {
    (void)state;
    uint64_t block = 2 * 2 * 16 * 16 * sizeof(float);
    BAD(tp.buffer[X].bytes, 2 * block, "too small for 3");
    tp.plan.program[RG_PP_EVAL].op_count = 0;
    BAD(tp.buffer[X].bytes, block, "too small for 2");
    tp.buffer[X].bytes = 2 * block;
    assert_int_equal(rg_plan_check(&ctx, &tp.plan), RG_OK);
}

static void test_memory_is_shared_only_across_a_wait(void **state) {
    (void)state;
    BAD(tp.buffer[Y].offset, tp.buffer[X].offset, "'x' and 'y' share");
    BAD(tp.buffer[Y].offset, tp.buffer[X].offset + 64, "'x' and 'y' share");
    /* x and part meet in ops 0 and 1; y and part only across the wait before op 2. */
    BAD(tp.buffer[PART].offset, tp.buffer[X].offset, "share");
    tp.buffer[PART].offset = tp.buffer[Y].offset;
    assert_int_equal(rg_plan_check(&ctx, &tp.plan), RG_OK);
    BAD(tp.op[2].wait, 0, "'y' and 'part' share");
}

static void test_a_wrong_parameter_is_refused(void **state) {
    (void)state;
    BAD(tp.param[0].name, UINT32_MAX, "parameter 0");
    BAD(tp.param[0].name, tp.param[1].name, "two parameters");
    BAD(tp.param[0].kind, 3, "kind");
    BAD(tp.param[0].kind, RG_PK_STATE, "arena");
    BAD(tp.param[1].kind, RG_PK_TRAINED, "arena");
    BAD(tp.param[4].rank, 1, "rank");
    BAD(tp.param[0].buffer, UINT32_MAX, "buffer");
    BAD(tp.param[0].buffer, X, "arena");
    BAD(tp.param[0].shape[0], 21, "shape");
    BAD(tp.param[0].rank, 2, "shape");
    BAD(tp.param[2].shape[1], 3, "shape");
    BAD(tp.param[2].shape[3], UINT64_MAX, "shape");
    BAD(tp.param[2].rank, 3, "shape");
    BAD(tp.param[3].shape[1], 63, "shape");
    BAD(tp.param[0].init, 2, "initialisation");
    BAD(tp.param[2].value, -0.1, "initialisation");
    BAD(tp.param[2].value, INFINITY, "initialisation");
}

static void test_parameters_do_not_share_memory(void **state) {
    (void)state;
    BAD(tp.buffer[WEIGHT].offset, 64, "share");
    uint32_t twin = tp.plan.param_count;
    tp_param(&tp, "bn.twin", GAMMA);
    assert_int_equal(rg_plan_check(&ctx, &tp.plan), RG_E_FORMAT);
    assert_non_null(strstr(ctx.last->text, "two parameters are in buffer 'gamma'"));
    tp.plan.param_count = twin;
    assert_int_equal(rg_plan_check(&ctx, &tp.plan), RG_OK);
}

static void test_a_wrong_loss_scaling_is_refused(void **state) {
    (void)state;
    BAD(tp.plan.scaling.scale, SCALE, "number 1 of the loss scaling is in buffer");
    tp.plan.scaling = (rg_plan_scaling){SCALE, SCALE};
    assert_int_equal(rg_plan_check(&ctx, &tp.plan), RG_OK);
    BAD(tp.plan.scaling.steps, tp.plan.buffer_count, "number 1 of the loss scaling is in buffer");
    BAD(tp.plan.scaling.scale, MEAN, "number 0 of the loss scaling has a wrong");
    BAD(tp.plan.scaling.scale, LOSS, "number 0 of the loss scaling has a wrong");
    BAD(tp.buffer[SCALE].layout, RG_PL_RAW, "number 0 of the loss scaling has a wrong");
}

static void test_a_wrong_input_or_output_is_refused(void **state) {
    (void)state;
    BAD(tp.plan.io.image, UINT32_MAX, "'image'");
    BAD(tp.plan.io.label, UINT32_MAX, "'label'");
    BAD(tp.plan.io.loss, 99, "'loss'");
    BAD(tp.plan.io.correct, X, "'correct'");
    BAD(tp.plan.io.logits, UINT32_MAX, "'logits'");
    BAD(tp.plan.io.logits, LABEL, "'logits'");
    BAD(tp.plan.io.image, LOGITS, "'image'");
    BAD(tp.plan.max_blocks, 4, "too small for 4");
    tp.plan.program[RG_PP_PREDICT].op_count = 0;
    tp.plan.io.logits = UINT32_MAX; /* not needed now */
    assert_int_equal(rg_plan_check(&ctx, &tp.plan), RG_OK);
}

/* Whatever a byte of the tables becomes, the check comes back, and what it lets through stays in
 * bounds. */
static void test_no_single_byte_leads_out_of_bounds(void **state) {
    (void)state;
    struct {
        void *at;
        size_t bytes;
    } table[] = {{tp.buffer, tp.plan.buffer_count * sizeof *tp.buffer},
                 {tp.kernel, tp.plan.kernel_count * sizeof *tp.kernel},
                 {tp.arg, tp.plan.arg_count * sizeof *tp.arg},
                 {tp.op, tp.plan.op_count * sizeof *tp.op},
                 {tp.param, tp.plan.param_count * sizeof *tp.param},
                 {tp.plan.program, sizeof tp.plan.program},
                 {&tp.plan.io, sizeof tp.plan.io}};
    static const unsigned char flips[] = {0x01, 0x80, 0xff};
    int refused = 0, passed = 0;
    for (size_t t = 0; t < sizeof table / sizeof *table; t++)
        for (size_t i = 0; i < table[t].bytes; i++)
            for (size_t f = 0; f < sizeof flips; f++) {
                unsigned char *byte = (unsigned char *)table[t].at + i;
                *byte ^= flips[f];
                rg_ctx one;
                assert_int_equal(rg_ctx_init(&one), RG_OK);
                rg_status status = rg_plan_check(&one, &tp.plan);
                assert_true(status == RG_OK || status == RG_E_FORMAT);
                for (uint32_t a = 0; status == RG_OK && a < tp.plan.arg_count; a++) {
                    const rg_plan_buffer *buffer = &tp.buffer[tp.arg[a]];
                    assert_true(buffer->bytes <= tp.plan.arena_bytes[buffer->arena]);
                    assert_true(buffer->offset <=
                                tp.plan.arena_bytes[buffer->arena] - buffer->bytes);
                }
                status == RG_OK ? passed++ : refused++;
                rg_ctx_free(&one);
                *byte ^= flips[f];
            }
    assert_true(refused > passed); /* names and sizes that stay in range may pass */
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_a_good_plan_passes),
        T(test_a_wrong_header_is_refused),
        T(test_wrong_data_is_refused),
        T(test_a_wrong_buffer_is_refused),
        T(test_sizes_that_overflow_are_refused),
        T(test_a_wrong_kernel_is_refused),
        T(test_a_wrong_op_is_refused),
        T(test_an_activation_holds_the_batch_of_its_program),
        T(test_memory_is_shared_only_across_a_wait),
        T(test_a_wrong_parameter_is_refused),
        T(test_parameters_do_not_share_memory),
        T(test_a_wrong_loss_scaling_is_refused),
        T(test_a_wrong_input_or_output_is_refused),
        T(test_no_single_byte_leads_out_of_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
