# kernels/vec/simd: one source, compiled once per instruction set into a namespace of its own. kernels/vec/isa.cpp
# picks one at load. Nothing but these objects may be compiled with more than the baseline.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  add_compile_options(-march=x86-64-v2)  # the baseline: SSE4.2
endif()

function(mxpipe_add_isa name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/kernels/vec/simd/*.cpp)
  add_library(mxpipe_vec_${name} OBJECT EXCLUDE_FROM_ALL ${sources})
  target_link_libraries(mxpipe_vec_${name} PRIVATE mxpipe_options)
  target_compile_definitions(mxpipe_vec_${name} PRIVATE MXPIPE_ISA=${name})
  # -fwrapv: integer ops wrap as NumPy's do. -Wno-psabi: vector arguments never cross a library's border.
  target_compile_options(mxpipe_vec_${name} PRIVATE ${ARGN} -fwrapv -Wno-psabi
    -Wno-uninitialized -Wno-maybe-uninitialized)  # GCC 12 suspects its own AVX-512 headers
  target_compile_definitions(mxpipe_kernels PRIVATE MXPIPE_HAS_ISA_${name})
  set(MXPIPE_OBJECTS ${MXPIPE_OBJECTS} mxpipe_vec_${name} PARENT_SCOPE)
endfunction()

macro(mxpipe_add_isas)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    mxpipe_add_isa(portable)
    mxpipe_add_isa(avx2 -march=x86-64-v3)
    mxpipe_add_isa(avx512 -march=x86-64-v4 -mprefer-vector-width=512)
  else()
    mxpipe_add_isa(portable)
  endif()
endmacro()
