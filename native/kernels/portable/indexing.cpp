// Ops that read by position: take, embedding, take_rows, one_hot, pick.
// Bytes: the result once, as much of the source as the ids name, the ids; random access a row.
#include <cstring>

#include "graph/error.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "kernels/portable/ids.hpp"
#include "kernels/portable/memory.hpp"

namespace mxpipe {
namespace {

enum class OutOfRange { wraps_negative, raises, negative_is_zero };

// result[o, i, :] = source[o, ids[i], :]
class GatherKernel final : public Kernel {
 public:
  GatherKernel(std::string_view op, const TensorType& source, const TensorType& ids, int axis,
               OutOfRange rule)
      : op_(op), rule_(rule), ids_(ids.dtype), count_(ids.size()) {
    outer_ = source.shape.product(0, axis);
    rows_ = source.shape[axis];
    bytes_ =
        static_cast<std::size_t>(source.shape.product(axis + 1, source.shape.rank())) * size_of(source.dtype);
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const auto* source = static_cast<const std::byte*>(inputs[0]);
    auto* result = static_cast<std::byte*>(outputs[0]);
    const bool far = static_cast<std::size_t>(rows_) * bytes_ > kNearBytes;
    dispatch_ids(ids_, [&]<typename Id>() {
      const Id* ids = static_cast<const Id*>(inputs[1]);
      const std::int64_t grain = grain_for(static_cast<std::int64_t>(bytes_ / 4) + 8);
      parallel_for(outer_ * count_, grain, [&](std::int64_t begin, std::int64_t end) {
        std::int64_t which = begin % count_, base = begin / count_ * rows_;
        std::byte* to = result + static_cast<std::size_t>(begin) * bytes_;
        for (std::int64_t i = begin; i < end; ++i, to += bytes_) {
          if (far && which + kRowsAhead < count_) {
            prefetch_row(source, base + static_cast<std::int64_t>(ids[which + kRowsAhead]), bytes_);
          }
          const std::int64_t row = resolve(ids[which]);
          if (row < 0) {
            std::memset(to, 0, bytes_);
          } else {
            copy_row(to, source + static_cast<std::size_t>(base + row) * bytes_, bytes_);
          }
          if (++which == count_) which = 0, base += rows_;
        }
      });
    });
  }

  std::string describe() const override { return "portable " + op_; }

 private:
  static constexpr std::size_t kNearBytes = std::size_t{1} << 19;  // a smaller table is in a cache soon

  std::int64_t resolve(std::int64_t id) const {
    if (rule_ == OutOfRange::wraps_negative && id < 0) {
      require_id(op_, id, -rows_, rows_);
      return id + rows_;
    }
    if (rule_ == OutOfRange::negative_is_zero && id < 0) return -1;
    require_id(op_, id, rule_ == OutOfRange::wraps_negative ? -rows_ : 0, rows_);
    return id;
  }

  std::string op_;
  OutOfRange rule_;
  DType ids_;
  std::int64_t count_, outer_ = 0, rows_ = 0;
  std::size_t bytes_ = 0;
};

std::unique_ptr<Kernel> make_take(const KernelRequest& request) {
  const int axis = normalize_axis(request.attributes.integer("axis"), request.inputs[0].shape.rank(), "take");
  return std::make_unique<GatherKernel>("take", request.inputs[0], request.inputs[1], axis,
                                        OutOfRange::wraps_negative);
}

std::unique_ptr<Kernel> make_embedding(const KernelRequest& request) {
  return std::make_unique<GatherKernel>("embedding", request.inputs[0], request.inputs[1], 0,
                                        OutOfRange::raises);
}

std::unique_ptr<Kernel> make_take_rows(const KernelRequest& request) {
  return std::make_unique<GatherKernel>("take_rows", request.inputs[0], request.inputs[1], 0,
                                        OutOfRange::negative_is_zero);
}

// 1 in a dtype, as bytes.
std::uint64_t one_bits(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return 0x3f800000U;
    case DType::float64:
      return 0x3ff0000000000000U;
    case DType::float16:
      return 0x3c00U;
    case DType::bfloat16:
      return 0x3f80U;
    default:
      return 1;
  }
}

class OneHotKernel final : public Kernel {
 public:
  explicit OneHotKernel(const KernelRequest& request)
      : ids_(request.inputs[0].dtype),
        count_(request.inputs[0].size()),
        depth_(request.attributes.integer("depth")),
        result_(request.outputs[0]) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    fill_zero(outputs[0], result_.bytes());
    const std::uint64_t one = one_bits(result_.dtype);
    const std::size_t bytes = size_of(result_.dtype);
    dispatch_ids(ids_, [&]<typename Id>() {
      const Id* ids = static_cast<const Id*>(inputs[0]);
      for (std::int64_t i = 0; i < count_; ++i) {
        const auto id = static_cast<std::int64_t>(ids[i]);
        if (id < 0 || id >= depth_) continue;
        const auto place = static_cast<std::size_t>(i * depth_ + id);
        std::memcpy(static_cast<std::byte*>(outputs[0]) + place * bytes, &one, bytes);  // little endian
      }
    });
  }
  std::string describe() const override { return "portable one_hot"; }

