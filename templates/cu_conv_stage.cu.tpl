% -- p.i: number of a contraction; p.g: L.cu_conv's numbers. Its operand and its weights in shared memory, its products; those of the
% -- contraction that rides with it.
% local i, g, s, ride = p.i, p.g, p.g.stage[p.i], p.g.stage[p.i].rider
% local site, h, v, cc = s.site, s.h, s.v, p.g.cc
% local acc, sums = s.contr.acc and "acc1" or "acc", L.cu_into(s, function(acc) return "float (*" .. acc .. ")[" .. g.cols .. "]" end)
${include("cu_stage.cu.tpl", {name = "stage_x" .. i, s = s.index, h = s.slots_h, w = s.slots_w, step_h = h.step, step_w = v.step, cc = cc, threads = g.threads})}

${include("cu_conv_weights.cu.tpl", {i = i, g = g})}

% if s.rider then
${include("cu_conv_weights.cu.tpl", {i = 1, g = g})}

% end
/* Products of a group of rows x columns taps; tap (0, 0) of the group reads input (h0, w0) at the tile's first pixel.${ride and " The rider meets its own at tap (ride_row, ride_column)." or ""} */
RG_DEVICE void multiply${i}(const float *xs, const float *ws, int h0, int w0, int rows, int columns, ${ride and "int ride_row, int ride_column, " or ""}${sums}) {
    const int warp = rg_tid() / 32, lane = rg_tid() % 32;
    int h[${g.pixels}], w[${g.pixels}];
    const float *x[${g.pixels}];
    RG_UNROLL
    for (int u = 0; u < ${g.pixels}; u++) {
        const int pixel = ${L.cu_sum(L.cu_product(L.cu_mod("warp", g.wp), g.pixels), "u")}, y = ${L.over("pixel", g.pw)}, z = ${L.cu_mod("pixel", g.pw)};
        h[u] = h0 + ${L.times("y", h.in_step)}, w[u] = w0 + ${L.times("z", v.in_step)};
        x[u] = xs + (${L.times(L.times("y", h.in_step // h.step), s.slots_w)} + ${L.times("z", v.in_step // v.step)}) * ${16 * cc} + lane / 8 * ${cc};
    }
    ws += ${L.over("warp", g.wp)} * ${8 * g.cols} + lane % 8 * 4;
    RG_ROLLED
    for (int row = 0; row < rows; row++) {
        RG_ROLLED
        for (int column = 0; column < columns; column++) {
            bool any = false;
            RG_UNROLL
            for (int u = 0; u < ${g.pixels}; u++) {
                const int at_h = h[u]${L.cu_tap_step(h, "row")}, at_w = w[u]${L.cu_tap_step(v, "column")};
                any |= at_h >= 0 && at_h < ${site.h} && at_w >= 0 && at_w < ${site.w};
            }
            if (!any) continue;
            const int at = ${L.cu_sum(L.cu_product(L.cu_tap_slots(h, "row", s.gh), s.slots_w * 16 * cc), L.cu_product(L.cu_tap_slots(v, "column", s.gw), 16 * cc))};
            const float *const b_tap = ws + (row * ${s.gw} + column) * ${cc * g.kt};
            RG_UNROLL
            for (int c = 0; c < ${cc}; c += 4) {
                float a[${4 * g.pixels}][4];
                RG_UNROLL
                for (int r = 0; r < ${4 * g.pixels}; r++) rg_load4(a[r], x[r / 4] + at + r % 4 * ${4 * cc} + c);
                RG_UNROLL
                for (int j = 0; j < 4; j++) {
                    float b[${g.cols}];
                    RG_UNROLL
                    for (int v = 0; v < ${g.cols}; v += 4) rg_load4(b + v, b_tap + (c + j) * ${g.kt} + v * 8);
                    RG_UNROLL
                    for (int r = 0; r < ${4 * g.pixels}; r++)
                        RG_UNROLL
                        for (int v = 0; v < ${g.cols}; v++) ${acc}[r][v] = rg_fma(a[r][j], b[v], ${acc}[r][v]);
                }
% if ride then
                if (row != ride_row || column != ride_column) continue;
                RG_UNROLL
                for (int j = 0; j < 4; j++) {
                    float b[${g.cols}];
                    RG_UNROLL
                    for (int v = 0; v < ${g.cols}; v += 4) rg_load4(b + v, ws + ${s.w_floats} + (c + j) * ${g.kt} + v * 8);
                    RG_UNROLL
                    for (int r = 0; r < ${4 * g.pixels}; r++)
                        RG_UNROLL
                        for (int v = 0; v < ${g.cols}; v++) acc1[r][v] = rg_fma(a[r][j], b[v], acc1[r][v]);
                }
% end
            }
        }
    }
}

/* All of its taps and channels, a group of each at a time; the next one is brought while one is multiplied. */
RG_DEVICE void add${i}(${L.cu_params(k, L.cu_stage_args(k, i, ride))}, int nb, int rh, int rw, int tile_h, int tile_w, int k0, float *shared, ${sums}) {
    const int h_base = ${L.cu_sum(L.times("tile_h", g.ph * h.in_step), L.cu_by_residue(g.axis_h, i, "in0", "rh"))};
    const int w_base = ${L.cu_sum(L.times("tile_w", g.pw * v.in_step), L.cu_by_residue(g.axis_w, i, "in0", "rw"))};
    ${L.cu_tap_range(h, g.ph, "h_base", L.cu_by_residue(g.axis_h, i, "n", "rh"), "first_h", "last_h")}
    ${L.cu_tap_range(v, g.pw, "w_base", L.cu_by_residue(g.axis_w, i, "n", "rw"), "first_w", "last_w")}
    const int groups_h = last_h > first_h ? ${L.cu_groups("last_h - first_h", s.gh)} : 0;
    const int groups_w = last_w > first_w ? ${L.cu_groups("last_w - first_w", s.gw)} : 0;
    const int steps = ${L.times("groups_h * groups_w", s.chunks)};
    int h = 0, w = 0;
    RG_ROLLED
    for (int step = -1; step < steps; step++) {
        if (step >= 0) {
            rg_cp_async_wait<0>();
            rg_barrier();
        }
        const int now_h = h, now_w = w, next = step + 1;
        if (next < steps) {
            const int c0 = ${L.cu_product(L.cu_mod("next", s.chunks), cc)}, group = ${L.over("next", s.chunks)};
            float *const to = shared + next % 2 * ${g.buffer};
            h = first_h + ${L.times("group / groups_w", s.gh)}, w = first_w + ${L.times("group % groups_w", s.gw)};
            stage_x${i}(${L.cu_args(k, L.cu_root_args(site))}, nb, ${L.cu_group_base(h, "h_base", "h", s.gh)}, ${L.cu_group_base(v, "w_base", "w", s.gw)}, c0, to);
            stage_w${i}(a${s.contr.w_arg}, ${L.cu_sum(L.times("h", h.tap_step), L.cu_by_residue(g.axis_h, i, "r0", "rh"))}, ${L.cu_sum(L.times("w", v.tap_step), L.cu_by_residue(g.axis_w, i, "r0", "rw"))},
                     rg_min_int(${s.gh}, last_h - h), rg_min_int(${s.gw}, last_w - w), c0, k0, to + ${s.x_floats});
% if ride then
            if (h <= ${ride.rides.h} && ${ride.rides.h} < h + ${s.gh} && w <= ${ride.rides.w} && ${ride.rides.w} < w + ${s.gw}) stage_w1(a${ride.contr.w_arg}, 0, 0, 1, 1, c0, k0, to + ${s.x_floats + s.w_floats});
% end
        }
        rg_cp_async_commit();
        if (step >= 0) {
            const float *const from = shared + step % 2 * ${g.buffer};
            multiply${i}(from, from + ${s.x_floats}, h_base${L.cu_tap_step(h, "now_h")}, w_base${L.cu_tap_step(v, "now_w")},
                      rg_min_int(${s.gh}, last_h - now_h), rg_min_int(${s.gw}, last_w - now_w), ${ride and string.format("%d - now_h, %d - now_w, ", ride.rides.h, ride.rides.w) or ""}${L.cu_into(s, tostring)});
        }
    }
    rg_barrier();
}
