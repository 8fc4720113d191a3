/* rg_maxpool__f32_h16w16c8_r2s2_45405446
 *
 *   x0 = a0
 *   acc0[n, p, q, c] = maximum over r, s of x0[n, 2 p + r, 2 q + s, c]
 *   a1 = acc0
 *   a2 = acc1
 *
 *   a0   act [N/16][16][16][16][8], read
 *   a1   act [N/16][8][8][16][8], written
 *   a2   act [N/16][8][8][16][8], written
 *
 * A block of 16 images: 0.1966 MB of arguments.
 * Variant window, avx2: images 2, own_rows 2, rows 1, strips 8. Tiles: 8 a block of images, 0 more. Scratch: 0 KB a thread.
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

/* Where the mask is set a, else b. */
RG_INLINE vf rg_blend(vm mask, vf a, vf b) {
    return __builtin_ia32_blendvps256(b, a, (vf)mask);
}

/* a > b */
RG_INLINE vm rg_mask_gt(vf a, vf b) {
    return (vm)__builtin_ia32_cmpps256(a, b, 14);
}

/* either is NaN */
RG_INLINE vm rg_mask_nan(vf a, vf b) {
    return (vm)__builtin_ia32_cmpps256(a, b, 3);
}

RG_INLINE int rg_min_int(int a, int b) {
    return a < b ? a : b;
}

/* max over 2x2 taps: 16x16 to 8x8 pixels, 1 rows a tile. */
void rg_maxpool__f32_h16w16c8_r2s2_45405446(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const float *const a0 = a[0];
    float *const a1 = a[1];
    float *const a2 = a[2];
    const int nb = tile / 8, p0 = tile % 8 * 1, p1 = rg_min_int(p0 + 1, 8);
    (void)ctl;
    (void)scratch;
    for (int p = p0; p < p1; p++)
        for (int q = 0; q < 8; q++) {
            int th[4], tw[4], at[4], taps = 0;
            for (int fr = 0; fr < 2; fr++) {
                const int h = p * 2 + fr;
                if (h < 0 || h >= 16) continue;
                for (int fs = 0; fs < 2; fs++) {
                    const int w = q * 2 + fs;
                    if (w < 0 || w >= 16) continue;
                    th[taps] = h;
                    tw[taps] = w;
                    at[taps++] = fr * 2 + fs;
                }
            }
            (void)at;
            for (int m = 0; m < 16; m += 2)
                for (int c = 0; c < 8; c += 8) {
                    vf acc0[2];
                    for (int r = 0; r < 2; r++) acc0[r] = rg_splat(-__builtin_inff());
                    vf acc1[2];
                    for (int r = 0; r < 2; r++) acc1[r] = rg_splat(taps ? (float)at[0] : 0.0f);
                    for (int i = 0; i < taps; i++) {
                        const vf number = rg_splat((float)at[i]);
                        for (int r = 0; r < 2; r++) {
                            const vf x0 = rg_load(a0 + ((((long)nb * 16 + th[i]) * 16 + tw[i]) * 16 + m + r) * 8 + c);
                            const vm wins = rg_mask_gt(x0, acc0[r]) | rg_mask_nan(x0, x0);
                            acc0[r] = rg_blend(wins, x0, acc0[r]);
                            acc1[r] = rg_blend(wins, number, acc1[r]);
                        }
                    }
                    for (int r = 0; r < 2; r++) {
                        const vf e0 = acc0[r];
                        const vf e1 = acc1[r];
                        rg_store(a1 + ((((long)nb * 8 + p) * 8 + q) * 16 + m + r) * 8 + c, e0);
                        rg_store(a2 + ((((long)nb * 8 + p) * 8 + q) * 16 + m + r) * 8 + c, e1);
                    }
                }
        }
}
