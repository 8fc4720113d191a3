-- expect: specs/bad/missing_option.lua:4: error[spec]: conv2d 'conv1': option 'kernel' is missing
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x = x:conv("conv1", {out = 8})
    return x:flatten():linear("classifier", {out = 10})
end
