/* Vectors of ${t.vector} floats; loads and stores at any multiple of 4 bytes. */
typedef float vf __attribute__((vector_size(${4 * t.vector})));
typedef float vf_any __attribute__((vector_size(${4 * t.vector}), aligned(4)));
typedef int vi __attribute__((vector_size(${4 * t.vector})));
% if t.isa == "avx512" then
typedef unsigned short vm; /* one bit a lane */
% else
typedef vi vm; /* all ones or zero */
% end
#define RG_INLINE static inline __attribute__((always_inline))

struct rg_ctrl {
    int live, blocks;
    float scalar[${t.ctrl_scalars}];
};

//@ rg_load
RG_INLINE vf rg_load(const float *p) {
    return *(const vf_any *)p;
}

//@ rg_store
RG_INLINE void rg_store(float *p, vf v) {
    *(vf_any *)p = v;
}

//@ rg_load_kept
/* A vector that several operations use: it is loaded once (compilers may prefer to read it again as each one's operand). */
RG_INLINE vf rg_load_kept(const float *p) {
    vf v = *(const vf_any *)p;
    __asm__("" : "+${t.isa == "avx512" and "v" or "x"}"(v));
    return v;
}

//@ rg_load_n
/* The first n lanes; the others are zero. */
RG_INLINE vf rg_load_n(const float *p, int n) {
    vf v = {0};
    for (int i = 0; i < n; i++) v[i] = p[i];
    return v;
}

//@ rg_store_n
RG_INLINE void rg_store_n(float *p, vf v, int n) {
    for (int i = 0; i < n; i++) p[i] = v[i];
}

