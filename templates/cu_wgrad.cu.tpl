% local g = L.cu_wgrad(k, k.variant.param)
% local split, T = k.variant.param.split == 1, g.threads
% local a, b, groups = g.axis_h, g.axis_w, 8 // g.v
% local x_args, y_args = L.cu_root_args(g.x), L.cu_root_args(g.dy)
% local single = g.ct % 32 == 0
% for s = 0, 1 do
%     if k.site[s].out_count > 0 then
${include("cu_own.cu.tpl", {s = s, threads = T})}

%     end
% end
${include("cu_stage.cu.tpl", {name = "stage_x", s = 0, h = g.slots_h, w = g.slots_w, step_h = a.step, step_w = b.step, cc = g.ct, threads = T, live = true})}

${include("cu_stage.cu.tpl", {name = "stage_y", s = 1, h = g.ph, w = g.pw, step_h = 1, step_w = 1, cc = g.kt, threads = T, live = true})}

/* A thread's group u of ${g.v} row(s): its first row within the block's ${g.rows} (tap by tap, ${g.ct} channels each). */
RG_DEVICE int first_row(int u) {
    const int warp = rg_tid() / 32, lane = rg_tid() % 32;
    return ${L.cu_sum(L.cu_product(L.cu_mod("warp", g.wm), 32), L.times("u", 4 * g.v), L.times("lane / 8", g.v))};
}

/* Where a row's operand lies in the patch of x, for the patch's first pixel and image. */
RG_DEVICE int row_offset(int row) {
    const int tap = row / ${g.ct};
    if (row >= ${g.rows}) return 0;
    return (${L.cu_sum(L.times(L.over("tap", g.gw), g.tap_h * g.slots_w), L.cu_product(L.cu_mod("tap", g.gw), g.tap_w))}) * ${16 * g.ct} + row % ${g.ct};
}

