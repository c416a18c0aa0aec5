// Ops that write by position: take_grad, embedding_grad, row_sparse_to_dense (all add into zeros),
// scatter_rows. Bytes: the dense result once, the rows once, the ids a few times.
//
// Rows of equal id are added in order of appearance, by one thread: the result's rows are dealt to 8
// partitions, and each walks over all ids. So neither the order nor the sum depends on the number of threads.
#include <algorithm>
#include <cstring>

#include "graph/error.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "kernels/portable/ids.hpp"
#include "kernels/portable/memory.hpp"
#include "kernels/portable/widened.hpp"

namespace mxpipe {
namespace {

constexpr std::int64_t kPartitions = 8;  // a power of two

// Calls body(position, row) for every id, in order, from the thread that owns the row. Negative ids mean what
// `rule` says; ids are checked before anything is written.
enum class Negative { counts_from_end, raises, is_skipped };

template <typename Id, typename Body>
void for_each_row(std::string_view op, const Id* ids, std::int64_t count, std::int64_t rows, Negative rule,
                  std::int64_t cost, const Body& body) {
  const std::int64_t low = rule == Negative::counts_from_end ? -rows : 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (rule == Negative::is_skipped && ids[i] < 0) continue;
    require_id(op, ids[i], low, rows);
  }
  const std::int64_t partitions = count * cost < (1 << 15) ? 1 : kPartitions;
  parallel_for(partitions, 1, [&](std::int64_t partition, std::int64_t) {
    for (std::int64_t i = 0; i < count; ++i) {
      std::int64_t row = ids[i];
      if (row < 0) {
        if (rule == Negative::is_skipped) continue;
        row += rows;
      }
      if ((row & (partitions - 1)) == partition) body(i, row);
    }
  });
}

// result[o, ids[i], :] += g[o, i, :]
template <typename T>
class AddRowsKernel final : public Kernel {
 public:
  AddRowsKernel(const KernelRequest& request, int axis, Negative rule)
      : op_(request.op), rule_(rule), ids_(request.inputs[0].dtype), count_(request.inputs[0].size()) {
    const Shape& shape = request.outputs[0].shape;
    outer_ = shape.product(0, axis);
    rows_ = shape[axis];
    inner_ = shape.product(axis + 1, shape.rank());
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    T* result = static_cast<T*>(outputs[0]);
    const T* g = static_cast<const T*>(inputs[1]);
    fill_zero(result, static_cast<std::size_t>(outer_ * rows_ * inner_) * sizeof(T));
    dispatch_ids(ids_, [&]<typename Id>() {
      const Id* ids = static_cast<const Id*>(inputs[0]);
      for_each_row(op_, ids, count_, rows_, rule_, outer_ * inner_, [&](std::int64_t i, std::int64_t row) {
        for (std::int64_t o = 0; o < outer_; ++o) {
          const T* __restrict from = g + (o * count_ + i) * inner_;
          T* __restrict to = result + (o * rows_ + row) * inner_;
          for (std::int64_t j = 0; j < inner_; ++j) to[j] = static_cast<T>(to[j] + from[j]);
        }
      });
    });
  }
  std::string describe() const override { return "portable " + op_; }

 private:
  std::string op_;
  Negative rule_;
  DType ids_;
  std::int64_t count_, outer_ = 0, rows_ = 0, inner_ = 0;
};

std::unique_ptr<Kernel> make_add_rows(const KernelRequest& request, int axis, Negative rule) {
  if (has_half(request)) return make_widened(request);
  return dispatch_number(request.outputs[0].dtype, [&]<typename T>() -> std::unique_ptr<Kernel> {
    return std::make_unique<AddRowsKernel<T>>(request, axis, rule);
  });
}

std::unique_ptr<Kernel> make_take_grad(const KernelRequest& request) {
  const int axis =
      normalize_axis(request.attributes.integer("axis"), request.outputs[0].shape.rank(), request.op);
  return make_add_rows(request, axis, Negative::counts_from_end);
}
std::unique_ptr<Kernel> make_embedding_grad(const KernelRequest& request) {
  return make_add_rows(request, 0, Negative::raises);
}
std::unique_ptr<Kernel> make_row_sparse_to_dense(const KernelRequest& request) {
  return make_add_rows(request, 0, Negative::is_skipped);
}

// How many ids there are before the unused places, if they rise as in a row-sparse gradient; else -1. No row
// is then written twice, so any thread may write it.
template <typename Id>
std::int64_t rising_ids(const Id* ids, std::int64_t count) {
  std::int64_t used = 0;
  while (used < count && ids[used] >= 0 && (used == 0 || ids[used] > ids[used - 1])) ++used;
  return std::all_of(ids + used, ids + count, [](Id id) { return id < 0; }) ? used : -1;
}

// In place (the output is input 0) only the named rows are touched.
class ScatterRowsKernel final : public Kernel {
 public:
  explicit ScatterRowsKernel(const KernelRequest& request)
      : ids_(request.inputs[1].dtype), count_(request.inputs[1].size()), rows_(request.inputs[0].shape[0]) {
    const TensorType& target = request.inputs[0];
    bytes_ = static_cast<std::size_t>(target.shape.product(1, target.shape.rank())) * size_of(target.dtype);
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    auto* result = static_cast<std::byte*>(outputs[0]);
    const auto* rows = static_cast<const std::byte*>(inputs[2]);
    dispatch_ids(ids_, [&]<typename Id>() {
      const Id* ids = static_cast<const Id*>(inputs[1]);
      if (inputs[0] != outputs[0]) copy_bytes(inputs[0], result, static_cast<std::size_t>(rows_) * bytes_);
      const auto cost = static_cast<std::int64_t>(bytes_ / 4);
      const auto write = [&](std::int64_t i, std::int64_t row) {
        copy_row(result + static_cast<std::size_t>(row) * bytes_, rows + static_cast<std::size_t>(i) * bytes_,
                 bytes_);
      };
      const std::int64_t used = rising_ids(ids, count_);
      if (used < 0) {
        return for_each_row("scatter_rows", ids, count_, rows_, Negative::is_skipped, cost, write);
      }
      if (used > 0) require_id("scatter_rows", ids[used - 1], 0, rows_);
      parallel_for(used, grain_for(cost + 8), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          if (i + kRowsAhead < used) {
            prefetch_row(result, static_cast<std::int64_t>(ids[i + kRowsAhead]), bytes_);
          }
          write(i, static_cast<std::int64_t>(ids[i]));
        }
      });
    });
  }
  std::string describe() const override { return "portable scatter_rows"; }

 private:
  DType ids_;
  std::int64_t count_, rows_;
  std::size_t bytes_ = 0;
};

std::unique_ptr<Kernel> make_scatter_rows(const KernelRequest& request) {
  return std::make_unique<ScatterRowsKernel>(request);
}

MXPIPE_KERNEL("take_grad", 0, make_take_grad);
MXPIPE_KERNEL("embedding_grad", 0, make_embedding_grad);
MXPIPE_KERNEL("row_sparse_to_dense", 0, make_row_sparse_to_dense);
MXPIPE_KERNEL("scatter_rows", 0, make_scatter_rows);

}  // namespace
}  // namespace mxpipe
