//@ rg_splat
RG_DEVICE vf rg_splat(float x) {
    return x;
}

//@ rg_float
RG_DEVICE float rg_float(int bits) {
    union {
        int bits;
        float value;
    } u;
    u.bits = bits;
    return u.value;
}

//@ rg_bits
RG_DEVICE int rg_bits(float value) {
    union {
        float value;
        int bits;
    } u;
    u.value = value;
    return u.bits;
}

//@ rg_nan
RG_DEVICE float rg_nan() {
    return rg_float(0x7fc00000);
}

//@ rg_inf
RG_DEVICE float rg_inf() {
    return rg_float(0x7f800000);
}

//@ rg_blend
/* Where the mask is set a, else b. */
RG_DEVICE vf rg_blend(vm mask, vf a, vf b) {
    return mask ? a : b;
}

% for _, cmp in ipairs {{"gt", "a > b"}, {"ge", "a >= b"}, {"eq", "a == b"}} do
//@ rg_mask_${cmp[1]}
RG_DEVICE vm rg_mask_${cmp[1]}(vf a, vf b) {
    return ${cmp[2]};
}

% end
//@ rg_mask_ne
/* Also where either is NaN. */
RG_DEVICE vm rg_mask_ne(vf a, vf b) {
    return !(a == b);
}

//@ rg_mask_nan
/* Either is NaN. */
RG_DEVICE vm rg_mask_nan(vf a, vf b) {
    return a != a || b != b;
}

% for _, op in ipairs {{"max", "larger", ">"}, {"min", "smaller", "<"}} do
//@ rg_raw_${op[1]}
/* b where either is NaN. */
RG_DEVICE vf rg_raw_${op[1]}(vf a, vf b) {
    return a ${op[3]} b ? a : b;
}

//@ rg_${op[1]}
/* The ${op[2]}; NaN where either is NaN. */
RG_DEVICE vf rg_${op[1]}(vf a, vf b) {
    return rg_blend(rg_mask_nan(a, a), a, rg_raw_${op[1]}(a, b));
}

//@ rg_${op[1]}c
/* The ${op[2]} of a value and a constant that is no NaN; NaN where the value is NaN. */
RG_DEVICE vf rg_${op[1]}c(vf a, float c) {
    return rg_raw_${op[1]}(c, a);
}

% end
//@ rg_rsqrt
/* Two correctly rounded steps, so that every target gives the same bits. */
RG_DEVICE vf rg_rsqrt(vf a) {
    return 1.0f / rg_sqrt(a);
}

//@ rg_abs
RG_DEVICE vf rg_abs(vf a) {
    return rg_float(rg_bits(a) & 0x7fffffff);
}

//@ rg_exp
/* e^x = 2^n e^r, |r| <= ln 2 / 2; polynomial of Cephes' expf, 2^n in two factors so that the ends round to inf and 0. */
RG_DEVICE vf rg_exp(vf x) {
    x = rg_minc(rg_maxc(x, -104.0f), 89.0f);
    const vf big = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    vf shifted = rg_fma(x, 1.44269502f, big);
    vf n = shifted - big;
    vf r = rg_fma(n, -0.693359375f, x);
    r = rg_fma(n, 2.12194440e-4f, r);
    vf p = 1.98756912e-4f;
    p = rg_fma(p, r, 1.39819994e-3f);
    p = rg_fma(p, r, 8.33345205e-3f);
    p = rg_fma(p, r, 4.16657962e-2f);
    p = rg_fma(p, r, 1.66666657e-1f);
    p = rg_fma(p, r, 0.5f);
    vf y = rg_fma(p, r * r, r) + 1.0f;
    const int e = (int)((unsigned)rg_bits(shifted) - (unsigned)rg_bits(big)), half = e >> 1; /* a NaN's wraps around */
    const unsigned low = (unsigned)(half + 127) << 23, high = (unsigned)(e - half + 127) << 23;
    return y * rg_float((int)low) * rg_float((int)high);
}

