/* Kernels on the emulated device: each fault is seen and named, the right version of the same
 * kernel passes, whatever the order. */
#include "emulate_helpers.h"

#include <math.h>

/* ---- faults ---- */

enum { GRID = 3, THREADS = 64, WORDS = GRID * THREADS };

typedef struct fault_case {
    const char *body;     /* of k(const float *a0, float *a1, unsigned *a2); RIGHT is defined in the
                             right version */
    unsigned dynamic;     /* bytes of shared memory */
    const char *expected; /* within the message of the wrong version */
} fault_case;

static char *compile_fault(const fault_case *fault, const char *define) {
    char text[4096];
    snprintf(text, sizeof text,
             "RG_KERNEL void RG_BOUNDS(64, 1) k(const float *a0, float *a1, unsigned *a2) {\n"
             "    const int t = rg_tid(), g = rg_block() * 64 + t;\n%s}\n",
             fault->body);
    return compile_well(text, define);
}

static void expect_launch(const fault_case *fault, const char *cubin, bool right) {
    float values[WORDS];
    unsigned zero = 0;
    for (int i = 0; i < WORDS; i++) values[i] = (float)i;
    rg_cu_module module = load(cubin);
    rg_cu_ptr a0 = alloc(sizeof values, values), a1 = alloc(sizeof values, NULL),
              a2 = alloc(sizeof zero, &zero);
    void *params[] = {&a0, &a1, &a2};
    rg_cu_result result = launch(module, GRID, THREADS, fault->dynamic, params);
    if (right && result != RG_CU_SUCCESS) fail_msg("the right version: %s", message);
    if (!right && (result == RG_CU_SUCCESS || !strstr(message, fault->expected) ||
                   !strstr(message, "kernel k: block ")))
        fail_msg("expected '%s', got '%s'", fault->expected, message);
    (void)driver->memory_free(a0);
    (void)driver->memory_free(a1);
    (void)driver->memory_free(a2);
    (void)driver->module_unload(module);
}

/* For some seeds, by one and by two host threads. */
static void expect_caught(const fault_case *fault) {
    char *right = compile_fault(fault, "-DRIGHT=1"), *wrong = compile_fault(fault, "-DWRONG=1");
    for (int i = 0; i < 8; i++) {
        reopen((uint64_t)i);
        expect_launch(fault, right, true);
        reopen((uint64_t)i);
        expect_launch(fault, wrong, false);
    }
    free(right);
    free(wrong);
}

static void test_missing_barrier_is_a_race(void **state) {
    (void)state;
    const fault_case fault = {"    RG_SHARED(float, tile, 64);\n"
                              "    tile[t] = a0[g];\n"
                              "#ifdef RIGHT\n    rg_barrier();\n#endif\n"
                              "    a1[g] = tile[63 - t];\n",
                              0, "block "};
    expect_caught(&fault);
}

static void test_write_after_read_without_barrier_is_a_race(void **state) {
    (void)state;
    const fault_case fault = {"    RG_SHARED(float, tile, 64);\n"
                              "    tile[t] = a0[g];\n    rg_barrier();\n"
                              "    float v = tile[63 - t];\n"
                              "#ifdef RIGHT\n    rg_barrier();\n#endif\n"
                              "    tile[t] = v;\n    rg_barrier();\n    a1[g] = tile[t];\n",
                              0, "race with thread"};
    expect_caught(&fault);
}

static void test_divergent_barrier_is_named(void **state) {
    (void)state;
    const fault_case ended = {
        "#ifdef RIGHT\n    rg_barrier();\n#else\n    if (t < 63) rg_barrier();\n#endif\n"
        "    a1[g] = a0[g];\n",
        0, "divergent barrier: it waits at the barrier of line 6, but thread 63 has ended"};
    const fault_case elsewhere = {
        "#ifdef RIGHT\n    rg_barrier();\n#else\n    if (t != 5)\n        rg_barrier();\n    else\n"
        "        rg_barrier();\n#endif\n    a1[g] = a0[g];\n",
        0, "divergent barrier"};
    expect_caught(&ended);
    expect_caught(&elsewhere);
}

