-- Convolutions on the matrix unit, fprop and dgrad alike. One output pixel of 16 images is 16 rows of A, input channels are the
-- contraction, 8 output channels are the columns of B. Taps, residues and slots are those of cu_lib_conv.lua.
--
-- A block takes ph x pw output pixels of one residue and kt = wk * nk * 8 output channels. A warp keeps wy x wx of these pixels by nk * 8
-- channels; wc groups of warps share out the input channels of a stage and are added up at the end. A stage is cc input channels of a
-- group of gh x gw taps: the slots of x that they meet, [slot][16 images][cc], and the weights, [tap][cc][kt], or [tap][kt][cc] where
-- memory has them turned. Taps are kept in the order of their slots, so that tap j of a group reads slot j * tap_h of a pixel's. `stages`
-- buffers go round. What an operand's prologue reads arrives as it is, and the thread that brought it works the prologue in place, one
-- stage ahead of the products.
--
-- The unit truncates what it adds: with n steps of it (channels times taps over 16, or 8 in tf32) a sum loses n * 2^-24 of its largest
-- partial sum at most, and half of that on average. For 512 channels and nine taps these are 1.7e-5 (tf32 3.4e-5), a hundredth (a
-- tenth) of what the rounding of a single operand takes; so sums are not carried over to others.
local L = ...

-- ---- shared memory ----

