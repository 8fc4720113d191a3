% -- A patch of an operand into shared memory, in the format, swizzled (L.mma_swizzled). p: name, s (site), h, w (slots), step_h, step_w
% -- (inputs from slot to slot), cc (channels), reach (where the last tile's channels end), threads, format. Images beyond the batch are
% -- zero, and channels that there are not.
% local site, C, F = k.site[p.s], k.site[p.s].c, p.format
% local plain = L.mma_is_plain(k, site, F)
% local width = plain and F.vector or 4
% local vectors, pos = p.cc // width, {nb = "nb", h = "h", w = "w", n = "n", c = "c"}
% local channels = p.reach > C and " && c < " .. C or ""
/* ${p.h} x ${p.w} pixels of operand ${p.s} from (h0, w0) on, channels c0 to c0 + ${p.cc}: [pixels][16][${p.cc}], swizzled. */
RG_DEVICE void ${p.name}(${L.cu_params(k, L.cu_root_args(site))}, int nb, int h0, int w0, int c0, ${F.type} *to) {
    ${L.cu_bases(k, L.cu_root_args(site))}
    const int live = rg_live(ctl, nb * 16, 16);
    for (int i = rg_tid(); i < ${p.h * p.w * 16 * vectors}; i += ${p.threads}) {
        const int v = ${L.cu_product(L.cu_mod("i", vectors), width)}, n = ${L.over("i", vectors)} % 16, slot = i / ${16 * vectors};
        const int c = c0 + v, h = h0 + ${L.times(L.over("slot", p.w), p.step_h)}, w = ${L.cu_sum("w0", L.cu_product(L.cu_mod("slot", p.w), p.step_w))};
        const bool inside = h >= 0 && h < ${site.h} && w >= 0 && w < ${site.w}${channels} && n < live;
        ${F.type} *const at = to + slot * ${16 * p.cc} + ${L.mma_swizzled(F, p.cc, "n", "v", width == 4)};
% if plain then
%     local arg = site.expr[site.root].leaf
%     local bytes = C % width ~= 0 and string.format("%d * rg_min_int(%d, %d - c)", F.bytes, width, C) or "16"
        const ${F.type} *const from = ${L.cu_at(k, arg, pos)};
        rg_cp_async16_fill(at, inside ? from : b${arg}, inside ? ${bytes} : 0);
% else
        float value[4] = {};
        if (inside) {
            ${L.mma_values(k, site)}
        }
        ${F.put4}(at, value);
% end
    }
    (void)ctl;
}
