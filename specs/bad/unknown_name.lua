-- expect: specs/bad/unknown_name.lua:7: error[spec]: unknown name 'residul': nothing has that name yet
local residual = require("resnet").residual

data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x = x:sequential("stage", {
        residul {out = 3},
    })
    return x:flatten():linear("classifier", {out = 10})
end