/* Products of a patch; its first pixel's tap (0, 0) of the block reads input (h0, w0), of its pixels height x width exist. */
RG_DEVICE void multiply(const float *xs, const float *ys, const int *offset, int h0, int w0, int height, int width, float (*acc)[${g.cols}]) {
    const int warp = rg_tid() / 32, lane = rg_tid() % 32;
    ys += ${L.over("warp", g.wm)} * ${8 * g.cols} + lane % 8 * 4;
% if single then
    const int tap = ${L.over(L.cu_mod("warp", g.wm), g.ct // 32)};
    h0 += ${L.times(L.over("tap", g.gw), a.tap_in)}, w0 += ${L.cu_product(L.cu_mod("tap", g.gw), b.tap_in)};
% end
    RG_ROLLED
    for (int y = 0; y < height; y++) {
        RG_ROLLED
        for (int z = 0; z < width; z++) {
% if single then
            const int h = h0 + ${L.times("y", a.in_step)}, w = w0 + ${L.times("z", b.in_step)};
            if (h < 0 || h >= ${g.x.h} || w < 0 || w >= ${g.x.w}) continue;
% end
            const float *const x = xs + (${L.times("y", g.stride_h * g.slots_w)} + ${L.times("z", g.stride_w)}) * ${16 * g.ct};
            const float *const d = ys + (${L.times("y", g.pw)} + z) * ${16 * g.kt};
            RG_UNROLL
            for (int n = 0; n < 16; n++) {
                float p[8], q[${g.cols}];
                RG_UNROLL
% if g.v == 4 then
                for (int u = 0; u < 2; u++) rg_load4(p + u * 4, x + n * ${g.ct} + offset[u]);
% else
                for (int u = 0; u < 8; u++) p[u] = x[n * ${g.ct} + offset[u]];
% end
                RG_UNROLL
                for (int v = 0; v < ${g.cols}; v += 4) rg_load4(q + v, d + n * ${g.kt} + v * 8);
                RG_UNROLL
                for (int u = 0; u < 8; u++)
                    RG_UNROLL
                    for (int v = 0; v < ${g.cols}; v++) acc[u][v] = rg_fma(p[u], q[v], acc[u][v]);
            }
        }
    }
% if not single then
    (void)h0, (void)w0;
% end
}

/* The block's sums to dw, from tap (r0, s0) and channels c0 and k0 on. */
RG_DEVICE void leave(float *dw, int r0, int s0, int c0, int k0, const float (*acc)[${g.cols}]) {
    const int warp = rg_tid() / 32, lane = rg_tid() % 32;
    RG_UNROLL
    for (int u = 0; u < 8; u++) {
        const int row = first_row(u / ${g.v}) + u % ${g.v}, tap = row / ${g.ct};
        const int r = r0 + ${L.over("tap", g.gw)}, s = ${L.cu_sum("s0", L.cu_mod("tap", g.gw))}, c = c0 + row % ${g.ct};
        if (row >= ${g.rows} || r >= ${g.r} || s >= ${g.s} || c >= ${g.x.c}) continue;
        RG_UNROLL
        for (int v = 0; v < ${g.cols}; v += 4) {
            const int k = k0 + ${L.over("warp", g.wm)} * ${8 * g.cols} + v * 8 + lane % 8 * 4;
            if (k < ${g.w.kp})
                rg_store4(dw + (${L.times(L.times("k / " .. g.w.kb, g.r) .. " + r", g.s)} + s) * ${g.x.c * g.w.kb} + c * ${g.w.kb} + k % ${g.w.kb}, acc[u] + v);
        }
    }
}

${include("cu_tail_wgrad.cu.tpl", {g = g, gw = g.gw, ct = g.ct})}
RG_KERNEL RG_BOUNDS(${T}, ${g.resident}) void ${sym}(${L.cu_kernel_params(k)}) {
    ${L.cu_own_args(k)}
    ${include("cu_wgrad_slice.cu.tpl", {g = g, split = split, block = "rg_block()"})}
    float *const shared = rg_dynamic_shared();
    /* Patches first to last, counted through the image blocks. */
% if split then
    const int nb = ${L.over("part", g.strips)}, strip = ${L.cu_mod("part", g.strips)};
    const int first = ${L.times("nb", g.patches)} + ${L.over(L.times("strip", g.patches), g.strips)}, last = ${L.times("nb", g.patches)} + ${L.over(L.times("(strip + 1)", g.patches), g.strips)};
    float *const dw = a${g.w_arg} + (long long)part * ${g.weights};
% else
    const int first = 0, last = ctl->blocks * ${g.patches};
    float *const dw = a${g.w_arg};
% end
% for s = 0, 1 do
%     if k.site[s].out_count > 0 then
%         local pixels, args = k.site[s].h * k.site[s].w, L.cu_args(k, L.cu_site_args(k.site[s]))
%         if split then
    own${s}(${args}, nb, (${L.times("strip", g.tiles)} + tile) * ${pixels} / ${g.tiles * g.strips}, (${L.times("strip", g.tiles)} + tile + 1) * ${pixels} / ${g.tiles * g.strips}, 0, shared);
%         else
    for (int nb = 0; nb < ctl->blocks; nb++)
        own${s}(${args}, nb, tile * ${pixels} / ${g.tiles}, (tile + 1) * ${pixels} / ${g.tiles}, 0, shared);
%         end
%     end
% end
    int offset[${groups}];
    float acc[8][${g.cols}] = {};
    RG_UNROLL
    for (int u = 0; u < ${groups}; u++) offset[u] = row_offset(first_row(u));
    int p = 0, q = 0;
    RG_ROLLED
    for (int step = first - 1; step < last; step++) {
        if (step >= first) {
            rg_cp_async_wait<0>();
            rg_barrier();
        }
        const int now_p = p, now_q = q, next = step + 1;
        if (next < last) {
            const int ${split and "patch" or "nb"} = ${split and L.cu_mod("next", g.patches) or L.over("next", g.patches) .. ", patch = " .. L.cu_mod("next", g.patches)};
            float *const to = shared + (next & 1) * ${g.buffer};
            p = ${L.times(L.over("patch", g.patches_w), g.ph)}, q = ${L.cu_product(L.cu_mod("patch", g.patches_w), g.pw)};
            stage_x(${L.cu_args(k, x_args)}, nb, ${L.plus(L.times("p", a.in_step), g.off_h)}${L.cu_tap_step(a, "r0")}, ${L.plus(L.times("q", b.in_step), g.off_w)}${L.cu_tap_step(b, "s0")}, c0, to);
            stage_y(${L.cu_args(k, y_args)}, nb, p, q, k0, to + ${g.x_floats});
        }
        rg_cp_async_commit();
        if (step >= first) {
            const float *const from = shared + (step & 1) * ${g.buffer};
            multiply(from, from + ${g.x_floats}, offset, ${L.plus(L.times("now_p", a.in_step), g.off_h)}${L.cu_tap_step(a, "r0")}, ${L.plus(L.times("now_q", b.in_step), g.off_w)}${L.cu_tap_step(b, "s0")},
                     rg_min_int(${g.ph}, ${g.dy.h} - now_p), rg_min_int(${g.pw}, ${g.dy.w} - now_q), acc);
        }
    }
    leave(dw, r0, s0, c0, k0, acc);
% if L.cu_has_tails(k) then
    add_up_slice(${L.cu_args(k, L.cu_tail_wgrad_args(k))});
% end
}
