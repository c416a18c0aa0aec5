// batch_norm in training and its gradient: statistics a channel over all other axes.
// The general kernel: float64, and dtypes that kernels/vec leaves.
// Bytes: forward reads x three times (mean, variance, result) and writes y once; backward reads g and x twice
// and writes gx once. Sums are taken over fixed blocks of rows and added in float64: independent of the
// thread count.
#include <algorithm>
#include <cmath>

#include "graph/error.hpp"
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "kernels/portable/widened.hpp"

namespace mxpipe {
namespace {

// x is (outer, channels, inner); a row is one channels x inner plane.
struct Channels {
  std::int64_t outer = 1, channels = 1, inner = 1;
  std::int64_t block = 1, blocks = 0;  // rows a partial sum, and how many of those

  Channels(const KernelRequest& request, const Shape& shape) {
    const int axis = normalize_axis(request.attributes.integer("axis"), shape.rank(), request.op);
    outer = shape.product(0, axis);
    channels = shape[axis];
    inner = shape.product(axis + 1, shape.rank());
    block = grain_for(row());
    blocks = (outer + block - 1) / block;
  }
  std::int64_t row() const { return channels * inner; }
  double count() const { return static_cast<double>(outer * inner); }
  std::size_t sums_bytes() const { return static_cast<std::size_t>(blocks * channels) * sizeof(double); }

  // sums[c] = sum of term(index, c) over all elements of channel c.
  template <typename T, typename Term>
  void sum(double* partial, double* sums, const Term& term) const {
    parallel_for(outer, block, [&](std::int64_t begin, std::int64_t end) {
      double* own = partial + begin / block * channels;
      std::fill_n(own, channels, 0.0);
      if (inner == 1) {
        sum_columns<T>(own, begin, end, term);
        return;
      }
      for (std::int64_t o = begin; o < end; ++o) {
        for (std::int64_t c = 0; c < channels; ++c) own[c] += sum_run<T>((o * channels + c) * inner, c, term);
      }
    });
    for (std::int64_t c = 0; c < channels; ++c) {
      double total = 0;
      for (std::int64_t i = 0; i < blocks; ++i) total += partial[i * channels + c];
      sums[c] = total;
    }
  }

  // Columns, 256 at a time: their sums stay in L1 while the rows pass.
  template <typename T, typename Term>
  void sum_columns(double* own, std::int64_t begin, std::int64_t end, const Term& term) const {
    constexpr std::int64_t kWidth = 256;
    T sums[kWidth];
    for (std::int64_t first = 0; first < channels; first += kWidth) {
      const std::int64_t width = std::min(kWidth, channels - first);
      std::fill_n(sums, width, T{});
      for (std::int64_t o = begin; o < end; ++o) {
        for (std::int64_t j = 0; j < width; ++j) sums[j] += term(o * channels + first + j, first + j);
      }
      for (std::int64_t j = 0; j < width; ++j) own[first + j] = static_cast<double>(sums[j]);
    }
  }

  template <typename T, typename Term>
  double sum_run(std::int64_t at, std::int64_t channel, const Term& term) const {
    constexpr std::int64_t kLanes = 16;
    T lanes[kLanes] = {};
    std::int64_t i = 0;
    for (; i + kLanes <= inner; i += kLanes) {
      for (std::int64_t j = 0; j < kLanes; ++j) lanes[j] += term(at + i + j, channel);
    }
    for (; i < inner; ++i) lanes[0] += term(at + i, channel);
    double total = 0;
    for (const T lane : lanes) total += static_cast<double>(lane);
    return total;
  }

  // body(index, c) for all elements.
  template <typename Body>
  void for_each(const Body& body) const {
    parallel_for(outer, block, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t o = begin; o < end; ++o) {
        if (inner == 1) {
          for (std::int64_t c = 0; c < channels; ++c) body(o * channels + c, c);
          continue;
        }
        for (std::int64_t c = 0; c < channels; ++c) {
          for (std::int64_t i = 0; i < inner; ++i) body((o * channels + c) * inner + i, c);
        }
      }
    });
  }
};

// The one way from a variance to the scale: forward and backward must agree on the sign of the result.
template <typename T>
T scale_of(T gamma, T variance, double eps) {
  return static_cast<T>(static_cast<double>(gamma) / std::sqrt(static_cast<double>(variance) + eps));
}

template <typename T>
class BatchNormKernel final : public Kernel {
 public:
  explicit BatchNormKernel(const KernelRequest& request)
      : channels_(request, request.inputs[0].shape),
        eps_(request.attributes.real("eps")),
        relu_(request.attributes.string("activation") == "relu"),
        residual_(request.inputs.size() > 3) {}

