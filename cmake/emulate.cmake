# The emulator of a CUDA device: a module of its own, with the text that stands before each kernel embedded.
set(RG_EMULATE_DIR ${CMAKE_SOURCE_DIR}/runtime/emulate)
set(RG_EMULATE_PRELUDE_C ${CMAKE_BINARY_DIR}/rg_emulate_prelude_text.c)
set(RG_EMULATE_PRELUDE ${RG_EMULATE_DIR}/rg_emulate_abi.h ${RG_EMULATE_DIR}/rg_emulate_prelude.h)
add_custom_command(
    OUTPUT ${RG_EMULATE_PRELUDE_C}
    COMMAND ${CMAKE_COMMAND} "-DFILES=${RG_EMULATE_PRELUDE}" -DTO=${RG_EMULATE_PRELUDE_C} -DNAME=rg_emu_prelude
            -P ${CMAKE_SOURCE_DIR}/cmake/embed_text.cmake
    DEPENDS ${RG_EMULATE_PRELUDE} ${CMAKE_SOURCE_DIR}/cmake/embed_text.cmake
    COMMENT "Embedding the emulator's prelude"
    VERBATIM)
find_package(Threads REQUIRED)
rg_module(rg_emulate runtime/emulate SEES rg_base Threads::Threads dl)
target_sources(rg_emulate PRIVATE ${RG_EMULATE_PRELUDE_C})
target_include_directories(rg_emulate PUBLIC runtime/cuda)
# The matrix unit's sums are by far the most of what a step of tensor-core kernels does here.
set_source_files_properties(${RG_EMULATE_DIR}/rg_emulate_mma.c PROPERTIES COMPILE_OPTIONS -O3)
