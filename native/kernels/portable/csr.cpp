// csr_matmul and csr_sampled_matmul. Bytes and operations: see vec/simd/csr.cpp.
//
// Threads share the work by nonzeros, so that a few long rows do not keep one of them busy alone; a row is
// always one thread's. The transposed product adds into rows in any order, so threads share its columns. So
// no sum depends on the number of threads.
#include <algorithm>

#include "graph/error.hpp"
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "kernels/portable/ids.hpp"
#include "kernels/portable/memory.hpp"
#include "kernels/portable/widened.hpp"
#include "kernels/vec/isa.hpp"

namespace mxpipe {
namespace {

template <typename Id>
void require_starts(std::string_view op, const Id* starts, std::int64_t rows, std::int64_t nonzeros) {
  bool rises = starts[0] == 0 && starts[rows] == nonzeros;
  for (std::int64_t row = 0; row < rows; ++row) rises &= starts[row] <= starts[row + 1];
  require(rises, op, "indptr must rise from 0 to the number of indices, ", nonzeros, "; got ", starts[0],
          " to ", starts[rows], ", or a fall between.");
}

// The first row that begins at `work` or later; a row is as much work as its nonzeros and one more.
template <typename Id>
std::int64_t row_at(const Id* starts, std::int64_t rows, std::int64_t work) {
  std::int64_t low = 0, high = rows;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (static_cast<std::int64_t>(starts[middle]) + middle < work) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// Calls body(first, last) for ranges of rows with about as many nonzeros each.
template <typename Id, typename Body>
void for_rows(const Id* starts, std::int64_t rows, std::int64_t nonzeros, std::int64_t columns,
              const Body& body) {
  parallel_for(rows + nonzeros, grain_for(columns / 4 + 4), [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t first = row_at(starts, rows, begin), last = row_at(starts, rows, end);
    if (first < last) body(first, last);
  });
}

class CsrMatmulKernel final : public Kernel {
 public:
  explicit CsrMatmulKernel(const KernelRequest& request)
      : double_(request.inputs[0].dtype == DType::float64),
        transposed_(request.attributes.boolean("transpose_a")),
        ids_(request.inputs[1].dtype),
        nonzeros_(request.inputs[1].size()),
        rows_(request.inputs[2].size() - 1),
        inner_(request.attributes.integer("columns")),
        columns_(request.inputs[3].shape[1]),
        result_(request.outputs[0].bytes()) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const CsrCall call{inputs[0], inputs[1], inputs[2], inputs[3], outputs[0], nonzeros_, columns_, inner_};
    const CsrFunctions& functions = double_ ? isa().double_csr : isa().csr;
    dispatch_ids(ids_, [&]<typename Id>() {
      const auto* starts = static_cast<const Id*>(inputs[2]);
      require_starts("csr_matmul", starts, rows_, nonzeros_);
      const auto require_inside = [&](std::int64_t outside) {
        if (outside >= 0) require_id("csr_matmul", static_cast<const Id*>(inputs[1])[outside], 0, inner_);
      };
      if (!transposed_) {
        const auto multiply = sizeof(Id) == 4 ? functions.multiply32 : functions.multiply64;
        for_rows(starts, rows_, nonzeros_, columns_,
                 [&](std::int64_t first, std::int64_t last) { require_inside(multiply(call, first, last)); });
        return;
      }
      fill_zero(outputs[0], result_);
      const auto multiply = sizeof(Id) == 4 ? functions.transposed32 : functions.transposed64;
      parallel_for(columns_, columns_of_chunk(), [&](std::int64_t first, std::int64_t last) {
        require_inside(multiply(call, rows_, first, last));
      });
    });
  }
  std::string describe() const override { return text("vec ", isa().name, " csr_matmul"); }

 private:
  // At most 8 walks over the pattern, and no line of memory that two threads write.
  std::int64_t columns_of_chunk() const { return std::max<std::int64_t>(16, (columns_ + 127) / 128 * 16); }

  bool double_, transposed_;
  DType ids_;
  std::int64_t nonzeros_, rows_, inner_, columns_;
  std::size_t result_;
};

template <typename T>
class CsrSampledMatmulKernel final : public Kernel {
 public:
  explicit CsrSampledMatmulKernel(const KernelRequest& request)
      : ids_(request.inputs[0].dtype),
        nonzeros_(request.inputs[0].size()),
        rows_(request.inputs[1].size() - 1),
        inner_(request.attributes.integer("columns")),
        columns_(request.inputs[2].shape[1]) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    dispatch_ids(ids_, [&]<typename Id>() {
      const auto* indices = static_cast<const Id*>(inputs[0]);
      const auto* starts = static_cast<const Id*>(inputs[1]);
      const T* a = static_cast<const T*>(inputs[2]);
      const T* b = static_cast<const T*>(inputs[3]);
      T* result = static_cast<T*>(outputs[0]);
      require_starts("csr_sampled_matmul", starts, rows_, nonzeros_);
      for_rows(starts, rows_, nonzeros_, columns_, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t row = first; row < last; ++row) {
          for (auto p = static_cast<std::int64_t>(starts[row]);
               p < static_cast<std::int64_t>(starts[row + 1]); ++p) {
            require_id("csr_sampled_matmul", indices[p], 0, inner_);
            result[p] = dot(a + row * columns_, b + static_cast<std::int64_t>(indices[p]) * columns_);
          }
        }
      });
    });
  }
  std::string describe() const override { return text("vec ", isa().name, " csr_sampled_matmul"); }

 private:
  T dot(const T* a, const T* b) const {
    if constexpr (sizeof(T) == sizeof(float)) {
      return isa().rows.dot(a, b, columns_);
    } else {
      return isa().double_rows.dot(a, b, columns_);
    }
  }

  DType ids_;
  std::int64_t nonzeros_, rows_, inner_, columns_;
};

std::unique_ptr<Kernel> make_csr_matmul(const KernelRequest& request) {
  if (has_half(request)) return make_widened(request);
  return std::make_unique<CsrMatmulKernel>(request);
}

std::unique_ptr<Kernel> make_csr_sampled_matmul(const KernelRequest& request) {
  if (has_half(request)) return make_widened(request);
  if (request.inputs[2].dtype == DType::float64)
    return std::make_unique<CsrSampledMatmulKernel<double>>(request);
  return std::make_unique<CsrSampledMatmulKernel<float>>(request);
}

MXPIPE_KERNEL("csr_matmul", 0, make_csr_matmul);
MXPIPE_KERNEL("csr_sampled_matmul", 0, make_csr_sampled_matmul);

}  // namespace
}  // namespace mxpipe
