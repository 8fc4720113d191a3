-- expect: specs/bad/overflowing_weights.lua:5: error[limit]: linear 'fc': expected at most 2^31 weights, found [65536,4096,16,16]
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x = x:conv("conv1", {out = 4096, kernel = 1})
    return x:flatten():linear("fc", {out = 65536}):linear("classifier", {out = 10})
end
