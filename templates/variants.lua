-- The one list of variants. A row:
--
--   kind      the description's kind: "conv", "wgrad", "window", "map", "vec", "pack", "input"
--   name      the variant's name; it appears in the symbol of a convolution
--   template  its file
--   target    "cuda", or "cpu" where absent
--   instances true: k may be several equal kernels in one launch (k.instances of them), each with its own arguments
--   applies   function(k, t): true when it can compute the description
--   plan      function(k, t): what it settles, a table with
--               params           whole numbers by name, printed into the description
--               tiles_per_block  tiles of an instance = tiles_per_block * image blocks + tiles_fixed (0 where absent)
--               tiles_fixed
--               parts_per_block  parts that its reductions over N, H, W leave, per image block (0: none)
--               scratch_floats   private to a thread (0: none)
--               complete         wgrad: false when it leaves PARTW; else true (true where absent)
--               cost_us          estimate at t.max_blocks image blocks and two threads (cuda: an H100), of all instances
--               threads          cuda: of a block of threads, which is a tile
--               shared_bytes     cuda: its dynamic shared memory
--               counters         cuda: of its tails (0 where absent: one). wgrad with parts: slices of dw, each added up by the last of
--                                its tiles; 0: it cannot, a vec kernel does
--               weights          conv: "master", "turn", "wino", "winoturn"
--               wino_m           Winograd's output tile
--
-- k is the description without a variant; t is the target: name, isa, vector (floats), arch, max_blocks, only, dgrad (the conv
-- is a dgrad: its weights are the turned master). Indices in k start at 0, as in C.
local rows = {}

