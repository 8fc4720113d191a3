/* Arenas and programs: tiles, order, scratch, subnormals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <float.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

#include "test_plan.h"

static const int thread_counts[] = {1, 2, 3, 8, 64};
enum { THREAD_COUNTS = sizeof thread_counts / sizeof *thread_counts };

static rg_ctx ctx;
static test_plan tp;

static int setup(void **state) {
    (void)state;
    tp_init(&tp, 10);
    return rg_ctx_init(&ctx) == RG_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    rg_ctx_free(&ctx);
    return 0;
}

static rg_exec *new_exec(int threads) {
    rg_exec *exec = NULL;
    assert_int_equal(rg_exec_new(&ctx, &tp.plan, tp.function, threads, &exec), RG_OK);
    assert_ptr_equal(rg_exec_plan(exec), &tp.plan);
    return exec;
}

/* ---- kernels ---- */

static void count_tile(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)ctrl, (void)scratch;
    a[0][tile] += 1;
}

static void add_one(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)ctrl, (void)scratch;
    a[1][tile] = a[0][tile] + 1;
}

/* Reads what other tiles of the op before it have written. */
static void add_neighbours(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)scratch;
    int32_t tiles = 16 * ctrl->blocks;
    a[1][tile] = a[0][(tile + 1) % tiles] + a[0][(tile + tiles - 1) % tiles];
}

/* Gives other threads every chance to run until `seen` reaches `count`; gives up where there are
 * none. */
static void linger(atomic_int *seen, int count) {
    for (int i = 0; i < 20000 && atomic_load(seen) < count; i++) sched_yield();
}

static atomic_int arrived;

/* Two tiles are under way at once, each with its mark all over its scratch. */
static void use_scratch(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)ctrl;
    float sum = 0;
    for (int i = 0; i < 1000; i++) scratch[i] = (float)tile;
    atomic_fetch_add(&arrived, 1);
    linger(&arrived, 2);
    for (int i = 0; i < 1000; i++) sum += scratch[i];
    a[0][tile] = (uintptr_t)scratch % 64 ? -1 : sum;
}

/* Its first tile ends long after the others. */
static void end_late(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)ctrl, (void)scratch;
    if (tile == 0) linger(&arrived, INT32_MAX);
    a[0][tile] = 1;
}

static void sum_all(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)ctrl, (void)scratch;
    float sum = 0;
    for (int i = 0; i < 16; i++) sum += a[0][i];
    a[1][tile] = sum;
}

static void halve_smallest(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)ctrl, (void)scratch;
    volatile float smallest = FLT_MIN, subnormal = FLT_TRUE_MIN;
    a[0][tile] = smallest * 0.5f + subnormal * 1e38f; /* flushed result; flushed operand */
}

/* ---- tests ---- */

static void test_arenas_are_zeroed_and_aligned(void **state) {
    (void)state;
    uint32_t large = tp_vec(&tp, "large", RG_ARENA_WORK, 2 << 20);
    uint32_t small = tp_vec(&tp, "small", RG_ARENA_WORK, 3);
    uint32_t loss = tp_vec(&tp, "loss", RG_ARENA_IO, 1);
    rg_exec *exec = new_exec(2);
    for (uint32_t i = large; i <= loss; i++) {
        float *at = rg_exec_buffer(exec, i);
        assert_int_equal((uintptr_t)at % 64, 0);
        for (uint64_t j = 0; j < tp.buffer[i].bytes / sizeof(float); j++)
            if (at[j] != 0) fail_msg("buffer %u is not zeroed", i);
    }
    assert_ptr_equal((char *)rg_exec_buffer(exec, small),
                     (char *)rg_exec_buffer(exec, large) + tp.buffer[small].offset);
    rg_exec_free(exec);
}

static void test_every_tile_runs_exactly_once_for_any_number_of_threads(void **state) {
    (void)state;
    uint32_t seen = tp_act(&tp, "seen", RG_ARENA_WORK, 8, 8, 1);
    uint32_t kernel = tp_kernel(&tp, "count_tile", count_tile, 1, 100, 7);
    tp_launch(&tp, RG_PP_GRAD, kernel, &seen, 0);
    tp_launch(&tp, RG_PP_GRAD, kernel, &seen, 1);
    for (int t = 0; t < THREAD_COUNTS; t++) {
        rg_exec *exec = new_exec(thread_counts[t]);
        rg_ctrl ctrl = rg_exec_ctrl(&tp.plan, 17, 1, 0.1); /* two blocks: 207 tiles */
        assert_int_equal(rg_exec_run(&ctx, exec, RG_PP_GRAD, &ctrl), RG_OK);
        float *count = rg_exec_buffer(exec, seen);
        for (int i = 0; i < 207; i++) assert_float_equal(count[i], 2, 0);
        assert_float_equal(count[207], 0, 0);
        rg_exec_free(exec);
    }
}

