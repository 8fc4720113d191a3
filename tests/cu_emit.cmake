rg_test(cu_emit SEES rg_cases rg_emit TIMEOUT 120)
