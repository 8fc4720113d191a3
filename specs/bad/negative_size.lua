-- expect: specs/bad/negative_size.lua:4: error[spec]: conv2d 'conv1': option 'out': expected an integer from 1 to 65536, found -8
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x = x:conv("conv1", {out = -8, kernel = 3})
    return x:flatten():linear("classifier", {out = 10})
end