 private:
  DType ids_;
  std::int64_t count_, depth_;
  TensorType result_;
};

// pick: result[o, i] = x[o, index[o, i], i]; pick_grad writes g there.
class PickKernel final : public Kernel {
 public:
  PickKernel(const KernelRequest& request, bool gradient) : op_(request.op), gradient_(gradient) {
    const TensorType& whole = gradient ? request.outputs[0] : request.inputs[0];
    const int axis = normalize_axis(request.attributes.integer("axis"), whole.shape.rank(), op_);
    ids_ = request.inputs[gradient ? 0 : 1].dtype;
    bytes_ = size_of(whole.dtype);
    outer_ = whole.shape.product(0, axis);
    length_ = whole.shape[axis];
    inner_ = whole.shape.product(axis + 1, whole.shape.rank());
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const auto* source = static_cast<const std::byte*>(inputs[gradient_ ? 1 : 0]);
    auto* result = static_cast<std::byte*>(outputs[0]);
    if (gradient_) fill_zero(result, static_cast<std::size_t>(outer_ * length_ * inner_) * bytes_);
    dispatch_ids(ids_, [&]<typename Id>() {
      const Id* ids = static_cast<const Id*>(inputs[gradient_ ? 0 : 1]);
      parallel_for(outer_ * inner_, grain_for(8), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          auto id = static_cast<std::int64_t>(ids[i]);
          require_id(op_, id, -length_, length_);
          if (id < 0) id += length_;
          const std::int64_t place = (i / inner_ * length_ + id) * inner_ + i % inner_;
          const std::int64_t from = gradient_ ? i : place;
          const std::int64_t to = gradient_ ? place : i;
          copy_row(result + static_cast<std::size_t>(to) * bytes_,
                   source + static_cast<std::size_t>(from) * bytes_, bytes_);
        }
      });
    });
  }
  std::string describe() const override { return "portable " + op_; }

 private:
  std::string op_;
  bool gradient_;
  DType ids_ = DType::int32;
  std::size_t bytes_ = 4;
  std::int64_t outer_ = 0, length_ = 0, inner_ = 0;
};

std::unique_ptr<Kernel> make_one_hot(const KernelRequest& request) {
  return std::make_unique<OneHotKernel>(request);
}

template <bool gradient>
std::unique_ptr<Kernel> make_pick(const KernelRequest& request) {
  return std::make_unique<PickKernel>(request, gradient);
}

MXPIPE_KERNEL("take", 0, make_take);
MXPIPE_KERNEL("embedding", 0, make_embedding);
MXPIPE_KERNEL("take_rows", 0, make_take_rows);
MXPIPE_KERNEL("one_hot", 0, make_one_hot);
MXPIPE_KERNEL("pick", 0, make_pick<false>);
MXPIPE_KERNEL("pick_grad", 0, make_pick<true>);

}  // namespace
}  // namespace mxpipe
