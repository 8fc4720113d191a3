/* Finding the driver and NVRTC, and what is said where that fails; the compiler's report. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rg_cuda.h"

static rg_ctx ctx;

static int setup(void **state) {
    (void)state;
    return rg_ctx_init(&ctx) == RG_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    rg_ctx_free(&ctx);
    return 0;
}

static void expect_line(const char *part) {
    assert_int_equal(ctx.count, 1);
    if (!strstr(ctx.last->text, part)) fail_msg("no '%s' in: %s", part, ctx.last->text);
    assert_null(strchr(ctx.last->text, '\n'));
}

/* ---- prototypes ---- */

static void test_prototypes_agree_with_the_real_headers(void **state) {
    (void)state;
#ifndef RG_HAVE_CUDA_HEADERS
    print_message("cuda.h is not installed (CUDA toolkit): types are not compared\n");
    skip();
#endif
}

/* ---- looking for libraries ---- */

static bool has_driver(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library) dlclose(library);
    return library != NULL;
}

static void test_a_missing_driver_is_told_with_the_places(void **state) {
    (void)state;
    rg_cuda_api api;
    if (has_driver()) {
        print_message("this machine has a driver: its absence cannot be tested\n");
        skip();
    }
    assert_int_equal(rg_cuda_open(&ctx, RG_SOURCE_DIR "/docs", RG_CUDA_DRIVER, &api),
                     RG_E_UNSUPPORTED);
    expect_line("there is no libcuda.so.1 in '");
    expect_line("the loader's own places");
    expect_line("/docs'");
    expect_line("--device=emulate");
    assert_null(api.library[0]);
}

/* Of `part` in the diagnostic. */
static int count_of(const char *part) {
    int count = 0;
    for (const char *at = ctx.last->text; (at = strstr(at, part)); at++) count++;
    return count;
}

static void test_a_root_named_twice_is_told_once(void **state) {
    (void)state;
    rg_cuda_api api;
    if (has_driver()) {
        print_message("this machine has a driver: its absence cannot be tested\n");
        skip();
    }
    assert_int_equal(rg_cuda_open(&ctx, "/usr/lib/wsl/lib", RG_CUDA_DRIVER, &api),
                     RG_E_UNSUPPORTED);
    assert_int_equal(count_of("'/usr/lib/wsl/lib'"), 1);
}

static void test_a_missing_nvrtc_is_told_with_all_names_and_places(void **state) {
    (void)state;
    rg_cuda_api api;
    setenv("CUDA_PATH", "/usr/local/cuda", 1);
    setenv("CUDA_HOME", "/nowhere", 1);
    rg_status status = rg_cuda_open(&ctx, "/nowhere", RG_CUDA_NVRTC, &api);
    unsetenv("CUDA_PATH");
    unsetenv("CUDA_HOME");
    if (status == RG_OK) {
        rg_cuda_close(&api);
        print_message("this machine has NVRTC: its absence cannot be tested\n");
        skip();
    }
    assert_int_equal(status, RG_E_UNSUPPORTED);
    expect_line("there is no libnvrtc.so.13, libnvrtc.so.12, libnvrtc.so.11.2 or libnvrtc.so in "
                "'/nowhere', '/usr/local/cuda', the loader's own places: install");
}

static void test_a_library_without_the_functions_is_refused(void **state) {
    (void)state;
    rg_cuda_api api;
    assert_int_equal(rg_cuda_open(&ctx, RG_BINARY_DIR "/cuda-empty", RG_CUDA_DRIVER, &api),
                     RG_E_UNSUPPORTED);
    expect_line("has no function cuInit: it is too old");
    assert_int_equal(api.has_driver, 0);
    assert_null(api.library[0]);
}

static void test_a_broken_library_is_told(void **state) {
    (void)state;
    char folder[] = "/tmp/resgen-test-XXXXXX", path[64];
    rg_cuda_api api;
    if (has_driver()) {
        print_message("this machine has a driver, which would be taken instead\n");
        skip();
    }
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/libcuda.so.1", folder);
    assert_int_equal(rg_file_write(&ctx, path, "no library", 10), RG_OK);
    assert_int_equal(rg_cuda_open(&ctx, folder, RG_CUDA_DRIVER, &api), RG_E_UNSUPPORTED);
    expect_line("libcuda.so.1: file too short");
    unlink(path);
    rmdir(folder);
}

/* ---- what a driver says ---- */

static rg_cu_result no_device(unsigned flags) {
    (void)flags;
    return RG_CU_NO_DEVICE;
}

static rg_cu_result well(unsigned flags) {
    (void)flags;
    return RG_CU_SUCCESS;
}

static rg_cu_result two_devices(int *count) {
    *count = 2;
    return RG_CU_SUCCESS;
}

static rg_cu_result error_text(rg_cu_result error, const char **text) {
    *text = error == RG_CU_NO_DEVICE ? "no CUDA-capable device is detected" : NULL;
    return RG_CU_SUCCESS;
}

static void test_an_error_names_the_call(void **state) {
    (void)state;
    rg_cuda_api api = {.driver = {.init = no_device, .error_string = error_text}, .has_driver = 1};
    rg_cuda_device device;
    assert_int_equal(rg_cuda_device_find(&ctx, &api, 0, &device), RG_E_DEVICE);
    expect_line("cuInit (starting the driver): no CUDA-capable device is detected (error 100)");
}

