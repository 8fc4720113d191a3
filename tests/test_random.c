/* Random numbers: the published vectors, the documented counters, fair permutations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "rg_core.h"

/* Random123's tests/kat_vectors, the three lines "philox4x32 10". */
static void test_philox_gives_the_published_vectors(void **state) {
    (void)state;
    static const uint32_t vector[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d,
         0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
         0x94fdcceb, 0x5001e420, 0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        rg_random_philox(vector[i], vector[i] + 4, out);
        assert_memory_equal(out, vector[i] + 6, sizeof out);
    }
}

static void test_a_number_is_a_word_of_the_documented_block(void **state) {
    (void)state;
    const uint64_t seed = 0x123456789abcdef, index[4] = {0, 1, 5, (1ull << 34) + 2};
    /* from the same rule written in Python */
    const uint32_t expected[4] = {0xbbc5bcd9, 0x4a0c5466, 0x4329900e, 0x4e23c236};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(rg_random_u32(seed, RG_STREAM_INIT, 7, index[i]), expected[i]);
        assert_true(rg_random_unit(seed, RG_STREAM_INIT, 7, index[i]) ==
                    (float)(expected[i] >> 8) / 16777216.0f);
    }
}

static void test_every_part_of_the_key_matters(void **state) {
    (void)state;
    uint32_t base = rg_random_u32(1, RG_STREAM_TEST, 2, 3);
    assert_int_not_equal(base, rg_random_u32(1ull << 32 | 1, RG_STREAM_TEST, 2, 3));
    assert_int_not_equal(base, rg_random_u32(1, RG_STREAM_INIT, 2, 3));
    assert_int_not_equal(base, rg_random_u32(1, RG_STREAM_TEST, 3, 3));
    assert_int_not_equal(base, rg_random_u32(1, RG_STREAM_TEST, 2, 1ull << 34 | 3));
}

static void test_units_fill_the_interval_evenly(void **state) {
    (void)state;
    enum { COUNT = 100000, BINS = 10 };
    int bin[BINS] = {0};
    for (int i = 0; i < COUNT; i++) {
        float unit = rg_random_unit(5, RG_STREAM_TEST, 0, (uint64_t)i);
        assert_true(unit >= 0.0f && unit < 1.0f);
        bin[(int)(unit * BINS)]++;
    }
    /* 5 standard deviations of a binomial count: sqrt(1e5 * 0.1 * 0.9) = 95 */
    for (int i = 0; i < BINS; i++) assert_in_range(bin[i], COUNT / BINS - 475, COUNT / BINS + 475);
}

static void test_a_permutation_is_the_documented_one(void **state) {
    (void)state;
    static const uint32_t expected[12] = {7, 1, 9, 10, 8, 6, 0, 11, 5, 4, 2, 3};
    uint32_t order[12];
    rg_random_permutation(0x123456789abcdef, 3, 12, order);
    assert_memory_equal(order, expected, sizeof order);
}

static void test_a_permutation_holds_every_number_once(void **state) {
    (void)state;
    enum { COUNT = 50000 };
    static uint32_t order[COUNT], other[COUNT];
    static uint8_t seen[COUNT];
    rg_random_permutation(1, 0, COUNT, order);
    for (int i = 0; i < COUNT; i++) {
        assert_true(order[i] < COUNT && !seen[order[i]]);
        seen[order[i]] = 1;
    }
    rg_random_permutation(1, 1, COUNT, other);
    int same = 0;
    for (int i = 0; i < COUNT; i++) same += order[i] == other[i];
    assert_in_range(same, 0, 10); /* fixed points are Poisson with mean 1 */
}

static void test_permutations_come_equally_often(void **state) {
    (void)state;
    enum { SEEDS = 24000 };
    int count[256] = {0}, kinds = 0;
    for (uint32_t seed = 0; seed < SEEDS; seed++) {
        uint32_t order[4];
        rg_random_permutation(seed, 0, 4, order);
        count[order[0] | order[1] << 2 | order[2] << 4 | order[3] << 6]++;
    }
    for (int i = 0; i < 256; i++) {
        kinds += count[i] > 0;
        if (count[i])
            assert_in_range(count[i], 845, 1155); /* 5 deviations of sqrt(1000 * 23/24) = 31 */
    }
    assert_int_equal(kinds, 24);
}

static void test_no_and_one_element_are_permuted(void **state) {
    (void)state;
    uint32_t order = 7;
    rg_random_permutation(1, 0, 0, &order);
    assert_int_equal(order, 7);
    rg_random_permutation(1, 0, 1, &order);
    assert_int_equal(order, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_gives_the_published_vectors),
        cmocka_unit_test(test_a_number_is_a_word_of_the_documented_block),
        cmocka_unit_test(test_every_part_of_the_key_matters),
        cmocka_unit_test(test_units_fill_the_interval_evenly),
        cmocka_unit_test(test_a_permutation_is_the_documented_one),
        cmocka_unit_test(test_a_permutation_holds_every_number_once),
        cmocka_unit_test(test_permutations_come_equally_often),
        cmocka_unit_test(test_no_and_one_element_are_permuted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
