# Whole networks: kernels, interpreter and PyTorch's numbers on the same weights and batches.
add_library(rg_parity STATIC parity/draw.c parity/kinks.c parity/parity.c)
target_include_directories(rg_parity PUBLIC parity)
target_compile_definitions(rg_parity PRIVATE RG_BINARY_DIR="${CMAKE_BINARY_DIR}")
target_link_libraries(rg_parity PUBLIC rg_driver ${RG_CMOCKA_LIB})

rg_test(golden_tiny SEES rg_parity)
rg_test(golden_notebook SEES rg_parity)
rg_test(property SEES rg_parity TIMEOUT 1800)
rg_test(determinism SEES rg_parity)
rg_test(golden_sources SEES rg_parity TIMEOUT 60)

# The program itself.
rg_test(cli SEES rg_core ${RG_JANSSON_LIB})
target_include_directories(test_cli PRIVATE ${RG_JANSSON_DIR})
rg_test(cli_build SEES rg_core)
add_dependencies(test_cli_build cuda_nvrtc)
foreach(name test_cli test_cli_build)
    target_compile_definitions(${name} PRIVATE RG_PROGRAM="$<TARGET_FILE:resgen>")
    add_dependencies(${name} resgen)
endforeach()
add_dependencies(test_cli_build cuda_ampere nvrtc_ampere)
