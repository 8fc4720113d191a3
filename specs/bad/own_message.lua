-- expect: specs/bad/own_message.lua:4: error[spec]: this network needs images of 32x32 at least
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    if x.height < 32 then error("this network needs images of 32x32 at least") end
    return x:flatten():linear("classifier", {out = 10})
end
