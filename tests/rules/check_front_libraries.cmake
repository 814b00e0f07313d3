# Fails when the front loads a library that belongs to the private programs: start-up in 50 ms forbids them.
# Usage: cmake -D READELF=<readelf> -D PROGRAM=<bin/rankwise> -P check_front_libraries.cmake

execute_process(COMMAND ${READELF} -d ${PROGRAM} OUTPUT_VARIABLE dynamic RESULT_VARIABLE status)
if(NOT status EQUAL 0 OR NOT dynamic MATCHES "NEEDED.*libc\\.so")
    message(FATAL_ERROR "${READELF} does not list the libraries of ${PROGRAM}")
endif()
string(REGEX MATCHALL "\\[lib(torch|c10|gomp|arrow|parquet|av|sw|mujoco|Qt|vtk)[^]]*\\]" found "${dynamic}")
if(found)
    message(FATAL_ERROR "${PROGRAM} loads ${found}")
endif()
