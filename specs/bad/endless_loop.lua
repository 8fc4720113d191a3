-- expect: specs/bad/endless_loop.lua:5: error[limit]: more than 10000000 instructions: an endless loop?
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    while true do
        x = x
    end
    return x:flatten():linear("classifier", {out = 10})
end
