-- Values that share their parts sixteen deep: compiled in a moment, or not in a lifetime.
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10, mean = 0.5, std = 0.5}
train {batch = 4, epochs = 1, optimizer = "sgd", lr = 0.05, momentum = 0.9}
function network(x)
    x = x:conv("a", {out = 8, kernel = 1, bias = false})
    for i = 1, 16 do x = (x + 1) * (x - 1) * 0.1 end
    return x:global_avgpool():flatten():linear("c", {out = 10})
end
