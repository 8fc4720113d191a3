% -- Last in a wgrad kernel that leaves parts: the last block of a slice of dw adds up all parts of it. p.gh, p.gw (taps), p.ct, p.kt
% -- (channels): the slice, which begins at tap (r0, s0), channels c0 and k0; p.slice: C text of its number, one a counter.
% if L.cu_has_tails(k) then
% local w, contr, C = k.arg[k.contr[0].w_arg], k.contr[0], k.site[0].c
% local tap_h, tap_w = L.over("tap", p.gw), L.cu_mod("tap", p.gw)
const int parts = ${L.times("ctl->blocks", w.parts_per_block)};
if (rg_last_block(a${k.counter_arg} + ${p.slice}, parts)) {
    for (int i = rg_tid(); i < ${p.gh * p.gw * p.ct * p.kt // 4}; i += ${k.variant.threads}) {
        const int k = ${L.cu_sum("k0", L.cu_product(L.cu_mod("i", p.kt // 4), 4))}, row = ${L.over("i", p.kt // 4)}, tap = ${L.over("row", p.ct)};
        const int r = ${L.cu_sum("r0", tap_h)}, s = ${L.cu_sum("s0", tap_w)}, c = ${L.cu_sum("c0", L.cu_mod("row", p.ct))};
        if (r >= ${contr.r} || s >= ${contr.s} || c >= ${C} || k >= ${w.kp}) continue;
        const int at = ((k / ${w.kb} * ${w.r} + r) * ${w.s} + s) * ${C * w.kb} + c * ${w.kb} + k % ${w.kb};
        float sum[4] = {};
        for (int q = 0; q < parts; q += 4) {
            float v[4][4] = {};
            RG_UNROLL
            for (int u = 0; u < 4; u++)
                if (q + u < parts) rg_load4(v[u], a${k.contr[0].w_arg} + (long long)(q + u) * ${w.length} + at);
            RG_UNROLL
            for (int u = 0; u < 4; u++)
                RG_UNROLL
                for (int j = 0; j < 4; j++) sum[j] += v[u][j];
        }
        ${L.cu_tail_weights(k, "at")}
    }
}
% end
