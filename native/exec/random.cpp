#include "exec/random.hpp"

#include <cstring>
#include <mutex>

namespace mxpipe {
namespace {

std::mutex mutex;
RandomState state;

}  // namespace

RandomState random_state() {
  const std::scoped_lock lock(mutex);
  return state;
}

void set_random_state(RandomState fresh) {
  const std::scoped_lock lock(mutex);
  state = fresh;
}

ArrayPtr take_random_key(std::uint64_t ticks) {
  RandomState taken;
  {
    const std::scoped_lock lock(mutex);
    taken = state;
    state.counter += ticks;
  }
  ArrayPtr key = Array::empty({DType::uint64, Shape{2}});
  std::memcpy(key->data(), &taken, sizeof(taken));
  return key;
}

}  // namespace mxpipe
