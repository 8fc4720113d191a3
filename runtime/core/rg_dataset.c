#include "rg_core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SIDE = RG_DATASET_SIDE,
    CHANNELS = 3,
    PIXELS = CHANNELS * SIDE * SIDE,
    RECORD = 1 + PIXELS,
    CIFAR_CLASSES = 10,
    CIFAR_RECORDS = 10000,
    FILE_LIMIT = 1 << 30,
};

void rg_dataset_free(rg_dataset *set) {
    free(set->pixels);
    free(set->labels);
    *set = (rg_dataset){0};
}

/* Room for `count` images; what is there stays. */
static rg_status dataset_resize(rg_ctx *ctx, rg_dataset *set, uint32_t count) {
    uint8_t *pixels = realloc(set->pixels, (size_t)count * PIXELS);
    if (pixels) set->pixels = pixels;
    uint8_t *labels = realloc(set->labels, count);
    if (labels) set->labels = labels;
    return pixels && labels ? RG_OK : rg_nomem(ctx);
}

/* ---- CIFAR-10, binary version: records of a label byte, then the planes R, G, B ---- */

static rg_status append_records(rg_ctx *ctx, const char *path, const uint8_t *data, size_t length,
                                rg_dataset *set) {
    if (length == 0 || length % RECORD != 0)
        return rg_fail(ctx, RG_E_FORMAT, "'%s' has %zu bytes, expected %d (%d records of %d)", path,
                       length, CIFAR_RECORDS * RECORD, CIFAR_RECORDS, RECORD);
    uint32_t count = (uint32_t)(length / RECORD);
    RG_TRY(dataset_resize(ctx, set, set->count + count));
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *record = data + (size_t)i * RECORD;
        if (record[0] >= CIFAR_CLASSES)
            return rg_fail(ctx, RG_E_FORMAT, "'%s': record %u has label %u, expected 0 to %d", path,
                           i, record[0], CIFAR_CLASSES - 1);
        set->labels[set->count] = record[0];
        memcpy(set->pixels + (size_t)set->count * PIXELS, record + 1, PIXELS);
        set->count++;
    }
    return RG_OK;
}

static rg_status append_file(rg_ctx *ctx, const char *folder, const char *name, rg_dataset *set) {
    rg_arena *arena = rg_arena_new();
    if (!arena) return rg_nomem(ctx);
    char *data = NULL;
    size_t length = 0;
    const char *path = rg_arena_printf(arena, "%s/%s", folder, name);
    rg_status status =
        path ? rg_file_read(ctx, arena, path, FILE_LIMIT, &data, &length) : rg_nomem(ctx);
    if (status == RG_OK) status = append_records(ctx, path, (const uint8_t *)data, length, set);
    rg_arena_free(arena);
    return status;
}

/* DIR itself, or the folder that the archive unpacks to: the one that has `first`. */
static rg_status find_folder(rg_ctx *ctx, const char *dir, const char *first, const char **folder) {
    const char *inner = rg_arena_printf(ctx->arena, "%s/cifar-10-batches-bin", dir);
    if (!inner) return rg_nomem(ctx);
    const char *const place[] = {dir, inner};
    for (int i = 0; i < 2; i++) {
        const char *path = rg_arena_printf(ctx->arena, "%s/%s", place[i], first);
        if (!path) return rg_nomem(ctx);
        *folder = place[i];
        if (access(path, F_OK) == 0) return RG_OK;
        if (errno != ENOENT && errno != ENOTDIR)
            return rg_fail(ctx, RG_E_IO, "cannot open '%s': %s", path, strerror(errno));
    }
    return rg_fail(ctx, RG_E_IO,
                   "no CIFAR-10 (binary version) in '%s': '%s' is neither there nor in '%s'", dir,
                   first, inner);
}

