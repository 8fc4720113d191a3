-- expect: specs/bad/several_mistakes.lua:9: error[spec]: data: unknown option 'maen' (did you mean 'mean'?)
-- expect: specs/bad/several_mistakes.lua:10: error[spec]: train: option 'batch': expected an integer from 1 to 65536, found 0
-- expect: specs/bad/several_mistakes.lua:13: error[shape]: conv2d 'conv1': the output is empty: expected an image of at least 99x99 with its padding, found 16x16
-- expect: specs/bad/several_mistakes.lua:14: error[spec]: conv2d 'conv2': unknown option 'strid' (did you mean 'stride'?)
-- expect: specs/bad/several_mistakes.lua:15: error[spec]: residual: unknown option 'downsampel' (did you mean 'downsample'?)
-- expect: specs/bad/several_mistakes.lua:16: error[spec]: unknown name 'widht': nothing has that name yet
local residual = require("resnet").residual

data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10, maen = 0.5}
train {batch = 0}

function network(x)
    x = x:conv("conv1", {out = 8, kernel = 99})
    local y = x:relu():conv("conv2", {out = 8, kernel = 3, strid = 2})
    y = y:scope("block", residual {out = 8, downsampel = true})
    y = y:flatten():linear("classifier", {out = widht})
    return y
end
