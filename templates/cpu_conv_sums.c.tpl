% -- The micro-kernel: p.mr images x p.nv vectors of output channels in registers, over all taps and channels of all contractions.
% local mr, nv, kb = p.mr, p.nv, p.kb
% local head, n = {}, k.contr_count
% for i = 0, n - 1 do head[#head + 1] = string.format("const struct row *row%d, int rows%d, struct span span%d", i, i, i) end
/* sum[r][v] = sum over taps and channels of x[image m + r] * w[output channels of vector v]. */
RG_INLINE void sum_taps(${table.concat(head, ", ")}, int m, vf (*sum)[${nv}]) {
% for r = 0, mr - 1 do
%     local names = {}
%     for v = 0, nv - 1 do names[#names + 1] = "s" .. r .. "_" .. v .. " = {0}" end
    vf ${table.concat(names, ", ")};
% end
% for i = 0, n - 1 do
%     local contr, op = k.contr[i], p.operand[k.contr[i].site]
%     local c, cp, tap_step = op.site.c, op.cp, L.span_step(contr.gw)
    for (int i = 0; i < rows${i}; i++) {
        const float *x = row${i}[i].x + (span${i}.at * 16 + m) * ${cp}, *w = row${i}[i].w + span${i}.first * ${c * kb};
        for (int j = 0; j < span${i}.count; j++) {
            for (int c = 0; c < ${c}; c++) {
%     for v = 0, nv - 1 do
                const vf w${v} = rg_load_kept(w + c * ${kb}${v > 0 and " + " .. v * t.vector or ""});
%     end
%     for r = 0, mr - 1 do
%         local parts = {}
%         for v = 0, nv - 1 do parts[#parts + 1] = string.format("s%d_%d = rg_fma(x%d, w%d, s%d_%d);", r, v, r, v, r, v) end
                const vf x${r} = rg_splat(x[c${r > 0 and " + " .. r * cp or ""}]);
                ${table.concat(parts, " ")}
%     end
            }
            x ${tap_step.input < 0 and "-" or "+"}= ${math.abs(tap_step.input) * 16 * cp};
            w += ${tap_step.tap * c * kb};
        }
    }
% end
% for r = 0, mr - 1 do
%     local parts = {}
%     for v = 0, nv - 1 do parts[#parts + 1] = string.format("sum[%d][%d] = s%d_%d;", r, v, r, v) end
    ${table.concat(parts, " ")}
% end
}
