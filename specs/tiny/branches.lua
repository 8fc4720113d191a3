-- As unlike a ResNet as the language allows: odd extents, channels that fill no vector, an odd
-- batch, values with several readers of different kinds.
local bottleneck = require("resnet").bottleneck

data {
    dataset = "synthetic",
    height = 17,
    width = 23,
    channels = 3,
    classes = 7,
    mean = {0.4, 0.5, 0.6},
    std = 0.25,
}
train {batch = 5, epochs = 1, optimizer = "sgd", lr = 0.05, momentum = 0.9, nesterov = true}

-- Three branches joined by adds. The normalised value has two readers; the first convolution is
-- used raw and normalised.
local function three_branches(x)
    local raw = x:conv("raw", {out = 13, kernel = 3, pad = 1, bias = false})
    local normal = raw:bn("normal")
    local a = normal:relu():conv("left", {out = 13, kernel = {1, 3}, bias = false})
    local b = normal:sigmoid():conv("middle", {out = 13, kernel = 1})
    b = b:avgpool {kernel = {1, 3}, stride = 1}
    local c = raw:tanh():maxpool {kernel = {1, 3}, stride = 1}
    return a + b + c
end

function network(x)                                                 -- [3,17,23]
    x = x:conv("stem", {out = 11, kernel = 3, stride = 2, pad = 2, dilation = 2})     -- [11,9,12]
    x = x:scope("split", three_branches)                            -- [13,9,10]
    x = x:scope("down", bottleneck {mid = 5, out = 18, downsample = true})            -- [18,5,5]
    local gate = x:global_avgpool():conv("gate", {out = 18, kernel = 1}):sigmoid()    -- [18]
    x = x * gate
    x = x:maxpool {kernel = 3, stride = 2, pad = 1}                 -- [18,3,3]
    return x:flatten():linear("classifier", {out = 7})              -- [7]
end
