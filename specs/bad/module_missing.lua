-- expect: specs/bad/module_missing.lua:2: error[spec]: require: no module 'resnext' beside the spec or in lib/
local resnet = require "resnext"

data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    return x:flatten():linear("classifier", {out = 10})
end
