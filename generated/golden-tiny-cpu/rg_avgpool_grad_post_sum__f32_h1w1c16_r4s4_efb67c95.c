/* rg_avgpool_grad_post_sum__f32_h1w1c16_r4s4_efb67c95
 *
 *   x0 = a0
 *   acc0[n, p, q, c] = sum over r, s of x0[n, (p - r)/4, (q - s)/4, c]
 *   a2 = select(a1 > 0, acc0*0.0625, 0)
 *   a3 = sum over N H W of select(a1 > 0, acc0*0.0625, 0)
 *   a8 = sum over N H W of select(max(fma(a5 - a4, a7, a6), 0) > 0, select(a1 > 0, acc0*0.0625, 0), 0)
 *   a10 = sum over N H W of select(max(fma(a5 - a4, a7, a6), 0) > 0, select(a1 > 0, acc0*0.0625, 0), 0)*((a5 - a4)*a9)
 *
 *   a0   act [N/16][1][1][16][16], read
 *   a1   act [N/16][4][4][16][16], read
 *   a2   act [N/16][4][4][16][16], written
 *   a3   part [4 N/16][1][16], written
 *   a4   vec [16], read
 *   a5   act [N/16][4][4][16][16], read
 *   a6   vec [16], read
 *   a7   vec [16], read
 *   a8   part [4 N/16][1][16], written
 *   a9   vec [16], read
 *   a10  part [4 N/16][1][16], written
 *
 * A block of 16 images: 0.0512 MB of arguments.
 * Variant window, avx2: images 2, own_rows 1, rows 1, strips 4. Tiles: 4 a block of images, 0 more. Scratch: 0.1875 KB a thread.
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

/* a * b + c, rounded once: the only fused operation. */
RG_INLINE vf rg_fma(vf a, vf b, vf c) {
    return __builtin_ia32_vfmaddps256(a, b, c);
}

/* Where the mask is set a, else b. */
RG_INLINE vf rg_blend(vm mask, vf a, vf b) {
    return __builtin_ia32_blendvps256(b, a, (vf)mask);
}

/* a > b */
RG_INLINE vm rg_mask_gt(vf a, vf b) {
    return (vm)__builtin_ia32_cmpps256(a, b, 14);
}

/* The instruction: b where either is NaN. */
RG_INLINE vf rg_raw_max(vf a, vf b) {
    return __builtin_ia32_maxps256(a, b);
}

/* The larger of a value and a constant that is no NaN; NaN where the value is NaN. */
RG_INLINE vf rg_maxc(vf a, float c) {
    return rg_raw_max(rg_splat(c), a);
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

/* sum over 4x4 taps: 1x1 to 4x4 pixels, 1 rows a tile. */
void rg_avgpool_grad_post_sum__f32_h1w1c16_r4s4_efb67c95(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const float *const a0 = a[0];
    const float *const a1 = a[1];
    float *const a2 = a[2];
    float *const a3 = a[3];
    const float *const a4 = a[4];
    const float *const a5 = a[5];
    const float *const a6 = a[6];
    const float *const a7 = a[7];
    float *const a8 = a[8];
    const float *const a9 = a[9];
    float *const a10 = a[10];
    const int nb = tile / 4, p0 = tile % 4 * 1, p1 = rg_min_int(p0 + 1, 4);
    (void)ctl;
    (void)scratch;
    for (int c = 0; c < 16; c += 8) {
        rg_store(scratch + c, rg_splat(0.0f));
        rg_store(scratch + 16 + c, rg_splat(0.0f));
        rg_store(scratch + 32 + c, rg_splat(0.0f));
    }
    for (int p = p0; p < p1; p++)
        for (int q = 0; q < 4; q++) {
            int th[16], tw[16], at[16], taps = 0;
            for (int fr = 0; fr < 4; fr++) {
                const int h_at = p - fr, h = h_at / 4;
                if (h_at < 0 || h_at % 4 || h >= 1) continue;
                for (int fs = 0; fs < 4; fs++) {
                    const int w_at = q - fs, w = w_at / 4;
                    if (w_at < 0 || w_at % 4 || w >= 1) continue;
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
                            const vf x0 = rg_load(a0 + ((long)nb * 16 + m + r) * 16 + c);
                            acc0[r] += x0;
                        }
                    }
                    const vf e8 = rg_load(a4 + c);
                    const vf e10 = rg_load(a7 + c);
                    const vf e11 = rg_load(a6 + c);
                    const vf e16 = rg_load(a9 + c);
                    vf q0[2];
                    vf q1[2];
                    vf q2[2];
                    for (int r = 0; r < 2; r++) {
                        const vf e0 = rg_load(a1 + ((((long)nb * 4 + p) * 4 + q) * 16 + m + r) * 16 + c);
                        const vm m2 = rg_mask_gt(e0, rg_splat(0.0f));
                        const vf e3 = acc0[r];
                        const vf e5 = e3 * rg_splat(0.0625f);
                        const vf e6 = rg_blend(m2, e5, rg_splat(0.0f));
                        const vf e7 = rg_load(a5 + ((((long)nb * 4 + p) * 4 + q) * 16 + m + r) * 16 + c);
                        const vf e9 = e7 - e8;
                        const vf e12 = rg_fma(e9, e10, e11);
                        const vf e13 = rg_maxc(e12, 0.0f);
                        const vm m14 = rg_mask_gt(e13, rg_splat(0.0f));
                        const vf e15 = rg_blend(m14, e6, rg_splat(0.0f));
                        const vf e17 = e9 * e16;
                        const vf e18 = e15 * e17;
                        rg_store(a2 + ((((long)nb * 4 + p) * 4 + q) * 16 + m + r) * 16 + c, e6);
                        q0[r] = e6;
                        q1[r] = e15;
                        q2[r] = e18;
                    }
                    rg_sum_rows(scratch + c, q0, rg_live(ctl, nb * 16 + m, 2));
                    rg_sum_rows(scratch + 16 + c, q1, rg_live(ctl, nb * 16 + m, 2));
                    rg_sum_rows(scratch + 32 + c, q2, rg_live(ctl, nb * 16 + m, 2));
                }
        }
    for (int c = 0; c < 16; c += 8) {
        rg_store(a3 + (long)tile * 16 + c, rg_load(scratch + c));
        rg_store(a8 + (long)tile * 16 + c, rg_load(scratch + 16 + c));
        rg_store(a10 + (long)tile * 16 + c, rg_load(scratch + 32 + c));
    }
}
