-- Loops over a tile's rows: a row is one pixel of one image, its channels lie side by side. Maps and windows are made of them.
--
-- In scope: nb (image block), row0 and rows (the tile's rows, counted in the tile), part; for each row p, n and, where wanted, h and w.
-- A tile has 16 images of a run of pixels (g.images 16), or all pixels of one image (1: where an image's sums must be complete).
local L = ...

L.cu_threads = 256

-- How threads lie over a site: lanes side by side, each with `width` channels, `rows` rows at once; span: channels covered.
-- lanes: at most so many.
function L.cu_grid(k, site, width, lanes)
    local g = {width = site.c == 1 and 1 or width, lanes = 1, warps = L.cu_threads // 32}
    while g.lanes < lanes and g.lanes * g.width < site.c do g.lanes = 2 * g.lanes end
    g.rows, g.span = L.cu_threads // g.lanes, g.lanes * g.width
    return g
end

-- Do the site's rows need their h and w, not their pixel's number alone?
function L.cu_needs_hw(k, site)
    for i = 0, site.expr_count - 1 do
        local node = site.expr[i]
        if node.op == "index" and (node.leaf == 1 or node.leaf == 2) then return true end
        local arg = node.op == "arg" and k.arg[node.leaf]
        if arg and arg.layout == "act" and (arg.h ~= site.h or arg.w ~= site.w) and arg.h * arg.w > 1 then return true end
    end
    return false
end

-- The description with the pixels of its activations numbered through: h is 1, w their number.
function L.cu_flat(k)
    local arg = {}
    for i = 0, k.arg_count - 1 do
        arg[i] = k.arg[i]
        if arg[i].layout == "act" then arg[i] = setmetatable({h = 1, w = arg[i].h * arg[i].w}, {__index = k.arg[i]}) end
    end
    return setmetatable({arg = arg}, {__index = k})
end

-- ---- a row's place ----

-- Is the name mentioned in the lines?
local function mentions(lines, name)
    for _, line in ipairs(lines) do
        if line:find("%f[%w_]" .. name .. "%f[^%w_]") then return true end
    end
    return false
end

-- Lines that name, as `body` wants it, the row's image and pixel; `first` is the tile's first pixel.
local function place(g, first, w, body)
    local lines = {}
    local function name(what, text)
        if mentions(body, what) then lines[#lines + 1] = string.format("const int %s = %s;", what, text) end
    end
    local pixel = g.images == 1 and "row" or first .. " + row / 16"
    name("h", string.format("(%s) / %d", pixel, w))
    name("w", string.format("(%s) %% %d", pixel, w))
    name("p", pixel)
    if g.images == 16 then name("n", "row % 16") end
    return L.append(lines, body)
end

local function position(hw)
    return hw and {nb = "nb", h = "h", w = "w", n = "n", c = "c"} or {nb = "nb", h = "0", w = "p", n = "n", c = "c"}
end

-- Lines that name the thread's place among the threads, before those of `body`.
local function threads(g, body)
    local lines = {string.format("const int ty = %s;", L.over("rg_tid()", g.lanes))}
    if mentions(body, "tx") then
        lines[1] = string.format("const int tx = rg_tid() %% %d, ty = %s;", g.lanes, L.over("rg_tid()", g.lanes))
    end
    return L.append(lines, body)
end

local function braces(lines, head)
    local out = {head and head .. " {" or "{"}
    L.append(out, L.indent(lines))
    out[#out + 1] = "}"
    return out
end

-- ---- stores and reductions of a site over all rows ----

-- One row's lines: outer (for before the loop) and inner.
local function row_lines(k, site, g, o)
    local hw = o.hw or L.cu_needs_hw(k, site)
    local outer, inner = L.cu_site(hw and k or L.cu_flat(k), site, {
        pos = position(hw), width = g.width, acc = o.acc, row = o.row, reduce = L.cu_sum_add(site, g),
    })
    local lines = L.append(L.append({}, o.anchor or {}), inner)
    if L.cu_sum_counts(site) then lines[#lines + 1] = "seen += n < live;" end
    return outer, place(g, o.first, site.w, lines)
end

-- A thread's channels, all rows.
local function span_lines(k, site, g, o)
    local outer, inner = row_lines(k, site, g, o)
    local rows = L.append(L.append({}, o.before or {}), outer)
    L.append(rows, braces(inner, string.format("for (int row = ty; row < rows; row += %d)", g.rows)))
    local lines = {}
    if g.span > 1 then lines[1] = "const int c = c0 + tx * " .. g.width .. ";"
    elseif mentions(rows, "c") then lines[1] = "const int c = 0;" end
    for _, class in ipairs {"part", "image"} do L.append(lines, L.cu_sum_begin(site, g, class)) end
    if site.c % g.span ~= 0 then
        return L.append(lines, braces(rows, string.format("if (c < %d)", site.c)))
    end
    return L.append(lines, rows)
end

-- The results of the channels, after all rows.
local function span_end(k, site, g)
    local lines, put = {}, {}
    for _, class in ipairs {"part", "image"} do L.append(put, L.cu_sum_put(site, g, class)) end
    if #put == 0 then return {} end
    L.append(lines, put)
    lines[#lines + 1] = "rg_barrier();"
    for _, class in ipairs {"part", "image"} do
        L.append(lines, L.cu_sum_finish(k, site, g, class, g.span == 1 and "0" or "c0 + i"))
    end
    lines[#lines + 1] = "rg_barrier();"
    return lines
end

-- A block of lines that evaluates the site for all rows of the tile, stores, reduces. o:
--   first   C text: the tile's first pixel
--   chunks  1, or: the tile covers one span of so many (`chunk` is in scope)
--   hw      true: the anchor wants h and w
--   anchor  lines before the site's own, in which h, w, n, c are in scope; acc: what they leave; before: lines for the channels c
--   row     C texts of ROW leaves
function L.cu_rows_each(k, site, g, o)
    local lines = L.cu_sum_begin(site, g, "whole")
    local body = L.append(span_lines(k, site, g, o), span_end(k, site, g))
    if o.chunks > 1 then
        lines[#lines + 1] = string.format("const int c0 = chunk * %d;", g.span)
        L.append(lines, body)
    elseif site.c <= g.span then
        if g.span > 1 then lines[#lines + 1] = "const int c0 = 0;" end
        L.append(lines, body)
    else
        L.append(lines, braces(body, string.format("for (int c0 = 0; c0 < %d; c0 += %d)", site.c, g.span)))
    end
    local whole = L.cu_sum_put(site, g, "whole")
    if #whole > 0 then
        L.append(lines, whole)
        lines[#lines + 1] = "rg_barrier();"
        L.append(lines, L.cu_sum_finish(k, site, g, "whole"))
        lines[#lines + 1] = "rg_barrier();"
    end
    return braces(threads(g, lines))
end

-- ---- rows of a reduction over channels ----

-- Statement that takes a value into a row's result; surplus channels do not count.
local function into_row(site, g)
    return function(out, _, value)
        local name = "s" .. out.row
        local inside = g.width == 4 and site.c % 4 ~= 0 and string.format("if (c + j < %d) ", site.c) or ""
        if out.kind == "max" then return string.format("%s%s = rg_max(%s, %s);", inside, name, name, value) end
        return string.format("%s%s += %s;", inside, name, value)
    end
end

local function exchange(site, g)
    local lines = {"RG_UNROLL", string.format("for (int m = %d; m > 0; m /= 2) {", g.lanes // 2)}
    for i = 0, site.out_count - 1 do
        local name = "s" .. site.out[i].row
        local other = string.format("rg_shfl_xor(%s, m)", name)
        lines[#lines + 1] = site.out[i].kind == "max" and string.format("    %s = rg_max(%s, %s);", name, name, other)
            or string.format("    %s += %s;", name, other)
    end
    lines[#lines + 1] = "}"
    return g.lanes > 1 and lines or {}
end

-- A block of lines that leaves the site's reductions over C (site: those outputs alone) in shared memory, by row; a barrier ends it.
function L.cu_rows_rows(k, site, g, o)
    local hw = L.cu_needs_hw(k, site)
    local outer, inner = L.cu_site(hw and k or L.cu_flat(k), site, {
        pos = position(hw), width = g.width, row = o.row, reduce = into_row(site, g),
    })
    local start, finish = {}, {}
    for i = 0, site.out_count - 1 do
        local out = site.out[i]
        start[#start + 1] = string.format("float s%d = %s;", out.row, out.kind == "max" and L.float(-math.huge) or "0.0f")
        finish[#finish + 1] = string.format("if (tx == 0 && row < rows) row%d[row] = s%d;", out.row, out.row)
    end
    local head = string.format("for (int c = tx * %d; c < %d; c += %d)", g.width, site.c, g.span)
    local row = place(g, o.first, site.w, braces(L.append(outer, inner), head))
    local body = L.append({"const int row = r + ty;"}, start)
    L.append(body, braces(row, "if (row < rows)"))
    L.append(L.append(body, exchange(site, g)), finish)
    local lines = braces(body, string.format("for (int r = 0; r < rows; r += %d)", g.rows))
    lines[#lines + 1] = "rg_barrier();"
    return braces(threads(g, lines))
end
