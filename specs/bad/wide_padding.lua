-- expect: specs/bad/wide_padding.lua:4: error[spec]: maxpool 'maxpool': option 'pad': expected at most half of the kernel (1), found 2
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
function network(x)
    x = x:maxpool {kernel = 3, stride = 2, pad = 2}
    return x:flatten():linear("classifier", {out = 10})
end
