-- The reference network in small: a stem, a residual, a downsampling residual, a head.
local residual = require("resnet").residual

data {dataset = "synthetic", height = 16, width = 16, classes = 10, mean = 0.5, std = 0.5}
train {batch = 4, eval_batch = 8, epochs = 2, optimizer = "adam", lr = 1e-3}

function network(x)                                                 -- [3,16,16]
    x = x:conv("block1", {out = 8, kernel = 3, pad = 1})            -- [8,16,16]
    x = x:sequential("block2", {                                    -- [16,4,4]
        maxpool {kernel = 2},
        residual {out = 8},
        residual {out = 16, downsample = true},
    })
    x = x:avgpool {kernel = 4}                                      -- [16,1,1]
    return x:flatten():linear("classifier", {out = 10})             -- [10]
end
