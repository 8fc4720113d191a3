% local g = L.wgrad(k, k.variant.param)
% local v, kb, rows, x, dy = g.v, g.kb, g.rows, g.x, g.dy
% local taps_s, x_lanes = g.unfold and 1 or g.taps_s, g.unfold and g.lanes or g.c
% local zero, what = "rg_splat(0.0f)", g.unfold and "(column tap, channel) pairs" or "input channels"
% local pos = {nb = "nb", h = "h", w = "w", n = "r", c = "c"}
% local function keep(step) return function(e) return "rg_store(to_c + r * " .. step .. ", " .. e .. ");" end end
% local function keep_dy(e) return keep(kb)(L.wgrad_mask(g, e)) end

/* Weight gradient: a tile takes ${g.kc} output channels and ${g.cc} ${what} of all taps. Strips of ${g.pr} row(s) of dy,
 * ${g.g} image block(s) at once, are packed with the rows of x that they meet, prologues applied: then every pair of runs of
 * pixels is contiguous. */

/* Outputs for which a row tap exists; a column tap: its first column in the panel, and those outputs. */
static const short row_tap[${rows.taps}][2] = {
${L.wgrad_row_table(g)}
};
static const short col_tap[${taps_s}][3] = {
${L.wgrad_col_table(g)}
};

% if g.unfold then
${include("cpu_wgrad_unfold.c.tpl", {g = g})}
% else
/* Row u of x, channels c0 to c1: vectors of 16 images side by side, columns by phase. */
static void pack_x(float *const *a, const struct rg_ctrl *ctl, int nb, int c0, int c1, int u, int own, float *to) {
    ${L.pointers(k, L.site_args(x))}
    const int h = ${L.plus(L.times("u", rows.unit), rows.off)}, live = rg_live(ctl, nb * 16, 16);
% for slot, phase in ipairs(g.phase) do
    for (int i = ${phase.first}; i < ${phase.last}; i++) {
        const int w = ${L.wgrad_column(g, phase)};
        for (int c = c0; c < c1; c += ${v}) {
            float *const to_c = to + (c - c0) / ${v} * ${g.x_panel} + (i + ${(slot - 1) * g.cols.positions}) * ${16 * v};
            ${L.site_block(k, x, {rows = 16, pos = pos, own = "own", root = keep(v)})}
            for (int r = live; r < 16; r++) rg_store(to_c + r * ${v}, ${zero});
        }
        (void)w;
    }
% end
    (void)h, (void)own;
}
% end

/* Row p of dy, output channels k0 to k1. */
static void pack_dy(float *const *a, const struct rg_ctrl *ctl, int nb, int k0, int k1, int h, int own, float *to) {
    ${L.pointers(k, L.site_args(dy))}
    const int live = rg_live(ctl, nb * 16, 16);
    for (int w = 0; w < ${dy.w}; w++)
        for (int c = k0; c < k1; c += ${v}) {
            float *const to_c = to + (c - k0) / ${kb} * ${g.y_panel} + w * ${16 * kb} + (c - k0) % ${kb};
% if g.w.kp >= L.round_up(dy.c, v) + v then
            if (c >= ${dy.c}) {
                for (int r = 0; r < 16; r++) rg_store(to_c + r * ${kb}, ${zero});
                continue;
            }
% end
            ${L.site_block(k, dy, {rows = 16, pos = pos, own = "own", root = keep_dy})}
            for (int r = live; r < 16; r++) rg_store(to_c + r * ${kb}, ${zero});
        }
    (void)h, (void)own;
}

% for _, n in ipairs(L.wgrad_groups(g)) do
/* w[j][..] += x[j] * y[..] over n pixels' images, `lines` rows and `blocks` image blocks, for ${n} channels of x. */
static __attribute__((noinline)) void add_${n}(const float *x, const float *y, float *w, int blocks, int u, int lines,
                                           int n) {
    vf sum[${n}][${g.kv}];
    for (int j = 0; j < ${n}; j++)
        for (int i = 0; i < ${g.kv}; i++) sum[j][i] = rg_load(w + j * ${kb} + i * ${v});
    for (int b = 0; b < blocks; b++)
        for (int line = 0; line < lines; line++) {
            const float *xn = x + b * ${g.x_block} + ${L.wgrad_ring(g, "u + " .. L.times("line", rows.step))} * ${g.x_row};
            const float *yn = y + b * ${g.y_block} + line * ${g.y_row};
            for (int r = 0; r < n * 16; r++, xn += ${g.panel}, yn += ${kb}) {
                vf yr[${g.kv}];
                for (int i = 0; i < ${g.kv}; i++) yr[i] = rg_load(yn + i * ${v});
                for (int j = 0; j < ${n}; j++) {
                    const vf xr = rg_splat(xn[j]);
                    for (int i = 0; i < ${g.kv}; i++) sum[j][i] = rg_fma(xr, yr[i], sum[j][i]);
                }
            }
        }
    for (int j = 0; j < ${n}; j++)
        for (int i = 0; i < ${g.kv}; i++) rg_store(w + j * ${kb} + i * ${v}, sum[j][i]);
}

