# LibTorch::torch from the torch wheel or an unpacked LibTorch.
# Hints: -DLibTorch_ROOT, $LIBTORCH, CMAKE_PREFIX_PATH entries that hold share/cmake/Torch, the wheel folder.
include(${CMAKE_CURRENT_LIST_DIR}/DepsRoot.cmake)
set(_torch_hints ${LibTorch_ROOT} $ENV{LibTorch_ROOT} $ENV{LIBTORCH} ${CMAKE_PREFIX_PATH})
string(REPLACE ":" ";" _torch_env_prefixes "$ENV{CMAKE_PREFIX_PATH}")
foreach(_d IN LISTS CMAKE_PREFIX_PATH _torch_env_prefixes)       # accept torch.utils.cmake_prefix_path too
  list(APPEND _torch_hints "${_d}" "${_d}/../..")
endforeach()
foreach(_d IN LISTS _site_dirs)
  list(APPEND _torch_hints "${_d}/torch")
endforeach()
find_path(LibTorch_INCLUDE_DIR ATen/core/Tensor.h HINTS ${_torch_hints} PATH_SUFFIXES include)
get_filename_component(_torch_root "${LibTorch_INCLUDE_DIR}" DIRECTORY)
find_library(LibTorch_CPU_LIBRARY torch_cpu HINTS ${_torch_root} PATH_SUFFIXES lib NO_DEFAULT_PATH)
find_library(LibTorch_C10_LIBRARY c10 HINTS ${_torch_root} PATH_SUFFIXES lib NO_DEFAULT_PATH)
find_library(LibTorch_TORCH_LIBRARY torch HINTS ${_torch_root} PATH_SUFFIXES lib NO_DEFAULT_PATH)
find_library(LibTorch_CUDA_LIBRARY torch_cuda HINTS ${_torch_root} PATH_SUFFIXES lib NO_DEFAULT_PATH)
find_library(LibTorch_C10_CUDA_LIBRARY c10_cuda HINTS ${_torch_root} PATH_SUFFIXES lib NO_DEFAULT_PATH)
mark_as_advanced(LibTorch_INCLUDE_DIR LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_TORCH_LIBRARY LibTorch_CUDA_LIBRARY LibTorch_C10_CUDA_LIBRARY)
if(LibTorch_INCLUDE_DIR)
  # torch/headeronly/version.h (2.9 and newer) has TORCH_VERSION_MAJOR/MINOR/PATCH
  foreach(_f torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
    if(EXISTS "${LibTorch_INCLUDE_DIR}/${_f}")
      file(STRINGS "${LibTorch_INCLUDE_DIR}/${_f}" _v REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]+")
      string(REGEX REPLACE "[^0-9;]" "" _v "${_v}")
      string(REPLACE ";" "." LibTorch_VERSION "${_v}")
      if(LibTorch_VERSION)
        break()
      endif()
    endif()
  endforeach()
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR VERSION_VAR LibTorch_VERSION)
if(LibTorch_FOUND AND NOT TARGET LibTorch::torch)
  add_library(LibTorch::c10 SHARED IMPORTED)
  set_target_properties(LibTorch::c10 PROPERTIES IMPORTED_LOCATION "${LibTorch_C10_LIBRARY}")
  add_library(LibTorch::torch SHARED IMPORTED)
  set_target_properties(LibTorch::torch PROPERTIES
    IMPORTED_LOCATION "${LibTorch_CPU_LIBRARY}"
    # -idirafter and not -isystem: the folder also holds fmt/, google/protobuf/ and pybind11/, which must not hide the system's.
    INTERFACE_COMPILE_OPTIONS "SHELL:-idirafter ${LibTorch_INCLUDE_DIR};SHELL:-idirafter ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include"
    INTERFACE_COMPILE_DEFINITIONS "USE_DISTRIBUTED;USE_C10D_GLOO"
    INTERFACE_LINK_LIBRARIES LibTorch::c10)
  set(LibTorch_LIB_DIR "${_torch_root}/lib")
  if(LibTorch_CUDA_LIBRARY)
    # Nothing in our objects names a symbol of libtorch_cuda, so --as-needed (a default of some distributions) would drop it.
    set_property(TARGET LibTorch::torch APPEND PROPERTY INTERFACE_LINK_LIBRARIES
      "-Wl,--push-state,--no-as-needed" "${LibTorch_CUDA_LIBRARY}" "${LibTorch_C10_CUDA_LIBRARY}" "${LibTorch_TORCH_LIBRARY}" "-Wl,--pop-state")
    set_property(TARGET LibTorch::torch APPEND PROPERTY INTERFACE_COMPILE_DEFINITIONS LIBTORCH_WITH_CUDA)
  endif()
endif()
