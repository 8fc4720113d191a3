-- Residual blocks, made of primitive ops alone. Each function takes options and gives a layer: a
-- function of a value. Copy one to make a block of your own; nothing else in resgen knows of them.
local resnet = {}

-- The notebook's ResBlock(cin, out, same = not downsample): both normalised convolutions end in a
-- relu, and a downsampling block's shortcut is a convolution with bias, without normalisation.
function resnet.residual(o)
    o = options("residual", o, {"out"}, {"downsample"})
    local stride = o.downsample and 2 or 1
    return function(x)
        local y = x:conv("conv1", {out = o.out, kernel = 3, stride = stride, pad = 1, bias = false})
        y = y:bn("bn1"):relu()
        y = y:conv("conv2", {out = o.out, kernel = 3, pad = 1, bias = false})
        y = y:bn("bn2"):relu()
        local shortcut = x
        if o.downsample then
            shortcut = x:conv("conv3", {out = o.out, kernel = 1, stride = stride})
        end
        return relu(shortcut + y)
    end
end

-- 1x1 down to `mid` channels, 3x3, 1x1 up to `out` (He et al. 2015, with the stride in the 3x3 as
-- torchvision has it). A change of shape makes the shortcut a normalised 1x1 convolution.
function resnet.bottleneck(o)
    o = options("bottleneck", o, {"mid", "out"}, {"downsample"})
    local stride = o.downsample and 2 or 1
    return function(x)
        local y = x:conv("conv1", {out = o.mid, kernel = 1, bias = false}):bn("bn1"):relu()
        y = y:conv("conv2", {out = o.mid, kernel = 3, stride = stride, pad = 1, bias = false})
        y = y:bn("bn2"):relu()
        y = y:conv("conv3", {out = o.out, kernel = 1, bias = false}):bn("bn3")
        local shortcut = x
        if o.downsample or x.channels ~= o.out then
            shortcut = x:conv("conv4", {out = o.out, kernel = 1, stride = stride, bias = false})
            shortcut = shortcut:bn("bn4")
        end
        return relu(shortcut + y)
    end
end

-- Normalisation and relu before each convolution (He et al. 2016); the sum itself is left as it is.
-- A change of shape takes its shortcut from the normalised input.
function resnet.preactivation(o)
    o = options("preactivation", o, {"out"}, {"downsample"})
    local stride = o.downsample and 2 or 1
    return function(x)
        local z = x:bn("bn1"):relu()
        local y = z:conv("conv1", {out = o.out, kernel = 3, stride = stride, pad = 1, bias = false})
        y = y:bn("bn2"):relu():conv("conv2", {out = o.out, kernel = 3, pad = 1, bias = false})
        local shortcut = x
        if o.downsample or x.channels ~= o.out then
            shortcut = z:conv("conv3", {out = o.out, kernel = 1, stride = stride, bias = false})
        end
        return shortcut + y
    end
end

return resnet