% end
/* All taps of one block of output channels, for the rows p0 to p1. */
static void add_taps(const float *xs, const float *ys, float *w, int channels, int blocks, int p0, int p1) {
    for (int r = 0; r < ${rows.taps}; r++) {
        const int first = rg_max_int(p0, row_tap[r][0]), lines = rg_min_int(p1, row_tap[r][1]) - first;
        if (lines <= 0) continue;
        for (int s = 0; s < ${taps_s}; s++) {
            const int q = col_tap[s][1], n = col_tap[s][2] - q;
            if (n <= 0) continue;
            const float *x = xs + (col_tap[s][0] + q) * ${16 * g.panel};
            const float *y = ys + (first - p0) * ${g.y_row} + q * ${16 * kb};
            float *to = w + (r * ${taps_s} + s) * ${x_lanes * kb};
            const int u = ${L.times("first", rows.step)} + ${L.times("r", rows.tap)};
            int c = 0;
            for (; c + ${g.group} <= channels; c += ${g.group})
                add_${g.group}(x + ${L.wgrad_panel(g)}, y, to + c * ${kb}, blocks, u, lines, n);
% if x_lanes % g.group ~= 0 then
            if (c < channels) add_${x_lanes % g.group}(x + ${L.wgrad_panel(g)}, y, to + c * ${kb}, blocks, u, lines, n);
% end
        }
    }
}

static void clear(float *w, int channels) {
    for (int t = 0; t < ${rows.taps * taps_s}; t++)
        for (int i = 0; i < channels * ${kb}; i += ${v}) rg_store(w + t * ${x_lanes * kb} + i, ${zero});
}

void ${sym}(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
% if g.split then
    const int chunk = tile % ${g.chunks_k * g.chunks_c}, first = tile / ${g.chunks_k * g.chunks_c}, last = first + 1;
    float *const dw = a[${g.w_arg}] + (long)first * ${g.weights};
% else
    const int chunk = tile, first = 0, last = ctl->blocks;
    float *const dw = a[${g.w_arg}];
% end
    const int k0 = chunk / ${g.chunks_c} * ${g.kc}, k1 = rg_min_int(k0 + ${g.kc}, ${g.blocks_k * kb});
    const int c0 = chunk % ${g.chunks_c} * ${g.cc}, c1 = rg_min_int(c0 + ${g.cc}, ${x_lanes});
    float *const xs = scratch, *const ys = scratch + ${g.y_base};
    for (int k = k0; k < k1; k += ${kb}) clear(dw + (long)k * ${rows.taps * taps_s * x_lanes} + c0 * ${kb}, c1 - c0);
    for (int nb = first; nb < last; nb += ${g.g}) {
        const int blocks = rg_min_int(${g.g}, last - nb);
        int packed = ${rows.first};
        for (int p0 = 0; p0 < ${dy.h}; p0 += ${g.pr}) {
            const int p1 = rg_min_int(p0 + ${g.pr}, ${dy.h});
            const int end = ${L.plus(L.times("(p1 - 1)", rows.step), (rows.taps - 1) * rows.tap + 1)};
            const int next = rg_max_int(packed, rg_min_int(${rows.last}, end));
            for (int b = 0; b < blocks; b++) {
                for (int u = packed; u < next; u++)
                    pack_x(a, ctl, nb + b, ${g.unfold and "u, k0 == 0, scratch + " .. g.row_base or "c0, c1, u, k0 == 0"},
                           xs + b * ${g.x_block} + ${L.wgrad_ring(g, "u")} * ${g.x_row});
                for (int p = p0; p < p1; p++)
                    pack_dy(a, ctl, nb + b, k0, k1, p, c0 == 0, ys + b * ${g.y_block} + (p - p0) * ${g.y_row});
            }
            packed = next;
            for (int k = k0; k < k1; k += ${kb})
                add_taps(xs, ys + (k - k0) / ${kb} * ${g.y_panel}, dw + (long)k * ${rows.taps * taps_s * x_lanes} + c0 * ${kb},
                         c1 - c0, blocks, p0, p1);
        }
    }
}
