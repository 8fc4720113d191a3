/* The emulated device beside its kernels: graphs, streams, limits, errors, injected failures. */
#include "emulate_helpers.h"

/* ---- graphs ---- */

static const char step_text[] = "RG_KERNEL void k(float *a0, int from, int to, int by) {\n"
                                "    if (rg_tid() == 0) a0[to] = a0[from] * 2.0f + (float)by;\n"
                                "}\n";

static rg_cu_graph_node add_step(rg_cu_graph graph, rg_cu_function function, rg_cu_ptr at, int from,
                                 int to, const rg_cu_graph_node *before, size_t count) {
    rg_cu_graph_node node;
    int by = to;
    void *params[] = {&at, &from, &to, &by};
    rg_cu_kernel_node kernel = {function, 1, 1, 1, 32, 1, 1, 0, params, NULL};
    OK(driver->graph_kernel(&node, graph, before, count, &kernel));
    return node;
}

/* 0 -> 1 -> 2, 1 -> 3, (2, 3) -> 4 <- 3; what stands in word 4 after some launches. */
static float run_graph(rg_cu_function function, bool complete) {
    rg_cu_graph graph;
    rg_cu_graph_exec exec;
    rg_cu_stream stream;
    float zeros[5] = {1, 0, 0, 0, 0}, out;
    rg_cu_ptr at = alloc(sizeof zeros, zeros);
    OK(driver->graph_create(&graph, 0));
    rg_cu_graph_node first = add_step(graph, function, at, 0, 1, NULL, 0);
    rg_cu_graph_node second = add_step(graph, function, at, 1, 2, &first, complete ? 1 : 0);
    rg_cu_graph_node third = add_step(graph, function, at, 2, 3, &second, 1);
    add_step(graph, function, at, 3, 4, &third, 1);
    OK(driver->graph_instantiate(&exec, graph, 0));
    OK(driver->graph_destroy(graph));
    OK(driver->stream_create(&stream, RG_CU_STREAM_NON_BLOCKING));
    OK(driver->graph_launch(exec, stream));
    OK(driver->stream_synchronize(stream));
    OK(driver->copy_out(&out, at + 16, sizeof out));
    OK(driver->graph_exec_destroy(exec));
    OK(driver->stream_destroy(stream));
    OK(driver->memory_free(at));
    return out;
}

static void test_graphs_respect_dependences_and_nothing_else(void **state) {
    (void)state;
    const float wanted = 2 * (2 * (2 * (2 * 1 + 1) + 2) + 3) + 4;
    rg_cu_module module = build_well(step_text, NULL);
    int different = 0;
    for (int i = 0; i < 16; i++) assert_true(run_graph(function_of(module), true) == wanted);
    for (int i = 0; i < 16; i++) different += run_graph(function_of(module), false) != wanted;
    assert_true(different > 0);
    OK(driver->module_unload(module));
}

/* ---- streams ---- */

static void test_asynchronous_copies_need_their_wait(void **state) {
    (void)state;
    float sent[64], received[64];
    int early = 0;
    for (int round = 0; round < 20; round++) {
        rg_cu_stream one, two;
        rg_cu_event event;
        for (int i = 0; i < 64; i++) sent[i] = (float)i, received[i] = -1;
        rg_cu_ptr at = alloc(sizeof sent, received);
        OK(driver->stream_create(&one, RG_CU_STREAM_NON_BLOCKING));
        OK(driver->stream_create(&two, RG_CU_STREAM_NON_BLOCKING));
        OK(driver->event_create(&event, RG_CU_EVENT_DISABLE_TIMING));
        OK(driver->copy_in_async(at, sent, sizeof sent, one));
        OK(driver->event_record(event, one));
        OK(driver->stream_wait_event(two, event, 0));
        OK(driver->copy_out_async(received, at, sizeof received, two));
        early += received[5] != 5;
        OK(driver->stream_synchronize(two));
        assert_true(received[5] == 5);
        OK(driver->event_destroy(event));
        OK(driver->stream_destroy(one));
        OK(driver->stream_destroy(two));
        OK(driver->memory_free(at));
    }
    assert_true(early > 0);
}

