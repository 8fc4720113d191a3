/* rg_maxpool_grad_sum__f32_h8w8c8_r2s2_2fa163eb
 *
 *   x0 = a0
 *   acc0[n, p, q, c] = gradient of the maximum over r, s of x0[n, (p - r)/2, (q - s)/2, c]
 *   a2 = acc0
 *   a3 = sum over N H W of acc0
 *
 *   a0   act [N/16][8][8][16][8], read
 *   a1   act [N/16][8][8][16][8], read
 *   a2   act [N/16][16][16][16][8], written
 *   a3   part [8 N/16][1][8], written
 *
 * A block of 16 images: 0.1969 MB of arguments.
 * Variant window, avx2: images 4, own_rows 1, rows 2, strips 8. Tiles: 8 a block of images, 0 more. Scratch: 0.03125 KB a thread.
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

/* a == b */
RG_INLINE vm rg_mask_eq(vf a, vf b) {
    return (vm)__builtin_ia32_cmpps256(a, b, 0);
}

RG_INLINE int rg_min_int(int a, int b) {
    return a < b ? a : b;
}

RG_INLINE int rg_max_int(int a, int b) {
    return a > b ? a : b;
}

/* How many of `rows` images from `first` on are live. */
RG_INLINE int rg_live(const struct rg_ctrl *ctl, int first, int rows) {
    return rg_max_int(0, rg_min_int(rows, ctl->live - first));
}

/* Adds the first `live` vectors: images beyond the batch are left out, never multiplied. */
RG_INLINE void rg_sum_rows(float *sum, const vf *v, int live) {
    vf s = rg_load(sum);
    for (int r = 0; r < live; r++) s += v[r];
    rg_store(sum, s);
}

/* maxgrad over 2x2 taps: 8x8 to 16x16 pixels, 2 rows a tile. */
void rg_maxpool_grad_sum__f32_h8w8c8_r2s2_2fa163eb(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const float *const a0 = a[0];
    const float *const a1 = a[1];
    float *const a2 = a[2];
    float *const a3 = a[3];
    const int nb = tile / 8, p0 = tile % 8 * 2, p1 = rg_min_int(p0 + 2, 16);
    (void)ctl;
    (void)scratch;
    for (int c = 0; c < 8; c += 8) {
        rg_store(scratch + c, rg_splat(0.0f));
    }
    for (int p = p0; p < p1; p++)
        for (int q = 0; q < 16; q++) {
            int th[4], tw[4], at[4], taps = 0;
            for (int fr = 0; fr < 2; fr++) {
                const int h_at = p - fr, h = h_at / 2;
                if (h_at < 0 || h_at % 2 || h >= 8) continue;
                for (int fs = 0; fs < 2; fs++) {
                    const int w_at = q - fs, w = w_at / 2;
                    if (w_at < 0 || w_at % 2 || w >= 8) continue;
                    th[taps] = h;
                    tw[taps] = w;
                    at[taps++] = fr * 2 + fs;
                }
            }
            (void)at;
            for (int m = 0; m < 16; m += 4)
                for (int c = 0; c < 8; c += 8) {
                    vf acc0[4];
                    for (int r = 0; r < 4; r++) acc0[r] = rg_splat(0.0f);
                    for (int i = 0; i < taps; i++) {
                        const vf number = rg_splat((float)at[i]);
                        for (int r = 0; r < 4; r++) {
                            const vf x0 = rg_load(a0 + ((((long)nb * 8 + th[i]) * 8 + tw[i]) * 16 + m + r) * 8 + c);
                            acc0[r] += rg_blend(rg_mask_eq(rg_load(a1 + ((((long)nb * 8 + th[i]) * 8 + tw[i]) * 16 + m + r) * 8 + c), number), x0, rg_splat(0.0f));
                        }
                    }
                    vf q0[4];
                    for (int r = 0; r < 4; r++) {
                        const vf e0 = acc0[r];
                        rg_store(a2 + ((((long)nb * 16 + p) * 16 + q) * 16 + m + r) * 8 + c, e0);
                        q0[r] = e0;
                    }
                    rg_sum_rows(scratch + c, q0, rg_live(ctl, nb * 16 + m, 4));
                }
        }
    for (int c = 0; c < 8; c += 8) {
        rg_store(a3 + (long)tile * 8 + c, rg_load(scratch + c));
    }
}
