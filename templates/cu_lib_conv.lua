-- Convolutions on CUDA: tap classes, tiles, staging in shared memory, costs.
--
-- Along an axis, outputs that are congruent modulo `period` read the same taps (but for the border). A tile takes outputs of one
-- residue, `extent` of them; tap number j of the residue is r0 + j * tap_step of the filter and reads input in0 + i * in_step + j *
-- tap_in of the residue's output number i. Inputs are staged `step` apart: a slot. What lies outside the image is staged as zero, and
-- taps that no pixel of a tile reads are not visited.
local L = ...

-- ---- geometry ----

local function lcm(a, b)
    return a // L.gcd(a, b) * b
end

-- One residue's taps of a contraction: {r0, in0, n}.
local function residue_taps(geom, taps, residue, tap_step)
    for r = 0, math.min(tap_step, taps) - 1 do
        local at = residue * geom.mul + r * geom.tap_mul + geom.off
        if at % geom.div == 0 then return {r0 = r, in0 = at // geom.div, n = L.ceil_div(taps - r, tap_step)} end
    end
    return {r0 = 0, in0 = 0, n = 0}
end

local function contraction_axis(geom, taps, period)
    local a = {in_step = period * geom.mul // geom.div, tap_step = geom.div // L.gcd(geom.div, math.abs(geom.tap_mul)), most = 0}
    a.tap_in = a.tap_step * geom.tap_mul // geom.div
    for residue = 0, period - 1 do
        a[residue] = residue_taps(geom, taps, residue, a.tap_step)
        a.most = math.max(a.most, a[residue].n)
    end
    a.step = L.gcd(a.in_step, a.most > 1 and math.abs(a.tap_in) or 0)
    return a
end

-- Axis "h" or "w" of all contractions: {period, out (extent), [i] = axis of contraction i with its input's extent}.
function L.cu_axis(k, axis)
    local g = axis == "h" and "gh" or "gw"
    local all = {period = 1, out = k.site[k.site_count - 1][axis]}
    for i = 0, k.contr_count - 1 do
        local geom = k.contr[i][g]
        all.period = lcm(all.period, geom.div // L.gcd(geom.div, geom.mul))
    end
    for i = 0, k.contr_count - 1 do
        local contr = k.contr[i]
        all[i] = contraction_axis(contr[g], axis == "h" and contr.r or contr.s, all.period)
        all[i].extent = k.site[contr.site][axis]
    end
    return all
end

-- Slots that `outs` outputs and `taps` taps span.
function L.cu_slots(a, outs, taps)
    return ((outs - 1) * a.in_step + (taps - 1) * math.abs(a.tap_in)) // a.step + 1
end

-- C text of a value by the residue `name`: a literal where all agree.
function L.cu_by_residue(axis, i, field, name)
    local text = tostring(axis[i][axis.period - 1][field])
    for residue = axis.period - 2, 0, -1 do
        local value = tostring(axis[i][residue][field])
        if value ~= text then text = string.format("(%s == %d ? %s : %s)", name, residue, value, text) end
    end
    return text
end

-- Sums that a block keeps of each output: 1, or 2 where a contraction rides.
function L.cu_results(k)
    local results = 1
    for i = 0, k.contr_count - 1 do results = math.max(results, (k.contr[i].acc or 0) + 1) end
    return results
end

-- The tap of contraction 0 whose input along an axis is that of contraction i's only tap; nil: there is none.
local function shared_tap(axis, i)
    local main, one = axis[0], axis[i]
    if axis.period > 1 or one.most ~= 1 or main.in_step ~= one.in_step or main.tap_in < 0 then return nil end
    for tap = 0, main.most - 1 do
        if main[0].in0 + tap * main.tap_in == one[0].in0 then return tap end
    end
    return nil
end

-- Where contraction 1 has a sum of its own and one tap that reads what tap (h, w) of contraction 0 reads: {h, w}. It needs no stage of its
-- own then, but its weights in that of contraction 0: it is the rider of that stage.
function L.cu_rides(k, i, axis_h, axis_w)
    local contr, main = k.contr[i], k.contr[0]
    if i ~= 1 or not contr.acc or contr.site ~= main.site or k.arg[contr.w_arg].turned ~= k.arg[main.w_arg].turned then return nil end
    local h, w = shared_tap(axis_h, i), shared_tap(axis_w, i)
    return h and w and {h = h, w = w}
end

-- C text of the sums to which stage s and its rider add; `one` makes a parameter or an argument of a name.
function L.cu_into(s, one)
    local function name(acc) return one(acc and "acc" .. acc or "acc") end
    return name(s.contr.acc) .. (s.rider and ", " .. name(s.rider.contr.acc) or "")
end

-- ---- limits of the architectures ----

-- Shared memory a block may ask for, and that of a multiprocessor, in bytes.
local block_shared = {[75] = 64, [80] = 163, [86] = 99, [87] = 163, [89] = 99, [90] = 227, [100] = 227, [103] = 227, [120] = 99, [121] = 99}
local sm_shared = {[75] = 64, [80] = 164, [86] = 100, [87] = 164, [89] = 100, [90] = 228, [100] = 228, [103] = 228, [120] = 100, [121] = 100}

-- Less what rg_last_block has beside it.
function L.cu_shared_limit()
    return (block_shared[t.arch] or 48) * 1024 - 128
end

-- Registers that a thread may have where `blocks` blocks of `warps` warps share a multiprocessor: warps lie in four parts of it, each
-- with 512 registers a lane, given out by eights.
local function register_room(warps, blocks)
    return math.min(255, 512 // L.ceil_div(warps * blocks, 4) // 8 * 8)
end

-- Blocks that a multiprocessor holds: by registers (a thread needs `registers`), threads and shared memory (1 KB of each block is the
-- system's). Nil where not even one fits.
function L.cu_resident(threads, registers, shared_bytes)
    if shared_bytes > L.cu_shared_limit() then return nil end
    local by_threads = (t.arch == 75 and 1024 or 1536) // threads
    local by_shared = (sm_shared[t.arch] or 64) * 1024 // (shared_bytes + 1024)
    for blocks = math.min(by_threads, by_shared, 16), 1, -1 do
        if register_room(threads // 32, blocks) >= registers then return blocks end
    end
    return nil
end

-- ---- costs: microseconds on an H100 ----

L.cu_sms, L.cu_ghz, L.cu_launch_us, L.cu_gbps = 132, 1.7, 1.5, 3000

-- `tiles` blocks of `warps` warps, each block of `issue` warp instructions, `resident` of them at once on a multiprocessor. Its four
-- schedulers issue one instruction a cycle each; the busiest sets the time, and two warps keep one busy.
function L.cu_issue_us(tiles, warps, issue, resident)
    local most = L.ceil_div(tiles, L.cu_sms)
    local together = math.min(most, resident) * warps
    local uneven = L.ceil_div(together, 4) * 4 / together
    local busy = 0.85 * math.min(1, L.ceil_div(together, 4) / 2) ^ 0.8
    return most * issue / 4 * uneven / busy / L.cu_ghz / 1000
end

-- Instructions to evaluate a site for four channels.
function L.cu_site_issue(site)
    local operations = 0
    for i = 0, site.expr_count - 1 do
        if site.expr[i].a then operations = operations + 4 elseif site.expr[i].op == "arg" then operations = operations + 3 end
    end
    return operations
end

-- What a convolution's row answers with its cheapest cut.
function L.cu_conv_settles(best)
    local g = best.g
    return {params = best.p, tiles_per_block = g.tiles * g.slices, parts_per_block = g.tiles, threads = g.threads,
            shared_bytes = g.shared, cost_us = best.us, weights = "master"}
end

-- ---- tiles of fprop and dgrad ----
--
-- A warp takes `pixels` output pixels (1 or 2) of 16 images by 8 * cols channels; a thread 4 rows of each pixel, `cols` channels in
-- groups of four. ph x pw pixels and wk * 8 * cols channels are a block.

-- Registers that a thread needs, by what the compiler takes without spilling.
local registers = {[1] = {[4] = 88, [8] = 132}, [2] = {[4] = 130, [8] = 172}}

-- What template and plan know of contraction i.
local function stage(k, g, i)
    local contr = k.contr[i]
    local s = {contr = contr, site = k.site[contr.site], index = contr.site, w = k.arg[contr.w_arg], h = g.axis_h[i], v = g.axis_w[i]}
    s.plain = L.is_plain(k, s.site)
    s.width = L.cu_width(k, s.site)
    s.cc = g.cc
    s.gh, s.gw = math.max(1, math.min(s.h.most, g.gh)), math.max(1, math.min(s.v.most, g.gw))
    s.slots_h, s.slots_w = L.cu_slots(s.h, g.ph, s.gh), L.cu_slots(s.v, g.pw, s.gw)
    s.chunks = L.ceil_div(s.site.c, g.cc)
    s.x_floats, s.w_floats = s.slots_h * s.slots_w * 16 * g.cc, s.gh * s.gw * g.cc * g.kt
    s.rides = L.cu_rides(k, i, g.axis_h, g.axis_w)
    return s
end

-- All of a tile's numbers from its parameters ph, pw, pixels, cols, wk, cc, gh, gw.
function L.cu_conv(k, p)
    local g = {ph = p.ph, pw = p.pw, pixels = p.pixels, cols = p.cols, wk = p.wk, cc = p.cc, gh = p.gh, gw = p.gw}
    g.out = k.site[k.site_count - 1]
    g.axis_h, g.axis_w = L.cu_axis(k, "h"), L.cu_axis(k, "w")
    g.wp = g.ph * g.pw // g.pixels
    g.warps, g.threads = g.wp * g.wk, g.wp * g.wk * 32
    g.kt, g.kp = g.wk * 8 * g.cols, L.round_up(k.arg[k.contr[0].w_arg].k, t.vector)
    g.slices = L.ceil_div(g.kp, g.kt)
    g.tiles_h = L.ceil_div(L.ceil_div(g.out.h, g.axis_h.period), g.ph)
    g.tiles_w = L.ceil_div(L.ceil_div(g.out.w, g.axis_w.period), g.pw)
    g.tiles = g.axis_h.period * g.axis_w.period * g.tiles_h * g.tiles_w
    local buffer, tail = 0, L.cu_reduce_floats(g.out, g.wp * 4, g.kt)
    g.stage, g.results = {}, L.cu_results(k)
    for i = 0, k.contr_count - 1 do
        local s = stage(k, g, i)
        g.stage[i] = s
        if s.rides then g.stage[0].rider = s end
        buffer = math.max(buffer, s.x_floats + s.w_floats, s.rides and g.stage[0].x_floats + g.stage[0].w_floats + s.w_floats or 0)
    end
    for s = 0, k.site_count - 2 do tail = math.max(tail, L.cu_own_floats(k, k.site[s], g.threads)) end
    g.buffer = buffer
    g.shared = 4 * math.max(2 * buffer, tail)
    g.registers = registers[g.pixels][g.cols] + (g.results - 1) * (4 * g.pixels * g.cols + 8)
    g.resident = L.cu_resident(g.threads, g.registers, g.shared)
    return g
end

-- Instructions of a block.
local function issue_of(k, g)
    local per_block, out = 0, g.out
    for i = 0, k.contr_count - 1 do
        local s = g.stage[i]
        local live_h = L.live_taps(s.contr.gh, s.contr.r, out.h, s.h.extent) / (g.axis_h.period * g.tiles_h * g.ph)
        local live_w = L.live_taps(s.contr.gw, s.contr.s, out.w, s.v.extent) / (g.axis_w.period * g.tiles_w * g.pw)
        local products = live_h * live_w * s.chunks * g.cc * g.pixels * 4 * g.cols * g.warps * 1.15
        local groups = L.ceil_div(s.h.most, s.gh) * L.ceil_div(s.v.most, s.gw)
        local x_items, w_items = s.rides and 0 or s.x_floats / 128, s.w_floats / 128
        local x_issue = s.plain and 14 or 20 + L.cu_site_issue(s.site)
        local w_issue = t.dgrad and 24 or 12 -- turned ones are not copied asynchronously
        per_block = per_block + products + groups * s.chunks * (x_items * x_issue + w_items * w_issue + (s.rides and 0 or g.warps * 40))
    end
    return per_block + g.warps * (g.pixels * g.cols * (10 + L.cu_site_issue(out)) + 200)
end

local function consider(k, best, p)
    local g = L.cu_conv(k, p)
    if not g.resident or g.threads > 512 then return end
    local us = L.cu_issue_us(g.tiles * g.slices * t.max_blocks, g.warps, issue_of(k, g), g.resident)
    us = L.cu_launch_us + math.max(us, L.cu_traffic_us(k))
    if not best.us or us < best.us then best.us, best.g, best.p = us, g, p end
end

local shapes = {{1, 1}, {1, 2}, {2, 2}, {2, 4}, {4, 4}, {3, 3}, {2, 3}, {1, 4}}

-- Groups of taps, whole filters first.
local function tap_groups(k)
    local h, w = L.cu_axis(k, "h"), L.cu_axis(k, "w")
    local most_h, most_w = 1, 1
    for i = 0, k.contr_count - 1 do most_h, most_w = math.max(most_h, h[i].most), math.max(most_w, w[i].most) end
    local list = {{most_h, most_w}}
    if most_h > 1 then list[#list + 1] = {1, most_w} end
    if most_w > 8 then list[#list + 1] = {1, 8} end
    return list
end

local function chunk_sizes(k)
    local most = 0
    for i = 0, k.contr_count - 1 do most = math.max(most, k.site[k.contr[i].site].c) end
    return most <= 4 and {4} or most <= 8 and {8, 4} or {16, 8, 4}
end

-- The cheapest tile. Every description has one: a pixel, 32 channels, one tap and four channels at a time.
function L.cu_conv_plan(k)
    local best = {}
    for _, shape in ipairs(shapes) do
        for _, group in ipairs(tap_groups(k)) do
            for _, cc in ipairs(chunk_sizes(k)) do
                for _, cols in ipairs {8, 4} do
                    for _, wk in ipairs {1, 2, 4} do
                        local area = shape[1] * shape[2]
                        for pixels = 1, area % 2 == 0 and 2 or 1 do
                            consider(k, best, {ph = shape[1], pw = shape[2], pixels = pixels, cols = cols, wk = wk, cc = cc, gh = group[1],
                                               gw = group[2]})
                        end
                    end
                end
            end
        end
    end
    return L.cu_conv_settles(best)
end

function L.cu_conv_applies(k)
    for s = 0, k.site_count - 1 do
        if not L.site_fits(k, k.site[s]) then return false end
    end
    for i = 0, k.contr_count - 1 do
        local w = k.arg[k.contr[i].w_arg]
        if w.layout ~= "weight" or w.kb % 4 ~= 0 then return false end
    end
    return true
end

-- ---- text ----

-- What contraction i and its rider (nil: none) read, as a set of indices.
function L.cu_stage_args(k, i, rider)
    local used = L.cu_root_args(k.site[k.contr[i].site])
    used[k.contr[i].w_arg] = true
    if rider then used[rider.contr.w_arg] = true end
    return used
end

-- C lines that make [first, last) the taps of an axis that some pixel of the tile reads; `base` is the input of its first pixel and tap 0,
-- `outs` its pixels.
function L.cu_tap_range(a, outs, base, n, first, last)
    local reach, t_in = (outs - 1) * a.in_step, math.max(1, math.abs(a.tap_in))
    local low, high
    if a.tap_in > 0 then
        low = L.plus("-" .. base, -reach)
        high = string.format("%d - %s", a.extent - 1, base)
    else
        low = L.plus(base, 1 - a.extent)
        high = L.plus(base, reach)
    end
    local function over(text) return t_in == 1 and text or "(" .. text .. ") / " .. t_in end
    return {
        string.format("const int %s = rg_max_int(0, %s);", first, over(t_in == 1 and low or low .. " + " .. t_in - 1)),
        string.format("const int %s_high = %s;", last, high),
        string.format("const int %s = %s_high < 0 ? 0 : rg_min_int(%s, %s + 1);", last, last, n, over(last .. "_high")),
    }
end

-- C text of a local tap's slots within a group of `group` taps.
function L.cu_tap_slots(a, name, group)
    local stride = math.abs(a.tap_in) // a.step
    if a.most <= 1 then return "0" end
    if a.tap_in > 0 then return L.times(name, stride) end
    return L.times("(" .. group - 1 .. " - " .. name .. ")", stride)
end

-- " + 2 * tap": how far tap number `tap` lies from tap 0, in inputs, to be added.
function L.cu_tap_step(a, tap)
    return (a.tap_in < 0 and " - " or " + ") .. L.times(tap, math.abs(a.tap_in))
end

-- C text of the first input that a group of taps from j0 on reads.
function L.cu_group_base(a, base, j0, group)
    if a.tap_in > 0 then return base .. L.cu_tap_step(a, j0) end
    return base .. L.cu_tap_step(a, group == 1 and j0 or "(" .. j0 .. " + " .. group - 1 .. ")")
end

-- C text of how many groups of n taps there are.
function L.cu_groups(taps, n)
    return n == 1 and taps or "(" .. taps .. " + " .. n - 1 .. ") / " .. n
end

-- ---- the own pass: what prologues store and reduce ----

-- The numbers of a site's own pass with `threads` threads: groups of four channels (or single ones) at a time, rows of threads.
function L.cu_own(k, site, threads)
    local own = {width = L.cu_width(k, site)}
    own.channels = L.ceil_div(site.c, own.width)
    own.lanes = math.min(threads, own.channels)
    own.rows = math.max(1, threads // own.lanes)
    return own
end

-- Bytes of float that it gathers in shared memory.
function L.cu_own_floats(k, site, threads)
    local own = L.cu_own(k, site, threads)
    return L.cu_reduce_floats(site, own.rows, own.lanes * own.width)
end
