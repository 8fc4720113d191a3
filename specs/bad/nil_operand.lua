-- expect: specs/bad/nil_operand.lua:4: error[spec]: relu 'relu': expected a value, found nil
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x = relu(nil)
    return x:flatten():linear("classifier", {out = 10})
end
