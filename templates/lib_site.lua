-- Sites: the loop over images in which a site's tree is evaluated, its stores, and its reductions over N, H, W into parts.
--
-- Reductions of a tile gather in scratch (`state`: SUM and MAX one float a channel, MOMENTS three) and are written to the tile's
-- part at its end. Channels are those of the site, rounded up to vectors.
local L = ...

function L.site_cp(site)
    return L.round_up(site.c, t.vector)
end

-- Channels of a reduction's state: a convolution's blocks of output channels may reach past the site's last vector (site.lanes).
function L.state_cp(site)
    return site.lanes or L.site_cp(site)
end

-- The site's reductions over N, H, W: list of {out, offset (floats into its state), index}.
function L.reductions(site)
    local list, offset = {}, 0
    for i = 0, site.out_count - 1 do
        local out = site.out[i]
        if out.kind ~= "store" then
            list[#list + 1] = {out = out, offset = offset, index = #list}
            offset = offset + (out.kind == "moments" and 3 or 1) * L.state_cp(site)
        end
    end
    return list, offset
end

function L.state_floats(site)
    local _, floats = L.reductions(site)
    return floats
end

-- All nodes that the site's outputs (and its root) need.
function L.roots(site)
    local roots = {}
    if site.root >= 0 then roots[1] = site.root end
    for i = 0, site.out_count - 1 do roots[#roots + 1] = site.out[i].root end
    return roots
end

-- state + offset + c, with numbers added up.
local function at(state, offset, c)
    local text, base, number = state, state:match("^(.*) %+ (%d+)$")
    if base then text, offset = base, offset + math.tointeger(number) end
    if offset > 0 then text = text .. " + " .. offset end
    return c == "0" and text or text .. " + " .. c
end

-- Lines that evaluate a site for `rows` images of one vector of channels.
--   pos    position; pos.n is the C text of the image within its block and uses the loop's variable `r`
--   rows   number of images (literal)
--   acc    C texts of ACC leaves by index, may use r
--   root   function(value) -> statement that keeps the site's root, or nil
--   own    C condition under which outputs are stored and reduced (nil: always)
--   live   C text: live images among the rows (needed with reductions)
--   state  C text: pointer to the site's reduction state (needed with reductions)
--   first  C text: nonzero at the first rows that the tile reduces (needed with MOMENTS)
function L.site_block(k, site, o)
    local dag = L.dag(site, L.roots(site), L.leaves(k, o.pos, o.acc))
    local reductions, lines, body, after = L.reductions(site), {}, {}, {}
    L.append(lines, dag.outer)
    L.append(body, dag.inner)
    if o.root then body[#body + 1] = o.root(dag.name(site.root)) end
    local guard = o.own and "if (" .. o.own .. ") " or ""
    for i = 0, site.out_count - 1 do
        local out = site.out[i]
        if out.kind == "store" then body[#body + 1] = guard .. L.store(k, out.arg, o.pos, dag.name(out.root)) end
    end
    for _, red in ipairs(reductions) do
        lines[#lines + 1] = string.format("vf q%d[%d];", red.index, o.rows)
        body[#body + 1] = string.format("q%d[r] = %s;", red.index, dag.name(red.out.root))
        local where, call = at(o.state, red.offset, o.pos.c), nil
        if red.out.kind == "moments" then
            call = string.format("rg_moments_rows(%s, %d, q%d, %s, %s);", where, L.state_cp(site), red.index, o.live, o.first)
        else
            call = string.format("rg_%s_rows(%s, q%d, %s);", red.out.kind, where, red.index, o.live)
        end
        after[#after + 1] = guard .. call
    end
    lines[#lines + 1] = string.format("for (int r = 0; r < %d; r++) {", o.rows)
    L.append(lines, L.indent(body))
    lines[#lines + 1] = "}"
    return L.append(lines, after)
end

-- Lines that clear the state of channel vector c (inside a loop over c that steps by vectors).
function L.reduce_begin(site, state, c)
    local lines, cp = {}, L.state_cp(site)
    for _, red in ipairs(L.reductions(site)) do
        local start = red.out.kind == "max" and "rg_splat(-__builtin_inff())" or "rg_splat(0.0f)"
        for s = 0, red.out.kind == "moments" and 2 or 0 do
            lines[#lines + 1] = string.format("rg_store(%s, %s);", at(state, red.offset + s * cp, c), start)
        end
    end
    return lines
end

-- Lines that write channel vector pos.c of the state to its part.
--   part   C text: number of the part
--   count  C text of a float: values that went into each channel (needed with MOMENTS)
function L.reduce_end(k, site, state, pos, part, count)
    local lines, cp = {}, L.state_cp(site)
    for _, red in ipairs(L.reductions(site)) do
        local arg = k.arg[red.out.arg]
        local function put(stat, value)
            local base = string.format("a%d + (long)%s * %d", red.out.arg, L.paren(part), arg.stats * arg.cp)
            if stat > 0 then base = base .. " + " .. stat * arg.cp end
            if pos.c ~= "0" then base = base .. " + " .. pos.c end
            lines[#lines + 1] = L.store_at(base, arg.cp, pos, value)
        end
        local from = at(state, red.offset, pos.c)
        if red.out.kind == "moments" then
            put(0, "rg_splat(" .. count .. ")")
            put(1, string.format("rg_moments_mean(%s, %d, %s)", from, cp, count))
            put(2, string.format("rg_moments_m2(%s, %d, %s)", from, cp, count))
        else
            put(0, "rg_load(" .. from .. ")")
        end
    end
    return lines
end

-- Every reduction is over N, H, W into parts, every store goes to an activation: what convolutions can do.
function L.site_fits(k, site)
    for i = 0, site.out_count - 1 do
        local out = site.out[i]
        local arg = k.arg[out.arg]
        if out.kind == "store" then
            if arg.layout ~= "act" or arg.h ~= site.h or arg.w ~= site.w or arg.c ~= site.c then return false end
        elseif out.axes ~= "nhw" or arg.layout ~= "part" then
            return false
        end
    end
    return true
end