/* ---- limits and errors ---- */

static void test_launches_beyond_the_device_are_refused(void **state) {
    (void)state;
    rg_cu_module module = build_well("RG_KERNEL void RG_BOUNDS(64, 1) k(float *a0) { a0[rg_tid()] "
                                     "= rg_dynamic_shared() ? 1.0f : 0.0f; }\n",
                                     NULL);
    rg_cu_ptr a0 = alloc(256 * 4, NULL);
    void *params[] = {&a0};
    int most;
    OK(driver->device_attribute(&most, RG_CU_DEVICE_MAX_SHARED_PER_BLOCK_OPTIN, 0));
    assert_int_equal(most, 227 << 10);
    assert_int_equal(launch(module, 1, 128, 0, params), RG_CU_LAUNCH_OUT_OF_RESOURCES);
    assert_int_equal(launch(module, 1, 64, 50 << 10, params), RG_CU_INVALID_VALUE);
    assert_int_equal(driver->function_set(function_of(module),
                                          RG_CU_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES, most + 1),
                     RG_CU_INVALID_VALUE);
    OK(driver->function_set(function_of(module), RG_CU_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                            50 << 10));
    OK(launch(module, 1, 64, 50 << 10, params));
    OK(driver->memory_free(a0));
    OK(driver->module_unload(module));
}

static void test_compiler_errors_are_in_the_log(void **state) {
    (void)state;
    assert_null(compile("RG_KERNEL void k(float *a0) {\n    a0[0] = undeclared;\n}\n", NULL));
    assert_non_null(strstr(message, "test.cu:2"));
    assert_non_null(strstr(message, "undeclared"));
    assert_null(compile("RG_KERNEL void k(float *a0) {}\n", "--no-such-option"));
    assert_non_null(strstr(message, "--no-such-option"));
}

static void test_modules_loaded_together_stay_apart(void **state) {
    (void)state;
    static const char *const text[] = {"RG_KERNEL void k(float *a0) { a0[rg_tid()] = 1.0f; }\n",
                                       "RG_KERNEL void k(float *a0) { a0[rg_tid()] = 2.0f; }\n"};
    rg_cu_module module[2];
    rg_cu_ptr at = alloc(32 * 4, NULL);
    void *params[] = {&at};
    for (int i = 0; i < 2; i++) module[i] = build_well(text[i], NULL);
    for (int i = 0; i < 2; i++) {
        float value;
        OK(launch(module[i], 1, 32, 0, params));
        OK(driver->copy_out(&value, at, sizeof value));
        assert_true(value == (float)(i + 1));
    }
    for (int i = 0; i < 2; i++) OK(driver->module_unload(module[i]));
    OK(driver->memory_free(at));
}

static void test_images_that_are_none_are_refused(void **state) {
    (void)state;
    rg_cu_module module;
    char nothing[256] = "\177ELF";
    assert_int_equal(driver->module_load(&module, nothing), RG_CU_INVALID_IMAGE);
}

static void test_cubins_of_sm_87_are_its_own(void **state) {
    (void)state;
    static const struct {
        int arch, device;
        rg_cu_result result;
    } row[] = {{80, 86, RG_CU_SUCCESS},
               {87, 87, RG_CU_SUCCESS},
               {80, 87, RG_CU_NO_BINARY_FOR_GPU},
               {87, 89, RG_CU_NO_BINARY_FOR_GPU}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        rg_cu_module module;
        char *cubin = compile_for(row[i].arch, "RG_KERNEL void k(float *a0) {}\n", NULL);
        assert_non_null(cubin);
        options.arch = row[i].device;
        reopen(1);
        assert_int_equal(driver->module_load(&module, cubin), row[i].result);
        if (row[i].result == RG_CU_SUCCESS) OK(driver->module_unload(module));
        free(cubin);
    }
}

