-- expect: specs/bad/memory_bomb.lua:4: error[limit]: more memory than 64 MB in all or 16 MB in one piece
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
local hoard = {}
for i = 1, 1000 do hoard[i] = string.rep("x", 1000000 + i) end
function network(x)
    return x:flatten():linear("classifier", {out = 10})
end
