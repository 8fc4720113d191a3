-- expect: specs/bad/data_twice.lua:3: error[spec]: data: declared already in line 2
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    return x:flatten():linear("classifier", {out = 10})
end
