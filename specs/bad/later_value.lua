-- expect: specs/bad/later_value.lua:5: error[spec]: add 'add': expected a value or a number, found nil
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    local sum
    local y = x:conv("conv1", {out = 3, kernel = 3, pad = 1}):add(sum)
    sum = x + y
    x = sum
    return x:flatten():linear("classifier", {out = 10})
end
