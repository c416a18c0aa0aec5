// argmax and argmin: the first position of the extreme along an axis; NaN counts as the extreme.
// Bytes: the input once; operations: one comparison an element.
#include "graph/error.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "kernels/portable/widened.hpp"

namespace mxpipe {
namespace {

template <typename T, bool largest>
class ArgumentKernel final : public Kernel {
 public:
  explicit ArgumentKernel(const KernelRequest& request) {
    const Shape& shape = request.inputs[0].shape;
    const int axis = normalize_axis(request.attributes.integer("axis"), shape.rank(), request.op);
    outer_ = shape.product(0, axis);
    length_ = shape[axis];
    inner_ = shape.product(axis + 1, shape.rank());
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const T* x = static_cast<const T*>(inputs[0]);
    auto* result = static_cast<std::int64_t*>(outputs[0]);
    parallel_for(outer_ * inner_, grain_for(length_), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        result[i] = find(x + i / inner_ * length_ * inner_ + i % inner_);
      }
    });
  }
  std::string describe() const override { return largest ? "portable argmax" : "portable argmin"; }

 private:
  std::int64_t find(const T* line) const {
    std::int64_t best = 0;
    T extreme = line[0];
    for (std::int64_t i = 1; i < length_; ++i) {
      const T value = line[i * inner_];
      const bool better = largest ? value > extreme : value < extreme;
      if (better || (value != value && extreme == extreme)) {
        best = i;
        extreme = value;
      }
    }
    return best;
  }

  std::int64_t outer_ = 0, length_ = 0, inner_ = 0;
};

template <bool largest>
std::unique_ptr<Kernel> make_argument(const KernelRequest& request) {
  if (has_half(request)) return make_widened(request);
  const DType dtype = is_boolean(request.inputs[0].dtype) ? DType::uint8 : request.inputs[0].dtype;
  return dispatch_number(dtype, [&]<typename T>() -> std::unique_ptr<Kernel> {
    return std::make_unique<ArgumentKernel<T, largest>>(request);
  });
}

MXPIPE_KERNEL("argmax", 0, make_argument<true>);
MXPIPE_KERNEL("argmin", 0, make_argument<false>);

}  // namespace
}  // namespace mxpipe
