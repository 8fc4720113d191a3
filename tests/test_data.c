/* Data: Pillow's resize to the bit, the batch in the activation layout, CIFAR files refused with
 * the reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test_plan.h"

enum { RECORD = 3073 };

static rg_ctx ctx;
static test_plan tp;

static int setup(void **state) {
    (void)state;
    return rg_ctx_init(&ctx) == RG_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    rg_ctx_free(&ctx);
    return 0;
}

static void assert_error(rg_status status, rg_status expected, const char *part) {
    assert_int_equal(status, expected);
    assert_non_null(ctx.last);
    if (!strstr(ctx.last->text, part)) fail_msg("'%s' does not contain '%s'", ctx.last->text, part);
}

static uint64_t fnv(const uint8_t *bytes, size_t count) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < count; i++) hash = (hash ^ bytes[i]) * 0x100000001B3u;
    return hash;
}

/* ---- resize ---- */

/* The planes of golden/make_resize.py. */
static void made_up_plane(uint8_t *plane, size_t count, uint32_t seed) {
    uint32_t x = seed;
    for (size_t i = 0; i < count; i++) {
        x = x * 1664525u + 1013904223u;
        plane[i] = (uint8_t)(seed % 2 == 0 ? x >> 24 : x >> 31 ? 255 : 0);
    }
}

static void check_golden_line(const char *line) {
    unsigned in_h, in_w, out_h, out_w, seed;
    unsigned long long hash;
    char hex[33];
    assert_int_equal(
        sscanf(line, "%u %u %u %u %u %llx %32s", &in_h, &in_w, &out_h, &out_w, &seed, &hash, hex),
        7);
    uint8_t *in = malloc((size_t)in_h * in_w), *out = malloc((size_t)out_h * out_w),
            *scratch = malloc((size_t)in_h * out_w);
    assert_true(in && out && scratch);
    made_up_plane(in, (size_t)in_h * in_w, seed);
    rg_resize *resize;
    assert_int_equal(rg_resize_new(&ctx, in_h, in_w, out_h, out_w, &resize), RG_OK);
    rg_resize_plane(resize, in, out, scratch);
    for (unsigned i = 0; i < strlen(hex) / 2; i++) {
        unsigned byte;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        if (byte != out[i]) fail_msg("byte %u is %u in: %s", i, out[i], line);
    }
    if (fnv(out, (size_t)out_h * out_w) != hash) fail_msg("another plane than: %s", line);
    free(in), free(out), free(scratch);
}

static void test_resize_gives_the_bytes_of_pillow(void **state) {
    (void)state;
    FILE *file = fopen(RG_SOURCE_DIR "/tests/golden/resize.txt", "r");
    assert_non_null(file);
    char line[256];
    int checked = 0;
    while (fgets(line, sizeof line, file)) {
        if (line[0] == '#') continue;
        check_golden_line(line);
        checked++;
    }
    fclose(file);
    assert_int_equal(checked, 26);
}

static void test_resize_refuses_empty_and_huge_sides(void **state) {
    (void)state;
    rg_resize *resize;
    assert_error(rg_resize_new(&ctx, 32, 0, 96, 96, &resize), RG_E_LIMIT,
                 "cannot resize 32x0 to 96x96");
    assert_error(rg_resize_new(&ctx, 32, 32, 65536, 96, &resize), RG_E_LIMIT,
                 "sides must be 1 to 65535");
}

static void test_resize_reports_every_failed_allocation(void **state) {
    (void)state;
    rg_status status = RG_E_NOMEM;
    int failures = 0;
    for (long n = 1; status != RG_OK; n++, failures++) {
        rg_ctx small;
        assert_int_equal(rg_ctx_init(&small), RG_OK);
        rg_resize *resize;
        rg_arena_fail_after(n);
        status = rg_resize_new(&small, 32, 32, 96, 96, &resize);
        rg_arena_fail_after(0);
        rg_ctx_free(&small);
    }
    assert_int_equal(failures, 10); /* nine allocations, then it succeeds */
}

/* ---- batches ---- */

