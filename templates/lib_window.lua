-- Windows: the operand is evaluated at each tap in place, U images at a time.
local L = ...

function L.window_rows(k)
    return L.ceil_div(k.site[1].h, math.min(k.site[1].h, 8))
end

-- A window over several tiles reads some rows twice; what the prologue leaves is made once, by the tile that owns the row.
function L.window_own_rows(k, strips)
    return L.ceil_div(k.site[0].h, strips)
end

function L.window_has_parts(k)
    return L.state_floats(k.site[0]) + L.state_floats(k.site[1]) > 0
end

function L.uses_index(k)
    local site = k.site[1]
    for i = 0, site.expr_count - 1 do
        if site.expr[i].op == "acc" and site.expr[i].leaf == 1 then return true end
    end
    return false
end

-- C statements that leave in `to` the input coordinate of a tap, or continue where it is not in the list.
function L.tap_lines(geom, to, out, tap, extent)
    local text = L.plus(L.times(out, geom.mul), 0)
    if geom.tap_mul == -1 then text = text .. " - " .. tap
    elseif geom.tap_mul < 0 then text = text .. " - " .. tap .. " * " .. -geom.tap_mul
    else text = text .. " + " .. L.times(tap, geom.tap_mul) end
    text = L.plus(text, geom.off)
    if geom.div == 1 then
        return {
            string.format("const int %s = %s;", to, text),
            string.format("if (%s < 0 || %s >= %d) continue;", to, to, extent),
        }
    end
    return {
        string.format("const int %s_at = %s, %s = %s_at / %d;", to, text, to, to, geom.div),
        string.format("if (%s_at < 0 || %s_at %% %d || %s >= %d) continue;", to, to, geom.div, to, extent),
    }
end

local tap_pos = {nb = "nb", h = "th[i]", w = "tw[i]", n = "m + r", c = "c"}

-- How one tap's value x joins the accumulators of image r.
local function combine(k, x)
    if k.window == "sum" then return {"acc0[r] += " .. x .. ";"} end
    if k.window == "maxgrad" then
        local index = L.load(k, k.index_arg, tap_pos)
        return {string.format("acc0[r] += rg_blend(rg_mask_eq(%s, number), %s, rg_splat(0.0f));", index, x)}
    end
    if not L.uses_index(k) then return {"acc0[r] = rg_max(acc0[r], " .. x .. ");"} end
    return {
        string.format("const vm wins = rg_mask_gt(%s, acc0[r]) | rg_mask_nan(%s, %s);", x, x, x),
        string.format("acc0[r] = rg_blend(wins, %s, acc0[r]);", x),
        "acc1[r] = rg_blend(wins, number, acc1[r]);",
    }
end

-- The prologue at tap i: lines for all images, lines for image r.
function L.window_tap(k)
    local site = k.site[0]
    local dag = L.dag(site, {site.root}, L.leaves(k, tap_pos), "x")
    return dag.outer, L.append(L.append({}, dag.inner), combine(k, dag.name(site.root)))
end

-- What the prologue leaves, at the tile's own pixels.
function L.window_own(k)
    local site = k.site[0]
    return L.site_block(k, site, {
        pos = {nb = "nb", h = "h", w = "w", n = "r", c = "c"}, rows = 16, live = "rg_live(ctl, nb * 16, 16)",
        state = "scratch", first = "h == h0 && w == 0",
    })
end

function L.window_epilogue(k, images)
    local site = k.site[1]
    return L.site_block(k, site, {
        pos = {nb = "nb", h = "p", w = "q", n = "m + r", c = "c"}, rows = images, acc = {[0] = "acc0[r]", "acc1[r]"},
        live = string.format("rg_live(ctl, nb * 16 + m, %d)", images), first = "p == p0 && q == 0 && m == 0",
        state = "scratch + " .. L.state_floats(k.site[0]),
    })
end
