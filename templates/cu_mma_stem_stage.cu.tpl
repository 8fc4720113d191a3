% -- Rows of an operand of at most four channels into shared memory, in the format. p: name, s (site), h (rows), w (pixels), step_h, pitch
% -- (elements from image to image), threads, format. Images beyond the batch, and channels that there are not, are zero.
% local site, F = k.site[p.s], p.format
/* ${p.h} rows of ${p.w} pixels of operand ${p.s} from (h0, w0) on: [row][16 images][pixel][4 channels], an image ${p.pitch} elements from the next. */
RG_DEVICE void ${p.name}(${L.cu_params(k, L.cu_root_args(site))}, int nb, int h0, int w0, ${F.type} *to) {
    ${L.cu_bases(k, L.cu_root_args(site))}
    const int live = rg_live(ctl, nb * 16, 16), c = 0;
    for (int i = rg_tid(); i < ${p.h * p.w * 16}; i += ${p.threads}) {
        const int n = i % 16, row = i / ${16 * p.w}, column = i / 16 % ${p.w}, h = h0 + ${L.times("row", p.step_h)}, w = w0 + column;
        float value[4] = {};
        if (h >= 0 && h < ${site.h} && w >= 0 && w < ${site.w} && n < live) {
            ${L.mma_values(k, site)}
        }
        ${F.put4}(to + (row * 16 + n) * ${p.pitch} + column * 4, value);
    }
    (void)ctl, (void)c;
}
