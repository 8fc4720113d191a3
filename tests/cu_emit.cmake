rg_test(cu_emit SEES rg_cases rg_emit rg_cuda rg_emulate TIMEOUT 120)
