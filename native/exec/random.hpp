// The random state: (seed, counter). Every call of a random op takes one tick, in program order, whichever
// door it came through; a checkpoint of these two numbers resumes the stream exactly.
#pragma once

#include <cstdint>

#include "exec/array.hpp"

namespace mxpipe {

struct RandomState {
  std::uint64_t seed = 0;
  std::uint64_t counter = 0;
};

RandomState random_state();
void set_random_state(RandomState state);
// The key for the next `ticks` calls, as uint64 (seed, counter); advances the counter.
ArrayPtr take_random_key(std::uint64_t ticks);

}  // namespace mxpipe
