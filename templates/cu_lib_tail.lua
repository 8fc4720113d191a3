-- Tails on CUDA: what the block that ends last makes of the parts that all have left. Partial sums are gathered as a VEC kernel gathers
-- them (cu_lib_vec.lua), by one block for all channels; partial weight gradients are added up slice by slice, by the last block of each.
local L = ...

function L.cu_has_tails(k)
    return (k.tail_count or 0) > 0
end

-- Tail i as a VEC description: its site, and those FIN leaves alone that it uses.
function L.cu_tail(k, i)
    local site, fin = k.tail[i], {}
    for n = 0, site.expr_count - 1 do
        local node = site.expr[n]
        if node.op == "fin" then fin[node.leaf] = k.fin[node.leaf] end
    end
    return setmetatable({site = {[0] = site}, site_count = 1, fin = fin}, {__index = k})
end

-- ---- partial sums ----

-- Threads that take part (a power of two) and lanes, channels side by side: as many as there are channels, since fewer would leave more
-- rounds and no fewer loads.
local function shape(k, site)
    local threads, lanes = 1, 1
    while 2 * threads <= k.variant.threads do threads = 2 * threads end
    while lanes < site.c and lanes < threads do lanes = 2 * lanes end
    return threads, lanes
end

-- Lines that declare where the threads' values meet: dynamic shared memory, where the kernel has that.
local function meeting(k, floats)
    if k.variant.shared_bytes > 0 then return "float *const between = rg_dynamic_shared();" end
    return string.format("RG_SHARED(float, between, %d);", floats)
end

-- Lines of tail i, run by all threads of a block.
function L.cu_tail_lines(k, i)
    local view = L.cu_tail(k, i)
    local c = view.site[0].c
    local threads, lanes = shape(k, view.site[0])
    local gather, fin, floats = L.cu_vec_gather_each(view, threads, lanes, k.variant.threads)
    local first = c > lanes and "c0 + " or ""
    local lines = {
        string.format("const int c = rg_min_int(%s%s, %d);", first, L.cu_mod("rg_tid()", lanes), c - 1),
        string.format("const int ty = %s;", L.over("rg_tid()", lanes)),
    }
    if threads < k.variant.threads then
        lines[2] = string.format("const int ty = rg_tid() < %d ? %s : 1 << 30; /* the others have no part in it */", threads, L.over("rg_tid()", lanes))
    end
    L.append(lines, gather)
    lines[#lines + 1] = c > lanes and string.format("if (rg_tid() < rg_min_int(%d, %d - c0)) {", lanes, c)
        or string.format("if (rg_tid() < %d) {", c)
    L.append(lines, L.indent(L.cu_vec_step(view, 1, fin)))
    L.append(lines, {"}", "rg_barrier();"})
    local out = {string.format("/* %d channels; %d threads share the parts of one. */", c, threads // lanes)}
    out[2] = c > lanes and string.format("for (int c0 = 0; c0 < %d; c0 += %d) {", c, lanes) or "{"
    if floats > 0 then table.insert(lines, 1, meeting(k, floats)) end
    L.append(out, L.indent(lines))
    out[#out + 1] = "}"
    return out
end

-- ---- partial weight gradients ----

-- What their tail touches, as a set of indices.
function L.cu_tail_wgrad_args(k)
    local used = L.cu_site_args(k.tail[0])
    used[k.contr[0].w_arg], used[k.counter_arg] = true, true
    return used
end

-- Lines that store element `at` (and the next three) of the sums `sum`.
function L.cu_tail_weights(k, at)
    local view = L.cu_tail(k, 0)
    local arg = {}
    for i = 0, k.arg_count - 1 do
        local a = k.arg[i]
        arg[i] = (a.layout == "weight" or a.layout == "flat") and setmetatable({layout = "flat", length = 4}, {__index = a}) or a
    end
    view.arg = arg
    local fin = {}
    for i in pairs(view.fin) do fin[i] = "sum[j]" end
    local pos = {nb = "0", h = "0", w = "0", n = "0", c = at}
    local outer, inner = L.cu_site(view, view.site[0], {pos = pos, width = 4, fin = fin})
    return L.append(outer, inner)
end
