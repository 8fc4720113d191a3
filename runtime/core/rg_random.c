#include "rg_core.h"

/* Source: Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011. */
void rg_random_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t a = counter[0], b = counter[1], c = counter[2], d = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * a;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c;
        a = (uint32_t)(p1 >> 32) ^ b ^ k0;
        c = (uint32_t)(p0 >> 32) ^ d ^ k1;
        b = (uint32_t)p1;
        d = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = a, out[1] = b, out[2] = c, out[3] = d;
}

uint32_t rg_random_u32(uint64_t seed, uint32_t stream, uint32_t epoch, uint64_t index) {
    uint64_t block = index / 4;
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), epoch, stream};
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t out[4];
    rg_random_philox(counter, key, out);
    return out[index % 4];
}

float rg_random_unit(uint64_t seed, uint32_t stream, uint32_t epoch, uint64_t index) {
    return (float)(rg_random_u32(seed, stream, epoch, index) >> 8) * 0x1p-24f;
}

/* A number below `n`, each as likely as any other; moves `index` by the draws it took.
 * Source: Lemire, "Fast random integer generation in an interval", 2019. */
static uint32_t draw_below(uint64_t seed, uint32_t epoch, uint64_t *index, uint32_t n) {
    uint32_t reject = (0u - n) % n; /* so many of the 2^32 values would come once too often */
    uint64_t product;
    do {
        product = (uint64_t)rg_random_u32(seed, RG_STREAM_SHUFFLE, epoch, (*index)++) * n;
    } while ((uint32_t)product < reject);
    return (uint32_t)(product >> 32);
}

void rg_random_permutation(uint64_t seed, uint32_t epoch, uint32_t n, uint32_t *order) {
    uint64_t index = 0;
    for (uint32_t i = 0; i < n; i++) order[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = draw_below(seed, epoch, &index, i);
        uint32_t last = order[i - 1];
        order[i - 1] = order[j];
        order[j] = last;
    }
}
