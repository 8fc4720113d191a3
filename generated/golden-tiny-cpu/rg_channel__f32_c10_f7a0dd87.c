/* rg_channel__f32_c10_f7a0dd87
 *
 *   fin0 = sum of the parts a0
 *   a1 = fin0
 *
 *   a0   part [1 N/16][1][16], read
 *   a1   vec [16], written
 *
 * A block of 16 images: 0.000128 MB of arguments.
 * Variant vec, avx2: chunk 8. Tiles: 0 a block of images, 2 more. Scratch: 0 KB a thread.
 */
/* Vectors of 8 floats; loads and stores at any multiple of 4 bytes. */
typedef float vf __attribute__((vector_size(32)));
typedef float vf_any __attribute__((vector_size(32), aligned(4)));
typedef int vi __attribute__((vector_size(32)));
typedef vi vm; /* all ones or zero */
#define RG_INLINE static inline __attribute__((always_inline))

struct rg_ctrl {
    int live, blocks;
    float scalar[6];
};

RG_INLINE vf rg_load(const float *p) {
    return *(const vf_any *)p;
}

RG_INLINE void rg_store(float *p, vf v) {
    *(vf_any *)p = v;
}

RG_INLINE vf rg_splat(float x) {
    return (vf){x, x, x, x, x, x, x, x};
}

RG_INLINE int rg_min_int(int a, int b) {
    return a < b ? a : b;
}

/* A run of 10 elements, 8 a tile. */
void rg_channel__f32_c10_f7a0dd87(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const float *const a0 = a[0];
    float *const a1 = a[1];
    (void)ctl;
    (void)scratch;
    const int first = tile * 8, last = rg_min_int(first + 8, 16);
    for (int c = first; c < last; c += 8) {
        vf f0 = rg_splat(0.0f);
        for (long p = 0; p < (long)ctl->blocks; p++) f0 += rg_load(a0 + p * 16L + c);
        const vf e0 = f0;
        rg_store(a1 + c, e0);
    }
}
