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

-- The parts as the outputs of a site of one channel a thread, so that the tree of reductions serves here. A tail has some of the
-- FIN leaves alone.
local function as_site(k)
    local site, made, name = {c = k.site[0].c, out = {}, out_count = 0}, {}, {}
    local function take(i, fin)
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
    for i = 0, k.fin_count - 1 do
        if k.fin[i] then take(i, k.fin[i]) end
    end
    return site, name
end

-- The statement by which values take in a part, or another thread's values. to, from: function(stat) -> C text.
local function join(out, to, from)
    if out.kind == "moments" then
        return string.format("rg_moments_merge(&%s, &%s, &%s, %s, %s, %s);", to(0), to(1), to(2), from(0), from(1), from(2))
    end
    if out.kind == "max" then return string.format("%s = rg_max(%s, %s);", to(0), to(0), from(0)) end
    return string.format("%s += %s;", to(0), from(0))
end

-- A thread's values by name, and the same for them.
local function joins(out, i)
    local names = out.kind == "moments" and {"n" .. i, "mean" .. i, "m2" .. i} or {"all" .. i}
    return names, function(from) return join(out, function(stat) return names[stat + 1] end, from) end
end

local function neutral(out)
    return out.kind == "max" and L.float(-math.huge) or "0.0f"
end

-- Lines of a loop over a thread's parts of output i, `deep` of them under way at once; `take` takes in number u.
local function each_part(k, out, i, slices, deep, stats, take)
    local parts, lines = L.times("ctl->blocks", k.arg[out.arg].parts_per_block), {}
    L.append(lines, {
        string.format("const int parts%d = %s;", i, parts),
        string.format("for (int p = ty; p < parts%d; p += %d) {", i, deep * slices),
        string.format("    float v[%d][%d];", deep, stats),
        "    RG_UNROLL", string.format("    for (int u = 0; u < %d; u++) {", deep), string.format("        const int q = p + u * %d;", slices),
    })
    for stat = 0, stats - 1 do
        lines[#lines + 1] = string.format("        v[u][%d] = q < parts%d ? %s : %s;", stat, i, part_at(k, out.arg, stat), neutral(out))
    end
    return L.append(lines, {"    }", "    RG_UNROLL", string.format("    for (int u = 0; u < %d; u++) %s", deep, take), "}"})
end

-- Lines by which each thread merges its own parts, in their order; four are under way at once.
local function own_parts(k, site, slices)
    local lines = {}
    for i = 0, site.out_count - 1 do
        local out = site.out[i]
        local values, join = joins(out, i)
        for _, value in ipairs(values) do lines[#lines + 1] = string.format("float %s = %s;", value, neutral(out)) end
        L.append(lines, each_part(k, out, i, slices, 4, #values, join(function(stat) return string.format("v[u][%d]", stat) end)))
    end
    return lines
end

-- The same of many parts: sixteen are under way, and four sums, so that neither loads nor additions wait for one another.
local function many_parts(k, site, slices)
    local lines = {}
    for i = 0, site.out_count - 1 do
        local out = site.out[i]
        local values, take = joins(out, i)
        local chain = function(stat) return string.format("chain%d[u %% 4][%d]", i, stat) end
        local start = out.kind == "max" and string.rep("{" .. neutral(out) .. "}", 4, ", ") or ""
        lines[#lines + 1] = string.format("float chain%d[4][%d] = {%s};", i, #values, start)
        L.append(lines, each_part(k, out, i, slices, 16, #values,
                                  join(out, chain, function(stat) return string.format("v[u][%d]", stat) end)))
        for stat, value in ipairs(values) do lines[#lines + 1] = string.format("float %s = chain%d[0][%d];", value, i, stat - 1) end
        L.append(lines, {"RG_UNROLL", "for (int u = 1; u < 4; u++) " .. take(chain)})
    end
    return lines
end

-- Lines of the tree over the threads of a channel, for the outputs first to last: halves join halves. block: all of its threads.
local function tree(site, first, last, threads, lanes, block)
    local put, take, stats = {}, {}, 0
    for i = first, last do
        local values, join = joins(site.out[i], i)
        local base = stats
        for _, value in ipairs(values) do
            put[#put + 1] = string.format("between[%s] = %s;", L.plus("rg_tid()", stats * threads), value)
            stats = stats + 1
        end
        take[#take + 1] = join(function(stat) return string.format("between[%s]", L.plus("rg_tid() + half", (base + stat) * threads)) end)
    end
    local lines = L.append({}, put)
    if block > threads then
        lines = L.append({string.format("if (rg_tid() < %d) {", threads)}, L.indent(put))
        lines[#lines + 1] = "}"
    end
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
    local merge, stats = tree(site, 0, site.out_count - 1, threads, lanes, threads)
    return L.append(lines, merge), name, stats * threads
end

-- The same in a block of `block` threads, the others of which have `ty` beyond all parts. One output after another meets in shared
-- memory, so that three floats a thread are enough.
function L.cu_vec_gather_each(k, threads, lanes, block)
    local site, name = as_site(k)
    local slices, most, floats = threads // lanes, 0, 0
    for i = 0, site.out_count - 1 do most = math.max(most, k.arg[site.out[i].arg].parts_per_block * t.max_blocks) end
    local lines = (most > 8 * slices and many_parts or own_parts)(k, site, slices)
    for i = 0, threads > lanes and site.out_count - 1 or -1 do
        local merge, stats = tree(site, i, i, threads, lanes, block)
        if i > 0 then lines[#lines + 1] = "rg_barrier();" end
        L.append(lines, merge)
        floats = math.max(floats, stats * threads)
    end
    return lines, name, floats
end

-- ---- a run's elements ----

local pos = {nb = "0", h = "0", w = "0", n = "0", c = "c"}

-- Arguments that are as long as the run, without an end to look at; those of layout weight are runs too.
local function as_flat(k, whole)
    local arg = {}
    for i = 0, k.arg_count - 1 do
        local a = k.arg[i]
        arg[i] = a
        if a.layout == "weight" or a.layout == "flat" and a.length > 1 then arg[i] = {layout = "flat", type = a.type, length = whole, c = 0} end
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

-- Lines of the site at c, `width` elements. fin: names of FIN leaves (nil: they are partial weight gradients, added up here). reduce: as
-- for L.cu_site, or nil.
function L.cu_vec_step(k, width, fin, reduce)
    local lines, name = {}, fin or {}
    for i = 0, fin and -1 or k.fin_count - 1 do
        L.append(lines, add_partw(k, k.fin[i], i, width))
        name[i] = width == 4 and "f" .. i .. "[j]" or "f" .. i
    end
    local view = as_flat(k, width == 4 and 4 or k.site[0].c)
    local outer, inner = L.cu_site(view, k.site[0], {pos = pos, width = width, fin = name, reduce = reduce})
    return L.append(L.append(lines, outer), inner)
end