static rg_exec *new_exec(uint32_t h, uint32_t w, uint32_t c, uint32_t cp) {
    tp_init(&tp, 10);
    rg_plan_buffer image = {.layout = RG_PL_ACT, .dim = {h, w, c, cp}};
    for (int i = 0; i < 4; i++)
        tp.plan.data.mean[i] = 0.25f + 0.125f * (float)i,
        tp.plan.data.std[i] = 0.5f - 0.0625f * (float)i;
    tp.plan.io.image = tp_buffer(&tp, "image", RG_ARENA_IO, image,
                                 (uint64_t)tp.plan.max_blocks * RG_BLOCK * h * w * cp);
    tp.plan.io.label = tp_act(&tp, "label", RG_ARENA_IO, 1, 1, 1);
    rg_exec *exec;
    assert_int_equal(rg_exec_new(&ctx, &tp.plan, tp.function, 1, &exec), RG_OK);
    return exec;
}

/* Pixel by pixel, as the header says it. */
static void check_image(rg_exec *exec, const rg_dataset *set, const rg_resize *resize,
                        uint32_t image, uint32_t n) {
    const rg_plan_buffer *b = &tp.plan.buffer[tp.plan.io.image];
    uint32_t h = b->dim[0], w = b->dim[1], channels = b->dim[2], cp = b->dim[3];
    const float *buffer = rg_exec_buffer(exec, tp.plan.io.image);
    uint8_t *out = malloc((size_t)h * w), *scratch = malloc((size_t)set->height * w);
    assert_true(out && scratch);
    for (uint32_t c = 0; c < cp; c++) {
        size_t plane = (size_t)image * channels + c;
        if (c < channels)
            rg_resize_plane(resize, set->pixels + plane * set->height * set->width, out, scratch);
        for (uint32_t i = 0; i < h * w; i++) {
            size_t at = (((size_t)(n / 16) * h * w + i) * 16 + n % 16) * cp + c;
            float expected =
                c < channels ? ((float)out[i] / 255.0f - tp.plan.data.mean[c]) / tp.plan.data.std[c]
                             : 0.0f;
            if (buffer[at] != expected)
                fail_msg("image %u channel %u pixel %u: %g, not %g", n, c, i, buffer[at], expected);
        }
    }
    free(out), free(scratch);
}

static void check_fill(uint32_t h, uint32_t w, uint32_t cp, int32_t live) {
    rg_dataset set;
    rg_resize *resize;
    rg_exec *exec = new_exec(h, w, 3, cp);
    size_t image_floats = (size_t)tp.plan.buffer[tp.plan.io.image].bytes / sizeof(float),
           block = (size_t)h * w * 16 * cp;
    float *image = rg_exec_buffer(exec, tp.plan.io.image),
          *label = rg_exec_buffer(exec, tp.plan.io.label);
    for (size_t i = 0; i < image_floats; i++) image[i] = 99.0f;
    assert_int_equal(rg_dataset_synthetic(&ctx, 3, true, 100, 10, &set), RG_OK);
    assert_int_equal(rg_resize_new(&ctx, 32, 32, h, w, &resize), RG_OK);
    uint32_t order[48];
    for (uint32_t i = 0; i < 48; i++) order[i] = i * 37 % 100;
    assert_int_equal(rg_data_fill(&ctx, exec, &set, resize, order, live), RG_OK);
    int32_t whole = (live + 15) / 16 * 16;
    for (int32_t n = 0; n < whole; n++) {
        if (n < live) check_image(exec, &set, resize, order[n], (uint32_t)n);
        assert_true(label[n] == (n < live ? (float)set.labels[order[n]] : 0.0f));
    }
    for (size_t i = 0; i < (size_t)whole / 16 * block; i++)
        if ((int32_t)(i / block * 16 + i / cp % 16) >= live) assert_true(image[i] == 0.0f);
    for (size_t i = (size_t)whole / 16 * block; i < image_floats; i++)
        assert_true(image[i] == 99.0f);
    rg_exec_free(exec);
    rg_dataset_free(&set);
}

static void test_a_batch_is_resized_normalised_and_interleaved(void **state) {
    (void)state;
    check_fill(96, 96, 3, 32);
    check_fill(40, 17, 3, 48);
    check_fill(9, 5, 3, 16);
}

static void test_images_beyond_the_batch_and_surplus_channels_are_zeros(void **state) {
    (void)state;
    check_fill(33, 20, 4, 19);
    check_fill(32, 32, 16, 1);
    check_fill(32, 32, 3, 0);
}

