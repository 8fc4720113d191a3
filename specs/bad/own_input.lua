-- expect: specs/bad/own_input.lua:4: error[spec]: unknown name 'y': nothing has that name yet
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    local y = relu(x + y)
    x = y:conv("conv1", {out = 8, kernel = 3})
    return x:flatten():linear("classifier", {out = 10})
end
