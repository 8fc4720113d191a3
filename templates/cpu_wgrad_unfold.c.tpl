% local g, x, v, cols = p.g, p.g.x, p.g.v, p.g.cols
% local pos = {nb = "nb", h = "h", w = "w", n = "r", c = "0"}
% local function keep(e) return "rg_store(row + (w * 16 + r) * " .. v .. ", " .. e .. ");" end
% local pixel = g.plain and k.arg[x.expr[x.root].leaf].cp or v
/* Row u of x, unfolded: for each output column and image all (column tap, channel) pairs; taps in the padding are zero. */
static void pack_x(float *const *a, const struct rg_ctrl *ctl, int nb, int u, int own, float *row, float *to) {
    ${L.pointers(k, L.site_args(x))}
    const int h = ${L.plus(L.times("u", g.rows.unit), g.rows.off)}, live = rg_live(ctl, nb * 16, 16);
% if g.plain then
    const float *const from = a${x.expr[x.root].leaf} + ((long)nb * ${x.h} + h) * ${x.w * 16 * pixel};
    (void)row;
% else
    const float *const from = row;
    for (int w = 0; w < ${x.w}; w++) {
        ${L.site_block(k, x, {rows = 16, pos = pos, own = "own", root = keep})}
    }
% end
    for (int q = 0; q < ${g.dy.w}; q++)
        for (int s = 0; s < ${g.taps_s}; s++) {
            const int w = ${L.plus(L.times("q", cols.mul) .. " + " .. L.times("s", cols.tap_mul), cols.off)};
            const int rows = w >= 0 && w < ${x.w} ? live : 0;
            float *const to_s = to + q * ${16 * g.panel} + s * ${x.c};
            for (int r = 0; r < rows; r++)
                for (int c = 0; c < ${x.c}; c++) to_s[r * ${g.panel} + c] = from[(w * 16 + r) * ${pixel} + c];
            for (int r = rows; r < 16; r++)
                for (int c = 0; c < ${x.c}; c++) to_s[r * ${g.panel} + c] = 0.0f;
        }
    (void)own;
}
