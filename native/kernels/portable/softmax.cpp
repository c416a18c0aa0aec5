// softmax, log_softmax, their gradients, and softmax cross entropy.
// Bytes: each input and output once (a row stays in cache between its passes); cross entropy keeps no
// probabilities: its gradient computes them again from the logits.
#include <vector>

#include "graph/error.hpp"
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "kernels/portable/ids.hpp"
#include "kernels/portable/widened.hpp"
#include "kernels/vec/isa.hpp"

namespace mxpipe {
namespace {

constexpr std::int64_t kCost = 8;  // element operations an element, for the grain

// (outer, axis, inner): where inner > 1 a line is gathered into a row of its own and scattered back.
struct Lines {
  std::int64_t outer = 1, length = 1, inner = 1;

  Lines(const Shape& shape, int axis)
      : outer(shape.product(0, axis)), length(shape[axis]), inner(shape.product(axis + 1, shape.rank())) {}
  std::int64_t start(std::int64_t line) const { return line / inner * length * inner + line % inner; }
};

template <typename T>
class SoftmaxKernel final : public Kernel {
 public:
  SoftmaxKernel(const KernelRequest& request, bool backward, bool logarithm)
      : lines_(request.outputs[0].shape, normalize_axis(request.attributes.integer("axis"),
                                                        request.outputs[0].shape.rank(), request.op)),
        backward_(backward),
        logarithm_(logarithm) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const T* first = static_cast<const T*>(inputs[0]);
    const T* second = backward_ ? static_cast<const T*>(inputs[1]) : nullptr;
    T* result = static_cast<T*>(outputs[0]);
    if (lines_.length == 0) return;
    parallel_for(lines_.outer * lines_.inner, grain_for(lines_.length * kCost),
                 [&](std::int64_t begin, std::int64_t end) {
                   if (lines_.inner == 1) {
                     for (std::int64_t row = begin; row < end; ++row) {
                       const std::int64_t at = row * lines_.length;
                       run_row(first + at, backward_ ? second + at : nullptr, result + at);
                     }
                     return;
                   }
                   std::vector<T> copies(static_cast<std::size_t>(3 * lines_.length));
                   T* a = copies.data();
                   T* b = a + lines_.length;
                   T* c = b + lines_.length;
                   for (std::int64_t line = begin; line < end; ++line) {
                     const std::int64_t at = lines_.start(line);
                     for (std::int64_t i = 0; i < lines_.length; ++i) a[i] = first[at + i * lines_.inner];
                     for (std::int64_t i = 0; backward_ && i < lines_.length; ++i)
                       b[i] = second[at + i * lines_.inner];
                     run_row(a, b, c);
                     for (std::int64_t i = 0; i < lines_.length; ++i) result[at + i * lines_.inner] = c[i];
                   }
                 });
  }
  std::string describe() const override {
    return text("vec ", isa().name, logarithm_ ? " log_softmax" : " softmax", backward_ ? "_backward" : "");
  }

 private:
  void run_row(const T* first, const T* second, T* result) const {
    if (backward_) {
      row_functions<T>().softmax_backward(first, second, result, lines_.length, logarithm_);
    } else {
      row_functions<T>().softmax(first, result, lines_.length, logarithm_);
    }
  }

  Lines lines_;
  bool backward_, logarithm_;
};

template <typename T>
class CrossEntropyKernel final : public Kernel {
 public:
  CrossEntropyKernel(const KernelRequest& request, bool backward) : backward_(backward) {
    const TensorType& logits = request.inputs[backward ? 1 : 0];
    ids_ = request.inputs[backward ? 2 : 1].dtype;
    rows_ = logits.shape[0];
    classes_ = logits.shape[1];
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const T* g = backward_ ? static_cast<const T*>(inputs[0]) : nullptr;
    const T* logits = static_cast<const T*>(inputs[backward_ ? 1 : 0]);
    T* result = static_cast<T*>(outputs[0]);
    dispatch_ids(ids_, [&]<typename Id>() {
      const Id* labels = static_cast<const Id*>(inputs[backward_ ? 2 : 1]);
      parallel_for(rows_, grain_for(classes_ * kCost), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
          require_id(backward_ ? "softmax_cross_entropy_backward" : "softmax_cross_entropy", labels[row], 0,
                     classes_);
          const T* x = logits + row * classes_;
          const T log_sum = row_functions<T>().log_sum_exp(x, classes_);
          if (backward_) {
            T* to = result + row * classes_;
            row_functions<T>().scaled_softmax(x, to, classes_, log_sum, g[row]);
            to[labels[row]] -= g[row];
          } else {
            result[row] = log_sum - x[labels[row]];
          }
        }
      });
    });
  }
  std::string describe() const override {
    return text("vec ", isa().name, " softmax_cross_entropy", backward_ ? "_backward" : "");
  }

 private:
  bool backward_;
  DType ids_ = DType::int32;
  std::int64_t rows_ = 0, classes_ = 0;
};

template <bool backward, bool logarithm>
std::unique_ptr<Kernel> make_softmax(const KernelRequest& request) {
  if (has_half(request)) return make_widened(request);
  if (request.inputs[0].dtype == DType::float64) {
    return std::make_unique<SoftmaxKernel<double>>(request, backward, logarithm);
  }
  return std::make_unique<SoftmaxKernel<float>>(request, backward, logarithm);
}

template <bool backward>
std::unique_ptr<Kernel> make_cross_entropy(const KernelRequest& request) {
  if (has_half(request)) return make_widened(request);
  if (request.inputs[0].dtype == DType::float64)
    return std::make_unique<CrossEntropyKernel<double>>(request, backward);
  return std::make_unique<CrossEntropyKernel<float>>(request, backward);
}

MXPIPE_KERNEL("softmax", 100, (make_softmax<false, false>));
MXPIPE_KERNEL("log_softmax", 100, (make_softmax<false, true>));
MXPIPE_KERNEL("softmax_backward", 100, (make_softmax<true, false>));
MXPIPE_KERNEL("log_softmax_backward", 100, (make_softmax<true, true>));
MXPIPE_KERNEL("softmax_cross_entropy", 100, make_cross_entropy<false>);
MXPIPE_KERNEL("softmax_cross_entropy_backward", 100, make_cross_entropy<true>);

}  // namespace
}  // namespace mxpipe
