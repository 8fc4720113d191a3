-- Blocks of one kind in a row: their layers' kernels are the same, and on a GPU the weight gradients
-- of equal layers share a launch. What one gate waits for another gate makes.
local residual = require("resnet").residual

local function gated(x)
    x = x:conv("conv", {out = 8, kernel = 3, pad = 1, bias = false}):bn("bn"):relu()
    return x * x:global_avgpool():conv("gate", {out = 8, kernel = 1}):sigmoid()
end

data {dataset = "synthetic", height = 8, width = 8, classes = 10, mean = 0.5, std = 0.5}
train {batch = 6, epochs = 1, optimizer = "adam", lr = 1e-3}

function network(x)                                                 -- [3,8,8]
    x = x:conv("stem", {out = 8, kernel = 3, pad = 1})              -- [8,8,8]
    x = x:maxpool {kernel = 2}                                      -- [8,4,4]
    for i = 1, 5 do x = x:scope("block" .. i, residual {out = 8}) end
    for i = 1, 2 do x = x:scope("gated" .. i, gated) end
    x = x:avgpool {kernel = 4}                                      -- [8,1,1]
    return x:flatten():linear("classifier", {out = 10})             -- [10]
end
