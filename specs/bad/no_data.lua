-- expect: specs/bad/no_data.lua: error[spec]: expected data { ... }, found none
function network(x)
    return x:flatten():linear("classifier", {out = 10})
end
