-- expect: specs/bad/option_of_another_optimizer.lua:3: error[spec]: train: option 'momentum' is sgd's, not adam's
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
train {batch = 8, optimizer = "adam", momentum = 0.9}
function network(x)
    return x:flatten():linear("classifier", {out = 10})
end