  // Partial sums, the sums, scale and shift a channel.
  std::size_t scratch_bytes() const override {
    return channels_.sums_bytes() +
           static_cast<std::size_t>(channels_.channels) * (sizeof(double) + sizeof(T));
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs,
           void* scratch) const override {
    const T* __restrict x = static_cast<const T*>(inputs[0]);
    const T* __restrict gamma = static_cast<const T*>(inputs[1]);
    const T* __restrict beta = static_cast<const T*>(inputs[2]);
    T* __restrict y = static_cast<T*>(outputs[0]);
    T* __restrict mean = static_cast<T*>(outputs[1]);
    T* __restrict variance = static_cast<T*>(outputs[2]);
    const std::int64_t channels = channels_.channels;
    double* partial = static_cast<double*>(scratch);
    double* sums = partial + channels_.blocks * channels;
    T* __restrict scale = reinterpret_cast<T*>(sums + channels);

    channels_.template sum<T>(partial, sums, [=](std::int64_t i, std::int64_t) { return x[i]; });
    for (std::int64_t c = 0; c < channels; ++c) mean[c] = static_cast<T>(sums[c] / channels_.count());
    channels_.template sum<T>(partial, sums, [=](std::int64_t i, std::int64_t c) {
      const T d = x[i] - mean[c];
      return d * d;
    });
    for (std::int64_t c = 0; c < channels; ++c) {
      variance[c] = static_cast<T>(sums[c] / channels_.count());
      scale[c] = scale_of(gamma[c], variance[c], eps_);
    }
    const T* residual = residual_ ? static_cast<const T*>(inputs[3]) : nullptr;
    const bool relu = relu_;
    channels_.for_each([=](std::int64_t i, std::int64_t c) {
      T value = (x[i] - mean[c]) * scale[c] + beta[c];
      if (residual != nullptr) value += residual[i];
      y[i] = relu && value < 0 ? T(0) : value;
    });
  }
  std::string describe() const override { return "portable batch_norm"; }

 private:
  Channels channels_;
  double eps_;
  bool relu_, residual_;
};

// gx = gamma rstd (g - mean(g) - n mean(g n)), n being the normalised x.
template <typename T>
class BatchNormBackwardKernel final : public Kernel {
 public:
  explicit BatchNormBackwardKernel(const KernelRequest& request)
      : channels_(request, request.inputs[1].shape),
        eps_(request.attributes.real("eps")),
        relu_(request.attributes.string("activation") == "relu"),
        residual_(request.outputs.size() > 3) {}

  std::size_t scratch_bytes() const override {
    return channels_.sums_bytes() +
           static_cast<std::size_t>(channels_.channels) * (2 * sizeof(double) + 3 * sizeof(T));
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs,
           void* scratch) const override {
    const T* __restrict g = static_cast<const T*>(inputs[0]);
    const T* __restrict x = static_cast<const T*>(inputs[1]);
    const T* __restrict gamma = static_cast<const T*>(inputs[2]);
    const T* __restrict mean = static_cast<const T*>(inputs[3]);
    const T* variance = static_cast<const T*>(inputs[4]);
    T* __restrict result = static_cast<T*>(outputs[0]);
    T* gamma_gradient = static_cast<T*>(outputs[1]);
    T* beta_gradient = static_cast<T*>(outputs[2]);
    const std::int64_t channels = channels_.channels;
    double* partial = static_cast<double*>(scratch);
    double* sums = partial + channels_.blocks * channels;
    double* products = sums + channels;
    T* __restrict scale = reinterpret_cast<T*>(products + channels);
    T* __restrict slope = scale + channels;
    T* __restrict shift = slope + channels;

    for (std::int64_t c = 0; c < channels; ++c) scale[c] = scale_of(gamma[c], variance[c], eps_);
    const T* sign = relu_ ? static_cast<const T*>(inputs[residual_ ? 6 : 5]) : nullptr;
    const bool by_result = residual_;
    const auto masked = [=](std::int64_t i, std::int64_t c) {
      if (sign == nullptr) return g[i];
      const T result = by_result ? sign[i] : (x[i] - mean[c]) * scale[c] + sign[c];
      return result > 0 ? g[i] : T(0);
    };
    channels_.template sum<T>(partial, sums, masked);
    channels_.template sum<T>(
        partial, products, [=](std::int64_t i, std::int64_t c) { return masked(i, c) * (x[i] - mean[c]); });
    for (std::int64_t c = 0; c < channels; ++c) {
      const double rstd = 1 / std::sqrt(static_cast<double>(variance[c]) + eps_);
      gamma_gradient[c] = static_cast<T>(products[c] * rstd);
      beta_gradient[c] = static_cast<T>(sums[c]);
      const double factor = static_cast<double>(gamma[c]) * rstd;
      slope[c] = static_cast<T>(factor * rstd * rstd * products[c] / channels_.count());
      shift[c] = static_cast<T>(factor * sums[c] / channels_.count());
    }
    T* residual = residual_ ? static_cast<T*>(outputs[3]) : nullptr;
    channels_.for_each([=](std::int64_t i, std::int64_t c) {
      const T upstream = masked(i, c);
      if (residual != nullptr) residual[i] = upstream;
      result[i] = upstream * scale[c] - (x[i] - mean[c]) * slope[c] - shift[c];
    });
  }
  std::string describe() const override { return "portable batch_norm_backward"; }

 private:
  Channels channels_;
  double eps_;
  bool relu_, residual_;
};

template <template <typename> class BatchNorm>
std::unique_ptr<Kernel> make_batch_norm(const KernelRequest& request) {
  if (has_half(request)) return make_widened(request);
  if (request.inputs[0].dtype == DType::float64) return std::make_unique<BatchNorm<double>>(request);
  return std::make_unique<BatchNorm<float>>(request);
}

MXPIPE_KERNEL("batch_norm", 0, make_batch_norm<BatchNormKernel>);
MXPIPE_KERNEL("batch_norm_backward", 0, make_batch_norm<BatchNormBackwardKernel>);

}  // namespace
}  // namespace mxpipe
