% local P, site = k.variant.param, k.site[0]
% local what = P.images == 1 and "one image a tile" or P.run .. " of 16 images a tile"
% if P.chunks > 1 then what = what .. ", a " .. P.chunks .. "th of the channels" end
/* ${site.h * site.w} pixels, ${what}. */
RG_KERNEL void RG_BOUNDS(${k.variant.threads}, 2) ${sym}(${L.cu_kernel_params(k)}) {
    ${L.cu_map_declare(k, P)}
    ${L.cu_map_tile(k, P)}
% for i = 0, k.site_count - 1 do
    ${L.cu_map_stage(k, i, P, true)}
    ${L.cu_map_stage(k, i, P, false)}
% end
    ${include("cu_tail.cu.tpl")}
}
