// dot_interaction and its gradient, sample by sample. Bytes: each array once; operations: a multiplication
// and an addition for each number of each pair, four times as many backward. A sample stays in L1.
#include <algorithm>

#include "graph/error.hpp"
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "kernels/portable/widened.hpp"
#include "kernels/vec/isa.hpp"

namespace mxpipe {
namespace {

template <typename T>
const RowFunctions<T>& row_functions() {
  if constexpr (std::is_same_v<T, float>) {
    return isa().rows;
  } else {
    return isa().double_rows;
  }
}

// Vector 0 of a sample is x, vector i + 1 is rows[i]; its dots with those before it lie side by side.
template <typename T>
class DotInteractionKernel final : public Kernel {
 public:
  DotInteractionKernel(const Shape& rows, bool gradient)
      : samples_(rows[0]), features_(rows[1]), length_(rows[2]), gradient_(gradient) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const std::int64_t whole = features_ * length_;  // of one sample
    const std::int64_t result = length_ + features_ * (features_ + 1) / 2;
    parallel_for(samples_, grain_for(features_ * whole / 8), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const auto in = [&](std::size_t at, std::int64_t size) {
          return static_cast<const T*>(inputs[at]) + i * size;
        };
        const auto out = [&](std::size_t at, std::int64_t size) {
          return static_cast<T*>(outputs[at]) + i * size;
        };
        if (gradient_) {
          backward(in(0, result), in(1, length_), in(2, whole), out(0, length_), out(1, whole));
        } else {
          forward(in(0, length_), in(1, whole), out(0, result));
        }
      }
    });
  }
  std::string describe() const override {
    return text("vec ", isa().name, gradient_ ? " dot_interaction_backward" : " dot_interaction");
  }

 private:
  void forward(const T* x, const T* rows, T* result) const {
    result = std::copy_n(x, length_, result);
    for (std::int64_t i = 0; i < features_; ++i) {
      const T* own = rows + i * length_;
      row_functions<T>().dots(own, x, 1, length_, result);
      row_functions<T>().dots(own, rows, i, length_, result + 1);
      result += i + 1;
    }
  }

  void backward(const T* g, const T* x, const T* rows, T* x_sum, T* row_sums) const {
    std::copy_n(g, length_, x_sum);
    std::fill_n(row_sums, features_ * length_, T(0));
    g += length_;
    for (std::int64_t i = 0; i < features_; ++i) {
      const T* own = rows + i * length_;
      T* own_sum = row_sums + i * length_;
      row_functions<T>().dots_backward(g, own, x, 1, length_, own_sum, x_sum);
      row_functions<T>().dots_backward(g + 1, own, rows, i, length_, own_sum, row_sums);
      g += i + 1;
    }
  }

  std::int64_t samples_, features_, length_;
  bool gradient_;
};

template <bool gradient>
std::unique_ptr<Kernel> make_dot_interaction(const KernelRequest& request) {
  if (has_half(request)) return make_widened(request);
  const Shape& rows = request.inputs.back().shape;
  if (request.inputs[0].dtype == DType::float64)
    return std::make_unique<DotInteractionKernel<double>>(rows, gradient);
  return std::make_unique<DotInteractionKernel<float>>(rows, gradient);
}

MXPIPE_KERNEL("dot_interaction", 0, make_dot_interaction<false>);
MXPIPE_KERNEL("dot_interaction_backward", 0, make_dot_interaction<true>);

}  // namespace
}  // namespace mxpipe
