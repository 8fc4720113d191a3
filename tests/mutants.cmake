# Broken kernels by the emulator.
if(TARGET rg_emulate)
    rg_test(mutants SEES rg_cases rg_harness rg_emulate TIMEOUT 600)
    target_sources(test_mutants PRIVATE mutants/mutants_conv.c mutants/mutants_wgrad.c mutants/mutants_rest.c
                   mutants/mutants_mma.c mutants/mutants_tail.c mutants/mutants_instances.c
                   mutants/mutants_rider.c)
endif()
