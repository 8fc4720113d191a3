-- Weight gradients: which rows and columns of x the taps read, how they lie in scratch, and how the work is cut into tiles.
--
-- Coordinates of one axis are counted in units: in = u * unit + off, where output o and tap f read u = o * step + f * tap. Only
-- those inputs are ever packed. Columns lie by phase (u % step), so that a tap's columns are neighbours whatever the stride.
local L = ...

local function gcd(a, b)
    while b ~= 0 do a, b = b, a % b end
    return a
end

local function axis(geom, taps, out, extent)
    local unit = taps > 1 and gcd(geom.mul, geom.tap_mul) or geom.mul
    local x = {mul = geom.mul, tap_mul = geom.tap_mul, unit = unit, off = geom.off}
    x.out, x.extent, x.taps = out, extent, taps
    x.step, x.tap = geom.mul // unit, taps > 1 and geom.tap_mul // unit or 0
    x.count = (out - 1) * x.step + (taps - 1) * x.tap + 1
    x.first = math.max(0, L.ceil_div(-geom.off, unit))
    x.last = math.max(x.first, math.min(x.count, (extent - 1 - geom.off) // unit + 1))
    x.positions = L.ceil_div(x.count, x.step)
    return x
end

-- The phases that some tap reads: list of {phase, first and last position that exist}; slot[phase] is its place.
local function phases(x)
    local list, slot = {}, {}
    for f = 0, x.taps - 1 do
        local phase = f * x.tap % x.step
        if not slot[phase] then
            slot[phase] = #list
            list[#list + 1] = {phase = phase, first = math.max(0, L.ceil_div(x.first - phase, x.step)),
                               last = math.min(x.positions, L.ceil_div(x.last - phase, x.step))}
        end
    end
    return list, slot
end

-- Outputs o for which tap f exists: first, last (exclusive).
local function valid(x, f)
    local shift = f * x.tap_mul + x.off
    local first = math.max(0, L.ceil_div(-shift, x.mul))
    return first, math.max(first, math.min(x.out, (x.extent - 1 - shift) // x.mul + 1))
end

-- Every input coordinate is read by some tap.
local function covers(x)
    local seen = {}
    for f = 0, x.taps - 1 do
        local first, last = valid(x, f)
        for o = first, last - 1 do seen[o * x.mul + f * x.tap_mul + x.off] = true end
    end
    for i = 0, x.extent - 1 do
        if not seen[i] then return false end
    end
    return true
end

-- All that plan and template know of a description; p: its parameters (nil: what does not depend on them).
function L.wgrad(k, p)
    local contr, x, dy = k.contr[0], k.site[0], k.site[1]
    local w, v = k.arg[contr.w_arg], t.vector
    local g = {x = x, dy = dy, w = w, w_arg = contr.w_arg, v = v, kv = w.kb // v, kb = w.kb, c = x.c, taps_s = contr.s}
    g.rows, g.cols = axis(contr.gh, contr.r, dy.h, x.h), axis(contr.gw, contr.s, dy.w, x.w)
    -- Few channels: all (s, c) of a row of taps stand side by side, as if they were channels.
    g.unfold = x.c * 2 <= v and contr.s > 1
    g.lanes = g.unfold and contr.s * x.c or x.c
    g.group = (v == 16 and 8 or 4) * (g.kv == 1 and 2 or 1)
    if g.lanes <= v or g.unfold then g.group = L.ceil_div(g.lanes, L.ceil_div(g.lanes, g.group)) end
    g.blocks_k = L.ceil_div(w.kp, w.kb)
    g.weights = g.blocks_k * w.r * w.s * w.c * w.kb
    if not p then return g end

    g.kc, g.cc, g.pr, g.g, g.split = p.kc, p.cc, p.pr, p.g, p.split == 1
    g.chunks_k, g.chunks_c = L.ceil_div(g.blocks_k * g.kb, g.kc), L.ceil_div(g.lanes, g.cc)
    g.strips = g.pr < dy.h
    g.ring = math.min(g.rows.count, (g.pr - 1) * g.rows.step + (contr.r - 1) * g.rows.tap + 1)
    g.phase, g.slot = phases(g.cols)
    -- Scratch of x: [g][panel][ring][column][16][panel's channels]; of dy: [g][kc/kb][pr][q][16][kb].
    g.panel = g.unfold and L.round_up(g.lanes, 4) or v
    g.columns = g.unfold and dy.w or #g.phase * g.cols.positions
    g.panels = L.ceil_div(g.cc, g.panel)
    g.x_row = g.columns * 16 * g.panel
    g.x_panel, g.y_row = g.ring * g.x_row, dy.w * 16 * g.kb
    g.x_block, g.y_panel = g.panels * g.x_panel, g.pr * g.y_row
    g.y_block = g.kc // g.kb * g.y_panel
    g.y_base = g.g * g.x_block
    g.row_base = L.round_up(g.y_base + g.g * g.y_block, 16)
    g.plain = L.is_plain(k, x)
    g.scratch = g.row_base + (g.unfold and not g.plain and x.w * 16 * v or 0)
    return g
end

-- Tap s of a row: its first column in the panel (may be before the panel where that output is not valid), its outputs.
function L.wgrad_tap(g, s)
    if g.unfold then return 0, 0, g.dy.w end
    local at = s * g.cols.tap
    local first, last = valid(g.cols, s)
    return g.slot[at % g.cols.step] * g.cols.positions + at // g.cols.step, first, last
end

function L.wgrad_row_table(g)
    local lines = {}
    for f = 0, g.rows.taps - 1 do lines[#lines + 1] = string.format("    {%d, %d},", valid(g.rows, f)) end
    return lines
end

function L.wgrad_col_table(g)
    local lines = {}
    for s = 0, g.unfold and 0 or g.taps_s - 1 do
        lines[#lines + 1] = string.format("    {%d, %d, %d},", L.wgrad_tap(g, s))
    end
    return lines
end

-- C text: the column of x at position i of a phase; the place of row u in the ring; the panel of channel c.
function L.wgrad_column(g, phase)
    local x = g.cols
    return L.plus(L.times("i", x.step * x.unit), phase.phase * x.unit + x.off)
end

function L.wgrad_ring(g, u)
    return g.strips and L.paren(u) .. " % " .. g.ring or L.paren(u)
end

function L.wgrad_panel(g)
    if g.unfold or g.c <= g.v then return "c" end
    return string.format("c / %d * %d + c %% %d", g.v, g.x_panel, g.v)
end

-- Surplus lanes of dy are no gradients: zero, so that the surplus weights stay what they are.
function L.wgrad_mask(g, value)
    if g.dy.c % g.v == 0 then return value end
    return string.format("rg_blend(rg_mask_gt(%s, rg_iota(c)), %s, rg_splat(0.0f))", L.splat(g.dy.c), value)
end

-- Numbers of channels that one run of products takes: whole groups, and what is left.
function L.wgrad_groups(g)
    local left = g.lanes % g.group
    if left == 0 then return {g.group} end
    return g.lanes < g.group and {left} or {g.group, left}
end

function L.wgrad_applies(k)
    local g = L.wgrad(k)
    for i = 0, 1 do
        local site = k.site[i]
        if not L.site_fits(k, site) or #L.reductions(site) > 0 then return false end
    end
    return g.x.out_count == 0 or (covers(g.rows) and covers(g.cols) and not g.unfold)
end

-- ---- cutting ----

-- Rows of dy a strip and image blocks a strip, so that x and dy fit the scratch budget (half of L2).
local function strip(k, p, split, budget)
    p.g, p.pr = 1, k.site[1].h
    while p.pr > 1 and L.wgrad(k, p).scratch > budget do p.pr = L.ceil_div(p.pr, 2) end
    if p.pr < k.site[1].h or split then return end
    p.g = math.max(1, math.min(t.max_blocks, budget // L.wgrad(k, p).scratch))
end

-- Microseconds on one thread, by what was measured on Zen 4: 9.1 ns for 512 products, 0.4 ns to pack a number, 20 ns to
-- fetch and leave a group of accumulators.
local function work_us(k, g, blocks)
    local pairs_h, pairs_w = 0, 0
    for f = 0, g.rows.taps - 1 do
        local first, last = valid(g.rows, f)
        pairs_h = pairs_h + last - first
    end
    for f = 0, g.cols.taps - 1 do
        local first, last = valid(g.cols, f)
        pairs_w = pairs_w + (g.unfold and g.dy.w or last - first)
    end
    local images = blocks * 16
    local products = images * pairs_h * pairs_w * g.c * g.blocks_k * g.kb
    local strips = blocks / g.g * L.ceil_div(g.dy.h, g.pr)
    local visits = strips * g.rows.taps * g.cols.taps * L.ceil_div(g.c, g.group) * g.blocks_k
    local packed = images * (g.x.h * g.x.w * g.c * g.chunks_k + g.dy.h * g.dy.w * g.blocks_k * g.kb * g.chunks_c)
    local spill = g.scratch * 4 > 640 * 1024 and 1.1 or 1
    return products / 512 * 0.0091 * spill + visits * 0.02 + packed * 0.0004
end

local function consider(k, best, p, split)
    local blocks = t.max_blocks
    strip(k, p, split, t.vector == 16 and 150 * 1024 or 75 * 1024)
    local g = L.wgrad(k, p)
    local tiles = g.chunks_k * g.chunks_c * (split and blocks or 1)
    local us = work_us(k, g, blocks) * L.ceil_div(tiles, 2) / tiles * (1 + 0.25 / tiles)
    -- Parts are written, and read again by the kernel that adds them up.
    if split then us = us + blocks * g.weights * 8 / 12000 + 10 end
    if best.us and best.us <= us then return end
    best.us, best.g = us, g
    best.params = {kc = p.kc, cc = p.cc, pr = p.pr, g = p.g, split = p.split}
end

-- 1, 2, 4, ... parts of `whole`, and single pieces: the sizes of the parts.
local function sizes(whole)
    local list, parts = {}, 1
    while parts < whole do
        list[#list + 1] = L.ceil_div(whole, parts)
        parts = parts * 2
    end
    list[#list + 1] = 1
    return list
end

-- The cheapest cut of a form; a tile takes kc output channels and cc input channels of all taps.
function L.wgrad_plan(k, split)
    local g, best = L.wgrad(k), {}
    for _, size_k in ipairs(sizes(g.blocks_k)) do
        for _, size_c in ipairs(sizes(g.unfold and 1 or L.ceil_div(g.lanes, g.v))) do
            local cc = g.unfold and g.lanes or math.min(g.lanes, size_c * g.v)
            consider(k, best, {kc = size_k * g.kb, cc = cc, split = split and 1 or 0}, split)
        end
    end
    local chunks = best.g.chunks_k * best.g.chunks_c
    return {params = best.params, scratch_floats = best.g.scratch, complete = not split, cost_us = best.us,
            tiles_per_block = split and chunks or 0, tiles_fixed = split and 0 or chunks,
            parts_per_block = split and 1 or 0}
end
