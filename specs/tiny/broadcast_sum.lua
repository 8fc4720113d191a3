-- A value per image and channel added to an image: the sum repeats it, so the two convolutions share no accumulator.
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10, mean = 0.5, std = 0.5}
train {batch = 16, epochs = 1, optimizer = "sgd", lr = 0.05, momentum = 0.9}
function network(x)
    local a = x:conv("a", {out = 8, kernel = 1, bias = false})
    local b = x:global_avgpool():conv("b", {out = 8, kernel = 1, bias = false})
    return (a + b):relu():global_avgpool():flatten():linear("c", {out = 10})
end