static void test_out_of_bounds_by_one_is_named(void **state) {
    (void)state;
    const fault_case shared = {
        "    RG_SHARED(float, tile, 64);\n"
        "#ifdef RIGHT\n    tile[t] = a0[g];\n#else\n    tile[t + 1] = a0[g];\n#endif\n"
        "    rg_barrier();\n    a1[g] = a0[g];\n",
        0, "out of bounds: write 0 bytes behind shared 'tile' (256 bytes)"};
    const fault_case dynamic = {
        "    float *tile = rg_dynamic_shared();\n"
        "#ifdef RIGHT\n    tile[t] = a0[g];\n#else\n    tile[t + 1] = a0[g];\n#endif\n"
        "    rg_barrier();\n    a1[g] = a0[g];\n",
        256, "out of bounds: write 0 bytes behind shared 'dynamic shared memory' (256 bytes)"};
    const fault_case read = {
        "#ifdef RIGHT\n    a1[g] = a0[g];\n#else\n    a1[g] = a0[g + 1];\n#endif\n", 0,
        "block 2, thread 63: out of bounds: read 0 bytes behind an allocation of 768 bytes"};
    const fault_case write = {
        "#ifdef RIGHT\n    a1[g] = a0[g];\n#else\n    a1[g - 1] = a0[g];\n#endif\n", 0,
        "block 0, thread 0: out of bounds: write 4 bytes before an allocation of 768 bytes"};
    const fault_case wild = {"#ifdef RIGHT\n    a1[g] = a0[g];\n#else\n    a1[g] = *(const float "
                             "*)(0x1000 + 4 * (long)g);\n#endif\n",
                             0, "which is not device memory"};
    expect_caught(&shared);
    expect_caught(&dynamic);
    options.seed = 0;
    expect_caught(&wild);
    expect_caught(&read);
    expect_caught(&write);
}

static void test_writing_a_neighbours_output_is_a_race(void **state) {
    (void)state;
    const fault_case fault = {"    a1[g] = a0[g];\n#ifndef RIGHT\n    if (t == 0 && rg_block() == "
                              "1) a1[g + 64] = 0.0f;\n#endif\n",
                              0, "race with block"};
    expect_caught(&fault);
}

static void test_reading_what_another_block_writes_is_a_race(void **state) {
    (void)state;
    const fault_case fault = {"    if (rg_block() == 0) a1[t] = 1.0f;\n"
                              "#ifdef RIGHT\n    if (rg_block() == 0) a1[64 + t] = a1[t];\n"
                              "#else\n    if (rg_block() == 1) a1[64 + t] = a1[t];\n#endif\n",
                              0, ""};
    expect_caught(&fault);
}

static void test_reading_unwritten_memory_is_an_error(void **state) {
    (void)state;
    const fault_case shared = {
        "    RG_SHARED(float, tile, 64);\n"
        "#ifdef RIGHT\n    tile[t] = a0[g];\n#else\n    if (t != 7) tile[t] = a0[g];\n#endif\n"
        "    rg_barrier();\n    a1[g] = tile[t];\n",
        0, "thread 7: nothing has been written there: read at byte 28 of shared 'tile'"};
    const fault_case device = {"#ifdef RIGHT\n    a1[g] = 1.0f;\n#endif\n    a1[g] += a0[g];\n", 0,
                               "nothing has been written there: read at byte"};
    expect_caught(&shared);
    expect_caught(&device);
}

static void test_late_wait_is_an_error(void **state) {
    (void)state;
    const fault_case late = {
        "    RG_SHARED(float, tile, 128);\n"
        "    if (t < 16) rg_cp_async16(tile + 4 * t, a0 + rg_block() * 64 + 4 * t);\n"
        "    rg_cp_async_commit();\n"
        "    if (t < 16) rg_cp_async16(tile + 64 + 4 * t, a0 + rg_block() * 64 + 4 * t);\n"
        "    rg_cp_async_commit();\n"
        "#ifdef RIGHT\n    rg_cp_async_wait<0>();\n#else\n    rg_cp_async_wait<1>();\n#endif\n"
        "    rg_barrier();\n    a1[g] = tile[t] + tile[64 + t];\n",
        0, "has not been waited for"};
    const fault_case unshared = {
        "    RG_SHARED(float, tile, 64);\n"
        "    if (t < 16) rg_cp_async16(tile + 4 * t, a0 + rg_block() * 64 + 4 * t);\n"
        "    rg_cp_async_commit();\n    rg_cp_async_wait<0>();\n"
        "#ifdef RIGHT\n    rg_barrier();\n#endif\n"
        "    a1[g] = tile[63 - t];\n",
        0, "read at byte"};
    expect_caught(&late);
    expect_caught(&unshared);
}

