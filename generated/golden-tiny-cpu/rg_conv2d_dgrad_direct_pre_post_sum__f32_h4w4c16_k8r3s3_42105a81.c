/* rg_conv2d_dgrad_direct_pre_post_sum__f32_h4w4c16_k8r3s3_42105a81
 *
 *   x0 = a4*(select(max(fma(a1 - a0, a4, a3), 0) > 0, a5, 0) - a2 - (a1 - a0)*a6)
 *   x1 = a8
 *   acc0[n, p, q, k] = sum over r, s, c of x0[n, (p - r + 1)/2, (q - s + 1)/2, c] a7[k, r, s, c]
 *     + x1[n, (p)/2, (q)/2, c] a9[k, r, s, c]
 *   a11 = select(a10 > 0, acc0, 0)
 *   a16 = sum over N H W of select(max(fma(a13 - a12, a15, a14), 0) > 0, select(a10 > 0, acc0, 0), 0)
 *   a18 = sum over N H W of select(max(fma(a13 - a12, a15, a14), 0) > 0, select(a10 > 0, acc0, 0), 0)*((a13 - a12)*a17)
 *
 *   a0   vec [16], read
 *   a1   act [N/16][4][4][16][16], read
 *   a2   vec [16], read
 *   a3   vec [16], read
 *   a4   vec [16], read
 *   a5   act [N/16][4][4][16][16], read
 *   a6   vec [16], read
 *   a7   weight [1][3][3][16][8], read
 *   a8   act [N/16][4][4][16][16], read
 *   a9   weight [1][1][1][16][8], read
 *   a10  act [N/16][8][8][16][8], read
 *   a11  act [N/16][8][8][16][8], written
 *   a12  vec [8], read
 *   a13  act [N/16][8][8][16][8], read
 *   a14  vec [8], read
 *   a15  vec [8], read
 *   a16  part [8 N/16][1][8], written
 *   a17  vec [8], read
 *   a18  part [8 N/16][1][8], written
 *
 * A block of 16 images: 0.1535 MB of arguments, 0.0006554 GFLOP (0.0005612 inside the image), 3.65 FLOP a byte.
 * Variant direct, avx2: chunk 1, pr 1, strip 1. Tiles: 8 a block of images, 0 more. Scratch: 8.062 KB a thread.
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

/* A row of taps: where its input row and its weights begin. */
struct row {
    const float *x, *w;
};

/* The taps of a row that exist: tap `first` reads input `at`, `count` of them follow one another. */
struct span {
    int first, at, count;
};

/* Rows of taps of output row p: h = (p - r + 1) / 2. */
RG_INLINE int find_rows0(struct row *row, const float *x, const float *w, int p) {
    int count = 0;
    for (int r = 0; r < 3; r++) {
        int h = p - r + 1;
        if (h < 0 || h % 2 != 0) continue;
        h /= 2;
        if (h >= 4) continue;
        row[count++] = (struct row){x + (long)(h % 2) * 1024, w + r * 384};
    }
    return count;
}

/* Taps of output column q: w = (q - s + 1) / 2. */
RG_INLINE struct span find_span0(int q) {
    struct span span = {0, 0, 0};
    for (int s = 0; s < 3; s++) {
        int w = q - s + 1;
        if (w < 0 || w % 2 != 0) continue;
        w /= 2;
        if (w >= 4) continue;
        if (span.count++ == 0) {
            span.first = s;
            span.at = w;
        }
    }
    return span;
}

/* Rows of taps of output row p: h = (p - r) / 2. */
RG_INLINE int find_rows1(struct row *row, const float *x, const float *w, int p) {
    int count = 0;
    for (int r = 0; r < 1; r++) {
        int h = p;
        if (h < 0 || h % 2 != 0) continue;
        h /= 2;
        if (h >= 4) continue;
        row[count++] = (struct row){x + (long)h * 1024, w + r * 128};
    }
    return count;
}

/* Taps of output column q: w = (q - s) / 2. */
RG_INLINE struct span find_span1(int q) {
    struct span span = {0, 0, 0};
    for (int s = 0; s < 1; s++) {
        int w = q;
        if (w < 0 || w % 2 != 0) continue;
        w /= 2;
        if (w >= 4) continue;
        if (span.count++ == 0) {
            span.first = s;
            span.at = w;
        }
    }
    return span;
}

/* First and last row of operand 0 that output row p reads. */
RG_INLINE int first_row0(int p) {
    return (rg_max_int(0, p - 1) + 1) / 2;
}

RG_INLINE int last_row0(int p) {
    return rg_min_int(3, (p + 1) / 2);
}

