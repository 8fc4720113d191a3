-- Convolutions and windows: which input a tap reads, the rows that an output row needs, operands in rings of rows.
local L = ...

-- ---- taps: in = (out * mul + tap * tap_mul + off) / div, where that divides and lies in the image ----

-- C text of out * mul + tap * tap_mul + off.
function L.tap_numerator(geom, out, tap)
    local text = L.times(out, geom.mul)
    if tap and geom.tap_mul < 0 then
        text = text .. " - " .. L.times(tap, -geom.tap_mul)
    elseif tap then
        text = text .. " + " .. L.times(tap, geom.tap_mul)
    end
    return L.plus(text, geom.off)
end

-- The input of a tap, nil where it is not in the list.
function L.tap_input(geom, out, tap, extent)
    local at = out * geom.mul + tap * geom.tap_mul + geom.off
    if at < 0 or at % geom.div ~= 0 or at // geom.div >= extent then return nil end
    return at // geom.div
end

function L.gcd(a, b)
    while b ~= 0 do a, b = b, a % b end
    return math.abs(a)
end

-- Classes of outputs along one axis: {first, step, count, taps = {{tap, input, input_step}, ...}}. The outputs first, first + step, ...
-- read the same taps; output number i reads input + i * input_step of each. Every output is in exactly one class.
function L.tap_classes(geom, taps, out_extent, in_extent)
    local period, classes = geom.div // L.gcd(geom.div, geom.mul), {}
    for residue = 0, math.min(period, out_extent) - 1 do
        local current
        for out = residue, out_extent - 1, period do
            local list, same = {}, current ~= nil
            for tap = 0, taps - 1 do
                local input = L.tap_input(geom, out, tap, in_extent)
                if input then list[#list + 1] = {tap = tap, input = input, input_step = period * geom.mul // geom.div} end
            end
            same = same and #list == #current.taps
            for i = 1, same and #list or 0 do same = same and list[i].tap == current.taps[i].tap end
            if not same then
                current = {first = out, step = period, count = 0, taps = list}
                classes[#classes + 1] = current
            end
            current.count = current.count + 1
        end
    end
    return classes
end

-- Pairs (output, tap) of one axis whose input exists.
function L.live_taps(geom, taps, out_extent, in_extent)
    local count = 0
    for out = 0, out_extent - 1 do
        for tap = 0, taps - 1 do
            if L.tap_input(geom, out, tap, in_extent) then count = count + 1 end
        end
    end
    return count
end

-- From one tap of a span to the next: taps and inputs passed.
function L.span_step(geom)
    local taps = geom.div // L.gcd(geom.div, math.abs(geom.tap_mul))
    return {tap = taps, input = taps * geom.tap_mul // geom.div}
end

-- ---- operands: which rows of a site the contractions read ----

local function numerator_ends(geom, taps)
    local reach = (taps - 1) * geom.tap_mul
    return math.min(0, reach) + geom.off, math.max(0, reach) + geom.off
end

-- First and last input row that output row p may read, as numbers (clamped; last < first: none).
function L.row_range(k, s, p)
    local first, last = math.maxinteger, -1
    for i = 0, k.contr_count - 1 do
        local contr = k.contr[i]
        if contr.site == s then
            local low, high = numerator_ends(contr.gh, contr.r)
            local base, div = p * contr.gh.mul, contr.gh.div
            first = math.min(first, L.ceil_div(math.max(0, base + low), div))
            last = math.max(last, math.max(0, base + high) // div)
        end
    end
    return first, math.min(last, k.site[s].h - 1)
end

local function nest(name, list)
    local text = list[#list]
    for i = #list - 1, 1, -1 do text = string.format("%s(%s, %s)", name, list[i], text) end
    return text
end

-- The same as C texts in p.
function L.row_range_text(k, s)
    local first, last = {}, {tostring(k.site[s].h - 1)}
    for i = 0, k.contr_count - 1 do
        local contr = k.contr[i]
        if contr.site == s then
            local low, high = numerator_ends(contr.gh, contr.r)
            local a, b = L.plus(L.times("p", contr.gh.mul), low), L.plus(L.times("p", contr.gh.mul), high)
            if low < 0 then a = "rg_max_int(0, " .. a .. ")" end
            if high < 0 then b = "rg_max_int(0, " .. b .. ")" end
            if contr.gh.div > 1 then
                a = L.paren(L.plus(a, contr.gh.div - 1)) .. " / " .. contr.gh.div
                b = L.paren(b) .. " / " .. contr.gh.div
            end
            first[#first + 1], last[#last + 1] = a, b
        end
    end
    return nest("rg_min_int", first), #last == 2 and nest("rg_min_int", last)
        or "rg_min_int(" .. last[1] .. ", " .. nest("rg_max_int", {table.unpack(last, 2)}) .. ")"
end

-- Only inputs congruent to `residue` modulo `step` are read along an axis ("h" or "w"): a 1x1 convolution with stride 2 reads a quarter
-- of its pixels. A site with outputs is computed everywhere.
function L.read_step(k, s, axis)
    local step, residue = 0, nil
    for i = 0, k.contr_count - 1 do
        local contr = k.contr[i]
        if contr.site == s then
            local geom = axis == "h" and contr.gh or contr.gw
            if geom.div > 1 then return 1, 0 end
            step = L.gcd(step, geom.mul)
            if (axis == "h" and contr.r or contr.s) > 1 then step = L.gcd(step, geom.tap_mul) end
            if residue then step = L.gcd(step, geom.off - residue) end
            residue = residue or geom.off
        end
    end
    if step <= 1 or k.site[s].out_count > 0 then return 1, 0 end
    return step, residue % step
end

-- Rows that a ring must hold when output rows [first, last) are made `pr` at a time.
function L.ring_rows(k, s, first, last, pr)
    local rows, step = 1, L.read_step(k, s, "h")
    for p = first, last - 1, pr do
        local low = L.row_range(k, s, p)
        local _, high = L.row_range(k, s, math.min(last, p + pr) - 1)
        if high >= low then rows = math.max(rows, (high - low) // step + 1) end
    end
    return rows
end

-- Ring of site s for strips of `strip` output rows made `pr` at a time, in rows; 0 when the operand is read from memory.
function L.ring_size(k, s, strip, pr)
    local site = k.site[s]
    if L.is_plain(k, site) then return 0 end
    local rows, out = 1, k.site[k.site_count - 1].h
    for first = 0, out - 1, strip do
        rows = math.max(rows, L.ring_rows(k, s, first, math.min(out, first + strip), pr))
    end
    return rows
end

function L.row_floats(site)
    return site.w * 16 * L.site_cp(site)
end

-- How operand s is reached: {plain, arg (plain), cp, rows (ring), offset (of the ring in scratch), state (offset of its reductions)},
-- with the row and column steps. Sites lie one after another in scratch; the second result is the scratch used.
function L.operands(k, strip, pr)
    local list, offset = {}, 0
    k.site[k.site_count - 1].lanes = k.arg[k.contr[0].w_arg].kp
    for s = 0, k.site_count - 1 do
        local site = k.site[s]
        local one = {index = s, site = site, offset = offset, rows = 0, out_h = k.site[k.site_count - 1].h}
        if s < k.site_count - 1 then
            one.plain = L.is_plain(k, site)
            one.arg = one.plain and site.expr[site.root].leaf
            one.cp = one.plain and k.arg[one.arg].cp or L.site_cp(site)
            one.rows = L.ring_size(k, s, strip, pr)
            one.step, one.residue = L.read_step(k, s, "h")
            offset = offset + one.rows * L.row_floats(site)
        end
        one.state = offset
        offset = offset + L.state_floats(site)
        list[s] = one
    end
    return list, offset
end
