// softmax, log_softmax, their gradients, and softmax cross entropy, in general: along any axis, and float64.
// Bytes: each input and output once (a row stays in cache between its passes); cross entropy keeps no
// probabilities: its gradient computes them again from the logits and
// log(sum(exp)).
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
    return text("portable", logarithm_ ? " log_softmax" : " softmax", backward_ ? "_backward" : "");
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
  CrossEntropyKernel(const KernelRequest& request, bool loss, bool gradient)
      : op_(request.op), loss_(loss), gradient_(gradient), logits_(loss ? 0 : 1) {
    ids_ = request.inputs[logits_ + 1].dtype;
    rows_ = request.inputs[logits_].shape[0];
    classes_ = request.inputs[logits_].shape[1];
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const T* logits = static_cast<const T*>(inputs[logits_]);
    const T* g = gradient_ ? static_cast<const T*>(inputs[loss_ ? 2 : 0]) : nullptr;
    T* result = gradient_ ? static_cast<T*>(outputs[loss_ ? 2 : 0]) : nullptr;
    dispatch_ids(ids_, [&]<typename Id>() {
      const Id* labels = static_cast<const Id*>(inputs[logits_ + 1]);
      parallel_for(rows_, grain_for(classes_ * kCost), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
          require_id(op_, labels[row], 0, classes_);
          const T* x = logits + row * classes_;
          const T log_sum =
              loss_ ? row_functions<T>().log_sum_exp(x, classes_) : static_cast<const T*>(inputs[3])[row];
          if (loss_) {
            static_cast<T*>(outputs[0])[row] = log_sum - x[labels[row]];
            static_cast<T*>(outputs[1])[row] = log_sum;
          }
          if (!gradient_) continue;
          T* to = result + row * classes_;
          row_functions<T>().scaled_softmax(x, to, classes_, log_sum, g[row]);
          to[labels[row]] -= g[row];
        }
      });
    });
  }
  std::string describe() const override { return text("portable ", op_); }

 private:
  std::string op_;
  bool loss_, gradient_;
  std::size_t logits_;  // which input
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

template <bool loss, bool gradient>
std::unique_ptr<Kernel> make_cross_entropy(const KernelRequest& request) {
  if (has_half(request)) return make_widened(request);
  if (request.inputs[loss ? 0 : 1].dtype == DType::float64)
    return std::make_unique<CrossEntropyKernel<double>>(request, loss, gradient);
  return std::make_unique<CrossEntropyKernel<float>>(request, loss, gradient);
}

MXPIPE_KERNEL("softmax", 0, (make_softmax<false, false>));
MXPIPE_KERNEL("log_softmax", 0, (make_softmax<false, true>));
MXPIPE_KERNEL("softmax_backward", 0, (make_softmax<true, false>));
MXPIPE_KERNEL("log_softmax_backward", 0, (make_softmax<true, true>));
MXPIPE_KERNEL("softmax_cross_entropy", 0, (make_cross_entropy<true, false>));
MXPIPE_KERNEL("softmax_cross_entropy_backward", 0, (make_cross_entropy<false, true>));
MXPIPE_KERNEL("softmax_cross_entropy_and_gradient", 0, (make_cross_entropy<true, true>));

}  // namespace
}  // namespace mxpipe
