% -- Before a wgrad kernel that leaves parts: what its last blocks do with them, if it has a tail. g: the kernel's cut; p.gw, p.ct: taps
% -- and channels of a slice of dw. What is left of the parts nothing reads.
% if L.cu_has_tails(k) then
% local g, w, contr, C = p.g, k.arg[k.contr[0].w_arg], k.contr[0], k.site[0].c
% local tap_h, tap_w = L.over("tap", p.gw), L.cu_mod("tap", p.gw)
% local most, quads, T = k.variant.param.heaps, g.gh * p.gw * p.ct * g.kt // 4, k.variant.threads
% local parts_arg, counter = "a" .. contr.w_arg, L.times("tile", k.variant.counters // g.tiles)
/* Where in dw four values of a slice are, the i-th; -1: nowhere. */
RG_DEVICE int place_of(int i, int r0, int s0, int c0, int k0) {
    const int k = ${L.cu_sum("k0", L.cu_product(L.cu_mod("i", g.kt // 4), 4))}, row = ${L.over("i", g.kt // 4)}, tap = ${L.over("row", p.ct)};
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

/* Adds up the parts of the block's slice of dw. */
RG_DEVICE void add_up_slice(${L.cu_params(k, L.cu_tail_wgrad_args(k))}) {
    const int tid = rg_tid_anew(), block = rg_block_anew();
    ${include("cu_wgrad_slice.cu.tpl", {g = g, split = true, block = "block"})}
    const int parts = ${L.times("ctl->blocks", w.parts_per_block)};
    unsigned *const counter = a${k.counter_arg} + ${counter};
% if most > 0 then
    /* Parts that lie together are a heap, one of at most ${most}: its last block leaves the sum in the first part, the last of those blocks
     * adds up the sums. */
    const int size = (parts + ${most - 1}) / ${most}, heaps = (parts + size - 1) / size, heap = part / size;
    const int near = rg_min_int(size, parts - heap * size);
    float *const own = ${parts_arg} + (long long)heap * size * ${w.length};
    if (!rg_last_block(counter + 1 + heap, near)) return;
    for (int i = tid; i < ${quads}; i += ${T}) {
        const int at = place_of(i, r0, s0, c0, k0);
        float sum[4] = {};
        if (at < 0) continue;
        add_up(own + at, near, ${w.length}, sum);
        rg_store4(own + at, sum);
    }
% end
    if (!rg_last_block(counter, ${most > 0 and "heaps" or "parts"})) return;
    for (int i = tid; i < ${quads}; i += ${T}) {
        const int at = place_of(i, r0, s0, c0, k0);
        float sum[4] = {};
        if (at < 0) continue;
        add_up(${parts_arg} + at, ${most > 0 and "heaps, size * " .. w.length or "parts, " .. w.length}, sum);
        ${L.cu_tail_weights(k, "at")}
    }
}

% end
