% local P, c, threads = k.variant.param, k.site[0].c, k.variant.threads
% if P.lanes > 0 then
% local gather, fin, floats = L.cu_vec_gather(k, threads, P.lanes)
/* ${c} channels, ${P.lanes} a tile; ${threads // P.lanes} threads share the parts of a channel. */
RG_KERNEL void RG_BOUNDS(${threads}, 1) ${sym}(${L.cu_kernel_params(k)}) {
    ${L.cu_own_args(k)}
    RG_SHARED(float, between, ${floats});
    const int c = rg_min_int(${L.paren(L.cu_block(k))} * ${P.lanes} + rg_tid() % ${P.lanes}, ${c - 1}), ty = rg_tid() / ${P.lanes};
    ${gather}
    if (rg_tid() < rg_min_int(${P.lanes}, ${c} - ${L.paren(L.cu_block(k))} * ${P.lanes})) {
        ${L.cu_vec_step(k, 1, fin)}
    }
}
% else
% -- A multiprocessor that gets one block has registers for all that it wants.
% local resident = math.min(4, L.ceil_div(k.variant.tiles_fixed, L.cu_sms))
/* A run of ${c} elements, four a thread. */
RG_KERNEL void RG_BOUNDS(${threads}, ${resident}) ${sym}(${L.cu_kernel_params(k)}) {
    ${L.cu_own_args(k)}
    const int c = (${L.paren(L.cu_block(k))} * ${threads} + rg_tid()) * 4;
% if P.whole > 0 then
    if (c < ${P.whole}) {
        ${L.cu_vec_step(k, 4)}
    }
% end
% if P.whole < c then
    for (int i = ${P.whole}; c == ${P.whole} && i < ${c}; i++) {
        const int c = i;
        ${L.cu_vec_step(k, 1)}
    }
% end
}
% end
