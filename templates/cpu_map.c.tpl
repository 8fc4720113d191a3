% local site, scratch, P = k.site[0], L.map_scratch(k), k.variant.param
% local pixels = site.h * site.w
% if L.map_lanes(k, "sum") then
RG_INLINE float lanes_sum(vf v) {
    float sum = v[0];
    for (int i = 1; i < ${t.vector}; i++) sum += v[i];
    return sum;
}

% end
% if L.map_lanes(k, "max") then
RG_INLINE float lanes_max(vf v) {
    float max = v[0];
    for (int i = 1; i < ${t.vector}; i++) max = v[i] > max || v[i] != v[i] ? v[i] : max;
    return max;
}

% end
/* ${pixels} pixels of 16 images, ${P.run} a tile. */
void ${sym}(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    ${L.pointers(k)}
    const int nb = tile / ${P.strips}, p0 = tile % ${P.strips} * ${P.run}, p1 = rg_min_int(p0 + ${P.run}, ${pixels});
    (void)ctl;
    (void)scratch;
% for i = 0, k.site_count - 1 do
% local begin = L.map_begin(k, i, scratch)
% if #begin > 0 then
    for (int c = 0; c < ${L.site_cp(k.site[i])}; c += ${t.vector}) {
        ${begin}
    }
% end
% end
    for (int p = p0; p < p1; p++) {
        const int h = p / ${site.w}, w = p % ${site.w};
        (void)h;
        (void)w;
        for (int m = 0; m < 16; m += ${L.map_images}) {
% if L.map_parts(k, 1) > 0 then
            const int live = rg_live(ctl, nb * 16 + m, ${L.map_images});
% end
% for i = 0, k.site_count - 1 do
            ${L.map_rows_begin(k.site[i])}
            for (int c = 0; c < ${L.site_cp(k.site[i])}; c += ${t.vector}) {
                ${L.map_vector(k, i, scratch)}
            }
            ${L.map_rows_end(k.site[i])}
% end
        }
    }
% for i = 0, k.site_count - 1 do
% local finish = L.map_end(k, i, scratch)
% if #finish > 0 then
    for (int c = 0; c < ${L.site_cp(k.site[i])}; c += ${t.vector}) {
        ${finish}
    }
% end
    ${L.map_whole(k, i, scratch)}
% end
}
