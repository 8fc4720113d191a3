/* The harness must see what a wrong kernel does: kernels written by hand, each with one fault. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "rg_case_build.h"
#include "rg_harness.h"
#include "rg_harness_data.h"

enum { PIXELS = 6, C = 3, IMAGE = PIXELS * RG_BLOCK * C, TILES = 2 };

/* y = 2 x + 1 over 3 x 2 pixels of 3 channels, and the sum of y; a tile is half of an image block.
 */
static rg_kdesc description(rg_arena *arena) {
    rg_kdesc desc;
    build b = build_new(arena, 16, &desc, RG_K_MAP, "by_hand");
    int32_t x = build_act(&b, 3, 2, C, READ), y = build_act(&b, 3, 2, C, WRITE);
    int32_t sum = build_part(&b, C, 1, WRITE);
    build_site(&b, 3, 2, C);
    int32_t value = ex3(&b, RG_EXPR_FMA, ex_arg(&b, x), ex_const(&b, 2), ex_const(&b, 1));
    build_out(&b, RG_KOUT_STORE, value, y, 0);
    build_out(&b, RG_KOUT_SUM, value, sum, RG_AXES_NHW);
    assert_false(b.failed);
    desc.arg[sum].parts_per_block = TILES;
    desc.variant =
        (rg_kvariant){.name = "by_hand", .file = "", .isa = "", .tiles_per_block = TILES};
    desc.variant.parts_per_block = TILES;
    desc.variant.scratch_floats = 8;
    return desc;
}

static int fault; /* which fault the kernel has; 0: none */

enum { NONE, OUTSIDE, SCRATCH, INPUT, MISSING, DEAD_IMAGES, ORDER, ROUGH };

/* Its faults are for the harness to find, not for the address sanitizer. */
__attribute__((no_sanitize("address"))) static void half(float *const *a, const rg_ctrl *ctrl,
                                                         int32_t tile, float *scratch) {
    const int32_t nb = tile / TILES, first = tile % TILES * PIXELS / 2;
    float sum[C] = {0};
    for (int32_t p = first; p < first + PIXELS / 2; p++)
        for (int32_t n = 0; n < RG_BLOCK; n++)
            for (int32_t c = 0; c < C; c++) {
                int32_t at = nb * IMAGE + (p * RG_BLOCK + n) * C + c;
                float y = 2 * a[0][at] + (fault == ROUGH ? 1.00001f : 1);
                if (fault != MISSING || p != 4 || n != 3) a[1][at] = y;
                if (nb * RG_BLOCK + n < ctrl->live || fault == DEAD_IMAGES) sum[c] += y;
            }
    /* a tile that reads what another has made */
    if (fault == ORDER && tile > 0) sum[0] += a[2][(tile - 1) * C] * 0;
    memcpy(&a[2][tile * C], sum, sizeof sum);
    if (fault == OUTSIDE && tile == 0) a[1][-1] = 0;
    if (fault == SCRATCH) scratch[8] = 0;
    if (fault == INPUT && tile == 1) a[0][0] += 1;
}

static void check(int which, bool passes, const char *word) {
    rg_ctx ctx;
    rg_harness_result result;
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    rg_kdesc desc = description(ctx.arena);
    fault = which;
    assert_int_equal(rg_harness_check(&ctx, &desc, half, 21, 9, &result), RG_OK);
    assert_int_equal(result.compared, 21 * PIXELS * C + C);
    if (result.passed != passes)
        fail_msg("fault %d: %s", which, result.trouble ? result.trouble : "not seen");
    if (word) assert_non_null(strstr(result.trouble, word));
    rg_ctx_free(&ctx);
}

static void test_a_right_kernel_passes(void **state) {
    (void)state;
    check(NONE, true, NULL);
}

static void test_a_write_outside_a_buffer_is_seen(void **state) {
    (void)state;
    check(OUTSIDE, false, "outside argument 1");
    check(SCRATCH, false, "scratch");
}

static void test_a_changed_input_is_seen(void **state) {
    (void)state;
    check(INPUT, false, "argument 0");
}

static void test_an_element_left_out_is_seen(void **state) {
    (void)state;
    check(MISSING, false, "nan instead of");
}

static void test_images_beyond_the_batch_are_seen_in_sums(void **state) {
    (void)state;
    check(DEAD_IMAGES, false, "nan instead of");
}

/* Results start as NaN, and some tile runs before the one with the number below its own. */
static void test_a_tile_that_waits_for_another_is_seen(void **state) {
    (void)state;
    check(ORDER, false, "nan instead of");
}

