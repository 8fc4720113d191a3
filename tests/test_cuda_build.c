/* Building kernels with the real NVRTC, without a GPU: the cache and the compiler's errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rg_cuda.h"

static rg_ctx ctx;
static rg_cuda_api api;
static bool missing;
static char root[64], cache[128], why[512];
static rg_cuda_build_options options;
static rg_cuda_object object[4];
static rg_cuda_stats stats;

static const rg_cuda_source sources[] = {
    {"rg_test_add",
     "extern \"C\" __global__ void __launch_bounds__(128) rg_test_add(float *a0) {\n"
     "    __shared__ float s[128];\n    s[threadIdx.x] = a0[threadIdx.x];\n    __syncthreads();\n"
     "    a0[threadIdx.x] += s[127 - threadIdx.x];\n}\n"},
    {"rg_test_mul",
     "extern \"C\" __global__ void rg_test_mul(float *a0) { a0[threadIdx.x] *= 3; }\n"},
    {"rg_test_mul",
     "extern \"C\" __global__ void rg_test_mul(float *a0) { a0[threadIdx.x] *= 3; }\n"},
    {"rg_test_wrong", "\nextern \"C\" __global__ void rg_test_wrong(float *a0) { a0[0] = zz; }\n"},
};

static rg_ctx quiet; /* api's texts lie in its arena */

static int open_group(void **state) {
    (void)state;
    if (rg_ctx_init(&quiet) != RG_OK) return -1;
    missing = rg_cuda_open(&quiet, NULL, RG_CUDA_NVRTC, &api) != RG_OK;
    if (missing) snprintf(why, sizeof why, "%s", quiet.last->text);
    return 0;
}

static int close_group(void **state) {
    (void)state;
    rg_cuda_close(&api);
    rg_ctx_free(&quiet);
    return 0;
}

static int setup(void **state) {
    (void)state;
    strcpy(root, "/tmp/resgen-test-XXXXXX");
    if (!mkdtemp(root)) return -1;
    snprintf(cache, sizeof cache, "%s/cache", root);
    options = (rg_cuda_build_options){.arch = 90, .cache_dir = cache, .jobs = 2};
    return rg_ctx_init(&ctx) == RG_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    char command[128];
    rg_ctx_free(&ctx);
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static void need_nvrtc(void) {
    if (!missing) return;
    print_message("NVRTC is missing: %s\n", why);
    skip();
}

static void build_well(int compiled, int cached) {
    if (rg_cuda_build(&ctx, &api, sources, 3, &options, object, &stats) != RG_OK)
        fail_msg("%s", ctx.last->text);
    assert_int_equal(stats.compiled, compiled);
    assert_int_equal(stats.cached, cached);
    for (int i = 0; i < 3; i++) {
        assert_memory_equal(object[i].cubin, "\177ELF", 4);
        assert_true(object[i].bytes > 512);
        assert_true(object[i].report.known && object[i].report.registers > 4);
        assert_string_equal(object[i].symbol, sources[i].symbol);
    }
    assert_int_equal(object[0].report.shared_bytes, 512);
    assert_ptr_equal(object[1].cubin, object[2].cubin);
}

static void test_the_second_and_third_start_compile_nothing(void **state) {
    (void)state;
    need_nvrtc();
    build_well(2, 0);
    const void *fresh = object[0].cubin;
    size_t bytes = object[0].bytes;
    build_well(0, 2);
    assert_int_equal(object[0].bytes, bytes);
    assert_memory_equal(object[0].cubin, fresh, bytes);
    build_well(0, 2);
    options.arch = 80; /* another architecture, other cubins */
    build_well(2, 0);
}

static void break_entry(const char *pattern, long offset) {
    glob_t found;
    char path[256];
    snprintf(path, sizeof path, "%s/%s", cache, pattern);
    assert_int_equal(glob(path, 0, NULL, &found), 0);
    int fd = open(found.gl_pathv[0], O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "#", 1, offset), 1);
    close(fd);
    globfree(&found);
}

static void test_a_corrupted_entry_is_built_again(void **state) {
    (void)state;
    need_nvrtc();
    build_well(2, 0);
    break_entry("*.cubin", 700);
    build_well(1, 1);
    build_well(0, 2);
    break_entry("*.sum", 3);
    build_well(1, 1);
    build_well(0, 2);
}

static void test_an_error_is_one_line_with_the_compilers_words(void **state) {
    (void)state;
    need_nvrtc();
    assert_int_equal(rg_cuda_build(&ctx, &api, sources + 1, 3, &options, object, &stats),
                     RG_E_BUILD);
    assert_int_equal(ctx.count, 1);
    assert_string_equal(ctx.last->text, "cannot compile kernel 'rg_test_wrong': "
                                        "rg_test_wrong.cu(2): error: identifier \"zz\" is "
                                        "undefined");
}

static void test_a_wrong_architecture_is_one_line(void **state) {
    (void)state;
    need_nvrtc();
    options.arch = 12;
    assert_int_equal(rg_cuda_build(&ctx, &api, sources, 1, &options, object, &stats), RG_E_BUILD);
    assert_int_equal(ctx.count, 1);
    assert_non_null(strstr(ctx.last->text, "rg_test_add"));
    assert_null(strchr(ctx.last->text, '\n'));
}

static void test_nothing_is_kept_where_the_folder_is_refused(void **state) {
    (void)state;
    need_nvrtc();
    assert_int_equal(rg_file_write(&ctx, cache, "x", 1), RG_OK); /* a file in the folder's place */
    for (int i = 0; i < 2; i++) {
        build_well(2, 0);
        assert_null(stats.cache_dir);
        assert_non_null(strstr(stats.note, "built kernels are not kept"));
    }
}

static int told, told_of;

static void on_progress(void *user, int done, int total) {
    (void)user;
    assert_int_equal(done, ++told);
    told_of = total;
}

static void test_progress_counts_each_kernel(void **state) {
    (void)state;
    need_nvrtc();
    told = 0;
    options.progress = on_progress;
    build_well(2, 0);
    assert_int_equal(told, 2);
    assert_int_equal(told_of, 2);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_the_second_and_third_start_compile_nothing),
        T(test_a_corrupted_entry_is_built_again),
        T(test_an_error_is_one_line_with_the_compilers_words),
        T(test_a_wrong_architecture_is_one_line),
        T(test_nothing_is_kept_where_the_folder_is_refused),
        T(test_progress_counts_each_kernel),
    };
    return cmocka_run_group_tests(tests, open_group, close_group);
}
