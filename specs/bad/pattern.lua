-- expect: specs/bad/pattern.lua:3: error[spec]: attempt to call a nil value (method 'find')
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
local hits = ("a"):rep(30):find(("a?"):rep(30) .. ("a"):rep(30))
function network(x)
    return x:flatten():linear("classifier", {out = 10})
end
