-- Reductions of a tile whose threads lie in rows: `lanes` threads side by side cover g.width channels each, a warp holds 32 / lanes rows.
--
-- A thread gathers in registers r<index>; threads of the same channels in a warp are merged by exchanges (a fixed tree), the warps by one
-- thread a channel, in their order. All threads of the block take part. Shared memory: float between[statistics][warps][channels].
--
-- An output's class is L.map_class's: "part" (over N, H, W) and "image" (over H, W) keep their channels, "whole" is over C too.
local L = ...

local function statistics(out)
    return out.kind == "moments" and 3 or 1
end

local function start(out)
    return out.kind == "max" and L.float(-math.huge) or "0.0f"
end

local function gather(out, into, value)
    return out.kind == "max" and string.format("%s = rg_max(%s, %s);", into, into, value) or string.format("%s += %s;", into, value)
end

-- The site with those outputs alone for which pick(out) holds.
function L.cu_outputs(site, pick)
    local view = setmetatable({out = {}, out_count = 0}, {__index = site})
    for i = 0, site.out_count - 1 do
        if pick(site.out[i]) then
            view.out[view.out_count] = site.out[i]
            view.out_count = view.out_count + 1
        end
    end
    return view
end

-- The site's reductions of a class (nil: all): list of {out, index, at (first statistic)}.
function L.cu_sums(site, class)
    local list, at = {}, 0
    for i = 0, site.out_count - 1 do
        local out = site.out[i]
        if out.kind ~= "store" then
            local own = L.map_class(site, out)
            if not class or class == own then list[#list + 1] = {out = out, index = i, at = at, class = own} end
            at = at + statistics(out)
        end
    end
    return list, at
end

function L.cu_sum_floats(site, g)
    local _, count = L.cu_sums(site)
    return count * g.warps * g.span
end

-- Lines that declare the state of reductions of a class. "whole": one number a thread, which outlives the loop over channels.
function L.cu_sum_begin(site, g, class)
    local lines = {}
    for _, red in ipairs(L.cu_sums(site, class)) do
        local name = "r" .. red.index
        if class == "whole" then
            lines[#lines + 1] = string.format("float %s = %s;", name, start(red.out))
        elseif red.out.kind == "moments" then
            lines[#lines + 1] = string.format("rg_moments %s[%d] = {};", name, g.width)
        else
            lines[#lines + 1] = string.format("float %s[%d] = {%s};", name, g.width, string.rep(start(red.out), g.width, ", "))
        end
    end
    if class ~= "whole" and L.cu_sum_counts(site, class) then lines[#lines + 1] = "int seen = 0;" end
    return lines
end

-- Are values counted? Moments are of as many as a thread has seen.
function L.cu_sum_counts(site, class)
    for _, red in ipairs(L.cu_sums(site, class)) do
        if red.out.kind == "moments" then return true end
    end
    return false
end

-- For `reduce` of L.cu_site: adds where the image is live.
function L.cu_sum_add(site, g)
    local lane = g.width == 4 and "j" or "0"
    return function(out, index, value)
        local to = string.format("r%d[%s]", index, lane)
        if L.map_class(site, out) == "whole" then
            local inside = g.width == 4 and site.c % 4 ~= 0 and string.format(" && c + j < %d", site.c) or ""
            return string.format("if (n < live%s) %s", inside, gather(out, "r" .. index, value))
        end
        if out.kind == "moments" then return string.format("if (n < live) rg_moments_add(&%s, %s, seen == 0);", to, value) end
        return "if (n < live) " .. gather(out, to, value)
    end
end

-- ---- from threads to warps ----

local function each_lane(g, lines)
    return g.width == 4 and L.cu_lanes(lines) or lines
end

-- A loop over exchanges at distances lanes, 2 lanes, ..., 16.
local function exchanges(lanes, lines)
    if lanes >= 32 then return {} end
    local out = {"RG_UNROLL", string.format("for (int m = %d; m < 32; m *= 2) {", lanes)}
    L.append(out, L.indent(lines))
    out[#out + 1] = "}"
    return out
end

local function merge_moments(red, g)
    local i, lane = red.index, g.width == 4 and "j" or "0"
    local lines = {string.format("float n%d = (float)seen, mean%d[%d], m2%d[%d];", i, i, g.width, i, g.width)}
    L.append(lines, each_lane(g, {
        string.format("mean%d[%s] = rg_moments_mean(&r%d[%s], n%d);", i, lane, i, lane, i),
        string.format("m2%d[%s] = rg_moments_m2(&r%d[%s], n%d);", i, lane, i, lane, i),
    }))
    local body = {string.format("const float other = rg_shfl_xor(n%d, m);", i), "float n;"}
    L.append(body, each_lane(g, {
        string.format("const float mean = rg_shfl_xor(mean%d[%s], m), m2 = rg_shfl_xor(m2%d[%s], m);", i, lane, i, lane),
        string.format("n = n%d;", i),
        string.format("rg_moments_merge(&n, &mean%d[%s], &m2%d[%s], other, mean, m2);", i, lane, i, lane),
    }))
    body[#body + 1] = string.format("n%d = n;", i)
    return L.append(lines, exchanges(g.lanes, body))
end

local function merge_values(red, g)
    local lane = g.width == 4 and "[j]" or "[0]"
    local name = "r" .. red.index .. (red.class == "whole" and "" or lane)
    local lines = {gather(red.out, name, string.format("rg_shfl_xor(%s, m)", name))}
    if red.class == "whole" then return exchanges(1, lines) end
    return exchanges(g.lanes, each_lane(g, lines))
end

-- The values of a reduction as they go to shared memory, statistic by statistic.
local function texts(red, g)
    local i, lane = red.index, g.width == 4 and "[j]" or "[0]"
    if red.class == "whole" then return {"r" .. i} end
    if red.out.kind == "moments" then return {"n" .. i, "mean" .. i .. lane, "m2" .. i .. lane} end
    return {"r" .. i .. lane}
end

-- Lines that merge each warp and leave its results in shared memory; a barrier on either side. g.c: the thread's first channel in the span.
function L.cu_sum_put(site, g, class)
    local lines, body, single = {}, {}, class == "whole"
    local lane = not single and g.width == 4 and " + j" or ""
    for _, red in ipairs(L.cu_sums(site, class)) do
        L.append(lines, red.out.kind == "moments" and merge_moments(red, g) or merge_values(red, g))
        for stat, text in ipairs(texts(red, g)) do
            local place = L.plus(string.format("rg_tid() / 32 * %d", g.span), (red.at + stat - 1) * g.warps * g.span)
            body[#body + 1] = string.format("between[%s%s] = %s;", place, single and "" or " + tx * " .. g.width .. lane, text)
        end
    end
    if #body == 0 then return {} end
    lines[#lines + 1] = string.format("if (rg_tid() %% 32 < %d) {", single and 1 or g.lanes)
    L.append(lines, L.indent(single and body or each_lane(g, body)))
    lines[#lines + 1] = "}"
    return lines
end

-- ---- from warps to the result ----

-- Where statistic `stat` of a reduction's channel c0 + i goes.
local function target(k, red, stat, channel)
    local arg = k.arg[red.out.arg]
    local at = red.class == "image" and string.format("((long long)nb * 16 + n) * %d", arg.cp)
        or string.format("(long long)part * %d", arg.stats * arg.cp)
    return string.format("a%d[%s]", red.out.arg, L.plus(at .. (channel and " + " .. channel or ""), stat * arg.cp))
end

local function total(k, red, g, channel)
    local function from(stat)
        return string.format("between[%s]", L.plus("warp * " .. g.span .. (channel and " + i" or ""), (red.at + stat) * g.warps * g.span))
    end
    local loop = string.format("for (int warp = 0; warp < %d; warp++)", g.warps)
    if red.out.kind == "moments" then
        return {"{", "    float n = 0.0f, mean = 0.0f, m2 = 0.0f;", "    " .. loop,
                string.format("        rg_moments_merge(&n, &mean, &m2, %s, %s, %s);", from(0), from(1), from(2)),
                "    " .. target(k, red, 0, channel) .. " = n;", "    " .. target(k, red, 1, channel) .. " = mean;",
                "    " .. target(k, red, 2, channel) .. " = m2;", "}"}
    end
    return {"{", "    float all = " .. start(red.out) .. ";", "    " .. loop .. " " .. gather(red.out, "all", from(0)),
            "    " .. target(k, red, 0, channel) .. " = " .. L.cu_narrow(k.arg[red.out.arg], "all") .. ";", "}"}
end

-- Lines that merge the warps and write the results; part, nb and n (images) are in scope. channel: C text of channel i (nil: "whole").
function L.cu_sum_finish(k, site, g, class, channel)
    local body = {}
    for _, red in ipairs(L.cu_sums(site, class)) do L.append(body, total(k, red, g, channel)) end
    if #body == 0 then return {} end
    local lines
    if channel then
        local inside = site.c % g.span == 0 and "" or string.format(" && %s < %d", channel, site.c)
        lines = {string.format("for (int i = rg_tid(); i < %d%s; i += %d) {", g.span, inside, g.warps * 32)}
    else
        lines = {"if (rg_tid() == 0) {"}
    end
    L.append(lines, L.indent(body))
    lines[#lines + 1] = "}"
    return lines
end
