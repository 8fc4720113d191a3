-- expect: specs/bad/image_after_flatten.lua:4: error[shape]: conv2d 'conv1': expected an image, found one that was flattened ([3,16,16]): put it before flatten
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x = x:flatten():conv("conv1", {out = 8, kernel = 3})
    return x:flatten():linear("classifier", {out = 10})
end
