% local I, P, image, pixels = k.input, k.variant.param, k.arg[0], k.arg[2]
% local table_w = image.h * (2 + I.taps_h)
/* The weighted sum of an output's inputs, as a byte: Pillow's fixed point. */
template <typename Read> RG_DEVICE int rg_mix(const unsigned *weight, int count, Read read) {
    int sum = 1 << 21;
    for (int t = 0; t < count; t++) sum += (int)weight[t] * read(t);
    return rg_min_int(rg_max_int(sum >> 22, 0), 255);
}

/* A tile is ${P.pixels} pixels of 16 images, a thread one of them: first along its rows, then across them. */
RG_KERNEL void RG_BOUNDS(${k.variant.threads}, 1) ${sym}(${L.cu_kernel_params(k)}) {
    const int nb = rg_block() / ${P.tiles}, p = rg_block() % ${P.tiles} * ${P.pixels} + rg_tid() / 16;
    if (nb >= ctl->blocks || p >= ${image.h * image.w}) return;
    const int n = nb * 16 + rg_tid() % 16, y = p / ${image.w}, x = p % ${image.w};
    const bool live = n < ctl->live;
    const int from = live ? (int)a4[n] : 0;
    const unsigned char *const bytes = (const unsigned char *)(a2 + (long long)from * ${pixels.cp});
    const unsigned *const th = a5, *const tw = a5 + ${table_w};
    const int y0 = (int)th[y], x0 = (int)tw[x], rows = (int)th[${image.h} + y], columns = (int)tw[${image.w} + x];
    const unsigned *const wh = th + ${2 * image.h} + y * ${I.taps_h}, *const ww = tw + ${2 * image.w} + x * ${I.taps_w};
    float *const to = a0 + ((long long)nb * ${image.h * image.w} + p) * ${16 * image.cp} + rg_tid() % 16 * ${image.cp};
    if (p == 0) a1[n] = live ? (float)a3[from] : 0.0f;
% for c = 0, image.cp - 1 do
% if c < image.c then
    {
        const int byte = rg_mix(wh, live ? rows : 0, [&](int r) {
            const unsigned char *const row = bytes + (${c * I.h} + y0 + r) * ${I.w} + x0;
            return rg_mix(ww, columns, [&](int s) { return (int)row[s]; });
        });
        to[${c}] = live ? ((float)byte / 255.0f - ${L.float(I.mean[c])}) / ${L.float(I.std[c])} : 0.0f;
    }
% else
    to[${c}] = 0.0f;
% end
% end
}
