// layer_norm, rms_norm and their gradients, over the last axis, in general: float64, and dtypes that
// kernels/vec leaves. Bytes: forward reads x and writes y once; backward reads g and x once, writes gx once.
// The sums for gamma and beta are taken over fixed blocks of rows and then added in float64, so they do not
// depend on the thread count.
#include <algorithm>
#include <cmath>

#include "graph/error.hpp"
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "kernels/portable/memory.hpp"
#include "kernels/portable/widened.hpp"
#include "kernels/vec/isa.hpp"

namespace mxpipe {
namespace {

template <typename T>
class LayerNormKernel final : public Kernel {
 public:
  explicit LayerNormKernel(const KernelRequest& request)
      : width_(request.inputs[0].shape.back()),
        rows_(width_ == 0 ? 0 : request.inputs[0].size() / width_),
        eps_(static_cast<T>(request.attributes.real("eps"))) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const T* x = static_cast<const T*>(inputs[0]);
    const T* gamma = static_cast<const T*>(inputs[1]);
    const T* beta = static_cast<const T*>(inputs[2]);
    T* y = static_cast<T*>(outputs[0]);
    T* mean = static_cast<T*>(outputs[1]);
    T* rstd = static_cast<T*>(outputs[2]);
    parallel_for(rows_, grain_for(width_ * 3), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const std::int64_t at = row * width_;
        row_functions<T>().layer_norm(x + at, gamma, beta, y + at, width_, eps_, mean + row, rstd + row);
      }
    });
  }
  std::string describe() const override { return "portable layer_norm"; }

 private:
  std::int64_t width_, rows_;
  T eps_;
};

template <typename T>
class LayerNormBackwardKernel final : public Kernel {
 public:
  explicit LayerNormBackwardKernel(const KernelRequest& request)
      : width_(request.inputs[1].shape.back()), rows_(width_ == 0 ? 0 : request.inputs[1].size() / width_) {
    block_ = std::max<std::int64_t>(16, grain_for(width_ * 3));
    blocks_ = (rows_ + block_ - 1) / block_;
  }

  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(blocks_ * 2 * width_) * sizeof(T);
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs,
           void* scratch) const override {
    const T* g = static_cast<const T*>(inputs[0]);
    const T* x = static_cast<const T*>(inputs[1]);
    const T* gamma = static_cast<const T*>(inputs[2]);
    const T* mean = static_cast<const T*>(inputs[3]);
    const T* rstd = static_cast<const T*>(inputs[4]);
    T* result = static_cast<T*>(outputs[0]);
    T* partial = static_cast<T*>(scratch);  // (blocks, 2, width)
    parallel_for(rows_, block_, [&](std::int64_t begin, std::int64_t end) {
      T* gamma_sum = partial + begin / block_ * 2 * width_;
      T* beta_sum = gamma_sum + width_;
      std::fill_n(gamma_sum, 2 * width_, T{});
      for (std::int64_t row = begin; row < end; ++row) {
        const std::int64_t at = row * width_;
        row_functions<T>().layer_norm_backward(g + at, x + at, gamma, mean[row], rstd[row], result + at,
                                               gamma_sum, beta_sum, width_);
      }
    });
    add_blocks(partial, static_cast<T*>(outputs[1]));
    add_blocks(partial + width_, static_cast<T*>(outputs[2]));
  }
  std::string describe() const override { return "portable layer_norm_backward"; }

 private:
  void add_blocks(const T* partial, T* result) const {
    parallel_for(width_, grain_for(blocks_), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t j = begin; j < end; ++j) {
        double sum = 0;
        for (std::int64_t block = 0; block < blocks_; ++block) {
          sum += static_cast<double>(partial[block * 2 * width_ + j]);
        }
        result[j] = static_cast<T>(sum);
      }
    });
  }

  std::int64_t width_, rows_, block_ = 1, blocks_ = 0;
};

// y = x * rstd * gamma, rstd being 1 / sqrt(mean(x^2) + eps).
template <typename T>
class RmsNormKernel final : public Kernel {
 public:
  explicit RmsNormKernel(const KernelRequest& request)
      : width_(request.inputs[0].shape.back()),
        rows_(width_ == 0 ? 0 : request.inputs[0].size() / width_),
        eps_(request.attributes.real("eps")) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const T* x = static_cast<const T*>(inputs[0]);
    const T* gamma = static_cast<const T*>(inputs[1]);
    T* y = static_cast<T*>(outputs[0]);
    parallel_for(rows_, grain_for(width_ * 3), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const T* from = x + row * width_;
        const double squares = static_cast<double>(row_functions<T>().dot(from, from, width_));
        const auto rstd = static_cast<T>(1 / std::sqrt(squares / static_cast<double>(width_) + eps_));
        static_cast<T*>(outputs[1])[row] = rstd;
        for (std::int64_t i = 0; i < width_; ++i) y[row * width_ + i] = from[i] * rstd * gamma[i];
      }
    });
  }
  std::string describe() const override { return "portable rms_norm"; }

 private:
  std::int64_t width_, rows_;
  double eps_;
};

// gx = rstd * (g gamma - n mean(g gamma n)), n being the normalised x; gamma's gradient is the sum of g n.
template <typename T>
class RmsNormBackwardKernel final : public Kernel {
 public:
  explicit RmsNormBackwardKernel(const KernelRequest& request)
      : width_(request.inputs[1].shape.back()), rows_(width_ == 0 ? 0 : request.inputs[1].size() / width_) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const T* g = static_cast<const T*>(inputs[0]);
    const T* x = static_cast<const T*>(inputs[1]);
    const T* gamma = static_cast<const T*>(inputs[2]);
    const T* rstd = static_cast<const T*>(inputs[3]);
    T* result = static_cast<T*>(outputs[0]);
    parallel_for(rows_, grain_for(width_ * 3), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const std::int64_t at = row * width_;
        double product = 0;
        for (std::int64_t i = at; i < at + width_; ++i)
          product += static_cast<double>(g[i] * gamma[i - at] * x[i] * rstd[row]);
        const auto mean = static_cast<T>(product / static_cast<double>(width_));
        for (std::int64_t i = at; i < at + width_; ++i)
          result[i] = (g[i] * gamma[i - at] - x[i] * rstd[row] * mean) * rstd[row];
      }
    });
    parallel_for(width_, grain_for(rows_), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t j = begin; j < end; ++j) {
        double sum = 0;
        for (std::int64_t row = 0; row < rows_; ++row) {
          sum += static_cast<double>(g[row * width_ + j] * x[row * width_ + j] * rstd[row]);
        }
        static_cast<T*>(outputs[1])[j] = static_cast<T>(sum);
      }
    });
  }
  std::string describe() const override { return "portable rms_norm_backward"; }

 private:
  std::int64_t width_, rows_;
};

template <template <typename> class LayerNorm>
std::unique_ptr<Kernel> make_layer_norm(const KernelRequest& request) {
  if (has_half(request)) return make_widened(request);
  if (request.inputs[0].dtype == DType::float64) return std::make_unique<LayerNorm<double>>(request);
  return std::make_unique<LayerNorm<float>>(request);
}

MXPIPE_KERNEL("layer_norm", 0, make_layer_norm<LayerNormKernel>);
MXPIPE_KERNEL("layer_norm_backward", 0, make_layer_norm<LayerNormBackwardKernel>);
MXPIPE_KERNEL("rms_norm", 0, make_layer_norm<RmsNormKernel>);
MXPIPE_KERNEL("rms_norm_backward", 0, make_layer_norm<RmsNormBackwardKernel>);

}  // namespace
}  // namespace mxpipe
