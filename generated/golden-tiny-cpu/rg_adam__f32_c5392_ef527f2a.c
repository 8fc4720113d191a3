/* rg_adam__f32_c5392_ef527f2a
 *
 *   a4 = a0 - lr/bc1*(fma(0.1, a1 - a2, a2)/(sqrt(fma(0.999, a3, 0.001*(a1*a1))/bc2) + 1e-08))
 *   a5 = fma(0.1, a1 - a2, a2)
 *   a6 = fma(0.999, a3, 0.001*(a1*a1))
 *
 *   a0   flat [5392], read
 *   a1   flat [5392], read
 *   a2   flat [5392], read
 *   a3   flat [5392], read
 *   a4   flat [5392], written
 *   a5   flat [5392], written
 *   a6   flat [5392], written
 *
 * A block of 16 images: 0.151 MB of arguments.
 * Variant vec, avx2: chunk 4096. Tiles: 0 a block of images, 2 more. Scratch: 0 KB a thread.
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

RG_INLINE vf rg_sqrt(vf a) {
    return __builtin_ia32_sqrtps256(a);
}

RG_INLINE int rg_min_int(int a, int b) {
    return a < b ? a : b;
}

/* A run of 5392 elements, 4096 a tile. */
void rg_adam__f32_c5392_ef527f2a(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const float *const a0 = a[0];
    const float *const a1 = a[1];
    const float *const a2 = a[2];
    const float *const a3 = a[3];
    float *const a4 = a[4];
    float *const a5 = a[5];
    float *const a6 = a[6];
    (void)ctl;
    (void)scratch;
    const vf e12 = rg_splat(ctl->scalar[4]);
    const vf e17 = rg_splat(ctl->scalar[2]);
    const vf e18 = rg_splat(ctl->scalar[3]);
    const vf e19 = e17 / e18;
    const int first = tile * 4096, last = rg_min_int(first + 4096, 5392);
    for (int c = first; c < last; c += 8) {
        const vf e0 = rg_load(a0 + c);
        const vf e1 = rg_load(a1 + c);
        const vf e2 = rg_load(a2 + c);
        const vf e3 = rg_load(a3 + c);
        const vf e4 = e1 - e2;
        const vf e6 = rg_fma(rg_splat(0.1f), e4, e2);
        const vf e7 = e1 * e1;
        const vf e9 = rg_splat(0.001f) * e7;
        const vf e11 = rg_fma(rg_splat(0.999f), e3, e9);
        const vf e13 = e11 / e12;
        const vf e14 = rg_sqrt(e13);
        const vf e16 = e14 + rg_splat(1e-08f);
        const vf e20 = e6 / e16;
        const vf e21 = e19 * e20;
        const vf e22 = e0 - e21;
        rg_store(a4 + c, e22);
        rg_store(a5 + c, e6);
        rg_store(a6 + c, e11);
    }
}
