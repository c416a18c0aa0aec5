#include "kernels/vec/blocks.hpp"

namespace mxpipe {
namespace {

constexpr std::int64_t kGrain = 1 << 15;

// Runs a block function over `count` elements: whole vectors in place, the rest through a padded copy.
void convert(BlockFunction function, const void* source, std::size_t source_bytes, void* destination,
             std::size_t destination_bytes, std::int64_t count) {
  BlockCall call;
  call.sources[0] = source;
  call.destination = destination;
  call.count = count / kBlockPad * kBlockPad;
  if (call.count > 0) function(call);
  const auto done = static_cast<std::size_t>(call.count);
  const auto rest = static_cast<std::size_t>(count) - done;
  if (rest == 0) return;
  alignas(64) std::byte from[kBlockPad * 8] = {};
  alignas(64) std::byte to[kBlockPad * 8];
  std::memcpy(from, static_cast<const std::byte*>(source) + done * source_bytes, rest * source_bytes);
  call.sources[0] = from;
  call.destination = to;
  call.count = kBlockPad;
  function(call);
  std::memcpy(static_cast<std::byte*>(destination) + done * destination_bytes, to, rest * destination_bytes);
}

}  // namespace

void load_floats(DType dtype, const void* source, float* destination, std::int64_t count) {
  convert(isa().load(dtype), source, size_of(dtype), destination, sizeof(float), count);
}

void store_floats(DType dtype, const float* source, void* destination, std::int64_t count) {
  convert(isa().store(dtype), source, sizeof(float), destination, size_of(dtype), count);
}

void load_array(DType dtype, const void* source, float* destination, std::int64_t count) {
  parallel_for(count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    const auto* from =
        static_cast<const std::byte*>(source) + static_cast<std::size_t>(begin) * size_of(dtype);
    load_floats(dtype, from, destination + begin, end - begin);
  });
}

void store_array(DType dtype, const float* source, void* destination, std::int64_t count) {
  parallel_for(count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    auto* to = static_cast<std::byte*>(destination) + static_cast<std::size_t>(begin) * size_of(dtype);
    store_floats(dtype, source + begin, to, end - begin);
  });
}

}  // namespace mxpipe
