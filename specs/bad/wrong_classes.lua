-- expect: specs/bad/wrong_classes.lua:3: error[shape]: network: expected one score a class, [10], found [100]
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    return x:flatten():linear("classifier", {out = 100})
end