static void test_a_batch_has_the_same_bits_for_any_number_of_threads(void **state) {
    (void)state;
    rg_dataset set;
    rg_resize *resize;
    rg_exec *exec = new_exec(96, 96, 3, 3);
    size_t bytes = (size_t)tp.plan.buffer[tp.plan.io.image].bytes;
    float *image = rg_exec_buffer(exec, tp.plan.io.image), *first = malloc(bytes);
    assert_non_null(first);
    assert_int_equal(rg_dataset_synthetic(&ctx, 3, true, 40, 10, &set), RG_OK);
    assert_int_equal(rg_resize_new(&ctx, 32, 32, 96, 96, &resize), RG_OK);
    uint32_t order[40];
    rg_random_permutation(1, 0, 40, order);
    int saved = omp_get_max_threads();
    static const int threads[] = {1, 2, 5};
    for (int i = 0; i < 3; i++) {
        omp_set_num_threads(threads[i]);
        memset(image, 0, bytes);
        assert_int_equal(rg_data_fill(&ctx, exec, &set, resize, order, 40), RG_OK);
        if (i == 0) memcpy(first, image, bytes);
        assert_memory_equal(first, image, bytes);
    }
    omp_set_num_threads(saved);
    free(first);
    rg_exec_free(exec);
    rg_dataset_free(&set);
}

static void test_a_batch_that_does_not_fit_is_refused(void **state) {
    (void)state;
    rg_dataset set;
    rg_resize *resize, *other;
    rg_exec *exec = new_exec(40, 17, 3, 3);
    assert_int_equal(rg_dataset_synthetic(&ctx, 3, true, 10, 10, &set), RG_OK);
    assert_int_equal(rg_resize_new(&ctx, 32, 32, 40, 17, &resize), RG_OK);
    assert_int_equal(rg_resize_new(&ctx, 32, 32, 17, 40, &other), RG_OK);
    uint32_t order[49] = {0, 10};
    assert_error(rg_data_fill(&ctx, exec, &set, resize, order, 2), RG_E_LIMIT,
                 "image 10 of a data set of 10");
    assert_error(rg_data_fill(&ctx, exec, &set, resize, order, 49), RG_E_LIMIT,
                 "49 images: this plan takes 0 to 48");
    assert_error(rg_data_fill(&ctx, exec, &set, resize, order, -1), RG_E_LIMIT, "-1 images");
    assert_error(rg_data_fill(&ctx, exec, &set, other, order, 1), RG_E_SHAPE,
                 "resized 32x32 to 17x40, but the network takes 3x40x17");
    assert_int_equal(rg_resize_new(&ctx, 32, 32, 41, 17, &other), RG_OK);
    assert_error(rg_data_fill(&ctx, exec, &set, other, order, 1), RG_E_SHAPE, "32x32 to 41x17");
    assert_int_equal(rg_resize_new(&ctx, 32, 32, 40, 18, &other), RG_OK);
    assert_error(rg_data_fill(&ctx, exec, &set, other, order, 1), RG_E_SHAPE, "32x32 to 40x18");
    static const uint32_t odd[3][3] = {{1, 32, 32}, {3, 31, 32}, {3, 32, 31}};
    for (int i = 0; i < 3; i++) {
        set.channels = odd[i][0], set.height = odd[i][1], set.width = odd[i][2];
        assert_error(rg_data_fill(&ctx, exec, &set, resize, order, 1), RG_E_SHAPE, "images are");
    }
    set.channels = 3, set.height = 32, set.width = 32;
    tp.plan.io.label = UINT32_MAX;
    assert_error(rg_data_fill(&ctx, exec, &set, resize, order, 1), RG_E_SHAPE,
                 "no image or no label buffer");
    rg_exec_free(exec);
    rg_dataset_free(&set);
}

/* ---- the synthetic set ---- */

/* As good as a class's mean image can tell: far over chance, far from certain to be right by luck.
 */
static double nearest_mean_accuracy(const rg_dataset *train, const rg_dataset *test) {
    static double mean[10][3072];
    int right = 0;
    memset(mean, 0, sizeof mean);
    for (uint32_t i = 0; i < train->count; i++)
        for (int j = 0; j < 3072; j++)
            mean[train->labels[i]][j] +=
                train->pixels[(size_t)i * 3072 + (size_t)j] * 10.0 / train->count;
    for (uint32_t i = 0; i < test->count; i++) {
        double best = 1e30;
        int class = 0;
        for (int k = 0; k < 10; k++) {
            double distance = 0;
            for (int j = 0; j < 3072; j++) {
                double d = test->pixels[(size_t)i * 3072 + (size_t)j] - mean[k][j];
                distance += d * d;
            }
            if (distance < best) best = distance, class = k;
        }
        right += class == test->labels[i];
    }
    return (double)right / test->count;
}

