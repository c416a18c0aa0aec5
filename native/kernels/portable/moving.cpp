// Ops that move elements: transpose, slice, slice_scatter, slice_assign, concatenate.
// Bytes: each element of the result written once (slice_scatter and slice_assign twice where the slice lies),
// each input element that is needed read once.
#include <cstring>
#include <vector>

#include "graph/error.hpp"
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "kernels/portable/memory.hpp"
#include "kernels/portable/strided_copy.hpp"

namespace mxpipe {
namespace {

class CopyKernel final : public Kernel {
 public:
  CopyKernel(std::string_view name, StridedCopy copy, std::int64_t source_offset)
      : name_(name), copy_(copy), source_offset_(source_offset) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    copy_.run(static_cast<const std::byte*>(inputs[0]) + source_offset_, outputs[0]);
  }
  std::string describe() const override { return "portable " + name_; }

 private:
  std::string name_;
  StridedCopy copy_;
  std::int64_t source_offset_;  // bytes
};

std::unique_ptr<Kernel> make_transpose(const KernelRequest& request) {
  const Shape from = contiguous_strides(request.inputs[0].shape);
  const Shape& shape = request.outputs[0].shape;
  Shape source;
  for (const std::int64_t axis : request.attributes.integers("axes"))
    source.push_back(from[static_cast<int>(axis)]);
  const StridedCopy copy(shape, source, contiguous_strides(shape), size_of(request.outputs[0].dtype));
  return std::make_unique<CopyKernel>("transpose", copy, 0);
}

// Where a slice lies in a row-major array: strides of its axes, and the bytes before its first element.
struct Region {
  Shape strides;
  std::int64_t offset = 0;
};

Region region_of(const Attributes& attributes, const Shape& whole, DType dtype) {
  const Shape strides = contiguous_strides(whole);
  const Integers& begin = attributes.integers("begin");
  const Integers& step = attributes.integers("step");
  Region region;
  for (int axis = 0; axis < whole.rank(); ++axis) {
    const auto i = static_cast<std::size_t>(axis);
    region.strides.push_back(strides[axis] * step[i]);
    region.offset += strides[axis] * begin[i];
  }
  region.offset *= static_cast<std::int64_t>(size_of(dtype));
  return region;
}

std::unique_ptr<Kernel> make_slice(const KernelRequest& request) {
  const auto& [dtype, shape] = request.outputs[0];
  const Region region = region_of(request.attributes, request.inputs[0].shape, dtype);
  const StridedCopy copy(shape, region.strides, contiguous_strides(shape), size_of(dtype));
  return std::make_unique<CopyKernel>("slice", copy, region.offset);
}

// The whole is zeros or the target; then the slice is written over it.
class SliceWriteKernel final : public Kernel {
 public:
  SliceWriteKernel(const KernelRequest& request, bool assign)
      : assign_(assign), bytes_(request.outputs[0].bytes()) {
    const TensorType& value = request.inputs[assign ? 1 : 0];
    const Region region = region_of(request.attributes, request.outputs[0].shape, value.dtype);
    offset_ = region.offset;
    copy_ = StridedCopy(value.shape, contiguous_strides(value.shape), region.strides, size_of(value.dtype));
    empty_ = value.size() == 0;
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    if (!assign_) {
      fill_zero(outputs[0], bytes_);
    } else if (inputs[0] != outputs[0]) {
      copy_bytes(inputs[0], outputs[0], bytes_);
    }
    if (!empty_) copy_.run(inputs[assign_ ? 1 : 0], static_cast<std::byte*>(outputs[0]) + offset_);
  }
  std::string describe() const override {
    return assign_ ? "portable slice_assign" : "portable slice_scatter";
  }

 private:
  bool assign_, empty_ = false;
  std::size_t bytes_;
  std::int64_t offset_ = 0;
  StridedCopy copy_;
};

class ConcatenateKernel final : public Kernel {
 public:
  explicit ConcatenateKernel(const KernelRequest& request) {
    const TensorType& result = request.outputs[0];
    const int axis = normalize_axis(request.attributes.integer("axis"), result.shape.rank(), request.op);
    const auto bytes = static_cast<std::int64_t>(size_of(result.dtype));
    outer_ = result.shape.product(0, axis);
    row_ = result.shape.product(axis, result.shape.rank()) * bytes;
    for (const TensorType& input : request.inputs) {
      pieces_.push_back(input.shape.product(axis, input.shape.rank()) * bytes);
    }
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    auto* destination = static_cast<std::byte*>(outputs[0]);
    if (outer_ == 1) {  // whole arrays one after the other
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        copy_bytes(inputs[i], destination, static_cast<std::size_t>(pieces_[i]));
        destination += pieces_[i];
      }
      return;
    }
    parallel_for(outer_, grain_for(row_ / 4), [&](std::int64_t begin, std::int64_t end) {
      std::int64_t column = 0;
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        const auto* source = static_cast<const std::byte*>(inputs[i]);
        const std::int64_t piece = pieces_[i];
        for (std::int64_t row = begin; row < end; ++row) {
          copy_row(destination + row * row_ + column, source + row * piece, static_cast<std::size_t>(piece));
        }
        column += piece;
      }
    });
  }
  std::string describe() const override { return text("portable concatenate of ", pieces_.size()); }

 private:
  std::int64_t outer_ = 0, row_ = 0;  // rows, and bytes of one
  std::vector<std::int64_t> pieces_;  // bytes of each input in a row
};

template <bool assign>
std::unique_ptr<Kernel> make_slice_write(const KernelRequest& request) {
  return std::make_unique<SliceWriteKernel>(request, assign);
}

std::unique_ptr<Kernel> make_concatenate(const KernelRequest& request) {
  return std::make_unique<ConcatenateKernel>(request);
}

MXPIPE_KERNEL("transpose", 0, make_transpose);
MXPIPE_KERNEL("slice", 0, make_slice);
MXPIPE_KERNEL("slice_scatter", 0, make_slice_write<false>);
MXPIPE_KERNEL("slice_assign", 0, make_slice_write<true>);
MXPIPE_KERNEL("concatenate", 0, make_concatenate);

}  // namespace
}  // namespace mxpipe
