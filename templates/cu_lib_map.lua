-- Maps (MAP kernels) on CUDA: every stage over the rows of a tile, reductions over C first, then stores and the other reductions.
local L = ...

local function has(k, class)
    for i = 0, k.site_count - 1 do
        for j = 0, k.site[i].out_count - 1 do
            if L.map_class(k.site[i], k.site[i].out[j]) == class then return true end
        end
    end
    return false
end

local function is_row(out)
    return out.row >= 0
end

-- Channels that a thread has at once: the same for all stages, by their widest argument.
function L.cu_map_width(k)
    local width = 4
    for i = 0, k.site_count - 1 do width = math.min(width, L.cu_width(k, k.site[i])) end
    return width
end

-- May a tile have some of the channels alone? Not where rows or sums over all channels are wanted, or stages differ.
local function divisible(k)
    for i = 1, k.site_count - 1 do
        if k.site[i].c ~= k.site[0].c then return false end
    end
    return not has(k, "row") and not has(k, "whole")
end

-- At least two tiles for each of 132 processors, where that is to be had.
L.cu_tiles_wanted = 264

-- Fewer lanes (no fewer than 8: 128 bytes) and a chunk of channels a tile while tiles are few; lanes, chunks.
function L.cu_chunks(k, site, width, tiles)
    local g = L.cu_grid(k, site, width, 32)
    if tiles >= L.cu_tiles_wanted then return g.lanes, 1 end
    while g.lanes > 8 and tiles * L.ceil_div(site.c, g.span) < L.cu_tiles_wanted do g = L.cu_grid(k, site, width, g.lanes // 2) end
    return g.lanes, L.ceil_div(site.c, g.span)
end

-- Pixels of a tile for sites of at most c channels: about 8192 elements.
function L.cu_run(pixels, c)
    return math.min(pixels, math.max(1, 8192 // (16 * L.round_up(c, 4))))
end

-- Floats of shared memory: the rows, then what goes between warps.
function L.cu_map_shared(k, P)
    local rows = P.images == 1 and k.site[0].h * k.site[0].w or P.run * 16
    local between, width = 0, L.cu_map_width(k)
    for i = 0, k.site_count - 1 do
        local site = L.cu_outputs(k.site[i], function(out) return not is_row(out) end)
        between = math.max(between, L.cu_sum_floats(site, L.cu_grid(k, site, width, P.lanes)))
    end
    return rows, between
end

local function row_count(k)
    local count = 0
    for i = 0, k.site_count - 1 do
        for j = 0, k.site[i].out_count - 1 do count = count + (is_row(k.site[i].out[j]) and 1 or 0) end
    end
    return count
end

function L.cu_map_plan(k)
    local pixels, widest, P = k.site[0].h * k.site[0].w, 1, {}
    for i = 0, k.site_count - 1 do widest = math.max(widest, k.site[i].c) end
    P.images = has(k, "image") and 1 or 16
    P.run = P.images == 1 and pixels or L.cu_run(pixels, widest)
    P.strips = P.images == 1 and 16 or L.ceil_div(pixels, P.run)
    P.lanes, P.chunks = 32, 1
    if divisible(k) then P.lanes, P.chunks = L.cu_chunks(k, k.site[0], L.cu_map_width(k), P.strips * t.max_blocks) end
    local parts = has(k, "part") or has(k, "whole")
    return {params = P, tiles_per_block = P.strips * P.chunks, parts_per_block = parts and P.strips or 0, threads = L.cu_threads,
            cost_us = L.cu_traffic_us(k)}
end

-- Microseconds at 2 TB/s of all instances, and 3 of a launch.
function L.cu_traffic_us(k)
    return 3 + L.traffic_us(k) * (k.instances or 1) / 100
end

-- What fits: the CPU's rules, and 48 KB of shared memory, of which tails may take three floats a thread.
function L.cu_map_fits(k)
    if not L.map_fits(k) then return false end
    local rows, between = L.cu_map_shared(k, L.cu_map_plan(k).params)
    return 4 * (rows * row_count(k) + between + 3 * L.cu_threads) <= 48 * 1024
end

-- Lines that declare the shared memory.
function L.cu_map_declare(k, P)
    local rows, between = L.cu_map_shared(k, P)
    local lines = {}
    for i = 0, row_count(k) - 1 do lines[#lines + 1] = string.format("RG_SHARED(float, row%d, %d);", i, rows) end
    if between > 0 then lines[#lines + 1] = string.format("RG_SHARED(float, between, %d);", between) end
    return lines
end

local function used_args(k)
    local used = {}
    for i = 0, k.site_count - 1 do
        for arg in pairs(L.site_args(k.site[i])) do used[arg] = true end
    end
    return used
end

-- Lines that name the tile's part of the work.
function L.cu_map_tile(k, P)
    local pixels, lines = k.site[0].h * k.site[0].w, {}
    if P.chunks > 1 then
        lines[1] = string.format("const int chunk = rg_block() %% %d, part = rg_block() / %d;", P.chunks, P.chunks)
    else
        lines[1] = "const int part = rg_block();"
    end
    if P.images == 1 then
        lines[2] = string.format("const int nb = part / 16, n = part %% 16, rows = %d;", pixels)
    else
        lines[2] = string.format("const int nb = part / %d, p0 = part %% %d * %d;", P.strips, P.strips, P.run)
        lines[3] = string.format("const int rows = rg_min_int(%d, %d - p0) * 16;", P.run, pixels)
    end
    if has(k, "part") or has(k, "whole") or has(k, "image") then lines[#lines + 1] = "const int live = rg_live(ctl, nb * 16, 16);" end
    return L.append(lines, L.cu_bases(k, used_args(k)))
end

-- The block of lines of stage i: its rows, or the others of its outputs; empty where it has none.
function L.cu_map_stage(k, i, P, rows)
    local site = L.cu_outputs(k.site[i], function(out) return is_row(out) == rows end)
    if site.out_count == 0 then return {} end
    local g = L.cu_grid(k, site, L.cu_map_width(k), P.lanes)
    g.images = P.images
    local o = {first = "p0", chunks = P.chunks, row = {}}
    for leaf = 0, row_count(k) - 1 do o.row[leaf] = string.format("row%d[row]", leaf) end
    return rows and L.cu_rows_rows(k, site, g, o) or L.cu_rows_each(k, site, g, o)
end
