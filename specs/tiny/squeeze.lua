-- A block written in the spec itself: squeeze and excitation, one factor per image and channel.
local function squeeze_excite(o)
    o = options("squeeze_excite", o, {"mid"}, {}) -- required, optional: wrong names are reported
    return function(x)
        local gate = x:global_avgpool():conv("down", {out = o.mid, kernel = 1}):relu()
        return x * gate:conv("up", {out = x.channels, kernel = 1}):sigmoid()
    end
end

data {dataset = "synthetic", height = 10, width = 10, classes = 10, mean = 0.5, std = 0.5}
train {batch = 8, epochs = 1, optimizer = "adam", lr = 1e-3}

function network(x)                                                 -- [3,10,10]
    x = x:conv("stem", {out = 12, kernel = 3, bias = false}):bn("bn"):relu()  -- [12,8,8]
    x = x:scope("gate", squeeze_excite {mid = 4})                   -- [12,8,8]
    x = x:maxpool {kernel = 2}:flatten()                            -- [192]
    return x:linear("classifier", {out = 10})                       -- [10]
end
