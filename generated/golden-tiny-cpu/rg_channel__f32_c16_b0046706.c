/* rg_channel__f32_c16_b0046706
 *
 *   fin0 = sum of the parts a0
 *   fin1 = sum of the parts a2
 *   fin2 = sum of the parts a4
 *   a1 = fin0
 *   a3 = fin1
 *   a5 = fin2
 *   a6 = fin1*(invcount*0.0625)
 *   a8 = fin2*(invcount*0.0625)*a7
 *
 *   a0   part [4 N/16][1][16], read
 *   a1   vec [16], written
 *   a2   part [4 N/16][1][16], read
 *   a3   vec [16], written
 *   a4   part [4 N/16][1][16], read
 *   a5   vec [16], written
 *   a6   vec [16], written
 *   a7   vec [16], read
 *   a8   vec [16], written
 *
 * A block of 16 images: 0.001152 MB of arguments.
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

/* A run of 16 elements, 8 a tile. */
void rg_channel__f32_c16_b0046706(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const float *const a0 = a[0];
    float *const a1 = a[1];
    const float *const a2 = a[2];
    float *const a3 = a[3];
    const float *const a4 = a[4];
    float *const a5 = a[5];
    float *const a6 = a[6];
    const float *const a7 = a[7];
    float *const a8 = a[8];
    (void)ctl;
    (void)scratch;
    const vf e3 = rg_splat(ctl->scalar[1]);
    const vf e5 = e3 * rg_splat(0.0625f);
    const int first = tile * 8, last = rg_min_int(first + 8, 16);
    for (int c = first; c < last; c += 8) {
        vf f0 = rg_splat(0.0f);
        for (long p = 0; p < ((long)ctl->blocks) * 4; p++) f0 += rg_load(a0 + p * 16L + c);
        vf f1 = rg_splat(0.0f);
        for (long p = 0; p < ((long)ctl->blocks) * 4; p++) f1 += rg_load(a2 + p * 16L + c);
        vf f2 = rg_splat(0.0f);
        for (long p = 0; p < ((long)ctl->blocks) * 4; p++) f2 += rg_load(a4 + p * 16L + c);
        const vf e0 = f0;
        const vf e1 = f1;
        const vf e2 = f2;
        const vf e6 = e1 * e5;
        const vf e7 = e2 * e5;
        const vf e8 = rg_load(a7 + c);
        const vf e9 = e7 * e8;
        rg_store(a1 + c, e0);
        rg_store(a3 + c, e1);
        rg_store(a5 + c, e2);
        rg_store(a6 + c, e6);
        rg_store(a8 + c, e9);
    }
}
