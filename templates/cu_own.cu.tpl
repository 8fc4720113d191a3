% -- p.s: number of a site; p.threads: of a block. A tile's share of the site's pixels, for what its prologue stores and reduces.
% local site, own = k.site[p.s], L.cu_own(k, k.site[p.s], p.threads)
% local width, channels = own.width, own.lanes * own.width
% local pos = {nb = "nb", h = "h", w = "w", n = "n", c = "c"}
% local outer, inner = L.cu_site(k, site, {pos = pos, width = width, reduce = L.cu_reduce_add("n < live", width)})
% local reduced = #L.cu_reductions(site) > 0
/* Operand ${p.s} at pixels [first, last) of image block nb: what it leaves behind. */
RG_DEVICE void own${p.s}(${L.cu_params(k, L.cu_site_args(site))}, int nb, int first, int last, int part, float *shared) {
    ${L.cu_bases(k, L.site_args(site))}
    const int row = ${L.over("rg_tid()", own.lanes)}, column = ${L.cu_product(L.cu_mod("rg_tid()", own.lanes), width)}, live = rg_live(ctl, nb * 16, 16);
    for (int c0 = 0; c0 < ${site.c}; c0 += ${channels}) {
        const int c = c0 + column;
        if (row < ${own.rows} && c < ${site.c}) {
            ${L.cu_reduce_begin(site, width)}
            ${outer}
            for (int m = first * 16 + row; m < last * 16; m += ${own.rows}) {
                const int n = m % 16, h = ${L.over("m / 16", site.w)}, w = ${L.cu_mod("m / 16", site.w)};
                ${inner}
% if reduced then
                seen += n < live;
% end
                (void)h, (void)w;
            }
            ${L.cu_reduce_put(site, {shared = "shared", rows = own.rows, row = "row", channels = channels, c = "column", width = width})}
        }
% if reduced then
        rg_barrier();
        ${L.cu_reduce_finish(k, site, {shared = "shared", rows = own.rows, channels = channels, threads = p.threads, part = "part", first = "c0"})}
        rg_barrier();
% end
    }
    (void)live, (void)part, (void)shared;
}
