% local g = L.wino(k, k.variant.param.m)
% local v, kb, n, m, x, y = g.v, g.kb, g.n, g.m, g.x, g.y
% local zero = "rg_splat(0.0f)"
% local in_pos = {nb = "nb", h = "h", w = "w", n = "(n0 + r)", c = "c"}
% local out_pos = {nb = "nb", h = "h", w = "w", n = "r", c = "c"}
% local sum = {[0] = "rg_load(sum + r * " .. kb .. ")"}
% local function keep(e) return "rg_store(patch + r * " .. v .. ", " .. e .. ");" end

/* Winograd F(${m} x ${m}, 3 x 3): a tile takes a row of ${g.tiles_w} output patches of 16 images. For each patch: ${n} x ${n} input pixels,
 * prologue applied, are transformed into V (${g.points} matrices of 16 images by channels); products with the transformed weights
 * give M, ${kb} output channels at a time; M is transformed back and goes through the epilogue. */

/* Transforms of a run of ${n}, in place, and of ${n} products to ${m} outputs. */
RG_INLINE void input_1d(vf *d) {
    ${L.wino_input[m]}
}

RG_INLINE void output_1d(const vf *d, vf *y) {
    ${L.wino_output[m]}
}

/* The patch's pixels, 8 images from n0 on, one vector of channels; zero outside the image. */
static void fetch(float *const *a, const struct rg_ctrl *ctl, int nb, int th, int tw, int n0, int c, float *patch) {
    ${L.pointers(k, L.site_args(x))}
    for (int i = 0; i < ${n}; i++)
        for (int j = 0; j < ${n}; j++, patch += ${8 * v}) {
            const int h = ${L.plus(L.times("th", m) .. " + i", g.h0)}, w = ${L.plus(L.times("tw", m) .. " + j", g.w0)};
            if (h < 0 || h >= ${x.h} || w < 0 || w >= ${x.w}) {
                for (int r = 0; r < 8; r++) rg_store(patch + r * ${v}, ${zero});
                continue;
            }
            ${L.site_block(k, x, {rows = 8, pos = in_pos, own = L.wino_own(g), root = keep})}
        }
    (void)ctl;
}

/* One patch into V[point][image][channel]. */
static void transform_input(float *const *a, const struct rg_ctrl *ctl, int nb, int th, int tw, float *patch, float *to) {
    for (int c = 0; c < ${x.c}; c += ${v})
        for (int n0 = 0; n0 < 16; n0 += 8) {
            fetch(a, ctl, nb, th, tw, n0, c, patch);
            for (int r = 0; r < 8; r++) {
                vf d[${n}][${n}];
                for (int j = 0; j < ${n}; j++) {
                    for (int i = 0; i < ${n}; i++) d[j][i] = rg_load(patch + ((i * ${n} + j) * 8 + r) * ${v});
                    input_1d(d[j]);
                }
                for (int i = 0; i < ${n}; i++) {
                    vf line[${n}];
                    for (int j = 0; j < ${n}; j++) line[j] = d[j][i];
                    input_1d(line);
                    for (int j = 0; j < ${n}; j++) rg_store(to + (i * ${n} + j) * ${g.v_point} + (n0 + r) * ${g.cp} + c, line[j]);
                }
            }
        }
}

/* ${g.rows} images by ${kb} output channels of one point: M = V U. */
static __attribute__((noinline)) void multiply(const float *restrict vp, const float *restrict u, float *restrict to) {
    vf sum[${g.rows}][${g.kv}];
    for (int r = 0; r < ${g.rows}; r++)
        for (int i = 0; i < ${g.kv}; i++) sum[r][i] = ${zero};
    for (int c = 0; c < ${x.c}; c++) {
        vf uc[${g.kv}];
        for (int i = 0; i < ${g.kv}; i++) uc[i] = rg_load(u + c * ${kb} + i * ${v});
        for (int r = 0; r < ${g.rows}; r++) {
            const vf vr = rg_splat(vp[r * ${g.cp} + c]);
            for (int i = 0; i < ${g.kv}; i++) sum[r][i] = rg_fma(vr, uc[i], sum[r][i]);
        }
    }
    for (int r = 0; r < ${g.rows}; r++)
        for (int i = 0; i < ${g.kv}; i++) rg_store(to + r * ${kb} + i * ${v}, sum[r][i]);
}

