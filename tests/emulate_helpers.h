/* A fresh emulated device for each test; texts to cubins, modules and launches. */
#ifndef EMULATE_HELPERS_H
#define EMULATE_HELPERS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rg_emulate.h"

static rg_emulate_options options;
static const rg_cuda_api *api;
static const rg_cuda_driver *driver;
static char message[4096]; /* of the last failure */

#define OK(call) assert_int_equal((call), RG_CU_SUCCESS)

/* ---- a device, a module, a launch ---- */

static void open_device(void) {
    rg_cu_context context;
    api = rg_emulate_api(&options);
    driver = &api->driver;
    OK(driver->init(0));
    OK(driver->context_retain(&context, 0));
    OK(driver->context_set(context));
}

static inline void reopen(uint64_t seed) {
    options.seed = seed;
    options.threads = 1 + (int)(seed % 2);
    OK(driver->context_release(0));
    open_device();
}

static int alive; /* what tests that failed have left behind */

static int setup(void **state) {
    (void)state;
    while (driver && driver->context_release(0) == RG_CU_SUCCESS) continue;
    alive = rg_emulate_alive();
    options = (rg_emulate_options){.seed = 1, .unwritten_device = true, .memory_bytes = 1 << 28};
    open_device();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    return driver->context_release(0) == RG_CU_SUCCESS && rg_emulate_alive() == alive ? 0 : -1;
}

/* The cubin of a text; NULL: it does not compile, and message tells why. Owner: caller (free). */
static char *compile_for(int arch, const char *text, const char *define) {
    char target[40];
    snprintf(target, sizeof target, "--gpu-architecture=sm_%d", arch);
    const char *const option[] = {target, "--fmad=false", define};
    rg_nvrtc_program program;
    char *cubin = NULL;
    size_t bytes;
    assert_int_equal(api->nvrtc.create(&program, text, "test.cu", 0, NULL, NULL), RG_NVRTC_SUCCESS);
    rg_nvrtc_result result = api->nvrtc.compile(program, define ? 3 : 2, option);
    assert_int_equal(api->nvrtc.log_size(program, &bytes), RG_NVRTC_SUCCESS);
    assert_true(bytes <= sizeof message);
    assert_int_equal(api->nvrtc.log(program, message), RG_NVRTC_SUCCESS);
    if (result == RG_NVRTC_SUCCESS) {
        assert_int_equal(api->nvrtc.cubin_size(program, &bytes), RG_NVRTC_SUCCESS);
        cubin = malloc(bytes);
        assert_non_null(cubin);
        assert_int_equal(api->nvrtc.cubin(program, cubin), RG_NVRTC_SUCCESS);
    }
    assert_int_equal(api->nvrtc.destroy(&program), RG_NVRTC_SUCCESS);
    return cubin;
}

static inline char *compile(const char *text, const char *define) {
    return compile_for(90, text, define);
}

static inline char *compile_well(const char *text, const char *define) {
    char *cubin = compile(text, define);
    if (!cubin) fail_msg("%s", message);
    return cubin;
}

static rg_cu_module load(const char *cubin) {
    rg_cu_module module;
    OK(driver->module_load(&module, cubin));
    return module;
}

static inline rg_cu_module build_well(const char *text, const char *define) {
    char *cubin = compile_well(text, define);
    rg_cu_module module = load(cubin);
    free(cubin);
    return module;
}

static rg_cu_function function_of(rg_cu_module module) {
    rg_cu_function function;
    OK(driver->module_function(&function, module, "k"));
    return function;
}

static rg_cu_ptr alloc(size_t bytes, const void *from) {
    rg_cu_ptr at;
    OK(driver->memory_alloc(&at, bytes));
    if (from) OK(driver->copy_in(at, from, bytes));
    return at;
}

/* Runs k(a0, a1, ...) to its end; the error's text is in message. */
static rg_cu_result launch(rg_cu_module module, unsigned grid, unsigned threads, unsigned shared,
                           void **params) {
    rg_cu_stream stream;
    const char *text;
    message[0] = '\0';
    OK(driver->stream_create(&stream, RG_CU_STREAM_NON_BLOCKING));
    rg_cu_result result = driver->launch(function_of(module), grid, 1, 1, threads, 1, 1, shared,
                                         stream, params, NULL);
    if (result == RG_CU_SUCCESS) result = driver->stream_synchronize(stream);
    if (result != RG_CU_SUCCESS) {
        OK(driver->error_string(result, &text));
        snprintf(message, sizeof message, "%s", text);
    }
    (void)driver->stream_destroy(stream);
    return result;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
