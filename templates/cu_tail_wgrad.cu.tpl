% -- Last in a wgrad kernel that leaves parts. p.gh, p.gw, p.ct, p.kt: the slice of dw, p.slice: C text of its number. What is left of
% -- the parts nothing reads.
% if L.cu_has_tails(k) then
% local w, gather, quads = k.arg[k.contr[0].w_arg], k.variant.param.gather, p.gh * p.gw * p.ct * p.kt // 4
% local parts_arg, counter = "a" .. k.contr[0].w_arg, "a" .. k.counter_arg
const int parts = ${L.times("ctl->blocks", w.parts_per_block)};
% if gather > 0 then
/* The last block of ${gather} neighbouring parts leaves their sum in the first of them; the last of all those adds up the sums. */
const int part0 = part / ${gather} * ${gather}, near = rg_min_int(${gather}, parts - part0), heaps = (parts + ${gather - 1}) / ${gather};
unsigned *const counter = ${counter} + ${L.times(p.slice, k.variant.counters // p.slices)};
if (!rg_last_block(counter + 1 + part0 / ${gather}, near)) return;
for (int i = rg_tid(); i < ${quads}; i += ${k.variant.threads}) {
    const int at = place_of(i, r0, s0, c0, k0);
    float sum[4] = {};
    if (at < 0) continue;
    add_up(${parts_arg} + (long long)part0 * ${w.length} + at, near, ${w.length}, sum);
    rg_store4(${parts_arg} + (long long)part0 * ${w.length} + at, sum);
}
% end
if (${gather > 0 and "rg_last_block(counter, heaps)" or "rg_last_block(" .. counter .. " + " .. p.slice .. ", parts)"}) {
    for (int i = rg_tid(); i < ${quads}; i += ${k.variant.threads}) {
        const int at = place_of(i, r0, s0, c0, k0);
        float sum[4] = {};
        if (at < 0) continue;
        add_up(${parts_arg} + at, ${gather > 0 and "heaps" or "parts"}, ${w.length * math.max(gather, 1)}, sum);
        ${L.cu_tail_weights(k, "at")}
    }
}
% end
