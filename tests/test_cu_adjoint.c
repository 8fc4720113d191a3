/* Adjoint identities of the cuda kernels of convolutions, by the emulator:
 * <conv(x), y> = <x, dgrad(y)> = <w, wgrad(x, y)>.
 *
 * The bound is rg_harness_adjoint's, the same for each format: x, y and w are numbers of it, the
 * product of two has at most 22 bits and is exact in f32, and sums are f32. */
#include <stdlib.h>

#include "cu_bench.h"
#include "rg_harness_adjoint.h"

enum { LIVE = RG_BLOCK + 5 };

/* Each has extents that are no multiple of a tile. */
static const rg_conv_shape shapes[] = {
    /*h  w   c   k  r  s  stride pad dilation */
    {7, 5, 16, 32, 3, 3, 1, 1, 1}, {8, 9, 32, 16, 3, 3, 2, 1, 1}, {7, 7, 16, 24, 1, 1, 2, 0, 1},
    {9, 9, 3, 16, 7, 7, 2, 0, 1},  {5, 5, 20, 10, 3, 3, 1, 1, 1},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* The kernels of one role: all that apply, or one. */
typedef struct role_kernels {
    int32_t count, first; /* in the bench's list */
} role_kernels;

/* ---- kernels ---- */

static void make_case(bench *b, const rg_conv_shape *shape, rg_hrole role, rg_case *to) {
    static bool (*const make[])(rg_arena *, int32_t, const rg_conv_shape *,
                                rg_case *) = {rg_case_fprop, rg_case_dgrad, rg_case_wgrad};
    const rg_case_format way = {.format = b->format, .turned = true};
    rg_case plain;
    assert_true(make[role](b->ctx.arena, VECTOR, shape, &plain));
    if (b->format == RG_KFORMAT_F32)
        *to = plain;
    else
        assert_true(rg_case_in_format(b->ctx.arena, &plain, &way, to));
}

/* RG_TEST_ALL: all variants, else one, which is another from shape to shape. */
static void add_role(bench *b, int32_t shape, rg_hrole role, role_kernels *to) {
    rg_case one;
    rg_kdesc bare;
    rg_candidate *list;
    make_case(b, &shapes[shape], role, &one);
    if (rg_harness_bare(&b->ctx, &one.desc, 0, role, &bare) != RG_OK ||
        rg_tpl_candidates(&b->ctx, b->tpl, &bare, one.dgrad, &list, &to->count) != RG_OK)
        fail_with(&b->ctx, one.label);
    to->first = b->count;
    int32_t from = 0;
    if (!getenv("RG_TEST_ALL")) {
        from = to->count > 0 ? shape % to->count : 0;
        to->count = 1;
    }
    for (int32_t i = 0; i < to->count; i++) {
        rg_kdesc desc;
        if (rg_harness_settle(&b->ctx, &bare, &list[from + i], &desc) != RG_OK)
            fail_with(&b->ctx, one.label);
        bench_add(b, one.label, &desc, LIVE);
    }
}

/* ---- identities ---- */

/* The n-th kernels of the three roles. */
static bool check_triple(bench *b, const role_kernels *of, int32_t n) {
    rg_hbare bare[RG_HROLES];
    rg_harness_cuda_kernel kernel[RG_HROLES];
    const char *name[RG_HROLES];
    rg_hadjoint got;
    for (int role = 0; role < RG_HROLES; role++) {
        int32_t i = of[role].first + n % of[role].count;
        kernel[role] = (rg_harness_cuda_kernel){&b->cuda, &b->object[i]};
        bare[role] = (rg_hbare){&b->subject[i].desc, rg_harness_run_cuda(&kernel[role])};
        name[role] = b->subject[i].text.symbol;
    }
    if (rg_harness_adjoint(&b->ctx, bare, LIVE, 3, &got) != RG_OK) fail_with(&b->ctx, name[0]);
    if (!got.passed || getenv("RG_TEST_VERBOSE"))
        print_message("%s %s %s %s: <conv(x),y> %.9g, <x,dgrad(y)> %.9g, <w,wgrad(x,y)> %.9g, "
                      "%.2g of the bound\n",
                      got.passed ? "     " : "WRONG", name[0], name[1], name[2], got.product[0],
                      got.product[1], got.product[2], got.worst);
    return got.passed;
}

/* Kernels of matrix units take long to compile: tf32 and f16 leave out a shape or two. */
static bool is_left_out(rg_kformat format, int32_t shape) {
    if (getenv("RG_TEST_ALL")) return false;
    return (format == RG_KFORMAT_TF32 && shape % 3 == 2) ||
           (format == RG_KFORMAT_F16 && (shape == 0 || shape == 4));
}

static void check_format(rg_kformat format) {
    bench b;
    role_kernels kernels[SHAPES][RG_HROLES] = {0};
    int32_t triples = 0, wrong = 0;
    bench_open(&b, ARCH, 4, format);
    for (int32_t i = 0; i < SHAPES; i++)
        for (rg_hrole role = 0; !is_left_out(format, i) && role < RG_HROLES; role++)
            add_role(&b, i, role, &kernels[i][role]);
    bench_build(&b, RG_BINARY_DIR "/cu-adjoint-cache");
    for (int32_t i = 0; i < SHAPES; i++) {
        const role_kernels *role = kernels[i];
        for (int32_t n = 0; n < role[0].count || n < role[1].count || n < role[2].count; n++) {
            wrong += !check_triple(&b, role, n);
            triples++;
        }
    }
    print_message("adjoints, emulated, %s: %d kernels in %d triples, %d wrong\n",
                  rg_kformat_name(format), b.count, triples, wrong);
    assert_true(triples >= 3);
    assert_int_equal(wrong, 0);
    bench_close(&b);
}

static void test_gradients_are_adjoint_in_f32(void **state) {
    (void)state;
    check_format(RG_KFORMAT_F32);
}

static void test_gradients_are_adjoint_in_tf32(void **state) {
    (void)state;
    check_format(RG_KFORMAT_TF32);
}

static void test_gradients_are_adjoint_in_bf16(void **state) {
    (void)state;
    check_format(RG_KFORMAT_BF16);
}

static void test_gradients_are_adjoint_in_f16(void **state) {
    (void)state;
    check_format(RG_KFORMAT_F16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients_are_adjoint_in_f32),
        cmocka_unit_test(test_gradients_are_adjoint_in_tf32),
        cmocka_unit_test(test_gradients_are_adjoint_in_bf16),
        cmocka_unit_test(test_gradients_are_adjoint_in_f16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
