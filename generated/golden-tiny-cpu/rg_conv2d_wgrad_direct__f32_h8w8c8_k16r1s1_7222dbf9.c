/* rg_conv2d_wgrad_direct__f32_h8w8c8_k16r1s1_7222dbf9
 *
 *   x0 = a0
 *   x1 = a1
 *   a2[k, r, s, c] = sum over n, p, q of x0[n, 2 p, 2 q, c] x1[n, p, q, k]
 *
 *   a0   act [N/16][8][8][16][8], read
 *   a1   act [N/16][4][4][16][16], read
 *   a2   weight [1][1][1][8][16], written
 *
 * A block of 16 images: 0.04966 MB of arguments, 6.554e-05 GFLOP (6.554e-05 inside the image), 1.32 FLOP a byte.
 * Variant direct, avx2: cc 8, g 1, kc 16, pr 4, split 0. Tiles: 0 a block of images, 1 more. Scratch: 24 KB a thread.
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


/* Weight gradient: a tile takes 16 output channels and 8 input channels of all taps. Strips of 4 row(s) of dy,
 * 1 image block(s) at once, are packed with the rows of x that they meet, prologues applied: then every pair of runs of
 * pixels is contiguous. */

/* Outputs for which a row tap exists; a column tap: its first column in the panel, and those outputs. */
static const short row_tap[1][2] = {
    {0, 4},
};
static const short col_tap[1][3] = {
    {0, 0, 4},
};

/* Row u of x, channels c0 to c1: vectors of 16 images side by side, columns by phase. */
static void pack_x(float *const *a, const struct rg_ctrl *ctl, int nb, int c0, int c1, int u, int own, float *to) {
    const float *const a0 = a[0];
    const int h = u * 2, live = rg_live(ctl, nb * 16, 16);
    for (int i = 0; i < 4; i++) {
        const int w = i * 2;
        for (int c = c0; c < c1; c += 8) {
            float *const to_c = to + (c - c0) / 8 * 2048 + (i + 0) * 128;
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
    const int live = rg_live(ctl, nb * 16, 16);
    for (int w = 0; w < 4; w++)
        for (int c = k0; c < k1; c += 8) {
            float *const to_c = to + (c - k0) / 16 * 4096 + w * 256 + (c - k0) % 16;
            for (int r = 0; r < 16; r++) {
                const vf e0 = rg_load(a1 + ((((long)nb * 4 + h) * 4 + w) * 16 + r) * 16 + c);
                rg_store(to_c + r * 16, e0);
            }
            for (int r = live; r < 16; r++) rg_store(to_c + r * 16, rg_splat(0.0f));
        }
    (void)h, (void)own;
}

/* w[j][..] += x[j] * y[..] over n pixels' images, `lines` rows and `blocks` image blocks, for 4 channels of x. */
static __attribute__((noinline)) void add_4(const float *x, const float *y, float *w, int blocks, int u, int lines,
                                           int n) {
    vf sum[4][2];
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < 2; i++) sum[j][i] = rg_load(w + j * 16 + i * 8);
    for (int b = 0; b < blocks; b++)
        for (int line = 0; line < lines; line++) {
            const float *xn = x + b * 2048 + (u + line) * 512;
            const float *yn = y + b * 4096 + line * 1024;
            for (int r = 0; r < n * 16; r++, xn += 8, yn += 16) {
                vf yr[2];
                for (int i = 0; i < 2; i++) yr[i] = rg_load(yn + i * 8);
                for (int j = 0; j < 4; j++) {
                    const vf xr = rg_splat(xn[j]);
                    for (int i = 0; i < 2; i++) sum[j][i] = rg_fma(xr, yr[i], sum[j][i]);
                }
            }
        }
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < 2; i++) rg_store(w + j * 16 + i * 8, sum[j][i]);
}

/* All taps of one block of output channels, for the rows p0 to p1. */
static void add_taps(const float *xs, const float *ys, float *w, int channels, int blocks, int p0, int p1) {
    for (int r = 0; r < 1; r++) {
        const int first = rg_max_int(p0, row_tap[r][0]), lines = rg_min_int(p1, row_tap[r][1]) - first;
        if (lines <= 0) continue;
        for (int s = 0; s < 1; s++) {
            const int q = col_tap[s][1], n = col_tap[s][2] - q;
            if (n <= 0) continue;
            const float *x = xs + (col_tap[s][0] + q) * 128;
            const float *y = ys + (first - p0) * 1024 + q * 256;
            float *to = w + (r * 1 + s) * 128;
            const int u = first + r * 0;
            int c = 0;
            for (; c + 4 <= channels; c += 4)
                add_4(x + c, y, to + c * 16, blocks, u, lines, n);
        }
    }
}

static void clear(float *w, int channels) {
    for (int t = 0; t < 1; t++)
        for (int i = 0; i < channels * 16; i += 8) rg_store(w + t * 128 + i, rg_splat(0.0f));
}

void rg_conv2d_wgrad_direct__f32_h8w8c8_k16r1s1_7222dbf9(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const int chunk = tile, first = 0, last = ctl->blocks;
    float *const dw = a[2];
    const int k0 = chunk / 1 * 16, k1 = rg_min_int(k0 + 16, 16);
    const int c0 = chunk % 1 * 8, c1 = rg_min_int(c0 + 8, 8);
    float *const xs = scratch, *const ys = scratch + 2048;
    for (int k = k0; k < k1; k += 16) clear(dw + (long)k * 8 + c0 * 16, c1 - c0);
    for (int nb = first; nb < last; nb += 1) {
        const int blocks = rg_min_int(1, last - nb);
        int packed = 0;
        for (int p0 = 0; p0 < 4; p0 += 4) {
            const int p1 = rg_min_int(p0 + 4, 4);
            const int end = (p1 - 1) + 1;
            const int next = rg_max_int(packed, rg_min_int(4, end));
            for (int b = 0; b < blocks; b++) {
                for (int u = packed; u < next; u++)
                    pack_x(a, ctl, nb + b, c0, c1, u, k0 == 0,
                           xs + b * 2048 + u * 512);
                for (int p = p0; p < p1; p++)
                    pack_dy(a, ctl, nb + b, k0, k1, p, c0 == 0, ys + b * 4096 + (p - p0) * 1024);
            }
            packed = next;
            for (int k = k0; k < k1; k += 16)
                add_taps(xs, ys + (k - k0) / 16 * 4096, dw + (long)k * 8 + c0 * 16,
                         c1 - c0, blocks, p0, p1);
        }
    }
}
