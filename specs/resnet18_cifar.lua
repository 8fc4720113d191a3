-- ResNet-18 for CIFAR-10 at 96 x 96, layer for layer the notebook's network.
-- The language: README.md; the residual block: lib/resnet.lua.
local residual = require("resnet").residual

data {
    dataset = "cifar10", -- 32 x 32, resized as PIL's bilinear does
    height = 96,
    width = 96,
    channels = 3,
    classes = 10,
    mean = {0.5, 0.5, 0.5},
    std = {0.5, 0.5, 0.5},
}

train {
    batch = 64,
    eval_batch = 128,
    epochs = 20,
    optimizer = "adam",
    lr = 1e-3,
    betas = {0.9, 0.999},
    eps = 1e-8,
}

function network(x)                                                 -- [3,96,96]
    -- stem
    x = x:conv("block1", {out = 64, kernel = 7, stride = 2})        -- [64,45,45]

    -- residual stages; downsample halves the image
    x = x:sequential("block2", {                                    -- [64,22,22]
        maxpool {kernel = 3, stride = 2},
        residual {out = 64},
        residual {out = 64},
    })
    x = x:sequential("block3", {                                    -- [128,11,11]
        residual {out = 128, downsample = true},
        residual {out = 128},
    })
    x = x:sequential("block4", {                                    -- [256,6,6]
        residual {out = 256, downsample = true},
        residual {out = 256},
    })
    x = x:sequential("block5", {                                    -- [512,1,1]
        residual {out = 512, downsample = true},
        residual {out = 512},
        avgpool {kernel = 3},
    })

    -- head
    return x:flatten():linear("classifier", {out = 10})             -- [10]
end
