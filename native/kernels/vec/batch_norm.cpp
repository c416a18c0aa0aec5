// batch_norm in training and its gradient, with the relu and the residual addition behind it, for data of 32
// and 16 bits and float32 parameters.
// Bytes: forward reads x twice and writes y once (and reads a residual once); backward reads g and x twice
// and writes gx once. The relu's mask is computed again from x, unless there was a residual: then the result
// is read once, and the masked g, which is the residual's gradient, is written and read once.
//
// Statistics are taken in blocks that depend on the size alone, each around a mean of its own (no
// cancellation), and joined in float64 (Chan, Golub and LeVeque 1979).
#include <algorithm>
#include <cmath>

#include "graph/error.hpp"
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "kernels/vec/isa.hpp"

namespace mxpipe {
namespace {

constexpr std::int64_t kLeastWidth = 64;   // numbers of a row, so that vectors are full
constexpr std::int64_t kMostBlocks = 256;  // of partial sums
constexpr std::int64_t kRun = 16 * 1024;   // numbers of one channel that are summed in float32
constexpr std::int64_t kPad = 16;          // floats; parameters are padded to it
constexpr std::size_t kStreamedBytes = std::size_t{12} << 20;  // of a result that passes the caches by

bool is_half(DType dtype) { return dtype == DType::bfloat16 || dtype == DType::float16; }

// How x is cut. Channels last: blocks of rows, a row being one or more times all channels. Otherwise: runs of
// one channel.
class BatchNormLayout {
 public:
  BatchNormLayout(const KernelRequest& request, const TensorType& x) {
    const int axis = normalize_axis(request.attributes.integer("axis"), x.shape.rank(), request.op);
    channels = x.shape[axis];
    inner_ = x.shape.product(axis + 1, x.shape.rank());
    size_ = x.size();
    element_bytes_ = size_of(x.dtype);
    if (channels == 0) return;
    if (inner_ == 1) {
      const std::int64_t repeat = std::max<std::int64_t>(1, kLeastWidth / channels);
      width = channels * repeat;
      const std::int64_t rows = (size_ + width - 1) / width;
      const std::int64_t together = std::max(grain_for(width), (rows + kMostBlocks - 1) / kMostBlocks);
      block_ = together * width;
      blocks = (size_ + block_ - 1) / block_;
      full_count_ = static_cast<double>(together);
    } else {
      width = channels;
      runs_ = (inner_ + kRun - 1) / kRun;
      blocks = size_ / (channels * inner_) * runs_;
    }
    padded = (width + kPad - 1) / kPad * kPad;
  }

  std::int64_t channels = 0;
  std::int64_t width = 0;  // entries of a parameter: its channels, repeated
  std::int64_t padded = 0;
  std::int64_t blocks = 0;  // of partial sums, `width` each

  bool one_channel() const { return inner_ != 1; }
  double count() const { return static_cast<double>(size_ / channels); }

  // Numbers that went into entry `j` of block `block`.
  double count(std::int64_t block, std::int64_t j) const {
    if (one_channel()) return static_cast<double>(runs_ == 1 ? inner_ : run_length(block % runs_));
    if (block + 1 < blocks) return full_count_;
    const std::int64_t elements = size_ - block * block_;
    return static_cast<double>(elements / width + (j < elements % width ? 1 : 0));
  }

  // totals[k] = sum of term(block, entry) over the blocks and entries of channel first + k.
  template <typename Term>
  void total(std::int64_t first, std::int64_t some, double* totals, const Term& term) const {
    std::fill_n(totals, some, 0.0);
    for (std::int64_t block = 0; block < blocks; ++block) {
      for (std::int64_t j = first; j < width; j += channels) {
        for (std::int64_t k = 0; k < some; ++k) totals[k] += term(block, j + k, k);
      }
    }
  }

  // body(first channel, channels) for groups of at most kPad channels.
  template <typename Body>
  void for_groups(const Body& body) const {
    const std::int64_t groups = (channels + kPad - 1) / kPad;
    parallel_for(groups, grain_for(blocks * 4 * kPad), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) body(i * kPad, std::min(kPad, channels - i * kPad));
    });
  }

