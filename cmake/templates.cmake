# Embeds every file of templates/ into the program: bytes in one C file, made anew when one of them changes.
set(RG_TEMPLATES_C ${CMAKE_BINARY_DIR}/rg_tpl_files.c)
set(RG_EMBED_SCRIPT ${CMAKE_SOURCE_DIR}/cmake/embed_templates.cmake)
file(GLOB RG_TEMPLATE_FILES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/templates/*.lua ${CMAKE_SOURCE_DIR}/templates/*.tpl)

add_custom_command(
    OUTPUT ${RG_TEMPLATES_C}
    COMMAND ${CMAKE_COMMAND} -DFROM=${CMAKE_SOURCE_DIR}/templates -DTO=${RG_TEMPLATES_C} -P ${RG_EMBED_SCRIPT}
    DEPENDS ${RG_TEMPLATE_FILES} ${RG_EMBED_SCRIPT}
    COMMENT "Embedding templates"
    VERBATIM)
target_sources(rg_tpl PRIVATE ${RG_TEMPLATES_C})
