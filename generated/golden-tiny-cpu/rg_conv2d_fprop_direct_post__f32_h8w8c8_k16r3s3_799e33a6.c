/* rg_conv2d_fprop_direct_post__f32_h8w8c8_k16r3s3_799e33a6
 *
 *   x0 = a0
 *   acc0[n, p, q, k] = sum over r, s, c of x0[n, 2 p + r - 1, 2 q + s - 1, c] a1[k, r, s, c]
 *   a5 = max(fma(acc0 - a2, a4, a3), 0)
 *
 *   a0   act [N/16][8][8][16][8], read
 *   a1   weight [1][3][3][8][16], read
 *   a2   vec [16], read
 *   a3   vec [16], read
 *   a4   vec [16], read
 *   a5   act [N/16][4][4][16][16], written
 *
 * A block of 16 images: 0.05395 MB of arguments, 0.0005898 GFLOP (0.0004956 inside the image), 9.19 FLOP a byte.
 * Variant direct, avx2: chunk 1, pr 1, strip 2. Tiles: 2 a block of images, 0 more. Scratch: 0 KB a thread.
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

/* A vector that several operations use: it is loaded once (compilers may prefer to read it again as each one's operand). */
RG_INLINE vf rg_load_kept(const float *p) {
    vf v = *(const vf_any *)p;
    __asm__("" : "+x"(v));
    return v;
}

RG_INLINE vf rg_splat(float x) {
    return (vf){x, x, x, x, x, x, x, x};
}

/* a * b + c, rounded once: the only fused operation. */
RG_INLINE vf rg_fma(vf a, vf b, vf c) {
    return __builtin_ia32_vfmaddps256(a, b, c);
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

/* A row of taps: where its input row and its weights begin. */
struct row {
    const float *x, *w;
};

/* The taps of a row that exist: tap `first` reads input `at`, `count` of them follow one another. */
struct span {
    int first, at, count;
};

/* Rows of taps of output row p: h = p * 2 + r - 1. */
RG_INLINE int find_rows0(struct row *row, const float *x, const float *w, int p) {
    int count = 0;
    for (int r = 0; r < 3; r++) {
        int h = p * 2 + r - 1;
        if (h < 0 || h >= 8) continue;
        row[count++] = (struct row){x + (long)h * 1024, w + r * 384};
    }
    return count;
}

/* Taps of output column q: w = q * 2 + s - 1. */
RG_INLINE struct span find_span0(int q) {
    struct span span = {0, 0, 0};
    for (int s = 0; s < 3; s++) {
        int w = q * 2 + s - 1;
        if (w < 0 || w >= 8) continue;
        if (span.count++ == 0) {
            span.first = s;
            span.at = w;
        }
    }
    return span;
}

/* sum[r][v] = sum over taps and channels of x[image m + r] * w[output channels of vector v]. */
RG_INLINE void sum_taps(const struct row *row0, int rows0, struct span span0, int m, vf (*sum)[2]) {
    vf s0_0 = {0}, s0_1 = {0};
    vf s1_0 = {0}, s1_1 = {0};
    vf s2_0 = {0}, s2_1 = {0};
    vf s3_0 = {0}, s3_1 = {0};
    for (int i = 0; i < rows0; i++) {
        const float *x = row0[i].x + (span0.at * 16 + m) * 8, *w = row0[i].w + span0.first * 128;
        for (int j = 0; j < span0.count; j++) {
            for (int c = 0; c < 8; c++) {
                const vf w0 = rg_load_kept(w + c * 16);
                const vf w1 = rg_load_kept(w + c * 16 + 8);
                const vf x0 = rg_splat(x[c]);
                s0_0 = rg_fma(x0, w0, s0_0); s0_1 = rg_fma(x0, w1, s0_1);
                const vf x1 = rg_splat(x[c + 8]);
                s1_0 = rg_fma(x1, w0, s1_0); s1_1 = rg_fma(x1, w1, s1_1);
                const vf x2 = rg_splat(x[c + 16]);
                s2_0 = rg_fma(x2, w0, s2_0); s2_1 = rg_fma(x2, w1, s2_1);
                const vf x3 = rg_splat(x[c + 24]);
                s3_0 = rg_fma(x3, w0, s3_0); s3_1 = rg_fma(x3, w1, s3_1);
            }
            x += 128;
            w += 128;
        }
    }
    sum[0][0] = s0_0; sum[0][1] = s0_1;
    sum[1][0] = s1_0; sum[1][1] = s1_1;
    sum[2][0] = s2_0; sum[2][1] = s2_1;
    sum[3][0] = s3_0; sum[3][1] = s3_1;
}

/* 4 images from m on, 16 output channels from k on, of output pixel (p, q). */
RG_INLINE void epilogue(float *const *a, const struct rg_ctrl *ctl, int nb, int p, int q, int m, int k, vf (*sum)[2]) {
    const float *const a2 = a[2];
    const float *const a3 = a[3];
    const float *const a4 = a[4];
    float *const a5 = a[5];
    for (int v = 0; v < 2; v++) {
        const int c = k + v * 8;
        const vf e1 = rg_load(a2 + c);
        const vf e3 = rg_load(a4 + c);
        const vf e4 = rg_load(a3 + c);
        for (int r = 0; r < 4; r++) {
            const vf e0 = sum[r][v];
            const vf e2 = e0 - e1;
            const vf e5 = rg_fma(e2, e3, e4);
            const vf e7 = rg_maxc(e5, 0.0f);
            rg_store(a5 + ((((long)nb * 4 + p) * 4 + q) * 16 + m + r) * 16 + c, e7);
        }
    }
}

void rg_conv2d_fprop_direct_post__f32_h8w8c8_k16r3s3_799e33a6(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const int nb = tile / 2, strip = tile % 2, slice = 0;
    const int p_first = strip * 2, p_last = rg_min_int(4, p_first + 2);
    const int k_first = slice * 16, k_last = rg_min_int(16, k_first + 16);
    const float *const x0 = a[0] + (long)nb * 8192;
    for (int p0 = p_first; p0 < p_last; p0 += 1) {
        const int p1 = rg_min_int(p_last, p0 + 1);
        for (int k = k_first; k < k_last; k += 16)
            for (int p = p0; p < p1; p++) {
                struct row row0[3];
                const int rows0 = find_rows0(row0, x0, a[1] + (long)k * 72, p);
                for (int q = 0; q < 4; q++) {
                    const struct span span0 = find_span0(q);
                    for (int m = 0; m < 16; m += 4) {
                        vf sum[4][2];
                        sum_taps(row0, rows0, span0, m, sum);
                        epilogue(a, ctl, nb, p, q, m, k, sum);
                    }
                }
            }
    }
}
