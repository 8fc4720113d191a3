-- expect: specs/bad/unknown_dataset.lua:2: error[spec]: data: option 'dataset': expected 'cifar10' or 'synthetic', found 'cifar' (did you mean 'cifar10'?)
data {dataset = "cifar", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    return x:flatten():linear("classifier", {out = 10})
end
