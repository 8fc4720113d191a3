-- expect: specs/bad/overflowing_elements.lua:4: error[limit]: conv2d 'conv1': expected at most 2^31 elements, found [64,2000,2000] for 64 images
data {dataset = "synthetic", height = 2000, width = 2000, channels = 3, classes = 10}
function network(x)
    x = x:conv("conv1", {out = 64, kernel = 1})
    return x:flatten():linear("classifier", {out = 10})
end