rg_status rg_dataset_cifar10(rg_ctx *ctx, const char *dir, bool train, rg_dataset *set) {
    static const char *const train_file[] = {"data_batch_1.bin", "data_batch_2.bin",
                                             "data_batch_3.bin", "data_batch_4.bin",
                                             "data_batch_5.bin"};
    static const char *const test_file[] = {"test_batch.bin"};
    const char *const *file = train ? train_file : test_file;
    const char *folder = NULL;
    *set =
        (rg_dataset){.height = SIDE, .width = SIDE, .channels = CHANNELS, .classes = CIFAR_CLASSES};
    RG_TRY(find_folder(ctx, dir, file[0], &folder));
    rg_status status = RG_OK;
    for (int i = 0; status == RG_OK && i < (train ? 5 : 1); i++)
        status = append_file(ctx, folder, file[i], set);
    if (status != RG_OK) rg_dataset_free(set);
    return status;
}

/* ---- the synthetic set: a class is a direction of stripes and two colours; an image adds phase,
 * brightness and noise ---- */

enum { NOISE = 96, COLOUR_LOW = 64, COLOUR_SPAN = 128, STRIPE = 16, NOISE_BLOCKS = PIXELS / 16 };
/* Philox epochs of the stream: patterns are shared by the training and the test images, which are
 * else unlike. */
enum { EPOCH_PATTERN, EPOCH_TRAIN, EPOCH_TEST };

static void synthetic_block(uint64_t seed, uint32_t epoch, uint32_t item, uint32_t block,
                            uint8_t bytes[16]) {
    uint32_t counter[4] = {item, block, epoch, RG_STREAM_SYNTHETIC},
             key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)}, word[4];
    rg_random_philox(counter, key, word);
    for (int i = 0; i < 16; i++) bytes[i] = (uint8_t)(word[i / 4] >> (i % 4 * 8));
}

static void synthetic_image(uint64_t seed, uint32_t epoch, uint32_t image, uint32_t label,
                            uint8_t *to) {
    uint8_t pattern[16], vary[16], noise[16] = {0};
    synthetic_block(seed, EPOCH_PATTERN, label, 0, pattern);
    synthetic_block(seed, epoch, image, NOISE_BLOCKS, vary);
    int dx = 1 + pattern[0] % 3, dy = pattern[1] % 7 - 3;
    int phase = vary[0] % STRIPE + 3 * SIDE * STRIPE, brightness = vary[1] % 33 - 16;
    for (int i = 0; i < PIXELS; i++) {
        int c = i / (SIDE * SIDE), y = i / SIDE % SIDE, x = i % SIDE;
        if (i % 16 == 0) synthetic_block(seed, epoch, image, (uint32_t)i / 16, noise);
        bool dark = (x * dx + y * dy + phase) % STRIPE < STRIPE / 2;
        int colour = COLOUR_LOW + pattern[2 + c + (dark ? 3 : 0)] % COLOUR_SPAN;
        int value = colour + brightness + noise[i % 16] * NOISE / 256 - NOISE / 2;
        to[i] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
    }
}

rg_status rg_dataset_synthetic(rg_ctx *ctx, uint64_t seed, bool train, uint32_t count,
                               uint32_t classes, rg_dataset *set) {
    *set = (rg_dataset){.height = SIDE, .width = SIDE, .channels = CHANNELS, .classes = classes};
    if (count < 1 || classes < 1 || classes > 256)
        return rg_fail(ctx, RG_E_LIMIT,
                       "a synthetic set of %u images and %u classes: at least 1 image and 1 to 256 "
                       "classes are needed",
                       count, classes);
    rg_status status = dataset_resize(ctx, set, count);
    if (status != RG_OK) {
        rg_dataset_free(set);
        return status;
    }
    set->count = count;
    uint32_t epoch = train ? EPOCH_TRAIN : EPOCH_TEST;
#pragma omp parallel for schedule(static)
    for (uint32_t i = 0; i < count; i++) {
        set->labels[i] = (uint8_t)(i % classes);
        synthetic_image(seed, epoch, i, i % classes, set->pixels + (size_t)i * PIXELS);
    }
    return RG_OK;
}
