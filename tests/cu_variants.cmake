# Every cuda kernel by the emulator, and the convolutions' against one another.
if(TARGET rg_emulate)
    rg_test(cu_variants SEES rg_cases rg_harness rg_emulate TIMEOUT 1800)
    rg_test(cu_adjoint SEES rg_cases rg_harness rg_emulate TIMEOUT 300)
endif()
