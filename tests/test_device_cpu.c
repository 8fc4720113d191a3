/* Building and loading kernels: the cache, its folder, compilers that are missing, wrong or slow.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rg_cpu.h"

static rg_ctx ctx;
static char root[64]; /* a folder of the test's own; TMPDIR lies in it, too */
static char cache[128];
static rg_cpu_options options;
static rg_cpu_stats stats;
static rg_cpu_library *library;
static rg_cpu_kernel kernel[4];

static const rg_cpu_source sources[] = {
    {"rg_test_add", "00000000000000000000000000000001",
     "typedef struct { int live, blocks; float scalar[6]; } c;\n"
     "void rg_test_add(float *const *a, const c *ctrl, int tile, float *s) {\n"
     "    a[0][tile] += ctrl->live;\n}\n"},
    {"rg_test_mul", "00000000000000000000000000000002",
     "void rg_test_mul(float *const *a, const void *ctrl, int tile, float *s) {\n"
     "    a[0][tile] *= 3;\n}\n"},
    {"rg_test_mul", "00000000000000000000000000000002",
     "void rg_test_mul(float *const *a, const void *ctrl, int tile, float *s) {\n"
     "    a[0][tile] *= 3;\n}\n"},
};

static int setup(void **state) {
    (void)state;
    if (!rg_cpu_native_isa()) return 0;
    strcpy(root, "/tmp/resgen-test-XXXXXX");
    if (!mkdtemp(root)) return -1;
    setenv("TMPDIR", root, 1);
    unsetenv("CC");
    snprintf(cache, sizeof cache, "%s/cache", root);
    options = (rg_cpu_options){.isa = rg_cpu_native_isa(), .cache_dir = cache, .optimise = 1};
    library = NULL;
    return rg_ctx_init(&ctx) == RG_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    char command[128];
    if (!rg_cpu_native_isa()) return 0;
    rg_cpu_close(library);
    rg_ctx_free(&ctx);
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static rg_status build(int count) {
    rg_cpu_close(library);
    return rg_cpu_build(&ctx, sources, count, &options, kernel, &stats, &library);
}

static void build_well(int count) {
    if (build(count) != RG_OK) fail_msg("%s", ctx.last->text);
}

static void expect_kernels_work(void) {
    float value[2] = {1, 2};
    float *const a[] = {value};
    rg_ctrl ctrl = {.live = 7};
    kernel[0](a, &ctrl, 1, NULL);
    kernel[1](a, &ctrl, 1, NULL);
    assert_float_equal(value[0], 1, 0);
    assert_float_equal(value[1], 27, 0);
}

/* Files or folders under the test's folder. */
static int count_files(const char *pattern) {
    char full[256];
    glob_t found;
    snprintf(full, sizeof full, "%s/%s", root, pattern);
    int count = glob(full, 0, NULL, &found) == 0 ? (int)found.gl_pathc : 0;
    globfree(&found);
    return count;
}

static void write_file(const char *name, const char *text, mode_t mode) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

/* ---- the cache ---- */

static void test_kernels_are_built_once_a_key_and_found_again(void **state) {
    (void)state;
    build_well(3);
    assert_int_equal(stats.compiled, 2);
    assert_int_equal(stats.cached, 0);
    assert_null(stats.note);
    assert_string_equal(stats.cache_dir, cache);
    assert_ptr_equal(kernel[1], kernel[2]);
    expect_kernels_work();
    for (int again = 0; again < 2; again++) {
        build_well(3);
        assert_int_equal(stats.compiled, 0);
        assert_int_equal(stats.cached, 2);
        expect_kernels_work();
    }
    assert_int_equal(count_files("cache/*.so"), 2);
    assert_int_equal(count_files("cache/*.sum"), 2);
    assert_int_equal(count_files("resgen-*"), 0); /* sources are gone */
}

static void test_the_cache_is_made_for_its_user_alone(void **state) {
    (void)state;
    struct stat info;
    build_well(1);
    assert_int_equal(stat(cache, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
}

static void test_flags_and_source_are_part_of_an_object(void **state) {
    (void)state;
    build_well(1);
    options.optimise = 2;
    build_well(1);
    assert_int_equal(stats.compiled, 1);
    rg_cpu_source other = {
        sources[0].symbol, sources[0].key,
        "void rg_test_add(float *const *a, const void *c, int t, float *s) {}\n"};
    rg_cpu_close(library);
    assert_int_equal(rg_cpu_build(&ctx, &other, 1, &options, kernel, &stats, &library), RG_OK);
    assert_int_equal(stats.compiled, 1);
    assert_int_equal(count_files("cache/*.so"), 3);
}

/* Replaces, since the old object may still be mapped. */
static void damage(const char *pattern, off_t at, const char *bytes) {
    char full[256], copy[512], command[1200];
    glob_t found;
    snprintf(full, sizeof full, "%s/%s", root, pattern);
    assert_int_equal(glob(full, 0, NULL, &found), 0);
    snprintf(copy, sizeof copy, "%s/copy", root);
    snprintf(command, sizeof command, "cp '%s' '%s'", found.gl_pathv[0], copy);
    assert_int_equal(system(command), 0);
    int fd = open(copy, O_RDWR);
    assert_true(fd >= 0);
    if (bytes)
        assert_int_equal(pwrite(fd, bytes, strlen(bytes), at), (ssize_t)strlen(bytes));
    else
        assert_int_equal(ftruncate(fd, at), 0);
    close(fd);
    assert_int_equal(rename(copy, found.gl_pathv[0]), 0);
    globfree(&found);
}

static void test_a_corrupted_entry_is_rebuilt(void **state) {
    (void)state;
    struct {
        const char *pattern;
        off_t at;
        const char *bytes;
    } cases[] = {{"cache/*.so", 5000, "x"},
                 {"cache/*.so", 100, NULL},
                 {"cache/*.so", 0, NULL},
                 {"cache/*.sum", 3, "--"},
                 {"cache/*.sum", 7, NULL}};
    build_well(1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rg_cpu_close(library);
        library = NULL;
        damage(cases[i].pattern, cases[i].at, cases[i].bytes);
        build_well(1);
        assert_int_equal(stats.compiled, 1);
        build_well(1);
        assert_int_equal(stats.cached, 1);
    }
    char command[256];
    snprintf(command, sizeof command, "rm %s/*.sum", cache);
    assert_int_equal(system(command), 0);
    build_well(2);
    expect_kernels_work();
}

static void test_processes_may_share_a_cache(void **state) {
    (void)state;
    pid_t child[4];
    for (int i = 0; i < 4; i++) {
        child[i] = fork();
        assert_true(child[i] >= 0);
        if (child[i] != 0) continue;
        float value[2] = {1, 2};
        float *const a[] = {value};
        rg_ctrl ctrl = {.live = 7};
        bool good = build(3) == RG_OK && !stats.note;
        if (good) kernel[0](a, &ctrl, 1, NULL);
        rg_cpu_close(library);
        _exit(good && value[1] == 9 ? 0 : 1);
    }
    for (int i = 0; i < 4; i++) {
        int status;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    build_well(3);
    assert_int_equal(stats.cached, 2);
    expect_kernels_work();
    assert_int_equal(count_files("cache/*.tmp.*"), 0);
}

/* ---- the cache's folder ---- */

static void expect_fallback(const char *word) {
    build_well(2);
    expect_kernels_work();
    assert_int_equal(stats.compiled, 2);
    assert_non_null(stats.note);
    if (!strstr(stats.note, word)) fail_msg("'%s' lacks '%s'", stats.note, word);
    assert_string_not_equal(stats.cache_dir, cache);
    assert_int_equal(count_files("resgen-*"), 1);
    rg_cpu_close(library);
    library = NULL;
    assert_int_equal(count_files("resgen-*"), 0);
    assert_int_equal(ctx.count, 0); /* falling back is no error */
}

static void test_a_folder_that_others_can_write_is_not_used(void **state) {
    (void)state;
    assert_int_equal(mkdir(cache, 0700), 0);
    assert_int_equal(chmod(cache, 0770), 0);
    expect_fallback("can be written by others");
    assert_int_equal(count_files("cache/*"), 0);
}

static void test_a_folder_that_cannot_be_made_is_done_without(void **state) {
    (void)state;
    write_file("cache", "a file", 0600);
    expect_fallback("cache");
}

static void test_a_home_that_cannot_be_written_is_done_without(void **state) {
    (void)state;
    options.cache_dir = NULL;
    unsetenv("XDG_CACHE_HOME");
    setenv("HOME", "/proc", 1);
    expect_fallback("/proc");
    unsetenv("HOME");
    expect_fallback("HOME");
}

static void test_the_users_cache_folder_is_the_default(void **state) {
    (void)state;
    options.cache_dir = NULL;
    setenv("XDG_CACHE_HOME", root, 1);
    build_well(1);
    assert_int_equal(count_files("resgen/*.so"), 1);
    unsetenv("XDG_CACHE_HOME");
    setenv("HOME", root, 1);
    build_well(1);
    assert_int_equal(count_files(".cache/resgen/*.so"), 1);
}

/* ---- compilers ---- */

static void expect_line(rg_status status, rg_status wanted, const char *word) {
    assert_int_equal(status, wanted);
    assert_int_equal(ctx.count, 1);
    if (!strstr(ctx.last->text, word)) fail_msg("'%s' lacks '%s'", ctx.last->text, word);
    assert_null(strchr(ctx.last->text, '\n'));
    assert_true(strlen(ctx.last->text) < 400);
    assert_null(library);
    assert_int_equal(count_files("resgen-*"), 0);
}

static void test_a_missing_compiler_is_named_with_its_package(void **state) {
    (void)state;
    options.cc = "no-such-compiler";
    expect_line(build(1), RG_E_BUILD, "Debian package gcc");
}

static void test_what_is_no_compiler_is_refused(void **state) {
    (void)state;
    options.cc = "false";
    expect_line(build(1), RG_E_BUILD, "is it a C compiler?");
}

static void test_a_compilers_error_is_one_line_with_kernel_and_place(void **state) {
    (void)state;
    rg_cpu_source bad = {"rg_test_bad", "00000000000000000000000000000009",
                         "int fine;\n\nint broken = nowhere;\nint more = elsewhere;\n"};
    rg_status status = rg_cpu_build(&ctx, &bad, 1, &options, kernel, &stats, &library);
    expect_line(status, RG_E_BUILD, "'rg_test_bad': line 3:");
    assert_non_null(strstr(ctx.last->text, "nowhere"));
    assert_int_equal(count_files("cache/*"), 0);
}

static void test_an_object_without_its_function_is_refused(void **state) {
    (void)state;
    rg_cpu_source bad = {"rg_test_gone", "00000000000000000000000000000009", "int other;\n"};
    rg_status status = rg_cpu_build(&ctx, &bad, 1, &options, kernel, &stats, &library);
    expect_line(status, RG_E_BUILD, "no such function");
}

static void test_a_symbol_that_is_no_name_is_refused(void **state) {
    (void)state;
    rg_cpu_source bad = {"../x", "00000000000000000000000000000009", "int other;\n"};
    rg_status status = rg_cpu_build(&ctx, &bad, 1, &options, kernel, &stats, &library);
    expect_line(status, RG_E_BUILD, "not a C name");
}

static void test_endless_compiler_output_is_bounded(void **state) {
    (void)state;
    char path[128];
    write_file(
        "cc",
        "#!/bin/sh\n[ \"$1\" = --version ] && exec echo fake 1\n"
        "echo 'x.c:1:1: error: first'\nyes 'x.c:2:1: error: more' | head -c 3000000\nexit 1\n",
        0700);
    snprintf(path, sizeof path, "%s/cc", root);
    options.cc = path;
    expect_line(build(1), RG_E_BUILD, "error: first");
}

static void test_a_childs_output_is_kept_up_to_a_bound(void **state) {
    (void)state;
    char *argv[] = {"/bin/sh", "-c", "head -c 1000000 /dev/zero; exit 3", NULL};
    char *envp[] = {"PATH=/usr/bin:/bin", NULL};
    rg_cpu_job job = {.argv = argv, .envp = envp};
    int number = -1;
    assert_int_equal(rg_cpu_run(&ctx, &job, 1, 1, NULL, NULL, &number), RG_OK);
    assert_int_equal(number, 0);
    assert_int_equal(job.exit_code, 3);
    assert_int_equal(job.output.length, 64 * 1024);
    rg_text_free(&job.output);
}

static void test_cc_of_the_environment_is_used_if_it_is_a_plain_name(void **state) {
    (void)state;
    setenv("CC", "no-such-compiler", 1);
    assert_int_equal(build(1), RG_E_BUILD);
    setenv("CC", "gcc -O0", 1);
    build_well(1);
    assert_non_null(stats.note);
    assert_non_null(strstr(stats.note, "'gcc -O0'"));
}

static void test_unknown_instruction_sets_and_levels_are_refused(void **state) {
    (void)state;
    options.isa = "avx1024";
    assert_int_equal(build(1), RG_E_USAGE);
    options.isa = rg_cpu_native_isa();
    options.optimise = 4;
    assert_int_equal(build(1), RG_E_USAGE);
}

static void test_sanitized_kernels_need_a_sanitized_program(void **state) {
    (void)state;
    options.sanitize = true;
#if defined(__SANITIZE_ADDRESS__)
    build_well(2);
    expect_kernels_work();
#else
    expect_line(build(1), RG_E_UNSUPPORTED, "RG_SANITIZE");
#endif
}

static int progress_calls, progress_last;

static void on_progress(void *user, int done, int total) {
    assert_ptr_equal(user, &progress_calls);
    assert_int_equal(total, 2);
    assert_int_equal(done, ++progress_calls);
    progress_last = done;
}

static void test_progress_counts_what_is_compiled(void **state) {
    (void)state;
    options.progress = on_progress;
    options.user = &progress_calls;
    options.jobs = 1;
    build_well(3);
    assert_int_equal(progress_last, 2);
}

static void test_every_failed_allocation_comes_back_as_an_error(void **state) {
    (void)state;
    int failures = 0, good = 0;
    build_well(1);
    /* The longest way: a folder that is refused, and compiling. Some failures only cost the cache:
     * one success does not yet mean that none is left. */
    assert_int_equal(chmod(cache, 0770), 0);
    for (long n = 1; good < 5 && n < 200; n++) {
        rg_cpu_close(library);
        rg_arena_fail_after(n);
        rg_status status = rg_cpu_build(&ctx, sources, 1, &options, kernel, &stats, &library);
        rg_arena_fail_after(0);
        good = status == RG_OK ? good + 1 : 0;
        failures += status != RG_OK;
        assert_true(status == RG_OK || status == RG_E_NOMEM || status == RG_E_BUILD);
        assert_true((status == RG_OK) == (library != NULL));
        assert_int_equal(count_files("resgen-*"), library != NULL);
    }
    assert_int_equal(good, 5);
    assert_true(failures > 15);
}

/* ---- interruption ---- */

static volatile sig_atomic_t heard;

static void hear(int number) {
    heard = number;
}

static void test_an_interrupt_ends_the_compilers_and_reaches_the_program(void **state) {
    (void)state;
    char path[128];
    /* A compiler with a child of its own; it interrupts us and would never end. Both hold the pipe
     * open. */
    write_file("cc",
               "#!/bin/sh\n[ \"$1\" = --version ] && exec echo fake 1\n"
               "exec 3> \"${0%/*}/alive\"\nsleep 1000 &\nkill -INT $PPID\nwait\n",
               0700);
    snprintf(path, sizeof path, "%s/alive", root);
    assert_int_equal(mkfifo(path, 0600), 0);
    struct pollfd alive = {.fd = open(path, O_RDONLY | O_NONBLOCK), .events = POLLIN};
    assert_true(alive.fd >= 0);
    snprintf(path, sizeof path, "%s/cc", root);
    options.cc = path;
    options.jobs = 1;
    struct sigaction action = {.sa_handler = hear}, before;
    assert_int_equal(sigaction(SIGINT, &action, &before), 0);
    heard = 0;
    rg_status status = build(2);
    assert_int_equal(sigaction(SIGINT, &before, NULL), 0);
    expect_line(status, RG_E_INTERRUPTED, "interrupted");
    assert_int_equal(heard, SIGINT);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    assert_int_equal(poll(&alive, 1, 20000), 1); /* at once, if all of the group has ended */
    assert_true(alive.revents & POLLHUP);
    close(alive.fd);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_kernels_are_built_once_a_key_and_found_again),
        T(test_the_cache_is_made_for_its_user_alone),
        T(test_flags_and_source_are_part_of_an_object),
        T(test_a_corrupted_entry_is_rebuilt),
        T(test_processes_may_share_a_cache),
        T(test_a_folder_that_others_can_write_is_not_used),
        T(test_a_folder_that_cannot_be_made_is_done_without),
        T(test_a_home_that_cannot_be_written_is_done_without),
        T(test_the_users_cache_folder_is_the_default),
        T(test_a_missing_compiler_is_named_with_its_package),
        T(test_what_is_no_compiler_is_refused),
        T(test_a_compilers_error_is_one_line_with_kernel_and_place),
        T(test_an_object_without_its_function_is_refused),
        T(test_a_symbol_that_is_no_name_is_refused),
        T(test_endless_compiler_output_is_bounded),
        T(test_a_childs_output_is_kept_up_to_a_bound),
        T(test_cc_of_the_environment_is_used_if_it_is_a_plain_name),
        T(test_unknown_instruction_sets_and_levels_are_refused),
        T(test_sanitized_kernels_need_a_sanitized_program),
        T(test_progress_counts_what_is_compiled),
        T(test_every_failed_allocation_comes_back_as_an_error),
        T(test_an_interrupt_ends_the_compilers_and_reaches_the_program),
    };
    if (!rg_cpu_native_isa()) {
        printf("skipped: this processor has neither AVX2 nor AVX-512\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