local function row(fields)
    local applies, plan = fields.applies, fields.plan
    fields.applies = function(k, t) return (fields.instances or not k.instances) and applies(k, t) end
    fields.plan = function(k, t)
        local settled, n = plan(k, t), k.instances or 1
        settled.tiles_per_block, settled.tiles_fixed = (settled.tiles_per_block or 0) * n, (settled.tiles_fixed or 0) * n
        return settled
    end
    rows[#rows + 1] = fields
end

-- ---- direct convolution ----

row {
    kind = "conv", name = "direct", template = "cpu_conv_direct.c.tpl",
    applies = function(k, t)
        for s = 0, k.site_count - 1 do
            if not L.site_fits(k, k.site[s]) then return false end
        end
        for i = 0, k.contr_count - 1 do
            local w = k.arg[k.contr[i].w_arg]
            if w.layout ~= "weight" or w.kb > 2 * t.vector or k.contr[i].acc then return false end
        end
        return true
    end,
    plan = function(k, t)
        local shape = L.plan_direct(k)
        local _, scratch = L.operands(k, shape.strip, shape.pr)
        return {
            params = {strip = shape.strip, pr = shape.pr, chunk = shape.chunk},
            tiles_per_block = shape.strips * shape.chunks, parts_per_block = shape.strips,
            scratch_floats = scratch, cost_us = shape.cost, weights = t.dgrad and "turn" or "master",
        }
    end,
}

-- ---- Winograd, weight gradients, packing ----

for _, m in ipairs {2, 3, 4} do
    row {
        kind = "conv", name = "wino" .. m, template = "cpu_wino.c.tpl",
        applies = L.wino_applies,
        plan = function(k) return L.wino_plan(k, m) end,
    }
end

row {
    kind = "wgrad", name = "direct", template = "cpu_wgrad.c.tpl",
    applies = L.wgrad_applies,
    plan = function(k) return L.wgrad_plan(k, false) end,
}

-- Image blocks apart: parts that a VEC kernel adds up.
row {
    kind = "wgrad", name = "split", template = "cpu_wgrad.c.tpl",
    applies = L.wgrad_applies,
    plan = function(k) return L.wgrad_plan(k, true) end,
}

row {kind = "pack", name = "pack", template = "cpu_pack.c.tpl", applies = L.pack_applies, plan = L.pack_plan}

-- ---- element-wise, windows, vectors ----

-- One vector a tile where long partial results are gathered; else enough for a tile to be worth handing out.
row {
    kind = "vec", name = "vec", template = "cpu_vec.c.tpl",
    applies = function() return true end,
    plan = function(k)
        local chunk = t.vector
        for i = 0, k.arg_count - 1 do
            if k.arg[i].layout ~= "vec" and k.arg[i].layout ~= "part" then chunk = 4096 end
        end
        local tiles = L.ceil_div(k.site[0].c, chunk)
        return {params = {chunk = chunk}, tiles_fixed = tiles, cost_us = 1 + L.traffic_us(k)}
    end,
}

row {
    kind = "map", name = "map", template = "cpu_map.c.tpl",
    applies = L.map_fits,
    plan = function(k)
        local run, strips = L.map_tiles(k)
        return {
            params = {run = run, strips = strips}, tiles_per_block = strips, parts_per_block = L.map_parts(k, strips),
            scratch_floats = L.map_scratch(k).floats, cost_us = 1 + L.traffic_us(k),
        }
    end,
}

row {
    kind = "window", name = "window", template = "cpu_window.c.tpl",
    applies = function(k) return L.site_fits(k, k.site[0]) and L.site_fits(k, k.site[1]) end,
    plan = function(k)
        local rows = L.window_rows(k)
        local strips = L.ceil_div(k.site[1].h, rows)
        return {
            params = {rows = rows, strips = strips, own_rows = L.window_own_rows(k, strips), images = k.window == "maxgrad" and 4 or 2},
            tiles_per_block = strips, parts_per_block = L.window_has_parts(k) and strips or 0,
            scratch_floats = L.state_floats(k.site[0]) + L.state_floats(k.site[1]), cost_us = 1 + L.traffic_us(k),
        }
    end,
}

-- ---- CUDA ----

row {
    target = "cuda", kind = "conv", name = "ffma", template = "cu_conv.cu.tpl",
    applies = function(k) return not k.contr[0].format and L.cu_conv_applies(k) end,
    plan = function(k) return L.cu_conv_plan(k) end,
}

row {
    target = "cuda", kind = "wgrad", name = "ffma", template = "cu_wgrad.cu.tpl",
    instances = true,
    applies = function(k) return not k.contr[0].format and L.cu_wgrad_applies(k) end,
    plan = function(k) return L.cu_wgrad_plan(k, false) end,
}

row {
    target = "cuda", kind = "wgrad", name = "ffma_split", template = "cu_wgrad.cu.tpl",
    instances = true,
    applies = function(k) return not k.contr[0].format and L.cu_wgrad_applies(k) end,
    plan = function(k) return L.cu_wgrad_plan(k, true) end,
}

-- Tensor cores: bf16, f16, tf32.
row {
    target = "cuda", kind = "conv", name = "mma", template = "cu_mma_conv.cu.tpl",
    applies = function(k) return L.mma_conv_applies(k) end,
    plan = function(k) return L.mma_conv_plan(k) end,
}

row {
    target = "cuda", kind = "wgrad", name = "mma", template = "cu_mma_wgrad.cu.tpl",
    instances = true,
    applies = function(k) return L.mma_wgrad_applies(k, false) end,
    plan = function(k) return L.mma_wgrad_plan(k, false) end,
}

row {
    target = "cuda", kind = "wgrad", name = "mma_split", template = "cu_mma_wgrad.cu.tpl",
    instances = true,
    applies = function(k) return L.mma_wgrad_applies(k, true) end,
    plan = function(k) return L.mma_wgrad_plan(k, true) end,
}

-- Few input channels, in 16 bits.
row {
    target = "cuda", kind = "conv", name = "mma_stem", template = "cu_mma_conv.cu.tpl",
    applies = function(k) return L.stem_applies(k) end,
    plan = function(k) return L.stem_plan(k) end,
}

row {
    target = "cuda", kind = "wgrad", name = "mma_stem", template = "cu_mma_wgrad.cu.tpl",
    instances = true,
    applies = function(k) return L.mma_stem_wgrad_applies(k, false) end,
    plan = function(k) return L.mma_wgrad_plan(k, false, true) end,
}

row {
    target = "cuda", kind = "wgrad", name = "mma_stem_split", template = "cu_mma_wgrad.cu.tpl",
    instances = true,
    applies = function(k) return L.mma_stem_wgrad_applies(k, true) end,
    plan = function(k) return L.mma_wgrad_plan(k, true, true) end,
}

-- ---- CUDA: element-wise, windows, vectors ----

row {
    target = "cuda", kind = "map", name = "map", template = "cu_map.cu.tpl",
    applies = function(k) return L.cu_map_fits(k) end,
    plan = function(k) return L.cu_map_plan(k) end,
}

row {
    target = "cuda", kind = "vec", name = "vec", template = "cu_vec.cu.tpl",
    instances = true,
    applies = function(k) return L.cu_vec_fits(k) and not L.cu_reduces_run(k) end,
    plan = function(k) return L.cu_vec_plan(k) end,
}

row {
    target = "cuda", kind = "vec", name = "reduce", template = "cu_reduce.cu.tpl",
    applies = function(k) return L.cu_reduce_run_fits(k) end,
    plan = function(k) return L.cu_reduce_run_plan(k) end,
}

row {
    target = "cuda", kind = "window", name = "window", template = "cu_window.cu.tpl",
    applies = function(k) return L.site_fits(k, k.site[0]) and L.site_fits(k, k.site[1]) end,
    plan = function(k) return L.cu_window_plan(k) end,
}

-- Sixteen pixels of 16 images a tile: a thread has one.
row {
    target = "cuda", kind = "input", name = "input", template = "cu_input.cu.tpl",
    applies = function() return true end,
    plan = function(k)
        local tiles = L.ceil_div(k.arg[0].h * k.arg[0].w, 16)
        return {params = {pixels = 16, tiles = tiles}, tiles_per_block = tiles, threads = 256, cost_us = L.cu_traffic_us(k)}
    end,
}

return rows
