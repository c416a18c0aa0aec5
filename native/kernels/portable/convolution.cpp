// Convolution and its gradients by matrix products over unfolded windows, image by image and group by group.
// Operations: 2 batch positions out (in / groups) volume; bytes: besides x, the weight and the result, the
// columns (each element of x as often as it lies in a window) once written and once read.
#include "kernels/convolution.hpp"

#include <algorithm>
#include <array>

#include "kernels/dispatch.hpp"
#include "kernels/parallel.hpp"
#include "kernels/portable/memory.hpp"
#include "kernels/portable/widened.hpp"

namespace mxpipe {
namespace {

std::size_t align(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

// The spatial axes as three, so that one loop serves all.
std::array<std::int64_t, 3> as_three(const Integers& values, std::int64_t missing) {
  std::array<std::int64_t, 3> result{missing, missing, missing};
  std::copy(values.begin(), values.end(), result.end() - static_cast<std::ptrdiff_t>(values.size()));
  return result;
}

// Where a batch of images keeps (image, channel, position).
struct Images {
  std::int64_t image = 0, channel = 0, position = 0;  // strides in elements

  Images(const Convolution& c, std::int64_t channels, std::int64_t positions)
      : image(channels * positions),
        channel(c.layout.channels_last ? 1 : positions),
        position(c.layout.channels_last ? channels : 1) {}
};

template <typename T>
class ConvolutionKernel final : public Kernel {
 public:
  explicit ConvolutionKernel(const Convolution& convolution)
      : c_(convolution),
        in_(c_.in / c_.groups),
        out_(c_.out / c_.groups),
        positions_(c_.positions()),
        depth_(in_ * c_.volume()),
        size_(as_three(c_.size, 1)),
        result_(as_three(c_.result, 1)),
        kernel_(as_three(c_.kernel, 1)),
        stride_(as_three(c_.stride, 1)),
        padding_(as_three(c_.padding, 0)),
        dilation_(as_three(c_.dilation, 1)),
        x_(c_, c_.in, size_[0] * size_[1] * size_[2]),
        y_(c_, c_.out, positions_) {
    if (c_.empty()) return;
    product_ = make_product();
    columns_bytes_ = align(static_cast<std::size_t>(positions_ * depth_) * sizeof(T));
    lines_bytes_ = align(static_cast<std::size_t>(positions_ * out_) * sizeof(T));
    part_bytes_ = align(static_cast<std::size_t>(out_ * depth_) * sizeof(T));
  }

  std::size_t scratch_bytes() const override {
    return columns_bytes_ + lines_bytes_ + part_bytes_ + (product_ ? packing_scratch_bytes(*product_, 2) : 0);
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs,
           void* scratch) const override {
    auto* memory = static_cast<std::byte*>(scratch);
    Buffers buffers{reinterpret_cast<T*>(memory), reinterpret_cast<T*>(memory + columns_bytes_),
                    reinterpret_cast<T*>(memory + columns_bytes_ + lines_bytes_),
                    memory + columns_bytes_ + lines_bytes_ + part_bytes_};
    auto* result = static_cast<T*>(outputs[0]);
    if (c_.kind != ConvolutionKind::forward) fill_zero(result, result_bytes());
    for (std::int64_t image = 0; image < c_.batch; ++image) {
      for (std::int64_t group = 0; group < c_.groups; ++group) {
        switch (c_.kind) {
          case ConvolutionKind::forward:
            forward(inputs, result, image, group, buffers);
            break;
          case ConvolutionKind::backward_data:
            backward_data(inputs, result, image, group, buffers);
            break;
          case ConvolutionKind::backward_weights:
            backward_weights(inputs, result, image, group, buffers);
            break;
        }
      }
    }
  }

  std::string describe() const override { return text("portable convolution ", c_.dtype); }

 private:
  struct Buffers {
    T* columns;  // (positions, in / groups * volume)
    T* lines;    // (positions, out / groups)
    T* part;     // (out / groups, in / groups * volume)
    void* product;
  };

  std::size_t result_bytes() const {
    const std::int64_t size = c_.kind == ConvolutionKind::backward_data
                                  ? c_.batch * c_.in * size_[0] * size_[1] * size_[2]
                                  : c_.out * depth_;
    return static_cast<std::size_t>(size) * sizeof(T);
  }

  // forward: columns weight^T; backward_data: lines weight; backward_weights: lines^T columns.
  std::unique_ptr<Kernel> make_product() const {
    const TensorType columns{c_.dtype, {positions_, depth_}}, lines{c_.dtype, {positions_, out_}};
    const TensorType part{c_.dtype, {out_, depth_}};
    const auto make = [](const TensorType& a, const TensorType& b, const TensorType& result, bool transpose_a,
                         bool transpose_b) {
      const Attributes attributes{{"transpose_a", transpose_a}, {"transpose_b", transpose_b}};
      const std::array inputs{a, b};
      return make_kernel({"matmul", attributes, inputs, std::span(&result, 1), nullptr});
    };
    if (c_.kind == ConvolutionKind::forward) return make(columns, part, lines, false, true);
    if (c_.kind == ConvolutionKind::backward_data) return make(lines, part, columns, false, false);
    return make(lines, columns, part, true, false);
  }

  void multiply(const T* a, const T* b, T* result, void* scratch) const {
    std::array<const void*, 2> inputs{a, b};
    const std::array<void*, 1> outputs{result};
    pack_and_run(*product_, inputs, outputs, scratch);
  }

  void forward(std::span<const void* const> inputs, T* y, std::int64_t image, std::int64_t group,
               const Buffers& buffers) const {
    if (product_) {
      unfold(static_cast<const T*>(inputs[0]) + image * x_.image + group * in_ * x_.channel, buffers.columns);
      multiply(buffers.columns, static_cast<const T*>(inputs[1]) + group * out_ * depth_, buffers.lines,
               buffers.product);
    }
    const std::int64_t first = image * y_.image + group * out_ * y_.channel;
    const T* bias = c_.bias ? static_cast<const T*>(inputs[2]) + group * out_ : nullptr;
    const T* addend = c_.addend ? static_cast<const T*>(inputs[3]) + first : nullptr;
    T* result = y + first;
    parallel_for(positions_, grain_for(out_ * 4), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t position = begin; position < end; ++position) {
        for (std::int64_t o = 0; o < out_; ++o) {
          const std::int64_t at = position * y_.position + o * y_.channel;
          T sum = product_ ? buffers.lines[position * out_ + o] : T{};
          if (bias != nullptr) sum += bias[o];
          if (addend != nullptr) sum += addend[at];
          result[at] = c_.relu && sum < T{} ? T{} : sum;
        }
      }
    });
  }