  // body(block, entry, first element, elements) for all of x; from the end, if asked: what was read last is
  // still in the cache.
  template <typename Body>
  void for_each(bool backwards, const Body& body) const {
    if (!one_channel()) {
      parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const std::int64_t block = backwards ? blocks - 1 - i : i;
          body(block, std::int64_t{0}, block * block_, std::min(block_, size_ - block * block_));
        }
      });
      return;
    }
    const std::int64_t units = blocks * channels;
    parallel_for(units, grain_for(std::min(inner_, kRun) + kPad), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t unit = backwards ? units - 1 - i : i;
        const std::int64_t run = unit % runs_, plane = unit / runs_;
        body(plane / channels * runs_ + run, plane % channels, plane * inner_ + run * kRun, run_length(run));
      }
    });
  }

  template <typename Pointer>
  Pointer at(Pointer data, std::int64_t element) const {
    using Byte =
        std::conditional_t<std::is_const_v<std::remove_pointer_t<Pointer>>, const std::byte, std::byte>;
    return data == nullptr ? nullptr
                           : static_cast<Byte*>(data) + static_cast<std::size_t>(element) * element_bytes_;
  }

  // values[c] for all entries of a row.
  void repeat(float* values) const {
    for (std::int64_t j = channels; j < width; ++j) values[j] = values[j - channels];
  }

 private:
  std::int64_t run_length(std::int64_t run) const { return std::min(kRun, inner_ - run * kRun); }

  std::int64_t size_ = 0, inner_ = 1, block_ = 1, runs_ = 1;
  double full_count_ = 0;
  std::size_t element_bytes_ = 4;
};

// One kernel's view of its scratch: `parameters` rows of floats, then three rows a block.
struct BatchNormScratch {
  BatchNormScratch(const BatchNormLayout& layout, void* memory, std::int64_t parameters)
      : padded(layout.padded), values(static_cast<float*>(memory)), partial(values + parameters * padded) {}
  static std::size_t bytes(const BatchNormLayout& layout, std::int64_t parameters) {
    return static_cast<std::size_t>((parameters + 3 * layout.blocks) * layout.padded) * sizeof(float);
  }
  float* parameter(std::int64_t index) const { return values + index * padded; }
  float* sums(std::int64_t block, std::int64_t kind) const { return partial + (block * 3 + kind) * padded; }

  std::int64_t padded;
  float* values;
  float* partial;
};

// The one way from a variance to the scale: forward and backward must agree to the bit.
float scale_of(float gamma, float variance, double eps) {
  return static_cast<float>(static_cast<double>(gamma) / std::sqrt(static_cast<double>(variance) + eps));
}

class BatchNormKernel final : public Kernel {
 public:
  explicit BatchNormKernel(const KernelRequest& request)
      : layout_(request, request.inputs[0]),
        eps_(request.attributes.real("eps")),
        relu_(request.attributes.string("activation") == "relu"),
        residual_(request.inputs.size() > 3),
        dtype_(request.inputs[0].dtype),
        streams_(request.inputs[0].bytes() > kStreamedBytes),
        functions_(isa().batch_norm(dtype_)) {}

