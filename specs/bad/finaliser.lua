-- expect: specs/bad/finaliser.lua:3: error[spec]: 'setmetatable' is not available in a spec
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
setmetatable({}, {__gc = function() while true do end end})
function network(x)
    return x:flatten():linear("classifier", {out = 10})
end
