# What gathers a kernel's parts as that kernel's tail.
if(TARGET rg_emulate)
    rg_test(tails SEES rg_cases rg_driver TIMEOUT 600)
    target_compile_definitions(test_tails PRIVATE RG_PROGRAM="$<TARGET_FILE:resgen>")
    add_dependencies(test_tails resgen)
endif()
