#include "kernels/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>
#include <vector>

#include "graph/error.hpp"

#ifndef MXPIPE_STD_THREADS
#include <omp.h>
#endif

namespace mxpipe {
namespace {

#ifdef MXPIPE_STD_THREADS
int default_threads() { return static_cast<int>(std::max(1U, std::thread::hardware_concurrency())); }
#else
int default_threads() { return omp_get_max_threads(); }
#endif

std::atomic<int>& thread_setting() {
  static std::atomic<int> threads{default_threads()};
  return threads;
}

// Keeps the first exception of a parallel region.
class FirstError {
 public:
  void keep() {
    if (!taken_.test_and_set()) error_ = std::current_exception();
  }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::atomic_flag taken_ = ATOMIC_FLAG_INIT;
  std::exception_ptr error_;
};

}  // namespace

void set_num_threads(int threads) {
  require(threads >= 1, "set_num_threads", "the number of threads must be at least 1; got ", threads, ".");
  thread_setting() = threads;
}

int num_threads() { return thread_setting().load(std::memory_order_relaxed); }

void parallel_chunks(std::int64_t size, std::int64_t grain, ChunkFunction function, const void* context) {
  if (size <= 0) return;
  grain = std::max<std::int64_t>(grain, 1);
  const std::int64_t chunks = (size + grain - 1) / grain;
  const auto run = [&](std::int64_t chunk) {
    function(context, chunk * grain, std::min(size, (chunk + 1) * grain));
  };
  // Waking a thread costs as much as half a chunk, and far more on a busy machine: each must find two.
  const int threads = static_cast<int>(std::min<std::int64_t>(num_threads(), chunks / 2));
  if (threads <= 1) {
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) run(chunk);
    return;
  }
  FirstError error;
#ifdef MXPIPE_STD_THREADS
  std::vector<std::thread> workers;
  std::atomic<std::int64_t> next{0};
  for (int worker = 0; worker < threads; ++worker) {
    workers.emplace_back([&] {
      try {
        for (std::int64_t chunk = next++; chunk < chunks; chunk = next++) run(chunk);
      } catch (...) {
        error.keep();
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
#else
  // dynamic: on a busy machine a delayed thread must not hold up the others
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    try {
      run(chunk);
    } catch (...) {
      error.keep();
    }
  }
#endif
  error.rethrow();
}

}  // namespace mxpipe
