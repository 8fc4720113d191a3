% -- A patch of an operand into shared memory. p: name, s (site), h, w (slots), step_h, step_w (inputs from slot to slot), cc (channels),
% -- threads, live (true: images beyond the batch are zero).
% local site, C = k.site[p.s], k.site[p.s].c
% local plain, width = L.is_plain(k, site) and not k.arg[site.expr[site.root].leaf].type, L.cu_width(k, site)
% local vectors, pos = p.cc // width, {nb = "nb", h = "h", w = "w", n = "n", c = "c"}
% local partial = C % p.cc ~= 0
/* ${p.h} x ${p.w} pixels of operand ${p.s} from (h0, w0) on, channels c0 to c0 + ${p.cc}: float [pixels][16][${p.cc}]. */
RG_DEVICE void ${p.name}(${L.cu_params(k, L.cu_root_args(site))}, int nb, int h0, int w0, int c0, float *to) {
    ${L.cu_bases(k, L.cu_root_args(site))}
% if p.live then
    const int live = rg_live(ctl, nb * 16, 16);
% end
    for (int i = rg_tid(); i < ${p.h * p.w * 16 * vectors}; i += ${p.threads}) {
        const int c = ${L.cu_sum("c0", L.cu_product(L.cu_mod("i", vectors), width))}, n = ${L.over("i", vectors)} % 16, slot = i / ${16 * vectors};
        const int h = h0 + ${L.times(L.over("slot", p.w), p.step_h)}, w = ${L.cu_sum("w0", L.cu_product(L.cu_mod("slot", p.w), p.step_w))};
        const bool inside = h >= 0 && h < ${site.h} && w >= 0 && w < ${site.w}${partial and " && c < " .. C or ""}${p.live and " && n < live" or ""};
% if plain then
%     local arg = site.expr[site.root].leaf
%     local bytes = width == 1 and "4" or partial and C % 4 ~= 0 and "4 * rg_min_int(4, " .. C .. " - c)" or "16"
        const float *const from = ${L.cu_at(k, arg, pos)};
        rg_cp_async${4 * width}_fill(to + i${width == 4 and " * 4" or ""}, inside ? from : b${arg}, inside ? ${bytes} : 0);
% elseif width == 1 then
        float value = 0.0f;
        if (inside) {
%     local outer, inner = L.cu_site(k, site, {pos = pos, width = 1, skip_stores = true, root = function(e) return "value = " .. e .. ";" end})
            ${outer}
            ${inner}
        }
        to[i] = value;
% else
        float value[4] = {};
        if (inside) {
%     local function keep(e) return "value[j] = " .. (partial and C % 4 ~= 0 and "c + j < " .. C .. " ? " .. e .. " : 0.0f" or e) .. ";" end
%     local outer, inner = L.cu_site(k, site, {pos = pos, width = 4, skip_stores = true, root = keep})
            ${outer}
            ${inner}
        }
        rg_store4(to + i * 4, value);
% end
    }
    (void)ctl;
}
