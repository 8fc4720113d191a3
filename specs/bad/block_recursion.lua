-- expect: specs/bad/block_recursion.lua:4: error[limit]: scopes nested more than 32 deep: a block that uses itself?
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
local function block(x)
    return x:scope("again", block)
end

function network(x)
    x = x:scope("block", block)
    return x:flatten():linear("classifier", {out = 10})
end
