// Pooling by plain loops over windows, and over the windows of each element for the gradients, so that every
// result is written once. Operations: one for each element of each window; bytes: x and the result once, if
// the rows that overlapping windows share stay in cache.
#include "kernels/pooling.hpp"

#include <algorithm>
#include <limits>

#include "kernels/dispatch.hpp"
#include "kernels/parallel.hpp"
#include "kernels/portable/widened.hpp"

namespace mxpipe {
namespace {

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

// A run of channels that lie side by side in channels-last layouts; in the others each channel is an image.
class Geometry {
 public:
  explicit Geometry(const Pooling& pooling)
      : p(pooling),
        inner(p.layout.channels_last ? p.channels : 1),
        images(p.layout.channels_last ? p.batch : p.batch * p.channels) {}

  // Calls body(q, k) for each element q of an image that window `window` takes, k being its place in it.
  template <typename Body>
  void for_elements(std::int64_t window, const Body& body) const {
    const auto& [depth, height, width] = p.axes;
    const std::size_t d = at(window / (height.windows * width.windows));
    const std::size_t h = at(window / width.windows % height.windows), w = at(window % width.windows);
    for (std::int64_t i = depth.begin[d]; i < depth.end[d]; ++i) {
      for (std::int64_t j = height.begin[h]; j < height.end[h]; ++j) {
        const std::int64_t line = (i - depth.start[d]) * height.kernel + j - height.start[h];
        for (std::int64_t l = width.begin[w]; l < width.end[w]; ++l) {
          body((i * height.size + j) * width.size + l, line * width.kernel + l - width.start[w]);
        }
      }
    }
  }

  // Calls body(window, k) for each window that takes element q, k being q's place in it.
  template <typename Body>
  void for_windows(std::int64_t q, const Body& body) const {
    const auto& [depth, height, width] = p.axes;
    const std::int64_t i = q / (height.size * width.size), j = q / width.size % height.size;
    const std::int64_t l = q % width.size;
    for (std::int64_t d = depth.first[at(i)]; d < depth.last[at(i)]; ++d) {
      for (std::int64_t h = height.first[at(j)]; h < height.last[at(j)]; ++h) {
        const std::int64_t line = (i - depth.start[at(d)]) * height.kernel + j - height.start[at(h)];
        for (std::int64_t w = width.first[at(l)]; w < width.last[at(l)]; ++w) {
          body((d * height.windows + h) * width.windows + w, line * width.kernel + l - width.start[at(w)]);
        }
      }
    }
  }

  // What the sum over a window is divided by.
  std::int64_t divisor(std::int64_t window) const {
    const auto& [depth, height, width] = p.axes;
    const std::size_t d = at(window / (height.windows * width.windows));
    const std::size_t h = at(window / width.windows % height.windows), w = at(window % width.windows);
    if (p.count_padding) return depth.length[d] * height.length[h] * width.length[w];
    return (depth.end[d] - depth.begin[d]) * (height.end[h] - height.begin[h]) *
           (width.end[w] - width.begin[w]);
  }

  Pooling p;
  std::int64_t inner, images;
};

template <typename T, typename Position>
class MaxPoolKernel final : public Kernel {
 public:
  explicit MaxPoolKernel(const Pooling& pooling) : geometry_(pooling) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const std::int64_t inner = geometry_.inner, windows = geometry_.p.windows();
    const std::int64_t cost = inner * std::max<std::int64_t>(1, geometry_.p.elements() / windows);
    const auto* x = static_cast<const T*>(inputs[0]);
    auto* y = static_cast<T*>(outputs[0]);
    auto* positions = static_cast<Position*>(outputs[1]);
    parallel_for(geometry_.images * windows, grain_for(cost), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const T* image = x + row / windows * geometry_.p.elements() * inner;
        T* best = y + row * inner;
        Position* found = positions + row * inner;
        std::fill_n(best, inner, -std::numeric_limits<T>::infinity());
        bool first = true;
        geometry_.for_elements(row % windows, [&](std::int64_t q, std::int64_t k) {
          take(image + q * inner, static_cast<Position>(k), first, best, found);
          first = false;
        });
      }
    });
  }
  std::string describe() const override { return text("portable max_pool ", geometry_.p.dtype); }

 private:
  // NaN wins and stays.
  void take(const T* x, Position k, bool first, T* best, Position* found) const {
    for (std::int64_t c = 0; c < geometry_.inner; ++c) {
      const bool better = first || x[c] > best[c] || x[c] != x[c];
      found[c] = better ? k : found[c];
      best[c] = better ? x[c] : best[c];
    }
  }

  Geometry geometry_;
};

