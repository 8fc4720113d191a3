-- What all templates share: text of numbers, arguments, expression trees, reductions. Loaded once a state, before the files
-- lib_*.lua, which add to the same table. `t` is the target (see variants.lua).
--
-- A description k is rg_kdesc_print's table: k.arg[i], k.site[i], site.expr[i], site.out[i], k.contr[i], k.fin[i] count from 0, as in C;
-- their numbers stand beside them (k.arg_count, site.expr_count, ...). axes is a text: "nhw". k.variant.param.NAME is a number.
--
-- Functions that give code return a list of lines; `${...}` alone on its line takes a list or a text and indents it.
local L = {}

-- ---- numbers and text ----

-- The exact C literal of the float nearest to v.
function L.float(v)
    v = string.unpack("<f", string.pack("<f", v))
    if v ~= v then return '__builtin_nanf("")' end
    if v == math.huge then return "__builtin_inff()" end
    if v == -math.huge then return "-__builtin_inff()" end
    local text = string.format("%.9g", v)
    for digits = 1, 8 do
        local short = string.format("%." .. digits .. "g", v)
        if string.unpack("<f", string.pack("<f", tonumber(short))) == v then
            text = short
            break
        end
    end
    if not text:find("[.e]") then text = text .. ".0" end
    return text .. "f"
end

function L.splat(v)
    return "rg_splat(" .. L.float(v) .. ")"
end

function L.ceil_div(a, b)
    return (a + b - 1) // b
end

function L.round_up(a, b)
    return (a + b - 1) // b * b
end

-- A text as an operand of * : in parentheses unless it is one name, number, call or element.
function L.paren(text)
    if text:find("^[%w_%.]+$") or text:find("^[%w_]+%b()$") or text:find("^[%w_]+%b[]$") then return text end
    return "(" .. text .. ")"
end

-- a * n, a / n, a + n: left out where n is 1 or 0.
function L.times(a, n)
    return n == 1 and a or L.paren(a) .. " * " .. n
end

function L.over(a, n)
    return n == 1 and a or a .. " / " .. n
end

function L.plus(a, n)
    if n == 0 then return a end
    return n < 0 and a .. " - " .. -n or a .. " + " .. n
end

