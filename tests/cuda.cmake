# The types of the driver's table are compared with NVIDIA's headers where these are installed.
find_path(RG_CUDA_HEADERS cuda.h PATHS ENV CUDA_PATH ENV CUDA_HOME /usr/local/cuda PATH_SUFFIXES include
          NO_CMAKE_FIND_ROOT_PATH)
# A library that is found in the driver's place and is not the driver.
add_library(cuda_empty MODULE cuda_empty.c)
set_target_properties(cuda_empty PROPERTIES PREFIX "" OUTPUT_NAME "libcuda.so.1" SUFFIX ""
                      LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/cuda-empty)

# An NVRTC that compiles nothing.
add_library(cuda_nvrtc MODULE cuda_nvrtc.c)
set_target_properties(cuda_nvrtc PROPERTIES PREFIX "" OUTPUT_NAME "libnvrtc.so" SUFFIX ""
                      LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/cuda-nvrtc)
target_include_directories(cuda_nvrtc PRIVATE ${CMAKE_SOURCE_DIR}/runtime/cuda)

rg_test(cuda_api SEES rg_cuda TIMEOUT 60)
add_dependencies(test_cuda_api cuda_empty)
if(RG_CUDA_HEADERS)
    target_sources(test_cuda_api PRIVATE cuda_prototypes.c cuda_layouts.c cuda_calculator.c)
    set_source_files_properties(cuda_prototypes.c cuda_layouts.c cuda_calculator.c PROPERTIES COMPILE_OPTIONS "-isystem${RG_CUDA_HEADERS}")
    target_compile_definitions(test_cuda_api PRIVATE RG_HAVE_CUDA_HEADERS)
endif()
rg_test(cuda_build SEES rg_cuda TIMEOUT 120)
if(RG_SANITIZE MATCHES address)
    # The CUDA compiler keeps some memory of its own to the end.
    set_tests_properties(cuda_build PROPERTIES ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
endif()
rg_test(cuda_exec SEES rg_cuda rg_emulate TIMEOUT 300)
rg_test(cuda_step SEES rg_driver TIMEOUT 300)
# A driver without a device, and an NVTX that writes down what it is told.
add_library(cuda_absent MODULE cuda_absent.c)
set_target_properties(cuda_absent PROPERTIES PREFIX "" OUTPUT_NAME "libcuda.so.1" SUFFIX ""
                      LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/cuda-ranges)
target_include_directories(cuda_absent PRIVATE ${CMAKE_SOURCE_DIR}/runtime/cuda)
add_library(cuda_ranges MODULE cuda_ranges.c)
set_target_properties(cuda_ranges PROPERTIES PREFIX "" OUTPUT_NAME "libnvToolsExt.so.1" SUFFIX ""
                      LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/cuda-ranges)
add_dependencies(test_cuda_step cuda_absent cuda_ranges)
# The same with an sm_86 of which nothing can be asked but what it is.
foreach(library cuda nvrtc)
    add_library(${library}_ampere MODULE cuda_absent.c cuda_ampere.c)
    target_include_directories(${library}_ampere PRIVATE ${CMAKE_SOURCE_DIR}/runtime/cuda)
    set_target_properties(${library}_ampere PROPERTIES PREFIX "" SUFFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/cuda-ampere)
endforeach()
set_target_properties(cuda_ampere PROPERTIES OUTPUT_NAME "libcuda.so.1")
set_target_properties(nvrtc_ampere PROPERTIES OUTPUT_NAME "libnvrtc.so.12")
