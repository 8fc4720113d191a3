% -- Convolution on FFMA, fprop and dgrad alike: a block is one image block, ph x pw output pixels of one residue class, kt channels. Taps
% -- and channels go through shared memory, prologue applied there once; sums stay in registers until the epilogue.
% local g, last = L.cu_conv(k, k.variant.param), k.site_count - 1
% local out, rows = g.out, 4 * g.pixels
% local pos = {nb = "nb", h = "p", w = "q", n = "n", c = "c"}
% local width = L.cu_width(k, out)
% local lane = "[r][v + " .. (width == 4 and "j" or "l") .. "]"
% local acc = {[0] = "acc" .. lane, [1] = "acc1" .. lane}
% local outer, inner = L.cu_site(k, out, {pos = pos, width = width, acc = acc, reduce = L.cu_reduce_add("n < live", width)})
% local reduced, per_h, per_w = #L.cu_reductions(out) > 0, g.axis_h.period, g.axis_w.period
% local put = {shared = "shared", rows = g.wp * 4, row = "(" .. L.cu_sum(L.cu_product(L.cu_mod("warp", g.wp), 4), "lane / 8") .. ")", channels = g.kt, c = "column", width = width}
% for s = 0, last - 1 do
%     if k.site[s].out_count > 0 then
${include("cu_own.cu.tpl", {s = s, threads = g.threads})}

%     end
% end
% for i = 0, k.contr_count - 1 do
%     if not g.stage[i].rides then
${include("cu_conv_stage.cu.tpl", {i = i, g = g})}

%     end
% end
/* A thread's ${g.pixels} x 4 rows (images lane / 8, + 4, + 8, + 12 of each pixel) and ${g.cols} channels; part: the tile's. */
RG_DEVICE void epilogue(${L.cu_params(k, L.cu_site_args(out))}, int nb, int p0, int q0, int k0, int part, float *shared, const float (*acc)[${g.cols}]${g.results > 1 and ", const float (*acc1)[" .. g.cols .. "]" or ""}) {
    ${L.cu_bases(k, L.site_args(out))}
    const int warp = rg_tid() / 32, lane = rg_tid() % 32, live = rg_live(ctl, nb * 16, 16);
    RG_UNROLL
    for (int v = 0; v < ${g.cols}; v += 4) {
% if width == 1 then
        RG_UNROLL
        for (int l = 0; l < 4; l++) {
% else
        {
% end
            const int column = ${L.over("warp", g.wp)} * ${8 * g.cols} + v * 8 + lane % 8 * 4${width == 1 and " + l" or ""}, c = k0 + column;
            ${L.cu_reduce_begin(out, width)}
            if (c < ${width == 1 and out.c or L.round_up(out.c, 4)}) {
                ${outer}
                RG_UNROLL
                for (int r = 0; r < ${rows}; r++) {
                    const int pixel = ${L.cu_sum(L.cu_product(L.cu_mod("warp", g.wp), g.pixels), "r / 4")}, n = r % 4 * 4 + lane / 8;
                    const int p = p0 + ${L.times(L.over("pixel", g.pw), per_h)}, q = ${L.cu_sum("q0", L.cu_product(L.cu_mod("pixel", g.pw), per_w))};
                    if (p >= ${out.h} || q >= ${out.w}) continue;
                    ${inner}
% if reduced then
                    seen += n < live;
% end
                }
            }
            ${L.cu_reduce_put(out, put)}
        }
    }
% if reduced then
    rg_barrier();
    ${L.cu_reduce_finish(k, out, {shared = "shared", rows = g.wp * 4, channels = g.kt, threads = g.threads, part = "part", first = "k0"})}
% end
    (void)live, (void)part, (void)shared;
}

RG_KERNEL RG_BOUNDS(${g.threads}, ${g.resident}) void ${sym}(${L.cu_kernel_params(k)}) {
    const int slice = ${L.cu_mod("rg_block()", g.slices)}, tile = ${L.cu_mod(L.over("rg_block()", g.slices), g.tiles)}, nb = ${L.over("rg_block()", g.slices * g.tiles)};
    const int tile_w = ${L.cu_mod("tile", g.tiles_w)}, tile_h = ${L.cu_mod(L.over("tile", g.tiles_w), g.tiles_h)}, residue = ${L.over("tile", g.tiles_w * g.tiles_h)};
    const int rh = ${L.over("residue", per_w)}, rw = ${L.cu_mod("residue", per_w)}, k0 = slice * ${g.kt}, part = ${L.times("nb", g.tiles)} + tile;
    float *const shared = rg_dynamic_shared();
% for s = 0, last - 1 do
%     if k.site[s].out_count > 0 then
%         local pixels = k.site[s].h * k.site[s].w
    if (slice == 0) own${s}(${L.cu_args(k, L.cu_site_args(k.site[s]))}, nb, tile * ${pixels} / ${g.tiles}, (tile + 1) * ${pixels} / ${g.tiles}, part, shared);
%     end
% end
    float acc[${rows}][${g.cols}] = {};
% if g.results > 1 then
    float acc1[${rows}][${g.cols}] = {};
% end
% for i = 0, k.contr_count - 1 do
%     local s = g.stage[i]
%     if not s.rides then
    add${i}(${L.cu_args(k, L.cu_stage_args(k, i, s.rider))}, nb, rh, rw, tile_h, tile_w, k0, shared, ${L.cu_into(s, tostring)});
%     end
% end
    epilogue(${L.cu_args(k, L.cu_site_args(out))}, nb, rh + ${L.times("tile_h", g.ph * per_h)}, rw + ${L.times("tile_w", g.pw * per_w)}, k0, part, shared, acc${g.results > 1 and ", acc1" or ""});
    ${include("cu_tail.cu.tpl")}
}