template <typename T, typename Position>
class MaxPoolBackwardKernel final : public Kernel {
 public:
  explicit MaxPoolBackwardKernel(const Pooling& pooling) : geometry_(pooling) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const std::int64_t inner = geometry_.inner, elements = geometry_.p.elements();
    const auto* g = static_cast<const T*>(inputs[0]);
    const auto* positions = static_cast<const Position*>(inputs[1]);
    auto* result = static_cast<T*>(outputs[0]);
    parallel_for(geometry_.images * elements, grain_for(inner * 4),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t row = begin; row < end; ++row) {
                     const std::int64_t image = row / elements * geometry_.p.windows();
                     T* sum = result + row * inner;
                     std::fill_n(sum, inner, T{});
                     geometry_.for_windows(row % elements, [&](std::int64_t window, std::int64_t k) {
                       const std::int64_t from = (image + window) * inner;
                       for (std::int64_t c = 0; c < inner; ++c) {
                         sum[c] += positions[from + c] == static_cast<Position>(k) ? g[from + c] : T{};
                       }
                     });
                   }
                 });
  }
  std::string describe() const override { return text("portable max_pool_backward ", geometry_.p.dtype); }

 private:
  Geometry geometry_;
};

template <typename T>
class AvgPoolKernel final : public Kernel {
 public:
  explicit AvgPoolKernel(const Pooling& pooling) : geometry_(pooling) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const std::int64_t inner = geometry_.inner, windows = geometry_.p.windows();
    const std::int64_t cost = inner * std::max<std::int64_t>(1, geometry_.p.elements() / windows);
    const auto* x = static_cast<const T*>(inputs[0]);
    auto* y = static_cast<T*>(outputs[0]);
    parallel_for(geometry_.images * windows, grain_for(cost), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const T* image = x + row / windows * geometry_.p.elements() * inner;
        T* sum = y + row * inner;
        std::fill_n(sum, inner, T{});
        geometry_.for_elements(row % windows, [&](std::int64_t q, std::int64_t) {
          for (std::int64_t c = 0; c < inner; ++c) sum[c] += image[q * inner + c];
        });
        const T divisor = static_cast<T>(geometry_.divisor(row % windows));
        for (std::int64_t c = 0; c < inner; ++c) sum[c] /= divisor;
      }
    });
  }
  std::string describe() const override { return text("portable avg_pool ", geometry_.p.dtype); }

 private:
  Geometry geometry_;
};

template <typename T>
class AvgPoolBackwardKernel final : public Kernel {
 public:
  explicit AvgPoolBackwardKernel(const Pooling& pooling) : geometry_(pooling) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const std::int64_t inner = geometry_.inner, elements = geometry_.p.elements();
    const auto* g = static_cast<const T*>(inputs[0]);
    auto* result = static_cast<T*>(outputs[0]);
    parallel_for(geometry_.images * elements, grain_for(inner * 4),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t row = begin; row < end; ++row) {
                     const std::int64_t image = row / elements * geometry_.p.windows();
                     T* sum = result + row * inner;
                     std::fill_n(sum, inner, T{});
                     geometry_.for_windows(row % elements, [&](std::int64_t window, std::int64_t) {
                       const T* line = g + (image + window) * inner;
                       const T divisor = static_cast<T>(geometry_.divisor(window));
                       for (std::int64_t c = 0; c < inner; ++c) sum[c] += line[c] / divisor;
                     });
                   }
                 });
  }
  std::string describe() const override { return text("portable avg_pool_backward ", geometry_.p.dtype); }

 private:
  Geometry geometry_;
};

template <typename T>
std::unique_ptr<Kernel> make_typed(const Pooling& pooling) {
  if (!pooling.maximum && pooling.backward) return std::make_unique<AvgPoolBackwardKernel<T>>(pooling);
  if (!pooling.maximum) return std::make_unique<AvgPoolKernel<T>>(pooling);
  const bool small = pooling.position_dtype == DType::uint8;
  if (pooling.backward) {
    if (small) return std::make_unique<MaxPoolBackwardKernel<T, std::uint8_t>>(pooling);
    return std::make_unique<MaxPoolBackwardKernel<T, std::int32_t>>(pooling);
  }
  if (small) return std::make_unique<MaxPoolKernel<T, std::uint8_t>>(pooling);
  return std::make_unique<MaxPoolKernel<T, std::int32_t>>(pooling);
}

std::unique_ptr<Kernel> make_pooling(const KernelRequest& request) {
  if (has_half(request)) return make_widened(request);
  const Pooling pooling = pooling_of(request);
  if (pooling.dtype == DType::float64) return make_typed<double>(pooling);
  return make_typed<float>(pooling);
}

MXPIPE_KERNEL("max_pool", 0, make_pooling);
MXPIPE_KERNEL("max_pool_backward", 0, make_pooling);
MXPIPE_KERNEL("avg_pool", 0, make_pooling);
MXPIPE_KERNEL("avg_pool_backward", 0, make_pooling);

}  // namespace
}  // namespace mxpipe