/* Row h of operand 0 of image block nb, into x. */
static void prologue0(float *const *a, const struct rg_ctrl *ctl, int nb, int h, float *x) {
    const float *const a0 = a[0];
    const float *const a1 = a[1];
    const float *const a2 = a[2];
    const float *const a3 = a[3];
    const float *const a4 = a[4];
    const float *const a5 = a[5];
    const float *const a6 = a[6];
    for (int w = 0; w < 4; w += 1)
        for (int c = 0; c < 16; c += 8) {
            const vf e0 = rg_load(a4 + c);
            const vf e2 = rg_load(a0 + c);
            const vf e4 = rg_load(a3 + c);
            const vf e11 = rg_load(a2 + c);
            const vf e13 = rg_load(a6 + c);
            for (int r = 0; r < 16; r++) {
                const vf e1 = rg_load(a1 + ((((long)nb * 4 + h) * 4 + w) * 16 + r) * 16 + c);
                const vf e3 = e1 - e2;
                const vf e5 = rg_fma(e3, e0, e4);
                const vf e7 = rg_maxc(e5, 0.0f);
                const vm m8 = rg_mask_gt(e7, rg_splat(0.0f));
                const vf e9 = rg_load(a5 + ((((long)nb * 4 + h) * 4 + w) * 16 + r) * 16 + c);
                const vf e10 = rg_blend(m8, e9, rg_splat(0.0f));
                const vf e12 = e10 - e11;
                const vf e14 = e3 * e13;
                const vf e15 = e12 - e14;
                const vf e16 = e0 * e15;
                rg_store(x + (w * 16 + r) * 16 + c, e16);
            }
        }
}

/* sum[r][v] = sum over taps and channels of x[image m + r] * w[output channels of vector v]. */
RG_INLINE void sum_taps(const struct row *row0, int rows0, struct span span0, const struct row *row1, int rows1, struct span span1, int m, vf (*sum)[1]) {
    vf s0_0 = {0};
    vf s1_0 = {0};
    vf s2_0 = {0};
    vf s3_0 = {0};
    vf s4_0 = {0};
    vf s5_0 = {0};
    vf s6_0 = {0};
    vf s7_0 = {0};
    for (int i = 0; i < rows0; i++) {
        const float *x = row0[i].x + (span0.at * 16 + m) * 16, *w = row0[i].w + span0.first * 128;
        for (int j = 0; j < span0.count; j++) {
            for (int c = 0; c < 16; c++) {
                const vf w0 = rg_load_kept(w + c * 8);
                const vf x0 = rg_splat(x[c]);
                s0_0 = rg_fma(x0, w0, s0_0);
                const vf x1 = rg_splat(x[c + 16]);
                s1_0 = rg_fma(x1, w0, s1_0);
                const vf x2 = rg_splat(x[c + 32]);
                s2_0 = rg_fma(x2, w0, s2_0);
                const vf x3 = rg_splat(x[c + 48]);
                s3_0 = rg_fma(x3, w0, s3_0);
                const vf x4 = rg_splat(x[c + 64]);
                s4_0 = rg_fma(x4, w0, s4_0);
                const vf x5 = rg_splat(x[c + 80]);
                s5_0 = rg_fma(x5, w0, s5_0);
                const vf x6 = rg_splat(x[c + 96]);
                s6_0 = rg_fma(x6, w0, s6_0);
                const vf x7 = rg_splat(x[c + 112]);
                s7_0 = rg_fma(x7, w0, s7_0);
            }
            x -= 256;
            w += 256;
        }
    }
    for (int i = 0; i < rows1; i++) {
        const float *x = row1[i].x + (span1.at * 16 + m) * 16, *w = row1[i].w + span1.first * 128;
        for (int j = 0; j < span1.count; j++) {
            for (int c = 0; c < 16; c++) {
                const vf w0 = rg_load_kept(w + c * 8);
                const vf x0 = rg_splat(x[c]);
                s0_0 = rg_fma(x0, w0, s0_0);
                const vf x1 = rg_splat(x[c + 16]);
                s1_0 = rg_fma(x1, w0, s1_0);
                const vf x2 = rg_splat(x[c + 32]);
                s2_0 = rg_fma(x2, w0, s2_0);
                const vf x3 = rg_splat(x[c + 48]);
                s3_0 = rg_fma(x3, w0, s3_0);
                const vf x4 = rg_splat(x[c + 64]);
                s4_0 = rg_fma(x4, w0, s4_0);
                const vf x5 = rg_splat(x[c + 80]);
                s5_0 = rg_fma(x5, w0, s5_0);
                const vf x6 = rg_splat(x[c + 96]);
                s6_0 = rg_fma(x6, w0, s6_0);
                const vf x7 = rg_splat(x[c + 112]);
                s7_0 = rg_fma(x7, w0, s7_0);
            }
            x -= 256;
            w += 256;
        }
    }
    sum[0][0] = s0_0;
    sum[1][0] = s1_0;
    sum[2][0] = s2_0;
    sum[3][0] = s3_0;
    sum[4][0] = s4_0;
    sum[5][0] = s5_0;
    sum[6][0] = s6_0;
    sum[7][0] = s7_0;
}

