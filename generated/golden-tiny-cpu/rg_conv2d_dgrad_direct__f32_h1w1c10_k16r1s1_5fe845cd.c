/* rg_conv2d_dgrad_direct__f32_h1w1c10_k16r1s1_5fe845cd
 *
 *   x0 = a0
 *   acc0[n, p, q, k] = sum over r, s, c of x0[n, p, q, c] a1[k, r, s, c]
 *   a2 = acc0
 *
 *   a0   act [N/16][1][1][16][16], read
 *   a1   weight [1][1][1][10][16], read
 *   a2   act [N/16][1][1][16][16], written
 *
 * A block of 16 images: 0.002688 MB of arguments, 5.12e-06 GFLOP (5.12e-06 inside the image), 1.9 FLOP a byte.
 * Variant direct, avx2: chunk 1, pr 1, strip 1. Tiles: 1 a block of images, 0 more. Scratch: 0 KB a thread.
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

/* Rows of taps of output row p: h = p - r. */
RG_INLINE int find_rows0(struct row *row, const float *x, const float *w, int p) {
    int count = 0;
    for (int r = 0; r < 1; r++) {
        int h = p;
        if (h < 0 || h >= 1) continue;
        row[count++] = (struct row){x + (long)h * 256, w + r * 160};
    }
    return count;
}

/* Taps of output column q: w = q - s. */
RG_INLINE struct span find_span0(int q) {
    struct span span = {0, 0, 0};
    for (int s = 0; s < 1; s++) {
        int w = q;
        if (w < 0 || w >= 1) continue;
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
        const float *x = row0[i].x + (span0.at * 16 + m) * 16, *w = row0[i].w + span0.first * 160;
        for (int j = 0; j < span0.count; j++) {
            for (int c = 0; c < 10; c++) {
                const vf w0 = rg_load_kept(w + c * 16);
                const vf w1 = rg_load_kept(w + c * 16 + 8);
                const vf x0 = rg_splat(x[c]);
                s0_0 = rg_fma(x0, w0, s0_0); s0_1 = rg_fma(x0, w1, s0_1);
                const vf x1 = rg_splat(x[c + 16]);
                s1_0 = rg_fma(x1, w0, s1_0); s1_1 = rg_fma(x1, w1, s1_1);
                const vf x2 = rg_splat(x[c + 32]);
                s2_0 = rg_fma(x2, w0, s2_0); s2_1 = rg_fma(x2, w1, s2_1);
                const vf x3 = rg_splat(x[c + 48]);
                s3_0 = rg_fma(x3, w0, s3_0); s3_1 = rg_fma(x3, w1, s3_1);
            }
            x -= 256;
            w += 160;
        }
    }
    sum[0][0] = s0_0; sum[0][1] = s0_1;
    sum[1][0] = s1_0; sum[1][1] = s1_1;
    sum[2][0] = s2_0; sum[2][1] = s2_1;
    sum[3][0] = s3_0; sum[3][1] = s3_1;
}

/* 4 images from m on, 16 output channels from k on, of output pixel (p, q). */
RG_INLINE void epilogue(float *const *a, const struct rg_ctrl *ctl, int nb, int p, int q, int m, int k, vf (*sum)[2]) {
    float *const a2 = a[2];
    for (int v = 0; v < 2; v++) {
        const int c = k + v * 8;
        for (int r = 0; r < 4; r++) {
            const vf e0 = sum[r][v];
            rg_store(a2 + ((long)nb * 16 + m + r) * 16 + c, e0);
        }
    }
}

void rg_conv2d_dgrad_direct__f32_h1w1c10_k16r1s1_5fe845cd(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const int nb = tile, strip = 0, slice = 0;
    const int p_first = strip * 1, p_last = rg_min_int(1, p_first + 1);
    const int k_first = slice * 16, k_last = rg_min_int(16, k_first + 16);
    const float *const x0 = a[0] + (long)nb * 256;
    for (int p0 = p_first; p0 < p_last; p0 += 1) {
        const int p1 = rg_min_int(p_last, p0 + 1);
        for (int k = k_first; k < k_last; k += 16)
            for (int p = p0; p < p1; p++) {
                struct row row0[1];
                const int rows0 = find_rows0(row0, x0, a[1] + (long)k * 10, p);
                for (int q = 0; q < 1; q++) {
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
