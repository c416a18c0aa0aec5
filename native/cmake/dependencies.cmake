# Finds oneDNN or OpenBLAS and says which files the wheel carries beside _core.
# Out: MXPIPE_USE_ONEDNN, target mxpipe_blas, MXPIPE_CARRIED_DIRECTORY, mxpipe_install_carried(destination).
#
# Wheels put headers and libraries under the prefix of their environment, which pip's build isolation places where
# CMake does not look: the environment's own Python is asked.
find_package(Python REQUIRED COMPONENTS Interpreter)

function(mxpipe_ask_python result code)
  execute_process(COMMAND ${Python_EXECUTABLE} -c "${code}" OUTPUT_VARIABLE answer
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  set(${result} "${answer}" PARENT_SCOPE)
endfunction()

# The folder of the first file called `file` that belongs to the installed distribution.
function(mxpipe_find_in_distribution result distribution file)
  mxpipe_ask_python(folder "
import importlib.metadata as metadata
files = metadata.distribution('${distribution}').files or []
print(next(f.locate().resolve().parent for f in files if f.name == '${file}'))")
  set(${result} "${folder}" PARENT_SCOPE)
endfunction()

mxpipe_ask_python(MXPIPE_PYBIND11_HINT "import pybind11; print(pybind11.get_cmake_dir())")

add_library(mxpipe_blas INTERFACE)
set(MXPIPE_USE_ONEDNN OFF)
if(NOT MXPIPE_ONEDNN STREQUAL "OFF" AND NOT MXPIPE_SANITIZE MATCHES "thread")
  mxpipe_find_in_distribution(onednn_hint onednn-devel-cpu-gomp dnnl-config.cmake)
  set(CMAKE_POLICY_VERSION_MINIMUM 3.5)  # oneDNN's generated files ask for CMake 2.6
  find_package(dnnl 3.2 CONFIG QUIET HINTS ${onednn_hint})
  unset(CMAKE_POLICY_VERSION_MINIMUM)
  if(dnnl_FOUND)
    set(MXPIPE_USE_ONEDNN ON)
  elseif(MXPIPE_ONEDNN STREQUAL "ON")
    message(FATAL_ERROR "MXPIPE_ONEDNN=ON needs oneDNN >= 3.2: pip install onednn-devel-cpu-gomp")
  endif()
endif()

if(MXPIPE_USE_ONEDNN)
  get_target_property(library DNNL::dnnl LOCATION)
  file(REAL_PATH ${library} library)
  target_link_libraries(mxpipe_blas INTERFACE DNNL::dnnl)
  get_filename_component(MXPIPE_CARRIED_DIRECTORY ${library} DIRECTORY)
  set(MXPIPE_CARRIED_LIBRARY ${library})
  set(MXPIPE_CARRIED_NAME libdnnl.so.3)
  file(GLOB MXPIPE_CARRIED_LICENCES ${MXPIPE_CARRIED_DIRECTORY}/../share/doc/onednn/*)
  set(MXPIPE_CARRIED_PROJECT onednn)
else()
  mxpipe_find_in_distribution(openblas_library scipy-openblas32 libscipy_openblas.so)
  mxpipe_find_in_distribution(openblas_include scipy-openblas32 cblas.h)
  mxpipe_find_in_distribution(openblas_licence scipy-openblas32 LICENSE.txt)
  if(openblas_library)
    target_include_directories(mxpipe_blas SYSTEM INTERFACE ${openblas_include})
    target_link_libraries(mxpipe_blas INTERFACE ${openblas_library}/libscipy_openblas.so)
    target_compile_definitions(mxpipe_blas INTERFACE MXPIPE_OPENBLAS)
    set(MXPIPE_CARRIED_DIRECTORY ${openblas_library})
    set(MXPIPE_CARRIED_LIBRARY ${openblas_library}/libscipy_openblas.so)
    set(MXPIPE_CARRIED_NAME libscipy_openblas.so)
    set(MXPIPE_CARRIED_LICENCES ${openblas_licence}/LICENSE.txt)
    set(MXPIPE_CARRIED_PROJECT openblas)
  else()
    message(STATUS "mxpipe: no OpenBLAS (pip install scipy-openblas32): matrix products use plain loops")
  endif()
endif()
message(STATUS "mxpipe: oneDNN ${MXPIPE_USE_ONEDNN}, carries ${MXPIPE_CARRIED_LIBRARY}")

function(mxpipe_install_carried destination)
  if(MXPIPE_CARRIED_LIBRARY)
    install(PROGRAMS ${MXPIPE_CARRIED_LIBRARY} DESTINATION ${destination} RENAME ${MXPIPE_CARRIED_NAME})
    install(FILES ${MXPIPE_CARRIED_LICENCES} DESTINATION ${destination}/licences/${MXPIPE_CARRIED_PROJECT})
  endif()
endfunction()
