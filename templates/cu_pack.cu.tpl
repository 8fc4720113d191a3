% local from, to = k.arg[0], k.arg[1]
% local taps, blocks_k, blocks_c = from.r * from.s, L.ceil_div(from.k, 32), L.ceil_div(to.kp, 32)
/* Weights with k and c exchanged: a tile is 32 output by 32 input channels of one tap, turned in shared memory. */
RG_KERNEL void RG_BOUNDS(${k.variant.threads}, 4) ${sym}(${L.cu_params(k)}) {
    RG_SHARED(float, turned, ${32 * 33});
    const int tap = rg_block() % ${taps}, k0 = rg_block() / ${taps} % ${blocks_k} * 32, c0 = rg_block() / ${taps * blocks_k} * 32;
    const int tx = rg_tid() % 32, ty = rg_tid() / 32;
    const int k = k0 + tx, to_c = c0 + tx;
    RG_UNROLL
    for (int i = ty; i < 32; i += 8) {
        const int c = c0 + i;
        const bool inside = k < ${from.k} && c < ${from.c};
        turned[i * 33 + tx] = inside ? a0[((k / ${from.kb} * ${taps} + tap) * ${from.c} + c) * ${from.kb} + k % ${from.kb}] : 0.0f;
    }
    rg_barrier();
    RG_UNROLL
    for (int i = ty; i < 32; i += 8) {
        const int to_k = k0 + i;
        if (to_k < ${from.k} && to_c < ${to.kp})
            a1[((to_c / ${to.kb} * ${taps} + tap) * ${from.k} + to_k) * ${to.kb} + to_c % ${to.kb}] = turned[tx * 33 + i];
    }
}
