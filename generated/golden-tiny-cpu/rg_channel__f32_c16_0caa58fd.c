/* rg_channel__f32_c16_0caa58fd
 *
 *   fin0 = mean of the parts a0
 *   fin1 = m2 of the parts a0
 *   a1 = fin0
 *   a2 = rsqrt(fin1*(invcount*0.0625) + 1e-05)
 *   a4 = a3*rsqrt(fin1*(invcount*0.0625) + 1e-05)
 *   a6 = fma(fin0, 0.1, a5*0.9)
 *   a8 = fma(fin1/max(count*16 - 1, 1), 0.1, a7*0.9)
 *
 *   a0   part [2 N/16][3][16], read
 *   a1   vec [16], written
 *   a2   vec [16], written
 *   a3   vec [16], read
 *   a4   vec [16], written
 *   a5   vec [16], read
 *   a6   vec [16], written
 *   a7   vec [16], read
 *   a8   vec [16], written
 *
 * A block of 16 images: 0.000896 MB of arguments.
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

RG_INLINE vf rg_sqrt(vf a) {
    return __builtin_ia32_sqrtps256(a);
}

/* Two correctly rounded steps, so that every target gives the same bits. */
RG_INLINE vf rg_rsqrt(vf a) {
    return rg_splat(1.0f) / rg_sqrt(a);
}

RG_INLINE int rg_min_int(int a, int b) {
    return a < b ? a : b;
}

/* Chan's rule: (n, mean, m2) of two sets together; a part without values adds nothing. */
RG_INLINE void merge_moments(vf *n, vf *mean, vf *m2, vf part_n, vf part_mean, vf part_m2) {
    const vf zero = rg_splat(0.0f);
    const vm any = rg_mask_gt(part_n, zero);
    const vf count = *n + part_n;
    const vf share = rg_blend(any, part_n / count, zero);
    const vf delta = rg_blend(any, part_mean - *mean, zero);
    *mean = rg_fma(delta, share, *mean);
    *m2 += rg_fma(delta * delta, *n * share, rg_blend(any, part_m2, zero));
    *n = count;
}

/* A run of 16 elements, 8 a tile. */
void rg_channel__f32_c16_0caa58fd(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const float *const a0 = a[0];
    float *const a1 = a[1];
    float *const a2 = a[2];
    const float *const a3 = a[3];
    float *const a4 = a[4];
    const float *const a5 = a[5];
    float *const a6 = a[6];
    const float *const a7 = a[7];
    float *const a8 = a[8];
    (void)ctl;
    (void)scratch;
    const vf e2 = rg_splat(ctl->scalar[1]);
    const vf e4 = e2 * rg_splat(0.0625f);
    const vf e16 = rg_splat(ctl->scalar[0]);
    const vf e18 = e16 * rg_splat(16.0f);
    const vf e20 = e18 - rg_splat(1.0f);
    const vf e21 = rg_maxc(e20, 1.0f);
    const int first = tile * 8, last = rg_min_int(first + 8, 16);
    for (int c = first; c < last; c += 8) {
        vf n0 = rg_splat(0.0f), mean0 = n0, m20 = n0;
        for (long p = 0; p < ((long)ctl->blocks) * 2; p++)
            merge_moments(&n0, &mean0, &m20, rg_load(a0 + p * 48L + c), rg_load(a0 + p * 48L + 16 + c),
                          rg_load(a0 + p * 48L + 32 + c));
        const vf e0 = mean0;
        const vf e1 = m20;
        const vf e5 = e1 * e4;
        const vf e7 = e5 + rg_splat(1e-05f);
        const vf e8 = rg_rsqrt(e7);
        const vf e9 = rg_load(a3 + c);
        const vf e10 = e9 * e8;
        const vf e12 = rg_load(a5 + c);
        const vf e14 = e12 * rg_splat(0.9f);
        const vf e15 = rg_fma(e0, rg_splat(0.1f), e14);
        const vf e22 = e1 / e21;
        const vf e23 = rg_load(a7 + c);
        const vf e24 = e23 * rg_splat(0.9f);
        const vf e25 = rg_fma(e22, rg_splat(0.1f), e24);
        rg_store(a1 + c, e0);
        rg_store(a2 + c, e8);
        rg_store(a4 + c, e10);
        rg_store(a6 + c, e15);
        rg_store(a8 + c, e25);
    }
}
