-- Pieces of a convolution's tile: its operands' rows, its reductions.
local L = ...

-- Clears the reductions' state; declares which rows of each operand this tile owns and the next row to bring.
function L.conv_begin(k, operand, first_slice)
    local lines = {}
    for s = 0, k.site_count - 1 do
        local op, site = operand[s], operand[s].site
        local begin = L.reduce_begin(site, L.plus("scratch", op.state), "c")
        if #begin > 0 then
            lines[#lines + 1] = string.format("for (int c = 0; c < %d; c += %d) {", L.state_cp(site), t.vector)
            L.append(lines, L.indent(begin))
            lines[#lines + 1] = "}"
        end
        if s < k.site_count - 1 and not op.plain then L.append(lines, L.conv_rows(site, op, s, first_slice)) end
    end
    return lines
end

-- With outputs, strips share out the rows of the operand: a tile owns those from its first on to the next strip's first.
function L.conv_rows(site, op, s, first_slice)
    if site.out_count == 0 then
        local first = "first_row" .. s .. "(p_first)"
        if op.step == 1 then return {string.format("int next%d = %s;", s, first)} end
        return {string.format("int next%d = %s;", s, first),
                string.format("while (next%d %% %d != %d) next%d++;", s, op.step, op.residue, s)}
    end
    return {
        string.format("const int own_first%d = p_first == 0 ? 0 : first_row%d(p_first);", s, s),
        string.format("const int own_last%d = p_last == %d ? %d : rg_min_int(%d, first_row%d(p_last));", s, op.out_h, site.h, site.h, s),
        string.format("const int owns%d = %s;", s, first_slice),
        string.format("int next%d = own_first%d;", s, s),
    }
end

local function bring_row(op)
    local s, site = op.index, op.site
    local extra = ""
    if site.out_count > 0 then extra = string.format("owns%d && next%d < own_last%d, ", s, s, s) end
    if L.state_floats(site) > 0 then
        extra = extra .. string.format("%s, next%d == own_first%d, ", L.plus("scratch", op.state), s, s)
    end
    local slot = op.step > 1 and string.format("next%d / %d", s, op.step) or "next" .. s
    return string.format("prologue%d(a, ctl, nb, next%d, %sx%d + (long)(%s %% %d) * %d);", s, s, extra, s, slot, op.rows,
                         L.row_floats(site))
end

-- Brings the rows up to `last`.
function L.conv_bring(k, op, last)
    if op.plain then return {} end
    local s = op.index
    return {
        string.format("for (const int last = %s; next%d <= last; next%d += %d)", last, s, s, op.step),
        "    " .. bring_row(op),
    }
end

-- Rows that are owned and not read, then the parts.
function L.conv_end(k, operand, o)
    local lines = {}
    for s = 0, k.site_count - 2 do
        local op = operand[s]
        if op.site.out_count > 0 then
            lines[#lines + 1] = string.format("for (; owns%d && next%d < own_last%d; next%d++)", s, s, s, s)
            lines[#lines + 1] = "    " .. bring_row(op)
        end
    end
    for s = 0, k.site_count - 1 do
        local last = s == k.site_count - 1
        L.append(lines, L.conv_parts(k, operand[s], {
            strips = o.strips, last = last,
            rows = last and "(p_last - p_first)" or string.format("(own_last%d - own_first%d)", s, s),
            from = last and "k_first" or "0", to = last and "k_last" or tostring(L.site_cp(operand[s].site)),
        }))
    end
    return lines
end

-- The reductions of one site, written to part nb * strips + strip.
function L.conv_parts(k, op, o)
    local site, s = op.site, op.index
    if L.state_floats(site) == 0 then return {} end
    local lines, used = {}, {}
    for _, red in ipairs(L.reductions(site)) do
        if red.out.kind == "moments" then
            used.count = string.format("const float count%d = (float)(%s * %d * rg_live(ctl, nb * 16, 16));", s, o.rows, site.w)
        end
    end
    if used.count then lines[1] = used.count end
    local guard = o.last and "" or string.format("if (owns%d) ", s)
    local args = {}
    for _, red in ipairs(L.reductions(site)) do args[red.out.arg] = true end
    lines[#lines + 1] = string.format("%sfor (int c = %s; c < %s; c += %d) {", guard, o.from, o.to, t.vector)
    L.append(lines, L.indent(L.pointers(k, args)))
    local part = o.strips == 1 and "nb" or "nb * " .. o.strips .. " + strip"
    local state = L.plus("scratch", op.state)
    L.append(lines, L.indent(L.reduce_end(k, site, state, {c = "c"}, part, "count" .. s)))
    lines[#lines + 1] = "}"
    return lines
end
