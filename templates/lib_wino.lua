-- Winograd's transforms F(m x m, 3 x 3) for m = 2, 3, 4: points 0, 1, -1, 1/2, -2 and infinity, in this order, scaled
-- as rg_wino_weights does (all of the scale is in the weights). Products shared between rows are computed once.
local L = ...

-- Lines: d[0..m+1], one run of input, becomes its transform in place.
L.wino_input = {
    [2] = {
        "const vf v0 = d[2] - d[0], v1 = d[2] + d[1], v2 = d[2] - d[1], v3 = d[3] - d[1];",
        "d[0] = v0, d[1] = v1, d[2] = v2, d[3] = v3;",
    },
    [3] = {
        "const vf half = rg_splat(-0.5f);",
        "const vf v0 = rg_fma(d[0], half, d[1]), v1 = rg_fma(d[1], half, d[2]);",
        "const vf v2 = rg_fma(d[2], half, d[3]), v3 = rg_fma(d[3], half, d[4]), u = d[3] - d[1];",
        "d[0] = v2 - v0, d[1] = v2 + v1, d[2] = v2 - v1, d[3] = u, d[4] = v3 - v1;",
    },
    [4] = {
        "const vf c = rg_splat(1.5f);",
        "const vf v0 = rg_fma(d[1], c, d[2]) - d[0], v1 = rg_fma(d[2], c, d[3]) - d[1];",
        "const vf v2 = rg_fma(d[3], c, d[4]) - d[2], v3 = rg_fma(d[4], c, d[5]) - d[3];",
        "const vf u0 = d[3] - d[1], u1 = d[4] - d[2];",
        "d[0] = v2 - v0, d[1] = v2 + v1, d[2] = v2 - v1;",
        "d[3] = rg_fma(u0, rg_splat(2.0f), u1), d[4] = rg_fma(u0, rg_splat(-0.5f), u1), d[5] = v3 - v1;",
    },
}

-- Lines: y[0..m-1] from the products d[0..m+1].
L.wino_output = {
    [2] = {
        "y[0] = d[0] + (d[1] + d[2]);",
        "y[1] = (d[1] - d[2]) + d[3];",
    },
    [3] = {
        "const vf s = d[1] + d[2], u = d[1] - d[2];",
        "y[0] = (d[0] + s) + d[3];",
        "y[1] = rg_fma(d[3], rg_splat(0.5f), u);",
        "y[2] = rg_fma(d[3], rg_splat(0.25f), s) + d[4];",
    },
    [4] = {
        "const vf s = d[1] + d[2], u = d[1] - d[2];",
        "y[0] = (d[0] + s) + (d[3] + d[4]);",
        "y[1] = rg_fma(d[4], rg_splat(-2.0f), rg_fma(d[3], rg_splat(0.5f), u));",
        "y[2] = rg_fma(d[4], rg_splat(4.0f), rg_fma(d[3], rg_splat(0.25f), s));",
        "y[3] = rg_fma(d[4], rg_splat(-8.0f), rg_fma(d[3], rg_splat(0.125f), u)) + d[5];",
    },
}

-- Lines: u[0..m+1] from three weights w[0], w[1], w[2].
L.wino_weight = {
    [2] = {
        "const vf s = w[0] + w[2], half = rg_splat(0.5f);",
        "u[0] = -w[0], u[1] = half * (s + w[1]), u[2] = half * (s - w[1]), u[3] = w[2];",
    },
    [3] = {
        "const vf s = w[0] + w[2];",
        "u[0] = rg_splat(2.0f) * w[0], u[1] = s + w[1], u[2] = rg_splat(-1.0f / 3.0f) * (s - w[1]);",
        "const vf at_half = rg_fma(w[2], rg_splat(0.25f), rg_fma(w[1], rg_splat(0.5f), w[0]));",
        "u[3] = rg_splat(-8.0f / 3.0f) * at_half, u[4] = w[2];",
    },
    [4] = {
        "const vf s = w[0] + w[2], third = rg_splat(1.0f / 3.0f);",
        "u[0] = w[0], u[1] = third * (s + w[1]), u[2] = -third * (s - w[1]);",
        "const vf at_half = rg_fma(w[2], rg_splat(0.25f), rg_fma(w[1], rg_splat(0.5f), w[0]));",
        "const vf at_minus_2 = rg_fma(w[2], rg_splat(4.0f), rg_fma(w[1], rg_splat(-2.0f), w[0]));",
        "u[3] = rg_splat(-16.0f / 15.0f) * at_half, u[4] = rg_splat(1.0f / 15.0f) * at_minus_2, u[5] = w[2];",
    },
}

-- ---- packing ----

