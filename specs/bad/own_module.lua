-- expect: specs/bad/own_module.lua:2: error[spec]: require: module 'own_module' requires itself
local own = require "own_module"

data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    return x:flatten():linear("classifier", {out = 10})
end
