-- expect: specs/bad/returns_nothing.lua:3: error[spec]: network: expected it to return a value, found nil
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x = x:flatten():linear("classifier", {out = 10})
end
