-- Linear layers alone; one of them is normalised.
data {dataset = "synthetic", height = 5, width = 6, classes = 3, mean = 0.5, std = 0.5}
train {batch = 16, epochs = 1, optimizer = "adam", lr = 1e-2}

function network(x)                                                 -- [3,5,6]
    x = x:flatten():linear("fc1", {out = 24, bias = false})         -- [24]
    x = x:bn("bn1"):relu()
    x = x:linear("fc2", {out = 10}):tanh()                          -- [10]
    return x:linear("classifier", {out = 3})                        -- [3]
end