function L.append(list, more)
    for _, line in ipairs(more) do list[#list + 1] = line end
    return list
end

function L.indent(lines, depth)
    local out = {}
    for i, line in ipairs(lines) do out[i] = line == "" and "" or string.rep("    ", depth or 1) .. line end
    return out
end

function L.has_axes(out, axes)
    return out.axes == axes
end

-- ---- arguments at a position ----
--
-- A position is a table of C texts: nb (image block), h, w (pixel), n (image within its block), c (first channel of the vector).
-- Arguments are in scope as pointers a0, a1, ... (L.pointers); surplus lanes of what is loaded hold anything finite.

-- Declares the pointers of the arguments `list` (a set of indices, or nil: all).
function L.pointers(k, list)
    local lines = {}
    for i = 0, k.arg_count - 1 do
        if not list or list[i] then
            local const = k.arg[i].written and "" or "const "
            lines[#lines + 1] = string.format("%sfloat *const a%d = a[%d];", const, i, i)
        end
    end
    return lines
end

-- The arguments that a site's nodes and stores touch (parts are written at a tile's end).
function L.site_args(site)
    local used = {}
    for i = 0, site.expr_count - 1 do
        if site.expr[i].op == "arg" then used[site.expr[i].leaf] = true end
    end
    for i = 0, site.out_count - 1 do
        if site.out[i].kind == "store" then used[site.out[i].arg] = true end
    end
    return used
end

-- Offset of a pixel's image row in an ACT argument (its channel 0), in floats.
function L.pixel(arg, pos)
    local at = "(long)" .. L.paren(pos.nb) .. " * "
    if arg.h > 1 then at = "(" .. at .. arg.h .. " + " .. pos.h .. ") * " end
    if arg.w > 1 then at = "(" .. at .. arg.w .. " + " .. pos.w .. ") * " end
    at = at .. "16 + " .. pos.n
    return L.times(at, arg.cp)
end

local function add_channel(at, pos)
    return pos.c == "0" and at or at .. " + " .. pos.c
end

-- Lanes that exist at pos.c when cp is not whole vectors; nil when it is.
local function lanes(cp, pos)
    if cp % t.vector == 0 then return nil end
    if pos.c == "0" and cp < t.vector then return tostring(cp) end
    return string.format("rg_min_int(%d - %s, %d)", cp, L.paren(pos.c), t.vector)
end

local function load_at(at, cp, pos)
    local n = lanes(cp, pos)
    return n and string.format("rg_load_n(%s, %s)", at, n) or string.format("rg_load(%s)", at)
end

-- A vector of argument i at the position; the second result says that it depends on c alone.
function L.load(k, i, pos)
    local arg, name = k.arg[i], "a" .. i
    if arg.layout == "vec" then
        if arg.c == 1 then return "rg_splat(" .. name .. "[0])", true end
        return load_at(add_channel(name, pos), arg.cp, pos), true
    end
    if arg.layout == "flat" then return load_at(add_channel(name, pos), t.vector, pos), false end
    if arg.layout ~= "act" then error("argument " .. i .. " (" .. arg.layout .. ") has no element at a position") end
    local at = L.pixel(arg, pos)
    if arg.c == 1 then return "rg_splat(" .. name .. "[" .. at .. "])", false end
    return load_at(add_channel(name .. " + " .. at, pos), arg.cp, pos), false
end

-- A vector at a text address, whole or (cp not whole vectors) its lanes.
function L.store_at(at, cp, pos, value)
    if cp == 1 then return string.format("*(%s) = %s[0];", at, L.paren(value)) end
    local n = lanes(cp, pos)
    return n and string.format("rg_store_n(%s, %s, %s);", at, value, n) or string.format("rg_store(%s, %s);", at, value)
end

-- The statement that stores a vector to argument i at the position.
function L.store(k, i, pos, value)
    local arg, name = k.arg[i], "a" .. i
    if arg.layout == "act" then
        return L.store_at(add_channel(name .. " + " .. L.pixel(arg, pos), pos), arg.cp, pos, value)
    end
    local cp = arg.layout == "vec" and arg.cp or t.vector
    return L.store_at(add_channel(name, pos), cp, pos, value)
end

-- ---- expression trees ----

local infix = {add = "+", sub = "-", mul = "*", div = "/"}
local compare = {gt = true, ge = true, eq = true}

-- The usual leaves at a position: a function(node) -> text, invariant. acc, row: C texts by index (0, 1, ...), or nil.
function L.leaves(k, pos, acc, row)
    return function(node)
        if node.op == "arg" then return L.load(k, node.leaf, pos) end
        if node.op == "ctrl" then return "rg_splat(ctl->scalar[" .. node.leaf .. "])", true end
        if node.op == "acc" and acc then return acc[node.leaf], false end
        if node.op == "row" and row then return row[node.leaf], false end
        if node.op == "index" then
            if node.leaf == 3 then return "rg_iota(" .. pos.c .. ")", true end
            local at = ({[0] = pos.nb .. " * 16 + " .. pos.n, pos.h, pos.w})[node.leaf]
            return "rg_splat((float)(" .. at .. "))", false
        end
        error("leaf " .. node.op .. " has no meaning here")
    end
end

-- Which nodes `roots` need, and how: need[i]; value[i] (as a number), mask[i] (a comparison as a select's condition).
local function needs(site, roots)
    local need, value, mask = {}, {}, {}
    for _, root in ipairs(roots) do need[root], value[root] = true, true end
    for i = site.expr_count - 1, 0, -1 do
        local node = site.expr[i]
        if need[i] then
            for slot, operand in pairs {a = node.a, b = node.b, c = node.c} do
                need[operand] = true
                local condition = node.op == "select" and slot == "a" and compare[site.expr[operand].op]
                if condition then mask[operand] = true else value[operand] = true end
            end
        end
    end
    return need, value, mask
end

local function is_number(node)
    return node.op == "const" and node.value == node.value
end

-- C text of an operator's value; x: texts of the operands.
local function apply(site, node, x, mask)
    local op = node.op
    if infix[op] then return x.a .. " " .. infix[op] .. " " .. x.b end
    if op == "neg" then return "-" .. x.a end
    if op == "max" or op == "min" then
        local a, b = site.expr[node.a], site.expr[node.b]
        if is_number(b) then return string.format("rg_%sc(%s, %s)", op, x.a, L.float(b.value)) end
        if is_number(a) then return string.format("rg_%sc(%s, %s)", op, x.b, L.float(a.value)) end
    end
    if op == "select" then
        local condition = mask[node.a] and "m" .. x.a:sub(2) or "rg_mask_ne(" .. x.a .. ", rg_splat(0.0f))"
        return string.format("rg_blend(%s, %s, %s)", condition, x.b, x.c)
    end
    local args = x.a
    if x.b then args = args .. ", " .. x.b end
    if x.c then args = args .. ", " .. x.c end
    return "rg_" .. op .. "(" .. args .. ")"
end

-- C statements that compute the nodes `roots` (a Lua list) of a site: one named temporary a node.
--   leaf    function(node) -> C text[, invariant]
--   prefix  of the names ("e" where nil)
-- Result: outer, the lines that do not vary from image to image (for before the loop over images), inner, the others,
-- and name(i), the C text of node i.
function L.dag(site, roots, leaf, prefix)
    prefix = prefix or "e"
    local need, value, mask = needs(site, roots)
    local dag, name, outer = {outer = {}, inner = {}}, {}, {}
    for i = 0, site.expr_count - 1 do
        local node = site.expr[i]
        if need[i] and node.op == "const" then
            name[i], outer[i] = L.splat(node.value), true
        elseif need[i] then
            local text, invariant
            local x = {a = name[node.a], b = name[node.b], c = name[node.c]}
            if node.a then
                text = value[i] and apply(site, node, x, mask)
                invariant = outer[node.a] and (not node.b or outer[node.b]) and (not node.c or outer[node.c])
            else
                text, invariant = leaf(node)
            end
            local lines = invariant and dag.outer or dag.inner
            name[i], outer[i] = prefix .. i, invariant
            if mask[i] then
                lines[#lines + 1] = string.format("const vm m%d = rg_mask_%s(%s, %s);", i, node.op, x.a, x.b)
            end
            if text then lines[#lines + 1] = string.format("const vf %s%d = %s;", prefix, i, text) end
        end
    end
    function dag.name(i)
        return name[i]
    end
    return dag
end

-- The node's C text is an argument read as it is, with nothing else to do at the site: the operand may be read from memory.
function L.is_plain(k, site)
    local node = site.expr[site.root]
    if site.root < 0 or node.op ~= "arg" or site.out_count > 0 then return false end
    local arg = k.arg[node.leaf]
    return arg.layout == "act" and arg.h == site.h and arg.w == site.w and arg.c == site.c
end

return L
