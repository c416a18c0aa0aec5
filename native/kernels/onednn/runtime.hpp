// The one oneDNN engine, a stream a thread, and the thread count that a primitive was made for.
#pragma once

#include <omp.h>

#include <oneapi/dnnl/dnnl.hpp>

#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"

namespace mxpipe::onednn {

inline const dnnl::engine& engine() {
  static const dnnl::engine& engine = *new dnnl::engine(dnnl::engine::kind::cpu, 0);  // outlives all threads
  return engine;
}

inline dnnl::stream& stream() {
  thread_local dnnl::stream stream(engine());
  return stream;
}

// oneDNN plans its blocking and scratchpad for the OpenMP thread count at creation, and OpenMP keeps that
// count per calling thread: both creation and execution set it.
inline void use_threads(int threads) {
  if (omp_get_max_threads() != threads) omp_set_num_threads(threads);
}

}  // namespace mxpipe::onednn
