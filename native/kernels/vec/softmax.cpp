// softmax, log_softmax, their gradients and softmax cross entropy, for rows (the last axis) of 32 and 16
// bits. Bytes: each input and output once (a row stays in the cache between its passes). Cross entropy keeps
// no probabilities, only log(sum(exp)) of each row: its gradient computes them again. Where loss and gradient
// are wanted at once, the logits come from memory only once for both.
#include "graph/error.hpp"
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "kernels/portable/ids.hpp"
#include "kernels/vec/isa.hpp"

namespace mxpipe {
namespace {

constexpr std::int64_t kCost = 4;  // operations an element, for the grain
constexpr std::size_t kStreamed = std::size_t{16}
                                  << 20;  // a gradient of more bytes is written past the cache

bool is_wanted(DType dtype) {
  return dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16;
}

// Rows of one dtype, by their number.
struct Rows {
  explicit Rows(const TensorType& type)
      : count(type.shape.product(0, type.shape.rank() - 1)),
        length(type.shape.back()),
        bytes(static_cast<std::size_t>(length) * size_of(type.dtype)) {}
  const void* at(const void* data, std::int64_t row) const {
    return static_cast<const std::byte*>(data) + static_cast<std::size_t>(row) * bytes;
  }
  void* at(void* data, std::int64_t row) const {
    return static_cast<std::byte*>(data) + static_cast<std::size_t>(row) * bytes;
  }

  std::int64_t count, length;
  std::size_t bytes;
};

class SoftmaxKernel final : public Kernel {
 public:
  SoftmaxKernel(const KernelRequest& request, bool backward, bool logarithm)
      : rows_(request.outputs[0]),
        functions_(isa().softmax(request.outputs[0].dtype)),
        dtype_(request.outputs[0].dtype),
        backward_(backward),
        logarithm_(logarithm) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    if (rows_.length == 0) return;
    parallel_for(rows_.count, grain_for(rows_.length * kCost), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        void* result = rows_.at(outputs[0], row);
        const void* first = rows_.at(inputs[0], row);
        if (backward_) {
          functions_.softmax_backward(first, rows_.at(inputs[1], row), result, rows_.length, logarithm_);
        } else {
          functions_.softmax(first, result, rows_.length, logarithm_);
        }
      }
    });
  }
  std::string describe() const override {
    return text("vec ", isa().name, logarithm_ ? " log_softmax" : " softmax",
                backward_ ? "_backward of " : " of ", dtype_);
  }

 private:
  Rows rows_;
  SoftmaxFunctions functions_;
  DType dtype_;
  bool backward_, logarithm_;
};

// The loss, its gradient, or both.
class CrossEntropyKernel final : public Kernel {
 public:
  enum class Task : std::uint8_t { loss, gradient, both };

  CrossEntropyKernel(const KernelRequest& request, Task task)
      : op_(request.op),
        task_(task),
        logits_(task == Task::gradient ? 1 : 0),
        rows_(request.inputs[logits_]),
        ids_(request.inputs[logits_ + 1].dtype),
        dtype_(request.inputs[logits_].dtype),
        streams_(request.inputs[logits_].bytes() > kStreamed),
        functions_(isa().softmax(dtype_)) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    dispatch_ids(ids_, [&]<typename Id>() {
      const Id* labels = static_cast<const Id*>(inputs[logits_ + 1]);
      parallel_for(rows_.count, grain_for(rows_.length * kCost), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
          require_id(op_, labels[row], 0, rows_.length);
          run_row(inputs, outputs, row, labels[row]);
        }
      });
    });
  }
  std::string describe() const override { return text("vec ", isa().name, " ", op_, " of ", dtype_); }

 private:
  void run_row(std::span<const void* const> inputs, std::span<void* const> outputs, std::int64_t row,
               std::int64_t label) const {
    const void* x = rows_.at(inputs[logits_], row);
    float log_sum = 0;
    if (task_ == Task::gradient) {
      log_sum = static_cast<const float*>(inputs[3])[row];
    } else {
      log_sum = functions_.log_sum_exp(x, rows_.length);
      static_cast<float*>(outputs[0])[row] = log_sum - functions_.element(x, label);
      static_cast<float*>(outputs[1])[row] = log_sum;
    }
    if (task_ == Task::loss) return;
    const float g = static_cast<const float*>(inputs[task_ == Task::both ? 2 : 0])[row];
    void* result = rows_.at(outputs[task_ == Task::both ? 2 : 0], row);
    functions_.cross_entropy_gradient(x, result, rows_.length, label, log_sum, g, streams_);
  }

  std::string op_;
  Task task_;
  std::size_t logits_;  // which input
  Rows rows_;
  DType ids_, dtype_;
  bool streams_;
  SoftmaxFunctions functions_;
};

template <bool backward, bool logarithm>
std::unique_ptr<Kernel> make_softmax(const KernelRequest& request) {
  const TensorType& type = request.outputs[0];
  const int rank = type.shape.rank();
  if (!is_wanted(type.dtype) ||
      normalize_axis(request.attributes.integer("axis"), rank, request.op) != rank - 1)
    return nullptr;
  return std::make_unique<SoftmaxKernel>(request, backward, logarithm);
}

template <CrossEntropyKernel::Task task>
std::unique_ptr<Kernel> make_cross_entropy(const KernelRequest& request) {
  const std::size_t logits = task == CrossEntropyKernel::Task::gradient ? 1 : 0;
  if (!is_wanted(request.inputs[logits].dtype)) return nullptr;
  return std::make_unique<CrossEntropyKernel>(request, task);
}

using Task = CrossEntropyKernel::Task;
MXPIPE_KERNEL("softmax", 100, (make_softmax<false, false>));
MXPIPE_KERNEL("log_softmax", 100, (make_softmax<false, true>));
MXPIPE_KERNEL("softmax_backward", 100, (make_softmax<true, false>));
MXPIPE_KERNEL("log_softmax_backward", 100, (make_softmax<true, true>));
MXPIPE_KERNEL("softmax_cross_entropy", 100, make_cross_entropy<Task::loss>);
MXPIPE_KERNEL("softmax_cross_entropy_backward", 100, make_cross_entropy<Task::gradient>);
MXPIPE_KERNEL("softmax_cross_entropy_and_gradient", 100, make_cross_entropy<Task::both>);

}  // namespace
}  // namespace mxpipe
