% -- p.i: number of a contraction; p.g: L.mma_conv's numbers. A stage of its operand and of its weights in shared memory.
% local i, g, s, F = p.i, p.g, p.g.stage[p.i], p.g.format
% local site, h, v, w, C, T, V, cc = s.site, s.h, s.v, s.w, s.site.c, F.type, F.vector, g.cc
% local chunks, pos, args = cc // V, {nb = "nb", h = "h", w = "w", n = "n", c = "c"}, L.cu_root_args(site)
% local partial, width = C % cc ~= 0, L.cu_width(k, site)
% local load, put = V == 8 and "rg_load8_" .. k.contr[i].format or "rg_load4", V == 8 and "rg_store8_" .. k.contr[i].format or "rg_store4"
% local at_slot = L.times("slot", 16 * cc)
% local function bytes(rest, limit) return limit % V == 0 and rest .. " > 0 ? 16 : 0" or string.format("rg_max_int(0, rg_min_int(16, %s))", L.times(L.paren(rest), F.bytes)) end
% if #s.raw > 0 then
/* Starts to bring ${s.slots_h} x ${s.slots_w} slots from (h0, w0) on, channels c0 to c0 + ${cc}: [slots][16][${cc}] of ${#s.raw == 1 and "argument" or "each of arguments"} ${table.concat(s.raw, ", ")}. */
RG_DEVICE void bring_x${i}(${L.cu_params(k, args)}, int nb, int h0, int w0, int c0, ${T} *to) {
    ${L.cu_bases(k, args)}
    const int chunk = ${L.cu_mod("rg_tid()", chunks)}, n = ${L.over("rg_tid()", chunks)} % 16, c = ${L.cu_sum("c0", L.cu_product("chunk", V))};
    to += ${L.mma_chunk(F, cc, "n", "chunk")};
    for (int slot = rg_tid() / ${16 * chunks}; slot < ${s.slots_h * s.slots_w}; slot += ${g.threads // (16 * chunks)}) {
        const int h = h0 + ${L.times(L.over("slot", s.slots_w), h.step)}, w = ${L.cu_sum("w0", L.cu_product(L.cu_mod("slot", s.slots_w), v.step))};
        if (h < 0 || h >= ${site.h} || w < 0 || w >= ${site.w}) continue;
%     for place, arg in ipairs(s.raw) do
%         local to = L.plus("to + " .. at_slot, (place - 1) * s.x_size)
%         if partial then
        rg_cp_async16_fill(${to}, c < ${C} ? ${L.cu_at(k, arg, pos)} : b${arg}, ${bytes(C .. " - c", C)});
%         else
        rg_cp_async16(${to}, ${L.cu_at(k, arg, pos)});
%         end
%     end
    }
    (void)ctl;
}

% end
% if not s.plain then
%     args = L.mma_apply_args(s)
/* The operand's values in their place; a thread works what it has brought itself.${#s.stored > 0 and " Pixels from (own_h, own_w) to (end_h, end_w) are stored as well." or ""} */
RG_DEVICE void apply${i}(${L.cu_params(k, args)}, int nb, int h0, int w0, int c0, ${#s.stored > 0 and "int own_h, int own_w, int end_h, int end_w, " or ""}${T} *to) {
    ${L.cu_bases(k, args)}
    const int chunk = ${L.cu_mod("rg_tid()", chunks)}, n = ${L.over("rg_tid()", chunks)} % 16, first = ${L.cu_sum("c0", L.cu_product("chunk", V))};
%     if partial then
    const bool there = first < ${C};
    const int c = there ? first : 0;
%     else
    const int c = first;
%     end
%     local outer, inner = {}, {}
%     if width == 4 then outer, inner = L.mma_prologue(k, s, F) end
    to += ${L.mma_chunk(F, cc, "n", "chunk")};
    ${outer}
    for (int slot = rg_tid() / ${16 * chunks}; slot < ${s.slots_h * s.slots_w}; slot += ${g.threads // (16 * chunks)}) {
        const int h = h0 + ${L.times(L.over("slot", s.slots_w), h.step)}, w = ${L.cu_sum("w0", L.cu_product(L.cu_mod("slot", s.slots_w), v.step))};
        if (h < 0 || h >= ${site.h} || w < 0 || w >= ${site.w}) continue;
%     for place, arg in ipairs(s.raw) do
        float raw${arg}[${V}];
        ${load}(raw${arg}, ${L.plus("to + " .. at_slot, (place - 1) * s.x_size)});
%     end
        float value[${V}] = {};
        ${partial and "if (there) {" or "{"}
%     if width == 4 then
            ${inner}
%     else
            ${L.mma_channels(k, site, V)}
%     end
%     if #s.stored > 0 then
            if (h >= own_h && h < end_h && w >= own_w && w < end_w) {
                ${L.mma_store(k, s, F)}
            }
%     end
        }
        ${put}(to + ${at_slot}, value);
    }
    (void)ctl, (void)n;
}

% end
${include("cu_mma_conv_weights.cu.tpl", {i = i, g = g})}
% if s.rider then

${include("cu_mma_conv_weights.cu.tpl", {i = 1, g = g})}
% end
