/* `resgen verify` and `resgen bench` on a tiny network, with right kernels and with kernels that a
 * compiler of our own makes wrong. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#define FOLDER   RG_BINARY_DIR "/test_verify"
#define SPEC     "specs/tiny/tiny_residual.lua"
#define WRONG_CC FOLDER "/wrong-cc"
/* Quick kernels; the right ones in a cache that the tests of this build share. */
#define RIGHT " --optimise=1 --data=synthetic --cache=" RG_BINARY_DIR "/parity-cache"
#define WRONG " --optimise=1 --data=synthetic --cache=" FOLDER "/cache --cc=" WRONG_CC

enum { OUTPUT = 1 << 20 };
static char out[OUTPUT], err[OUTPUT];

/* ---- running ---- */

static void slurp(const char *name, char *to) {
    FILE *file = fopen(name, "r");
    assert_non_null(file);
    to[fread(to, 1, OUTPUT - 1, file)] = '\0';
    fclose(file);
}

/* resgen's exit code; its output in `out` and `err`. */
static int resgen(const char *words) {
    char command[4096];
    int length = snprintf(command, sizeof command, "%s %s >%s/out 2>%s/err", RG_PROGRAM, words,
                          FOLDER, FOLDER);
    assert_true(length > 0 && (size_t)length < sizeof command);
    int status = system(command);
    slurp(FOLDER "/out", out);
    slurp(FOLDER "/err", err);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect(int code, int got) {
    if (code == got) return;
    print_error("-- output:\n%s-- errors:\n%s", out, err);
    fail_msg("expected exit code %d, got %d", code, got);
}

/* The rest of the line that begins with `start`, which must be there. */
static const char *line_of(const char *start) {
    for (const char *at = out; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, start, strlen(start)) == 0) return at + strlen(start);
        if (!*at) break;
    }
    print_error("%s", out);
    fail_msg("no line begins with '%s'", start);
    return NULL;
}

static int count_of(const char *text) {
    int count = 0;
    for (const char *at = out; (at = strstr(at, text)) != NULL; at += strlen(text)) count++;
    return count;
}

/* ---- verify ---- */

static void test_verify_checks_every_kernel_and_every_adjoint(void **state) {
    (void)state;
    expect(0, resgen("verify " SPEC RIGHT));
    assert_string_equal(err, "");
    assert_int_equal(count_of("FAIL"), 0);
    assert_true(count_of("ok    rg_conv2d_fprop") > 8);
    assert_true(count_of("ok    rg_conv2d_dgrad") > 4);
    assert_non_null(strstr(out, " 0 failed; "));
    /* six convolutions differ; the first has no dgrad */
    assert_int_equal(count_of("ok    adjoint  "), 6);
    const char *first = strstr(line_of("ok    adjoint  h16w16c3_k8r3s3 "), "/ -        /");
    assert_non_null(first);
    line_of("ok    adjoint  h8w8c8_k16r3s3_stride2 ");
}

static void test_verify_holds_winograd_to_the_adjoint_identity(void **state) {
    (void)state;
    expect(0, resgen("verify " SPEC " --variant=wino4" RIGHT));
    line_of("ok    adjoint  h4w4c16_k16r3s3                wino4    / wino4    / ");
}

static void test_verify_fails_on_a_wrong_kernel(void **state) {
    (void)state;
    expect(1, resgen("verify " SPEC WRONG));
    assert_non_null(strstr(err, "error[numeric]: verify: "));
    assert_true(count_of("FAIL  rg_conv2d_dgrad_") > 4);
    assert_int_equal(count_of("FAIL  rg_"), count_of("FAIL  rg_conv2d_dgrad_"));
    line_of("FAIL  adjoint  h8w8c8_k8r3s3 ");
    line_of("FAIL  adjoint  h8w8c8_k16r3s3_stride2 ");
    line_of("ok    adjoint  h16w16c3_k8r3s3 "); /* it has no dgrad */
}

static void test_verify_of_a_wrong_kernel_is_json(void **state) {
    (void)state;
    expect(1, resgen("verify " SPEC " --json" WRONG));
    int failed = 0;
    for (char *line = strtok(out, "\n"); line; line = strtok(NULL, "\n")) {
        json_error_t error;
        json_t *value = json_loads(line, 0, &error);
        if (!value) fail_msg("%s: %s", error.text, line);
        assert_true(json_is_number(json_object_get(value, "error")));
        failed += json_is_false(json_object_get(value, "passed"));
        json_decref(value);
    }
    assert_true(failed > 4);
}

/* ---- bench ---- */

static double number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value)) fail_msg("no number '%s'", key);
    return json_number_value(value);
}

static json_t *parsed(void) {
    json_error_t error;
    json_t *all = json_loads(out, 0, &error);
    if (!all) fail_msg("line %d: %s", error.line, error.text);
    return all;
}

static void check_row(const json_t *row) {
    assert_true(json_is_true(json_object_get(row, "passed")));
    assert_true(number(row, "min_us") > 0 && number(row, "min_us") <= number(row, "median_us"));
    assert_true(number(row, "est_us") >= 0 && number(row, "floor_us") >= 0);
    assert_true(number(row, "gbps") > 0 && number(row, "launches") >= 1);
    const char *kernel = json_string_value(json_object_get(row, "kernel"));
    bool multiplies = strncmp(kernel, "rg_conv2d_", 10) == 0;
    assert_true(multiplies == json_is_number(json_object_get(row, "gflops")));
    assert_true(multiplies == json_is_number(json_object_get(row, "peak_percent")));
}

