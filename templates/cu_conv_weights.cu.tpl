% -- p.i: number of a contraction; p.g: L.cu_conv's numbers. Its weights in shared memory.
% local i, g, s = p.i, p.g, p.g.stage[p.i]
% local w, h, v, cc, C = s.w, s.h, s.v, p.g.cc, s.site.c
% local tail = C % cc ~= 0
/* Its weights: taps (r0, s0) and the following, rows x columns of them, input channels from c0, output channels from k0:
 * float [${s.gh * s.gw}][${cc}][${g.kt}]. */
RG_DEVICE void stage_w${i}(const float *from, int r0, int s0, int rows, int columns, int c0, int k0, float *to) {
    for (int i = rg_tid(); i < ${s.gh * s.gw * cc * g.kt // 4}; i += ${g.threads}) {
% if w.turned then
        const int k = ${L.cu_sum("k0", L.cu_mod("i", g.kt))}, from_c = ${L.cu_product(L.cu_mod("i / " .. g.kt, cc // 4), 4)}, c = ${cc > 4 and "c0 + from_c" or "c0"}, tap = i / ${g.kt * (cc // 4)};
        const int row = ${L.over("tap", s.gw)}, column = ${L.cu_mod("tap", s.gw)};
        if (row >= rows || column >= columns) continue;
        const int r = r0 + ${L.times("row", h.tap_step)}, s = s0 + ${L.times("column", v.tap_step)};
        const float *const at = from + (${L.times(L.times("c / " .. w.kb, w.r) .. " + r", w.s)} + s) * ${w.k * w.kb} + k * ${w.kb} + c % ${w.kb};
        float four[4] = {}; /* neighbouring c of one k lie side by side */
        if (${tail and "c < " .. C .. " && " or ""}k < ${w.k}) rg_load4(four, at);
        RG_UNROLL
        for (int j = 0; j < 4; j++) to[(${L.times("tap", cc)} + from_c + j) * ${g.kt} + i % ${g.kt}] = ${C % 4 == 0 and "four[j]" or "c + j < " .. C .. " ? four[j] : 0.0f"};
% else
        const int k = k0 + i % ${g.kt // 4} * 4, c = c0 + i / ${g.kt // 4} % ${cc}, tap = i / ${g.kt // 4 * cc};
        const int row = ${L.over("tap", s.gw)}, column = ${L.cu_mod("tap", s.gw)};
        if (row >= rows || column >= columns) continue;
        const int r = r0 + ${L.times("row", h.tap_step)}, s = s0 + ${L.times("column", v.tap_step)};
        const float *const at = from + (${L.times(L.times("k / " .. w.kb, w.r) .. " + r", w.s)} + s) * ${C * w.kb} + c * ${w.kb} + k % ${w.kb};
% local inside = {}
% if tail then inside[#inside + 1] = "c < " .. C end
% if g.kp % g.kt ~= 0 then inside[#inside + 1] = "k < " .. g.kp end
% if #inside > 0 then
        const bool inside = ${table.concat(inside, " && ")};
        rg_cp_async16_fill(to + i * 4, inside ? at : from, inside ? 16 : 0);
% else
        rg_cp_async16(to + i * 4, at);
% end
% end
    }
}