static void test_an_error_of_many_roundings_is_seen(void **state) {
    (void)state;
    check(ROUGH, false, "bound");
}

/* ---- means ---- */

/* y = relu(scale * (x - mean) + beta) on one pixel. */
static rg_kdesc normalisation(rg_arena *arena) {
    rg_kdesc desc;
    build b = build_new(arena, 16, &desc, RG_K_MAP, "normalisation");
    int32_t x = build_act(&b, 1, 1, 16, READ), mean = build_vec(&b, 16, READ);
    int32_t scale = build_vec(&b, 16, READ), beta = build_vec(&b, 16, READ);
    int32_t y = build_act(&b, 1, 1, 16, WRITE);
    build_site(&b, 1, 1, 16);
    int32_t centred = ex2(&b, RG_EXPR_SUB, ex_arg(&b, x), ex_arg(&b, mean));
    int32_t value = ex3(&b, RG_EXPR_FMA, centred, ex_arg(&b, scale), ex_arg(&b, beta));
    build_out(&b, RG_KOUT_STORE, ex_relu(&b, value), y, 0);
    assert_false(b.failed);
    desc.variant = (rg_kvariant){.name = "by_hand", .file = "", .isa = "", .tiles_per_block = 1};
    return desc;
}

static bool shifts; /* the kernel computes scale * x + (beta - mean * scale) */

static void normalise(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)ctrl;
    (void)scratch;
    for (int32_t n = tile * RG_BLOCK; n < (tile + 1) * RG_BLOCK; n++)
        for (int32_t c = 0; c < 16; c++) {
            float x = a[0][n * 16 + c], mean = a[1][c], scale = a[2][c], beta = a[3][c];
            float y = shifts ? scale * x + (beta - mean * scale) : (x - mean) * scale + beta;
            a[4][n * 16 + c] = y > 0 ? y : 0;
        }
}

/* At mean 1000 and deviation 0.1 a shift costs three digits: an odd seed draws such channels. */
static void test_a_mean_that_is_not_subtracted_first_is_seen(void **state) {
    (void)state;
    rg_ctx ctx;
    rg_harness_result result;
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    rg_kdesc desc = normalisation(ctx.arena);
    for (int i = 0; i < 2; i++) {
        shifts = i == 1;
        assert_int_equal(rg_harness_check(&ctx, &desc, normalise, 21, 9, &result), RG_OK);
        assert_true(result.passed == !shifts);
    }
    assert_true(result.worst > 30);
    rg_ctx_free(&ctx);
}

/* ---- types of storage ---- */

static double through(rg_ctx *ctx, rg_ktype type, double value) {
    rg_karg arg = {.layout = RG_LAYOUT_FLAT, .read = true, .type = type, .length = 3};
    rg_kdesc desc = {.arg_count = 1, .arg = &arg};
    rg_hdata data;
    assert_int_equal(rg_hdata_new(ctx, &desc, 1, &data), RG_OK);
    assert_true(type == RG_KTYPE_U32 || isnan(rg_hdata_get(&data, 0, 1)));
    rg_hdata_put(&data, 0, 1, value);
    double back = rg_hdata_get(&data, 0, 1);
    assert_true(rg_hdata_zones_whole(&data, 0));
    rg_hdata_free(&data);
    return back;
}

/* Normal, subnormal, the largest, too large, none, and a tie, in both signs. */
static void test_elements_come_back_as_their_type_rounds_them(void **state) {
    (void)state;
    static const double values[] = {0,        1,       0.1,      3.140625,  1000.3, 0x1.004p0,
                                    0x1.02p0, 0x1p-14, 0x1p-15,  0x1.8p-24, 65504,  65519,
                                    65520,    1e30,    INFINITY, 0x1.0fp-20};
    rg_ctx ctx;
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    for (size_t i = 0; i < 2 * (sizeof values / sizeof *values); i++) {
        double v = i % 2 ? -values[i / 2] : values[i / 2];
        assert_true(through(&ctx, RG_KTYPE_BF16, v) == rg_ktype_round(RG_KTYPE_BF16, v));
        assert_true(through(&ctx, RG_KTYPE_F16, v) == rg_ktype_round(RG_KTYPE_F16, v));
        assert_true(through(&ctx, RG_KTYPE_F32, v) == (double)(float)v);
    }
    assert_true(through(&ctx, RG_KTYPE_BF16, 1.01) == 1.0078125); /* by hand: 129 / 128 */
    assert_true(through(&ctx, RG_KTYPE_F16, 1.001) == 1.0009765625);
    assert_true(isnan(through(&ctx, RG_KTYPE_F16, NAN)) &&
                isnan(through(&ctx, RG_KTYPE_BF16, NAN)));
    assert_true(through(&ctx, RG_KTYPE_U32, 4e9) == 4e9);
    rg_ctx_free(&ctx);
}

