/* rg_channel__f32_c16_0917ef08
 *
 *   a2 = a1*rsqrt(a0 + 1e-05)
 *   a5 = a4*rsqrt(a3 + 1e-05)
 *
 *   a0   vec [16], read
 *   a1   vec [16], read
 *   a2   vec [16], written
 *   a3   vec [16], read
 *   a4   vec [16], read
 *   a5   vec [16], written
 *
 * A block of 16 images: 0.000384 MB of arguments.
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

/* A run of 16 elements, 8 a tile. */
void rg_channel__f32_c16_0917ef08(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const float *const a0 = a[0];
    const float *const a1 = a[1];
    float *const a2 = a[2];
    const float *const a3 = a[3];
    const float *const a4 = a[4];
    float *const a5 = a[5];
    (void)ctl;
    (void)scratch;
    const int first = tile * 8, last = rg_min_int(first + 8, 16);
    for (int c = first; c < last; c += 8) {
        const vf e0 = rg_load(a1 + c);
        const vf e1 = rg_load(a0 + c);
        const vf e3 = e1 + rg_splat(1e-05f);
        const vf e4 = rg_rsqrt(e3);
        const vf e5 = e0 * e4;
        const vf e6 = rg_load(a4 + c);
        const vf e7 = rg_load(a3 + c);
        const vf e8 = e7 + rg_splat(1e-05f);
        const vf e9 = rg_rsqrt(e8);
        const vf e10 = e6 * e9;
        rg_store(a2 + c, e5);
        rg_store(a5 + c, e10);
    }
}
