# What every translation unit of ours is compiled with.
add_library(mxpipe_options INTERFACE)
target_include_directories(mxpipe_options INTERFACE ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_options(mxpipe_options INTERFACE
  -Wall -Wextra -Wpedantic -Werror
  -ffp-contract=off     # the same rounding after every op, fused or alone
  -fno-math-errno -fno-trapping-math)
find_package(Threads REQUIRED)
target_link_libraries(mxpipe_options INTERFACE Threads::Threads)

if(MXPIPE_SANITIZE)
  target_compile_options(mxpipe_options INTERFACE
    -fsanitize=${MXPIPE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1)
  target_link_options(mxpipe_options INTERFACE -fsanitize=${MXPIPE_SANITIZE})
endif()

if(MXPIPE_SANITIZE MATCHES "thread")
  # GNU OpenMP is not instrumented, so ThreadSanitizer would report its barriers: parallel.cpp uses std::thread.
  target_compile_definitions(mxpipe_options INTERFACE MXPIPE_STD_THREADS)
else()
  find_package(OpenMP REQUIRED COMPONENTS CXX)
  target_link_libraries(mxpipe_options INTERFACE OpenMP::OpenMP_CXX)
endif()
