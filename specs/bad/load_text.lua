-- expect: specs/bad/load_text.lua:3: error[spec]: 'load' is not available in a spec
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
load("return 1")()
function network(x)
    return x:flatten():linear("classifier", {out = 10})
end
