% local g = L.mma_wgrad(k, k.variant.param)
% local split, T, F, half = k.variant.param.split == 1, g.threads, g.format, g.format.bytes == 2
% local a, b, type = g.axis_h, g.axis_w, g.format.type
% local x_args, y_args = L.cu_root_args(g.x), L.cu_root_args(g.dy)
% local row = g.x.c * g.w.kb
% local pairs_k = half and L.ceil_div(g.nk, 2) or g.nk
% for s = 0, 1 do
%     if k.site[s].out_count > 0 then
${include("cu_own.cu.tpl", {s = s, threads = T})}

%     end
% end
% if g.stem then
${include("cu_mma_stem_stage.cu.tpl", {name = "stage_x", s = 0, h = g.slots_h, w = g.width, step_h = a.step, pitch = g.image_pitch, threads = T, format = F})}
% else
${include("cu_mma_stage.cu.tpl", {name = "stage_x", s = 0, h = g.slots_h, w = g.slots_w, step_h = a.step, step_w = b.step, cc = g.ct, reach = g.chunks_c * g.ct, threads = T, format = F})}
% end

${include("cu_mma_stage.cu.tpl", {name = "stage_y", s = 1, h = g.ph, w = g.pw, step_h = 1, step_w = 1, cc = g.kt, reach = g.chunks_k * g.kt, threads = T, format = F})}

${include("cu_mma_wgrad_products.cu.tpl", {g = g})}

% if g.wp > 1 then
/* Adds up the groups of warps in their order, ${g.at_once} sums at a time; the first group has them then. */
RG_DEVICE void gather(float *shared, float (*acc)[4]) {
    const int group = rg_tid() / ${g.group}, place = rg_tid() % ${g.group};
    RG_UNROLL
    for (int first = 0; first < ${g.sums}; first += ${g.at_once}) {
        rg_barrier();
        RG_UNROLL
        for (int f = first; f < ${g.sums} && f < first + ${g.at_once}; f++)
            if (group > 0) rg_store4(shared + (((group - 1) * ${g.at_once} + f - first) * ${g.group} + place) * 4, acc[f]);
        rg_barrier();
        RG_UNROLL
        for (int other = 0; other < ${g.wp - 1}; other++)
            RG_UNROLL
            for (int f = first; f < ${g.sums} && f < first + ${g.at_once}; f++) {
                float more[4] = {};
                if (group == 0) rg_load4(more, shared + ((other * ${g.at_once} + f - first) * ${g.group} + place) * 4);
                RG_UNROLL
                for (int j = 0; j < 4; j++) acc[f][j] += more[j];
            }
    }
}