static void test_a_waiting_op_sees_all_of_the_ops_before_it(void **state) {
    (void)state;
    uint32_t x = tp_act(&tp, "x", RG_ARENA_WORK, 1, 1, 1);
    uint32_t y = tp_act(&tp, "y", RG_ARENA_WORK, 1, 1, 1);
    uint32_t forth[] = {x, y}, back[] = {y, x};
    uint32_t one = tp_kernel(&tp, "add_one", add_one, 2, 16, 0);
    uint32_t sum = tp_kernel(&tp, "add_neighbours", add_neighbours, 2, 16, 0);
    tp_launch(&tp, RG_PP_GRAD, one, forth, 1);
    tp_launch(&tp, RG_PP_GRAD, sum, back, 1);
    tp_launch(&tp, RG_PP_GRAD, one, forth, 1);
    tp_launch(&tp, RG_PP_GRAD, sum, back, 1);
    for (int t = 0; t < 4; t++) {
        rg_exec *exec = new_exec(thread_counts[t]);
        rg_ctrl ctrl = rg_exec_ctrl(&tp.plan, 48, 1, 0.1);
        float *at = rg_exec_buffer(exec, x), expected = 0;
        for (int run = 0; run < 10; run++) {
            assert_int_equal(rg_exec_run(&ctx, exec, RG_PP_GRAD, &ctrl), RG_OK);
            expected = 2 * (2 * (expected + 1) + 1);
            for (int i = 0; i < 48; i++) assert_float_equal(at[i], expected, 0);
        }
        rg_exec_free(exec);
    }
}

static void test_a_waiting_op_waits_for_the_slowest_tile(void **state) {
    (void)state;
    uint32_t x = tp_act(&tp, "x", RG_ARENA_WORK, 1, 1, 1);
    uint32_t y = tp_act(&tp, "y", RG_ARENA_WORK, 1, 1, 1);
    uint32_t both[] = {x, y};
    tp_launch(&tp, RG_PP_GRAD, tp_kernel(&tp, "end_late", end_late, 1, 0, 16), both, 0);
    tp_launch(&tp, RG_PP_GRAD, tp_kernel(&tp, "sum_all", sum_all, 2, 0, 16), both, 1);
    rg_exec *exec = new_exec(4);
    rg_ctrl ctrl = rg_exec_ctrl(&tp.plan, 16, 1, 0.1);
    assert_int_equal(rg_exec_run(&ctx, exec, RG_PP_GRAD, &ctrl), RG_OK);
    for (int i = 0; i < 16; i++) assert_float_equal(rg_exec_buffer(exec, y)[i], 16, 0);
    rg_exec_free(exec);
}

static atomic_int met;

static void meet(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)ctrl, (void)scratch;
    atomic_fetch_add(&met, 1);
    a[0][tile] = 1;
}

static void watch(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)ctrl, (void)scratch;
    a[1][tile] = (float)atomic_load(&met);
}

static void test_ops_without_wait_all_run(void **state) {
    (void)state;
    uint32_t one = tp_vec(&tp, "one", RG_ARENA_WORK, 16);
    uint32_t two = tp_vec(&tp, "two", RG_ARENA_WORK, 16);
    uint32_t both[] = {one, two};
    tp_launch(&tp, RG_PP_UPDATE, tp_kernel(&tp, "meet", meet, 1, 0, 16), &one, 0);
    tp_launch(&tp, RG_PP_UPDATE, tp_kernel(&tp, "watch", watch, 2, 0, 16), both, 0);
    for (int t = 0; t < THREAD_COUNTS; t++) {
        atomic_store(&met, 0);
        rg_exec *exec = new_exec(thread_counts[t]);
        rg_ctrl ctrl = rg_exec_ctrl(&tp.plan, 32, 1, 0.1);
        assert_int_equal(rg_exec_run(&ctx, exec, RG_PP_UPDATE, &ctrl), RG_OK);
        for (int i = 0; i < 16; i++) {
            assert_float_equal(rg_exec_buffer(exec, one)[i], 1, 0);
            /* An op's tiles begin only when all those of the op before it are handed out. */
            assert_true(rg_exec_buffer(exec, two)[i] > (float)(16 - thread_counts[t]));
        }
        rg_exec_free(exec);
    }
}