static void test_the_synthetic_set_can_be_learnt(void **state) {
    (void)state;
    rg_dataset train, test;
    assert_int_equal(rg_dataset_synthetic(&ctx, 1, true, 2000, 10, &train), RG_OK);
    assert_int_equal(rg_dataset_synthetic(&ctx, 1, false, 500, 10, &test), RG_OK);
    double accuracy = nearest_mean_accuracy(&train, &test);
    print_message("nearest class mean: %.3f\n", accuracy);
    assert_true(accuracy > 0.5);
    rg_dataset_free(&train);
    rg_dataset_free(&test);
}

static void test_the_synthetic_set_is_the_same_everywhere(void **state) {
    (void)state;
    rg_dataset set;
    assert_int_equal(rg_dataset_synthetic(&ctx, 1, true, 20, 10, &set), RG_OK);
    assert_int_equal(set.count, 20);
    assert_int_equal(set.classes, 10);
    for (int i = 0; i < 20; i++) assert_int_equal(set.labels[i], i % 10);
    assert_true(fnv(set.pixels, 20 * 3072) == 0x1c9b00a0dc241f79u);
    rg_dataset test;
    assert_int_equal(rg_dataset_synthetic(&ctx, 1, false, 20, 10, &test), RG_OK);
    assert_memory_not_equal(set.pixels, test.pixels, 3072);
    rg_dataset_free(&set);
    rg_dataset_free(&test);
    assert_error(rg_dataset_synthetic(&ctx, 1, true, 0, 10, &set), RG_E_LIMIT,
                 "0 images and 10 classes");
    assert_error(rg_dataset_synthetic(&ctx, 1, true, 1, 257, &set), RG_E_LIMIT, "257 classes");
}

/* ---- CIFAR-10 ---- */

static char folder[64];

static void path_of(char path[256], const char *name) {
    snprintf(path, 256, "%s/%s", folder, name);
}

/* `records` records; byte i of record r is (r + i) % 251, label r % 10. `extra` bytes follow. */
static void write_batch(const char *name, int records, int extra, int bad_record) {
    char path[256];
    path_of(path, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (int r = 0; r < records; r++) {
        fputc(r == bad_record ? 10 : r % 10, file);
        for (int i = 0; i < RECORD - 1; i++) fputc((r + i) % 251, file);
    }
    for (int i = 0; i < extra; i++) fputc(0, file);
    assert_int_equal(fclose(file), 0);
}

static void write_train(void) {
    static const char *const name[] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                       "data_batch_4.bin", "data_batch_5.bin"};
    for (int i = 0; i < 5; i++) write_batch(name[i], i + 1, 0, -1);
}

static int make_folder(void **state) {
    strcpy(folder, "/tmp/rg_test_data.XXXXXX");
    return mkdtemp(folder) ? setup(state) : -1;
}

static int remove_folder(void **state) {
    static const char *const name[] = {"data_batch_1.bin",
                                       "data_batch_2.bin",
                                       "data_batch_3.bin",
                                       "data_batch_4.bin",
                                       "data_batch_5.bin",
                                       "test_batch.bin",
                                       "cifar-10-batches-bin/test_batch.bin"};
    char path[256];
    for (int i = 0; i < 7; i++) path_of(path, name[i]), unlink(path);
    path_of(path, "cifar-10-batches-bin"), rmdir(path);
    return rmdir(folder) == 0 ? teardown(state) : -1;
}

static void test_cifar_files_are_read_in_order(void **state) {
    (void)state;
    rg_dataset set;
    write_train();
    assert_int_equal(rg_dataset_cifar10(&ctx, folder, true, &set), RG_OK);
    assert_int_equal(set.count, 15);
    assert_int_equal(set.classes, 10);
    assert_true(set.height == 32 && set.width == 32 && set.channels == 3);
    for (uint32_t file = 0, at = 0; file < 5; file++)
        for (uint32_t r = 0; r <= file; r++, at++) {
            assert_int_equal(set.labels[at], r);
            for (uint32_t i = 0; i < 3072; i++)
                assert_int_equal(set.pixels[at * 3072 + i], (r + i) % 251);
        }
    rg_dataset_free(&set);
    assert_null(set.pixels);
}

