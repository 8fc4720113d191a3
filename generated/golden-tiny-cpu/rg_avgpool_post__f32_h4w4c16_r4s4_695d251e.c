/* rg_avgpool_post__f32_h4w4c16_r4s4_695d251e
 *
 *   x0 = a0
 *   acc0[n, p, q, c] = sum over r, s of x0[n, 4 p + r, 4 q + s, c]
 *   a1 = acc0*0.0625
 *
 *   a0   act [N/16][4][4][16][16], read
 *   a1   act [N/16][1][1][16][16], written
 *
 * A block of 16 images: 0.01741 MB of arguments.
 * Variant window, avx2: images 2, own_rows 4, rows 1, strips 1. Tiles: 1 a block of images, 0 more. Scratch: 0 KB a thread.
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

/* sum over 4x4 taps: 4x4 to 1x1 pixels, 1 rows a tile. */
void rg_avgpool_post__f32_h4w4c16_r4s4_695d251e(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const float *const a0 = a[0];
    float *const a1 = a[1];
    const int nb = tile / 1, p0 = tile % 1 * 1, p1 = rg_min_int(p0 + 1, 1);
    (void)ctl;
    (void)scratch;
    for (int p = p0; p < p1; p++)
        for (int q = 0; q < 1; q++) {
            int th[16], tw[16], at[16], taps = 0;
            for (int fr = 0; fr < 4; fr++) {
                const int h = p * 4 + fr;
                if (h < 0 || h >= 4) continue;
                for (int fs = 0; fs < 4; fs++) {
                    const int w = q * 4 + fs;
                    if (w < 0 || w >= 4) continue;
                    th[taps] = h;
                    tw[taps] = w;
                    at[taps++] = fr * 4 + fs;
                }
            }
            (void)at;
            for (int m = 0; m < 16; m += 2)
                for (int c = 0; c < 16; c += 8) {
                    vf acc0[2];
                    for (int r = 0; r < 2; r++) acc0[r] = rg_splat(0.0f);
                    for (int i = 0; i < taps; i++) {
                        for (int r = 0; r < 2; r++) {
                            const vf x0 = rg_load(a0 + ((((long)nb * 4 + th[i]) * 4 + tw[i]) * 16 + m + r) * 16 + c);
                            acc0[r] += x0;
                        }
                    }
                    for (int r = 0; r < 2; r++) {
                        const vf e0 = acc0[r];
                        const vf e2 = e0 * rg_splat(0.0625f);
                        rg_store(a1 + ((long)nb * 16 + m + r) * 16 + c, e2);
                    }
                }
        }
}