static void test_partial_copy_fills_with_zero(void **state) {
    (void)state;
    const fault_case fill = {
        "    RG_SHARED(float, tile, 64);\n"
        "    if (t < 16) rg_cp_async16_fill(tile + 4 * t, a0 + rg_block() * 64 + 4 * t, 8);\n"
        "    rg_cp_async_commit();\n    rg_cp_async_wait<0>();\n    rg_barrier();\n"
        "    const float wanted = (t & 3) < 2 ? a0[g] : 0.0f;\n"
        "#ifdef RIGHT\n    if (tile[t] != wanted) a1[-1] = 0.0f;\n#else\n    if (tile[t] == "
        "wanted) a1[-1] = 0.0f;\n#endif\n",
        0, "out of bounds"};
    expect_caught(&fill);
}

static void test_warp_barrier_orders_a_warp_alone(void **state) {
    (void)state;
    const fault_case inside = {
        "    RG_SHARED(float, tile, 64);\n    tile[t] = a0[g];\n"
        "#ifdef RIGHT\n    rg_warp_barrier();\n#endif\n    a1[g] = tile[t ^ 1];\n",
        0, "block "};
    const fault_case across = {
        "    RG_SHARED(float, tile, 64);\n    tile[t] = a0[g];\n    rg_warp_barrier();\n"
        "#ifdef RIGHT\n    rg_barrier();\n#endif\n    a1[g] = tile[t ^ 32];\n",
        0, "block "};
    /* Two lanes of one block alone, so that either may come first. */
    const fault_case rewritten = {
        "    RG_SHARED(float, tile, 64);\n    tile[t] = 0.0f;\n    rg_barrier();\n"
        "    if (g == 0) tile[0] = a0[g];\n"
        "#ifdef RIGHT\n    rg_warp_barrier();\n#endif\n    if (g == 1) a1[g] = tile[0];\n",
        0, "race with thread"};
    expect_caught(&inside);
    expect_caught(&across);
    expect_caught(&rewritten);
}

static void test_divergent_shuffle_is_named(void **state) {
    (void)state;
    const fault_case fault = {
        "    float v = a0[g];\n#ifdef RIGHT\n    v += rg_shfl_xor(v, 1);\n"
        "#else\n    if (t != 40) v += rg_shfl_xor(v, 1);\n#endif\n    a1[g] = v;\n",
        0, "divergent warp operation"};
    expect_caught(&fault);
}

static void test_misaligned_vectors_are_named(void **state) {
    (void)state;
    const fault_case fault = {
        "    struct alignas(16) four { float x, y, z, w; };\n"
        "#ifdef RIGHT\n    const int shift = 0;\n#else\n    const int shift = 1;\n#endif\n"
        "    if (t < 8) {\n        four v = *(const four *)(a0 + rg_block() * 64 + 4 * t + "
        "shift);\n"
        "        *(four *)(a1 + rg_block() * 64 + 4 * t) = v;\n    }\n",
        0, "misaligned"};
    expect_caught(&fault);
}

/* ---- the last block ---- */

/* Partial sums by block, added up by the last block. */
static const char last_text[] =
    "RG_KERNEL void RG_BOUNDS(64, 1) k(const float *a0, float *a1, unsigned *a2) {\n"
    "    const int t = rg_tid(), g = rg_block() * 64 + t;\n"
    "    float v = a0[g];\n"
    "    for (int mask = 16; mask; mask >>= 1) v += rg_shfl_xor(v, mask);\n"
    "    if (t % 32 == 0) a1[1 + rg_block() * 2 + t / 32] = v;\n"
    "#ifdef RIGHT\n"
    "    if (!rg_last_block(a2)) return;\n"
    "#else\n"
    "    rg_barrier();\n    if (rg_block() != rg_blocks() - 1) return;\n"
    "#endif\n"
    "    float sum = 0.0f;\n"
    "    if (t == 0) {\n"
    "        for (int i = 0; i < 2 * rg_blocks(); i++) sum += a1[1 + i];\n"
    "        a1[0] = sum;\n"
    "    }\n"
    "}\n";

enum { LAST_GRID = 17, LAST_COUNTERS = 6 };

