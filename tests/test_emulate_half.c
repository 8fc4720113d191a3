/* The prelude's conversions: every 16-bit pattern, and the floats that are hard to round, against
 * a search among all values of the format and against the meaning of the round operators. */
#include "emulate_prelude.h"

#include <math.h>

#include "rg_expr.h"

/* a0: one word of results each; way: which conversion. Eight values a thread. */
static const char text[] =
    "#ifndef TURING\n"
    "#define BF16(...) __VA_ARGS__\n"
    "#else\n"
    "#define BF16(...)\n"
    "#endif\n"
    "template <typename T> RG_DEVICE void store(unsigned *to, T v) {\n"
    "    union { T value; unsigned bits; } u = {};\n    u.value = v;\n    *to = u.bits;\n}\n"
    "RG_KERNEL void RG_BOUNDS(64, 1) k(unsigned *a0, const float *a1, const rg_u16 *a2, int way) "
    "{\n"
    "    const int t = rg_block() * 64 + rg_tid();\n"
    "    RG_SHARED(rg_u16, tile, 64 * 8);\n    rg_u16 *mine = tile + 8 * rg_tid();\n"
    "    float v[8];\n    for (int i = 0; i < 8; i++) v[i] = a1[8 * t + i];\n"
    "    unsigned *to = a0 + 8 * t;\n"
    "    if (way == 0) for (int i = 0; i < 8; i++) store(to + i, rg_round_tf32(v[i]));\n"
    "    BF16(if (way == 1) for (int i = 0; i < 8; i++) store(to + i, rg_narrow_bf16(v[i]));)\n"
    "    if (way == 2) for (int i = 0; i < 8; i++) store(to + i, rg_narrow_f16(v[i]));\n"
    "    BF16(if (way == 3) for (int i = 0; i < 8; i++) store(to + i, rg_round_bf16(v[i]));)\n"
    "    if (way == 4) for (int i = 0; i < 8; i++) store(to + i, rg_round_f16(v[i]));\n"
    "    if (way == 5) for (int i = 0; i < 8; i++) store(to + i, rg_widen_bf16(a2[8 * t + i]));\n"
    "    if (way == 6) for (int i = 0; i < 8; i++) store(to + i, rg_widen_f16(a2[8 * t + i]));\n"
    "    if (way == 7) rg_load4_bf16(v, a2 + 8 * t), rg_load4_bf16(v + 4, a2 + 8 * t + 4);\n"
    "    if (way == 8) rg_load4_f16(v, a2 + 8 * t), rg_load4_f16(v + 4, a2 + 8 * t + 4);\n"
    "    if (way == 9) rg_load8_bf16(v, a2 + 8 * t);\n"
    "    if (way == 10) rg_load8_f16(v, a2 + 8 * t);\n"
    "    if (way >= 7 && way <= 10) for (int i = 0; i < 8; i++) store(to + i, v[i]);\n"
    "    BF16(if (way == 11) rg_put4_bf16(mine, v), rg_put4_bf16(mine + 4, v + 4);)\n"
    "    if (way == 12) rg_put4_f16(mine, v), rg_put4_f16(mine + 4, v + 4);\n"
    "    BF16(if (way == 13) rg_put8_bf16(mine, v);)\n"
    "    if (way == 14) rg_put8_f16(mine, v);\n"
    "    if (way >= 11) for (int i = 0; i < 8; i++) to[i] = mine[i];\n"
    "}\n";

enum { COUNT = 1 << 16 }; /* of values */
enum { BF16, F16 };

static uint32_t word[COUNT], result[COUNT];
static uint16_t pattern[COUNT];

static void run(rg_cu_module module, int way) {
    rg_cu_ptr a0 = alloc(sizeof result, NULL), a1 = alloc(sizeof word, word),
              a2 = alloc(sizeof pattern, pattern);
    void *params[] = {&a0, &a1, &a2, &way};
    if (launch(module, COUNT / 512, 64, 0, params) != RG_CU_SUCCESS) fail_msg("%s", message);
    OK(driver->copy_out(result, a0, sizeof result));
    OK(driver->memory_free(a0));
    OK(driver->memory_free(a1));
    OK(driver->memory_free(a2));
}

static rg_cu_module build(void) {
    for (int i = 0; i < COUNT; i++) pattern[i] = (uint16_t)i;
    return build_for(90, text);
}

static void expect(const char *what, int i, uint32_t wanted) {
    if (result[i] != wanted)
        fail_msg("%s of %08x (or pattern %04x): %08x, not %08x", what, word[i], (unsigned)i,
                 result[i], wanted);
}

/* ---- all patterns ---- */

/* The value of a pattern; NaN: NaN. */
static double value_of_half(int format, int half) {
    int fraction = format == BF16 ? 7 : 10, bias = format == BF16 ? 127 : 15;
    int field = half >> fraction & (2 * bias + 1), low = half & ((1 << fraction) - 1);
    double size = field == 2 * bias + 1 ? (low ? NAN : INFINITY)
                  : field               ? ldexp(1 + ldexp(low, -fraction), field - bias)
                                        : ldexp(low, 1 - bias - fraction);
    return half >> 15 ? -size : size;
}

