-- Pre-activation residuals: normalisation before the convolution, a sum that two layers read.
local preactivation = require("resnet").preactivation

data {dataset = "synthetic", height = 9, width = 8, classes = 10, mean = 0.5, std = 0.5}
train {batch = 17, eval_batch = 20, epochs = 1, optimizer = "adam", lr = 1e-3, weight_decay = 1e-4}

function network(x)                                                 -- [3,9,8]
    x = x:conv("stem", {out = 8, kernel = 3, pad = 1, bias = false}) -- [8,9,8]
    x = x:sequential("stage1", {                                    -- [16,5,4]
        preactivation {out = 8},
        preactivation {out = 16, downsample = true},
    })
    x = x:bn("bn"):relu():global_avgpool()                          -- [16]
    return x:flatten():linear("classifier", {out = 10})             -- [10]
end
