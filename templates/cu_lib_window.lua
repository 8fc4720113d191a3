-- Windows on CUDA: rows are output pixels of an image; the operand is evaluated at each tap in place.
local L = ...

function L.cu_window_width(k)
    return math.min(L.cu_width(k, k.site[0]), L.cu_width(k, k.site[1]))
end

-- Strips of output pixels are the tiles (and parts); what the prologue leaves is made once, in strips of its own pixels.
function L.cu_window_plan(k)
    local x, y, P = k.site[0], k.site[1], {}
    P.run = L.cu_run(y.h * y.w, y.c)
    P.strips = L.ceil_div(y.h * y.w, P.run)
    P.own_run = L.ceil_div(x.h * x.w, P.strips)
    P.lanes, P.chunks = L.cu_chunks(k, y, L.cu_window_width(k), P.strips * t.max_blocks)
    return {params = P, tiles_per_block = P.strips * P.chunks, parts_per_block = L.window_has_parts(k) and P.strips or 0,
            threads = L.cu_threads, cost_us = L.cu_traffic_us(k)}
end

function L.cu_window_declare(k, P)
    local floats, width = 0, L.cu_window_width(k)
    for i = 0, 1 do floats = math.max(floats, L.cu_sum_floats(k.site[i], L.cu_grid(k, k.site[i], width, P.lanes))) end
    return floats > 0 and {string.format("RG_SHARED(float, between, %d);", floats)} or {}
end

function L.cu_window_tile(k, P)
    local lines, used = {}, L.site_args(k.site[0])
    for i in pairs(L.site_args(k.site[1])) do used[i] = true end
    if k.window == "maxgrad" then used[k.index_arg] = true end
    if P.chunks > 1 then
        lines[1] = string.format("const int chunk = rg_block() %% %d, part = rg_block() / %d;", P.chunks, P.chunks)
    else
        lines[1] = "const int part = rg_block();"
    end
    lines[2] = string.format("const int nb = part / %d, strip = part %% %d;", P.strips, P.strips)
    if L.window_has_parts(k) then lines[3] = "const int live = rg_live(ctl, nb * 16, 16);" end
    return L.append(lines, L.cu_bases(k, used))
end

-- The tile's pixels of a site: names of its first one and of the number of rows.
function L.cu_window_rows(site, run, first)
    local pixels = site.h * site.w
    return {
        string.format("const int %s = rg_min_int(strip * %d, %d);", first, run, pixels),
        string.format("const int rows = rg_min_int(%d, %d - %s) * 16;", run, pixels, first),
    }
end

local function grid(k, site, P)
    local g = L.cu_grid(k, site, L.cu_window_width(k), P.lanes)
    g.images = 16
    return g
end

-- What the prologue leaves, at the tile's own pixels.
function L.cu_window_own(k, P)
    return L.cu_rows_each(k, k.site[0], grid(k, k.site[0], P), {first = "own0", chunks = P.chunks, row = {}})
end

-- ---- the taps of a row ----

local tap_pos = {nb = "nb", h = "th", w = "tw", n = "n", c = "c"}

-- How a tap's value joins lane j's accumulators.
local function combine(k, lane, width)
    local acc0, acc1 = "acc0[" .. lane .. "]", "acc1[" .. lane .. "]"
    return function(x)
        if k.window == "sum" then return acc0 .. " += " .. x .. ";" end
        if k.window == "maxgrad" then
            local index = width == 4 and "index[j]" or "index"
            return string.format("%s += %s == number ? %s : 0.0f;", acc0, index, x)
        end
        if not L.uses_index(k) then return string.format("%s = rg_max(%s, %s);", acc0, acc0, x) end
        return string.format("const bool wins = taps == 0 || %s > %s || %s != %s;\n%s = wins ? %s : %s;\n%s = wins ? number : %s;",
                             x, acc0, x, x, acc0, x, acc0, acc1, acc1)
    end
end

local function begin(k, width)
    local first = k.window == "max" and L.float(-math.huge) or "0.0f"
    local lines = {string.format("float acc0[%d] = {%s};", width, string.rep(first, width, ", "))}
    if k.window == "max" and L.uses_index(k) then
        lines[2] = string.format("float acc1[%d] = {};", width)
        lines[3] = "int taps = 0;"
    end
    return lines
end

-- Lines for before the loop over rows, and those that leave acc0 (and acc1) of a row.
function L.cu_window_anchor(k, P)
    local contr, x, g = k.contr[0], k.site[0], grid(k, k.site[0], P)
    local lane = g.width == 4 and "j" or "0"
    local before, tap = L.cu_site(k, L.cu_outputs(x, function() return false end), {
        pos = tap_pos, width = g.width, prefix = "u", root = combine(k, lane, g.width),
    })
    local body, index = L.tap_lines(contr.gw, "tw", "w", "fs", x.w), k.window == "max" and L.uses_index(k)
    if index or k.window == "maxgrad" then
        body[#body + 1] = string.format("const float number = (float)(fr * %d + fs);", contr.s)
    end
    if k.window == "maxgrad" then
        for line in L.cu_load(k, k.index_arg, tap_pos, g.width, "index"):gmatch("[^\n]+") do body[#body + 1] = line end
    end
    L.append(body, tap)
    if index then body[#body + 1] = "taps++;" end
    local lines = begin(k, g.width)
    lines[#lines + 1] = string.format("for (int fr = 0; fr < %d; fr++) {", contr.r)
    L.append(lines, L.indent(L.tap_lines(contr.gh, "th", "h", "fr", x.h)))
    lines[#lines + 1] = string.format("    for (int fs = 0; fs < %d; fs++) {", contr.s)
    L.append(lines, L.indent(body, 2))
    L.append(lines, {"    }", "}"})
    return before, lines
end

function L.cu_window_main(k, P)
    local y = k.site[1]
    local g = grid(k, y, P)
    local before, anchor = L.cu_window_anchor(k, P)
    local lane = g.width == 4 and "j" or "0"
    return L.cu_rows_each(k, y, g, {
        first = "p0", chunks = P.chunks, row = {}, hw = true, before = before, anchor = anchor,
        acc = {[0] = "acc0[" .. lane .. "]", "acc1[" .. lane .. "]"},
    })
end
