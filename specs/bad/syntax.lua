-- expect: specs/bad/syntax.lua:4: error[syntax]: '}' expected near ')'
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x = x:conv("conv1", {out = 8, kernel = 3)
end
