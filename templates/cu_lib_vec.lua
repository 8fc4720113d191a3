-- Runs of elements (VEC kernels) on CUDA. Two ways: a thread has four elements of a long run (partial weight gradients are added up in
-- their order); or several threads share the partial results of a channel, which are merged in a fixed tree.
local L = ...

local function fin_layout(k, layout)
    for i = 0, k.fin_count - 1 do
        if k.arg[k.fin[i].arg].layout == layout then return true end
    end
    return false
end

-- Partial weight gradients lie side by side: fours must be whole in each.
function L.cu_vec_fits(k)
    return not fin_layout(k, "partw") or (not fin_layout(k, "part") and k.site[0].c % 4 == 0)
end

-- Enough threads for hundreds of parts; 16 channels a tile read 64 bytes of a part at once.
function L.cu_vec_plan(k)
    local c = k.site[0].c
    if not fin_layout(k, "part") then
        local chunk = 4 * L.cu_threads
        return {params = {lanes = 0, whole = c // 4 * 4}, tiles_fixed = L.ceil_div(c, chunk), threads = L.cu_threads,
                cost_us = L.cu_traffic_us(k)}
    end
    local lanes = 1
    while lanes < 16 and lanes < c do lanes = 2 * lanes end
    return {params = {lanes = lanes, whole = 0}, tiles_fixed = L.ceil_div(c, lanes), threads = 512, cost_us = L.cu_traffic_us(k)}
end

local function is_moments(fin)
    return fin.kind ~= "sum" and fin.kind ~= "max"
end

-- ---- a channel's parts, shared by threads ----

-- Statistic `stat` of part q at channel c.
local function part_at(k, arg, stat)
    local at = L.plus(string.format("(long long)q * %d", k.arg[arg].stats * k.arg[arg].cp), stat * k.arg[arg].cp)
    return string.format("a%d[%s%s]", arg, at, k.arg[arg].c == 1 and "" or " + c")
end

-- The parts as the outputs of a site of one channel a thread, so that the tree of reductions serves here.
local function as_site(k)
    local site, made, name = {c = k.site[0].c, out = {}, out_count = 0}, {}, {}
    for i = 0, k.fin_count - 1 do
        local fin = k.fin[i]
        local kind = is_moments(fin) and "moments" or fin.kind
        local key = kind .. fin.arg
        if not made[key] then
            made[key] = site.out_count
            site.out[site.out_count] = {kind = kind, arg = fin.arg, row = -1, axes = "nhw"}
            site.out_count = site.out_count + 1
        end
        local stat = {mean = "mean", m2 = "m2", count = "n"}
        name[i] = (stat[fin.kind] or "all") .. made[key]
    end
    return site, name
end

-- A thread's values by name, and what a part, or another thread's values, do to them. from: function(stat) -> C text.
local function joins(out, i)
    if out.kind == "moments" then
        return {"n" .. i, "mean" .. i, "m2" .. i}, function(from)
            return string.format("rg_moments_merge(&n%d, &mean%d, &m2%d, %s, %s, %s);", i, i, i, from(0), from(1), from(2))
        end
    end
    return {"all" .. i}, function(from)
        local into = "all" .. i
        if out.kind == "max" then return string.format("%s = rg_max(%s, %s);", into, into, from(0)) end
        return string.format("%s += %s;", into, from(0))
    end
end

-- Lines by which each thread merges its own parts, in their order; four are under way at once.
local function own_parts(k, site, slices)
    local lines = {}
    for i = 0, site.out_count - 1 do
        local out = site.out[i]
        local values, join = joins(out, i)
        local neutral = out.kind == "max" and L.float(-math.huge) or "0.0f"
        local parts, fetch = L.times("ctl->blocks", k.arg[out.arg].parts_per_block), {}
        for stat = 0, #values - 1 do
            lines[#lines + 1] = string.format("float %s = %s;", values[stat + 1], neutral)
            fetch[#fetch + 1] = string.format("        v[u][%d] = q < parts%d ? %s : %s;", stat, i, part_at(k, out.arg, stat), neutral)
        end
        L.append(lines, {
            string.format("const int parts%d = %s;", i, parts),
            string.format("for (int p = ty; p < parts%d; p += %d) {", i, 4 * slices),
            string.format("    float v[4][%d];", #values),
            "    RG_UNROLL", "    for (int u = 0; u < 4; u++) {", string.format("        const int q = p + u * %d;", slices),
        })
        L.append(lines, fetch)
        L.append(lines, {"    }", "    RG_UNROLL", "    for (int u = 0; u < 4; u++) "
            .. join(function(stat) return string.format("v[u][%d]", stat) end), "}"})
    end
    return lines
end

-- Lines of the tree over the threads of a channel: halves join halves.
local function tree(site, threads, lanes)
    local put, take, stats = {}, {}, 0
    for i = 0, site.out_count - 1 do
        local values, join = joins(site.out[i], i)
        local base = stats
        for _, value in ipairs(values) do
            put[#put + 1] = string.format("between[%s] = %s;", L.plus("rg_tid()", stats * threads), value)
            stats = stats + 1
        end
        take[#take + 1] = join(function(stat) return string.format("between[%s]", L.plus("rg_tid() + half", (base + stat) * threads)) end)
    end
    local lines = L.append({}, put)
    L.append(lines, {string.format("for (int half = %d; half >= %d; half /= 2) {", threads // 2, lanes), "    rg_barrier();",
                     "    if (rg_tid() < half) {"})
    L.append(lines, L.indent(L.append(take, put), 2))
    L.append(lines, {"    }", "}"})
    return lines, stats
end

-- Lines that gather every FIN leaf in the first `lanes` threads; names by leaf; the floats of shared memory that they want.
function L.cu_vec_gather(k, threads, lanes)
    local site, name = as_site(k)
    local lines = own_parts(k, site, threads // lanes)
    local merge, stats = tree(site, threads, lanes)
    return L.append(lines, merge), name, stats * threads
end

-- ---- a run's elements ----

local pos = {nb = "0", h = "0", w = "0", n = "0", c = "c"}

-- Arguments that are as long as the run, without an end to look at; those of layout weight are runs too.
local function as_flat(k, whole)
    local arg = {}
    for i = 0, k.arg_count - 1 do
        local a = k.arg[i]
        arg[i] = a
        if a.layout == "weight" or a.layout == "flat" and a.length > 1 then arg[i] = {layout = "flat", length = whole, c = 0} end
    end
    return setmetatable({arg = arg}, {__index = k})
end

local function add_partw(k, fin, i, width)
    local at = string.format("a%d + p * %d + c", fin.arg, k.arg[fin.arg].length)
    local loop = string.format("for (long long p = 0; p < %s; p++)", L.times("(long long)ctl->blocks", k.arg[fin.arg].parts_per_block))
    if width == 1 then return {string.format("float f%d = 0.0f;", i), loop, string.format("    f%d += *(%s);", i, at)} end
    return {
        string.format("float f%d[4] = {};", i), loop .. " {", "    float v[4];", string.format("    rg_load4(v, %s);", at),
        "    RG_UNROLL", string.format("    for (int j = 0; j < 4; j++) f%d[j] += v[j];", i), "}",
    }
end

-- Lines of the site at c, `width` elements. fin: names of FIN leaves (nil: they are partial weight gradients, added up here).
function L.cu_vec_step(k, width, fin)
    local lines, name = {}, fin or {}
    for i = 0, fin and -1 or k.fin_count - 1 do
        L.append(lines, add_partw(k, k.fin[i], i, width))
        name[i] = width == 4 and "f" .. i .. "[j]" or "f" .. i
    end
    local view = as_flat(k, width == 4 and 4 or k.site[0].c)
    local outer, inner = L.cu_site(view, k.site[0], {pos = pos, width = width, fin = name})
    return L.append(L.append(lines, outer), inner)
end
