# What the documents show and name.
if(TARGET resgen)
    add_test(NAME docs COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/test_docs.sh ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
    set_tests_properties(docs PROPERTIES TIMEOUT 300)
endif()