/* The same in two stages: the last of four neighbours, then the last of those. */
static const char stages_text[] =
    "RG_KERNEL void RG_BOUNDS(64, 1) k(const float *a0, float *a1, unsigned *a2) {\n"
    "    const int t = rg_tid(), g = rg_block() * 64 + t;\n"
    "    const int heap = rg_block() / 4, near = heap == 4 ? 1 : 4;\n"
    "    float v = a0[g];\n"
    "    for (int mask = 16; mask; mask >>= 1) v += rg_shfl_xor(v, mask);\n"
    "    if (t % 32 == 0) a1[1 + rg_block() * 2 + t / 32] = v;\n"
    "    if (!rg_last_block(a2 + 1 + heap, near)) return;\n"
    "    float sum = 0.0f;\n"
    "    if (t == 0) {\n"
    "#ifdef NEIGHBOUR\n"
    "        for (int i = 0; i < 2; i++) sum += a1[1 + 8 * (heap % 4 + 1) + i];\n"
    "#else\n"
    "        for (int i = 0; i < 2 * near; i++) sum += a1[1 + 8 * heap + i];\n"
    "#endif\n"
    "        a1[1 + 8 * heap] = sum;\n"
    "    }\n"
    "#ifndef WRONG\n"
    "    if (!rg_last_block(a2, 5)) return;\n"
    "#else\n"
    "    if (heap != 4) return;\n"
    "#endif\n"
    "    if (t == 0) {\n"
    "        sum = 0.0f;\n"
    "        for (int i = 0; i < 5; i++) sum += a1[1 + 8 * i];\n"
    "        a1[0] = sum;\n"
    "    }\n"
    "}\n";

static void check_last_block(const char *right_cubin, const char *wrong_cubin, uint64_t seed) {
    float values[LAST_GRID * 64], sum;
    unsigned zero[LAST_COUNTERS] = {0}, counter[LAST_COUNTERS];
    reopen(seed);
    for (int i = 0; i < LAST_GRID * 64; i++) values[i] = (float)(i % 13);
    rg_cu_module right = load(right_cubin);
    rg_cu_ptr a0 = alloc(sizeof values, values), a1 = alloc(sizeof values, NULL),
              a2 = alloc(sizeof zero, zero);
    void *params[] = {&a0, &a1, &a2};
    for (int i = 0; i < 2; i++) {
        if (launch(right, LAST_GRID, 64, 0, params) != RG_CU_SUCCESS) fail_msg("%s", message);
        OK(driver->copy_out(&sum, a1, sizeof sum));
        OK(driver->copy_out(counter, a2, sizeof counter));
        assert_memory_equal(counter, zero, sizeof zero);
        float wanted = 0;
        for (int j = 0; j < LAST_GRID * 64; j++) wanted += values[j];
        assert_true(sum == wanted);
    }
    OK(driver->module_unload(right));
    rg_cu_module wrong = load(wrong_cubin);
    assert_int_not_equal(launch(wrong, LAST_GRID, 64, 0, params), RG_CU_SUCCESS);
    assert_non_null(strstr(message, "in the same launch"));
    (void)driver->memory_free(a0);
    (void)driver->memory_free(a1);
    (void)driver->memory_free(a2);
    (void)driver->module_unload(wrong);
}

static void check_last_blocks(const char *text, const char *as) {
    char *right = compile_well(text, "-DRIGHT=1"), *wrong = compile_well(text, as);
    for (uint64_t seed = 0; seed < 6; seed++) check_last_block(right, wrong, seed);
    free(right);
    free(wrong);
}

static void test_last_block_alone_may_read_the_others(void **state) {
    (void)state;
    check_last_blocks(last_text, "-DWRONG=1");
}

static void test_last_of_the_last_alone_may_read_what_those_leave(void **state) {
    (void)state;
    check_last_blocks(stages_text, "-DWRONG=1");
}

/* Whether it has been written or not. */
static void test_the_last_at_one_counter_knows_nothing_of_another(void **state) {
    (void)state;
    check_last_blocks(stages_text, "-DNEIGHBOUR=1");
}

static void test_more_stages_than_can_be_followed_are_refused(void **state) {
    (void)state;
    static const char text[] = "RG_KERNEL void RG_BOUNDS(64, 1) k(unsigned *a0, int times) {\n"
                               "    for (int i = 0; i < times; i++) rg_last_block(a0);\n"
                               "}\n";
    char *cubin = compile_well(text, "-DRIGHT=1");
    unsigned zero = 0;
    int times = 3;
    reopen(1);
    rg_cu_module module = load(cubin);
    rg_cu_ptr a0 = alloc(sizeof zero, &zero);
    void *params[] = {&a0, &times};
    if (launch(module, 2, 64, 0, params) != RG_CU_SUCCESS) fail_msg("%s", message);
    times = 4;
    assert_int_not_equal(launch(module, 2, 64, 0, params), RG_CU_SUCCESS);
    assert_non_null(strstr(message, "calls rg_last_block more than 3 times"));
    (void)driver->memory_free(a0);
    (void)driver->module_unload(module);
    free(cubin);
}

