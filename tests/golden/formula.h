/* The formula of made-up parameters and batches, and the summary of a tensor: see base.py, which
 * computes the same. */
#ifndef RG_GOLDEN_FORMULA_H
#define RG_GOLDEN_FORMULA_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* A tensor's stream of numbers starts from its name. */
static inline uint64_t golden_seed(const char *name) {
    uint64_t seed = 0xCBF29CE484222325u;
    for (; *name; name++) seed = (seed ^ (unsigned char)*name) * 0x100000001B3u;
    return seed;
}

/* The 64 bits of element i (splitmix64). */
static inline uint64_t golden_bits(uint64_t seed, uint64_t i) {
    uint64_t z = seed + (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* [-1, 1), exact in float. */
static inline double golden_unit(uint64_t seed, uint64_t i) {
    return ((double)(golden_bits(seed, i) >> 40) - 8388608.0) / 8388608.0;
}

static inline int golden_ends_with(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* Element i of a parameter or state in PyTorch's order; fan_in (C*R*S) 0 for those of a batch norm.
 */
static inline float golden_value(const char *name, uint64_t seed, uint64_t i, int64_t fan_in) {
    double unit = golden_unit(seed, i);
    if (fan_in > 0) return (float)(unit / sqrt((double)fan_in));
    int around_one = golden_ends_with(name, ".weight") || golden_ends_with(name, ".running_var");
    return (float)(around_one ? 1.0 + 0.25 * unit : 0.25 * unit);
}

/* A tensor's L2 norm and its products with four vectors named after it. */
static inline void golden_summary(const char *name, const double *value, size_t count,
                                  double summary[5]) {
    double squares = 0;
    for (size_t i = 0; i < count; i++) squares += value[i] * value[i];
    summary[0] = sqrt(squares);
    for (int j = 0; j < 4; j++) {
        char full[300];
        snprintf(full, sizeof full, "%s#%d", name, j);
        uint64_t seed = golden_seed(full);
        double sum = 0;
        for (size_t i = 0; i < count; i++) sum += value[i] * golden_unit(seed, i);
        summary[1 + j] = sum;
    }
}

#endif
