-- expect: specs/bad/unknown_op.lua:4: error[spec]: unknown op 'covn' (did you mean 'conv'?)
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x = x:covn("conv1", {out = 8, kernel = 3})
    return x:flatten():linear("classifier", {out = 10})
end