/* M back to ${m} x ${m} pixels, which lie where M's first ${m * m} points were. */
static void transform_output(float *at) {
    for (int c = 0; c < ${16 * kb}; c += ${v}) {
        vf part[${m}][${n}];
        for (int j = 0; j < ${n}; j++) {
            vf d[${n}], column[${m}];
            for (int i = 0; i < ${n}; i++) d[i] = rg_load(at + (i * ${n} + j) * ${g.m_point} + c);
            output_1d(d, column);
            for (int i = 0; i < ${m}; i++) part[i][j] = column[i];
        }
        for (int i = 0; i < ${m}; i++) {
            vf line[${m}];
            output_1d(part[i], line);
            for (int j = 0; j < ${m}; j++) rg_store(at + (i * ${m} + j) * ${g.m_point} + c, line[j]);
        }
    }
}

/* The epilogue of one patch's pixels, ${kb} output channels from k0 on. */
static void finish(float *const *a, const struct rg_ctrl *ctl, int nb, int th, int tw, int k0, const float *from, float *state) {
    ${L.pointers(k, L.site_args(y))}
    const int live = rg_live(ctl, nb * 16, 16);
    for (int i = 0; i < ${m}; i++)
        for (int j = 0; j < ${m}; j++, from += ${g.m_point}) {
            const int h = ${L.times("th", m)} + i, w = ${L.times("tw", m)} + j;
            if (h >= ${y.h} || w >= ${y.w}) continue;
            for (int c = k0; c < rg_min_int(k0 + ${kb}, ${L.round_up(y.c, v)}); c += ${v}) {
                const float *const sum = from + c - k0;
                ${L.site_block(k, y, {rows = 16, pos = out_pos, acc = sum, live = "live", state = "state", first = "(tw + i + j == 0)"})}
            }
        }
    (void)live, (void)state;
}

void ${sym}(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    const int nb = tile / ${g.tiles_h}, th = tile % ${g.tiles_h};
    float *const patch = scratch, *const vs = scratch + ${g.v_base}, *const ms = scratch + ${g.m_base};
    float *const state = scratch + ${g.state_base};
    const float *const weights = a[${g.w_arg}];
% if L.state_floats(y) > 0 then
    for (int c = 0; c < ${L.site_cp(y)}; c += ${v}) {
        ${L.reduce_begin(y, "state", "c")}
    }
% end
    for (int tw = 0; tw < ${g.tiles_w}; tw++) {
        transform_input(a, ctl, nb, th, tw, patch, vs);
        for (int k = 0; k < ${g.blocks_k}; k++) {
            for (int p = 0; p < ${g.points}; p++) {
                const float *const u = weights + (long)(p * ${g.blocks_k} + k) * ${x.c * kb};
                for (int r = 0; r < 16; r += ${g.rows})
                    multiply(vs + p * ${g.v_point} + r * ${g.cp}, u, ms + p * ${g.m_point} + r * ${kb});
            }
            transform_output(ms);
            finish(a, ctl, nb, th, tw, k * ${kb}, ms, state);
        }
    }
% if L.state_floats(y) > 0 then
    const float count = (float)(rg_live(ctl, nb * 16, 16) * rg_min_int(${m}, ${y.h} - th * ${m}) * ${y.w});
    ${L.pointers(k, L.wino_part_args(y))}
    for (int c = 0; c < ${L.site_cp(y)}; c += ${v}) {
        ${L.reduce_end(k, y, "state", {c = "c"}, "tile", "count")}
    }
    (void)count;
% end
}
