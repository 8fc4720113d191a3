rg_test(emulate SEES rg_emulate TIMEOUT 300)
rg_test(emulate_device SEES rg_emulate TIMEOUT 120)