/* ---- a reduction, for many orders ---- */

static const char sum_text[] =
    "RG_KERNEL void RG_BOUNDS(256, 1) k(const float *a0, float *a1) {\n"
    "    RG_SHARED(float, part, 8);\n"
    "    const int t = rg_tid();\n"
    "    float v = a0[rg_block() * 256 + t];\n"
    "#ifdef PARTNER\n"
    "    for (int mask = 16; mask; mask >>= 1) v += rg_shfl_xor(v, mask == 4 ? 8 : mask);\n"
    "#else\n"
    "    for (int by = 16; by; by >>= 1) v += rg_shfl_down(v, by);\n"
    "#endif\n"
    "    if (t % 32 == 0) part[t / 32] = v;\n"
    "    rg_barrier();\n"
    "    if (t == 0) {\n"
    "        for (int i = 1; i < 8; i++) v += part[i];\n"
    "        a1[rg_block()] = v;\n"
    "    }\n"
    "}\n";

enum { SUM_GRID = 4, SUM_WORDS = SUM_GRID * 256 };

/* The largest difference from the right sums. */
static double sums_with(const char *cubin, uint64_t seed) {
    float values[SUM_WORDS], sums[SUM_GRID];
    double worst = 0;
    reopen(seed);
    for (int i = 0; i < SUM_WORDS; i++) values[i] = (float)((i * 37) % 101);
    rg_cu_module module = load(cubin);
    rg_cu_ptr a0 = alloc(sizeof values, values), a1 = alloc(sizeof sums, NULL);
    void *params[] = {&a0, &a1};
    if (launch(module, SUM_GRID, 256, 0, params) != RG_CU_SUCCESS) fail_msg("%s", message);
    OK(driver->copy_out(sums, a1, sizeof sums));
    for (int i = 0; i < SUM_GRID; i++) {
        double wanted = 0;
        for (int j = 0; j < 256; j++) wanted += values[i * 256 + j];
        worst = fmax(worst, fabs(wanted - sums[i]));
    }
    OK(driver->memory_free(a0));
    OK(driver->memory_free(a1));
    OK(driver->module_unload(module));
    return worst;
}

static void test_sums_are_right_in_every_order(void **state) {
    (void)state;
    char *right = compile_well(sum_text, NULL), *wrong = compile_well(sum_text, "-DPARTNER=1");
    for (uint64_t seed = 0; seed < 50; seed++) assert_true(sums_with(right, seed) == 0);
    assert_true(sums_with(wrong, 3) > 0);
    free(right);
    free(wrong);
}

static void test_unchecked_kernels_give_the_same_bits(void **state) {
    (void)state;
    options.no_checks = true;
    reopen(0);
    char *cubin = compile_well(sum_text, NULL);
    for (uint64_t seed = 0; seed < 3; seed++) assert_true(sums_with(cubin, seed) == 0);
    free(cubin);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_missing_barrier_is_a_race),
        TEST(test_write_after_read_without_barrier_is_a_race),
        TEST(test_divergent_barrier_is_named),
        TEST(test_out_of_bounds_by_one_is_named),
        TEST(test_writing_a_neighbours_output_is_a_race),
        TEST(test_reading_what_another_block_writes_is_a_race),
        TEST(test_reading_unwritten_memory_is_an_error),
        TEST(test_late_wait_is_an_error),
        TEST(test_partial_copy_fills_with_zero),
        TEST(test_warp_barrier_orders_a_warp_alone),
        TEST(test_divergent_shuffle_is_named),
        TEST(test_misaligned_vectors_are_named),
        TEST(test_last_block_alone_may_read_the_others),
        TEST(test_last_of_the_last_alone_may_read_what_those_leave),
        TEST(test_the_last_at_one_counter_knows_nothing_of_another),
        TEST(test_more_stages_than_can_be_followed_are_refused),
        TEST(test_sums_are_right_in_every_order),
        TEST(test_unchecked_kernels_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
