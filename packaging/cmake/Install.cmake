# cmake --install: programs to bin and libexec/rankwise, resources to share/rankwise, and to lib/rankwise the libraries
# that no package of the system brings. The installed tree may be moved; it needs neither the sources nor the wheels.

set(_torch_bundled ON)
if(LibTorch_CUDA_LIBRARY)
    set(_torch_bundled OFF) # a CUDA build is spread over many wheels; the programs then look for it where it is
endif()
option(RANKWISE_BUNDLE_LIBRARIES "Install copies of LibTorch, Arrow and MuJoCo" ${_torch_bundled})

install(TARGETS rankwise RUNTIME DESTINATION bin)
install(TARGETS rankwise-station RUNTIME DESTINATION libexec/rankwise)
set(_programs rankwise rankwise-station)
if(RANKWISE_WITH_TORCH)
    install(TARGETS rankwise-engine RUNTIME DESTINATION libexec/rankwise)
    list(APPEND _programs rankwise-engine)
endif()
if(RANKWISE_WITH_GUI)
    install(TARGETS rankwise-workbench RUNTIME DESTINATION bin)
    list(APPEND _programs rankwise-workbench)
endif()
install(DIRECTORY resources/ DESTINATION share/rankwise)
install(FILES README.md packaging/LICENSE DESTINATION share/doc/rankwise)

if(NOT RANKWISE_BUNDLE_LIBRARIES)
    set_target_properties(${_programs} PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
    return()
endif()

set_target_properties(${_programs} PROPERTIES INSTALL_RPATH "$ORIGIN/../lib/rankwise;$ORIGIN/../../lib/rankwise")
set(_libraries ArrowCpp::arrow ArrowCpp::parquet MuJoCo::mujoco)
if(RANKWISE_WITH_TORCH)
    list(APPEND _libraries LibTorch::torch LibTorch::c10)
    # The CPU build brings its own OpenMP runtime.
    file(GLOB _openmp "${LibTorch_LIB_DIR}/libgomp*.so*")
    install(FILES ${_openmp} DESTINATION lib/rankwise)
endif()
foreach(_library IN LISTS _libraries)
    get_target_property(_aliased ${_library} ALIASED_TARGET)
    if(_aliased)
        continue() # an installed package of the system
    endif()
    get_target_property(_file ${_library} IMPORTED_LOCATION)
    get_filename_component(_folder "${_file}" DIRECTORY)
    if(NOT _folder MATCHES "^/usr/(local/)?lib")
        install(FILES "${_file}" DESTINATION lib/rankwise)
    endif()
endforeach()
