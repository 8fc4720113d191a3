-- Weight gradients on the matrix unit. One pixel of 16 images is a step of the contraction: A = x' (16 input channels x 16 images),
-- B = dy (16 images x 8 output channels), both from shared memory [pixel][16 images][channels] in the format.
--
-- A block takes gh x gw taps of ct = wc * mc * 16 input channels and kt = wk * nk * 8 output channels. A warp keeps the sums of all
-- these taps for mc * 16 x nk * 8 of them; wp groups of warps share out the rows of a patch, and are added up at the end. Patches of
-- ph x pw pixels of dy, and the pixels of x that these taps meet, go through shared memory, `stages` buffers of them.
local L = ...

-- The longest chain of sums within the matrix unit, which truncates: 2048 steps lose 2048 * 2^-24 of the largest partial sum at most.
-- Longer sums are split into parts, which are added up in f32.
L.mma_chain = 2048

-- ---- storage of the formats in shared memory ----
--
-- Channels lie in units of 8; unit u of image n is stored at unit u ^ swizzle(n) of its row, so that 8 rows of 16 bytes (16-bit formats,
-- ldmatrix) or 4 rows of 8 words (tf32, plain loads) meet no bank twice. Numbers of channels are powers of two.

local storage = {
    bf16 = {type = "rg_u16", bytes = 2, vector = 8, put4 = "rg_store4_bf16", images = 16},
    f16 = {type = "rg_u16", bytes = 2, vector = 8, put4 = "rg_store4_f16", images = 16},
    tf32 = {type = "float", bytes = 4, vector = 4, put4 = "rg_store4", images = 8},
}

function L.mma_storage(k)
    return storage[k.contr[0].format]
end