  void backward_data(std::span<const void* const> inputs, T* x, std::int64_t image, std::int64_t group,
                     const Buffers& buffers) const {
    if (!product_) return;
    gather_lines(static_cast<const T*>(inputs[0]) + image * y_.image + group * out_ * y_.channel,
                 buffers.lines);
    multiply(buffers.lines, static_cast<const T*>(inputs[1]) + group * out_ * depth_, buffers.columns,
             buffers.product);
    fold(buffers.columns, x + image * x_.image + group * in_ * x_.channel);
  }

  void backward_weights(std::span<const void* const> inputs, T* weight, std::int64_t image,
                        std::int64_t group, const Buffers& buffers) const {
    if (!product_) return;
    unfold(static_cast<const T*>(inputs[0]) + image * x_.image + group * in_ * x_.channel, buffers.columns);
    gather_lines(static_cast<const T*>(inputs[1]) + image * y_.image + group * out_ * y_.channel,
                 buffers.lines);
    multiply(buffers.lines, buffers.columns, buffers.part, buffers.product);
    T* result = weight + group * out_ * depth_;
    parallel_for(out_ * depth_, grain_for(1), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) result[i] += buffers.part[i];
    });
  }

  void gather_lines(const T* y, T* lines) const {
    parallel_for(positions_, grain_for(out_), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t position = begin; position < end; ++position) {
        for (std::int64_t o = 0; o < out_; ++o) {
          lines[position * out_ + o] = y[position * y_.position + o * y_.channel];
        }
      }
    });
  }

  // Calls body(k, q) for each kernel element k of the window at `position`, q being its position in x or -1.
  template <typename Body>
  void for_window(std::int64_t position, const Body& body) const {
    const std::int64_t d = position / (result_[1] * result_[2]) * stride_[0] - padding_[0];
    const std::int64_t h = position / result_[2] % result_[1] * stride_[1] - padding_[1];
    const std::int64_t w = position % result_[2] * stride_[2] - padding_[2];
    std::int64_t k = 0;
    for (std::int64_t i = 0; i < kernel_[0]; ++i) {
      const std::int64_t depth = d + i * dilation_[0];
      for (std::int64_t j = 0; j < kernel_[1]; ++j) {
        const std::int64_t row = h + j * dilation_[1];
        const bool inside = depth >= 0 && depth < size_[0] && row >= 0 && row < size_[1];
        for (std::int64_t l = 0; l < kernel_[2]; ++l, ++k) {
          const std::int64_t column = w + l * dilation_[2];
          const bool exists = inside && column >= 0 && column < size_[2];
          body(k, exists ? (depth * size_[1] + row) * size_[2] + column : -1);
        }
      }
    }
  }

  void unfold(const T* x, T* columns) const {
    const std::int64_t volume = c_.volume();
    parallel_for(positions_, grain_for(depth_ * 2), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t position = begin; position < end; ++position) {
        T* line = columns + position * depth_;
        for_window(position, [&](std::int64_t k, std::int64_t q) {
          for (std::int64_t channel = 0; channel < in_; ++channel) {
            line[channel * volume + k] = q < 0 ? T{} : x[q * x_.position + channel * x_.channel];
          }
        });
      }
    });
  }

  // Windows overlap, so that channels, not positions, are shared out between threads.
  void fold(const T* columns, T* x) const {
    const std::int64_t volume = c_.volume();
    parallel_for(in_, grain_for(positions_ * volume * 2), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t position = 0; position < positions_; ++position) {
        const T* line = columns + position * depth_;
        for_window(position, [&](std::int64_t k, std::int64_t q) {
          if (q < 0) return;
          for (std::int64_t channel = begin; channel < end; ++channel) {
            x[q * x_.position + channel * x_.channel] += line[channel * volume + k];
          }
        });
      }
    });
  }

  Convolution c_;
  std::int64_t in_, out_, positions_, depth_;
  std::array<std::int64_t, 3> size_, result_, kernel_, stride_, padding_, dilation_;
  Images x_, y_;
  std::unique_ptr<Kernel> product_;  // none where there is nothing to sum
  std::size_t columns_bytes_ = 0, lines_bytes_ = 0, part_bytes_ = 0;
};

std::unique_ptr<Kernel> make_convolution(const KernelRequest& request) {
  if (has_half(request)) return make_widened(request);
  const Convolution convolution = convolution_of(request);
  if (convolution.dtype == DType::float64) return std::make_unique<ConvolutionKernel<double>>(convolution);
  return std::make_unique<ConvolutionKernel<float>>(convolution);
}

MXPIPE_KERNEL("convolution", 0, make_convolution);
MXPIPE_KERNEL("convolution_backward_data", 0, make_convolution);
MXPIPE_KERNEL("convolution_backward_weights", 0, make_convolution);

}  // namespace
}  // namespace mxpipe
