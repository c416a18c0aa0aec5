// random_normal: Box-Muller over Philox, by element index. Bytes: the result once; about 10 cycles an
// element.
#include <cstring>

#include "graph/error.hpp"
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "kernels/vec/blocks.hpp"
#include "kernels/vec/isa.hpp"

namespace mxpipe {
namespace {

constexpr std::int64_t kBlock = 1024;

class RandomNormalKernel final : public Kernel {
 public:
  explicit RandomNormalKernel(const KernelRequest& request)
      : result_(request.outputs[0]),
        location_(request.attributes.real("loc")),
        scale_(request.attributes.real("scale")),
        offset_(request.attributes.integer("offset")) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    RandomKey key;
    std::memcpy(&key.seed, inputs[0], 8);
    std::memcpy(&key.counter, static_cast<const std::byte*>(inputs[0]) + 8, 8);
    key.counter += static_cast<std::uint64_t>(offset_);
    parallel_for(result_.size(), 8 * kBlock, [&](std::int64_t begin, std::int64_t end) {
      alignas(64) float values[kBlock];
      for (std::int64_t first = begin; first < end; first += kBlock) {
        const std::int64_t count = std::min(kBlock, end - first);
        isa().random_normal(values, first, count, key);
        write(values, outputs[0], first, count);
      }
    });
  }
  std::string describe() const override { return text("vec ", isa().name, " random_normal ", result_.dtype); }

 private:
  void write(float* values, void* output, std::int64_t first, std::int64_t count) const {
    if (result_.dtype == DType::float64) {
      double* to = static_cast<double*>(output) + first;
      for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<double>(values[i]) * scale_ + location_;
      return;
    }
    const float scale = static_cast<float>(scale_), location = static_cast<float>(location_);
    for (std::int64_t i = 0; i < count; ++i) values[i] = values[i] * scale + location;
    auto* to = static_cast<std::byte*>(output) + static_cast<std::size_t>(first) * size_of(result_.dtype);
    store_floats(result_.dtype, values, to, count);
  }

  TensorType result_;
  double location_, scale_;
  std::int64_t offset_;
};

std::unique_ptr<Kernel> make_random_normal(const KernelRequest& request) {
  return std::make_unique<RandomNormalKernel>(request);
}

MXPIPE_KERNEL("random_normal", 100, make_random_normal);

}  // namespace
}  // namespace mxpipe
