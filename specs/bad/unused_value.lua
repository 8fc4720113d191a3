-- expect: specs/bad/unused_value.lua:4: error[spec]: relu 'relu': its output goes nowhere
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    local side = x:conv("side", {out = 8, kernel = 3}):relu()
    x = x:conv("conv1", {out = 8, kernel = 3}):relu()
    return x:flatten():linear("classifier", {out = 10})
end
