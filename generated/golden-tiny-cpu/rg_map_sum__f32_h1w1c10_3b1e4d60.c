/* rg_map_sum__f32_h1w1c10_3b1e4d60
 *
 *   row0 = max over C of a0
 *   row1 = sum over C of select(index_c == a1, a0, 0)
 *   row2 = sum over C of exp(a0 - row0)
 *   row3 = max over C of (a0 > row1) + (a0 == row1)*(a1 > index_c)
 *   a2 = sum over N H W of log(row2) + row0 - row1
 *   a3 = sum over N H W of 1 - row3
 *   a4 = (exp(a0 - row0)/row2 - select(index_c == a1, 1, 0))*invcount
 *   a5 = sum over N H W of (exp(a0 - row0)/row2 - select(index_c == a1, 1, 0))*invcount
 *
 *   a0   act [N/16][1][1][16][16], read
 *   a1   act [N/16][1][1][16][1], read
 *   a2   part [1 N/16][1][1], written
 *   a3   part [1 N/16][1][1], written
 *   a4   act [N/16][1][1][16][16], written
 *   a5   part [1 N/16][1][16], written
 *
 * A block of 16 images: 0.002184 MB of arguments.
 * Variant map, avx2: run 1, strips 1. Tiles: 1 a block of images, 0 more. Scratch: 0.125 KB a thread.
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

/* c, c + 1, ... */
RG_INLINE vf rg_iota(int c) {
    const vf lane = {0, 1, 2, 3, 4, 5, 6, 7};
    return lane + rg_splat((float)c);
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

/* a >= b */
RG_INLINE vm rg_mask_ge(vf a, vf b) {
    return (vm)__builtin_ia32_cmpps256(a, b, 13);
}

/* a == b */
RG_INLINE vm rg_mask_eq(vf a, vf b) {
    return (vm)__builtin_ia32_cmpps256(a, b, 0);
}

/* either is NaN */
RG_INLINE vm rg_mask_nan(vf a, vf b) {
    return (vm)__builtin_ia32_cmpps256(a, b, 3);
}

/* The instruction: b where either is NaN. */
RG_INLINE vf rg_raw_max(vf a, vf b) {
    return __builtin_ia32_maxps256(a, b);
}

/* The larger; NaN where either is NaN. */
RG_INLINE vf rg_max(vf a, vf b) {
    return rg_blend(rg_mask_nan(a, a), a, rg_raw_max(a, b));
}

/* The larger of a value and a constant that is no NaN; NaN where the value is NaN. */
RG_INLINE vf rg_maxc(vf a, float c) {
    return rg_raw_max(rg_splat(c), a);
}

/* The instruction: b where either is NaN. */
RG_INLINE vf rg_raw_min(vf a, vf b) {
    return __builtin_ia32_minps256(a, b);
}

/* The smaller of a value and a constant that is no NaN; NaN where the value is NaN. */
RG_INLINE vf rg_minc(vf a, float c) {
    return rg_raw_min(rg_splat(c), a);
}

/* e^x = 2^n e^r, |r| <= ln 2 / 2; polynomial of Cephes' expf, 2^n in two factors so that the ends round to inf and 0. */
RG_INLINE vf rg_exp(vf x) {
    x = rg_minc(rg_maxc(x, -104.0f), 89.0f);
    const vf big = rg_splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    vf shifted = rg_fma(x, rg_splat(1.44269502f), big);
    vf n = shifted - big;
    vf r = rg_fma(n, rg_splat(-0.693359375f), x);
    r = rg_fma(n, rg_splat(2.12194440e-4f), r);
    vf p = rg_splat(1.98756912e-4f);
    p = rg_fma(p, r, rg_splat(1.39819994e-3f));
    p = rg_fma(p, r, rg_splat(8.33345205e-3f));
    p = rg_fma(p, r, rg_splat(4.16657962e-2f));
    p = rg_fma(p, r, rg_splat(1.66666657e-1f));
    p = rg_fma(p, r, rg_splat(0.5f));
    vf y = rg_fma(p, r * r, r) + rg_splat(1.0f);
    vi e = (vi)shifted - (vi)big, half = e >> 1;
    vf low = (vf)((half + 127) << 23), high = (vf)((e - half + 127) << 23);
    return y * low * high;
}

/* log x = e ln 2 + log m, sqrt(1/2) <= m < sqrt 2; polynomial of Cephes' logf. */
RG_INLINE vf rg_log(vf x) {
    vi e = ((vi)x - 0x3f3504f3) >> 23;
    vf f = (vf)((vi)x - (e << 23)) - rg_splat(1.0f), z = f * f;
    vf p = rg_splat(7.03768358e-2f);
    p = rg_fma(p, f, rg_splat(-1.15146102e-1f));
    p = rg_fma(p, f, rg_splat(1.16769984e-1f));
    p = rg_fma(p, f, rg_splat(-1.24201410e-1f));
    p = rg_fma(p, f, rg_splat(1.42493233e-1f));
    p = rg_fma(p, f, rg_splat(-1.66680574e-1f));
    p = rg_fma(p, f, rg_splat(2.00007141e-1f));
    p = rg_fma(p, f, rg_splat(-2.49999940e-1f));
    p = rg_fma(p, f, rg_splat(3.33333313e-1f));
    const vf big = rg_splat(12582912.0f);
    vf n = (vf)(e + 0x4b400000) - big; /* e as a float */
    vf low = rg_fma(n, rg_splat(-2.12194440e-4f), rg_fma(p, f * z, z * rg_splat(-0.5f)));
    vf y = rg_fma(n, rg_splat(0.693359375f), f + low);
    const vf zero = rg_splat(0.0f), inf = rg_splat(__builtin_inff());
    y = rg_blend(rg_mask_eq(x, inf), inf, y);
    y = rg_blend(rg_mask_eq(x, zero), -inf, y);
    return rg_blend(rg_mask_ge(x, zero), y, rg_splat(__builtin_nanf("")));
}

RG_INLINE vf rg_gt(vf a, vf b) {
    return rg_blend(rg_mask_gt(a, b), rg_splat(1.0f), rg_splat(0.0f));
}

RG_INLINE vf rg_eq(vf a, vf b) {
    return rg_blend(rg_mask_eq(a, b), rg_splat(1.0f), rg_splat(0.0f));
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

RG_INLINE float lanes_sum(vf v) {
    float sum = v[0];
    for (int i = 1; i < 8; i++) sum += v[i];
    return sum;
}

RG_INLINE float lanes_max(vf v) {
    float max = v[0];
    for (int i = 1; i < 8; i++) max = v[i] > max || v[i] != v[i] ? v[i] : max;
    return max;
}

/* 1 pixels of 16 images, 1 a tile. */
void rg_map_sum__f32_h1w1c10_3b1e4d60(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const float *const a0 = a[0];
    const float *const a1 = a[1];
    float *const a2 = a[2];
    float *const a3 = a[3];
    float *const a4 = a[4];
    float *const a5 = a[5];
    const int nb = tile / 1, p0 = tile % 1 * 1, p1 = rg_min_int(p0 + 1, 1);
    (void)ctl;
    (void)scratch;
    for (int c = 0; c < 8; c += 8) {
        rg_store(scratch + c, rg_splat(0.0f));
        rg_store(scratch + 8 + c, rg_splat(0.0f));
    }
    for (int c = 0; c < 16; c += 8) {
        rg_store(scratch + 16 + c, rg_splat(0.0f));
    }
    for (int p = p0; p < p1; p++) {
        const int h = p / 1, w = p % 1;
        (void)h;
        (void)w;
        for (int m = 0; m < 16; m += 4) {
            const int live = rg_live(ctl, nb * 16 + m, 4);
            vf row0[4];
            for (int r = 0; r < 4; r++) row0[r] = rg_splat(-__builtin_inff());
            vf row1[4];
            for (int r = 0; r < 4; r++) row1[r] = rg_splat(0.0f);
            for (int c = 0; c < 16; c += 8) {
                const vf e1 = rg_iota(c);
                for (int r = 0; r < 4; r++) {
                    const vf e0 = rg_load(a0 + ((long)nb * 16 + m + r) * 16 + c);
                    const vf e2 = rg_splat(a1[(long)nb * 16 + m + r]);
                    const vm m3 = rg_mask_eq(e1, e2);
                    const vf e5 = rg_blend(m3, e0, rg_splat(0.0f));
                    row0[r] = rg_max(row0[r], rg_blend(rg_mask_gt(rg_splat(1e+01f), rg_iota(c)), e0, rg_splat(-__builtin_inff())));
                    row1[r] = row1[r] + rg_blend(rg_mask_gt(rg_splat(1e+01f), rg_iota(c)), e5, rg_splat(0.0f));
                }
            }
            float sum0[4];
            for (int r = 0; r < 4; r++) sum0[r] = lanes_max(row0[r]);
            float sum1[4];
            for (int r = 0; r < 4; r++) sum1[r] = lanes_sum(row1[r]);
            vf row2[4];
            for (int r = 0; r < 4; r++) row2[r] = rg_splat(0.0f);
            vf row3[4];
            for (int r = 0; r < 4; r++) row3[r] = rg_splat(-__builtin_inff());
            for (int c = 0; c < 16; c += 8) {
                const vf e8 = rg_iota(c);
                for (int r = 0; r < 4; r++) {
                    const vf e0 = rg_load(a0 + ((long)nb * 16 + m + r) * 16 + c);
                    const vf e1 = rg_splat(sum0[r]);
                    const vf e2 = e0 - e1;
                    const vf e3 = rg_exp(e2);
                    const vf e4 = rg_splat(sum1[r]);
                    const vf e5 = rg_gt(e0, e4);
                    const vf e6 = rg_eq(e0, e4);
                    const vf e7 = rg_splat(a1[(long)nb * 16 + m + r]);
                    const vf e9 = rg_gt(e7, e8);
                    const vf e10 = e6 * e9;
                    const vf e11 = e5 + e10;
                    row2[r] = row2[r] + rg_blend(rg_mask_gt(rg_splat(1e+01f), rg_iota(c)), e3, rg_splat(0.0f));
                    row3[r] = rg_max(row3[r], rg_blend(rg_mask_gt(rg_splat(1e+01f), rg_iota(c)), e11, rg_splat(-__builtin_inff())));
                }
            }
            float sum2[4];
            for (int r = 0; r < 4; r++) sum2[r] = lanes_sum(row2[r]);
            float sum3[4];
            for (int r = 0; r < 4; r++) sum3[r] = lanes_max(row3[r]);
            for (int c = 0; c < 8; c += 8) {
                vf q0[4];
                vf q1[4];
                for (int r = 0; r < 4; r++) {
                    const vf e0 = rg_splat(sum2[r]);
                    const vf e1 = rg_log(e0);
                    const vf e2 = rg_splat(sum0[r]);
                    const vf e3 = e1 + e2;
                    const vf e4 = rg_splat(sum1[r]);
                    const vf e5 = e3 - e4;
                    const vf e7 = rg_splat(sum3[r]);
                    const vf e8 = rg_splat(1.0f) - e7;
                    q0[r] = e5;
                    q1[r] = e8;
                }
                rg_sum_rows(scratch + 0 + c, q0, live);
                rg_sum_rows(scratch + 8 + c, q1, live);
            }
            for (int c = 0; c < 16; c += 8) {
                const vf e6 = rg_iota(c);
                const vf e13 = rg_splat(ctl->scalar[1]);
                vf q0[4];
                for (int r = 0; r < 4; r++) {
                    const vf e0 = rg_load(a0 + ((long)nb * 16 + m + r) * 16 + c);
                    const vf e1 = rg_splat(sum0[r]);
                    const vf e2 = e0 - e1;
                    const vf e3 = rg_exp(e2);
                    const vf e4 = rg_splat(sum2[r]);
                    const vf e5 = e3 / e4;
                    const vf e7 = rg_splat(a1[(long)nb * 16 + m + r]);
                    const vm m8 = rg_mask_eq(e6, e7);
                    const vf e11 = rg_blend(m8, rg_splat(1.0f), rg_splat(0.0f));
                    const vf e12 = e5 - e11;
                    const vf e14 = e12 * e13;
                    rg_store(a4 + ((long)nb * 16 + m + r) * 16 + c, e14);
                    q0[r] = e14;
                }
                rg_sum_rows(scratch + 16 + c, q0, live);
            }
        }
    }
    for (int c = 0; c < 8; c += 8) {
        *(a2 + (long)tile * 1 + c) = rg_load(scratch + c)[0];
        *(a3 + (long)tile * 1 + c) = rg_load(scratch + 8 + c)[0];
    }
    for (int c = 0; c < 16; c += 8) {
        rg_store(a5 + (long)tile * 16 + c, rg_load(scratch + 16 + c));
    }
}
