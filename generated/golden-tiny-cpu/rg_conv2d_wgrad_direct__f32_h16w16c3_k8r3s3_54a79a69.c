/* rg_conv2d_wgrad_direct__f32_h16w16c3_k8r3s3_54a79a69
 *
 *   x0 = a0
 *   x1 = a1
 *   a2[k, r, s, c] = sum over n, p, q of x0[n, p + r - 1, q + s - 1, c] x1[n, p, q, k]
 *
 *   a0   act [N/16][16][16][16][3], read
 *   a1   act [N/16][16][16][16][8], read
 *   a2   weight [1][3][3][3][8], written
 *
 * A block of 16 images: 0.1811 MB of arguments, 0.001769 GFLOP (0.001625 inside the image), 8.97 FLOP a byte.
 * Variant direct, avx2: cc 9, g 1, kc 8, pr 8, split 0. Tiles: 0 a block of images, 1 more. Scratch: 184 KB a thread.
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


/* Weight gradient: a tile takes 8 output channels and 9 (column tap, channel) pairs of all taps. Strips of 8 row(s) of dy,
 * 1 image block(s) at once, are packed with the rows of x that they meet, prologues applied: then every pair of runs of
 * pixels is contiguous. */

/* Outputs for which a row tap exists; a column tap: its first column in the panel, and those outputs. */
static const short row_tap[3][2] = {
    {1, 16},
    {0, 16},
    {0, 15},
};
static const short col_tap[1][3] = {
    {0, 0, 16},
};

/* Row u of x, unfolded: for each output column and image all (column tap, channel) pairs; taps in the padding are zero. */
static void pack_x(float *const *a, const struct rg_ctrl *ctl, int nb, int u, int own, float *row, float *to) {
    const float *const a0 = a[0];
    const int h = u - 1, live = rg_live(ctl, nb * 16, 16);
    const float *const from = a0 + ((long)nb * 16 + h) * 768;
    (void)row;
    for (int q = 0; q < 16; q++)
        for (int s = 0; s < 3; s++) {
            const int w = q + s - 1;
            const int rows = w >= 0 && w < 16 ? live : 0;
            float *const to_s = to + q * 192 + s * 3;
            for (int r = 0; r < rows; r++)
                for (int c = 0; c < 3; c++) to_s[r * 12 + c] = from[(w * 16 + r) * 3 + c];
            for (int r = rows; r < 16; r++)
                for (int c = 0; c < 3; c++) to_s[r * 12 + c] = 0.0f;
        }
    (void)own;
}

/* Row p of dy, output channels k0 to k1. */
static void pack_dy(float *const *a, const struct rg_ctrl *ctl, int nb, int k0, int k1, int h, int own, float *to) {
    const float *const a1 = a[1];
    const int live = rg_live(ctl, nb * 16, 16);
    for (int w = 0; w < 16; w++)
        for (int c = k0; c < k1; c += 8) {
            float *const to_c = to + (c - k0) / 8 * 16384 + w * 128 + (c - k0) % 8;
            for (int r = 0; r < 16; r++) {
                const vf e0 = rg_load(a1 + ((((long)nb * 16 + h) * 16 + w) * 16 + r) * 8 + c);
                rg_store(to_c + r * 8, e0);
            }
            for (int r = live; r < 16; r++) rg_store(to_c + r * 8, rg_splat(0.0f));
        }
    (void)h, (void)own;
}

/* w[j][..] += x[j] * y[..] over n pixels' images, `lines` rows and `blocks` image blocks, for 5 channels of x. */
static __attribute__((noinline)) void add_5(const float *x, const float *y, float *w, int blocks, int u, int lines,
                                           int n) {
    vf sum[5][1];
    for (int j = 0; j < 5; j++)
        for (int i = 0; i < 1; i++) sum[j][i] = rg_load(w + j * 8 + i * 8);
    for (int b = 0; b < blocks; b++)
        for (int line = 0; line < lines; line++) {
            const float *xn = x + b * 30720 + (u + line) % 10 * 3072;
            const float *yn = y + b * 16384 + line * 2048;
            for (int r = 0; r < n * 16; r++, xn += 12, yn += 8) {
                vf yr[1];
                for (int i = 0; i < 1; i++) yr[i] = rg_load(yn + i * 8);
                for (int j = 0; j < 5; j++) {
                    const vf xr = rg_splat(xn[j]);
                    for (int i = 0; i < 1; i++) sum[j][i] = rg_fma(xr, yr[i], sum[j][i]);
                }
            }
        }
    for (int j = 0; j < 5; j++)
        for (int i = 0; i < 1; i++) rg_store(w + j * 8 + i * 8, sum[j][i]);
}

