-- Runs of elements (VEC kernels): elements of a run, and partial results gathered in their order.
--
-- A run goes by whole vectors from c on; what is left (`tail` elements, arguments without padding) is one more step of n lanes.
local L = ...

local function whole_vectors(arg)
    return arg.layout == "vec"
end

-- Elements that whole vectors cover, and how many are left. Arguments of VEC layout know their own lanes.
function L.run_extent(k)
    local length, padded = k.site[0].c, true
    for i = 0, k.arg_count - 1 do
        local arg = k.arg[i]
        if not (whole_vectors(arg) or arg.layout == "part" or arg.length == 1) then padded = false end
    end
    local V = t.vector
    if padded then return L.round_up(length, V), 0 end
    return length // V * V, length % V
end

-- Lanes of a row of cp floats at channel c, as L.load's.
local function load_row(at, cp, n)
    if n then return string.format("rg_load_n(%s + c, %s)", at, n) end
    if cp % t.vector == 0 then return string.format("rg_load(%s + c)", at) end
    return string.format("rg_load_n(%s + c, rg_min_int(%d - c, %d))", at, cp, t.vector)
end

-- ---- partial results ----

local function is_moments(fin)
    return fin.kind ~= "sum" and fin.kind ~= "max"
end

-- The vector of statistic `stat` in part p.
local function part_at(k, fin, stat, n)
    local arg, base = k.arg[fin.arg], "a" .. fin.arg
    if arg.layout == "partw" then return load_row(string.format("%s + p * %dL", base, arg.length), t.vector, n) end
    local at = L.plus(string.format("%s + p * %dL", base, arg.stats * arg.cp), stat * arg.cp)
    if arg.c == 1 then return "rg_splat(*(" .. at .. "))" end
    return load_row(at, arg.cp, nil)
end

local function gather_one(k, fin, i, parts, n)
    local start = fin.kind == "max" and "rg_splat(-__builtin_inff())" or "rg_splat(0.0f)"
    local value = part_at(k, fin, 0, n)
    local add = fin.kind == "max" and string.format("f%d = rg_max(f%d, %s);", i, i, value)
        or string.format("f%d += %s;", i, value)
    return {string.format("vf f%d = %s;", i, start), string.format("for (long p = 0; p < %s; p++) %s", parts, add)}
end

local function gather_moments(k, fin, n, parts)
    local id = fin.arg
    return {
        string.format("vf n%d = rg_splat(0.0f), mean%d = n%d, m2%d = n%d;", id, id, id, id, id),
        string.format("for (long p = 0; p < %s; p++)", parts),
        string.format("    merge_moments(&n%d, &mean%d, &m2%d, %s, %s,", id, id, id, part_at(k, fin, 0, n), part_at(k, fin, 1, n)),
        string.format("                  %s);", part_at(k, fin, 2, n)),
    }
end

local moments_name = {count = "n", mean = "mean", m2 = "m2"}

-- Lines that gather every FIN leaf at c, and their names by leaf; the statistics of one argument are merged once.
function L.gather(k, n)
    local lines, name, merged = {}, {}, {}
    for i = 0, k.fin_count - 1 do
        local fin = k.fin[i]
        local parts = L.times("(long)ctl->blocks", k.arg[fin.arg].parts_per_block)
        if is_moments(fin) then
            if not merged[fin.arg] then L.append(lines, gather_moments(k, fin, n, parts)) end
            merged[fin.arg] = true
            name[i] = moments_name[fin.kind] .. fin.arg
        else
            L.append(lines, gather_one(k, fin, i, parts, n))
            name[i] = "f" .. i
        end
    end
    return lines, name
end

function L.uses_moments(k)
    for i = 0, k.fin_count - 1 do
        if is_moments(k.fin[i]) then return true end
    end
    return false
end

-- ---- the run ----

local pos = {nb = "0", h = "0", w = "0", n = "0", c = "c"}

local function run_leaves(k, fin, n)
    local usual = L.leaves(k, pos)
    return function(node)
        if node.op == "fin" then return fin[node.leaf], false end
        local arg = node.op == "arg" and k.arg[node.leaf]
        if not arg or arg.layout == "vec" then
            local text, invariant = usual(node)
            return text, invariant and not text:find("%f[%w]c%f[%W]")
        end
        if arg.length == 1 then return "rg_splat(a" .. node.leaf .. "[0])", true end
        return load_row("a" .. node.leaf, t.vector, n), false
    end
end

local function run_store(k, out, value, n)
    if k.arg[out.arg].layout == "vec" then return L.store(k, out.arg, pos, value) end
    if n then return string.format("rg_store_n(a%d + c, %s, %s);", out.arg, value, n) end
    return string.format("rg_store(a%d + c, %s);", out.arg, value)
end

-- One step at c: the lines that hold for the whole run, and those of the step. n: lanes, nil for whole vectors.
function L.run_step(k, n)
    local site = k.site[0]
    local lines, fin = L.gather(k, n)
    local dag = L.dag(site, L.roots(site), run_leaves(k, fin, n))
    L.append(lines, dag.inner)
    for i = 0, site.out_count - 1 do
        lines[#lines + 1] = run_store(k, site.out[i], dag.name(site.out[i].root), n)
    end
    return dag.outer, lines
end
