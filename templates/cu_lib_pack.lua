-- Packing on CUDA: weights are turned in squares of 32 by 32 channels of a tap.
local L = ...

function L.cu_pack_plan(k)
    local from, to = k.arg[0], k.arg[1]
    local tiles = from.r * from.s * L.ceil_div(from.k, 32) * L.ceil_div(to.kp, 32)
    return {tiles_fixed = tiles, threads = 256, cost_us = L.cu_traffic_us(k)}
end
