# Kernel descriptions as test cases.
file(GLOB RG_CASE_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cases/*.c)
add_library(rg_cases STATIC ${RG_CASE_SOURCES})
target_include_directories(rg_cases PUBLIC cases)
target_link_libraries(rg_cases PUBLIC rg_kernel rg_core)

rg_test(kdesc SEES rg_cases)
rg_test(rider SEES rg_cases)
rg_test(harness SEES rg_cases rg_harness)
rg_test(variants SEES rg_cases rg_harness TIMEOUT 900)
