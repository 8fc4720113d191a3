/* Adjoint identities of the cuda kernels of convolutions, by the emulator:
 * <conv(x), y> = <x, dgrad(y)> = <w, wgrad(x, y)>.
 *
 * The bound is rg_harness_adjoint's, the same for each format: x, y and w are numbers of it, the
 * product of two has at most 22 bits and is exact in f32, and sums are f32. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rg_cases.h"
#include "rg_emulate.h"
#include "rg_harness_adjoint.h"
#include "rg_harness_cuda.h"

enum { ARCH = 90, VECTOR = 16, LIVE = RG_BLOCK + 5, MOST = 8 };

/* Each has extents that are no multiple of a tile. */
static const rg_conv_shape shapes[] = {
    /*h  w   c   k  r  s  stride pad dilation */
    {7, 5, 16, 32, 3, 3, 1, 1, 1}, {8, 9, 32, 16, 3, 3, 2, 1, 1}, {7, 7, 16, 24, 1, 1, 2, 0, 1},
    {9, 9, 3, 16, 7, 7, 2, 0, 1},  {5, 5, 20, 10, 3, 3, 1, 1, 1},
};
enum { SHAPES = sizeof shapes / sizeof *shapes, KERNELS = SHAPES * RG_HROLES * MOST };

/* The kernels of one role: all that apply, or one. */
typedef struct role_kernels {
    int32_t count, first; /* in the bench's lists */
} role_kernels;

typedef struct bench {
    rg_ctx ctx;
    rg_kformat format;
    rg_tpl *tpl;
    const rg_cuda_api *api;
    rg_harness_cuda cuda;
    int32_t count;
    role_kernels role[SHAPES][RG_HROLES];
    rg_kdesc desc[KERNELS];
    rg_cuda_source source[KERNELS];
    rg_cuda_object object[KERNELS];
} bench;

static void fail_with(const rg_ctx *ctx, const char *what) {
    char *line = ctx->last ? rg_diag_format(ctx->arena, ctx->last) : NULL;
    fail_msg("%s: %s", what, line ? line : "no diagnostic");
}

static bench *bench_open(rg_kformat format) {
    const rg_target target = {.name = "cuda",
                              .isa = "cuda",
                              .vector = VECTOR,
                              .arch = ARCH,
                              .precision = format,
                              .max_blocks = 4};
    const rg_emulate_options options = {.arch = ARCH, .seed = 5};
    bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->format = format;
    b->api = rg_emulate_api(&options);
    assert_int_equal(rg_ctx_init(&b->ctx), RG_OK);
    if (rg_tpl_open(&b->ctx, &target, &b->tpl) != RG_OK) fail_with(&b->ctx, "templates");
    if (rg_harness_cuda_open(&b->ctx, b->api, 0, &b->cuda) != RG_OK) fail_with(&b->ctx, "device");
    return b;
}

static void bench_close(bench *b) {
    rg_harness_cuda_close(&b->cuda);
    rg_tpl_close(b->tpl);
    rg_ctx_free(&b->ctx);
    free(b);
}

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

static void add_kernel(bench *b, const rg_kdesc *bare, const rg_candidate *candidate) {
    rg_emitted text;
    assert_true(b->count < KERNELS);
    rg_kdesc *to = &b->desc[b->count];
    if (rg_harness_settle(&b->ctx, bare, candidate, to) != RG_OK) fail_with(&b->ctx, "variant");
    if (rg_emit_kernel(&b->ctx, b->tpl, to, &text) != RG_OK) fail_with(&b->ctx, "text");
    char *symbol = rg_arena_strdup(b->ctx.arena, text.symbol);
    assert_non_null(symbol);
    b->source[b->count++] = (rg_cuda_source){symbol, text.source};
}

/* RG_TEST_ALL: all variants, else one, which is another from shape to shape. */
static void add_role(bench *b, int32_t shape, rg_hrole role) {
    rg_case one;
    rg_kdesc bare;
    rg_candidate *list;
    role_kernels *to = &b->role[shape][role];
    make_case(b, &shapes[shape], role, &one);
    if (rg_harness_bare(&b->ctx, &one.desc, 0, role, &bare) != RG_OK ||
        rg_tpl_candidates(&b->ctx, b->tpl, &bare, one.dgrad, &list, &to->count) != RG_OK)
        fail_with(&b->ctx, one.label);
    to->first = b->count;
    int32_t from = 0;
    if (!getenv("RG_TEST_ALL")) {
        from = shape % to->count;
        to->count = 1;
    }
    for (int32_t i = 0; i < to->count; i++) add_kernel(b, &bare, &list[from + i]);
}

static void build_all(bench *b) {
    const rg_cuda_build_options options = {.arch = ARCH,
                                           .cache_dir = RG_BINARY_DIR "/cu-adjoint-cache"};
    rg_cuda_stats stats;
    if (rg_cuda_build(&b->ctx, b->api, b->source, b->count, &options, b->object, &stats) != RG_OK)
        fail_with(&b->ctx, "build");
}

/* ---- identities ---- */

/* The n-th kernels of the three roles. */
static bool check_triple(bench *b, int32_t shape, int32_t n) {
    rg_hbare bare[RG_HROLES];
    rg_harness_cuda_kernel kernel[RG_HROLES];
    const char *name[RG_HROLES];
    rg_hadjoint got;
    for (int role = 0; role < RG_HROLES; role++) {
        int32_t i = b->role[shape][role].first + n % b->role[shape][role].count;
        kernel[role] = (rg_harness_cuda_kernel){&b->cuda, &b->object[i]};
        bare[role] = (rg_hbare){&b->desc[i], rg_harness_run_cuda(&kernel[role])};
        name[role] = b->source[i].symbol;
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
    bench *b = bench_open(format);
    int32_t triples = 0, wrong = 0;
    for (int32_t i = 0; i < SHAPES; i++)
        for (rg_hrole role = 0; !is_left_out(format, i) && role < RG_HROLES; role++)
            add_role(b, i, role);
    build_all(b);
    for (int32_t i = 0; i < SHAPES; i++) {
        const role_kernels *role = b->role[i];
        for (int32_t n = 0; n < role[0].count || n < role[1].count || n < role[2].count; n++) {
            wrong += !check_triple(b, i, n);
            triples++;
        }
    }
    print_message("adjoints, emulated, %s: %d kernels in %d triples, %d wrong\n",
                  rg_kformat_name(format), b->count, triples, wrong);
    assert_true(triples >= 3);
    assert_int_equal(wrong, 0);
    bench_close(b);
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