static void test_a_device_beyond_the_last_is_an_error(void **state) {
    (void)state;
    rg_cuda_api api = {
        .driver = {.init = well, .device_count = two_devices, .error_string = error_text}};
    rg_cuda_device device;
    assert_int_equal(rg_cuda_device_find(&ctx, &api, 2, &device), RG_E_DEVICE);
    expect_line("there is no CUDA device 2: the driver has 2");
}

/* ---- the compiler's report ---- */

static const char spilled[] =
    "ptxas info    : 0 bytes gmem\n"
    "ptxas info    : Compiling entry function 'k' for 'sm_90'\n"
    "ptxas info    : Function properties for k\n"
    "ptxas         .     160 bytes stack frame, 12 bytes spill stores, 24 bytes spill loads\n"
    "ptxas info    : Used 255 registers, used 1 barriers, 160 bytes cumulative stack size, "
    "49152 bytes smem\n"
    "ptxas info    : Compile time = 21.539 ms\n";

static void test_the_report_is_read(void **state) {
    (void)state;
    rg_cuda_report report;
    rg_cuda_report_parse(spilled, &report);
    assert_true(report.known);
    assert_int_equal(report.registers, 255);
    assert_int_equal(report.shared_bytes, 49152);
    assert_int_equal(report.stack_bytes, 160);
    assert_int_equal(report.spill_store_bytes, 12);
    assert_int_equal(report.spill_load_bytes, 24);
    rg_cuda_report_parse("ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes "
                         "spill loads\nptxas info    : Used 32 registers, used 0 barriers\n",
                         &report);
    assert_int_equal(report.registers, 32);
    assert_int_equal(report.shared_bytes, 0);
    rg_cuda_report_parse("a compiler of another kind\n", &report);
    assert_false(report.known);
}

static void test_occupancy_is_by_the_scarcest(void **state) {
    (void)state;
    static const struct {
        int arch, threads, registers, shared, blocks;
    } row[] = {
        {90, 256, 32, 0, 8},         /* by warps */
        {90, 256, 128, 0, 2},        /* by registers */
        {90, 32, 128, 0, 16},        /* the same */
        {90, 128, 32, 100 << 10, 2}, /* by shared memory */
        {90, 32, 16, 0, 32},         /* by blocks */
        {75, 256, 64, 0, 4},         {86, 256, 40, 0, 6}, {90, 256, 32, 228 << 10, 0}, /* not one */
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const rg_cuda_limits *limits = rg_cuda_limits_of(row[i].arch);
        assert_non_null(limits);
        int blocks = rg_cuda_blocks_per_multiprocessor(limits, row[i].threads, row[i].registers,
                                                       row[i].shared);
        if (blocks != row[i].blocks)
            fail_msg("row %zu: %d blocks, not %d", i, blocks, row[i].blocks);
    }
    assert_null(rg_cuda_limits_of(12));
}

static void test_a_cubin_runs_within_its_generation(void **state) {
    (void)state;
    static const struct {
        int arch, device;
        bool runs;
    } row[] = {
        {80, 80, true}, {80, 86, true},  {86, 80, false},   {86, 89, true},    {80, 90, false},
        {87, 87, true}, {80, 87, false}, {86, 87, false},   {87, 89, false},   {100, 103, true},
        {90, 90, true}, {75, 80, false}, {103, 100, false}, {100, 120, false}, {120, 121, true},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        if (rg_cuda_arch_runs_on(row[i].arch, row[i].device) != row[i].runs)
            fail_msg("sm_%d on sm_%d", row[i].arch, row[i].device);
}

#ifdef RG_HAVE_CUDA_HEADERS
int cuda_calculator(const rg_cuda_limits *limits, int threads, int registers, int shared_bytes);

static void compare_occupancy(const rg_cuda_limits *limits, int threads, int registers) {
    for (int shared = 0; shared <= limits->block_shared_bytes; shared += 1337) {
        int ours = rg_cuda_blocks_per_multiprocessor(limits, threads, registers, shared);
        int theirs = cuda_calculator(limits, threads, registers, shared);
        if (ours != theirs)
            fail_msg("sm_%d, %d threads, %d registers, %d bytes: %d blocks, not %d", limits->arch,
                     threads, registers, shared, ours, theirs);
    }
}
#endif

static void test_occupancy_is_the_calculators(void **state) {
    (void)state;
#ifdef RG_HAVE_CUDA_HEADERS
    static const int archs[] = {75, 80, 86, 87, 89, 90, 100, 103, 120, 121};
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
        for (int threads = 32; threads <= 1024; threads += 32)
            for (int registers = 16; registers <= 255; registers += 13)
                compare_occupancy(rg_cuda_limits_of(archs[i]), threads, registers);
#else
    print_message("cuda_occupancy.h is not installed (CUDA toolkit): nothing to compare with\n");
    skip();
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prototypes_agree_with_the_real_headers),
        cmocka_unit_test_setup_teardown(test_a_missing_driver_is_told_with_the_places, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_root_named_twice_is_told_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_missing_nvrtc_is_told_with_all_names_and_places,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_library_without_the_functions_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_broken_library_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_error_names_the_call, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_device_beyond_the_last_is_an_error, setup, teardown),
        cmocka_unit_test(test_the_report_is_read),
        cmocka_unit_test(test_occupancy_is_by_the_scarcest),
        cmocka_unit_test(test_a_cubin_runs_within_its_generation),
        cmocka_unit_test(test_occupancy_is_the_calculators),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
