-- expect: specs/bad/os_execute.lua:3: error[spec]: 'os' is not available in a spec
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
os.execute("true")
function network(x)
    return x:flatten():linear("classifier", {out = 10})
end
