-- What the CUDA templates share. Loaded after lib.lua and lib_*.lua, for target cuda alone.
--
-- A thread evaluates a site for `width` neighbouring channels (4, or 1) at a time: operands are loaded first, then one loop over the
-- lanes j holds the tree, written by L.dag with floats for vectors; then results are stored. Within a kernel the arguments are a0,
-- a1, ...; b0, b1, ... are those of layout ACT from image block nb on (L.cu_bases), so that offsets are 32-bit numbers.
--
-- A position is that of lib.lua: C texts nb, h, w, n, c; they are made of names, numbers, sums and products.
local L = ...

-- ---- numbers ----

local finite = L.float

function L.float(v)
    if v ~= v then return "rg_nan()" end
    if v == math.huge then return "rg_inf()" end
    if v == -math.huge then return "-rg_inf()" end
    return finite(v)
end

function L.splat(v)
    return L.float(v)
end

-- a % n and a * n as text, where n may be 1 and a may be "0".
function L.cu_mod(a, n)
    return n == 1 and "0" or L.paren(a) .. " % " .. n
end

function L.cu_product(a, n)
    return a == "0" and "0" or L.times(a, n)
end

-- A sum of texts without its zeros.
function L.cu_sum(...)
    local sum = "0"
    for _, text in ipairs {...} do
        if sum == "0" then sum = text
        elseif text:find("^%-") then sum = sum .. " - " .. text:sub(2)
        elseif text ~= "0" then sum = sum .. " + " .. text end
    end
    return sum
end

-- ---- arguments ----

local c_type = {f32 = "float", bf16 = "rg_u16", f16 = "rg_u16", u32 = "unsigned"}

-- "const float *", "rg_u16 *": what points to an argument's elements.
function L.cu_pointer(arg)
    return (arg.written and "" or "const ") .. c_type[arg.type or "f32"] .. " *"
end

function L.cu_element_bytes(arg)
    return c_type[arg.type] == "rg_u16" and 2 or 4
end

local bytes_as_floats = L.arg_bytes

function L.arg_bytes(arg, blocks)
    return bytes_as_floats(arg, blocks) * L.cu_element_bytes(arg) // 4
end

-- ---- the kernel's frame ----

