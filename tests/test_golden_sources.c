/* The emitted text of the golden example: a change of the generator shows as a change of
 * generated/golden-tiny-cpu, which `scripts/golden` makes anew. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "parity.h"

#define FOLDER "generated/golden-tiny-cpu"

static parity net;

static int setup(void **state) {
    (void)state;
    if (chdir(RG_SOURCE_DIR) != 0) return -1;
    const parity_options options = {.isa = "avx2"};
    return parity_try_open(&net, "specs/tiny/tiny_residual.lua", &options) == RG_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    parity_close(&net);
    return 0;
}

static const char *read_golden(const char *name) {
    char path[512], *data;
    size_t length;
    snprintf(path, sizeof path, "%s/%s", FOLDER, name);
    if (rg_file_read(&net.ctx, net.ctx.arena, path, 1 << 22, &data, &length) != RG_OK)
        fail_msg("%s is missing: run scripts/golden and look at what it shows", path);
    return data;
}

/* The first line that differs. */
static void expect_same(const char *name, const char *want, const char *got) {
    int line = 1;
    for (; *want && *want == *got; want++, got++) line += *want == '\n';
    if (*want == *got) return;
    fail_msg("%s/%s:%d: '%.*s' is now '%.*s'; run scripts/golden and look at what it shows", FOLDER,
             name, line, (int)strcspn(want, "\n"), want, (int)strcspn(got, "\n"), got);
}

static void test_emitted_sources_are_those_of_the_golden_folder(void **state) {
    (void)state;
    const char *manifest = read_golden("MANIFEST");
    for (int32_t i = 0; i < net.job.planned.launch_count; i++) {
        rg_emitted made;
        char name[256];
        assert_int_equal(
            rg_emit_kernel(&net.ctx, net.job.tpl, &net.job.planned.launch[i].desc, &made), RG_OK);
        snprintf(name, sizeof name, "%s.c", made.symbol);
        expect_same(name, read_golden(name), made.source);
        assert_non_null(strstr(manifest, name));
    }
}

static bool is_emitted(const char *file) {
    size_t length = strlen(file) - 2;
    for (int32_t i = 0; i < net.job.planned.launch_count; i++) {
        const char *symbol = net.job.planned.launch[i].name.symbol;
        if (strlen(symbol) == length && strncmp(symbol, file, length) == 0) return true;
    }
    return false;
}

static void test_golden_folder_holds_nothing_else(void **state) {
    (void)state;
    DIR *folder = opendir(FOLDER);
    int count = 0;
    if (!folder) fail_msg("%s is missing: run scripts/golden", FOLDER);
    for (struct dirent *entry; (entry = readdir(folder));) {
        size_t length = strlen(entry->d_name);
        if (length < 3 || strcmp(entry->d_name + length - 2, ".c") != 0) continue;
        if (!is_emitted(entry->d_name))
            fail_msg("%s/%s is no longer emitted: run scripts/golden", FOLDER, entry->d_name);
        count++;
    }
    closedir(folder);
    assert_true(count >= 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_emitted_sources_are_those_of_the_golden_folder),
        cmocka_unit_test(test_golden_folder_holds_nothing_else),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
