-- expect: specs/bad/missing_option_in_block.lua:6: error[spec]: bottleneck: option 'mid' is missing
local bottleneck = require("resnet").bottleneck

data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x = x:scope("block", bottleneck {out = 3})
    return x:flatten():linear("classifier", {out = 10})
end