-- C text of where channel `c` (a multiple of 4, or with `low` = false of 8; a text) of image `n` lies in a pixel of `channels`.
function L.mma_swizzled(format, channels, n, c, low)
    local units, most = channels // 8, format.bytes == 2 and 8 or 4
    local text = L.times(n, channels) .. " + "
    if units == 1 then return text .. c end
    local turn = string.format("%s %% %d", L.over(L.paren(n), math.max(1, most // units)), math.min(most, units))
    return text .. string.format("(%s / 8 ^ %s) * 8", L.paren(c), turn) .. (low and " + " .. L.paren(c) .. " % 8" or "")
end

-- ---- the numbers of a cut ----

-- Slots of an axis that a patch of `outs` pixels and `taps` taps reads: first and how many. Those outside the image are left out where
-- there is one patch and one group of taps.
local function slots(a, off, outs, taps, single)
    local all = L.cu_slots(a, outs, taps)
    if not single then return 0, all end
    local first = math.min(all - 1, math.max(0, L.ceil_div(-off, a.step)))
    local last = math.min(all, (a.extent - 1 - off) // a.step + 1)
    return first, math.max(1, last - first)
end

local names = {"ph", "pw", "gh", "gw", "mc", "nk", "wc", "wk", "wp", "stages", "strips"}

-- Registers where `pixels` of dy are kept.
local function registers(g, pixels)
    return L.round_up(g.sums * 4 + pixels * g.nk * 2 + g.mc * 9 + 44, 8)
end

-- Fragments of dy serve all rows of taps where there is room for those of a row of pixels; else a few at a time, for each row of taps.
local function settle_registers(g)
    local few = math.min(g.pw, L.ceil_div((g.gw - 1) * g.tap_w + 1, g.stride_w) + 1)
    g.registers, g.keep = registers(g, few), false
    g.resident = g.registers <= 255 and L.cu_resident(g.threads, g.registers, g.shared)
    local all = registers(g, g.pw)
    g.keep = g.resident and g.gh > 1 and all <= 255 and L.cu_resident(g.threads, all, g.shared) == g.resident
    if g.keep then g.registers = all end
end

-- Few channels: four neighbouring pixels of four channels each are the 16 rows of A, so that a slot is what a pixel of dy has for four
-- columns of taps. x lies as [row][16 images][pixel][4 channels]; the images' pitch is an odd number of 16 bytes.
local function as_stem(g)
    g.stem, g.gw, g.stride_w, g.tap_w = true, L.ceil_div(g.s, 4), 1, 4 // g.axis_w.in_step
    g.first_w, g.slots_w = 0, g.pw + (g.gw - 1) * g.tap_w
    g.width = (g.slots_w - 1) * g.axis_w.in_step + 4
    g.image_pitch = 4 * (g.width % 4 == 2 and g.width or L.round_up(g.width, 4) + 2)
    g.slot_pitch, g.row_pitch = g.axis_w.in_step * 4, 16 * g.image_pitch
    g.slice_s, g.slice_c = g.s, g.x.c
end

function L.mma_wgrad(k, p)
    local contr = k.contr[0]
    local g = {x = k.site[0], dy = k.site[1], w_arg = contr.w_arg, w = k.arg[contr.w_arg], r = contr.r, s = contr.s}
    for _, name in ipairs(names) do g[name] = p[name] end
    g.format = L.mma_storage(k)
    g.axis_h, g.axis_w = L.cu_axis(k, "h")[0], L.cu_axis(k, "w")[0]
    g.stride_h, g.stride_w = g.axis_h.in_step // g.axis_h.step, g.axis_w.in_step // g.axis_w.step
    g.tap_h, g.tap_w = g.axis_h.tap_in // g.axis_h.step, g.axis_w.tap_in // g.axis_w.step
    g.ct, g.kt = g.wc * g.mc * 16, g.wk * g.nk * 8
    g.group, g.warps = g.wc * g.wk * 32, g.wc * g.wk * g.wp
    g.threads = g.group * g.wp
    g.groups_h, g.groups_w = L.ceil_div(g.r, g.gh), p.stem and 1 or L.ceil_div(g.s, g.gw)
    g.chunks_c, g.chunks_k = L.ceil_div(g.x.c, g.ct), L.ceil_div(g.w.kp, g.kt)
    g.tiles = g.groups_h * g.groups_w * g.chunks_c * g.chunks_k
    g.patches_h, g.patches_w = L.ceil_div(g.dy.h, g.ph), L.ceil_div(g.dy.w, g.pw)
    g.patches = g.patches_h * g.patches_w
    g.first_h, g.slots_h = slots(g.axis_h, contr.gh.off, g.ph, g.gh, g.patches_h == 1 and g.groups_h == 1)
    g.first_w, g.slots_w = slots(g.axis_w, contr.gw.off, g.pw, g.gw, g.patches_w == 1 and g.groups_w == 1)
    g.off_h, g.off_w = contr.gh.off, contr.gw.off
    g.slot_pitch, g.row_pitch = 16 * g.ct, g.slots_w * 16 * g.ct
    g.slice_s, g.slice_c = g.gw, g.ct
    if p.stem then as_stem(g) end
    g.x_size, g.y_size = g.slots_h * g.row_pitch, g.ph * g.pw * 16 * g.kt
    g.buffer, g.sums = g.x_size + g.y_size, g.gh * g.gw * g.mc * g.nk
    -- Groups of warps are added up through the same memory, some sums at a time.
    local room = g.stages * g.buffer * g.format.bytes
    g.at_once = g.wp == 1 and 0 or math.max(1, math.min(g.sums, room // ((g.wp - 1) * g.group * 16)))
    g.shared = math.max(room, (g.wp - 1) * g.group * 16 * g.at_once)
    settle_registers(g)
    g.weights = L.ceil_div(g.w.kp, g.w.kb) * g.r * g.s * g.x.c * g.w.kb
    return g
end

-- ---- costs ----

-- Steps of the matrix unit for one pixel of 16 images.
local function steps_of(format)
    return 16 // format.images * (t.arch < 80 and 2 or 1)
end

-- Instructions to bring `pixels` pixels of `channels` of an operand.
local function stage_issue(k, g, site, pixels, channels)
    local plain = L.mma_is_plain(k, site, g.format)
    local vectors = pixels * 16 * channels / (plain and g.format.vector or 4) / 32
    return vectors * (plain and 16 or 24 + L.cu_site_issue(site))
end

-- Cycles of a multiprocessor for a block's share of one image block: products, what they read from shared memory, all instructions.
local function block_cycles(k, g)
    local contr, steps = k.contr[0], 16 // g.format.images
    local rows = L.live_taps(contr.gh, g.r, g.dy.h, g.x.h) / g.groups_h
    local columns = g.patches_w == 1 and not g.stem and L.live_taps(contr.gw, g.s, g.dy.w, g.x.w) / g.groups_w or g.patches_w * g.pw * g.gw
    local warps = g.wc * g.wk
    local mmas = rows * columns * g.mc * g.nk * warps * steps
    local a, b = rows * g.patches_w * g.slots_w * g.mc * warps * steps, (g.keep and g.dy.h or rows) * g.patches_w * g.pw * g.nk * warps * steps
    local loads = steps == 1 and (a + b / 2) * 4 or a * 4 + b * 2
    local issue = mmas + loads / (steps == 1 and 4 or 1) + rows * g.patches_w * warps * 40
    local pixels, channels = g.stem and g.slots_h * g.width or g.slots_h * g.slots_w, g.stem and 4 or g.ct
    local stage = stage_issue(k, g, g.x, pixels, channels) + stage_issue(k, g, g.dy, g.ph * g.pw, g.kt)
    local uneven = L.ceil_div(g.ph, g.wp) * g.wp / g.ph
    return math.max(mmas * 1.5, loads, issue / 4) * uneven + g.patches * (stage / 4 + g.warps * 10)
end

-- Waiting for the first patch, adding up the groups, storing: once a block.
local function fixed_cycles(g)
    return 1500 + g.sums * g.warps * (g.wp > 1 and 6 or 4)
end

-- Parts of 1, 2, 3, 4, 6, 8, 12, ... patches.
local function strip_counts(patches)
    local list, n = {patches}, 2
    while n < 2 * patches do
        list[#list + 1] = L.ceil_div(patches, n)
        if n + n // 2 < 2 * patches then list[#list + 1] = L.ceil_div(patches, n + n // 2) end
        n = n * 2
    end
    return list
end

local function consider(k, best, p, split)
    local g = L.mma_wgrad(k, p)
    if not g.resident then return end
    local cycles, n = block_cycles(k, g), k.instances or 1
    for _, strips in ipairs(split and strip_counts(g.patches) or {1}) do
        local parts = split and t.max_blocks * strips or 1
        local chain = g.dy.h * g.dy.w * (split and 1 or t.max_blocks)
        -- The part with the most patches sets the time.
        local most = L.ceil_div(g.patches, strips)
        if split then chain = math.min(chain, most * g.ph * g.pw) end
        local share = split and most / g.patches or t.max_blocks
        local us = L.cu_issue_us(n * g.tiles * parts, g.warps, 4 * (cycles * share + fixed_cycles(g)), g.resident)
        local staged = n * g.tiles * g.patches * t.max_blocks * g.buffer * g.format.bytes
        us = L.cu_launch_us + math.max(us, L.cu_traffic_us(k), staged / 5500 / 1000)
        local more, heaps = L.cu_parts_us(n, parts, g.weights, g.gh * g.gw * g.ct * g.kt)
        if split then us = us + more end
        if chain * steps_of(g.format) <= L.mma_chain and (not best.us or us < best.us) then
            best.us, best.g, best.p, best.strips, best.heaps = us, g, p, strips, split and heaps or 0
        end
    end
end

-- ---- cuts to choose from ----

local function tap_groups(k)
    local r, s = k.contr[0].r, k.contr[0].s
    local list = {{1, 1}}
    if s > 1 then list[#list + 1] = {1, s} end
    if r > 1 then list[#list + 1] = {r, s} end
    return list
end

local function patch_list(k)
    local list, p, q = {}, k.site[1].h, k.site[1].w
    for _, ph in ipairs {1, 2, 3, 4, 6} do
        for n = 1, 4 do
            local pw = math.min(16, L.ceil_div(q, n))
            local again = n > 1 and pw == math.min(16, L.ceil_div(q, n - 1))
            if ph <= p and not again then list[#list + 1] = {ph, pw} end
        end
    end
    return list
end

-- A warp's tile, and the warps of a block: no more than the channels need.
local function tile_list(k, taps)
    local list, c, kp = {}, k.site[0].c, k.arg[k.contr[0].w_arg].kp
    local function fits(channels, unit, whole)
        return channels == unit or channels < 2 * whole
    end
    for _, mc in ipairs {1, 2} do
        for _, nk in ipairs {1, 2, 4, 8} do
            for _, wc in ipairs {1, 2, 4} do
                for _, wk in ipairs {1, 2, 4, 8} do
                    local ct, kt = wc * mc * 16, wk * nk * 8
                    local room = taps * mc * nk <= 40 and wc * wk <= 8 and (nk > 1 or wk == 1)
                    if room and fits(ct, 16, c) and fits(kt, 8, kp) then
                        list[#list + 1] = {mc = mc, nk = nk, wc = wc, wk = wk}
                    end
                end
            end
        end
    end
    return list
end

local function each_cut(k, split, visit)
    for _, group in ipairs(tap_groups(k)) do
        for _, tile in ipairs(tile_list(k, group[1] * group[2])) do
            for _, patch in ipairs(patch_list(k)) do
                for _, wp in ipairs {1, 2, 4} do
                    local warps = wp * tile.wc * tile.wk
                    if wp > 1 and (wp > patch[1] or warps > 8) then break end
                    local few = warps < 4 and 2 * wp <= patch[1]
                    if not few then visit {ph = patch[1], pw = patch[2], gh = group[1], gw = group[2], mc = tile.mc, nk = tile.nk, wc = tile.wc,
                                   wk = tile.wk, wp = wp, stages = 2, strips = 1, split = split and 1 or 0} end
                end
            end
        end
    end
end

-- All rows of taps and all channels are a block's, or a row of taps is.
local function each_stem_cut(k, split, visit)
    local r, taps, kp = k.contr[0].r, L.ceil_div(k.contr[0].s, 4), k.arg[k.contr[0].w_arg].kp
    for _, gh in ipairs(r > 1 and {r, 1} or {1}) do
        for _, patch in ipairs(patch_list(k)) do
            for _, nk in ipairs {1, 2, 4} do
                for _, wk in ipairs {1, 2, 4, 8} do
                    for _, wp in ipairs {1, 2, 4} do
                        local room = gh * taps * nk <= 40 and wk * wp <= 8 and wp <= patch[1] and (nk * wk * 8 < 2 * kp or nk * wk == 1)
                        if room then
                            visit {ph = patch[1], pw = patch[2], gh = gh, gw = taps, mc = 1, nk = nk, wc = 1, wk = wk, wp = wp,
                                   stages = 2, strips = 1, split = split and 1 or 0, stem = 1}
                        end
                    end
                end
            end
        end
    end
end

-- A third buffer where copies are all that fills them, patches are enough to use it, and it costs no block its place.
local function deepen(k, best, split)
    local g, deep = best.g, {}
    best.p.strips, best.p.heaps = best.strips, best.heaps
    if not (L.mma_is_plain(k, g.x, g.format) and L.mma_is_plain(k, g.dy, g.format)) then return g end
    local patches = split and g.patches // best.strips or g.patches * t.max_blocks
    for name, value in pairs(best.p) do deep[name] = value end
    deep.stages = 3
    local more = L.mma_wgrad(k, deep)
    if patches < 3 or more.resident ~= g.resident then return g end
    best.p = deep
    return more
end

-- The cheapest cut. Every description has one: a row of pixels, one tap, 16 x 8 channels.
function L.mma_wgrad_plan(k, split, stem)
    local best = {}
    local visit = stem and each_stem_cut or each_cut
    visit(k, split, function(p) consider(k, best, p, split) end)
    local g = deepen(k, best, split)
    return {params = best.p, threads = g.threads, shared_bytes = g.shared, complete = not split, cost_us = best.us,
            tiles_per_block = split and g.tiles * best.strips or 0, tiles_fixed = split and 0 or g.tiles,
            parts_per_block = split and best.strips or 0, counters = split and g.tiles * (1 + best.heaps) or 0}
end

-- Can the matrix unit of this architecture multiply the format?
function L.mma_has(format)
    return format == "f16" or (format == "bf16" or format == "tf32") and t.arch >= 80
end

function L.mma_wgrad_applies(k, split)
    local contr, dy = k.contr[0], k.site[1]
    if not L.mma_has(contr.format) or not L.cu_wgrad_applies(k) then return false end
    local kb = k.arg[contr.w_arg].kb
    if kb < 8 or kb & (kb - 1) ~= 0 then return false end
    return split or dy.h * dy.w * t.max_blocks * steps_of(L.mma_storage(k)) <= L.mma_chain
end

-- Few channels, in 16 bits; a pixel of dy begins at a multiple of 16 bytes of the rows of x.
function L.mma_stem_wgrad_applies(k, split)
    local geom = k.contr[0].gw
    return L.mma_wgrad_applies(k, split) and k.contr[0].format ~= "tf32" and k.site[0].c <= 4 and geom.tap_mul == 1
        and (geom.mul == 2 or geom.mul == 4)
end

-- ---- text ----

-- Is the operand an argument that lies in memory as it is wanted, in groups that one copy takes?
function L.mma_is_plain(k, site, format)
    if not L.is_plain(k, site) then return false end
    local arg = k.arg[site.expr[site.root].leaf]
    return L.cu_element_bytes(arg) == format.bytes and arg.cp % format.vector == 0
end

-- The instruction that multiplies fragments: C texts of sums, A and B.
function L.mma_products(format, d, a, b)
    if format == "f16" and t.arch < 80 then
        return {string.format("rg_mma_f16_k8(%s, %s, %s);", d, a, b), string.format("rg_mma_f16_k8(%s, %s + 2, %s + 1);", d, a, b)}
    end
    return {string.format("rg_mma_%s(%s, %s, %s);", format, d, a, b)}
end

-- A thread's sum of output channel k + j * 8 + lane: zero beyond the channels, since the largest gradient is looked for in whole arenas.
function L.mma_wgrad_sum(g, lane)
    local sum = "acc[f / 2][" .. L.plus("upper / 4", lane) .. "]"
    return g.w.k == g.w.kp and sum or string.format("%s < %d ? %s : 0.0f", L.plus("k + j * 8", lane), g.w.k, sum)
end

-- Lines that give value[4], channels c to c + 3 of a site's root at the position of cu_mma_stage.cu.tpl; zero beyond the channels.
function L.mma_values(k, site)
    if L.cu_width(k, site) == 1 then return L.mma_channels(k, site, 4) end
    local pos = {nb = "nb", h = "h", w = "w", n = "n", c = "c"}
    local function keep(e)
        return "value[j] = " .. (site.c % 4 ~= 0 and "c + j < " .. site.c .. " ? " .. e .. " : 0.0f" or e) .. ";"
    end
    local outer, inner = L.cu_site(k, site, {pos = pos, width = 4, skip_stores = true, root = keep})
    return L.append(outer, inner)
end

-- C condition that `at`, counted in slots from pixel 0's tap 0, is a pixel of the patch (or is none).
local function pixel_test(g, at, whole, none, joint)
    local list = {}
    if g.stride_w > 1 then list[1] = at .. " % " .. g.stride_w .. whole end
    list[#list + 1] = string.format(none, at, at, g.pw * g.stride_w)
    return table.concat(list, joint)
end

function L.mma_pixel_is_there(g, at)
    return pixel_test(g, at, " == 0", "%s >= 0 && %s < %d", " && ")
end

function L.mma_pixel_is_not_there(g, at)
    return pixel_test(g, at, " != 0", "%s < 0 || %s >= %d", " || ")
end
