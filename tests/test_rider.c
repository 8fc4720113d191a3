/* The description of a kernel with two sums: what its check takes and refuses, what it counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "rg_cases.h"

/* Both sums' products are counted, their operand's bytes once; the text says which sum it is. */
static void test_a_rider_is_described_whole(void **state) {
    (void)state;
    rg_ctx ctx;
    int32_t count;
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    rg_case *cases = rg_rider_cases(ctx.arena, 16, &count);
    rg_kdesc *desc = &cases[0].desc, apart[2] = {*desc, *desc};
    rg_text text = {0};
    assert_int_equal(rg_kdesc_check(&ctx, desc), RG_OK);
    assert_int_equal(rg_kdesc_sums(desc), 2);
    apart[0].contr_count = apart[1].contr_count = 1;
    apart[1].contr++;
    assert_true(rg_kdesc_flop(desc, true) ==
                rg_kdesc_flop(&apart[0], true) + rg_kdesc_flop(&apart[1], true));
    assert_int_equal(rg_kdesc_sums(&apart[0]), 1);
    rg_kdesc_print(&text, desc, false);
    assert_non_null(strstr(text.data, "[1] = {site = 0, w_arg = 3, r = 1, s = 1, acc = 1, gh"));
    rg_text_free(&text);
    desc->contr[1].acc = 2;
    assert_int_equal(rg_kdesc_check(&ctx, desc), RG_E_INTERNAL);
    desc->contr[1].acc = 0; /* then nothing makes the sum that the epilogue reads */
    assert_int_equal(rg_kdesc_check(&ctx, desc), RG_E_INTERNAL);
    desc->contr[1].acc = 1;
    const rg_kcontr back[] = {desc->contr[0], desc->contr[1], desc->contr[0]};
    rg_kdesc three = *desc;
    three.contr = rg_arena_copy(ctx.arena, back, sizeof back);
    three.contr_count = 3;
    assert_non_null(three.contr);
    assert_int_equal(rg_kdesc_check(&ctx, &three), RG_E_INTERNAL); /* the first sum again */
    three.contr[2] = desc->contr[1];
    assert_int_equal(rg_kdesc_check(&ctx, &three), RG_OK);
    desc->contr[1].site = 1; /* the epilogue */
    assert_int_equal(rg_kdesc_check(&ctx, desc), RG_E_INTERNAL);
    rg_ctx_free(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_rider_is_described_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
