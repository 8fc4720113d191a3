% local P, contr, x, y = k.variant.param, k.contr[0], k.site[0], k.site[1]
% local what = P.run .. " of 16 images a tile"
% if P.chunks > 1 then what = what .. ", a " .. P.chunks .. "th of the channels" end
/* ${k.window} over ${contr.r}x${contr.s} taps: ${x.h}x${x.w} to ${y.h}x${y.w} pixels, ${what}. */
RG_KERNEL void RG_BOUNDS(${k.variant.threads}, 2) ${sym}(${L.cu_kernel_params(k)}) {
    ${L.cu_window_declare(k, P)}
    ${L.cu_window_tile(k, P)}
% if x.out_count > 0 then
    {
        ${L.cu_window_rows(x, P.own_run, "own0")}
        ${L.cu_window_own(k, P)}
    }
% end
    ${L.cu_window_rows(y, P.run, "p0")}
    ${L.cu_window_main(k, P)}
    ${include("cu_tail.cu.tpl")}
}
