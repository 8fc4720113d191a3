-- expect: specs/bad/unknown_optimizer.lua:3: error[spec]: train: option 'optimizer': expected 'adam' or 'sgd', found 'adamm' (did you mean 'adam'?)
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
train {batch = 8, optimizer = "adamm"}
function network(x)
    return x:flatten():linear("classifier", {out = 10})
end