static void test_the_nth_call_fails_where_asked(void **state) {
    (void)state;
    rg_cu_ptr at[3];
    options.fail_call = "cuMemAlloc";
    options.fail_nth = 2;
    OK(driver->context_release(0));
    open_device();
    OK(driver->memory_alloc(&at[0], 64));
    assert_int_equal(driver->memory_alloc(&at[1], 64), RG_CU_OUT_OF_MEMORY);
    OK(driver->memory_alloc(&at[2], 64));
    assert_int_equal(rg_emulate_calls_of("cuMemAlloc"), 3);
    OK(driver->memory_free(at[0]));
    OK(driver->memory_free(at[2]));
    setenv("RG_EMULATE_FAIL", "nvrtcCompileProgram:1", 1);
    OK(driver->context_release(0));
    open_device();
    unsetenv("RG_EMULATE_FAIL");
    assert_null(compile(step_text, NULL));
    assert_non_null(strstr(message, "injected"));
}

/* What is misspelt would else leave a test of failures without one. */
static void test_an_environment_that_cannot_be_read_is_told(void **state) {
    (void)state;
    static const char *const wrong[][2] = {
        {"RG_EMULATE_FAIL", "cuLaunchKernal:1"},
        {"RG_EMULATE_FAIL", "cuLaunchKernel:third"},
        {"RG_EMULATE_FAIL", "cuLaunchKernel:0"},
        {"RG_EMULATE_FAIL", "cuLaunchKernel:3x"},
        {"RG_EMULATE_FAIL", "cuLaunchKernel:"},
        {"RG_EMULATE_FAIL", "cuLaunchKernel"},
        {"RG_EMULATE_FAIL", "device:-1"},
        {"RG_EMULATE_FAIL", "device:99999999999"},
        {"RG_EMULATE_FAIL", ":1"},
        {"RG_EMULATE_SEED", "seven"},
    };
    OK(driver->context_release(0));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *text;
        char line[64];
        setenv(wrong[i][0], wrong[i][1], 1);
        driver = &rg_emulate_api(&options)->driver;
        unsetenv(wrong[i][0]);
        snprintf(line, sizeof line, "%s=%s is not ", wrong[i][0], wrong[i][1]);
        assert_int_equal(driver->init(0), RG_CU_INVALID_VALUE);
        OK(driver->error_string(RG_CU_INVALID_VALUE, &text));
        if (!strstr(text, line) || strchr(text, '\n')) fail_msg("no '%s' in '%s'", line, text);
    }
    open_device();
}

static void test_a_lost_context_stays_lost_until_released(void **state) {
    (void)state;
    rg_cu_ptr at = alloc(64, NULL), other;
    rg_cu_module module =
        build_well("RG_KERNEL void k(float *a0) { a0[16 + rg_tid()] = 1.0f; }\n", NULL);
    void *params[] = {&at};
    assert_int_equal(launch(module, 1, 32, 0, params), RG_CU_ILLEGAL_ADDRESS);
    assert_int_equal(driver->memory_alloc(&other, 64), RG_CU_ILLEGAL_ADDRESS);
    (void)driver->memory_free(at);
    (void)driver->module_unload(module);
    OK(driver->context_release(0));
    open_device();
    OK(driver->memory_alloc(&other, 64));
    OK(driver->memory_free(other));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_graphs_respect_dependences_and_nothing_else),
        TEST(test_asynchronous_copies_need_their_wait),
        TEST(test_launches_beyond_the_device_are_refused),
        TEST(test_compiler_errors_are_in_the_log),
        TEST(test_modules_loaded_together_stay_apart),
        TEST(test_images_that_are_none_are_refused),
        TEST(test_cubins_of_sm_87_are_its_own),
        TEST(test_the_nth_call_fails_where_asked),
        TEST(test_an_environment_that_cannot_be_read_is_told),
        TEST(test_a_lost_context_stays_lost_until_released),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