static void test_fill_zeroes_the_whole_buffer_and_no_more(void **state) {
    (void)state;
    uint32_t before = tp_vec(&tp, "before", RG_ARENA_WORK, 16);
    uint32_t filled = tp_vec(&tp, "filled", RG_ARENA_WORK, 200000);
    uint32_t after = tp_vec(&tp, "after", RG_ARENA_WORK, 16);
    tp_fill(&tp, RG_PP_GRAD, filled, 0);
    rg_exec *exec = new_exec(3);
    rg_ctrl ctrl = rg_exec_ctrl(&tp.plan, 1, 1, 0.1);
    for (uint32_t b = before; b <= after; b++)
        memset(rg_exec_buffer(exec, b), 0x3f, tp.buffer[b].bytes);
    assert_int_equal(rg_exec_run(&ctx, exec, RG_PP_GRAD, &ctrl), RG_OK);
    for (int i = 0; i < 200000; i++)
        if (rg_exec_buffer(exec, filled)[i] != 0) fail_msg("element %d is not zero", i);
    for (int i = 0; i < 16; i++) {
        assert_true(rg_exec_buffer(exec, before)[i] > 0.7f);
        assert_true(rg_exec_buffer(exec, after)[i] > 0.7f);
    }
    rg_exec_free(exec);
}

static void test_scratch_is_private_aligned_and_large_enough(void **state) {
    (void)state;
    uint32_t out = tp_act(&tp, "out", RG_ARENA_WORK, 4, 4, 1);
    uint32_t small = tp_kernel(&tp, "count_tile", count_tile, 1, 0, 1);
    uint32_t kernel = tp_kernel(&tp, "use_scratch", use_scratch, 1, 0, 700);
    tp.kernel[small].scratch_bytes = 4;
    tp.kernel[kernel].scratch_bytes = 4000;
    tp_launch(&tp, RG_PP_GRAD, kernel, &out, 0);
    rg_exec *exec = new_exec(8);
    rg_ctrl ctrl = rg_exec_ctrl(&tp.plan, 16, 1, 0.1);
    atomic_store(&arrived, 0);
    assert_int_equal(rg_exec_run(&ctx, exec, RG_PP_GRAD, &ctrl), RG_OK);
    for (int i = 0; i < 700; i++)
        assert_float_equal(rg_exec_buffer(exec, out)[i], 1000.0f * (float)i, 0);
    rg_exec_free(exec);
}

static void test_subnormals_are_flushed_inside_a_program_only(void **state) {
    (void)state;
    uint32_t out = tp_act(&tp, "out", RG_ARENA_WORK, 1, 1, 1);
    uint32_t kernel = tp_kernel(&tp, "halve_smallest", halve_smallest, 1, 0, 48);
    tp_launch(&tp, RG_PP_GRAD, kernel, &out, 0);
    rg_exec *exec = new_exec(4);
    rg_ctrl ctrl = rg_exec_ctrl(&tp.plan, 16, 1, 0.1);
    memset(rg_exec_buffer(exec, out), 0x3f, tp.buffer[out].bytes);
    assert_int_equal(rg_exec_run(&ctx, exec, RG_PP_GRAD, &ctrl), RG_OK);
    for (int i = 0; i < 48; i++) assert_float_equal(rg_exec_buffer(exec, out)[i], 0, 0);
    volatile float smallest = FLT_MIN;
    assert_true(smallest * 0.5f > 0);
    rg_exec_free(exec);
}

static void test_a_timed_run_does_the_same_and_times_each_op(void **state) {
    (void)state;
    uint32_t x = tp_act(&tp, "x", RG_ARENA_WORK, 1, 1, 1);
    uint32_t y = tp_act(&tp, "y", RG_ARENA_WORK, 1, 1, 1);
    uint32_t forth[] = {x, y}, back[] = {y, x};
    tp_launch(&tp, RG_PP_GRAD, tp_kernel(&tp, "add_one", add_one, 2, 16, 0), forth, 1);
    uint32_t sum = tp_kernel(&tp, "add_neighbours", add_neighbours, 2, 16, 0);
    tp_launch(&tp, RG_PP_GRAD, sum, back, 1);
    rg_exec *exec = new_exec(2);
    rg_ctrl ctrl = rg_exec_ctrl(&tp.plan, 48, 1, 0.1);
    double op_us[3] = {-1, -1, -1};
    assert_int_equal(rg_exec_run_timed(&ctx, exec, RG_PP_GRAD, &ctrl, op_us), RG_OK);
    assert_true(op_us[0] > 0 && op_us[0] < 60e6);
    assert_true(op_us[1] > 0 && op_us[1] < 60e6);
    assert_true(op_us[2] == -1);
    for (int i = 0; i < 48; i++) assert_float_equal(rg_exec_buffer(exec, x)[i], 2, 0);
    rg_exec_free(exec);
}

