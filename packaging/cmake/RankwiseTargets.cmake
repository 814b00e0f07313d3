# rw_module(), rw_program() and rw_test(): one way to declare what the tree is made of.

# moc 6.4 fails on libstdc++'s <concepts>, which only appears when it is told the compiler's C++20 macros.
set(CMAKE_AUTOMOC_COMPILER_PREDEFINES OFF)

add_library(rankwise_options INTERFACE)
add_library(rankwise::options ALIAS rankwise_options)
target_compile_features(rankwise_options INTERFACE cxx_std_20)
target_include_directories(rankwise_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(rankwise_options INTERFACE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast -Wnon-virtual-dtor
    -Woverloaded-virtual -Wnull-dereference
    -Wno-missing-field-initializers)  # designated initialisers leave the rest to the defaults of the struct
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    target_compile_options(rankwise_options INTERFACE -Wno-restrict)  # false positives on std::string (GCC bug 105651)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    target_compile_options(rankwise_options INTERFACE -Wthread-safety)
endif()
if(RANKWISE_WERROR)
    # GCC 12 at -O2 reports null pointers inside std::string and std::vector that cannot be.
    target_compile_options(rankwise_options INTERFACE -Werror -Wno-error=null-dereference)
endif()
if(RANKWISE_SANITIZE)
    target_compile_options(rankwise_options INTERFACE -fsanitize=${RANKWISE_SANITIZE} -fno-omit-frame-pointer)
    target_link_options(rankwise_options INTERFACE -fsanitize=${RANKWISE_SANITIZE})
endif()

# rw_module(NAME SOURCES ... [DEPENDS ...] [PRIVATE ...] [TORCH]): the static library rankwise::NAME of one folder.
# DEPENDS are what its headers need, PRIVATE what only its sources need. Modules marked TORCH are left out
# when RANKWISE_WITH_TORCH is off (sanitizer and fuzz presets).
function(rw_module name)
    cmake_parse_arguments(arg "TORCH" "" "SOURCES;DEPENDS;PRIVATE" ${ARGN})
    add_library(rankwise_${name} STATIC ${arg_SOURCES})
    add_library(rankwise::${name} ALIAS rankwise_${name})
    target_link_libraries(rankwise_${name} PUBLIC rankwise::options ${arg_DEPENDS} PRIVATE ${arg_PRIVATE})
    set_target_properties(rankwise_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()

# rw_program(NAME SOURCES ... PRIVATE ...): an executable in build/<preset>/bin.
function(rw_program name)
    cmake_parse_arguments(arg "" "" "SOURCES;PRIVATE" ${ARGN})
    add_executable(${name} ${arg_SOURCES})
    target_link_libraries(${name} PRIVATE rankwise::options ${arg_PRIVATE})
endfunction()

# rw_test(NAME SOURCES ... PRIVATE ... [LABELS ...] [ENVIRONMENT ...] [TIMEOUT s] [QT]): a test program and its CTest entry.
# QT: a Qt Test program (AUTOMOC). Without it GoogleTest, which torch programs need: LibTorch and Qt never meet.
function(rw_test name)
    cmake_parse_arguments(arg "QT" "TIMEOUT" "SOURCES;PRIVATE;LABELS;ENVIRONMENT" ${ARGN})
    add_executable(${name} ${arg_SOURCES})
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    target_compile_definitions(${name} PRIVATE RANKWISE_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data"
        RANKWISE_BIN_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
    target_link_libraries(${name} PRIVATE rankwise::options ${arg_PRIVATE})
    if(arg_QT)
        set_target_properties(${name} PROPERTIES AUTOMOC ON)
        target_compile_definitions(${name} PRIVATE QT_NO_KEYWORDS)
        target_link_libraries(${name} PRIVATE Qt6::Test)
    else()
        target_link_libraries(${name} PRIVATE GTest::gtest GTest::gtest_main)
    endif()
    add_test(NAME ${name} COMMAND ${name})
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 300)
    endif()
    set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT}
        ENVIRONMENT "OMP_WAIT_POLICY=PASSIVE;OMP_NUM_THREADS=2;${arg_ENVIRONMENT}")
endfunction()
