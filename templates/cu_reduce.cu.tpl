% local c, threads, share = k.site[0].c, k.variant.threads, k.variant.param.share
/* ${c} elements: each of the blocks' threads takes every so many four, then halves of a block join halves; a part a block. */
RG_KERNEL void RG_BOUNDS(${threads}, 1) ${sym}(${L.cu_kernel_params(k)}) {
    RG_SHARED(float, between, ${threads});
    const long long step = (long long)ctl->blocks * ${share * threads * 4};
    float all = ${L.cu_reduce_run_neutral(k)};
    for (long long c = ((long long)rg_block() * ${threads} + rg_tid()) * 4; c < ${c}; c += step) {
        ${L.cu_reduce_run_step(k)}
    }
    between[rg_tid()] = all;
    for (int half = ${threads // 2}; half > 0; half /= 2) {
        rg_barrier();
        if (rg_tid() < half) {
            all = ${L.cu_reduce_run_join(k, "all", "between[rg_tid() + half]")};
            between[rg_tid()] = all;
        }
    }
    if (rg_tid() == 0) a${k.site[0].out[0].arg}[rg_block()] = all;
    ${include("cu_tail.cu.tpl")}
}
