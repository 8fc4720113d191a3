/* rg_pack_turn__f32_k10r1s1c16_6e2ffd9e
 *
 *   a1 = a0 in another form
 *
 *   a0   weight [1][1][1][16][16], read
 *   a1   weight [1][1][1][10][16], written
 *
 * A block of 16 images: 0.001664 MB of arguments.
 * Variant pack, avx2. Tiles: 0 a block of images, 1 more. Scratch: 0 KB a thread.
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

RG_INLINE int rg_min_int(int a, int b) {
    return a < b ? a : b;
}


/* Alternate lanes of the first (lo) or second (hi) halves of a and b. */
#ifdef __clang__
#define INTERLEAVE_LO(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define INTERLEAVE_HI(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define INTERLEAVE_LO(a, b) __builtin_shuffle(a, b, (vi){0, 8, 1, 9, 2, 10, 3, 11})
#define INTERLEAVE_HI(a, b) __builtin_shuffle(a, b, (vi){4, 12, 5, 13, 6, 14, 7, 15})
#endif

/* Each step moves one bit of the row's number into the lane's. */
RG_INLINE void transpose(vf *m) {
    for (int step = 1; step < 8; step *= 2) {
        vf half[8];
        for (int i = 0; i < 8; i++) half[i] = m[i];
        for (int i = 0; i < 4; i++) {
            m[2 * i] = INTERLEAVE_LO(half[i], half[i + 4]);
            m[2 * i + 1] = INTERLEAVE_HI(half[i], half[i + 4]);
        }
    }
}

/* m[i] = the weights of output channel k + i for 8 input channels from c on (zero beyond the last), one tap. */
RG_INLINE void read_turned(const float *from, int tap, int k, int c, vf *m) {
    const float *const at = from + ((long)(k / 16 * 1 + tap) * 16 + c) * 16 + k % 16;
    for (int i = 0; i < 8; i++) m[i] = c + i < 16 ? rg_load(at + i * 16) : rg_splat(0.0f);
    transpose(m);
}

/* Weights with k and c exchanged: a tile is 16 input channels, which become a block of output channels. */
void rg_pack_turn__f32_k10r1s1c16_6e2ffd9e(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    for (int tap = 0; tap < 1; tap++)
        for (int k = 0; k < 10; k += 8)
            for (int c = 0; c < 16; c += 8) {
                vf m[8];
                read_turned(a[0], tap, k, tile * 16 + c, m);
                float *const at = a[1] + ((long)(tile * 1 + tap) * 10 + k) * 16 + c;
                for (int i = 0; i < rg_min_int(8, 10 - k); i++) rg_store(at + i * 16, m[i]);
            }
    (void)ctl, (void)scratch;
}
