# Every cuda kernel by the emulator.
if(TARGET rg_emulate)
    rg_test(cu_variants SEES rg_cases rg_harness rg_emulate TIMEOUT 1800)
endif()
