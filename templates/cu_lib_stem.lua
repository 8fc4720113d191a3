-- Convolutions with few input channels on the matrix unit, in 16 bits: four neighbouring pixels of four channels are the 16 steps of a
-- contraction, so that a row of s taps takes ceil(s / 4) of them. The tile, its warps and its epilogue are those of cu_lib_mma_conv.lua.
--
-- In shared memory x lies as [row][16 images][pixel][4 channels], an image an odd number of 16 bytes from the next; weights as
-- [r][group of 4 taps][4 taps x 4 channels][kt], swizzled; zeros for taps and channels that there are not.
local L = ...

function L.stem_applies(k)
    local contr = k.contr[0]
    local gh, gw = contr.gh, contr.gw
    return k.contr_count == 1 and (contr.format == "bf16" or contr.format == "f16") and k.site[contr.site].c <= 4
        and gh.div == 1 and gh.tap_mul > 0 and gw.div == 1 and gw.tap_mul == 1 and (gw.mul == 2 or gw.mul == 4)
        and not k.arg[contr.w_arg].turned and L.mma_conv_applies(k)
end

-- The numbers of a tile: those of L.mma_conv, and what is the stem's own.
function L.stem(k, p)
    local g = L.mma_conv(k, setmetatable({wc = 1, gh = 1, gw = 1, cc = 16, stages = 2}, {__index = p}))
    local contr, h = k.contr[0], g.axis_h[0]
    g.stem, g.stride, g.groups = true, contr.gw.mul, L.ceil_div(contr.s, 4)
    g.step_h, g.stride_h, g.tap_h = h.step, h.in_step // h.step, h.most > 1 and h.tap_in // h.step or 0
    g.slots_h = (g.ph - 1) * g.stride_h + (contr.r - 1) * g.tap_h + 1
    g.width = (g.pw - 1) * g.stride + 4 * g.groups
    g.image_pitch = 4 * (g.width % 4 == 2 and g.width or L.round_up(g.width, 4) + 2)
    g.x_size, g.w_size = g.slots_h * 16 * g.image_pitch, contr.r * g.groups * 16 * g.kt
    local tail = math.max(g.sums + L.cu_reduce_floats(g.out, g.rows, g.kt), L.cu_own_floats(k, k.site[contr.site], g.threads))
    g.shared = math.max((g.x_size + g.w_size) * 2, 4 * tail)
    g.registers = L.round_up(g.pixels * g.nk * 4 + g.nk * 4 + 64, 8)
    g.resident = g.registers <= 248 and L.cu_resident(g.threads, g.registers, g.shared)
    return g
end

-- Cycles of a multiprocessor for a block: products, what they read from shared memory, all instructions.
local function block_cycles(k, g)
    local contr, warps = k.contr[0], g.threads // 32
    local steps = contr.r * g.groups * warps
    local mmas, loads = steps * g.pixels * g.nk, steps * (g.pixels + g.nk / 2) * 4
    local x = g.slots_h * g.width * 16 / 32 * (24 + L.cu_site_issue(k.site[contr.site]))
    local stage = x + g.w_size / 8 / 32 * 20
    local epilogue = g.ph * g.pw * 16 * g.kt / 128 * (10 + L.cu_site_issue(g.out))
    return math.max(mmas * 1.5, loads, (mmas * 1.2 + loads / 4) / 4) + (stage + epilogue) / 4 + g.rows * 40 * #L.cu_reductions(g.out) + 1800
end

local function consider(k, best, p)
    local g = L.stem(k, p)
    if not g.resident then return end
    local us = L.cu_issue_us(g.tiles * g.slices * t.max_blocks, g.threads // 32, 4 * block_cycles(k, g), g.resident)
    us = L.cu_launch_us + math.max(us, L.cu_traffic_us(k))
    if not best.us or us < best.us then best.us, best.g, best.p = us, g, p end
end

local warp_patches, block_patches = {{1, 1}, {1, 2}, {2, 2}, {1, 3}, {1, 4}}, {{1, 1}, {1, 2}, {2, 1}, {2, 2}, {4, 1}, {4, 2}, {1, 3}, {8, 1}}

-- The cheapest tile. Every description has one: a pixel, 16 channels, one warp.
function L.stem_plan(k)
    local best, kp = {}, L.round_up(k.site[k.site_count - 1].c, 16)
    for _, warp in ipairs(warp_patches) do
        for _, block in ipairs(block_patches) do
            for _, nk in ipairs {2, 4, 8} do
                for _, wk in ipairs {1, 2, 4} do
                    local kt, warps = nk * wk * 8, block[1] * block[2] * wk
                    if warp[1] * warp[2] * nk <= 32 and warps <= 8 and (kt == 16 or kt < 2 * kp) then
                        consider(k, best, {ph = warp[1] * block[1], pw = warp[2] * block[2], wy = warp[1], wx = warp[2], nk = nk, wk = wk,
                                           stem = 1})
                    end
                end
            end
        end
    end
    return L.cu_conv_settles(best)
end