static void test_cifar_is_found_in_the_archives_own_folder(void **state) {
    (void)state;
    char path[256];
    rg_dataset set;
    path_of(path, "cifar-10-batches-bin");
    assert_int_equal(mkdir(path, 0700), 0);
    write_batch("cifar-10-batches-bin/test_batch.bin", 3, 0, -1);
    assert_int_equal(rg_dataset_cifar10(&ctx, folder, false, &set), RG_OK);
    assert_int_equal(set.count, 3);
    rg_dataset_free(&set);
}

static void test_a_missing_cifar_file_is_named(void **state) {
    (void)state;
    char path[256];
    rg_dataset set;
    assert_error(rg_dataset_cifar10(&ctx, folder, false, &set), RG_E_IO,
                 "'test_batch.bin' is neither there nor in");
    assert_error(rg_dataset_cifar10(&ctx, "/nowhere/at/all", true, &set), RG_E_IO,
                 "no CIFAR-10 (binary version) in '/nowhere/at/all'");
    write_train();
    path_of(path, "data_batch_4.bin");
    unlink(path);
    assert_error(rg_dataset_cifar10(&ctx, folder, true, &set), RG_E_IO,
                 "data_batch_4.bin': No such file");
    assert_null(set.pixels);
}

static void test_a_broken_cifar_file_is_refused_with_the_reason(void **state) {
    (void)state;
    rg_dataset set;
    write_train();
    write_batch("data_batch_3.bin", 4, 53, -1);
    assert_error(rg_dataset_cifar10(&ctx, folder, true, &set), RG_E_FORMAT,
                 "/data_batch_3.bin' has 12345 bytes, expected 30730000 (10000 records of 3073)");
    write_batch("data_batch_3.bin", 0, 0, -1);
    assert_error(rg_dataset_cifar10(&ctx, folder, true, &set), RG_E_FORMAT, "has 0 bytes");
    write_batch("data_batch_3.bin", 9, 0, 7);
    assert_error(rg_dataset_cifar10(&ctx, folder, true, &set), RG_E_FORMAT,
                 "/data_batch_3.bin': record 7 has label 10, expected 0 to 9");
    assert_null(set.pixels);
}

/* Counts of the real set: every class equally often. */
static void test_the_real_cifar_is_whole(void **state) {
    (void)state;
    const char *dir = getenv("RG_CIFAR10_DIR");
    if (!dir || access(dir, F_OK) != 0) {
        print_message("skipped: set RG_CIFAR10_DIR to a folder with CIFAR-10, binary version "
                      "(cs.toronto.edu/~kriz/cifar.html)\n");
        skip();
    }
    for (int train = 0; train < 2; train++) {
        rg_dataset set;
        uint32_t count = train ? 50000 : 10000, class[10] = {0};
        assert_int_equal(rg_dataset_cifar10(&ctx, dir, train, &set), RG_OK);
        assert_int_equal(set.count, count);
        for (uint32_t i = 0; i < count; i++) class[set.labels[i]]++;
        for (int k = 0; k < 10; k++) assert_int_equal(class[k], count / 10);
        rg_dataset_free(&set);
    }
}

#define RG_CASE(name)   cmocka_unit_test_setup_teardown(name, setup, teardown)
#define RG_FOLDER(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        RG_CASE(test_resize_gives_the_bytes_of_pillow),
        RG_CASE(test_resize_refuses_empty_and_huge_sides),
        RG_CASE(test_resize_reports_every_failed_allocation),
        RG_CASE(test_a_batch_is_resized_normalised_and_interleaved),
        RG_CASE(test_images_beyond_the_batch_and_surplus_channels_are_zeros),
        RG_CASE(test_a_batch_has_the_same_bits_for_any_number_of_threads),
        RG_CASE(test_a_batch_that_does_not_fit_is_refused),
        RG_CASE(test_the_synthetic_set_can_be_learnt),
        RG_CASE(test_the_synthetic_set_is_the_same_everywhere),
        RG_FOLDER(test_cifar_files_are_read_in_order),
        RG_FOLDER(test_cifar_is_found_in_the_archives_own_folder),
        RG_FOLDER(test_a_missing_cifar_file_is_named),
        RG_FOLDER(test_a_broken_cifar_file_is_refused_with_the_reason),
        RG_CASE(test_the_real_cifar_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