  std::size_t scratch_bytes() const override { return BatchNormScratch::bytes(layout_, 3); }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void* memory) const override {
    const BatchNormScratch scratch(layout_, memory, 3);
    layout_.for_each(false,
                     [&](std::int64_t block, std::int64_t entry, std::int64_t first, std::int64_t count) {
                       BatchNormCall call = stretch(count);
                       call.x = layout_.at(inputs[0], first);
                       call.first_sum = scratch.sums(block, 0) + entry;
                       call.second_sum = scratch.sums(block, 1) + entry;
                       call.work = scratch.sums(block, 2);
                       functions_.statistics(call);
                     });
    join(inputs, outputs, scratch);
    layout_.for_each(true, [&](std::int64_t, std::int64_t entry, std::int64_t first, std::int64_t count) {
      BatchNormCall call = stretch(count);
      call.x = layout_.at(inputs[0], first);
      call.residual = residual_ ? layout_.at(inputs[3], first) : nullptr;
      call.result = layout_.at(outputs[0], first);
      call.mean = scratch.parameter(0) + entry;
      call.scale = scratch.parameter(1) + entry;
      call.beta = scratch.parameter(2) + entry;
      functions_.normalize(call);
    });
  }

  std::string describe() const override {
    return text("vec ", isa().name, " batch_norm of ", dtype_, residual_ ? " + residual" : "",
                relu_ ? " + relu" : "");
  }

 private:
  BatchNormCall stretch(std::int64_t count) const {
    BatchNormCall call;
    call.count = count;
    call.one_channel = layout_.one_channel();
    call.width = call.one_channel ? count : layout_.width;
    call.relu = relu_;
    call.streams = streams_;
    return call;
  }

  // The mean and variance of each channel from those of the blocks.
  void join(std::span<const void* const> inputs, std::span<void* const> outputs,
            const BatchNormScratch& scratch) const {
    const auto* gamma = static_cast<const float*>(inputs[1]);
    const auto* beta = static_cast<const float*>(inputs[2]);
    layout_.for_groups([&](std::int64_t first, std::int64_t some) {
      double sums[kPad], squares[kPad], means[kPad];
      layout_.total(first, some, sums, [&](std::int64_t block, std::int64_t j, std::int64_t) {
        return layout_.count(block, j) * static_cast<double>(scratch.sums(block, 0)[j]);
      });
      for (std::int64_t k = 0; k < some; ++k) means[k] = sums[k] / layout_.count();
      layout_.total(first, some, squares, [&](std::int64_t block, std::int64_t j, std::int64_t k) {
        const double d = static_cast<double>(scratch.sums(block, 0)[j]) - means[k];
        return static_cast<double>(scratch.sums(block, 1)[j]) + layout_.count(block, j) * d * d;
      });
      for (std::int64_t k = 0; k < some; ++k) {
        const std::int64_t c = first + k;
        const auto variance = static_cast<float>(squares[k] / layout_.count());
        static_cast<float*>(outputs[1])[c] = scratch.parameter(0)[c] = static_cast<float>(means[k]);
        static_cast<float*>(outputs[2])[c] = variance;
        scratch.parameter(1)[c] = scale_of(gamma[c], variance, eps_);
        scratch.parameter(2)[c] = beta[c];
      }
    });
    for (std::int64_t i = 0; i < 3; ++i) layout_.repeat(scratch.parameter(i));
  }

  BatchNormLayout layout_;
  double eps_;
  bool relu_, residual_;
  DType dtype_;
  bool streams_;
  BatchNormFunctions functions_;
};

// gx = gamma rstd (g - mean(g) - n mean(g n)), n being the normalised x and g the gradient in front of the
// relu.
class BatchNormBackwardKernel final : public Kernel {
 public:
  explicit BatchNormBackwardKernel(const KernelRequest& request)
      : layout_(request, request.inputs[1]),
        eps_(request.attributes.real("eps")),
        relu_(request.attributes.string("activation") == "relu"),
        residual_(request.outputs.size() > 3),
        dtype_(request.inputs[1].dtype),
        streams_(request.inputs[1].bytes() > kStreamedBytes),
        functions_(isa().batch_norm(dtype_)) {}

