rg_test(exec SEES rg_core TIMEOUT 60)
rg_test(plan_check SEES rg_core TIMEOUT 60)
rg_test(device_cpu SEES rg_runtime TIMEOUT 120)
rg_test(train SEES rg_runtime TIMEOUT 60)
