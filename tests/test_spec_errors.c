/* Mistakes in specs: each is found, once, with its line; and nothing that a spec does gets out of
 * its limits. */
#include <dirent.h>

#include "spec_helpers.h"

/* The text of the only diagnostic. */
static const char *only_text(void) {
    if (ctx.count != 1) print_diagnostics();
    assert_int_equal(ctx.count, 1);
    return ctx.first->text;
}

/* ---- mistakes ---- */

/* The comments at the top of a bad spec are all of its diagnostics, in order. */
static void check_bad_spec(const char *path) {
    static const char mark[] = "-- expect: ";
    char line[512];
    rg_spec *spec = NULL;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    assert_int_not_equal(rg_spec_load(&ctx, path, &spec), RG_OK);
    const rg_diag *diag = ctx.first;
    int count = 0;
    while (fgets(line, sizeof line, file) && strncmp(line, mark, strlen(mark)) == 0) {
        line[strcspn(line, "\n")] = '\0';
        if (!diag) fail_msg("%s: missing: %s", path, line);
        assert_string_equal(rg_diag_format(ctx.arena, diag), line + strlen(mark));
        diag = diag->next;
        count++;
    }
    if (count == 0) fail_msg("%s expects nothing", path);
    if (diag) fail_msg("%s: not expected: %s", path, rg_diag_format(ctx.arena, diag));
    fclose(file);
    rg_ctx_free(&ctx);
}

static void test_every_bad_spec_gives_its_exact_diagnostic(void **state) {
    (void)state;
    DIR *folder = opendir("specs/bad");
    int count = 0;
    assert_non_null(folder);
    rg_ctx_free(&ctx);
    for (struct dirent *entry; (entry = readdir(folder));) {
        char path[512];
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "specs/bad/%s", entry->d_name);
        check_bad_spec(path);
        count++;
    }
    closedir(folder);
    assert_true(count >= 40);
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
}

/* One wrong layer at the start; everything behind it depends on it. */
static void test_one_mistake_gives_one_message(void **state) {
    (void)state;
    rg_spec *spec = NULL;
    const char *text = "function network(x)\n"
                       "local y = x:conv('a', {out = 8, kernel = 30})\n"
                       "y = relu(y + 1):bn('b'):conv('c', {out = y.channels * 2, kernel = 3})\n"
                       "if y.height > 3 then y = y:maxpool {kernel = 2} end\n"
                       "y = y:scope('d', function(z) return -z * 2 + x end)\n"
                       "return y:flatten():linear('fc', {out = 4}) end";
    assert_int_equal(load_text(text, &spec), RG_E_SHAPE);
    assert_null(spec);
    assert_non_null(strstr(only_text(), "conv2d 'a': the output is empty"));
}

static void test_a_flood_of_errors_is_cut_off(void **state) {
    (void)state;
    rg_spec *spec = NULL;
    assert_int_equal(load_text("function network(x) for i = 1, 100000 do relu(3) end end", &spec),
                     RG_E_SPEC);
    assert_int_equal(ctx.count, 101);
    assert_string_equal(ctx.last->text, "more than 100 errors: the rest is left out");
}

static void test_a_flood_of_layers_is_cut_off(void **state) {
    (void)state;
    rg_spec *spec = NULL;
    assert_int_equal(
        load_text("function network(x) for i = 1, 100000 do x = relu(x) end return x end", &spec),
        RG_E_LIMIT);
    assert_string_equal(only_text(), "a network of more than 20000 operations");
}

static void test_files_that_are_no_specs_are_refused(void **state) {
    (void)state;
    rg_spec *spec = NULL;
    assert_int_not_equal(rg_spec_load(&ctx, "specs/no_such_file.lua", &spec), RG_OK);
    assert_int_not_equal(rg_spec_load(&ctx, "specs", &spec), RG_OK);
    assert_null(spec);
    assert_int_equal(ctx.count, 2);
}

/* ---- robustness ---- */

/* The n-th allocation fails, for each n: an error, no crash, no leak. */
static void test_loading_survives_every_failed_allocation(void **state) {
    (void)state;
    rg_status status = RG_E_NOMEM;
    rg_ctx_free(&ctx);
    long n = 1;
    for (; status != RG_OK && n < 100000; n++) {
        rg_spec *spec = NULL;
        if (rg_ctx_init(&ctx) != RG_OK) fail_msg("no memory for the test itself");
        rg_arena_fail_after(n);
        status = rg_spec_load(&ctx, "specs/tiny/tiny_residual.lua", &spec);
        rg_arena_fail_after(0);
        if (status != RG_OK && status != RG_E_NOMEM) print_diagnostics();
        assert_true(status == RG_OK || status == RG_E_NOMEM);
        rg_ctx_free(&ctx);
    }
    assert_int_equal(status, RG_OK);
    assert_true(n > 100);
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_every_bad_spec_gives_its_exact_diagnostic),
        TEST(test_one_mistake_gives_one_message),
        TEST(test_a_flood_of_errors_is_cut_off),
        TEST(test_a_flood_of_layers_is_cut_off),
        TEST(test_files_that_are_no_specs_are_refused),
        TEST(test_loading_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
