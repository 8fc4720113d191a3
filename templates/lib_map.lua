-- Maps over pixels (MAP kernels): all stages for a few images (L.map_images) of a pixel, so that memory is read in its order.
--
-- A reduction is one of: a row (over C: a number for each image, read by later stages), an image's (over H and W: one value an
-- image and channel, kept in scratch until the tile, which is the whole image block, ends), or a part (over N, H, W; `whole`: over C too).
local L = ...

-- Bytes of an argument at `blocks` image blocks: what a cost is made of.
function L.arg_bytes(arg, blocks)
    local l = arg.layout
    if l == "act" then return 4 * blocks * arg.h * arg.w * 16 * arg.cp end
    if l == "vec" then return 4 * arg.cp end
    if l == "part" then return 4 * blocks * math.max(arg.parts_per_block, 1) * arg.stats * arg.cp end
    if l == "partw" then return 4 * blocks * math.max(arg.parts_per_block, 1) * arg.length end
    if l == "flat" then return 4 * arg.length end
    return 4 * L.round_up(arg.k, arg.kb) * arg.r * arg.s * arg.c
end

-- Microseconds to move every argument once.
function L.traffic_us(k)
    local bytes = 0
    for i = 0, k.arg_count - 1 do bytes = bytes + L.arg_bytes(k.arg[i], t.max_blocks) end
    return bytes / 20000
end

function L.map_class(site, out)
    if out.kind == "store" then return "store" end
    if out.row >= 0 then return "row" end
    local over_c = out.axes:find("c") and site.c > 1
    if out.axes:find("n") then return over_c and "whole" or "part" end
    return over_c and "none" or "image"
end

