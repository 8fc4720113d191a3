-- expect: specs/bad/unused_branch.lua:4: error[spec]: conv2d 'side': its output goes nowhere
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x:conv("side", {out = 8, kernel = 3})
    return x:flatten():linear("classifier", {out = 10})
end
