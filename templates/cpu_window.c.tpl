% local P, contr, x, y = k.variant.param, k.contr[0], k.site[0], k.site[1]
% local max, index, U = k.window == "max", k.window == "max" and L.uses_index(k), P.images
% local own = x.out_count > 0
% local state, taps = "scratch + " .. L.state_floats(x), contr.r * contr.s
% local live = "rg_live(ctl, nb * 16, 16)"
/* ${k.window} over ${contr.r}x${contr.s} taps: ${x.h}x${x.w} to ${y.h}x${y.w} pixels, ${P.rows} rows a tile. */
void ${sym}(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    ${L.pointers(k)}
    const int nb = tile / ${P.strips}, p0 = tile % ${P.strips} * ${P.rows}, p1 = rg_min_int(p0 + ${P.rows}, ${y.h});
    (void)ctl;
    (void)scratch;
% local begin = L.reduce_begin(y, state, "c")
% if #begin > 0 then
    for (int c = 0; c < ${L.site_cp(y)}; c += ${t.vector}) {
        ${begin}
    }
% end
% if own then
    const int h0 = rg_min_int(tile % ${P.strips} * ${P.own_rows}, ${x.h}), h1 = rg_min_int(h0 + ${P.own_rows}, ${x.h});
    for (int c = 0; c < ${L.site_cp(x)}; c += ${t.vector}) {
        ${L.reduce_begin(x, "scratch", "c")}
        for (int h = h0; h < h1; h++)
            for (int w = 0; w < ${x.w}; w++) {
                ${L.window_own(k)}
            }
        ${L.reduce_end(k, x, "scratch", {c = "c"}, "tile", "(float)(" .. live .. " * (h1 - h0) * " .. x.w .. ")")}
    }
% end
    for (int p = p0; p < p1; p++)
        for (int q = 0; q < ${y.w}; q++) {
            int th[${taps}], tw[${taps}], at[${taps}], taps = 0;
            for (int fr = 0; fr < ${contr.r}; fr++) {
                ${L.tap_lines(contr.gh, "h", "p", "fr", x.h)}
                for (int fs = 0; fs < ${contr.s}; fs++) {
                    ${L.tap_lines(contr.gw, "w", "q", "fs", x.w)}
                    th[taps] = h;
                    tw[taps] = w;
                    at[taps++] = fr * ${contr.s} + fs;
                }
            }
            (void)at;
% local tap_outer, tap_inner = L.window_tap(k)
            for (int m = 0; m < 16; m += ${U})
                for (int c = 0; c < ${L.site_cp(y)}; c += ${t.vector}) {
                    ${tap_outer}
                    vf acc0[${U}];
                    for (int r = 0; r < ${U}; r++) acc0[r] = ${max and "rg_splat(-__builtin_inff())" or "rg_splat(0.0f)"};
% if index then
                    vf acc1[${U}];
                    for (int r = 0; r < ${U}; r++) acc1[r] = rg_splat(taps ? (float)at[0] : 0.0f);
% end
                    for (int i = 0; i < taps; i++) {
% if index or k.window == "maxgrad" then
                        const vf number = rg_splat((float)at[i]);
% end
                        for (int r = 0; r < ${U}; r++) {
                            ${tap_inner}
                        }
                    }
                    ${L.window_epilogue(k, U)}
                }
        }
% local finish = L.reduce_end(k, y, state, {c = "c"}, "tile", "(float)(" .. live .. " * (p1 - p0) * " .. y.w .. ")")
% if #finish > 0 then
    for (int c = 0; c < ${L.site_cp(y)}; c += ${t.vector}) {
        ${finish}
    }
% end
}