/* 8 images from m on, 8 output channels from k on, of output pixel (p, q). */
RG_INLINE void epilogue(float *const *a, const struct rg_ctrl *ctl, int nb, int p, int q, int m, int k, float *state, int first, vf (*sum)[1]) {
    const float *const a10 = a[10];
    float *const a11 = a[11];
    const float *const a12 = a[12];
    const float *const a13 = a[13];
    const float *const a14 = a[14];
    const float *const a15 = a[15];
    const float *const a17 = a[17];
    for (int v = 0; v < 1; v++) {
        const int c = k + v * 8;
        const vf e6 = rg_load(a12 + c);
        const vf e8 = rg_load(a15 + c);
        const vf e9 = rg_load(a14 + c);
        const vf e14 = rg_load(a17 + c);
        vf q0[8];
        vf q1[8];
        for (int r = 0; r < 8; r++) {
            const vf e0 = rg_load(a10 + ((((long)nb * 8 + p) * 8 + q) * 16 + m + r) * 8 + c);
            const vm m2 = rg_mask_gt(e0, rg_splat(0.0f));
            const vf e3 = sum[r][v];
            const vf e4 = rg_blend(m2, e3, rg_splat(0.0f));
            const vf e5 = rg_load(a13 + ((((long)nb * 8 + p) * 8 + q) * 16 + m + r) * 8 + c);
            const vf e7 = e5 - e6;
            const vf e10 = rg_fma(e7, e8, e9);
            const vf e11 = rg_maxc(e10, 0.0f);
            const vm m12 = rg_mask_gt(e11, rg_splat(0.0f));
            const vf e13 = rg_blend(m12, e4, rg_splat(0.0f));
            const vf e15 = e7 * e14;
            const vf e16 = e13 * e15;
            rg_store(a11 + ((((long)nb * 8 + p) * 8 + q) * 16 + m + r) * 8 + c, e4);
            q0[r] = e13;
            q1[r] = e16;
        }
        rg_sum_rows(state + c, q0, rg_live(ctl, nb * 16 + m, 8));
        rg_sum_rows(state + 8 + c, q1, rg_live(ctl, nb * 16 + m, 8));
    }
}

void rg_conv2d_dgrad_direct_pre_post_sum__f32_h4w4c16_k8r3s3_42105a81(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const int nb = tile / 8, strip = tile % 8, slice = 0;
    const int p_first = strip * 1, p_last = rg_min_int(8, p_first + 1);
    const int k_first = slice * 8, k_last = rg_min_int(8, k_first + 8);
    float *const x0 = scratch; /* ring of 2 rows */
    const float *const x1 = a[8] + (long)nb * 4096;
    int next0 = first_row0(p_first);
    for (int c = 0; c < 8; c += 8) {
        rg_store(scratch + 2048 + c, rg_splat(0.0f));
        rg_store(scratch + 2056 + c, rg_splat(0.0f));
    }
    for (int p0 = p_first; p0 < p_last; p0 += 1) {
        const int p1 = rg_min_int(p_last, p0 + 1);
        for (const int last = last_row0(p1 - 1); next0 <= last; next0 += 1)
            prologue0(a, ctl, nb, next0, x0 + (long)(next0 % 2) * 1024);
        for (int k = k_first; k < k_last; k += 8)
            for (int p = p0; p < p1; p++) {
                struct row row0[3];
                const int rows0 = find_rows0(row0, x0, a[7] + (long)k * 144, p);
                struct row row1[1];
                const int rows1 = find_rows1(row1, x1, a[9] + (long)k * 16, p);
                for (int q = 0; q < 8; q++) {
                    const struct span span0 = find_span0(q);
                    const struct span span1 = find_span1(q);
                    for (int m = 0; m < 16; m += 8) {
                        vf sum[8][1];
                        sum_taps(row0, rows0, span0, row1, rows1, span1, m, sum);
                        epilogue(a, ctl, nb, p, q, m, k, scratch + 2048, p == p_first && q == 0 && m == 0, sum);
                    }
                }
            }
    }
    for (int c = k_first; c < k_last; c += 8) {
        float *const a16 = a[16];
        float *const a18 = a[18];
        rg_store(a16 + (long)(nb * 8 + strip) * 8 + c, rg_load(scratch + 2048 + c));
        rg_store(a18 + (long)(nb * 8 + strip) * 8 + c, rg_load(scratch + 2056 + c));
    }
}