local function outs(site, class)
    local list = {}
    for i = 0, site.out_count - 1 do
        if L.map_class(site, site.out[i]) == class then list[#list + 1] = site.out[i] end
    end
    return list
end

-- The site with those outputs alone that reduce into parts, so that what serves convolutions serves here.
local function parts_of(site)
    local view = setmetatable({out = {}, out_count = 0}, {__index = site})
    for i = 0, site.out_count - 1 do
        local class = L.map_class(site, site.out[i])
        if class == "part" or class == "whole" then
            view.out[view.out_count] = site.out[i]
            view.out_count = view.out_count + 1
        end
    end
    return view
end

function L.map_fits(k)
    for i = 0, k.site_count - 1 do
        local site = k.site[i]
        if site.h ~= k.site[0].h or site.w ~= k.site[0].w then return false end
        for j = 0, site.out_count - 1 do
            local out = site.out[j]
            local class = L.map_class(site, out)
            if class == "none" or (class == "whole" and out.kind == "moments") then return false end
        end
    end
    return true
end

local function has_class(k, class)
    for i = 0, k.site_count - 1 do
        if #outs(k.site[i], class) > 0 then return true end
    end
    return false
end

-- Pixels of a tile, tiles of an image block: the whole block where an image's sum must be complete.
function L.map_tiles(k)
    local pixels, widest = k.site[0].h * k.site[0].w, 1
    if has_class(k, "image") then return pixels, 1 end
    for i = 0, k.site_count - 1 do widest = math.max(widest, k.site[i].c) end
    local run = math.min(pixels, math.max(1, 32768 // (16 * L.round_up(widest, t.vector))))
    return run, L.ceil_div(pixels, run)
end

function L.map_parts(k, tiles)
    return (has_class(k, "part") or has_class(k, "whole")) and tiles or 0
end

-- Where the stages' states lie in scratch: part[i], image[i] by stage, and the floats in all.
function L.map_scratch(k)
    local at, part, image = 0, {}, {}
    for i = 0, k.site_count - 1 do
        local site = k.site[i]
        part[i], at = at, at + L.state_floats(parts_of(site))
        image[i], at = at, at + #outs(site, "image") * 16 * L.site_cp(site)
    end
    return {part = part, image = image, floats = at}
end

local start = {sum = "rg_splat(0.0f)", max = "rg_splat(-__builtin_inff())"}

local function gathered(out, into, value)
    return out.kind == "max" and string.format("rg_max(%s, %s)", into, value) or string.format("%s + %s", into, value)
end

-- Where an image's reduction stands; r: C text of the image within its block.
local function image_at(site, base, index, r)
    return string.format("scratch + %d + (%s) * %d + c", base + index * 16 * L.site_cp(site), r, L.site_cp(site))
end

-- Lines that clear a stage's states, vector by vector.
function L.map_begin(k, i, scratch)
    local site = k.site[i]
    local lines = L.reduce_begin(parts_of(site), "scratch + " .. scratch.part[i], "c")
    for index, out in ipairs(outs(site, "image")) do
        local at = image_at(site, scratch.image[i], index - 1, "r")
        lines[#lines + 1] = string.format("for (int r = 0; r < 16; r++) rg_store(%s, %s);", at, start[out.kind])
    end
    return lines
end

local pos = {nb = "nb", h = "h", w = "w", n = "m + r", c = "c"}

-- Images that are worked on together.
L.map_images = 4
local each_image = string.format("for (int r = 0; r < %d; r++) ", L.map_images)

-- The value with surplus channels replaced by what does not count.
local function masked(site, out, value)
    if site.c % t.vector == 0 then return value end
    return string.format("rg_blend(rg_mask_gt(rg_splat(%s), rg_iota(c)), %s, %s)", L.float(site.c), value, start[out.kind])
end

-- Lines of the loop over images that use the stage's values.
local function use_values(k, i, dag, scratch)
    local site, lines = k.site[i], {}
    for _, out in ipairs(outs(site, "store")) do lines[#lines + 1] = L.store(k, out.arg, pos, dag.name(out.root)) end
    for _, out in ipairs(outs(site, "row")) do
        local into = string.format("row%d[r]", out.row)
        lines[#lines + 1] = string.format("%s = %s;", into, gathered(out, into, masked(site, out, dag.name(out.root))))
    end
    for index, out in ipairs(outs(site, "image")) do
        local at = image_at(site, scratch.image[i], index - 1, "m + r")
        local value = gathered(out, "rg_load(" .. at .. ")", dag.name(out.root))
        lines[#lines + 1] = string.format("rg_store(%s, %s);", at, value)
    end
    for _, red in ipairs(L.reductions(parts_of(site))) do
        lines[#lines + 1] = string.format("q%d[r] = %s;", red.index, dag.name(red.out.root))
    end
    return lines
end

-- Lines after the loop over images: live ones go into the parts.
local function add_parts(site, base)
    local lines = {}
    for _, red in ipairs(L.reductions(parts_of(site))) do
        local at = string.format("scratch + %d + c", base + red.offset)
        if red.out.kind == "moments" then
            lines[#lines + 1] = string.format("rg_moments_rows(%s, %d, q%d, live, p == p0 && m == 0);", at, L.site_cp(site), red.index)
        else
            lines[#lines + 1] = string.format("rg_%s_rows(%s, q%d, live);", red.out.kind, at, red.index)
        end
    end
    return lines
end

-- C texts of the rows by leaf.
function L.map_rows(k)
    local rows = {}
    for i = 0, k.site_count - 1 do
        for _, out in ipairs(outs(k.site[i], "row")) do rows[out.row] = string.format("rg_splat(sum%d[r])", out.row) end
    end
    return rows
end

-- One vector of channels of a stage.
function L.map_vector(k, i, scratch)
    local site = k.site[i]
    local dag = L.dag(site, L.roots(site), L.leaves(k, pos, nil, L.map_rows(k)))
    local lines = L.append({}, dag.outer)
    for _, red in ipairs(L.reductions(parts_of(site))) do lines[#lines + 1] = string.format("vf q%d[%d];", red.index, L.map_images) end
    lines[#lines + 1] = each_image .. "{"
    L.append(lines, L.indent(L.append(L.append({}, dag.inner), use_values(k, i, dag, scratch))))
    lines[#lines + 1] = "}"
    return L.append(lines, add_parts(site, scratch.part[i]))
end

function L.map_rows_begin(site)
    local lines = {}
    for _, out in ipairs(outs(site, "row")) do
        lines[#lines + 1] = string.format("vf row%d[%d];", out.row, L.map_images)
        lines[#lines + 1] = each_image .. string.format("row%d[r] = %s;", out.row, start[out.kind])
    end
    return lines
end

-- From vectors to one number for each image.
function L.map_rows_end(site)
    local lines = {}
    for _, out in ipairs(outs(site, "row")) do
        lines[#lines + 1] = string.format("float sum%d[%d];", out.row, L.map_images)
        lines[#lines + 1] = each_image .. string.format("sum%d[r] = lanes_%s(row%d[r]);", out.row, out.kind, out.row)
    end
    return lines
end

-- Which of lanes_sum, lanes_max the kernel wants.
function L.map_lanes(k, kind)
    for i = 0, k.site_count - 1 do
        for _, out in ipairs(outs(k.site[i], "row")) do
            if out.kind == kind then return true end
        end
    end
    return false
end

-- Lines that write a stage's results at the end of a tile, vector by vector.
function L.map_end(k, i, scratch)
    local site, lines = k.site[i], {}
    for index, out in ipairs(outs(site, "image")) do
        local at = image_at(site, scratch.image[i], index - 1, "r")
        local to = {nb = "nb", n = "r", c = "c"}
        lines[#lines + 1] = "for (int r = 0; r < 16; r++) " .. L.store(k, out.arg, to, "rg_load(" .. at .. ")")
    end
    local view = parts_of(site)
    local each = setmetatable({out = {}, out_count = 0}, {__index = view})
    for j = 0, view.out_count - 1 do
        if L.map_class(site, view.out[j]) == "part" then
            each.out[each.out_count] = view.out[j]
            each.out_count = each.out_count + 1
        end
    end
    if each.out_count < view.out_count and each.out_count > 0 then
        error("parts over all channels and parts for each in one stage")
    end
    return L.append(lines, L.reduce_end(k, each, "scratch + " .. scratch.part[i], pos, "tile", "(float)(rg_live(ctl, nb * 16, 16) * (p1 - p0))"))
end

-- Lines that add up the channels of the reductions over N, H, W and C.
function L.map_whole(k, i, scratch)
    local site, lines = k.site[i], {}
    for _, red in ipairs(L.reductions(parts_of(site))) do
        if L.map_class(site, red.out) == "whole" then
            local from = string.format("scratch[%d + c]", scratch.part[i] + red.offset)
            local to = string.format("a%d[tile]", red.out.arg)
            L.append(lines, {
                string.format("%s = scratch[%d];", to, scratch.part[i] + red.offset),
                string.format("for (int c = 1; c < %d; c++)", site.c),
                red.out.kind == "max" and string.format("    %s = %s > %s || %s != %s ? %s : %s;", to, from, to, from, from, from, to)
                    or string.format("    %s += %s;", to, from),
            })
        end
    end
    return lines
end
