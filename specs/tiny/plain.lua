-- Convolutions in a row, no normalisation: every activation of the language once.
data {dataset = "synthetic", height = 12, width = 12, channels = 3, classes = 4}
train {batch = 6, epochs = 1, optimizer = "sgd", lr = 0.1, label_smoothing = 0.1}

function network(x)                                                 -- [3,12,12]
    x = x:conv("conv1", {out = 6, kernel = 5}):relu()               -- [6,8,8]
    x = x:conv("conv2", {out = 9, kernel = 3}):silu()               -- [9,6,6]
    x = x:conv("conv3", {out = 9, kernel = 3, pad = 2, dilation = 2}):leaky_relu {slope = 0.1}
    x = x:maxpool {kernel = 2}                                      -- [9,3,3]
    return x:flatten():linear("classifier", {out = 4})              -- [4]
end
