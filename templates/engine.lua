-- How templates are run: the writer behind `${}`, includes, the prelude, the choice of variants. Called with a function of the
-- host's: template(name) gives a compiled template.
local template = ...
local engine, writer = {}, {}
writer.__index = writer

-- ---- text ----

local function shown(value)
    if type(value) == "string" then return value end
    if math.type(value) == "integer" then return tostring(value) end
    if math.type(value) == "float" then error("a float in ${}: format it", 3) end
    error("a " .. type(value) .. " value in ${}", 3)
end

function writer:text(literal)
    self[#self + 1] = literal
end

function writer:put(value)
    self[#self + 1] = shown(value)
end

-- ${} alone on its line: a text or a list of lines, each indented; an empty list leaves no line.
function writer:block(indent, value)
    local lines = value
    if type(value) ~= "table" then
        lines = {}
        local text = shown(value)
        if text ~= "" and text:sub(-1) ~= "\n" then text = text .. "\n" end
        for line in text:gmatch("([^\n]*)\n") do lines[#lines + 1] = line end
    end
    for _, line in ipairs(lines) do self[#self + 1] = line == "" and "\n" or indent .. shown(line) .. "\n" end
end

-- The text that a compiled template writes; it sees `parameters` as p.
function engine.run(compiled, parameters)
    local out = setmetatable({}, writer)
    compiled(out, parameters or {})
    return table.concat(out)
end

function include(name, parameters)
    return engine.run(template(name), parameters)
end

-- ---- the prelude ----

-- Sections begin with a line `//@ name`; what stands before the first is always pasted.
local function sections(text)
    local list, current = {}, {lines = {}}
    local head = current
    for line in text:gmatch("([^\n]*)\n") do
        local name = line:match("^//@ ([%w_]+)$")
        if name then
            current = {name = name, lines = {}}
            list[#list + 1] = current
        else
            current.lines[#current.lines + 1] = line
        end
    end
    for _, section in ipairs(list) do section.text = table.concat(section.lines, "\n") .. "\n" end
    return table.concat(head.lines, "\n") .. "\n", list
end

local function mark_names(text, names)
    for name in text:gmatch("rg_[%w_]+") do names[name] = true end
end

-- The head and those sections whose names the body, or a section that is pasted, mentions. A section may use earlier ones alone.
local function prelude(body)
    local head, list = sections(include(t.prelude))
    local names, pasted = {}, {}
    mark_names(body, names)
    for i = #list, 1, -1 do
        if names[list[i].name] then
            table.insert(pasted, 1, list[i].text)
            mark_names(list[i].text, names)
        end
    end
    return head .. table.concat(pasted)
end

function engine.render(name, description, symbol)
    rawset(_G, "k", description)
    rawset(_G, "sym", symbol)
    local body = include(name)
    return prelude(body):gsub("\n*$", "\n\n") .. body
end

-- ---- variants ----

local function whole(plan, name, fallback)
    local value = plan[name]
    if value == nil then value = fallback end
    local int = math.tointeger(value)
    if not int or int < 0 then error("plan's " .. name .. " is not a whole number", 0) end
    return int
end

local function parameters(params)
    local list = {}
    for name in pairs(params or {}) do list[#list + 1] = {name = name, value = whole(params, name)} end
    table.sort(list, function(a, b) return a.name < b.name end)
    return list
end

local function candidate(row, place, description)
    local plan = row.plan(description, t)
    return {
        name = row.name, file = row.template, place = place, param = parameters(plan.params),
        tiles_per_block = whole(plan, "tiles_per_block", 0), tiles_fixed = whole(plan, "tiles_fixed", 0),
        parts_per_block = whole(plan, "parts_per_block", 0), scratch_floats = whole(plan, "scratch_floats", 0),
        threads = whole(plan, "threads", 0), shared_bytes = whole(plan, "shared_bytes", 0), counters = whole(plan, "counters", 0),
        complete = plan.complete ~= false, cost_us = plan.cost_us + 0.0,
        weights = plan.weights, wino_m = whole(plan, "wino_m", 0),
    }
end

-- Variants that t.only names (with commas between names) are used wherever they apply, whatever the kind.
local function narrow(list)
    local only = {}
    for _, one in ipairs(list) do
        if ("," .. t.only .. ","):find("," .. one.name .. ",", 1, true) then only[#only + 1] = one end
    end
    return #only > 0 and only or list
end

-- A name in t.only that no row of the target has, or nil; all names that there are.
function engine.unknown_variant(rows)
    local known, names = {}, {}
    for _, row in ipairs(rows) do
        if (row.target or "cpu") == t.name and not known[row.name] then
            known[row.name] = true
            names[#names + 1] = row.name
        end
    end
    for name in (t.only .. ","):gmatch("([^,]*),") do
        if not known[name] then return name, table.concat(names, ", ") end
    end
end

-- Those that apply, cheapest first; ties in the order of the list.
function engine.candidates(rows, description)
    local list = {}
    for place, row in ipairs(rows) do
        local here = (row.target or "cpu") == t.name
        if here and row.kind == description.kind and row.applies(description, t) then
            list[#list + 1] = candidate(row, place, description)
        end
    end
    if t.only then list = narrow(list) end
    table.sort(list, function(a, b)
        if a.cost_us ~= b.cost_us then return a.cost_us < b.cost_us end
        return a.place < b.place
    end)
    return list
end

-- An unset name is an error from here on.
function engine.seal()
    local function unset(_, name) error("unset name '" .. tostring(name) .. "'", 2) end
    setmetatable(_G, {__index = unset, __newindex = unset})
end

return engine
