-- Weight gradients on CUDA. A block takes gh x gw taps of ct input channels (its rows: tap by tap, channel by channel) and kt output
-- channels. Patches of ph x pw pixels of dy, and the pixels of x that these taps meet, go through shared memory one after another.
-- A warp takes 32 rows and 8 * cols output channels: a thread 8 rows, in groups of `v` neighbouring channels, and `cols` outputs.
local L = ...

function L.cu_wgrad(k, p)
    local contr = k.contr[0]
    local g = {x = k.site[0], dy = k.site[1], w_arg = contr.w_arg, w = k.arg[contr.w_arg], r = contr.r, s = contr.s}
    for _, name in ipairs {"ph", "pw", "gh", "gw", "ct", "cols", "wk", "strips"} do g[name] = p[name] end
    g.axis_h, g.axis_w = L.cu_axis(k, "h")[0], L.cu_axis(k, "w")[0]
    g.off_h, g.off_w = contr.gh.off, contr.gw.off
    g.v = L.cu_width(k, g.x)
    g.slots_h, g.slots_w = L.cu_slots(g.axis_h, g.ph, g.gh), L.cu_slots(g.axis_w, g.pw, g.gw)
    g.stride_h, g.stride_w = g.axis_h.in_step // g.axis_h.step, g.axis_w.in_step // g.axis_w.step
    g.tap_h, g.tap_w = g.axis_h.tap_in // g.axis_h.step, g.axis_w.tap_in // g.axis_w.step
    g.rows = g.gh * g.gw * g.ct
    g.wm = L.ceil_div(g.rows, 32)
    g.kt, g.warps = g.wk * 8 * g.cols, g.wm * g.wk
    g.threads = g.warps * 32
    g.groups_h, g.groups_w = L.ceil_div(g.r, g.gh), L.ceil_div(g.s, g.gw)
    g.chunks_c, g.chunks_k = L.ceil_div(g.x.c, g.ct), L.ceil_div(g.w.kp, g.kt)
    g.tiles = g.groups_h * g.groups_w * g.chunks_c * g.chunks_k
    g.patches_w = L.ceil_div(g.dy.w, g.pw)
    g.patches = L.ceil_div(g.dy.h, g.ph) * g.patches_w
    g.x_floats = L.round_up(g.slots_h * g.slots_w * 16 * g.ct, 4)
    g.buffer = g.x_floats + g.ph * g.pw * 16 * g.kt
    g.shared = 8 * g.buffer
    g.registers = g.cols == 8 and 136 or g.v == 1 and 104 or 96
    g.resident = L.cu_resident(g.threads, g.registers, g.shared)
    g.weights = L.ceil_div(g.w.kp, g.w.kb) * g.r * g.s * g.x.c * g.w.kb
    return g
end

-- What it takes `n` instances to leave parts of so many weights, and blocks to add up all parts of their slices at 80 GB/s: microseconds,
-- and the most heaps of parts whose sums are made first (0: the last block of a slice adds up all).
function L.cu_parts_us(n, parts, weights, slice)
    local most, us = 0, parts * slice * 4 / 80e3
    local size = math.ceil(math.sqrt(parts))
    local heaps = L.ceil_div(parts, size)
    local staged = 1 + (size + heaps) * slice * 4 / 80e3
    if staged < us then most, us = heaps, staged end
    return n * parts * weights * 4 / L.cu_gbps / 1000 + us, most
end

-- Warp instructions of a block for one patch.
local function issue_of(k, g)
    local products = g.ph * g.pw * 16 * (8 * g.cols + g.cols // 4 + 8 // g.v) * g.warps * 1.1
    local function stage(site, floats, width)
        return floats / width / 32 * (L.is_plain(k, site) and 14 or 20 + L.cu_site_issue(site) * width // 4)
    end
    return products + stage(g.x, g.x_floats, g.v) + stage(g.dy, g.ph * g.pw * 16 * g.kt, L.cu_width(k, g.dy)) + g.warps * 40
end

local function consider(k, best, p, split)
    local g = L.cu_wgrad(k, p)
    if not g.resident or g.threads > 512 then return end
    local parts, n = split and t.max_blocks * p.strips or 1, k.instances or 1
    local patches = g.patches * t.max_blocks / parts
    local us = L.cu_issue_us(n * g.tiles * parts, g.warps, issue_of(k, g) * patches + g.warps * 300, g.resident)
    us = L.cu_launch_us + math.max(us, L.cu_traffic_us(k))
    local more, heaps = L.cu_parts_us(n, parts, g.weights, g.rows * g.kt)
    p.heaps = split and heaps or 0
    if split then us = us + more end
    if not best.us or us < best.us then best.us, best.g, best.p = us, g, p end
end

local patches = {{1, 1}, {1, 2}, {2, 2}, {1, 4}, {2, 4}, {4, 4}, {3, 3}}

local function tap_groups(k)
    local r, s = k.contr[0].r, k.contr[0].s
    local list = {{r, s}}
    if r > 1 then list[#list + 1] = {1, s} end
    if s > 8 then list[#list + 1] = {1, 8} end
    return list
end

local function channel_tiles(k)
    local c = k.site[0].c
    if L.cu_width(k, k.site[0]) == 1 then return {math.min(c, 8)} end
    local list = {}
    for _, ct in ipairs {128, 64, 32, 16, 8, 4} do
        if ct < 2 * c or ct == 4 then list[#list + 1] = ct end
    end
    return list
end

local function strip_counts(k, split)
    if not split then return {1} end
    local list, n = {}, 1
    while n <= k.site[1].h * k.site[1].w do
        list[#list + 1] = n
        n = n * 2
    end
    return list
end

-- The cheapest cut. Every description has one: a pixel, one row of taps, four channels.
function L.cu_wgrad_plan(k, split)
    local best = {}
    for _, patch in ipairs(patches) do
        for _, group in ipairs(tap_groups(k)) do
            for _, ct in ipairs(channel_tiles(k)) do
                for _, cols in ipairs {8, 4} do
                    for _, wk in ipairs {1, 2, 4} do
                        for _, strips in ipairs(strip_counts(k, split)) do
                            consider(k, best, {ph = patch[1], pw = patch[2], gh = group[1], gw = group[2], ct = ct, cols = cols, wk = wk,
                                               strips = strips, split = split and 1 or 0}, split)
                        end
                    end
                end
            end
        end
    end
    local g = best.g
    return {params = best.p, threads = g.threads, shared_bytes = g.shared, complete = not split, cost_us = best.us,
            tiles_per_block = split and g.tiles * g.strips or 0, tiles_fixed = split and 0 or g.tiles,
            parts_per_block = split and g.strips or 0, counters = split and g.tiles * (1 + best.p.heaps) or 0}
end

function L.cu_wgrad_applies(k)
    local contr = k.contr[0]
    for i = 0, 1 do
        local site = k.site[i]
        if not L.site_fits(k, site) or #L.cu_reductions(site) > 0 then return false end
    end
    local function plain(geom) return geom.div == 1 and geom.tap_mul > 0 end
    return plain(contr.gh) and plain(contr.gw) and k.arg[contr.w_arg].kb % 4 == 0
end
