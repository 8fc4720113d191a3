-- expect: specs/bad/empty_output.lua:5: error[shape]: conv2d 'conv2': the output is empty: expected an image of at least 5x5 with its padding, found 3x3
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x = x:conv("conv1", {out = 8, kernel = 7, stride = 4})
    x = x:conv("conv2", {out = 8, kernel = 5})
    return x:flatten():linear("classifier", {out = 10})
end
