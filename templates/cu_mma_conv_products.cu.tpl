% -- p.i: number of a contraction; p.g: L.mma_conv's numbers. Products of a stage, and the way through all of them.
% local i, g, s, F = p.i, p.g, p.g.stage[p.i], p.g.format
% local acc, sums = s.contr.acc and "acc1" or "acc", L.cu_into(s, function(acc) return "float (*" .. acc .. ")[4]" end)
% local ride = s.rider and L.mma_ride(s)
% local site, h, v, w, T, V, cc, nk, kt = s.site, s.h, s.v, s.w, F.type, F.vector, p.g.cc, p.g.nk, p.g.kt
% local words = F.bytes == 4 and not w.turned
% local places = words and nk or L.ceil_div(nk, 2)
% local trans = w.turned and "" or "_trans"
/* Weights of a tap for 8 output channels at a time. */
RG_DEVICE void load_w${i}(unsigned *b, const ${T} *w, const int *w_at) {
    RG_UNROLL
% if words then
    for (int j = 0; j < ${nk}; j++) b[2 * j] = (unsigned)rg_bits(w[w_at[j]]), b[2 * j + 1] = (unsigned)rg_bits(w[w_at[j] + ${4 * kt}]);
% else
    for (int j = 0; j < ${places}; j++) rg_ldmatrix${nk == 1 and 2 or 4}${trans}(b + 4 * j, w + w_at[j]);
% end
}

/* Products of a stage, rows x columns taps. The warp's first slot is (h0, w0) of the input; a slot of x serves all taps and pixels that
 * meet it. border: some of the slots may lie outside, they count nothing.${ride and string.format(" rides: tap (%d, %d) meets the rider's weights too.", ride.y, ride.z) or ""} */
template <int rows, int columns, bool border${ride and ", bool rides" or ""}>
RG_DEVICE void multiply${i}(const ${T} *x, const ${T} *w, int x_at, const int *w_at, int h0, int w0, ${sums}) {
    const int slots_h = ${L.cu_sum(tostring((g.wy - 1) * s.step_h + 1), L.times("(rows - 1)", s.tap_h))}, slots_w = ${L.cu_sum(tostring((g.wx - 1) * s.step_w + 1), L.times("(columns - 1)", s.tap_w))};
    unsigned inside_h = 0, inside_w = 0; /* bit y, z: that slot lies inside */
    RG_UNROLL
    for (int y = 0; y < slots_h; y++) inside_h |= (unsigned)(h0 + ${L.times("y", h.step)} >= 0 && h0 + ${L.times("y", h.step)} < ${site.h}) << y;
    RG_UNROLL
    for (int z = 0; z < slots_w; z++) inside_w |= (unsigned)(w0 + ${L.times("z", v.step)} >= 0 && w0 + ${L.times("z", v.step)} < ${site.w}) << z;
    RG_ROLLED
    for (int c = ${g.wc > 1 and string.format("rg_tid() / %d * %d", 32 * g.group, g.depth) or "0"}; c < ${cc}; c += ${g.depth * g.wc}) {
        const ${T} *const x_c = x + (x_at ^ c);
        unsigned b[rows][columns][${2 * nk}];
        int at[${places}];
        RG_UNROLL
        for (int j = 0; j < ${places}; j++) at[j] = ${w.turned and "w_at[j] ^ c" or "w_at[j] + c * " .. kt};
% if ride then
        unsigned b1[${2 * nk}];
        if (rides) load_w${i}(b1, w + ${s.w_size}, at);
% end
        RG_UNROLL
        for (int y = 0; y < slots_h; y++) {
            RG_UNROLL
            for (int tap = 0; tap < columns; tap++)
                if (${L.cu_mod("y", s.tap_h)} == 0 && ${L.over("y", s.tap_h)} < rows) load_w${i}(b[${L.over("y", s.tap_h)}][tap], w + (${L.times(L.over("y", s.tap_h), s.gw)} + tap) * ${cc * kt}, at);
            if (border && !(inside_h >> y & 1)) continue;
            RG_UNROLL
            for (int z = 0; z < slots_w; z++) {
                if (border && !(inside_w >> z & 1)) continue;
                unsigned a[4];
                bool loaded = false;
                RG_UNROLL
                for (int o = 0; o < ${g.pixels}; o++) {
                    const int tap_y = y - ${L.cu_product(L.over("o", g.wx), s.step_h)}, tap_z = z - ${L.cu_product(L.cu_mod("o", g.wx), s.step_w)};
                    const bool met_y = tap_y >= 0 && ${L.cu_mod("tap_y", s.tap_h)} == 0 && ${L.over("tap_y", s.tap_h)} < rows;
                    const bool met_z = tap_z >= 0 && ${L.cu_mod("tap_z", s.tap_w)} == 0 && ${L.over("tap_z", s.tap_w)} < columns;
                    if (!met_y || !met_z) continue;
                    if (!loaded) rg_ldmatrix4(a, x_c + (${L.times("y", s.slots_w)} + z) * ${16 * cc});
                    loaded = true;
                    RG_UNROLL
                    for (int j = 0; j < ${nk}; j++) {
                        ${L.mma_products(k.contr[i].format, acc .. "[o * " .. nk .. " + j]", "a", "(b[" .. L.over("tap_y", s.tap_h) .. "][" .. L.over("tap_z", s.tap_w) .. "] + 2 * j)")}
                    }
% if ride then
                    if (!rides || ${L.over("tap_y", s.tap_h)} != ${ride.y} || ${L.over("tap_z", s.tap_w)} != ${ride.z}) continue;
                    RG_UNROLL
                    for (int j = 0; j < ${nk}; j++) {
                        ${L.mma_products(k.contr[i].format, "acc1[o * " .. nk .. " + j]", "a", "(b1 + 2 * j)")}
                    }
% end
                }
            }
        }
    }
}