/* bfloat16 keeps a NaN's bits, being the upper half of a float; binary16's NaN becomes one. */
static uint32_t widened(int format, int half) {
    double value = value_of_half(format, half);
    if (!isnan(value)) return bits_of((float)value);
    return format == BF16 ? (uint32_t)half << 16 : 0x7fffffff;
}

static void test_every_16_bit_pattern_widens_to_its_value(void **state) {
    static const int ways[2][3] = {{5, 7, 9}, {6, 8, 10}};
    (void)state;
    rg_cu_module module = build();
    for (int i = 0; i < 6; i++) {
        run(module, ways[i / 3][i % 3]);
        for (int j = 0; j < COUNT; j++) expect("widened", j, widened(i / 3, j));
    }
    OK(driver->module_unload(module));
}

static void test_every_16_bit_value_narrows_to_itself(void **state) {
    (void)state;
    rg_cu_module module = build();
    for (int format = BF16; format <= F16; format++) {
        for (int i = 0; i < COUNT; i++) word[i] = widened(format, i);
        run(module, format == BF16 ? 1 : 2);
        for (int i = 0; i < COUNT; i++)
            expect("narrowed", i, isnan(value_of_half(format, i)) ? 0x7fff : (uint32_t)i);
    }
    OK(driver->module_unload(module));
}

/* ---- rounding ---- */

/* The nearest value of the format, ties to the even pattern, found by halving: patterns without
 * sign rise with their values, and what lies beyond the largest has the next one's size. */
static int nearest(int format, double size) {
    int low = 0, high = format == BF16 ? 0x7f80 : 0x7c00, infinite = high;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (value_of_half(format, middle) <= size)
            low = middle;
        else
            high = middle;
    }
    double below = value_of_half(format, low);
    double above =
        high == infinite ? 2 * below - value_of_half(format, low - 1) : value_of_half(format, high);
    double middle = below / 2 + above / 2;
    if (size == middle) return low % 2 ? high : low;
    return size < middle ? low : high;
}

static uint32_t narrowed(int format, uint32_t bits) {
    float v = value_of(bits);
    if (isnan(v)) return 0x7fff;
    return (bits >> 16 & 0x8000) | (uint32_t)nearest(format, fabs((double)v));
}

/* Ties and their neighbours at every exponent and each of the formats' last places. */
static void fill_hard_floats(void) {
    static const uint32_t low[] = {
        0,        1,        0xfff,    0x1000,   0x1001,   0x1fff,   0x2000,   0x2fff,   0x3000,
        0x3001,   0x7fff,   0x8000,   0x8001,   0x17fff,  0x18000,  0x18001,  0x7fe000, 0x7fefff,
        0x7ff000, 0x7f7fff, 0x7f8000, 0x7fffff, 0x400000, 0x3fffff, 0x400001, 0x600000};
    enum { LOWS = sizeof low / sizeof *low };
    int count = 0;
    for (uint32_t field = 0; field < 512; field++) /* with the sign */
        for (int i = 0; i < LOWS; i++) word[count++] = field << 23 | low[i];
    /* binary16's subnormals lose one more bit at each exponent below 2^-14 */
    for (uint32_t field = 100; field < 116; field++)
        for (int bit = 0; bit < 23; bit++)
            for (uint32_t i = 0; i < 12; i++) {
                uint32_t some = (draw() & 0x7fffff) >> bit << bit;
                word[count++] = (field << 23 | some) + (i % 3) - 1;
            }
    while (count < COUNT) word[count++] = draw() ^ draw() << 11;
}

static void test_floats_narrow_to_the_nearest(void **state) {
    static const int ways[2][3] = {{1, 11, 13}, {2, 12, 14}};
    (void)state;
    rg_cu_module module = build();
    fill_hard_floats();
    for (int i = 0; i < 6; i++) {
        run(module, ways[i / 3][i % 3]);
        for (int j = 0; j < COUNT; j++) expect("narrowed", j, narrowed(i / 3, word[j]));
    }
    OK(driver->module_unload(module));
}

/* By the operators' own meaning in double; a NaN of tf32 stays as it is. */
static void test_rounding_is_that_of_the_operators(void **state) {
    static const struct {
        int way;
        rg_expr_op op;
    } rounds[] = {{0, RG_EXPR_ROUND_TF32}, {3, RG_EXPR_ROUND_BF16}, {4, RG_EXPR_ROUND_F16}};
    (void)state;
    rg_cu_module module = build();
    fill_hard_floats();
    for (int i = 0; i < 3; i++) {
        run(module, rounds[i].way);
        for (int j = 0; j < COUNT; j++) {
            double v = value_of(word[j]);
            if (isnan(v) && i == 0)
                expect("rounded", j, word[j]);
            else if (isnan(v))
                assert_true(isnan(value_of(result[j])));
            else
                expect("rounded", j, bits_of((float)rg_expr_apply(rounds[i].op, v, 0, 0)));
        }
    }
    OK(driver->module_unload(module));
}

static void test_the_compiler_takes_the_device_side(void **state) {
    static const char *const texts[] = {text};
    (void)state;
    expect_compiled(texts, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_every_16_bit_pattern_widens_to_its_value),
        TEST(test_every_16_bit_value_narrows_to_itself),
        TEST(test_floats_narrow_to_the_nearest),
        TEST(test_rounding_is_that_of_the_operators),
        TEST(test_the_compiler_takes_the_device_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
