-- expect: specs/bad/function_recursion.lua:4: error[limit]: stack overflow
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
local function deeper(x)
    return relu(deeper(x))
end

function network(x)
    x = deeper(x)
    return x:flatten():linear("classifier", {out = 10})
end
