% local g = L.pack(k)
% local v, from, to, taps, n = g.v, g.from, g.to, g.taps, g.n
% local lo, hi = L.interleave(v)

% if g.turn then
/* Alternate lanes of the first (lo) or second (hi) halves of a and b. */
#ifdef __clang__
#define INTERLEAVE_LO(a, b) __builtin_shufflevector(a, b, ${lo})
#define INTERLEAVE_HI(a, b) __builtin_shufflevector(a, b, ${hi})
#else
#define INTERLEAVE_LO(a, b) __builtin_shuffle(a, b, (vi){${lo}})
#define INTERLEAVE_HI(a, b) __builtin_shuffle(a, b, (vi){${hi}})
#endif

/* Each step moves one bit of the row's number into the lane's. */
RG_INLINE void transpose(vf *m) {
    for (int step = 1; step < ${v}; step *= 2) {
        vf half[${v}];
        for (int i = 0; i < ${v}; i++) half[i] = m[i];
        for (int i = 0; i < ${v // 2}; i++) {
            m[2 * i] = INTERLEAVE_LO(half[i], half[i + ${v // 2}]);
            m[2 * i + 1] = INTERLEAVE_HI(half[i], half[i + ${v // 2}]);
        }
    }
}

/* m[i] = the weights of output channel k + i for ${v} input channels from c on (zero beyond the last), one tap. */
RG_INLINE void read_turned(const float *from, int tap, int k, int c, vf *m) {
    const float *const at = from + ((long)(k / ${from.kb} * ${taps} + tap) * ${from.c} + c) * ${from.kb} + k % ${from.kb};
    for (int i = 0; i < ${v}; i++) m[i] = c + i < ${from.c} ? rg_load(at + i * ${from.kb}) : rg_splat(0.0f);
    transpose(m);
}

% end
% if n == 0 then
/* Weights with k and c exchanged: a tile is ${to.kb} input channels, which become a block of output channels. */
void ${sym}(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    for (int tap = 0; tap < ${taps}; tap++)
        for (int k = 0; k < ${from.k}; k += ${v})
            for (int c = 0; c < ${to.kb}; c += ${v}) {
                vf m[${v}];
                read_turned(a[0], tap, k, tile * ${to.kb} + c, m);
                float *const at = a[1] + ((long)(tile * ${taps} + tap) * ${to.c} + k) * ${to.kb} + c;
                for (int i = 0; i < rg_min_int(${v}, ${from.k} - k); i++) rg_store(at + i * ${to.kb}, m[i]);
            }
    (void)ctl, (void)scratch;
}
% else
RG_INLINE void weight_1d(const vf *w, vf *u) {
    ${L.wino_weight[g.m]}
}

/* G w G' of one vector of weights, w[s * 3 + r], to its ${n * n} points. */
RG_INLINE void transform(const vf *w, float *to) {
    vf part[3][${n}];
    for (int s = 0; s < 3; s++) weight_1d(w + s * 3, part[s]);
    for (int i = 0; i < ${n}; i++) {
        const vf line[3] = {part[0][i], part[1][i], part[2][i]};
        vf u[${n}];
        weight_1d(line, u);
        for (int j = 0; j < ${n}; j++) rg_store(to + (long)(i * ${n} + j) * ${g.point}, u[j]);
    }
}

/* Winograd's weights F(${g.m} x ${g.m}, 3 x 3)${g.turn and " of filters turned (k and c exchanged) and rotated by 180 degrees" or ""}: a tile is
 * a block of output channels, ${g.chunk} input channels. */
void ${sym}(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const int block = tile / ${g.chunks}, c0 = tile % ${g.chunks} * ${g.chunk}, c1 = rg_min_int(c0 + ${g.chunk}, ${to.c});
    float *const to = a[1] + (long)block * ${to.c * to.kb};
% if g.turn then
    for (int c = c0; c < c1; c += ${v})
        for (int k = 0; k < ${to.kb}; k += ${v}) {
            vf m[9][${v}];
            for (int r = 0; r < 3; r++)
                for (int s = 0; s < 3; s++) read_turned(a[0], (2 - r) * 3 + 2 - s, c, block * ${to.kb} + k, m[s * 3 + r]);
            for (int i = 0; i < rg_min_int(${v}, c1 - c); i++) {
                vf w[9];
                for (int tap = 0; tap < 9; tap++) w[tap] = m[tap][i];
                transform(w, to + (c + i) * ${to.kb} + k);
            }
        }
% else
    const float *const from = a[0] + (long)block * ${9 * from.c * from.kb};
    for (int c = c0; c < c1; c++)
        for (int k = 0; k < ${to.kb}; k += ${v}) {
            vf w[9];
            for (int r = 0; r < 3; r++)
                for (int s = 0; s < 3; s++) w[s * 3 + r] = rg_load(from + ((r * 3 + s) * ${from.c} + c) * ${from.kb} + k);
            transform(w, to + c * ${to.kb} + k);
        }
% end
    (void)ctl, (void)scratch;
}
% end
