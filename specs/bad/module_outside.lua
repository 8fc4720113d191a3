-- expect: specs/bad/module_outside.lua:2: error[spec]: require: a module's name has lower-case letters, digits, _ and single dots, found '../../secrets'
local secrets = require "../../secrets"

data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    return x:flatten():linear("classifier", {out = 10})
end
