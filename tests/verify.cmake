# What `resgen verify` and `resgen bench` say of a right and of a wrong kernel.
rg_test(verify SEES rg_base ${RG_JANSSON_LIB} TIMEOUT 300)
target_include_directories(test_verify PRIVATE ${RG_JANSSON_DIR})
target_compile_definitions(test_verify PRIVATE RG_PROGRAM="$<TARGET_FILE:resgen>")
add_dependencies(test_verify resgen)
