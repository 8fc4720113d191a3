% local whole, tail = L.run_extent(k)
% local before, step = L.run_step(k)
% local chunk = k.variant.param.chunk
% if L.uses_moments(k) then
/* Chan's rule: (n, mean, m2) of two sets together; a part without values adds nothing. */
RG_INLINE void merge_moments(vf *n, vf *mean, vf *m2, vf part_n, vf part_mean, vf part_m2) {
    const vf zero = rg_splat(0.0f);
    const vm any = rg_mask_gt(part_n, zero);
    const vf count = *n + part_n;
    const vf share = rg_blend(any, part_n / count, zero);
    const vf delta = rg_blend(any, part_mean - *mean, zero);
    *mean = rg_fma(delta, share, *mean);
    *m2 += rg_fma(delta * delta, *n * share, rg_blend(any, part_m2, zero));
    *n = count;
}

% end
/* A run of ${k.site[0].c} elements, ${chunk} a tile. */
void ${sym}(float *const *a, const struct rg_ctrl *ctl, int tile, float *scratch) {
    ${L.pointers(k)}
    (void)ctl;
    (void)scratch;
    ${before}
    const int first = tile * ${chunk}, last = rg_min_int(first + ${chunk}, ${whole});
    for (int c = first; c < last; c += ${t.vector}) {
        ${step}
    }
% if tail > 0 then
% local _, rest = L.run_step(k, tail)
    if (first + ${chunk} >= ${whole + tail}) {
        const int c = ${whole};
        ${rest}
    }
% end
}
