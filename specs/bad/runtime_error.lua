-- expect: specs/bad/runtime_error.lua:6: error[spec]: attempt to perform arithmetic on a nil value (field 'integer index')
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
local widths = {8, 16}

function network(x)
    x = x:conv("conv1", {out = 2 * widths[3], kernel = 3})
    return x:flatten():linear("classifier", {out = 10})
end
