rg_test(emulate SEES rg_emulate TIMEOUT 300)
rg_test(emulate_device SEES rg_emulate TIMEOUT 120)
rg_test(emulate_mma SEES rg_emulate rg_cuda rg_tpl TIMEOUT 120)
rg_test(emulate_half SEES rg_emulate rg_cuda rg_tpl TIMEOUT 120)
rg_test(step_values SEES rg_driver)
if(RG_SANITIZE MATCHES address)
    # The CUDA compiler keeps some memory of its own to the end.
    set_tests_properties(emulate_mma emulate_half PROPERTIES ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
endif()
