% -- Products of a patch on the matrix unit. p.g: L.mma_wgrad's numbers.
% local g, F, half = p.g, p.g.format, p.g.format.bytes == 2
% local pairs_k, a, b = half and L.ceil_div(g.nk, 2) or g.nk, g.axis_h, g.axis_w
% local warp_c, warp_k = L.cu_product(L.cu_mod("warp", g.wc), 16 * g.mc), L.cu_product(L.cu_mod(L.over("warp", g.wc), g.wk), 8 * g.nk)
/* Where the lane's values of a pixel lie, for each 16 ${g.stem and "taps and " or ""}channels of x and each ${half and g.nk > 1 and 16 or 8} of dy. */
RG_DEVICE void places(int *x_at, int *y_at) {
    const int warp = rg_tid() / 32, lane = rg_tid() % 32;
    RG_UNROLL
    for (int m = 0; m < ${g.mc}; m++) {
        const int n = ${half and "lane / 16 * 8 + lane % 8" or "lane % 4"}, c = ${L.cu_sum(warp_c, "m * 16", half and "lane / 8 % 2 * 8" or "lane / 4")};
        x_at[m] = ${g.stem and "n * " .. g.image_pitch .. " + c" or L.mma_swizzled(F, g.ct, "n", "c", not half)};
    }
    RG_UNROLL
    for (int j = 0; j < ${pairs_k}; j++) {
        const int n = ${half and "lane % 16" or "lane % 4"}, c = ${half and (g.nk > 1 and L.cu_sum(warp_k, "j * 16", "lane / 16 * 8") or L.cu_sum(warp_k, "j * 8")) or L.cu_sum(warp_k, "j * 8", "lane / 4")};
        y_at[j] = ${L.mma_swizzled(F, g.kt, "n", "c", not half)};
    }
    (void)warp;
}

/* ${g.stem and "Taps x channels" or "Channels"} x images of a slot of x; images x channels of a pixel of dy. */
RG_DEVICE void load_x(unsigned (*a)[4], const ${F.type} *x, const int *x_at) {
    RG_UNROLL
% if half then
    for (int m = 0; m < ${g.mc}; m++) rg_ldmatrix4_trans(a[m], x + x_at[m]);
% else
    for (int m = 0; m < ${g.mc}; m++) {
        const float *const low = x + x_at[m], *const high = x + (x_at[m] ^ 8);
        a[m][0] = (unsigned)rg_bits(low[0]), a[m][1] = (unsigned)rg_bits(high[0]);
        a[m][2] = (unsigned)rg_bits(low[${4 * g.ct}]), a[m][3] = (unsigned)rg_bits(high[${4 * g.ct}]);
    }
% end
}

RG_DEVICE void load_y(unsigned *b, const ${F.type} *d, const int *y_at) {
    RG_UNROLL
% if half then
    for (int j = 0; j < ${pairs_k}; j++) rg_ldmatrix${g.nk > 1 and 4 or 2}_trans(b + j * 4, d + y_at[j]);
% else
    for (int j = 0; j < ${pairs_k}; j++) b[j * 2] = (unsigned)rg_bits(d[y_at[j]]), b[j * 2 + 1] = (unsigned)rg_bits(d[y_at[j] + ${4 * g.kt}]);
% end
}

/* A row of ${g.pw} pixels and a row of ${g.gw} taps, slot by slot from x on. What a slot needs is loaded while the one before is multiplied${g.keep and "" or ",\n * b, of the pixels from d on, too"}. */
RG_DEVICE void multiply_row(const ${F.type} *x, ${g.keep and "" or "const " .. F.type .. " *d, "}const int *x_at, ${g.keep and "" or "const int *y_at, "}unsigned (*b)[${g.nk * 2}], float (*acc)[4]) {
    unsigned a[2][${g.mc}][4];
    RG_UNROLL
    for (int slot = 0; slot <= ${g.slots_w}; slot++) {
        if (slot < ${g.slots_w}) load_x(a[slot % 2], x + slot * ${g.slot_pitch}, x_at);
% if not g.keep then
        RG_UNROLL
        for (int s = 0; s < ${g.gw}; s++) {
            const int pixel = ${L.plus("slot", g.first_w)} - ${L.times("s", g.tap_w)};
            const bool first_met = slot < ${g.slots_w} && (s == 0 || slot < ${g.tap_w});
            if (first_met && ${L.mma_pixel_is_there(g, "pixel")}) load_y(b[${L.over("pixel", g.stride_w)}], d + ${L.over("pixel", g.stride_w)} * ${16 * g.kt}, y_at);
        }
% end
        RG_UNROLL
        for (int s = 0; s < ${g.gw}; s++) {
            const int pixel = ${L.plus("slot", g.first_w - 1)} - ${L.times("s", g.tap_w)};
            if (slot == 0 || ${L.mma_pixel_is_not_there(g, "pixel")}) continue;
            RG_UNROLL
            for (int m = 0; m < ${g.mc}; m++)
                RG_UNROLL
                for (int j = 0; j < ${g.nk}; j++) {
                    float *const sum = acc[(${L.times("s", g.mc)} + m) * ${g.nk} + j];
                    ${L.mma_products(k.contr[0].format, "sum", "a[(slot + 1) % 2][m]", "b[" .. L.over("pixel", g.stride_w) .. "] + j * 2")}
                }
        }
    }
}

/* A patch; its first pixel's tap (0, 0) of the block reads row h0 of the input, of its rows height exist. */
RG_DEVICE void multiply(const ${F.type} *xs, const ${F.type} *ys, const int *x_at, const int *y_at, int h0, int height, float (*acc)[4]) {
    RG_ROLLED
    for (int y = ${g.wp > 1 and "rg_tid() / " .. g.group or "0"}; y < height; y += ${g.wp}) {
% if half then
        const ${F.type} *const x = xs, *const d = ys + y * ${g.pw * 16 * g.kt};
        {
% else
        RG_ROLLED
        for (int n = 0; n < 16; n += 8) {
            const ${F.type} *const x = xs + n * ${g.ct}, *const d = ys + y * ${g.pw * 16 * g.kt} + n * ${g.kt};
% end
            unsigned b[${g.pw}][${g.nk * 2}];
% if g.keep then
            RG_UNROLL
            for (int pixel = 0; pixel < ${g.pw}; pixel++) load_y(b[pixel], d + pixel * ${16 * g.kt}, y_at);
% end
            RG_UNROLL
            for (int r = 0; r < ${g.gh}; r++) {
                const int h = h0 + ${L.times("y", a.in_step)} + ${L.times("r", a.tap_in)};
                if (h < 0 || h >= ${g.x.h}) continue;
                multiply_row(x + (${L.plus(L.times("y", g.stride_h) .. " + " .. L.times("r", g.tap_h), -g.first_h)}) * ${g.row_pitch}, ${g.keep and "" or "d, "}x_at, ${g.keep and "" or "y_at, "}b, acc + r * ${g.gw * g.mc * g.nk});
            }
        }
    }
}
