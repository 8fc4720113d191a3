-- A sum or a maximum over a whole run (VEC kernels with one output of that kind) on CUDA: `share` blocks of threads per image block,
-- as many as there are parts.
local L = ...

local share = 64

function L.cu_reduces_run(k)
    for i = 0, k.site[0].out_count - 1 do
        if k.site[0].out[i].kind ~= "store" then return true end
    end
    return false
end

function L.cu_reduce_run_fits(k)
    local site = k.site[0]
    return L.cu_reduces_run(k) and site.out_count == 1 and site.c % 4 == 0 and k.fin_count == 0
end

function L.cu_reduce_run_plan(k)
    return {params = {share = share}, tiles_per_block = share, parts_per_block = share, threads = L.cu_threads,
            cost_us = L.cu_traffic_us(k)}
end

function L.cu_reduce_run_neutral(k)
    return k.site[0].out[0].kind == "max" and L.float(-math.huge) or "0.0f"
end

function L.cu_reduce_run_join(k, a, b)
    return k.site[0].out[0].kind == "max" and string.format("rg_max(%s, %s)", a, b) or a .. " + " .. b
end

-- Lines that add four elements at c.
function L.cu_reduce_run_step(k)
    local function reduce(_, _, value) return "all = " .. L.cu_reduce_run_join(k, "all", value) .. ";" end
    return L.cu_vec_step(k, 4, {}, reduce)
end
