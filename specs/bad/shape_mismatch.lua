-- expect: specs/bad/shape_mismatch.lua:7: error[shape]: add 'block.add': expected operands of one shape, found [8,14,14] and [16,14,14] (at specs/lib/resnet.lua:19)
local residual = require("resnet").residual

data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x = x:conv("stem", {out = 8, kernel = 3})
    x = x:scope("block", residual {out = 16})
    return x:flatten():linear("classifier", {out = 10})
end
