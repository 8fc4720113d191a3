-- expect: specs/bad/bad_name.lua:4: error[spec]: a name is made of letters, digits and _ (at most 64), found 'conv.1'
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x = x:conv("conv.1", {out = 8, kernel = 3})
    return x:flatten():linear("classifier", {out = 10})
end
