-- expect: specs/bad/overflowing_image.lua:2: error[limit]: data: expected at most 2^31 elements, found [3,65536,65536] for 64 images
data {dataset = "synthetic", height = 65536, width = 65536, channels = 3, classes = 10}
function network(x)
    x = x:conv("conv1", {out = 8, kernel = 1, stride = 65536})
    return x:flatten():linear("classifier", {out = 10})
end
