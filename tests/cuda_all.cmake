# All kernels by NVRTC and nvcc, where they are installed.
if(TARGET resgen)
    add_test(NAME cuda_all COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/test_cuda_all.sh ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
    set_tests_properties(cuda_all PROPERTIES TIMEOUT 7200 SKIP_RETURN_CODE 77)
endif()
