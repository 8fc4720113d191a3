rg_test(random SEES rg_core)
rg_test(data SEES rg_core)
rg_test(params SEES rg_core)
rg_test(safetensors SEES rg_core)
