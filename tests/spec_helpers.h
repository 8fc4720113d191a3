/* What the tests of specs share: a context, run from the root of the sources, and ways of loading.
 */
#ifndef SPEC_HELPERS_H
#define SPEC_HELPERS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "rg_spec.h"

static rg_ctx ctx;

static inline int setup(void **state) {
    (void)state;
    return chdir(RG_SOURCE_DIR) != 0 || rg_ctx_init(&ctx) != RG_OK ? -1 : 0;
}

static inline int teardown(void **state) {
    (void)state;
    rg_arena_fail_after(0);
    rg_ctx_free(&ctx);
    return 0;
}

/* ---- helpers ---- */

static inline void print_diagnostics(void) {
    for (const rg_diag *diag = ctx.first; diag; diag = diag->next)
        fprintf(stderr, "%s\n", rg_diag_format(ctx.arena, diag));
}

static inline rg_spec *load(const char *path) {
    rg_spec *spec = NULL;
    if (rg_spec_load(&ctx, path, &spec) != RG_OK || ctx.count > 0) {
        print_diagnostics();
        fail_msg("%s does not load", path);
    }
    assert_non_null(spec);
    if (rg_graph_verify(&ctx, spec->graph) != RG_OK) {
        print_diagnostics();
        fail_msg("%s: its graph is wrong", path);
    }
    return spec;
}

/* A spec of one's own in a file, at 8x8 with 3 channels and 4 classes. */
static inline rg_status load_text(const char *network, rg_spec **spec) {
    char path[512];
    snprintf(path, sizeof path, "%s/test_spec_%d.lua", RG_BINARY_DIR, (int)getpid());
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file,
            "data {dataset = 'synthetic', height = 8, width = 8, channels = 3, classes = 4}\n%s\n",
            network);
    assert_int_equal(fclose(file), 0);
    rg_status status = rg_spec_load(&ctx, path, spec);
    assert_int_equal(unlink(path), 0);
    return status;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