static void test_bench_times_every_variant_that_applies(void **state) {
    (void)state;
    expect(0, resgen("bench " SPEC " --json" RIGHT));
    json_t *all = parsed();
    assert_string_equal(json_string_value(json_object_get(all, "spec")), SPEC);
    assert_non_null(json_object_get(all, "isa"));
    assert_true(number(all, "threads") >= 1 && number(all, "peak_gflops") > 0);
    int wino = 0, picks = 0;
    size_t index, others = 0;
    const json_t *row, *rows = json_object_get(all, "variants");
    json_array_foreach(rows, index, row) {
        check_row(row);
        wino += strcmp(json_string_value(json_object_get(row, "variant")), "wino4") == 0;
        picks += json_is_true(json_object_get(row, "pick"));
        others += json_is_false(json_object_get(row, "pick"));
    }
    assert_true(wino >= 2 && picks > 20 && others > 6);
    assert_true(number(json_object_get(all, "step_kernels"), "picked_us") >=
                number(json_object_get(all, "step_kernels"), "fastest_us"));
    json_decref(all);
}

static void test_bench_table_has_one_head_and_marks_its_picks(void **state) {
    (void)state;
    expect(0, resgen("bench " SPEC RIGHT));
    assert_int_equal(count_of("est us"), 1);
    assert_true(count_of("\npick  direct ") > 8);
    assert_true(count_of("\n      wino4 ") >= 2);
    line_of("grad, 4 images:");
    line_of("eval, 8 images:");
    line_of("a training step ");
    line_of("an evaluation batch ");
}

static void test_bench_does_not_time_a_wrong_kernel(void **state) {
    (void)state;
    expect(1, resgen("bench " SPEC WRONG));
    assert_non_null(strstr(err, "variants gave wrong values"));
    assert_true(count_of("WRONG, not timed") >= 4);
}

static void test_bench_step_sums_to_its_rows(void **state) {
    (void)state;
    expect(0, resgen("bench " SPEC " --step" RIGHT));
    const char *at = strstr(out, "layer ");
    assert_non_null(at);
    double sum = 0, percent = 0, us, share, least, of_floor, gflop, mb;
    char layer[64];
    int rows = 0;
    while ((at = strchr(at, '\n')) != NULL &&
           sscanf(++at, "%lf %lf %lf %lf %lf %lf %63s", &us, &share, &least, &of_floor, &gflop, &mb,
                  layer) == 7) {
        if (strcmp(layer, "sum") == 0) break;
        sum += us;
        percent += share;
        rows++;
    }
    assert_string_equal(layer, "sum");
    assert_true(rows > 30);
    assert_true(fabs(sum - us) < 0.05);             /* each row has one decimal */
    assert_true(fabs(percent - 100) < 0.05 * rows); /* and is rounded */
    assert_true(fabs(of_floor - 100 * least / us) < 0.06);
    assert_null(strstr(out, "est us"));
}

static void test_bench_step_json_keeps_its_keys(void **state) {
    (void)state;
    expect(0, resgen("bench " SPEC " --step --json" RIGHT));
    json_t *all = parsed();
    static const char *const keys[] = {"step_ms", "fill_ms", "eval_ms"};
    for (int i = 0; i < 3; i++) assert_true(json_array_size(json_object_get(all, keys[i])) > 4);
    assert_true(number(all, "peak_gflops") > 0);
    json_decref(all);
}

/* A compiler that begins the list of taps of each dgrad at the first tap, where the image's border
 * leaves it out. */
static int set_up(void **state) {
    static const char script[] = "#!/bin/sh\n"
                                 "for last; do :; done\n"
                                 "if grep -qs conv2d_dgrad \"$last\"; then\n"
                                 "    sed -i 's/span.first = s;/span.first = 0;/' \"$last\"\n"
                                 "fi\n"
                                 "exec cc \"$@\"\n";
    (void)state;
    unsetenv("RG_CIFAR10_DIR");
    if (chdir(RG_SOURCE_DIR) != 0) return -1;
    if (mkdir(FOLDER, 0700) != 0 && errno != EEXIST) return -1;
    FILE *file = fopen(WRONG_CC, "w");
    if (!file || fputs(script, file) < 0 || fclose(file) != 0) return -1;
    return chmod(WRONG_CC, 0700);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verify_checks_every_kernel_and_every_adjoint),
        cmocka_unit_test(test_verify_holds_winograd_to_the_adjoint_identity),
        cmocka_unit_test(test_verify_fails_on_a_wrong_kernel),
        cmocka_unit_test(test_verify_of_a_wrong_kernel_is_json),
        cmocka_unit_test(test_bench_times_every_variant_that_applies),
        cmocka_unit_test(test_bench_table_has_one_head_and_marks_its_picks),
        cmocka_unit_test(test_bench_does_not_time_a_wrong_kernel),
        cmocka_unit_test(test_bench_step_sums_to_its_rows),
        cmocka_unit_test(test_bench_step_json_keeps_its_keys),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