-- Lane numbers that interleave the first, and the second, halves of two vectors.
function L.interleave(v)
    local lo, hi = {}, {}
    for i = 0, v // 2 - 1 do
        L.append(lo, {i, v + i})
        L.append(hi, {v // 2 + i, v + v // 2 + i})
    end
    return table.concat(lo, ", "), table.concat(hi, ", ")
end

function L.pack(k)
    local from, to, v = k.arg[0], k.arg[1], t.vector
    local wino = k.pack ~= "turn"
    local g = {from = from, to = to, v = v, taps = from.r * from.s, turn = k.pack ~= "wino"}
    g.m, g.n = wino and to.h or 0, wino and to.h + 2 or 0
    g.blocks = L.ceil_div(to.kp, to.kb)
    g.point = g.blocks * to.c * to.kb
    g.chunk = wino and 64 or to.c
    g.chunks = L.ceil_div(to.c, g.chunk)
    return g
end

function L.pack_applies(k)
    return k.pack == "turn" or (L.wino_weight[k.arg[1].h] ~= nil and k.arg[0].r == 3 and k.arg[0].s == 3
        and (k.pack == "winoturn" or k.arg[0].kb == k.arg[1].kb))
end

-- Bound by memory: weights are read, results written (and their lines fetched first).
function L.pack_plan(k)
    local g = L.pack(k)
    local floats = g.from.k * g.from.c * g.taps + 2 * g.to.k * g.to.c * (g.n > 0 and g.n * g.n or g.taps)
    return {tiles_fixed = g.blocks * g.chunks, cost_us = 2 + floats * 4 / 24000}
end

-- ---- the convolution ----

-- First input coordinate of tile 0 along an axis. A dgrad's taps count downwards: its weights are packed turned around.
local function start(geom)
    return geom.tap_mul == 1 and geom.off or geom.off - 2
end

local function axis_fits(geom)
    local first = start(geom)
    local plain = geom.mul == 1 and geom.div == 1 and (geom.tap_mul == 1 or geom.tap_mul == -1)
    return plain and first >= -2 and first <= 0
end

function L.wino_applies(k)
    local contr, x, y = k.contr[0], k.site[0], k.site[k.site_count - 1]
    return k.contr_count == 1 and contr.r == 3 and contr.s == 3 and axis_fits(contr.gh) and axis_fits(contr.gw)
        and contr.gh.tap_mul == contr.gw.tap_mul and x.c >= 16 and y.c >= 16
        and L.site_fits(k, x) and L.site_fits(k, y) and #L.reductions(x) == 0
end

-- What plan and template know of a description with output tile m.
function L.wino(k, m)
    local contr, x, y, v = k.contr[0], k.site[0], k.site[k.site_count - 1], t.vector
    local w = k.arg[contr.w_arg]
    local g = {m = m, n = m + 2, points = (m + 2) * (m + 2), x = x, y = y, v = v}
    g.w_arg, g.kb, g.kv = contr.w_arg, w.kb, w.kb // v
    g.h0, g.w0 = start(contr.gh), start(contr.gw)
    g.tiles_h, g.tiles_w = L.ceil_div(y.h, m), L.ceil_div(y.w, m)
    g.cp = L.round_up(x.c, v)
    g.blocks_k = L.ceil_div(w.kp, w.kb)
    g.rows = (v == 16 and 8 or 4) * (g.kv == 1 and 2 or 1)
    -- One point's rows are a cache line apart from a power of two, or all points would fall into one set of the cache.
    g.v_point, g.m_point = 16 * g.cp + 16, 16 * g.kb + 16
    g.patch = g.points * 8 * v
    g.v_base = g.patch
    g.m_base = g.v_base + g.points * g.v_point
    g.state_base = g.m_base + g.points * g.m_point
    g.scratch = g.state_base + L.state_floats(y)
    return g
end

-- The arguments that receive the parts of a site's reductions.
function L.wino_part_args(site)
    local used = {}
    for _, red in ipairs(L.reductions(site)) do used[red.out.arg] = true end
    return used
end

-- C condition: the tile owns this pixel of the input (each belongs to one tile).
function L.wino_own(g)
    local function axis(at, tile, tiles)
        local first, next = L.times(tile, g.m), L.times("(" .. tile .. " + 1)", g.m)
        return string.format("%s >= %s && (%s < %s || %s == %d)", at, first, at, next, tile, tiles - 1)
    end
    return axis("h", "th", g.tiles_h) .. " && " .. axis("w", "tw", g.tiles_w)
end

-- Microseconds on two threads, measured on Zen 4: 9.5 ns for 512 products (more where the transformed weights come from beyond
-- L2), 5 ns for each vector that is transformed.
function L.wino_plan(k, m)
    local g = L.wino(k, m)
    local tiles = g.tiles_h * g.tiles_w * t.max_blocks
    local weights = g.points * g.x.c * g.blocks_k * g.kb
    local far = weights * 4 > 1200 * 1024 and 1.08 or 1
    local product = tiles * 16 * weights / 512 * 0.0095 * far
    local vectors = tiles * 16 * g.points * (g.cp // g.v + g.blocks_k * g.kv)
    local launches = g.tiles_h * t.max_blocks
    local us = (product + vectors * 0.006) / 2 * (1 + 0.25 / launches)
    -- The weights are packed once a step, in memory by then: read, and written (their lines are fetched first).
    local pack_us = (2 * weights + 9 * g.x.c * g.y.c) * 4 / 14000
    return {tiles_per_block = g.tiles_h, parts_per_block = g.tiles_h, scratch_floats = g.scratch, params = {m = m},
            weights = t.dgrad and "winoturn" or "wino", wino_m = m, cost_us = us + pack_us}
end
