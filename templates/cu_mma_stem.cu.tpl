% -- Products of a convolution with few input channels (cu_lib_stem.lua). p.g: L.stem's numbers. Defines add0 for cu_mma_conv.cu.tpl.
% local g, contr = p.g, k.contr[0]
% local site, w, F, kt, taps = k.site[contr.site], k.arg[contr.w_arg], g.format, g.kt, 4 * g.groups
% local x_args = L.cu_root_args(site)
${include("cu_mma_stem_stage.cu.tpl", {name = "stage_x", s = contr.site, h = g.slots_h, w = g.width, step_h = g.step_h, pitch = g.image_pitch, threads = g.threads, format = F})}

/* All weights of output channels k0 and the following: [r][group of 4 taps][4 taps x 4 channels][${kt}], swizzled. */
RG_DEVICE void stage_w(const rg_u16 *from, int k0, rg_u16 *to) {
    for (int i = rg_tid(); i < ${g.w_size // 8}; i += ${g.threads}) {
        const int column = ${L.cu_product(L.cu_mod("i", kt // 8), 8)}, row = i / ${kt // 8}, c = row % 4, s = row / 4 % ${taps}, r = row / ${4 * taps}, k = k0 + column;
        const bool inside = c < ${site.c} && s < ${contr.s} && k < ${w.kp};
        const rg_u16 *const at = from + (${L.times("k / " .. w.kb, w.r)} + r) * ${w.s * site.c * w.kb} + s * ${site.c * w.kb} + c * ${w.kb} + k % ${w.kb};
        rg_cp_async16_fill(to + row / 16 * ${16 * kt} + ${L.mma_swizzled(F, kt, "row % 16", "column")}, inside ? at : from, inside ? 16 : 0);
    }
}

/* The warp's ${g.pixels} pixels and ${8 * g.nk} channels: x at the first pixel's tap (0, 0). */
RG_DEVICE void multiply(const rg_u16 *x, const rg_u16 *w, const int *w_at, float (*acc)[4]) {
    RG_ROLLED
    for (int r = 0; r < ${contr.r}; r++) {
        RG_UNROLL
        for (int group = 0; group < ${g.groups}; group++) {
            unsigned a[4], b[${2 * g.nk}];
            RG_UNROLL
            for (int j = 0; j < ${g.nk // 2}; j++) rg_ldmatrix4_trans(b + 4 * j, w + (${L.times("r", g.groups)} + group) * ${16 * kt} + w_at[j]);
            RG_UNROLL
            for (int o = 0; o < ${g.pixels}; o++) {
                rg_ldmatrix4(a, x + (${L.times("r", g.tap_h)} + ${L.times(L.over("o", g.wx), g.stride_h)}) * ${16 * g.image_pitch} + ${L.times("(" .. L.cu_sum(L.cu_product(L.cu_mod("o", g.wx), g.stride), "group * 4") .. ")", 4)});
                RG_UNROLL
                for (int j = 0; j < ${g.nk}; j++) {
                    ${L.mma_products(contr.format, "acc[o * " .. g.nk .. " + j]", "a", "(b + 2 * j)")}
                }
            }
        }
    }
}

/* All taps: operand and weights are brought at once. */
RG_DEVICE void add0(${L.cu_params(k, L.cu_stage_args(k, 0))}, int nb, int rh, int rw, int tile_h, int tile_w, int k0, float *shared, float (*acc)[4]) {
    const int warp = rg_tid() / 32, lane = rg_tid() % 32, group = ${L.cu_mod("warp", g.wp)};
    const int y0 = ${L.cu_product(L.over("group", g.wide), g.wy)}, z0 = ${L.cu_product(L.cu_mod("group", g.wide), g.wx)}, k_warp = ${L.cu_product(L.over("warp", g.wp), 8 * g.nk)};
    int w_at[${g.nk // 2}];
    RG_UNROLL
    for (int j = 0; j < ${g.nk // 2}; j++) {
        const int column = k_warp + j * 16 + lane / 16 * 8;
        w_at[j] = ${L.mma_swizzled(F, kt, "lane % 16", "column")};
    }
    rg_u16 *const x = (rg_u16 *)shared, *const w = x + ${g.x_size};
    stage_w(a${contr.w_arg}, k0, w);
    rg_cp_async_commit();
    stage_x(${L.cu_args(k, x_args)}, nb, ${L.plus(L.times("tile_h", g.ph * contr.gh.mul), contr.gh.off)}, ${L.plus(L.times("tile_w", g.pw * contr.gw.mul), contr.gw.off)}, x);
    rg_cp_async_wait<0>();
    rg_barrier();
    multiply(x + ${L.cu_sum(L.cu_product("y0", g.stride_h * 16 * g.image_pitch), L.cu_product("z0", g.stride * 4), "lane % 16 * " .. g.image_pitch, "lane / 16 * 8")}, w, w_at, acc);
    rg_barrier();
    (void)rh, (void)rw, (void)y0, (void)z0;
}
