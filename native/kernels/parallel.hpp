// The one thread pool (OpenMP, shared with oneDNN).
#pragma once

#include <cstdint>
#include <functional>

namespace mxpipe {

void set_num_threads(int threads);  // at least 1
int num_threads();

// Runs body(begin, end) over [0, size) in chunks of whole multiples of `grain` (the last may be shorter).
// The chunks do not depend on the thread count, so neither does any result that is computed chunk by chunk.
// An exception in a body is thrown again here, after all chunks have ended.
void parallel_for(std::int64_t size, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body);

}  // namespace mxpipe
