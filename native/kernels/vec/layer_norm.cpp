// layer_norm, rms_norm and their gradients, over the last axis, for data of 32 and 16 bits and float32
// parameters. Bytes: forward reads x and writes y once; backward reads g and x once and writes gx once. The
// sums for gamma and beta are taken over fixed blocks of rows and then added in float64, so they do not
// depend on the thread count.
#include <algorithm>

#include "graph/error.hpp"
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "kernels/vec/isa.hpp"

namespace mxpipe {
namespace {

constexpr std::int64_t kCost = 2;                         // operations an element, for the grain
constexpr std::size_t kStreamed = std::size_t{16} << 20;  // results of more bytes are written past the cache

struct NormRows {
  explicit NormRows(const TensorType& x)
      : width(x.shape.back()),
        count(width == 0 ? 0 : x.size() / width),
        bytes(static_cast<std::size_t>(width) * size_of(x.dtype)),
        dtype(x.dtype),
        streams(x.bytes() > kStreamed) {}
  const void* at(const void* data, std::int64_t row) const {
    return static_cast<const std::byte*>(data) + static_cast<std::size_t>(row) * bytes;
  }
  void* at(void* data, std::int64_t row) const {
    return static_cast<std::byte*>(data) + static_cast<std::size_t>(row) * bytes;
  }

  std::int64_t width, count;
  std::size_t bytes;
  DType dtype;
  bool streams;
};

// Inputs x, gamma and, centered, beta; outputs y and, centered, mean; rstd.
class LayerNormKernel final : public Kernel {
 public:
  LayerNormKernel(const KernelRequest& request, bool centered)
      : rows_(request.inputs[0]),
        centered_(centered),
        eps_(static_cast<float>(request.attributes.real("eps"))) {
    const LayerNormFunctions functions = isa().layer_norm(rows_.dtype);
    function_ = centered ? functions.layer_norm : functions.rms_norm;
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    parallel_for(rows_.count, grain_for(rows_.width * kCost), [&](std::int64_t begin, std::int64_t end) {
      LayerNormCall call;
      call.rows = end - begin;
      call.width = rows_.width;
      call.eps = eps_;
      call.streams = rows_.streams;
      call.x = rows_.at(inputs[0], begin);
      call.gamma = static_cast<const float*>(inputs[1]);
      call.result = rows_.at(outputs[0], begin);
      if (centered_) {
        call.beta = static_cast<const float*>(inputs[2]);
        call.mean = static_cast<float*>(outputs[1]) + begin;
      }
      call.rstd = static_cast<float*>(outputs[centered_ ? 2 : 1]) + begin;
      function_(call);
    });
  }
  std::string describe() const override {
    return text("vec ", isa().name, centered_ ? " layer_norm of " : " rms_norm of ", rows_.dtype);
  }

 private:
  NormRows rows_;
  bool centered_;
  float eps_;
  void (*function_)(const LayerNormCall&) = nullptr;
};

// Inputs g, x, gamma and, centered, mean; rstd. Outputs the gradients of x, gamma and, centered, beta.
class LayerNormBackwardKernel final : public Kernel {
 public:
  LayerNormBackwardKernel(const KernelRequest& request, bool centered)
      : rows_(request.inputs[1]), centered_(centered) {
    const LayerNormFunctions functions = isa().layer_norm(rows_.dtype);
    function_ = centered ? functions.layer_norm_backward : functions.rms_norm_backward;
    block_ = std::max<std::int64_t>(
        {16, grain_for(rows_.width * kCost), (rows_.count + kMostBlocks - 1) / kMostBlocks});
    blocks_ = (rows_.count + block_ - 1) / block_;
  }

  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(blocks_ * 2 * rows_.width) * sizeof(float);
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs,
           void* scratch) const override {
    float* partial = static_cast<float*>(scratch);  // (blocks, 2, width)
    parallel_for(rows_.count, block_, [&](std::int64_t begin, std::int64_t end) {
      LayerNormCall call;
      call.rows = end - begin;
      call.width = rows_.width;
      call.streams = rows_.streams;
      call.g = rows_.at(inputs[0], begin);
      call.x = rows_.at(inputs[1], begin);
      call.gamma = static_cast<const float*>(inputs[2]);
      // Forward wrote these and reads nothing; here they are only read.
      if (centered_) call.mean = const_cast<float*>(static_cast<const float*>(inputs[3])) + begin;
      call.rstd = const_cast<float*>(static_cast<const float*>(inputs[centered_ ? 4 : 3])) + begin;
      call.result = rows_.at(outputs[0], begin);
      call.gamma_sum = partial + begin / block_ * 2 * rows_.width;
      call.beta_sum = call.gamma_sum + rows_.width;
      std::fill_n(call.gamma_sum, 2 * rows_.width, 0.0F);
      function_(call);
    });
    add_blocks(partial, static_cast<float*>(outputs[1]));
    if (centered_) add_blocks(partial + rows_.width, static_cast<float*>(outputs[2]));
  }
  std::string describe() const override {
    return text("vec ", isa().name, centered_ ? " layer_norm_backward of " : " rms_norm_backward of ",
                rows_.dtype);
  }

 private:
  static constexpr std::int64_t kMostBlocks = 256;

  void add_blocks(const float* partial, float* result) const {
    constexpr std::int64_t kSome = 64;  // columns at a time, so that lines are read whole
    parallel_for(rows_.width, std::max(kSome, grain_for(blocks_)), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t first = begin; first < end; first += kSome) {
        const std::int64_t some = std::min(kSome, end - first);
        double sums[kSome] = {};
        for (std::int64_t block = 0; block < blocks_; ++block) {
          const float* from = partial + block * 2 * rows_.width + first;
          for (std::int64_t j = 0; j < some; ++j) sums[j] += static_cast<double>(from[j]);
        }
        for (std::int64_t j = 0; j < some; ++j) result[first + j] = static_cast<float>(sums[j]);
      }
    });
  }

  NormRows rows_;
  bool centered_;
  std::int64_t block_ = 1, blocks_ = 0;
  void (*function_)(const LayerNormCall&) = nullptr;
};

template <typename Norm, bool centered, std::size_t data>
std::unique_ptr<Kernel> make_norm(const KernelRequest& request) {
  const DType dtype = request.inputs[data].dtype;
  if (dtype != DType::float32 && dtype != DType::bfloat16 && dtype != DType::float16) return nullptr;
  if (request.inputs[data + 1].dtype != DType::float32) return nullptr;
  return std::make_unique<Norm>(request, centered);
}

MXPIPE_KERNEL("layer_norm", 100, (make_norm<LayerNormKernel, true, 0>));
MXPIPE_KERNEL("layer_norm_backward", 100, (make_norm<LayerNormBackwardKernel, true, 1>));
MXPIPE_KERNEL("rms_norm", 100, (make_norm<LayerNormKernel, false, 0>));
MXPIPE_KERNEL("rms_norm_backward", 100, (make_norm<LayerNormBackwardKernel, false, 1>));

}  // namespace
}  // namespace mxpipe
