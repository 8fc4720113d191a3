-- The cost of a convolution and the plan of the direct one.
local L = ...

-- ---- cost: microseconds on two threads ----

-- FMA throughput of one core; what a core gets from beyond its L2; half of L2, all of it usable.
local peak_gflops = {avx512 = 115, avx2 = 95}
local far_gbps, half_l2, most_l2 = 12, 512 * 1024, 900 * 1024

L.peak_gflops = peak_gflops[t.isa]
L.far_gbps = far_gbps

-- Microseconds of one core for one element of a site (a tree of a few operations), not counting memory.
function L.site_us(site)
    local operations = 0
    for i = 0, site.expr_count - 1 do
        if site.expr[i].a then operations = operations + 1 end
    end
    return (1 + operations) * 0.5 / L.peak_gflops / 1000
end

-- Useful FLOP of a CONV or WGRAD description for one image block.
function L.block_flop(k)
    local out, flop = k.site[k.site_count - 1], 0
    for i = 0, k.contr_count - 1 do
        local contr = k.contr[i]
        local site = k.site[contr.site]
        local taps = L.live_taps(contr.gh, contr.r, out.h, site.h) * L.live_taps(contr.gw, contr.s, out.w, site.w)
        flop = flop + 2 * 16 * taps * site.c * out.c
    end
    return flop
end

-- Bytes of weights for `blocks` blocks of output channels.
local function weight_bytes(k, blocks)
    local bytes = 0
    for i = 0, k.contr_count - 1 do
        local contr = k.contr[i]
        bytes = bytes + 4 * contr.r * contr.s * k.site[contr.site].c * k.arg[contr.w_arg].kb * blocks
    end
    return bytes
end

-- Bytes of operands that `pr` output rows read.
local function operand_bytes(k, shape, pr)
    local bytes = 0
    for s = 0, k.site_count - 2 do
        bytes = bytes + 4 * L.row_floats(k.site[s]) * L.ring_rows(k, s, 0, shape.strip, pr)
    end
    return bytes
end

-- Bytes that a tile moves between L2 and beyond: operands once, weights once a tile or once a step, as they fit.
local function tile_traffic(k, shape)
    local once, rows = operand_bytes(k, shape, shape.strip), operand_bytes(k, shape, shape.pr)
    local all, one = weight_bytes(k, shape.chunk), weight_bytes(k, 1)
    local steps = L.ceil_div(shape.strip, shape.pr)
    if rows + all <= half_l2 then return once + all end
    if rows + one <= most_l2 then return once + steps * all end
    return once + steps * (all + (shape.chunk - 1) * rows)
end

-- Microseconds that the prologues of a tile take: rows that strips share are made by each.
local function prologue_us(k, shape)
    local us = 0
    for s = 0, k.site_count - 2 do
        local site = k.site[s]
        if not L.is_plain(k, site) then
            local rows = L.ring_rows(k, s, 0, shape.strip, shape.strip)
            us = us + rows * L.row_floats(site) * L.site_us(site) / L.read_step(k, s, "w")
        end
    end
    return us
end

local function shape_cost(k, shape)
    local out = k.site[k.site_count - 1]
    local tiles = shape.strips * shape.chunks
    local products = L.block_flop(k) / tiles / L.peak_gflops / 1000
    local epilogue = 16 * shape.strip * out.w * L.site_cp(out) / shape.chunks * L.site_us(out)
    local far = tile_traffic(k, shape) / far_gbps / 1000
    local rounds = L.ceil_div(tiles * t.max_blocks, 2)
    return rounds * (products * 1.03 + epilogue + prologue_us(k, shape) + far * 0.7)
end

local function divisors_up_to(n, most)
    local list = {}
    for i = 1, math.min(n, most) do
        if L.ceil_div(n, i) * i - n < L.ceil_div(n, i) then list[#list + 1] = i end
    end
    return list
end

-- Rows of an output strip, rows at a time (pr), blocks of output channels a tile (chunk): the cheapest of all. A batch should
-- have eight tiles or more, so that a few threads share them.
function L.plan_direct(k)
    local out, best = k.site[k.site_count - 1], nil
    local blocks = k.arg[k.contr[0].w_arg].kp // k.arg[k.contr[0].w_arg].kb
    for _, strips in ipairs(divisors_up_to(out.h, 8)) do
        local strip = L.ceil_div(out.h, strips)
        for _, chunks in ipairs(divisors_up_to(blocks, 8)) do
            local steps = {1, 2, 3, 4, 6, 8, strip}
            for _, pr in ipairs(steps) do
                local shape = {strips = L.ceil_div(out.h, strip), strip = strip, pr = pr, chunk = L.ceil_div(blocks, chunks)}
                shape.chunks = L.ceil_div(blocks, shape.chunk)
                if pr <= strip then
                    shape.cost = shape_cost(k, shape)
                    if shape.strips * shape.chunks * t.max_blocks < 8 then shape.cost = shape.cost * 1.5 end
                    if not best or shape.cost < best.cost * 0.995 then best = shape end
                end
            end
        end
    end
    return best
end

-- Images of a micro-tile: with its vectors of output channels it fills the registers.
function L.micro_rows(kb)
    return (t.isa == "avx512" and 16 or 8) // (kb // t.vector)
end
