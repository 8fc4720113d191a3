% -- Before a wgrad kernel that leaves parts and adds them up: p.gh, p.gw (taps), p.ct, p.kt (channels): a slice of dw, which begins at
% -- tap (r0, s0), channels c0 and k0.
% local w, contr, C = k.arg[k.contr[0].w_arg], k.contr[0], k.site[0].c
% local tap_h, tap_w = L.over("tap", p.gw), L.cu_mod("tap", p.gw)
/* Where in dw four values of a slice are, the i-th; -1: nowhere. */
RG_DEVICE int place_of(int i, int r0, int s0, int c0, int k0) {
    const int k = ${L.cu_sum("k0", L.cu_product(L.cu_mod("i", p.kt // 4), 4))}, row = ${L.over("i", p.kt // 4)}, tap = ${L.over("row", p.ct)};
    const int r = ${L.cu_sum("r0", tap_h)}, s = ${L.cu_sum("s0", tap_w)}, c = ${L.cu_sum("c0", L.cu_mod("row", p.ct))};
    if (r >= ${contr.r} || s >= ${contr.s} || c >= ${C} || k >= ${w.kp}) return -1;
    return ((k / ${w.kb} * ${w.r} + r) * ${w.s} + s) * ${C * w.kb} + c * ${w.kb} + k % ${w.kb};
}

/* Adds up four values of `parts` parts, `apart` floats apart, in their order. */
RG_DEVICE void add_up(const float *from, int parts, int apart, float *sum) {
    for (int q = 0; q < parts; q += 4) {
        float v[4][4] = {};
        RG_UNROLL
        for (int u = 0; u < 4; u++)
            if (q + u < parts) rg_load4(v[u], from + (long long)(q + u) * apart);
        RG_UNROLL
        for (int u = 0; u < 4; u++)
            RG_UNROLL
            for (int j = 0; j < 4; j++) sum[j] += v[u][j];
    }
}

