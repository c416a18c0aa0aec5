// The one thread pool (OpenMP, shared with oneDNN).
#pragma once

#include <cstdint>

namespace mxpipe {

void set_num_threads(int threads);  // at least 1
int num_threads();

// Calls body(context, begin, end) for every chunk; see parallel_for.
using ChunkFunction = void (*)(const void* context, std::int64_t begin, std::int64_t end);
void parallel_chunks(std::int64_t size, std::int64_t grain, ChunkFunction function, const void* context);

// Runs body(begin, end) over [0, size) in chunks of whole multiples of `grain` (the last may be shorter).
// The chunks do not depend on the thread count, so neither does any result that is computed chunk by chunk.
// A few chunks run on the calling thread alone; nothing is allocated.
// An exception in a body is thrown again here, after all chunks have ended.
template <typename Body>
void parallel_for(std::int64_t size, std::int64_t grain, const Body& body) {
  const auto call = [](const void* context, std::int64_t begin, std::int64_t end) {
    (*static_cast<const Body*>(context))(begin, end);
  };
  parallel_chunks(size, grain, call, &body);
}

// The grain that gives chunks of about `work` element operations (10 us) when an item costs `cost` of them.
constexpr std::int64_t grain_for(std::int64_t cost, std::int64_t work = std::int64_t{1} << 15) {
  return cost >= work ? 1 : work / (cost < 1 ? 1 : cost);
}

}  // namespace mxpipe
