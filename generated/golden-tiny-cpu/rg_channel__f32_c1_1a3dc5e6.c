/* rg_channel__f32_c1_1a3dc5e6
 *
 *   fin0 = sum of the parts a0
 *   fin1 = sum of the parts a2
 *   a1 = fin0
 *   a3 = fin1*invcount
 *
 *   a0   part [1 N/16][1][1], read
 *   a1   vec [1], written
 *   a2   part [1 N/16][1][1], read
 *   a3   vec [1], written
 *
 * A block of 16 images: 1.6e-05 MB of arguments.
 * Variant vec, avx2: chunk 8. Tiles: 0 a block of images, 1 more. Scratch: 0 KB a thread.
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

RG_INLINE vf rg_splat(float x) {
    return (vf){x, x, x, x, x, x, x, x};
}

RG_INLINE int rg_min_int(int a, int b) {
    return a < b ? a : b;
}

/* A run of 1 elements, 8 a tile. */
void rg_channel__f32_c1_1a3dc5e6(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const float *const a0 = a[0];
    float *const a1 = a[1];
    const float *const a2 = a[2];
    float *const a3 = a[3];
    (void)ctl;
    (void)scratch;
    const vf e2 = rg_splat(ctl->scalar[1]);
    const int first = tile * 8, last = rg_min_int(first + 8, 8);
    for (int c = first; c < last; c += 8) {
        vf f0 = rg_splat(0.0f);
        for (long p = 0; p < (long)ctl->blocks; p++) f0 += rg_splat(*(a0 + p * 1L));
        vf f1 = rg_splat(0.0f);
        for (long p = 0; p < (long)ctl->blocks; p++) f1 += rg_splat(*(a2 + p * 1L));
        const vf e0 = f0;
        const vf e1 = f1;
        const vf e3 = e1 * e2;
        *(a1 + c) = e0[0];
        *(a3 + c) = e3[0];
    }
}