//@ rg_splat
RG_INLINE vf rg_splat(float x) {
% if t.isa == "avx512" then
    return (vf){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
% else
    return (vf){x, x, x, x, x, x, x, x};
% end
}

//@ rg_splat_int
RG_INLINE vi rg_splat_int(int x) {
    return (vi){0} + x;
}

//@ rg_iota
/* c, c + 1, ... */
RG_INLINE vf rg_iota(int c) {
% if t.isa == "avx512" then
    const vf lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
% else
    const vf lane = {0, 1, 2, 3, 4, 5, 6, 7};
% end
    return lane + rg_splat((float)c);
}

//@ rg_fma
/* a * b + c, rounded once: the only fused operation. */
RG_INLINE vf rg_fma(vf a, vf b, vf c) {
% if t.isa == "avx512" then
    return __builtin_ia32_vfmaddps512_mask(a, b, c, 0xffff, 4);
% else
    return __builtin_ia32_vfmaddps256(a, b, c);
% end
}

//@ rg_blend
/* Where the mask is set a, else b. */
RG_INLINE vf rg_blend(vm mask, vf a, vf b) {
% if t.isa == "avx512" then
#ifdef __clang__
    return __builtin_ia32_selectps_512(mask, a, b);
#else
    return __builtin_ia32_blendmps_512_mask(b, a, mask);
#endif
% else
    return __builtin_ia32_blendvps256(b, a, (vf)mask);
% end
}

% for _, cmp in ipairs {{"gt", 14, "a > b"}, {"ge", 13, "a >= b"}, {"eq", 0, "a == b"}, {"ne", 4, "a != b, or either is NaN"}, {"nan", 3, "either is NaN"}} do
//@ rg_mask_${cmp[1]}
/* ${cmp[3]} */
RG_INLINE vm rg_mask_${cmp[1]}(vf a, vf b) {
% if t.isa == "avx512" then
    return __builtin_ia32_cmpps512_mask(a, b, ${cmp[2]}, 0xffff, 4);
% else
    return (vm)__builtin_ia32_cmpps256(a, b, ${cmp[2]});
% end
}

% end
% for _, op in ipairs {{"max", "larger"}, {"min", "smaller"}} do
//@ rg_raw_${op[1]}
/* The instruction: b where either is NaN. */
RG_INLINE vf rg_raw_${op[1]}(vf a, vf b) {
% if t.isa == "avx512" then
#ifdef __clang__
    return __builtin_ia32_${op[1]}ps512(a, b, 4);
#else
    return __builtin_ia32_${op[1]}ps512_mask(a, b, a, 0xffff, 4);
#endif
% else
    return __builtin_ia32_${op[1]}ps256(a, b);
% end
}

//@ rg_${op[1]}
/* The ${op[2]}; NaN where either is NaN. */
RG_INLINE vf rg_${op[1]}(vf a, vf b) {
    return rg_blend(rg_mask_nan(a, a), a, rg_raw_${op[1]}(a, b));
}

//@ rg_${op[1]}c
/* The ${op[2]} of a value and a constant that is no NaN; NaN where the value is NaN. */
RG_INLINE vf rg_${op[1]}c(vf a, float c) {
    return rg_raw_${op[1]}(rg_splat(c), a);
}

% end
//@ rg_sqrt
RG_INLINE vf rg_sqrt(vf a) {
% if t.isa == "avx512" then
#ifdef __clang__
    return __builtin_ia32_sqrtps512(a, 4);
#else
    return __builtin_ia32_sqrtps512_mask(a, a, 0xffff, 4);
#endif
% else
    return __builtin_ia32_sqrtps256(a);
% end
}

//@ rg_rsqrt
/* Two correctly rounded steps, so that every target gives the same bits. */
RG_INLINE vf rg_rsqrt(vf a) {
    return rg_splat(1.0f) / rg_sqrt(a);
}

//@ rg_abs
RG_INLINE vf rg_abs(vf a) {
    return (vf)((vi)a & rg_splat_int(0x7fffffff));
}

//@ rg_exp
/* e^x = 2^n e^r, |r| <= ln 2 / 2; polynomial of Cephes' expf, 2^n in two factors so that the ends round to inf and 0. */
RG_INLINE vf rg_exp(vf x) {
    x = rg_minc(rg_maxc(x, -104.0f), 89.0f);
    const vf big = rg_splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    vf shifted = rg_fma(x, rg_splat(1.44269502f), big);
    vf n = shifted - big;
    vf r = rg_fma(n, rg_splat(-0.693359375f), x);
    r = rg_fma(n, rg_splat(2.12194440e-4f), r);
    vf p = rg_splat(1.98756912e-4f);
    p = rg_fma(p, r, rg_splat(1.39819994e-3f));
    p = rg_fma(p, r, rg_splat(8.33345205e-3f));
    p = rg_fma(p, r, rg_splat(4.16657962e-2f));
    p = rg_fma(p, r, rg_splat(1.66666657e-1f));
    p = rg_fma(p, r, rg_splat(0.5f));
    vf y = rg_fma(p, r * r, r) + rg_splat(1.0f);
    vi e = (vi)shifted - (vi)big, half = e >> 1;
    vf low = (vf)((half + 127) << 23), high = (vf)((e - half + 127) << 23);
    return y * low * high;
}

//@ rg_log
/* log x = e ln 2 + log m, sqrt(1/2) <= m < sqrt 2; polynomial of Cephes' logf. */
RG_INLINE vf rg_log(vf x) {
    vi e = ((vi)x - 0x3f3504f3) >> 23;
    vf f = (vf)((vi)x - (e << 23)) - rg_splat(1.0f), z = f * f;
    vf p = rg_splat(7.03768358e-2f);
    p = rg_fma(p, f, rg_splat(-1.15146102e-1f));
    p = rg_fma(p, f, rg_splat(1.16769984e-1f));
    p = rg_fma(p, f, rg_splat(-1.24201410e-1f));
    p = rg_fma(p, f, rg_splat(1.42493233e-1f));
    p = rg_fma(p, f, rg_splat(-1.66680574e-1f));
    p = rg_fma(p, f, rg_splat(2.00007141e-1f));
    p = rg_fma(p, f, rg_splat(-2.49999940e-1f));
    p = rg_fma(p, f, rg_splat(3.33333313e-1f));
    const vf big = rg_splat(12582912.0f);
    vf n = (vf)(e + 0x4b400000) - big; /* e as a float */
    vf low = rg_fma(n, rg_splat(-2.12194440e-4f), rg_fma(p, f * z, z * rg_splat(-0.5f)));
    vf y = rg_fma(n, rg_splat(0.693359375f), f + low);
    const vf zero = rg_splat(0.0f), inf = rg_splat(__builtin_inff());
    y = rg_blend(rg_mask_eq(x, inf), inf, y);
    y = rg_blend(rg_mask_eq(x, zero), -inf, y);
    return rg_blend(rg_mask_ge(x, zero), y, rg_splat(__builtin_nanf("")));
}

//@ rg_sigmoid
RG_INLINE vf rg_sigmoid(vf x) {
    const vf one = rg_splat(1.0f);
    return one / (one + rg_exp(-x));
}

//@ rg_tanh
/* Small x: polynomial of Cephes' tanhf; else 1 - 2 / (e^2|x| + 1) with x's sign. */
RG_INLINE vf rg_tanh(vf x) {
    const vf one = rg_splat(1.0f);
    vf z = x * x, p = rg_splat(-5.70498872e-3f), size = rg_abs(x);
    p = rg_fma(p, z, rg_splat(2.06390887e-2f));
    p = rg_fma(p, z, rg_splat(-5.37397155e-2f));
    p = rg_fma(p, z, rg_splat(1.33314422e-1f));
    p = rg_fma(p, z, rg_splat(-3.33332819e-1f));
    vf small = rg_fma(p, z * x, x);
    vf large = one - rg_splat(2.0f) / (rg_exp(size + size) + one);
    large = (vf)((vi)large | ((vi)x & (-0x7fffffff - 1)));
    return rg_blend(rg_mask_gt(size, rg_splat(0.625f)), large, small);
}

//@ rg_gt
RG_INLINE vf rg_gt(vf a, vf b) {
    return rg_blend(rg_mask_gt(a, b), rg_splat(1.0f), rg_splat(0.0f));
}

//@ rg_ge
RG_INLINE vf rg_ge(vf a, vf b) {
    return rg_blend(rg_mask_ge(a, b), rg_splat(1.0f), rg_splat(0.0f));
}

//@ rg_eq
RG_INLINE vf rg_eq(vf a, vf b) {
    return rg_blend(rg_mask_eq(a, b), rg_splat(1.0f), rg_splat(0.0f));
}

//@ rg_min_int
RG_INLINE int rg_min_int(int a, int b) {
    return a < b ? a : b;
}

//@ rg_max_int
RG_INLINE int rg_max_int(int a, int b) {
    return a > b ? a : b;
}

//@ rg_live
/* How many of `rows` images from `first` on are live. */
RG_INLINE int rg_live(const struct rg_ctrl *ctl, int first, int rows) {
    return rg_max_int(0, rg_min_int(rows, ctl->live - first));
}

//@ rg_sum_rows
/* Adds the first `live` vectors: images beyond the batch are left out, never multiplied. */
RG_INLINE void rg_sum_rows(float *sum, const vf *v, int live) {
    vf s = rg_load(sum);
    for (int r = 0; r < live; r++) s += v[r];
    rg_store(sum, s);
}

//@ rg_max_rows
RG_INLINE void rg_max_rows(float *max, const vf *v, int live) {
    vf m = rg_load(max);
    for (int r = 0; r < live; r++) m = rg_max(m, v[r]);
    rg_store(max, m);
}

//@ rg_moments_rows
/* state: a shift (the first value that a tile sees), then sum and sum of squares of value - shift, `stride` floats apart. */
RG_INLINE void rg_moments_rows(float *state, long stride, const vf *v, int live, int first) {
    if (first) rg_store(state, v[0]);
    vf shift = rg_load(state), s1 = rg_load(state + stride), s2 = rg_load(state + 2 * stride);
    for (int r = 0; r < live; r++) {
        vf d = v[r] - shift;
        s1 += d;
        s2 = rg_fma(d, d, s2);
    }
    rg_store(state + stride, s1);
    rg_store(state + 2 * stride, s2);
}

//@ rg_moments_mean
/* No values: zero. */
RG_INLINE vf rg_moments_mean(const float *state, long stride, float count) {
    return rg_load(state) + rg_load(state + stride) / rg_splat(count > 0.0f ? count : 1.0f);
}

//@ rg_moments_m2
RG_INLINE vf rg_moments_m2(const float *state, long stride, float count) {
    vf s1 = rg_load(state + stride), n = rg_splat(count > 0.0f ? count : 1.0f);
    return rg_maxc(rg_load(state + 2 * stride) - s1 * s1 / n, 0.0f);
}