-- C text of where 16-byte chunk `chunk` of row `row` lies, in elements. Rows have `length` of them, a power of two; chunks are exchanged
-- so that the same chunk of 8 neighbouring rows meets no bank twice.
function L.mma_chunk(F, length, row, chunk)
    local units = length // F.vector
    if units == 1 then return L.cu_product(row, length) end
    local turn = L.cu_mod(L.over(L.paren(row), math.max(1, 8 // units)), math.min(8, units))
    return string.format("%s + (%s ^ %s) * %d", L.cu_product(row, length), L.paren(chunk), turn, F.vector)
end

-- Where chunk v of input channel c lies among the kt output channels of a tap.
function L.mma_weight_at(F, kt, c, v)
    if F.bytes == 2 then return L.mma_chunk(F, kt, c, v) end
    return L.mma_swizzled(F, kt, c, L.times(v, 4), true)
end

-- ---- what is brought ----

-- Does argument i lie in memory as the operand lies in shared memory, so that asynchronous copies can bring it?
local function is_raw(k, site, i, F)
    local arg = k.arg[i]
    return arg.layout == "act" and arg.h == site.h and arg.w == site.w and arg.c == site.c
        and L.cu_element_bytes(arg) == F.bytes and arg.cp % F.vector == 0
end

-- Arguments that are brought, and whether that is all there is to do. The first lies where the operand will.
local function brought(k, site, F)
    local raw, used = {}, L.cu_root_args(site)
    for i = 0, k.arg_count - 1 do
        if used[i] and is_raw(k, site, i, F) then raw[#raw + 1] = i end
    end
    return raw, site.expr[site.root].op == "arg" and #raw == 1
end

-- How many taps of an axis a group can have.
local function tap_counts(axis, period, group)
    local seen, list = {}, {}
    for residue = 0, period - 1 do
        local n = axis[residue].n
        for _, count in ipairs {n >= group and group or 0, n % group} do
            if count > 0 and not seen[count] then
                seen[count] = true
                list[#list + 1] = count
            end
        end
    end
    return list
end

local function tap_shapes(s, axis_h, axis_w)
    local list = {}
    for _, rows in ipairs(tap_counts(s.h, axis_h.period, s.gh)) do
        for _, columns in ipairs(tap_counts(s.v, axis_w.period, s.gw)) do list[#list + 1] = {rows = rows, columns = columns} end
    end
    return list
end

-- ---- the numbers of a tile ----

-- What does not depend on a tile's parameters.
local function frame(k)
    local f = {out = k.site[k.site_count - 1], results = L.cu_results(k), axis_h = L.cu_axis(k, "h"), axis_w = L.cu_axis(k, "w"), format = L.mma_storage(k), stage = {}}
    f.ahead, f.raw, f.plain = 0, {}, {}
    for i = 0, k.contr_count - 1 do
        f.raw[i], f.plain[i] = brought(k, k.site[k.contr[i].site], f.format)
        if not f.plain[i] then f.ahead = 1 end
    end
    return f
end

local function stage(g, k, i)
    local contr = k.contr[i]
    local s = {contr = contr, site = k.site[contr.site], index = contr.site, w = k.arg[contr.w_arg], h = g.axis_h[i], v = g.axis_w[i]}
    s.raw, s.plain = g.raw[i], g.plain[i]
    s.ahead = s.plain and 0 or 1
    s.gh, s.gw = math.max(1, math.min(s.h.most, g.gh)), math.max(1, math.min(s.v.most, g.gw))
    s.whole = s.gh >= s.h.most and s.gw >= s.v.most
    s.step_h, s.step_w = s.h.in_step // s.h.step, s.v.in_step // s.v.step
    s.tap_h = s.gh > 1 and math.abs(s.h.tap_in) // s.h.step or 1
    s.tap_w = s.gw > 1 and math.abs(s.v.tap_in) // s.v.step or 1
    s.slots_h, s.slots_w = (g.ph - 1) * s.step_h + (s.gh - 1) * s.tap_h + 1, (g.pw - 1) * s.step_w + (s.gw - 1) * s.tap_w + 1
    s.chunks = L.ceil_div(s.site.c, g.cc)
    s.x_size, s.w_size = s.slots_h * s.slots_w * 16 * g.cc, s.gh * s.gw * g.cc * g.kt
    s.operands = s.x_size * math.max(1, #s.raw)
    s.rides = L.cu_rides(k, i, g.axis_h, g.axis_w)
    return s
end

-- ---- what a prologue stores ----

-- Does each tile stage its own share of an axis' inputs, `inputs` per tile and the rest in the last?
local function covers(a, axis, outs, tiles)
    if axis.period > 1 or a.step > 1 then return false end
    local slots, inputs = L.cu_slots(a, outs, a.most), outs * a.in_step
    local from = a[0].in0 - (a.tap_in < 0 and (a.most - 1) * -a.tap_in or 0)
    return from <= 0 and from + slots >= inputs and (tiles - 1) * inputs + from + slots >= a.extent
end

-- The arguments to which values go as they are staged: where all that the prologue leaves are its values, and tiles cover the operand.
-- Else a pass of its own does it (cu_own.cu.tpl).
local function stored(k, g, s)
    if s.plain then return {} end
    local list = {}
    for n = 0, s.site.out_count - 1 do
        local out = s.site.out[n]
        if out.kind ~= "store" or out.root ~= s.site.root or k.arg[out.arg].cp % g.format.vector ~= 0 then return {} end
        list[#list + 1] = out.arg
    end
    local all = L.cu_width(k, s.site) == 4 and covers(s.h, g.axis_h, g.ph, g.tiles_h) and covers(s.v, g.axis_w, g.pw, g.tiles_w)
    return all and list or {}
end

-- The sites that need a pass of their own.
local function own_passes(k, g)
    local list, done = {}, {}
    for i = 0, k.contr_count - 1 do
        local s = g.stage[i]
        s.stored = (done[s.index] or s.rides) and {} or stored(k, g, s)
        if #s.stored > 0 then done[s.index] = true end
    end
    for s = 0, k.site_count - 2 do
        if k.site[s].out_count > 0 and not done[s] then list[#list + 1] = s end
    end
    return list
end

-- Registers that a thread needs: sums, the weights of those rows of taps that a row of slots meets, a rider's, the rest.
local function registers(g)
    local weights, rider = 0, g.stage[0].rider and 2 * math.max(2, g.nk) or 0
    for i = 0, #g.stage do
        local s = g.stage[i]
        local rows = math.min(s.gh, (g.wy - 1) * s.step_h // s.tap_h + 1)
        weights = math.max(weights, rows * s.gw * math.max(2, g.nk) * 2)
    end
    return L.round_up(g.pixels * g.nk * 4 * g.results + weights + rider + 76, 8)
end

local names = {"ph", "pw", "wy", "wx", "nk", "wk", "wc", "cc", "gh", "gw", "stages"}

local function numbers(k, f, p)
    local g = setmetatable({stage = {}}, {__index = f})
    for _, name in ipairs(names) do g[name] = p[name] end
    g.pixels, g.wide, g.kt = g.wy * g.wx, g.pw // g.wx, g.wk * g.nk * 8
    g.wp = g.ph * g.pw // g.pixels
    g.group = g.wp * g.wk
    g.threads, g.depth = g.group * g.wc * 32, 2 * g.format.vector
    g.kp = L.round_up(g.out.c, 16)
    g.slices = L.ceil_div(g.kp, g.kt)
    g.tiles_h = L.ceil_div(L.ceil_div(g.out.h, g.axis_h.period), g.ph)
    g.tiles_w = L.ceil_div(L.ceil_div(g.out.w, g.axis_w.period), g.pw)
    g.tiles = g.axis_h.period * g.axis_w.period * g.tiles_h * g.tiles_w
    g.buffer = 0
    for i = 0, k.contr_count - 1 do
        local s = stage(g, k, i)
        g.stage[i] = s
        if s.rides then g.stage[0].rider = s end
        g.buffer = math.max(g.buffer, s.operands + s.w_size, s.rides and g.stage[0].operands + g.stage[0].w_size + s.w_size or 0)
    end
    -- The epilogue: a warp's rows of one pixel, padded so that stores meet banks twice at most; rows of threads that reduce.
    g.pitch = g.nk * 8 + (g.nk % 2 == 0 and 8 or 0)
    g.rows = g.wp * 16 * g.wc // g.nk
    g.sums = g.group * g.wc * 16 * g.pitch
    local tail = g.sums * g.results + L.cu_reduce_floats(g.out, g.rows, g.kt)
    g.own = own_passes(k, g)
    for _, s in ipairs(g.own) do tail = math.max(tail, L.cu_own_floats(k, k.site[s], g.threads)) end
    g.shared = math.max(g.stages * g.buffer * g.format.bytes, 4 * tail)
    g.registers = registers(g)
    g.resident = L.cu_resident(g.threads, g.registers, g.shared)
    return g
end

function L.mma_conv(k, p)
    local g = numbers(k, frame(k), p)
    for i = 0, k.contr_count - 1 do g.stage[i].tap_shapes = tap_shapes(g.stage[i], g.axis_h, g.axis_w) end
    g.works = g.axis_h.period * g.axis_w.period > 1 or g.out.h % g.ph ~= 0 or g.out.w % g.pw ~= 0
    return g
end

-- ---- costs: cycles of a multiprocessor ----

-- Instructions for a warp's 32 chunks of an operand: copies, and the prologue.
local function chunk_issue(s, F)
    local copies = 12 * math.max(1, #s.raw)
    return s.plain and copies or copies + (F.vector // 4) * (L.cu_site_issue(s.site) + 6) + 16
end

-- Products, what they read from shared memory, all instructions, and bytes brought, of a contraction; of one that rides beside those of
-- its host.
local function stage_work(g, s)
    local out, F = g.out, g.format
    local taps_h = L.live_taps(s.contr.gh, s.contr.r, out.h, s.h.extent) / (g.axis_h.period * g.tiles_h * g.ph)
    local taps_w = L.live_taps(s.contr.gw, s.contr.s, out.w, s.v.extent) / (g.axis_w.period * g.tiles_w * g.pw)
    local groups = math.max(1, taps_h) / math.max(1, math.min(s.gh, taps_h)) * math.max(1, taps_w) / math.max(1, math.min(s.gw, taps_w))
    local steps = L.ceil_div(s.site.c, g.depth)
    local mmas = taps_h * taps_w * g.ph * g.pw * g.kt // 8 * steps
    local taps = taps_h * taps_w / groups
    local share = taps / (s.gh * s.gw)
    local slots = ((g.wy - 1) * s.step_h + (s.gh - 1) * s.tap_h + 1) * ((g.wx - 1) * s.step_w + (s.gw - 1) * s.tap_w + 1)
    local a = s.rides and 0 or slots * math.sqrt(share) * groups * steps * g.group
    local b = taps * g.nk / 2 * groups * steps * g.group * ((F.bytes == 4 and not s.w.turned) and 4 or 1)
    local x_warps, w_warps = s.rides and 0 or s.x_size / F.vector / 32, s.w_size * share / F.vector / 32
    local brought = groups * s.chunks * (x_warps * chunk_issue(s, F) + w_warps * 14)
    local issue = mmas * (t.arch < 80 and 2 or 1) + a * 2 + b + brought + (s.rides and 0 or groups * s.chunks * g.threads // 32 * 60)
    local loads = (a + b) * 4 + groups * s.chunks * (x_warps * (s.plain and 4 or 12 * #s.raw) + w_warps * 4)
    local bytes = groups * s.chunks * ((s.rides and 0 or s.operands) + s.w_size * share) * F.bytes
    return mmas, loads, issue, bytes, groups * s.chunks
end

local function stage_cycles(g, s)
    local mmas, loads, issue, bytes, stages = stage_work(g, s)
    if s.rider then
        local m, l, i, more = stage_work(g, s.rider)
        mmas, loads, issue, bytes = mmas + m, loads + l, issue + i, bytes + more
    end
    -- The largest of these sets the time where the others fit beside it: they do the less the larger they are.
    local cycles = ((mmas * 1.5) ^ 3 + loads ^ 3 + (issue / 4) ^ 3) ^ (1 / 3)
    return cycles + stages * 120, bytes
end

local function block_cycles(k, g)
    local cycles, bytes = 0, 0
    for i = 0, k.contr_count - 1 do
        local more, brought = 0, 0
        if not g.stage[i].rides then more, brought = stage_cycles(g, g.stage[i]) end
        cycles, bytes = cycles + more, bytes + brought
    end
    local items = g.ph * g.pw * 16 * g.kt / 128 * g.results
    for _, s in ipairs(g.own) do
        local site = k.site[s]
        cycles = cycles + site.h * site.w * 16 * site.c / 4 / g.tiles / g.threads * (400 + L.cu_site_issue(site))
    end
    return cycles + items * (10 + L.cu_site_issue(g.out)) / 4 + g.rows * 40 * #L.cu_reductions(g.out) + 1800, bytes
end

local function consider(k, f, best, p)
    local g = numbers(k, f, p)
    if g.registers > 232 or not g.resident then return end
    local cycles, bytes = block_cycles(k, g)
    local blocks = g.tiles * g.slices * t.max_blocks
    local us = L.cu_issue_us(blocks, g.threads // 32, 4 * cycles, g.resident)
    us = L.cu_launch_us + math.max(us, L.cu_traffic_us(k), blocks * bytes / 5500 / 1000)
    if not best.us or us < best.us then best.us, best.g, best.p = us, g, p end
end

-- ---- tiles to choose from ----

local warp_patches = {{1, 1}, {1, 2}, {2, 2}, {1, 3}, {3, 3}, {1, 4}, {2, 4}}
local block_patches = {{1, 1}, {1, 2}, {2, 1}, {2, 2}, {1, 4}, {4, 1}, {2, 4}, {4, 2}, {1, 3}, {3, 1}, {1, 8}}

local function tap_groups(f, k)
    local most_h, most_w = 1, 1
    for i = 0, k.contr_count - 1 do most_h, most_w = math.max(most_h, f.axis_h[i].most), math.max(most_w, f.axis_w[i].most) end
    local list = {{1, math.min(most_w, 8)}}
    if most_h > 1 and most_h * most_w <= 12 then table.insert(list, 1, {most_h, most_w}) end
    return list
end

-- Ways to share out `warps` warps: over pixels, output and input channels.
local function each_sharing(f, k, warps, visit)
    local high, wide = L.ceil_div(f.out.h, f.axis_h.period), L.ceil_div(f.out.w, f.axis_w.period)
    for _, wy_wx in ipairs(warp_patches) do
        local wy, wx = wy_wx[1], wy_wx[2]
        for _, many in ipairs(block_patches) do
            local ph, pw, wp = many[1] * wy, many[2] * wx, many[1] * many[2]
            local fits = ph < high + wy and pw < wide + wx and (wy == 1 or wy <= high) and (wx == 1 or wx <= wide)
            for wk = 1, fits and warps or 0 do
                local wc = warps // (wp * wk)
                if wk & (wk - 1) == 0 and wc > 0 and wc & (wc - 1) == 0 and wp * wk * wc == warps then
                    visit {ph = ph, pw = pw, wy = wy, wx = wx, wk = wk, wc = wc}
                end
            end
        end
    end
end

local function each_tile(f, k, warps, visit)
    local most, kp, depth = 16, L.round_up(f.out.c, 16), 2 * f.format.vector
    for i = 0, k.contr_count - 1 do most = math.max(most, k.site[k.contr[i].site].c) end
    each_sharing(f, k, warps, function(p)
        for _, nk in ipairs {2, 4, 8} do
            local small = p.wy * p.wx * nk <= 32 and (nk * p.wk * 8 < 2 * kp)
            for deep = 0, small and 3 or -1 do
                local cc = depth << deep
                local even = p.wc <= 1 << deep and 32 * warps % (16 * cc // f.format.vector) == 0
                if even and (deep == 0 or cc < 2 * most) then visit(p, nk, cc) end
            end
        end
    end)
end

local function search(k, f, best, warps)
    local groups = tap_groups(f, k)
    each_tile(f, k, warps, function(p, nk, cc)
        for _, group in ipairs(groups) do
            for stages = 2 + f.ahead, 4 do
                consider(k, f, best, {ph = p.ph, pw = p.pw, wy = p.wy, wx = p.wx, wk = p.wk, wc = p.wc, nk = nk, cc = cc, gh = group[1],
                                      gw = group[2], stages = stages})
            end
        end
    end)
end

-- The cheapest tile. Every description has one: a pixel, 16 channels, one warp.
function L.mma_conv_plan(k)
    local f, best = frame(k), {}
    for _, warps in ipairs {8, 4} do search(k, f, best, warps) end
    for _, warps in ipairs {2, 1} do
        if not best.us then search(k, f, best, warps) end
    end
    return L.cu_conv_settles(best)
end

function L.mma_conv_applies(k)
    for i = 0, k.contr_count - 1 do
        local contr = k.contr[i]
        if not L.mma_has(contr.format) or contr.format ~= k.contr[0].format then return false end
        local w, type = k.arg[contr.w_arg], contr.format ~= "tf32" and contr.format or nil
        if w.layout ~= "weight" or w.kb % 8 ~= 0 or w.type ~= type then return false end
    end
    for s = 0, k.site_count - 1 do
        if not L.site_fits(k, k.site[s]) then return false end
    end
    return true
end

-- ---- text ----

-- What the values of a stage read and store, and with the weights all that it touches: sets of indices.
function L.mma_apply_args(s)
    local used = L.cu_root_args(s.site)
    for _, i in ipairs(s.stored) do used[i] = true end
    return used
end

function L.mma_stage_args(k, s)
    local used = L.mma_apply_args(s)
    used[s.contr.w_arg] = true
    if s.rider then used[s.rider.contr.w_arg] = true end
    return used
end

-- C lines that say which taps a step has: h, w (numbers of the group's first ones), rows, columns; n_h, n_w, group_h, ... are in scope.
function L.mma_group(s, step, suffix)
    local function line(name, text) return string.format("const int %s%s = %s;", name, suffix, text) end
    if s.whole then return {} end
    local group = L.over(step, s.chunks)
    return {
        line("h", L.times("(group_h + " .. L.paren(group) .. " / groups_w)", s.gh)),
        line("w", L.times("(group_w + " .. L.paren(group) .. " % groups_w)", s.gw)),
        line("rows", string.format("rg_min_int(%d, n_h - h%s)", s.gh, suffix)),
        line("columns", string.format("rg_min_int(%d, n_w - w%s)", s.gw, suffix)),
    }
end

-- The names of these, and of what follows from them.
function L.mma_taps(s, suffix)
    local names = s.whole and {h = "0", w = "0", rows = "n_h", columns = "n_w"}
        or {h = "h" .. suffix, w = "w" .. suffix, rows = "rows" .. suffix, columns = "columns" .. suffix}
    local function first(a, base, tap, count)
        if a.most <= 1 then return base end
        local reach = math.abs(a.tap_in)
        if a.tap_in > 0 then return L.cu_sum(base, L.cu_product(tap, reach)) end
        return base .. " - " .. L.times(L.paren(L.cu_sum(tap, count) .. " - 1"), reach)
    end
    names.first_h, names.first_w = first(s.h, "h_base", names.h, names.rows), first(s.v, "w_base", names.w, names.columns)
    return names
end

-- C text of the filter's row or column that tap `tap` of a group in the order of slots is.
function L.mma_filter_tap(a, first, tap, count)
    if a.most <= 1 then return first end
    if a.tap_in > 0 then return L.cu_sum(first, L.times(tap, a.tap_step)) end
    return L.cu_sum(first, L.times("(" .. count .. " - 1 - " .. tap .. ")", a.tap_step))
end

-- C lines that load a thread's four sums of image n as `name`: those of all groups of warps, `offset` floats from the first ones.
function L.mma_sum(g, name, offset)
    local lines, all = {}, ""
    for other = 0, g.wc - 1 do
        local one = other == 0 and name or name .. other
        lines[#lines + 1] = string.format("float %s[4];", one)
        lines[#lines + 1] = string.format("rg_load4(%s, %s);", one, L.plus("sums + n * " .. g.pitch, offset + other * g.group * 16 * g.pitch))
        all = all .. (other == 0 and "" or " + ") .. one .. "[j]"
    end
    if g.wc > 1 then
        lines[#lines + 1] = "RG_UNROLL"
        lines[#lines + 1] = string.format("for (int j = 0; j < 4; j++) %s[j] = %s;", name, all)
    end
    return lines
end

-- C lines that work a prologue in place for 4 channels each from c on: before the loop over slots, within it. The first group of names
-- is e, the second f. Brought arguments stand in raw<i>[F.vector].
function L.mma_prologue(k, s, F)
    local outer, inner, raw = {}, {}, {}
    local root = s.site.expr[s.site.root]
    local site = s.site
    -- Storing in the format rounds to it.
    if F.bytes == 2 and root.op == "round_" .. s.contr.format then site = setmetatable({root = root.a}, {__index = site}) end
    for _, i in ipairs(s.raw) do raw[i] = true end
    for part = 0, F.vector // 4 - 1 do
        local c = L.plus("c", 4 * part)
        local function keep(e)
            local value = site.c % F.vector ~= 0 and string.format("%s + j < %d ? %s : 0.0f", c, site.c, e) or e
            return string.format("value[%s] = %s;", L.plus("j", 4 * part), value)
        end
        local function load(i, name)
            return raw[i] and string.format("const float *const %s = %s;", name, L.plus("raw" .. i, 4 * part)) or nil
        end
        local first, each = L.cu_site(k, site, {pos = {nb = "nb", h = "h", w = "w", n = "n", c = c}, width = 4, skip_stores = true,
                                                root = keep, load = load, prefix = part == 0 and "e" or "f"})
        L.append(outer, first)
        L.append(inner, each)
    end
    return outer, inner
end

-- C lines that store `value` to the arguments s.stored at the position.
function L.mma_store(k, s, F)
    local lines = {}
    for _, i in ipairs(s.stored) do
        local type, at = k.arg[i].type, L.cu_at(k, i, {nb = "nb", h = "h", w = "w", n = "n", c = "c"})
        if type and F.vector == 8 then
            lines[#lines + 1] = string.format("rg_put8_%s(%s, value);", type, at)
        else
            for part = 0, F.vector - 4, 4 do
                lines[#lines + 1] = string.format("rg_put4%s(%s, %s);", type and "_" .. type or "", L.plus(at, part), L.plus("value", part))
            end
        end
    end
    return lines
end

-- C lines that work a prologue channel by channel, where the operand's pixels are not whole groups of four.
function L.mma_channels(k, site, count)
    local pos = {nb = "nb", h = "h", w = "w", n = "n", c = "channel"}
    local outer, inner = L.cu_site(k, site, {pos = pos, width = 1, skip_stores = true, root = function(e) return "value[j] = " .. e .. ";" end})
    local lines = {"RG_UNROLL", string.format("for (int j = 0; j < %d; j++) {", count), "    const int channel = c + j;",
                   "    if (channel >= " .. site.c .. ") break;"}
    L.append(lines, L.indent(L.append(outer, inner)))
    lines[#lines + 1] = "}"
    return lines
end

-- C lines that multiply a stage: by the taps that it has, and whether all of the warp's slots lie in the image. rides: ", true" where the
-- rider's tap is among them; "" where none can ride.
local function multiply(k, g, s, i, taps, rides)
    local lines, choice = {}, #s.tap_shapes > 1
    for _, shape in ipairs(s.tap_shapes) do
        local high = ((g.wy - 1) * s.step_h + (shape.rows - 1) * s.tap_h) * s.h.step
        local wide = ((g.wx - 1) * s.step_w + (shape.columns - 1) * s.tap_w) * s.v.step
        local function call(border)
            return string.format("multiply%d<%d, %d, %s%s>(x_now, x_now + %d, x_at, w_at, h0, w0, %s);", i, shape.rows, shape.columns, border,
                                 rides, s.operands, L.cu_into(s, tostring))
        end
        local body = {call("true")}
        if high < s.h.extent and wide < s.v.extent then
            body = {string.format("if (h0 >= 0 && h0 < %d && w0 >= 0 && w0 < %d)", s.h.extent - high, s.v.extent - wide),
                    "    " .. call("false"), "else", "    " .. call("true")}
        end
        if choice then
            lines[#lines + 1] = string.format("if (%s == %d && %s == %d) {", taps.rows, shape.rows, taps.columns, shape.columns)
            body[#body + 1] = "}"
            for n = 1, #body - 1 do body[n] = "    " .. body[n] end
        end
        L.append(lines, body)
    end
    return lines
end

-- The group of taps that has the rider's: its first tap, and the rider's place in it.
function L.mma_ride(s)
    local h, w = s.rider.rides.h, s.rider.rides.w
    return {h = h - h % s.gh, w = w - w % s.gw, y = h % s.gh, z = w % s.gw}
end

-- The same, for the stages that have the rider's tap and for those that have not.
function L.mma_multiply(k, g, s, i, taps)
    if not s.rider then return multiply(k, g, s, i, taps, "") end
    if s.whole then return multiply(k, g, s, i, taps, ", true") end
    local ride = L.mma_ride(s)
    local lines = {string.format("if (%s == %d && %s == %d) {", taps.h, ride.h, taps.w, ride.w)}
    L.append(lines, L.indent(multiply(k, g, s, i, taps, ", true")))
    lines[#lines + 1] = "} else {"
    L.append(lines, L.indent(multiply(k, g, s, i, taps, ", false")))
    lines[#lines + 1] = "}"
    return lines
end
