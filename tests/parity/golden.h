/* Fixtures of tests/golden: reading them, and batches by their formula. */
#ifndef RG_PARITY_GOLDEN_H
#define RG_PARITY_GOLDEN_H

#include <math.h>
#include <string.h>

#include "../golden/formula.h"
#include "parity.h"

#define GOLDEN_FOLDER RG_SOURCE_DIR "/tests/golden/"

static inline void golden_open(parity *p, const char *path, rg_safetensors *file) {
    if (rg_safetensors_read(&p->ctx, path, file) != RG_OK)
        fail_msg("%s: %s", path, p->ctx.last ? p->ctx.last->text : "unreadable");
}

/* A tensor of `count` doubles. */
static inline const double *golden_f64(const rg_safetensors *file, const char *prefix,
                                       const char *name, int64_t count) {
    char full[300];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const rg_tensor_entry *entry = rg_safetensors_find(file, full);
    if (!entry) fail_msg("the fixture has no tensor '%s'", full);
    assert_string_equal(entry->dtype, "F64");
    assert_int_equal(entry->bytes, (uint64_t)count * sizeof(double));
    return (const double *)(const void *)entry->data;
}

/* Images N C H W by the formula, as N H W C, and labels. Owner: caller, golden_batch_free. */
static inline parity_batch golden_batch(const parity *p, int32_t count, const char *prefix) {
    const rg_spec *spec = p->job.spec;
    int64_t pixels = (int64_t)spec->height * spec->width, channels = spec->channels;
    double *image = parity_alloc((size_t)(count * pixels * channels), sizeof *image);
    double *label = parity_alloc((size_t)count, sizeof *label);
    char name[300];
    snprintf(name, sizeof name, "%simage", prefix);
    uint64_t seed = golden_seed(name), at = 0;
    for (int64_t n = 0; n < count; n++)
        for (int64_t c = 0; c < channels; c++)
            for (int64_t i = 0; i < pixels; i++)
                image[(n * pixels + i) * channels + c] = golden_unit(seed, at++);
    snprintf(name, sizeof name, "%slabel", prefix);
    seed = golden_seed(name);
    for (int32_t n = 0; n < count; n++)
        label[n] = (double)(golden_bits(seed, (uint64_t)n) % (uint64_t)spec->classes);
    return (parity_batch){count, image, label};
}

static inline void golden_batch_free(parity_batch *batch) {
    free((void *)(uintptr_t)batch->image);
    free((void *)(uintptr_t)batch->label);
}

#endif
