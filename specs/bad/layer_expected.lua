-- expect: specs/bad/layer_expected.lua:4: error[spec]: sequential 'stage': entry 2: expected a layer (a function of a value), found 'relu'
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x = x:sequential("stage", {
        relu,
        "relu",
    })
    return x:flatten():linear("classifier", {out = 10})
end