static void test_a_program_that_the_plan_has_not_got_does_nothing(void **state) {
    (void)state;
    rg_exec *exec = new_exec(2);
    rg_ctrl ctrl = rg_exec_ctrl(&tp.plan, 1, 1, 0.1);
    assert_int_equal(rg_exec_run(&ctx, exec, RG_PP_PREDICT, &ctrl), RG_OK);
    assert_int_equal(rg_exec_run_timed(&ctx, exec, RG_PP_PREDICT, &ctrl, NULL), RG_OK);
    rg_exec_free(exec);
}

static void test_control_block_of_a_batch(void **state) {
    (void)state;
    rg_ctrl ctrl = rg_exec_ctrl(&tp.plan, 33, 2, 0.25);
    assert_int_equal(ctrl.live, 33);
    assert_int_equal(ctrl.blocks, 3);
    assert_float_equal(ctrl.scalar[RG_CTRL_COUNT], 33, 0);
    assert_float_equal(ctrl.scalar[RG_CTRL_INV_COUNT], 1.0f / 33, 0);
    assert_float_equal(ctrl.scalar[RG_CTRL_LR], 0.25, 0);
    assert_float_equal(ctrl.scalar[RG_CTRL_BC1], 0.19f, 1e-8);
    assert_float_equal(ctrl.scalar[RG_CTRL_BC2], 0.001999f, 1e-10);
    assert_float_equal(ctrl.scalar[RG_CTRL_FIRST], 0, 0);
    assert_float_equal(rg_exec_ctrl(&tp.plan, 32, 1, 1).scalar[RG_CTRL_FIRST], 1, 0);
    assert_int_equal(rg_exec_ctrl(&tp.plan, 32, 1, 1).blocks, 2);
}

static void test_what_cannot_be_had_is_refused_with_one_line(void **state) {
    (void)state;
    rg_exec *exec = NULL;
    assert_int_equal(rg_exec_new(&ctx, &tp.plan, tp.function, -1, &exec), RG_E_USAGE);
    assert_int_equal(rg_exec_new(&ctx, &tp.plan, tp.function, 5000, &exec), RG_E_USAGE);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    tp.plan.arena_bytes[RG_ARENA_WORK] = UINT64_MAX / 2;
    assert_int_equal(rg_exec_new(&ctx, &tp.plan, tp.function, 1, &exec), RG_E_NOMEM);
    assert_non_null(strstr(ctx.last->text, "'work'"));
#endif
    assert_null(exec);
}

static void test_every_failed_allocation_comes_back_as_an_error(void **state) {
    (void)state;
    rg_exec *exec = NULL;
    rg_status status = RG_E_NOMEM;
    int failures = 0;
    for (long n = 1; status == RG_E_NOMEM && n < 20; n++) {
        rg_arena_fail_after(n);
        status = rg_exec_new(&ctx, &tp.plan, tp.function, 1, &exec);
        rg_arena_fail_after(0);
        if (status != RG_OK) failures++;
        assert_true((status == RG_OK) == (exec != NULL));
    }
    assert_int_equal(status, RG_OK);
    assert_true(failures >= 3);
    rg_exec_free(exec);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_arenas_are_zeroed_and_aligned),
        T(test_every_tile_runs_exactly_once_for_any_number_of_threads),
        T(test_a_waiting_op_sees_all_of_the_ops_before_it),
        T(test_a_waiting_op_waits_for_the_slowest_tile),
        T(test_ops_without_wait_all_run),
        T(test_fill_zeroes_the_whole_buffer_and_no_more),
        T(test_scratch_is_private_aligned_and_large_enough),
        T(test_subnormals_are_flushed_inside_a_program_only),
        T(test_a_timed_run_does_the_same_and_times_each_op),
        T(test_a_program_that_the_plan_has_not_got_does_nothing),
        T(test_control_block_of_a_batch),
        T(test_what_cannot_be_had_is_refused_with_one_line),
        T(test_every_failed_allocation_comes_back_as_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
