// Gradients of 1x1 convolutions without padding, which are matrix products over positions:
//
//     weight gradient (out, in) = g^T (out, positions) x (positions, in)
//
// With a stride only every so many positions of x take part: they are gathered first, and the gradient of x
// is that of the gathered positions, scattered among zeros. oneDNN's matrix product is a fifth faster here
// than its convolution kernels. Operations: 2 positions in out; bytes: x, g and the weight once, and with a
// stride the gathered positions twice.
#include <algorithm>
#include <optional>

#include "kernels/convolution.hpp"
#include "kernels/onednn/primitive.hpp"
#include "kernels/parallel.hpp"
#include "kernels/portable/memory.hpp"

namespace mxpipe::onednn {
namespace {

using dnnl::memory;

std::size_t align(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

bool all(const Integers& values, std::int64_t wanted) {
  return std::all_of(values.begin(), values.end(), [&](std::int64_t value) { return value == wanted; });
}

bool is_pointwise(const Convolution& c) {
  return (c.dtype == DType::float32 || c.dtype == DType::bfloat16) && c.layout.channels_last &&
         c.groups == 1 && all(c.kernel, 1) && all(c.padding, 0) && !c.empty();
}

// The positions of x that a stride leaves, as rows of channels.
class Subsampling {
 public:
  explicit Subsampling(const Convolution& c)
      : active_(!all(c.stride, 1)),
        row_bytes_(static_cast<std::size_t>(c.in) * size_of(c.dtype)),
        batch_(c.batch),
        size_(c.size),
        stride_(c.stride),
        result_(c.result) {
    for (const std::int64_t size : c.size) elements_ *= size;
    for (const std::int64_t size : c.result) positions_ *= size;
  }

  bool active() const { return active_; }
  std::size_t bytes() const {
    return active_ ? align(static_cast<std::size_t>(batch_ * positions_) * row_bytes_) : 0;
  }

  void gather(const void* x, void* rows) const {
    const auto* from = static_cast<const std::byte*>(x);
    auto* to = static_cast<std::byte*>(rows);
    for_rows(batch_ * positions_, [&](std::int64_t row) {
      std::int64_t rest = row % positions_, element = 0, step = 1;
      for (std::size_t axis = size_.size(); axis-- > 0;) {
        element += rest % result_[axis] * stride_[axis] * step;
        rest /= result_[axis];
        step *= size_[axis];
      }
      copy_row(at(to, row), at(from, row / positions_ * elements_ + element), row_bytes_);
    });
  }

  // Writes all of x: zero where no position was taken.
  void scatter(const void* rows, void* x) const {
    const auto* from = static_cast<const std::byte*>(rows);
    auto* to = static_cast<std::byte*>(x);
    for_rows(batch_ * elements_, [&](std::int64_t row) {
      std::int64_t rest = row % elements_, position = 0, step = 1;
      bool taken = true;
      for (std::size_t axis = size_.size(); axis-- > 0;) {
        const std::int64_t at_axis = rest % size_[axis];
        rest /= size_[axis];
        taken = taken && at_axis % stride_[axis] == 0 && at_axis / stride_[axis] < result_[axis];
        position += at_axis / stride_[axis] * step;
        step *= result_[axis];
      }
      if (taken) {
        copy_row(at(to, row), at(from, row / elements_ * positions_ + position), row_bytes_);
      } else {
        std::memset(at(to, row), 0, row_bytes_);
      }
    });
  }

 private:
  template <typename Byte>
  Byte* at(Byte* rows, std::int64_t row) const {
    return rows + row * static_cast<std::int64_t>(row_bytes_);
  }

  template <typename Body>
  void for_rows(std::int64_t rows, const Body& body) const {
    const std::int64_t grain =
        std::max<std::int64_t>(1, kBytesPerChunk / static_cast<std::int64_t>(row_bytes_));
    parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) body(row);
    });
  }

  bool active_;
  std::size_t row_bytes_;
  std::int64_t batch_, elements_ = 1, positions_ = 1;
  Integers size_, stride_, result_;
};

class PointwiseWeightsKernel final : public Kernel {
 public:
  PointwiseWeightsKernel(const Convolution& c, const dnnl::matmul::primitive_desc& descriptor, bool swapped)
      : threads_(threads_for(c.operations())),
        swapped_(swapped),
        subsampling_(c),
        scratchpad_bytes_(align(descriptor.scratchpad_desc().get_size())),
        name_(text("onednn matmul ", c.dtype, " ", descriptor.impl_info_str())) {
    product_.emplace(dnnl::matmul(descriptor),
                     Primitive::Arguments{{DNNL_ARG_SRC, descriptor.src_desc()},
                                          {DNNL_ARG_WEIGHTS, descriptor.weights_desc()},
                                          {DNNL_ARG_DST, descriptor.dst_desc()},
                                          {DNNL_ARG_SCRATCHPAD, descriptor.scratchpad_desc()}});
    if (!swapped) return;
    const memory::dims dims{c.in, c.out};
    const memory::desc from(dims, data_type(c.weight_dtype), memory::format_tag::ab);
    const memory::desc to(dims, data_type(c.weight_dtype), memory::format_tag::ba);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::reorder::primitive_desc reorder(engine(), from, engine(), to, attributes);
    scratchpad_bytes_ = std::max(scratchpad_bytes_, align(reorder.scratchpad_desc().get_size()));
    swapped_bytes_ = align(from.get_size());
    turn_.emplace(
        dnnl::reorder(reorder),
        Primitive::Arguments{
            {DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}, {DNNL_ARG_SCRATCHPAD, reorder.scratchpad_desc()}});
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs,
           void* scratch) const override {
    auto* memory = static_cast<std::byte*>(scratch);
    const void* x = inputs[0];
    if (subsampling_.active()) {
      void* const rows = memory + scratchpad_bytes_ + swapped_bytes_;
      subsampling_.gather(x, rows);
      x = rows;
    }
    use_threads(threads_);
    void* const result = swapped_ ? memory + scratchpad_bytes_ : outputs[0];
    const void* a = swapped_ ? x : inputs[1];
    const void* b = swapped_ ? inputs[1] : x;
    product_->execute(std::array<const void*, 4>{a, b, result, memory});
    if (swapped_) turn_->execute(std::array<const void*, 3>{result, outputs[0], memory});
  }

