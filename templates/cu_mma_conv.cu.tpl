% -- Convolution on the matrix unit, fprop and dgrad alike: a block is one image block, ph x pw output pixels of one residue class, kt
% -- channels. Stages of input channels go through shared memory, prologue applied there once; sums stay in registers until the epilogue.
% local g = (k.variant.param.stem and L.stem or L.mma_conv)(k, k.variant.param)
% local out, per_h, per_w, reduced = g.out, g.axis_h.period, g.axis_w.period, #L.cu_reductions(g.out) > 0
% local width, quads, lanes, parts = L.cu_width(k, out), 2 * g.nk, 32 * g.wc, "shared + " .. g.sums * g.results
% local lane = width == 4 and "[j]" or "[l]"
% local acc = {[0] = "sum" .. lane, [1] = "ridden" .. lane}
% local outer, inner = L.cu_site(k, out, {pos = {nb = "nb", h = "p", w = "q", n = "n", c = "c"}, width = width, acc = acc, reduce = L.cu_reduce_add("n < live", width)})
% local row = L.cu_sum(L.times(L.cu_mod("place", g.wp), lanes // quads), L.over("t", quads))
% local put = {shared = parts, rows = g.rows, row = "(" .. row .. ")", channels = g.kt, c = "column", width = width}
% for _, s in ipairs(g.own) do
${include("cu_own.cu.tpl", {s = s, threads = g.threads})}

% end
% if g.stem then
${include("cu_mma_stem.cu.tpl", {g = g})}

% end
% for i = 0, g.stem and -1 or k.contr_count - 1 do
%     if not g.stage[i].rides then
${include("cu_mma_conv_stage.cu.tpl", {i = i, g = g})}

${include("cu_mma_conv_products.cu.tpl", {i = i, g = g})}

%     end
% end
/* The sums of a warp's pixels go through shared memory, 16 images x ${g.nk * 8} channels at a time${g.wc > 1 and ", those of " .. g.wc .. " warps are added up" or ""}: a thread has four
 * neighbouring channels then. part: the tile's. */
RG_DEVICE void epilogue(${L.cu_params(k, L.cu_site_args(out))}, int nb, int p0, int q0, int k0, int part, float *shared, const float (*acc)[4]${g.results > 1 and ", const float (*acc1)[4]" or ""}) {
    ${L.cu_bases(k, L.site_args(out))}
    const int warp = rg_tid() / 32, lane = rg_tid() % 32, place = ${g.wc > 1 and "warp % " .. g.group or "warp"}, live = rg_live(ctl, nb * 16, 16);
    const int t = ${g.wc > 1 and string.format("warp / %d * 32 + lane", g.group) or "lane"}, group = ${L.cu_mod("place", g.wp)};
    const int y0 = ${L.cu_product(L.over("group", g.wide), g.wy)}, z0 = ${L.cu_product(L.cu_mod("group", g.wide), g.wx)};
    float *const own = shared + warp * ${16 * g.pitch} + lane / 4 * ${g.pitch} + lane % 4 * 2;
    const float *const sums = shared + place * ${16 * g.pitch} + t % ${quads} * 4;
% if width == 1 then
    RG_UNROLL
    for (int l = 0; l < 4; l++) {
% else
    {
% end
        const int column = ${L.cu_sum(L.times(L.over("place", g.wp), 8 * g.nk), "t % " .. quads .. " * 4", width == 1 and "l" or "0")};
% local limit = width == 1 and out.c or L.round_up(out.c, 4)
% if g.slices * g.kt > limit then
        const bool there = k0 + column < ${limit};
        const int c = there ? k0 + column : 0;
% else
        const int c = k0 + column;
% end
        ${L.cu_reduce_begin(out, width)}
        ${outer}
        RG_UNROLL
        for (int u = 0; u < ${g.pixels}; u++) {
            const int p = p0 + ${L.times("(" .. L.cu_sum("y0", L.over("u", g.wx)) .. ")", per_h)}, q = q0 + ${L.times("(" .. L.cu_sum("z0", L.cu_mod("u", g.wx)) .. ")", per_w)};
            ${g.wc > 1 and "rg_barrier();" or "rg_warp_barrier();"}
            RG_UNROLL
            for (int j = 0; j < ${2 * g.nk}; j++) {
                const float *const two = acc[u * ${g.nk} + j / 2] + j % 2 * 2;
                *(rg_u2 *)(own + j / 2 * 8 + j % 2 * ${8 * g.pitch}) = {(unsigned)rg_bits(two[0]), (unsigned)rg_bits(two[1])};
% if g.results > 1 then
                const float *const more = acc1[u * ${g.nk} + j / 2] + j % 2 * 2;
                *(rg_u2 *)(own + ${g.sums} + j / 2 * 8 + j % 2 * ${8 * g.pitch}) = {(unsigned)rg_bits(more[0]), (unsigned)rg_bits(more[1])};
% end
            }
            ${g.wc > 1 and "rg_barrier();" or "rg_warp_barrier();"}
            if (p >= ${out.h} || q >= ${out.w}${g.slices * g.kt > limit and " || !there" or ""}) continue;
            RG_UNROLL
            for (int m = 0; m < ${L.ceil_div(16 * quads, lanes)}; m++) {
                const int n = ${L.over("t", quads)} + m * ${lanes // quads};
% if lanes // quads > 16 then
                if (n >= 16) break;
% end
                ${L.mma_sum(g, "sum", 0)}
% if g.results > 1 then
                ${L.mma_sum(g, "ridden", g.sums)}
% end
                ${inner}
% if reduced then
                seen += n < live;
% end
            }
        }
        ${L.cu_reduce_put(out, put)}
    }
% if reduced then
    rg_barrier();
    ${L.cu_reduce_finish(k, out, {shared = parts, rows = g.rows, channels = g.kt, threads = g.threads, part = "part", first = "k0"})}
% end
    (void)live, (void)part;
}

RG_KERNEL RG_BOUNDS(${g.threads}, ${g.resident}) void ${sym}(${L.cu_kernel_params(k)}) {
    const int slice = ${L.cu_mod("rg_block()", g.slices)}, tile = ${L.cu_mod(L.over("rg_block()", g.slices), g.tiles)}, nb = ${L.over("rg_block()", g.slices * g.tiles)};
    const int tile_w = ${L.cu_mod("tile", g.tiles_w)}, tile_h = ${L.cu_mod(L.over("tile", g.tiles_w), g.tiles_h)}, residue = ${L.over("tile", g.tiles_w * g.tiles_h)};
    const int rh = ${L.over("residue", per_w)}, rw = ${L.cu_mod("residue", per_w)}, k0 = slice * ${g.kt}, part = ${L.times("nb", g.tiles)} + tile;
    float *const shared = rg_dynamic_shared();
% for _, s in ipairs(g.own) do
%     local pixels = k.site[s].h * k.site[s].w
    if (slice == 0) own${s}(${L.cu_args(k, L.cu_site_args(k.site[s]))}, nb, tile * ${pixels} / ${g.tiles}, (tile + 1) * ${pixels} / ${g.tiles}, part, shared);
% end
    float acc[${g.pixels * g.nk}][4] = {};
% if g.results > 1 then
    float acc1[${g.pixels * g.nk}][4] = {};
% end
% for i = 0, k.contr_count - 1 do
%     local s = g.stage[i]
%     if not s.rides then
    add${i}(${L.cu_args(k, L.mma_stage_args(k, s))}, nb, rh, rw, tile_h, tile_w, k0, shared, ${L.cu_into(s, tostring)});
%     end
% end
    epilogue(${L.cu_args(k, L.cu_site_args(out))}, nb, rh + ${L.times("tile_h", g.ph * per_h)}, rw + ${L.times("tile_w", g.pw * per_w)}, k0, part, shared, acc${g.results > 1 and ", acc1" or ""});
    ${include("cu_tail.cu.tpl")}
}
