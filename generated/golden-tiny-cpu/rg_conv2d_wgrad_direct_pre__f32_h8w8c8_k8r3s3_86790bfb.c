/* rg_conv2d_wgrad_direct_pre__f32_h8w8c8_k8r3s3_86790bfb
 *
 *   x0 = a0
 *   x1 = a5*(select(max(fma(a2 - a1, a5, a4), 0) > 0, a6, 0) - a3 - (a2 - a1)*a7)
 *   a8[k, r, s, c] = sum over n, p, q of x0[n, p + r - 1, q + s - 1, c] x1[n, p, q, k]
 *
 *   a0   act [N/16][8][8][16][8], read
 *   a1   vec [8], read
 *   a2   act [N/16][8][8][16][8], read
 *   a3   vec [8], read
 *   a4   vec [8], read
 *   a5   vec [8], read
 *   a6   act [N/16][8][8][16][8], read
 *   a7   vec [8], read
 *   a8   weight [1][3][3][8][8], written
 *
 * A block of 16 images: 0.1008 MB of arguments, 0.00118 GFLOP (0.0009912 inside the image), 9.84 FLOP a byte.
 * Variant direct, avx2: cc 8, g 1, kc 8, pr 8, split 0. Tiles: 0 a block of images, 1 more. Scratch: 82 KB a thread.
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


/* Weight gradient: a tile takes 8 output channels and 8 input channels of all taps. Strips of 8 row(s) of dy,
 * 1 image block(s) at once, are packed with the rows of x that they meet, prologues applied: then every pair of runs of
 * pixels is contiguous. */

/* Outputs for which a row tap exists; a column tap: its first column in the panel, and those outputs. */
static const short row_tap[3][2] = {
    {1, 8},
    {0, 8},
    {0, 7},
};
static const short col_tap[3][3] = {
    {0, 1, 8},
    {1, 0, 8},
    {2, 0, 7},
};

/* Row u of x, channels c0 to c1: vectors of 16 images side by side, columns by phase. */
static void pack_x(float *const *a, const struct rg_ctrl *ctl, int nb, int c0, int c1, int u, int own, float *to) {
    const float *const a0 = a[0];
    const int h = u - 1, live = rg_live(ctl, nb * 16, 16);
    for (int i = 1; i < 9; i++) {
        const int w = i - 1;
        for (int c = c0; c < c1; c += 8) {
            float *const to_c = to + (c - c0) / 8 * 12800 + (i + 0) * 128;
            for (int r = 0; r < 16; r++) {
                const vf e0 = rg_load(a0 + ((((long)nb * 8 + h) * 8 + w) * 16 + r) * 8 + c);
                rg_store(to_c + r * 8, e0);
            }
            for (int r = live; r < 16; r++) rg_store(to_c + r * 8, rg_splat(0.0f));
        }
        (void)w;
    }
    (void)h, (void)own;
}

/* Row p of dy, output channels k0 to k1. */
static void pack_dy(float *const *a, const struct rg_ctrl *ctl, int nb, int k0, int k1, int h, int own, float *to) {
    const float *const a1 = a[1];
    const float *const a2 = a[2];
    const float *const a3 = a[3];
    const float *const a4 = a[4];
    const float *const a5 = a[5];
    const float *const a6 = a[6];
    const float *const a7 = a[7];
    const int live = rg_live(ctl, nb * 16, 16);
    for (int w = 0; w < 8; w++)
        for (int c = k0; c < k1; c += 8) {
            float *const to_c = to + (c - k0) / 8 * 8192 + w * 128 + (c - k0) % 8;
            const vf e0 = rg_load(a5 + c);
            const vf e2 = rg_load(a1 + c);
            const vf e4 = rg_load(a4 + c);
            const vf e11 = rg_load(a3 + c);
            const vf e13 = rg_load(a7 + c);
            for (int r = 0; r < 16; r++) {
                const vf e1 = rg_load(a2 + ((((long)nb * 8 + h) * 8 + w) * 16 + r) * 8 + c);
                const vf e3 = e1 - e2;
                const vf e5 = rg_fma(e3, e0, e4);
                const vf e7 = rg_maxc(e5, 0.0f);
                const vm m8 = rg_mask_gt(e7, rg_splat(0.0f));
                const vf e9 = rg_load(a6 + ((((long)nb * 8 + h) * 8 + w) * 16 + r) * 8 + c);
                const vf e10 = rg_blend(m8, e9, rg_splat(0.0f));
                const vf e12 = e10 - e11;
                const vf e14 = e3 * e13;
                const vf e15 = e12 - e14;
                const vf e16 = e0 * e15;
                rg_store(to_c + r * 8, e16);
            }
            for (int r = live; r < 16; r++) rg_store(to_c + r * 8, rg_splat(0.0f));
        }
    (void)h, (void)own;
}