/* w[j][..] += x[j] * y[..] over n pixels' images, `lines` rows and `blocks` image blocks, for 4 channels of x. */
static __attribute__((noinline)) void add_4(const float *x, const float *y, float *w, int blocks, int u, int lines,
                                           int n) {
    vf sum[4][1];
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < 1; i++) sum[j][i] = rg_load(w + j * 8 + i * 8);
    for (int b = 0; b < blocks; b++)
        for (int line = 0; line < lines; line++) {
            const float *xn = x + b * 30720 + (u + line) % 10 * 3072;
            const float *yn = y + b * 16384 + line * 2048;
            for (int r = 0; r < n * 16; r++, xn += 12, yn += 8) {
                vf yr[1];
                for (int i = 0; i < 1; i++) yr[i] = rg_load(yn + i * 8);
                for (int j = 0; j < 4; j++) {
                    const vf xr = rg_splat(xn[j]);
                    for (int i = 0; i < 1; i++) sum[j][i] = rg_fma(xr, yr[i], sum[j][i]);
                }
            }
        }
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < 1; i++) rg_store(w + j * 8 + i * 8, sum[j][i]);
}

/* All taps of one block of output channels, for the rows p0 to p1. */
static void add_taps(const float *xs, const float *ys, float *w, int channels, int blocks, int p0, int p1) {
    for (int r = 0; r < 3; r++) {
        const int first = rg_max_int(p0, row_tap[r][0]), lines = rg_min_int(p1, row_tap[r][1]) - first;
        if (lines <= 0) continue;
        for (int s = 0; s < 1; s++) {
            const int q = col_tap[s][1], n = col_tap[s][2] - q;
            if (n <= 0) continue;
            const float *x = xs + (col_tap[s][0] + q) * 192;
            const float *y = ys + (first - p0) * 2048 + q * 128;
            float *to = w + (r * 1 + s) * 72;
            const int u = first + r;
            int c = 0;
            for (; c + 5 <= channels; c += 5)
                add_5(x + c, y, to + c * 8, blocks, u, lines, n);
            if (c < channels) add_4(x + c, y, to + c * 8, blocks, u, lines, n);
        }
    }
}

static void clear(float *w, int channels) {
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < channels * 8; i += 8) rg_store(w + t * 72 + i, rg_splat(0.0f));
}

void rg_conv2d_wgrad_direct__f32_h16w16c3_k8r3s3_54a79a69(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const int chunk = tile, first = 0, last = ctl->blocks;
    float *const dw = a[2];
    const int k0 = chunk / 1 * 8, k1 = rg_min_int(k0 + 8, 8);
    const int c0 = chunk % 1 * 9, c1 = rg_min_int(c0 + 9, 9);
    float *const xs = scratch, *const ys = scratch + 30720;
    for (int k = k0; k < k1; k += 8) clear(dw + (long)k * 27 + c0 * 8, c1 - c0);
    for (int nb = first; nb < last; nb += 1) {
        const int blocks = rg_min_int(1, last - nb);
        int packed = 1;
        for (int p0 = 0; p0 < 16; p0 += 8) {
            const int p1 = rg_min_int(p0 + 8, 16);
            const int end = (p1 - 1) + 3;
            const int next = rg_max_int(packed, rg_min_int(17, end));
            for (int b = 0; b < blocks; b++) {
                for (int u = packed; u < next; u++)
                    pack_x(a, ctl, nb + b, u, k0 == 0, scratch + 47104,
                           xs + b * 30720 + u % 10 * 3072);
                for (int p = p0; p < p1; p++)
                    pack_dy(a, ctl, nb + b, k0, k1, p, c0 == 0, ys + b * 16384 + (p - p0) * 2048);
            }
            packed = next;
            for (int k = k0; k < k1; k += 8)
                add_taps(xs, ys + (k - k0) / 8 * 16384, dw + (long)k * 27 + c0 * 8,
                         c1 - c0, blocks, p0, p1);
        }
    }
}
