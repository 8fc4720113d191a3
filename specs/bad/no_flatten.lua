-- expect: specs/bad/no_flatten.lua:5: error[shape]: linear 'classifier': expected a vector, found an image [8,14,14]: flatten it first
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x = x:conv("conv1", {out = 8, kernel = 3}):relu()
    return x:linear("classifier", {out = 10})
end