/* All of its taps and channels, a stage at a time. */
RG_DEVICE void add${i}(${L.cu_params(k, L.mma_stage_args(k, s))}, int nb, int rh, int rw, int tile_h, int tile_w, int k0, float *shared, ${sums}) {
    const int warp = rg_tid() / 32, lane = rg_tid() % 32, group = ${L.cu_mod("warp", g.wp)};
    const int y0 = ${L.cu_product(L.over("group", g.wide), g.wy)}, z0 = ${L.cu_product(L.cu_mod("group", g.wide), g.wx)}, k_warp = ${L.cu_product(L.cu_mod(L.over("warp", g.wp), g.wk), 8 * nk)};
    const int h_base = ${L.cu_sum(L.times("tile_h", g.ph * h.in_step), L.cu_by_residue(g.axis_h, i, "in0", "rh"))}, n_h = ${L.cu_by_residue(g.axis_h, i, "n", "rh")};
    const int w_base = ${L.cu_sum(L.times("tile_w", g.pw * v.in_step), L.cu_by_residue(g.axis_w, i, "in0", "rw"))}, n_w = ${L.cu_by_residue(g.axis_w, i, "n", "rw")};
% if g.works then
    const bool works = ${L.cu_sum("rh", L.times("(" .. L.cu_sum(L.times("tile_h", g.ph), "y0") .. ")", g.axis_h.period))} < ${g.out.h} && ${L.cu_sum("rw", L.times("(" .. L.cu_sum(L.times("tile_w", g.pw), "z0") .. ")", g.axis_w.period))} < ${g.out.w};
% end
    ${L.cu_tap_range(h, g.ph, "h_base", "n_h", "first_h", "last_h")}
    ${L.cu_tap_range(v, g.pw, "w_base", "n_w", "first_w", "last_w")}
% if s.whole then
    const int steps = last_h > first_h && last_w > first_w ? ${s.chunks} : 0;
% else
    const int group_h = ${L.over("first_h", s.gh)}, group_w = ${L.over("first_w", s.gw)};
    const int groups_h = last_h > first_h ? ${L.cu_groups("last_h", s.gh)} - group_h : 0, groups_w = last_w > first_w ? ${L.cu_groups("last_w", s.gw)} - group_w : 0;
    const int steps = ${L.times("groups_h * groups_w", s.chunks)};
% end
% if #s.stored > 0 then
    /* The operand's pixels that this tile stores, if it is the first of its slice. */
    const int own_h = ${L.times("tile_h", g.ph * h.in_step)}, end_h = k0 > 0 ? 0 : tile_h == ${g.tiles_h - 1} ? ${site.h} : own_h + ${g.ph * h.in_step};
    const int own_w = ${L.times("tile_w", g.pw * v.in_step)}, end_w = tile_w == ${g.tiles_w - 1} ? ${site.w} : own_w + ${g.pw * v.in_step};
% end
    /* Where the lane finds its values of the warp's first slot, and of ${words and 8 or 16} output channels at a time. */
    const int x_at = (${L.cu_sum(L.times("y0", s.step_h * s.slots_w), L.times("z0", s.step_w))}) * ${16 * cc} + ${L.mma_chunk(F, cc, "lane % 16", "lane / 16")};
    int w_at[${places}];
    RG_UNROLL
    for (int j = 0; j < ${places}; j++) {
% if words then
        const int column = k_warp + j * 8 + lane / 4;
        w_at[j] = ${L.mma_swizzled(F, kt, "lane % 4", "column", true)};
% elseif w.turned then
        const int row = k_warp + j * 16 + ${nk == 1 and "" or "lane / 16 * 8 + "}lane % 8;
        w_at[j] = ${L.mma_chunk(F, cc, "row", "lane / 8 % 2")};
% else
        const int chunk = k_warp / 8 + j * 2${nk == 1 and "" or " + lane / 16"};
        w_at[j] = ${L.mma_chunk(F, kt, "lane % 16", "chunk")};
% end
    }
    ${T} *const buffers = (${T} *)shared;
    RG_ROLLED
    for (int step = ${1 - g.stages}; step < steps; step++) {
        if (step >= ${-s.ahead}) {
            rg_cp_async_wait<${g.stages - 2 - s.ahead}>();
            rg_barrier();
        }
% for _, one in ipairs {{g.stages - 1, "_next", true}, {1, "_ahead", not s.plain}, {0, "", true}} do
%     local by, suffix, wanted = one[1], one[2], one[3]
%     local at, taps = by == 0 and "step" or "step + " .. by, L.mma_taps(s, suffix)
%     local c0 = L.cu_product(L.cu_mod(L.paren(at), s.chunks), cc)
%     local buffer = by == 0 and string.format("buffers + step %% %d * %d", g.stages, g.buffer) or string.format("buffers + (%s) %% %d * %d", at, g.stages, g.buffer)
%     if wanted and by ~= 0 then
        if (${suffix == "_ahead" and "step >= -1 && " or ""}${at} < steps) {
            ${L.mma_group(s, L.paren(at), suffix)}
            const int c0 = ${c0};
            ${T} *const to = ${buffer};
%         if suffix == "_next" then
%             if #s.raw > 0 then
            bring_x${i}(${L.cu_args(k, L.cu_root_args(site))}, nb, ${taps.first_h}, ${taps.first_w}, c0, to);
%             end
            bring_w${i}(a${s.contr.w_arg}, ${L.cu_sum(L.cu_product(taps.h, h.tap_step), L.cu_by_residue(g.axis_h, i, "r0", "rh"))}, ${L.cu_sum(L.cu_product(taps.w, v.tap_step), L.cu_by_residue(g.axis_w, i, "r0", "rw"))}, ${taps.rows}, ${taps.columns}, c0, k0, to + ${s.operands});
%             if ride then
            ${s.whole and "" or string.format("if (%s == %d && %s == %d) ", taps.h, ride.h, taps.w, ride.w)}bring_w1(a${s.rider.contr.w_arg}, 0, 0, 1, 1, c0, k0, to + ${s.operands + s.w_size});
%             end
%         else
            apply${i}(${L.cu_args(k, L.mma_apply_args(s))}, nb, ${taps.first_h}, ${taps.first_w}, c0, ${#s.stored > 0 and "own_h, own_w, end_h, end_w, " or ""}to);
%         end
        }
%         if suffix == "_next" then
        rg_cp_async_commit();
%         end
%     elseif wanted then
        if (step >= 0${g.works and " && works" or ""}) {
            ${L.mma_group(s, at, suffix)}
            const ${T} *const x_now = ${buffer};
            const int h0 = ${L.cu_sum(taps.first_h, L.times("y0", h.in_step))}, w0 = ${L.cu_sum(taps.first_w, L.times("z0", v.in_step))};
            ${L.mma_multiply(k, g, s, i, taps)}
        }
%     end
% end
    }
    rg_barrier();
}