local function each_arg(k, list, text)
    local all = {}
    for i = 0, k.arg_count - 1 do
        if not list or list[i] then all[#all + 1] = text(i) end
    end
    all[#all + 1] = text(nil)
    return table.concat(all, ", ")
end

-- "float *a0, const float *a1, const rg_ctrl *ctl": parameters of a function that needs those in `list` alone (a set of indices as
-- L.site_args gives; nil: all of them).
function L.cu_params(k, list)
    return each_arg(k, list, function(i) return i and L.cu_pointer(k.arg[i]) .. "a" .. i or "const rg_ctrl *ctl" end)
end

-- The same as names, to hand them on.
function L.cu_args(k, list)
    return each_arg(k, list, function(i) return i and "a" .. i or "ctl" end)
end

-- ---- instances ----
--
-- A kernel of k.instances has the parameters of each, one instance after the other: those of instance 1 are a<k.arg_count> and so on.
-- Block b is block b / k.instances of instance b % k.instances; a0, a1, ... are its own arguments once L.cu_own_args has run.

function L.cu_kernel_params(k)
    local all = {}
    for i = 0, (k.instances or 1) * k.arg_count - 1 do all[#all + 1] = L.cu_pointer(k.arg[i % k.arg_count]) .. "a" .. i end
    all[#all + 1] = "const rg_ctrl *ctl"
    return table.concat(all, ", ")
end

function L.cu_own_args(k)
    local lines = {}
    for i = 1, (k.instances or 1) - 1 do
        local moved = {}
        for a = 0, k.arg_count - 1 do moved[#moved + 1] = string.format("a%d = a%d", a, i * k.arg_count + a) end
        lines[#lines + 1] = string.format("if (rg_block() %% %d == %d) %s;", k.instances, i, table.concat(moved, ", "))
    end
    return lines
end

-- The number of the block among those of its instance; block: C text of its number.
function L.cu_block(k, block)
    return L.over(block or "rg_block()", k.instances or 1)
end

-- The arguments that a site's root reads.
function L.cu_root_args(site)
    local need, used = {[site.root] = true}, {}
    for i = site.root, 0, -1 do
        local node = site.expr[i]
        if need[i] and node.op == "arg" then used[node.leaf] = true end
        for _, operand in pairs {need[i] and node.a, need[i] and node.b, need[i] and node.c} do need[operand] = true end
    end
    return used
end

-- Everything that a site's nodes, stores and parts touch, as a set of indices.
function L.cu_site_args(site)
    local used = L.site_args(site)
    for i = 0, site.out_count - 1 do
        if site.out[i].arg >= 0 then used[site.out[i].arg] = true end
    end
    return used
end

-- Lines that declare b<i> for the ACT arguments in `list` (a set of indices as L.site_args gives); nb is in scope.
function L.cu_bases(k, list)
    local lines = {}
    for i = 0, k.arg_count - 1 do
        local arg = k.arg[i]
        if list[i] and arg.layout == "act" then
            lines[#lines + 1] = string.format("%sconst b%d = a%d + (long long)nb * %d;", L.cu_pointer(arg), i, i, arg.h * arg.w * 16 * arg.cp)
        end
    end
    return lines
end

-- ---- elements ----

local function plus_channel(at, c)
    return c == "0" and at or at .. " + " .. c
end

-- Address of argument i at the position, as C text.
function L.cu_at(k, i, pos)
    local arg = k.arg[i]
    if arg.layout == "vec" or arg.layout == "flat" then
        return (arg.layout == "vec" and arg.c == 1 or arg.length == 1) and "a" .. i or plus_channel("a" .. i, pos.c)
    end
    if arg.layout ~= "act" then error("argument " .. i .. " (" .. arg.layout .. ") has no element at a position") end
    local at
    if arg.h > 1 then at = L.paren(pos.h) end
    if arg.w > 1 then at = at and "(" .. L.times(at, arg.w) .. " + " .. pos.w .. ")" or L.paren(pos.w) end
    at = at and "(" .. at .. " * 16 + " .. pos.n .. ")" or L.paren(pos.n)
    at = "b" .. i .. " + " .. L.times(at, arg.cp)
    return arg.c == 1 and at or plus_channel(at, pos.c)
end

-- Does argument i have one element for all channels?
function L.cu_is_single(k, i)
    local arg = k.arg[i]
    if arg.layout == "flat" then return arg.length == 1 end
    return arg.c == 1
end

-- Channels that are physically there; nil: any number of whole groups of four.
local function ragged(arg)
    local n = arg.layout == "flat" and arg.length or arg.cp
    return n % 4 ~= 0 and n or nil
end

-- What is read from an argument of type "bf16" or "f16" as a float, and what is written to it; others hold floats.
function L.cu_widen(arg, text)
    return arg.type and string.format("rg_widen_%s(%s)", arg.type, text) or text
end

function L.cu_narrow(arg, text)
    return arg.type and string.format("rg_narrow_%s(%s)", arg.type, text) or text
end

-- The statement that loads argument i at the position as `name` (single: a float; width 4: name[4]).
function L.cu_load(k, i, pos, width, name)
    local arg, at = k.arg[i], L.cu_at(k, i, pos)
    if width == 1 or L.cu_is_single(k, i) then return string.format("const float %s = %s;", name, L.cu_widen(arg, "*(" .. at .. ")")) end
    local n = ragged(arg)
    if n and arg.type then error("argument " .. i .. " (" .. arg.type .. ") is not whole groups of four") end
    if n then return string.format("float %s[4];\nrg_load4_n(%s, %s, %d - %s);", name, name, at, n, L.paren(pos.c)) end
    return string.format("float %s[4];\nrg_load4%s(%s, %s);", name, arg.type and "_" .. arg.type or "", name, at)
end

-- The statement that stores `value` (width 4: the name of a float[4]).
function L.cu_store(k, i, pos, width, value)
    local arg, at = k.arg[i], L.cu_at(k, i, pos)
    if width == 1 or L.cu_is_single(k, i) then
        return string.format("*(%s) = %s;", at, L.cu_narrow(arg, width == 1 and value or value .. "[0]"))
    end
    local n = ragged(arg)
    if n and arg.type then error("argument " .. i .. " (" .. arg.type .. ") is not whole groups of four") end
    if n then return string.format("rg_store4_n(%s, %s, %d - %s);", at, value, n, L.paren(pos.c)) end
    return string.format("rg_put4%s(%s, %s);", arg.type and "_" .. arg.type or "", at, value)
end

-- Four channels at a time, or one? One where an activation's pixel is not whole groups of four (the image's three).
function L.cu_width(k, site)
    for i in pairs(L.site_args(site)) do
        local arg = k.arg[i]
        if arg.layout == "act" and arg.c > 1 and arg.cp % 4 ~= 0 then return 1 end
    end
    return 4
end

local function split_lines(list)
    local out = {}
    for _, text in ipairs(list) do
        for line in (text .. "\n"):gmatch("([^\n]*)\n") do out[#out + 1] = line end
    end
    return out
end

-- ---- sites ----

-- The outputs that are to be made: list of {out, index}.
local function wanted(site, o)
    local list = {}
    for i = 0, site.out_count - 1 do
        local store = site.out[i].kind == "store"
        if store and not o.skip_stores or not store and o.reduce then list[#list + 1] = {out = site.out[i], index = i} end
    end
    return list
end

-- The C text of a leaf that is no argument.
local function other_leaf(node, o)
    if node.op == "ctrl" then return "ctl->scalar[" .. node.leaf .. "]" end
    if node.op == "index" then
        local channel = o.width == 4 and plus_channel("j", o.pos.c) or o.pos.c
        return "(float)(" .. ({[0] = "nb * 16 + " .. o.pos.n, o.pos.h, o.pos.w, channel})[node.leaf] .. ")"
    end
    local text = o[node.op] and o[node.op][node.leaf]
    return text or error("leaf " .. node.op .. " has no meaning here")
end

-- A leaf function for L.dag: arguments are loaded by lines in `outer` (of layout VEC) or `loads`.
local function leaves(k, o, prefix, outer, loads)
    return function(node)
        if node.op ~= "arg" then return other_leaf(node, o) end
        local i, name = node.leaf, prefix .. "x" .. node.leaf
        local list = k.arg[i].layout == "vec" and outer or loads
        list[#list + 1] = o.load and o.load(i, name) or L.cu_load(k, i, o.pos, o.width, name)
        return (o.width == 1 or L.cu_is_single(k, i)) and name or name .. "[j]"
    end
end

-- The lines of one output, into the lists of `to`.
local function make_output(k, o, one, value, prefix, to)
    if one.out.kind ~= "store" then
        to.body[#to.body + 1] = o.reduce(one.out, one.index, value)
    elseif o.width == 1 then
        to.stores[#to.stores + 1] = L.cu_store(k, one.out.arg, o.pos, 1, value)
    else
        local name = prefix .. "y" .. one.index
        to.loads[#to.loads + 1] = "float " .. name .. "[4];"
        to.body[#to.body + 1] = name .. "[j] = " .. value .. ";"
        to.stores[#to.stores + 1] = L.cu_store(k, one.out.arg, o.pos, 4, name)
    end
end

-- A site at a position. o:
--   pos     the position
--   width   4 or 1
--   acc     C texts of ACC leaves by index; at width 4 they may use the lane j
--   row     C texts of ROW leaves by index
--   fin     C texts of FIN leaves by index
--   root    function(value) -> statement inside the loop over lanes, for the site's root; or nil
--   load    function(i, name) -> statement that loads argument i as `name`, or nil where it lies in memory as ever; or nil
--   skip_stores  true: outputs of kind store are left out
--   reduce  function(out, index, value) -> statement inside the loop over lanes, for outputs of other kinds (index: that in
--           site.out); or nil: they are left out
--   prefix  of the names ("e")
-- Result: outer, lines that depend on pos.c alone (loads of vectors: for before a loop over pixels or images), and inner, the
-- lines for this position.
function L.cu_site(k, site, o)
    local prefix, roots = o.prefix or "e", {}
    local to = {outer = {}, loads = {}, body = {}, stores = {}}
    local outs = wanted(site, o)
    if o.root then roots[1] = site.root end
    for _, one in ipairs(outs) do roots[#roots + 1] = one.out.root end
    if #roots == 0 then return {}, {} end
    local dag = L.dag(site, roots, leaves(k, o, prefix, to.outer, to.loads), prefix)
    L.append(to.body, dag.outer)
    L.append(to.body, dag.inner)
    if o.root then to.body[#to.body + 1] = o.root(dag.name(site.root)) end
    for _, one in ipairs(outs) do make_output(k, o, one, dag.name(one.out.root), prefix, to) end
    local inner = split_lines(to.loads)
    local body = split_lines(to.body)
    L.append(inner, o.width == 4 and L.cu_lanes(body) or body)
    return split_lines(to.outer), L.append(inner, to.stores)
end

-- Lines for each lane j of four.
function L.cu_lanes(lines)
    local out = {"RG_UNROLL", "for (int j = 0; j < 4; j++) {"}
    L.append(out, L.indent(lines))
    out[#out + 1] = "}"
    return out
end

-- ---- reductions over N, H, W ----
--
-- A thread gathers its values of `width` channels in registers, in order (begin, add). Each thread's results then go to shared memory
-- (put), row by row of threads, and after a barrier one thread a channel merges the rows in order and writes the part (finish). The
-- channels of a tile are `channels`; those from `k.arg[..].cp` on are not written.
-- Shared memory: float [statistics][rows][channels], L.cu_reduce_floats.

local function statistics(out)
    return out.kind == "moments" and 3 or 1
end

-- The site's outputs that are reductions: list of {out, index, at (first statistic)}; the second result counts statistics.
function L.cu_reductions(site)
    local list, at = {}, 0
    for i = 0, site.out_count - 1 do
        local out = site.out[i]
        if out.kind ~= "store" then
            list[#list + 1] = {out = out, index = i, at = at}
            at = at + statistics(out)
        end
    end
    return list, at
end

function L.cu_reduce_floats(site, rows, channels)
    local _, count = L.cu_reductions(site)
    return count * rows * channels
end

-- Lines that declare a thread's state: r<index>[width] of each reduction and `seen`, the values so far.
function L.cu_reduce_begin(site, width)
    local list = L.cu_reductions(site)
    if #list == 0 then return {} end
    local lines = {"int seen = 0;"}
    for _, red in ipairs(list) do
        if red.out.kind == "moments" then
            lines[#lines + 1] = string.format("rg_moments r%d[%d] = {};", red.index, width)
        elseif red.out.kind == "sum" then
            lines[#lines + 1] = string.format("float r%d[%d] = {};", red.index, width)
        else
            local start = string.rep(L.float(-math.huge), width, ", ")
            lines[#lines + 1] = string.format("float r%d[%d] = {%s};", red.index, width, start)
        end
    end
    return lines
end

-- For `reduce` of L.cu_site: adds where the C condition `counted` holds. After each position `seen += counted` is the caller's to write.
function L.cu_reduce_add(counted, width)
    local lane = width == 4 and "j" or "0"
    return function(out, index, value)
        local to = string.format("r%d[%s]", index, lane)
        if out.kind == "moments" then
            return string.format("if (%s) rg_moments_add(&%s, %s, seen == 0);", counted, to, value)
        elseif out.kind == "sum" then
            return string.format("if (%s) %s += %s;", counted, to, value)
        end
        return string.format("if (%s) %s = rg_max(%s, %s);", counted, to, to, value)
    end
end

-- Lines that leave a thread's state in shared memory. o: shared (C text of a float pointer), rows, row (C text), channels,
-- c (C text: the thread's first channel within the tile), width.
function L.cu_reduce_put(site, o)
    local body = {}
    local lane = o.width == 4 and "j" or "0"
    for _, red in ipairs(L.cu_reductions(site)) do
        local from = string.format("r%d[%s]", red.index, lane)
        local function put(stat, value)
            local at = L.plus(L.times(o.row, o.channels) .. " + " .. o.c .. (o.width == 4 and " + j" or ""),
                              (red.at + stat) * o.rows * o.channels)
            body[#body + 1] = string.format("(%s)[%s] = %s;", o.shared, at, value)
        end
        if red.out.kind == "moments" then
            put(0, "(float)seen")
            put(1, string.format("rg_moments_mean(&%s, (float)seen)", from))
            put(2, string.format("rg_moments_m2(&%s, (float)seen)", from))
        else
            put(0, from)
        end
    end
    if #body == 0 then return {} end
    return o.width == 4 and L.cu_lanes(body) or body
end

-- One reduction's rows merged into its part; `row` and `c` are in scope.
local function finish_one(k, red, o)
    local arg, i = k.arg[red.out.arg], red.out.arg
    local function from(stat)
        return string.format("(%s)[%s]", o.shared, L.plus("row * " .. o.channels .. " + c", (red.at + stat) * o.rows * o.channels))
    end
    local function put(stat, value)
        local at = string.format("a%d + (long long)(%s) * %d", i, o.part, arg.stats * arg.cp)
        return string.format("(%s)[%s] = %s;", at, L.plus(o.first == "0" and "c" or o.first .. " + c", stat * arg.cp), value)
    end
    local loop = string.format("for (int row = 0; row < %d; row++)", o.rows)
    if red.out.kind == "moments" then
        return {"float n = 0.0f, mean = 0.0f, m2 = 0.0f;", loop,
                string.format("    rg_moments_merge(&n, &mean, &m2, %s, %s, %s);", from(0), from(1), from(2)),
                put(0, "n"), put(1, "mean"), put(2, "m2")}
    end
    local sum = red.out.kind == "sum"
    return {string.format("float all = %s;", sum and "0.0f" or L.float(-math.huge)), loop,
            "    all " .. (sum and "+= " .. from(0) or "= rg_max(all, " .. from(0) .. ")") .. ";", put(0, "all")}
end

-- Lines that write the part; a barrier after L.cu_reduce_put stands before them. o: shared, rows, channels, threads, part (C text: number
-- of the part), first (C text: the tile's first channel).
function L.cu_reduce_finish(k, site, o)
    local lines = {}
    for _, red in ipairs(L.cu_reductions(site)) do
        local cp = k.arg[red.out.arg].cp
        lines[#lines + 1] = string.format("for (int c = rg_tid(); c < %d; c += %d) {", o.channels, o.threads)
        if o.first ~= "0" or o.channels > cp then
            lines[#lines + 1] = string.format("    if (%s >= %d) break;", o.first == "0" and "c" or o.first .. " + c", cp)
        end
        L.append(lines, L.indent(finish_one(k, red, o)))
        lines[#lines + 1] = "}"
    end
    return lines
end