/* w[j][..] += x[j] * y[..] over n pixels' images, `lines` rows and `blocks` image blocks, for 8 channels of x. */
static __attribute__((noinline)) void add_8(const float *x, const float *y, float *w, int blocks, int u, int lines,
                                           int n) {
    vf sum[8][1];
    for (int j = 0; j < 8; j++)
        for (int i = 0; i < 1; i++) sum[j][i] = rg_load(w + j * 8 + i * 8);
    for (int b = 0; b < blocks; b++)
        for (int line = 0; line < lines; line++) {
            const float *xn = x + b * 12800 + (u + line) * 1280;
            const float *yn = y + b * 8192 + line * 1024;
            for (int r = 0; r < n * 16; r++, xn += 8, yn += 8) {
                vf yr[1];
                for (int i = 0; i < 1; i++) yr[i] = rg_load(yn + i * 8);
                for (int j = 0; j < 8; j++) {
                    const vf xr = rg_splat(xn[j]);
                    for (int i = 0; i < 1; i++) sum[j][i] = rg_fma(xr, yr[i], sum[j][i]);
                }
            }
        }
    for (int j = 0; j < 8; j++)
        for (int i = 0; i < 1; i++) rg_store(w + j * 8 + i * 8, sum[j][i]);
}

/* All taps of one block of output channels, for the rows p0 to p1. */
static void add_taps(const float *xs, const float *ys, float *w, int channels, int blocks, int p0, int p1) {
    for (int r = 0; r < 3; r++) {
        const int first = rg_max_int(p0, row_tap[r][0]), lines = rg_min_int(p1, row_tap[r][1]) - first;
        if (lines <= 0) continue;
        for (int s = 0; s < 3; s++) {
            const int q = col_tap[s][1], n = col_tap[s][2] - q;
            if (n <= 0) continue;
            const float *x = xs + (col_tap[s][0] + q) * 128;
            const float *y = ys + (first - p0) * 1024 + q * 128;
            float *to = w + (r * 3 + s) * 64;
            const int u = first + r;
            int c = 0;
            for (; c + 8 <= channels; c += 8)
                add_8(x + c, y, to + c * 8, blocks, u, lines, n);
        }
    }
}

static void clear(float *w, int channels) {
    for (int t = 0; t < 9; t++)
        for (int i = 0; i < channels * 8; i += 8) rg_store(w + t * 64 + i, rg_splat(0.0f));
}

void rg_conv2d_wgrad_direct_pre__f32_h8w8c8_k8r3s3_86790bfb(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const int chunk = tile, first = 0, last = ctl->blocks;
    float *const dw = a[8];
    const int k0 = chunk / 1 * 8, k1 = rg_min_int(k0 + 8, 8);
    const int c0 = chunk % 1 * 8, c1 = rg_min_int(c0 + 8, 8);
    float *const xs = scratch, *const ys = scratch + 12800;
    for (int k = k0; k < k1; k += 8) clear(dw + (long)k * 72 + c0 * 8, c1 - c0);
    for (int nb = first; nb < last; nb += 1) {
        const int blocks = rg_min_int(1, last - nb);
        int packed = 1;
        for (int p0 = 0; p0 < 8; p0 += 8) {
            const int p1 = rg_min_int(p0 + 8, 8);
            const int end = (p1 - 1) + 3;
            const int next = rg_max_int(packed, rg_min_int(9, end));
            for (int b = 0; b < blocks; b++) {
                for (int u = packed; u < next; u++)
                    pack_x(a, ctl, nb + b, c0, c1, u, k0 == 0,
                           xs + b * 12800 + u * 1280);
                for (int p = p0; p < p1; p++)
                    pack_dy(a, ctl, nb + b, k0, k1, p, c0 == 0, ys + b * 8192 + (p - p0) * 1024);
            }
            packed = next;
            for (int k = k0; k < k1; k += 8)
                add_taps(xs, ys + (k - k0) / 8 * 8192, dw + (long)k * 72 + c0 * 8,
                         c1 - c0, blocks, p0, p1);
        }
    }
}
