-- expect: specs/bad/no_network.lua: error[spec]: expected a function network(image), found nil
data {dataset = "synthetic", height = 16, width = 16, channels = 3, classes = 10}