  std::size_t scratch_bytes() const override {
    return scratchpad_bytes_ + swapped_bytes_ + subsampling_.bytes();
  }
  std::string describe() const override { return name_; }

 private:
  int threads_;
  bool swapped_;
  Subsampling subsampling_;
  std::size_t scratchpad_bytes_, swapped_bytes_ = 0;
  std::optional<Primitive> product_, turn_;
  std::string name_;
};

// a^T b, both (positions, columns).
memory::desc transposed(std::int64_t positions, std::int64_t columns, DType dtype) {
  return {{columns, positions}, data_type(dtype), memory::dims{1, columns}};
}
memory::desc plain(std::int64_t rows, std::int64_t columns, DType dtype) {
  return {{rows, columns}, data_type(dtype), memory::dims{columns, 1}};
}

constexpr std::int64_t kLeastNarrowWeights = std::int64_t{1} << 15;
constexpr std::int64_t kMostTurnedWeights = std::int64_t{1} << 19;

std::unique_ptr<Kernel> make_weights(const KernelRequest& request) {
  const Convolution c = convolution_of(request);
  if (!is_pointwise(c)) return nullptr;
  // Of bfloat16 the product turns both operands around first, which pays where they are used often enough.
  if (c.dtype == DType::bfloat16 && c.in * c.out < kLeastNarrowWeights) return nullptr;
  use_threads(threads_for(c.operations()));
  // Measured: with few channels few rows of many columns are computed faster; else it is the other way round,
  // where turning the result around costs little.
  const bool narrow = c.in < c.out && c.in <= 64;
  const bool swapped = narrow || (c.out < c.in && c.out >= 128 && c.in * c.out < kMostTurnedWeights);
  const std::int64_t positions = c.batch * c.positions();
  const std::int64_t rows = swapped ? c.in : c.out, columns = swapped ? c.out : c.in;
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  constexpr bool kAllowEmpty = true;
  const dnnl::matmul::primitive_desc descriptor(
      engine(), transposed(positions, rows, c.dtype), plain(positions, columns, c.dtype),
      plain(rows, columns, c.weight_dtype), attributes, kAllowEmpty);
  if (!descriptor || is_reference(descriptor.impl_info_str())) return nullptr;
  return std::make_unique<PointwiseWeightsKernel>(c, descriptor, swapped);
}

// With a stride: the gradient of the gathered positions, by a kernel without stride, then scattered.
class PointwiseDataKernel final : public Kernel {
 public:
  PointwiseDataKernel(const Convolution& c, std::unique_ptr<Kernel> inner)
      : subsampling_(c), inner_(std::move(inner)) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs,
           void* scratch) const override {
    void* const rows = static_cast<std::byte*>(scratch) + align(inner_->scratch_bytes());
    inner_->run(inputs, std::array<void*, 1>{rows}, scratch);
    subsampling_.scatter(rows, outputs[0]);
  }

  std::size_t scratch_bytes() const override { return align(inner_->scratch_bytes()) + subsampling_.bytes(); }
  std::size_t packed_bytes(std::size_t input) const override { return inner_->packed_bytes(input); }
  void pack(std::size_t input, const void* raw, void* packed) const override {
    inner_->pack(input, raw, packed);
  }
  std::string describe() const override { return "scattered " + inner_->describe(); }

 private:
  Subsampling subsampling_;
  std::unique_ptr<Kernel> inner_;
};

std::unique_ptr<Kernel> make_data(const KernelRequest& request) {
  const Convolution c = convolution_of(request);
  if (!is_pointwise(c) || all(c.stride, 1)) return nullptr;
  Attributes attributes = request.attributes;
  attributes.set("stride", Integers{});
  attributes.set("size", c.result);
  const TensorType rows{c.dtype, c.layout.shape(c.batch, c.in, c.result)};
  return std::make_unique<PointwiseDataKernel>(
      c, make_kernel({request.op, attributes, request.inputs, std::span(&rows, 1), nullptr}));
}

constexpr int kBeforeConvolutions = 210;
MXPIPE_KERNEL("convolution_backward_weights", kBeforeConvolutions, make_weights);
MXPIPE_KERNEL("convolution_backward_data", kBeforeConvolutions, make_data);

}  // namespace
}  // namespace mxpipe::onednn
