-- expect: specs/bad/duplicate_parameter.lua:5: error[spec]: conv2d 'conv1': parameter 'conv1.weight' exists already (line 4): every layer needs its own name
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x = x:conv("conv1", {out = 8, kernel = 3}):relu()
    x = x:conv("conv1", {out = 8, kernel = 3}):relu()
    return x:flatten():linear("classifier", {out = 10})
end
