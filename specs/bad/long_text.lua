-- expect: specs/bad/long_text.lua:3: error[spec]: string.rep: a text of more than 1048576 bytes
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
local text = string.rep("", 2^53)
function network(x)
    return x:flatten():linear("classifier", {out = 10})
end
