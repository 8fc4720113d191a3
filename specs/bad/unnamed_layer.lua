-- expect: specs/bad/unnamed_layer.lua:4: error[spec]: conv2d 'conv': a layer with parameters needs a name: x:conv("name", ...)
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x = x:conv({out = 8, kernel = 3})
    return x:flatten():linear("classifier", {out = 10})
end