  std::size_t scratch_bytes() const override { return BatchNormScratch::bytes(layout_, kParameters); }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void* memory) const override {
    const BatchNormScratch scratch(layout_, memory, kParameters);
    prepare(inputs, scratch);
    layout_.for_each(false,
                     [&](std::int64_t block, std::int64_t entry, std::int64_t first, std::int64_t count) {
                       BatchNormCall call = stretch(scratch, entry, count);
                       call.x = layout_.at(inputs[1], first);
                       call.g = layout_.at(inputs[0], first);
                       call.y = residual_ ? layout_.at(inputs[6], first) : nullptr;
                       call.residual_gradient = residual_ ? layout_.at(outputs[3], first) : nullptr;
                       call.first_sum = scratch.sums(block, 0) + entry;
                       call.second_sum = scratch.sums(block, 1) + entry;
                       functions_.sums(call);
                     });
    join(inputs, outputs, scratch);
    layout_.for_each(true, [&](std::int64_t, std::int64_t entry, std::int64_t first, std::int64_t count) {
      BatchNormCall call = stretch(scratch, entry, count);
      call.relu = relu_ && !residual_;
      call.x = layout_.at(inputs[1], first);
      call.g = layout_.at(residual_ ? static_cast<const void*>(outputs[3]) : inputs[0], first);
      call.result = layout_.at(outputs[0], first);
      functions_.gradient(call);
    });
  }

  std::string describe() const override {
    return text("vec ", isa().name, " batch_norm_backward of ", dtype_, residual_ ? " + residual" : "",
                relu_ ? " + relu" : "");
  }

 private:
  enum Parameter : std::uint8_t { mean, scale, beta, slope, shift, kParameters };

  BatchNormCall stretch(const BatchNormScratch& scratch, std::int64_t entry, std::int64_t count) const {
    BatchNormCall call;
    call.count = count;
    call.one_channel = layout_.one_channel();
    call.width = call.one_channel ? count : layout_.width;
    call.relu = relu_;
    call.streams = streams_;
    call.mean = scratch.parameter(mean) + entry;
    call.scale = scratch.parameter(scale) + entry;
    call.beta = scratch.parameter(beta) + entry;
    call.slope = scratch.parameter(slope) + entry;
    call.shift = scratch.parameter(shift) + entry;
    return call;
  }

  void prepare(std::span<const void* const> inputs, const BatchNormScratch& scratch) const {
    const bool masked = relu_ && !residual_;
    for (std::int64_t c = 0; c < layout_.channels; ++c) {
      scratch.parameter(mean)[c] = static_cast<const float*>(inputs[3])[c];
      scratch.parameter(scale)[c] =
          scale_of(static_cast<const float*>(inputs[2])[c], static_cast<const float*>(inputs[4])[c], eps_);
      scratch.parameter(beta)[c] = masked ? static_cast<const float*>(inputs[5])[c] : 0.0F;
    }
    for (const Parameter each : {mean, scale, beta}) layout_.repeat(scratch.parameter(each));
  }

  void join(std::span<const void* const> inputs, std::span<void* const> outputs,
            const BatchNormScratch& scratch) const {
    const auto* gamma = static_cast<const float*>(inputs[2]);
    const auto* variance = static_cast<const float*>(inputs[4]);
    layout_.for_groups([&](std::int64_t first, std::int64_t some) {
      double sums[kPad], products[kPad];
      const auto kind = [&](std::int64_t which) {
        return [&scratch, which](std::int64_t block, std::int64_t j, std::int64_t) {
          return static_cast<double>(scratch.sums(block, which)[j]);
        };
      };
      layout_.total(first, some, sums, kind(0));
      layout_.total(first, some, products, kind(1));
      for (std::int64_t k = 0; k < some; ++k) {
        const std::int64_t c = first + k;
        const double rstd = 1 / std::sqrt(static_cast<double>(variance[c]) + eps_);
        const double factor = static_cast<double>(gamma[c]) * rstd;
        static_cast<float*>(outputs[1])[c] = static_cast<float>(products[k] * rstd);
        static_cast<float*>(outputs[2])[c] = static_cast<float>(sums[k]);
        scratch.parameter(slope)[c] =
            static_cast<float>(factor * rstd * rstd * products[k] / layout_.count());
        scratch.parameter(shift)[c] = static_cast<float>(factor * sums[k] / layout_.count());
      }
    });
    for (const Parameter each : {slope, shift}) layout_.repeat(scratch.parameter(each));
  }

  BatchNormLayout layout_;
  double eps_;
  bool relu_, residual_;
  DType dtype_;
  bool streams_;
  BatchNormFunctions functions_;
};

template <typename BatchNorm, std::size_t data, std::size_t gamma>
std::unique_ptr<Kernel> make_batch_norm(const KernelRequest& request) {
  const DType dtype = request.inputs[data].dtype;
  if (dtype != DType::float32 && !is_half(dtype)) return nullptr;
  if (request.inputs[gamma].dtype != DType::float32) return nullptr;
  return std::make_unique<BatchNorm>(request);
}

MXPIPE_KERNEL("batch_norm", 100, (make_batch_norm<BatchNormKernel, 0, 1>));
MXPIPE_KERNEL("batch_norm_backward", 100, (make_batch_norm<BatchNormBackwardKernel, 1, 2>));

}  // namespace
}  // namespace mxpipe
