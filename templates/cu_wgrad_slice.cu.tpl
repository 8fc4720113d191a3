% -- The slice of dw that a block (p.block: C text of its number) works on, and which part of it.
% local g = p.g
const int tile = ${L.cu_mod(L.cu_block(k, p.block), g.tiles)}${p.split and ", part = " .. L.over(L.cu_block(k, p.block), g.tiles) or ""};
const int k0 = ${L.cu_product(L.cu_mod("tile", g.chunks_k), g.kt)}, c0 = ${L.cu_product(L.cu_mod(L.over("tile", g.chunks_k), g.chunks_c), g.ct)}, group = ${L.over("tile", g.chunks_k * g.chunks_c)};
const int r0 = ${L.times(L.over("group", g.groups_w), g.gh)}, s0 = ${L.cu_product(L.cu_mod("group", g.groups_w), g.gw)};