% end
/* The block's sums to dw, from tap (r0, s0) and channels c0 and k0 on. */
RG_DEVICE void leave(float *dw, int r0, int s0, int c0, int k0, const float (*acc)[4]) {
    const int warp = rg_tid() / 32, lane = rg_tid() % 32;
% if g.wp > 1 then
    if (rg_tid() >= ${g.group}) return;
% end
% if g.stem then
    const int c = lane / 4 % 4, k = ${L.cu_sum("k0", L.cu_product("warp", 8 * g.nk), "lane % 4 * 2")};
    s0 += lane / 16;
% else
    const int c = ${L.cu_sum("c0", L.cu_product(L.cu_mod("warp", g.wc), 16 * g.mc), "lane / 4")}, k = ${L.cu_sum("k0", L.cu_product(L.over("warp", g.wc), 8 * g.nk), "lane % 4 * 2")};
% end
    float *const to = dw + (${L.times(L.times("k / " .. g.w.kb, g.r) .. " + r0", g.s)} + s0) * ${row} + c * ${g.w.kb} + k % ${g.w.kb};
    RG_UNROLL
    for (int f = 0; f < ${g.sums * 2}; f++) {
        const int tap = f / ${2 * g.mc * g.nk}, j = ${L.cu_mod("f / 2", g.nk)}, upper = f % 2 * 8;
        const int r = ${L.over("tap", g.gw)}, s = ${g.stem and L.cu_sum(L.cu_product(L.cu_mod("tap", g.gw), 4), "upper / 4") or L.cu_mod("tap", g.gw)}, m = ${g.stem and "0" or L.cu_sum(L.cu_product(L.cu_mod(L.over("f", 2 * g.nk), g.mc), 16), "upper")};
% local inside = {}
% if g.r % g.gh ~= 0 then inside[#inside + 1] = "r0 + r >= " .. g.r end
% if g.stem or g.s % g.gw ~= 0 then inside[#inside + 1] = "s0 + s >= " .. g.s end
% if g.x.c % g.ct ~= 0 then inside[#inside + 1] = "c + m >= " .. g.x.c end
% if g.w.kp % g.kt ~= 0 then inside[#inside + 1] = "k + j * 8 >= " .. g.w.kp end
% if #inside > 0 then
        if (${table.concat(inside, " || ")}) continue;
% end
        const rg_u2 two = {(unsigned)rg_bits(${L.mma_wgrad_sum(g, 0)}), (unsigned)rg_bits(${L.mma_wgrad_sum(g, 1)})};
        *(rg_u2 *)(to + (${L.times("r", g.s)} + s) * ${row} + m * ${g.w.kb} + j * 8 / ${g.w.kb} * ${g.r * g.s * row} + j * 8 % ${g.w.kb}) = two;
    }
    (void)warp, (void)c0;
}

${include("cu_tail_wgrad.cu.tpl", {g = g, gw = g.slice_s, ct = g.slice_c})}
RG_KERNEL RG_BOUNDS(${T}, ${g.resident}) void ${sym}(${L.cu_kernel_params(k)}) {
    ${L.cu_own_args(k)}
    ${include("cu_wgrad_slice.cu.tpl", {g = g, split = split, block = "rg_block()"})}
    float *const shared = rg_dynamic_shared();
    ${type} *const buffer = (${type} *)shared;
    /* Patches first to last, counted through the image blocks. */
% if split then
    const int block = ${L.over("part", g.strips)}, strip = ${L.cu_mod("part", g.strips)};
    const int first = ${L.times("block", g.patches)} + ${L.over(L.times("strip", g.patches), g.strips)}, last = ${L.times("block", g.patches)} + ${L.over(L.times("(strip + 1)", g.patches), g.strips)};
    float *const dw = a${g.w_arg} + (long long)part * ${g.weights};
% else
    const int first = 0, last = ctl->blocks * ${g.patches};
    float *const dw = a${g.w_arg};
% end
% for s = 0, 1 do
%     if k.site[s].out_count > 0 then
%         local pixels, args = k.site[s].h * k.site[s].w, L.cu_args(k, L.cu_site_args(k.site[s]))
%         if split then
    own${s}(${args}, block, (${L.times("strip", g.tiles)} + tile) * ${pixels} / ${g.tiles * g.strips}, (${L.times("strip", g.tiles)} + tile + 1) * ${pixels} / ${g.tiles * g.strips}, 0, shared);
%         else
    for (int nb = 0; nb < ctl->blocks; nb++)
        own${s}(${args}, nb, tile * ${pixels} / ${g.tiles}, (tile + 1) * ${pixels} / ${g.tiles}, 0, shared);
%         end
%     end
% end
    const int h_first = ${L.plus("0", g.off_h)}${L.cu_tap_step(a, "r0")}, w_first = ${L.plus("0", g.off_w)}${L.cu_tap_step(b, "s0")};
    int x_at[${g.mc}], y_at[${pairs_k}];
    float acc[${g.sums}][4] = {};
    places(x_at, y_at);
    RG_ROLLED
    for (int step = first - ${g.stages - 1}; step < last; step++) {
        if (step >= first) {
            rg_cp_async_wait<${g.stages - 2}>();
            rg_barrier();
        }
        const int next = step + ${g.stages - 1};
        if (next < last) {
            const int nb = ${L.over("next", g.patches)}, patch = ${L.cu_mod("next", g.patches)};
            const int p = ${L.times(L.over("patch", g.patches_w), g.ph)}, q = ${L.cu_product(L.cu_mod("patch", g.patches_w), g.pw)};
            ${type} *const to = buffer + (next - first) % ${g.stages} * ${g.buffer};
            stage_x(${L.cu_args(k, x_args)}, nb, ${L.plus("h_first + " .. L.times("p", a.in_step), g.first_h * a.step)}, ${L.plus("w_first + " .. L.times("q", b.in_step), g.first_w * b.step)}, ${g.stem and "" or "c0, "}to);
            stage_y(${L.cu_args(k, y_args)}, nb, p, q, k0, to + ${g.x_size});
        }
        rg_cp_async_commit();
        if (step >= first) {
            const int p = ${L.times(L.over(L.paren(L.cu_mod("step", g.patches)), g.patches_w), g.ph)};
            const ${type} *const from = buffer + (step - first) % ${g.stages} * ${g.buffer};
            multiply(from, from + ${g.x_size}, x_at, y_at, h_first + ${L.times("p", a.in_step)}, rg_min_int(${g.ph}, ${g.dy.h} - p), acc);
        }
    }
% if g.wp > 1 then
    gather(shared, acc);
% end
    leave(dw, r0, s0, c0, k0, acc);
% if L.cu_has_tails(k) then
    add_up_slice(${L.cu_args(k, L.cu_tail_wgrad_args(k))});
% end
}