//@ rg_log
/* log x = e ln 2 + log m, sqrt(1/2) <= m < sqrt 2; polynomial of Cephes' logf. */
RG_DEVICE vf rg_log(vf x) {
    const unsigned bits = (unsigned)rg_bits(x);
    const int e = (int)(bits - 0x3f3504f3u) >> 23;
    vf f = rg_float((int)(bits - ((unsigned)e << 23))) - 1.0f, z = f * f;
    vf p = 7.03768358e-2f;
    p = rg_fma(p, f, -1.15146102e-1f);
    p = rg_fma(p, f, 1.16769984e-1f);
    p = rg_fma(p, f, -1.24201410e-1f);
    p = rg_fma(p, f, 1.42493233e-1f);
    p = rg_fma(p, f, -1.66680574e-1f);
    p = rg_fma(p, f, 2.00007141e-1f);
    p = rg_fma(p, f, -2.49999940e-1f);
    p = rg_fma(p, f, 3.33333313e-1f);
    const vf big = 12582912.0f;
    vf n = rg_float(e + 0x4b400000) - big; /* e as a float */
    vf low = rg_fma(n, -2.12194440e-4f, rg_fma(p, f * z, z * -0.5f));
    vf y = rg_fma(n, 0.693359375f, f + low);
    y = x == rg_inf() ? rg_inf() : y;
    y = x == 0.0f ? -rg_inf() : y;
    return x >= 0.0f ? y : rg_nan();
}

//@ rg_sigmoid
RG_DEVICE vf rg_sigmoid(vf x) {
    return 1.0f / (1.0f + rg_exp(-x));
}

//@ rg_tanh
/* Small x: polynomial of Cephes' tanhf; else 1 - 2 / (e^2|x| + 1) with x's sign. */
RG_DEVICE vf rg_tanh(vf x) {
    vf z = x * x, p = -5.70498872e-3f, size = rg_abs(x);
    p = rg_fma(p, z, 2.06390887e-2f);
    p = rg_fma(p, z, -5.37397155e-2f);
    p = rg_fma(p, z, 1.33314422e-1f);
    p = rg_fma(p, z, -3.33332819e-1f);
    vf small = rg_fma(p, z * x, x);
    vf large = 1.0f - 2.0f / (rg_exp(size + size) + 1.0f);
    large = rg_float(rg_bits(large) | (rg_bits(x) & (-0x7fffffff - 1)));
    return size > 0.625f ? large : small;
}

% for _, cmp in ipairs {{"gt", ">"}, {"ge", ">="}, {"eq", "=="}} do
//@ rg_${cmp[1]}
RG_DEVICE vf rg_${cmp[1]}(vf a, vf b) {
    return a ${cmp[2]} b ? 1.0f : 0.0f;
}

% end
//@ rg_min_int
RG_DEVICE int rg_min_int(int a, int b) {
    return a < b ? a : b;
}

//@ rg_max_int
RG_DEVICE int rg_max_int(int a, int b) {
    return a > b ? a : b;
}

//@ rg_live
/* How many of `rows` images from `first` on are live. */
RG_DEVICE int rg_live(const rg_ctrl *ctl, int first, int rows) {
    return rg_max_int(0, rg_min_int(rows, ctl->live - first));
}

//@ rg_moments
/* Of one thread: the first value, then sum and sum of squares of value - shift. */
struct rg_moments {
    float shift, sum, square;
};

//@ rg_moments_add
RG_DEVICE void rg_moments_add(rg_moments *m, float value, bool first) {
    if (first) m->shift = value;
    const float d = value - m->shift;
    m->sum += d;
    m->square = rg_fma(d, d, m->square);
}

//@ rg_moments_mean
/* No values: zero. */
RG_DEVICE float rg_moments_mean(const rg_moments *m, float count) {
    return m->shift + m->sum / (count > 0.0f ? count : 1.0f);
}

//@ rg_moments_m2
RG_DEVICE float rg_moments_m2(const rg_moments *m, float count) {
    return rg_maxc(m->square - m->sum * m->sum / (count > 0.0f ? count : 1.0f), 0.0f);
}

//@ rg_moments_merge
/* Chan's rule: (n, mean, m2) takes in (n1, mean1, m21); nothing changes where n1 is 0. */
RG_DEVICE void rg_moments_merge(float *n, float *mean, float *m2, float n1, float mean1, float m21) {
    const bool any = n1 > 0.0f;
    const float count = *n + n1, share = any ? n1 / count : 0.0f, delta = any ? mean1 - *mean : 0.0f;
    *mean = rg_fma(delta, share, *mean);
    *m2 += rg_fma(delta * delta, *n * share, any ? m21 : 0.0f);
    *n = count;
}