/* y = round_bf16(x) over a run, kept in 16 bits; a counter. */
static rg_kdesc narrowing(rg_arena *arena) {
    rg_kdesc desc;
    build b = build_new(arena, 16, &desc, RG_K_VEC, "narrowing");
    int32_t x = build_flat(&b, 40, READ), y = build_flat(&b, 40, WRITE),
            counter = build_flat(&b, 2, READ | WRITE);
    build_site(&b, 1, 1, 40);
    build_out(&b, RG_KOUT_STORE, ex1(&b, RG_EXPR_ROUND_BF16, ex_arg(&b, x)), y, 0);
    assert_false(b.failed);
    desc.arg[y].type = RG_KTYPE_BF16;
    desc.arg[counter].type = RG_KTYPE_U32;
    desc.variant = (rg_kvariant){.name = "by_hand", .file = "", .isa = "", .tiles_fixed = 1};
    return desc;
}

enum { ROUNDED, TRUNCATED, COUNTED, BEYOND };

/* Likewise. */
__attribute__((no_sanitize("address"))) static void put_beyond(float *to, uint16_t value) {
    ((volatile uint16_t *)to)[40] = value;
}

static void narrow(float *const *a, const rg_ctrl *ctrl, int32_t tile, float *scratch) {
    (void)ctrl, (void)tile, (void)scratch;
    uint16_t half[41];
    for (int i = 0; i < 40; i++) {
        uint32_t bits;
        memcpy(&bits, &a[0][i], sizeof bits);
        half[i] = (uint16_t)((bits + (fault == TRUNCATED ? 0 : 0x7fff + (bits >> 16 & 1))) >> 16);
    }
    half[40] = 0;
    memcpy(a[1], half, 80);
    if (fault == BEYOND) put_beyond(a[1], half[40]);
    uint32_t count[2] = {0, fault == COUNTED};
    memcpy(a[2], count, sizeof count);
}

static void test_faults_in_other_types_are_seen(void **state) {
    (void)state;
    static const char *const word[] = {NULL, "instead of", "counters", "outside argument 1"};
    for (fault = ROUNDED; fault <= BEYOND; fault++) {
        rg_ctx ctx;
        rg_harness_result result;
        assert_int_equal(rg_ctx_init(&ctx), RG_OK);
        rg_kdesc desc = narrowing(ctx.arena);
        assert_int_equal(rg_harness_check(&ctx, &desc, narrow, 16, 9, &result), RG_OK);
        assert_true(result.passed == (fault == ROUNDED) && result.compared == 40);
        if (word[fault]) assert_non_null(strstr(result.trouble, word[fault]));
        rg_ctx_free(&ctx);
    }
}

static void test_times_are_those_of_whole_runs(void **state) {
    (void)state;
    rg_ctx ctx;
    rg_harness_times times = {0, 0};
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    rg_kdesc desc = description(ctx.arena);
    fault = NONE;
    assert_int_equal(rg_harness_time(&ctx, &desc, half, 64, 2, 5, &times), RG_OK);
    assert_true(times.min_us > 0 && times.min_us <= times.median_us);
    assert_int_equal(rg_harness_time(&ctx, &desc, half, 64, 0, 5, &times), RG_E_USAGE);
    rg_ctx_free(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_right_kernel_passes),
        cmocka_unit_test(test_a_write_outside_a_buffer_is_seen),
        cmocka_unit_test(test_a_changed_input_is_seen),
        cmocka_unit_test(test_an_element_left_out_is_seen),
        cmocka_unit_test(test_images_beyond_the_batch_are_seen_in_sums),
        cmocka_unit_test(test_a_tile_that_waits_for_another_is_seen),
        cmocka_unit_test(test_an_error_of_many_roundings_is_seen),
        cmocka_unit_test(test_a_mean_that_is_not_subtracted_first_is_seen),
        cmocka_unit_test(test_elements_come_back_as_their_type_rounds_them),
        cmocka_unit_test(test_faults_in_other_types_are_seen),
        cmocka_unit_test(test_times_are_those_of_whole_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
