/* Memory that runs out while a spec is compiled: an error each time, never a crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "driver.h"

/* Compiles with the n-th allocation from the arenas failing (0: none). The errors' number is left
 * in *errors. */
static rg_status compile(const char *spec, long n, int *errors) {
    const rg_cli cli = {.command = "build",
                        .spec = spec,
                        .target = "cpu",
                        .device = "cpu",
                        .isa = "avx2",
                        .optimise = 1,
                        .quiet = true};
    rg_ctx ctx;
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    rg_job job = {.ctx = &ctx, .cli = &cli};
    rg_arena_fail_after(n);
    rg_status status = rg_job_compile(&job);
    rg_arena_fail_after(0);
    *errors = ctx.count;
    rg_job_close(&job);
    rg_ctx_free(&ctx);
    return status;
}

/* Every step-th allocation fails once, until a run gets by without reaching the n-th. */
static void check_spec(const char *spec, long step) {
    int errors, wrong = 0;
    assert_int_equal(compile(spec, 0, &errors), RG_OK);
    assert_int_equal(errors, 0);
    long n = 1 - step;
    for (rg_status status = RG_E_NOMEM; status != RG_OK;) {
        n += step;
        status = compile(spec, n, &errors);
        if (status == RG_OK ? errors == 0 : status == RG_E_NOMEM && errors == 1) continue;
        print_message("%s: allocation %ld fails: status %s, %d errors\n", spec, n,
                      rg_status_name(status), errors);
        wrong++;
    }
    assert_true(n > 1000); /* the failing allocator reaches what it is meant to */
    assert_int_equal(wrong, 0);
}

static void test_compiling_survives_memory_running_out(void **state) {
    (void)state;
    check_spec(RG_SOURCE_DIR "/specs/tiny/plain.lua", 2);
}

static void test_compiling_normalised_networks_survives_it_too(void **state) {
    (void)state;
    check_spec(RG_SOURCE_DIR "/specs/tiny/tiny_residual.lua", 17);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compiling_survives_memory_running_out),
        cmocka_unit_test(test_compiling_normalised_networks_survives_it_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
