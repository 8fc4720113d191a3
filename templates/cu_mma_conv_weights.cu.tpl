% -- p.i: number of a contraction; p.g: L.mma_conv's numbers. A stage of its weights in shared memory.
% local i, g, s, F = p.i, p.g, p.g.stage[p.i], p.g.format
% local h, v, w, C, T, V, cc = s.h, s.v, s.w, s.site.c, F.type, F.vector, g.cc
% local partial = C % cc ~= 0
% local function bytes(rest, limit) return limit % V == 0 and rest .. " > 0 ? 16 : 0" or string.format("rg_max_int(0, rg_min_int(16, %s))", L.times(L.paren(rest), F.bytes)) end
% local units, K, row, inside = (w.turned and cc or g.kt) // V, w.k, nil, {}
% local rows = s.gh * s.gw * (w.turned and g.kt or cc)
/* Starts to bring rows x columns taps in the order of slots, the first of them (r0, s0) of the filter; input channels from c0, output
 * channels from k0 on: ${w.turned and string.format("[%d][%d][%d]", s.gh * s.gw, g.kt, cc) or string.format("[%d][%d][%d]", s.gh * s.gw, cc, g.kt)}. */
RG_DEVICE void bring_w${i}(${L.cu_pointer(w)}from, int r0, int s0, int rows, int columns, int c0, int k0, ${T} *to) {
    const int chunk = ${L.cu_mod("rg_tid()", units)};
    for (int row = ${L.over("rg_tid()", units)}; row < ${rows}; row += ${g.threads // units}) {
% if w.turned then
        const int tap = row / ${g.kt}, k = ${L.cu_sum("k0", "row % " .. g.kt)}, c = ${L.cu_sum("c0", L.cu_product("chunk", V))};
% else
        const int tap = row / ${cc}, k = ${L.cu_sum("k0", L.cu_product("chunk", V))}, c = c0 + row % ${cc};
% end
        const int tap_h = ${L.over("tap", s.gw)}, tap_w = ${L.cu_mod("tap", s.gw)};
        if (tap_h >= rows || tap_w >= columns) continue;
        const int r = ${L.mma_filter_tap(h, "r0", "tap_h", "rows")}, s = ${L.mma_filter_tap(v, "s0", "tap_w", "columns")};
% local across, down = w.turned and "c" or "k", w.turned and "k" or "c"
% local at = string.format("from + (%s + s) * %d + %s + %s %% %d", L.times(L.times(across .. " / " .. w.kb, w.r) .. " + r", w.s), w.kb * (w.turned and K or C), L.times(down, w.kb), across, w.kb)
% local put_at = w.turned and L.mma_chunk(F, cc, "row", "chunk") or L.cu_sum(L.times("tap", cc * g.kt), L.mma_weight_at(F, g.kt, "row % " .. cc, "chunk"))
% if w.turned and K % g.kt ~= 0 then inside[#inside + 1] = "k < " .. K end
% if not w.turned and partial then inside[#inside + 1] = "c < " .. C end
% if not w.turned and w.kp % g.kt ~= 0 then inside[#inside + 1] = "k < " .. w.kp end
% if w.turned and partial then inside[#inside + 1] = "c < " .. C end
% if #inside > 0 then
        const bool inside = ${table.concat(inside, " && ")};
        rg_cp_async16_fill(to + ${put_at}, inside ? ${at} : from, inside ? ${w.turned and partial and "(" .. bytes(C .. " - c", C) .. ")" or "16"} : 0);
% else
        rg_cp_async16(to + ${put_at}, ${at});
% end
    }
}
