// sum, prod, max, min, mean over any axes.
// Bytes: the input once (and 1/64th of it or less for partial results); operations: one an element.
//
// The work is split by size, never by thread count: a row in chunks of 16384, columns in blocks of 64 to 512
// rows. A chunk of float32 is summed in float32 over 64 lanes, chunks are added in float64.
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <vector>

#include "graph/error.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "kernels/vec/blocks.hpp"
#include "kernels/vec/isa.hpp"

namespace mxpipe {
namespace {

constexpr std::int64_t kRowChunk = 16 * 1024;
constexpr std::int64_t kColumnBlock = 1024;

bool is_half(DType dtype) { return dtype == DType::float16 || dtype == DType::bfloat16; }

// (outer, reduced, inner): one group of adjacent reduced axes.
struct Extent {
  std::int64_t outer = 1, reduced = 1, inner = 1;
};

template <typename A>
A identity(Reduction reduction) {
  using Limits = std::numeric_limits<A>;
  switch (reduction) {
    case Reduction::sum:
      return A{0};
    case Reduction::product:
      return A{1};
    case Reduction::maximum:
      return Limits::has_infinity ? -Limits::infinity() : Limits::lowest();
    case Reduction::minimum:
      return Limits::has_infinity ? Limits::infinity() : Limits::max();
  }
  return A{};
}

template <typename A>
A combine(Reduction reduction, A a, A b) {
  switch (reduction) {
    case Reduction::sum:
      return a + b;
    case Reduction::product:
      return a * b;
    case Reduction::maximum:
      return a > b || a != a ? a : b;
    case Reduction::minimum:
      return a < b || a != a ? a : b;
  }
  return a;
}

// Adds `count` values as a balanced tree, in place.
template <typename A>
A combine_tree(Reduction reduction, A* values, std::int64_t count) {
  for (; count > 1; count = (count + 1) / 2) {
    const std::int64_t half = count / 2;
    for (std::int64_t i = 0; i < half; ++i) values[i] = combine(reduction, values[2 * i], values[2 * i + 1]);
    if (count % 2 == 1) values[half] = values[count - 1];
  }
  return values[0];
}

// One stage: elements of type `in`, accumulators of type A, results of type `out`.
template <typename A>
class ReduceKernel final : public Kernel {
 public:
  // Chunk results of float32 are added in float64.
  using Total = std::conditional_t<std::is_same_v<A, float>, double, A>;

  ReduceKernel(Reduction reduction, Extent extent, DType in, DType out, double scale)
      : reduction_(reduction),
        extent_(extent),
        in_(in),
        out_(out),
        scale_(scale),
        functions_(isa().reduce(reduction, in)) {
    chunk_ = extent.inner == 1
                 ? kRowChunk
                 : std::clamp<std::int64_t>(2 * kRowChunk / std::max<std::int64_t>(extent.inner, 1), 64, 512);
    chunks_ = (extent.reduced + chunk_ - 1) / chunk_;
  }

  std::size_t scratch_bytes() const override {
    if (chunks_ <= 1) return 0;
    return static_cast<std::size_t>(extent_.outer * chunks_ * extent_.inner) * sizeof(A);
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs,
           void* scratch) const override {
    const auto* input = static_cast<const std::byte*>(inputs[0]);
    A* partial = static_cast<A*>(scratch);
    if (extent_.inner == 1) {
      reduce_rows(input, outputs[0], partial);
    } else {
      reduce_columns(input, outputs[0], partial);
    }
    if (chunks_ > 1) add_chunks(partial, outputs[0]);
  }

  std::string describe() const override {
    return text("vec ", isa().name, " reduction of ", in_, " to ", out_);
  }

 private:
  void reduce_rows(const std::byte* input, void* output, A* partial) const {
    const std::int64_t chunks = std::max<std::int64_t>(chunks_, 1);
    const std::int64_t cost = std::min(extent_.reduced, chunk_) + 64;
    parallel_for(extent_.outer * chunks, grain_for(cost), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t unit = begin; unit < end; ++unit) {
        const std::int64_t first = unit % chunks * chunk_;
        const std::int64_t count = std::min(chunk_, extent_.reduced - first);
        const std::int64_t place = unit / chunks * extent_.reduced + first;
        const A value = reduce_row(input + static_cast<std::size_t>(place) * size_of(in_), count);
        if (chunks_ > 1) {
          partial[unit] = value;
        } else {
          write(output, unit, static_cast<Total>(value));
        }
      }
    });
  }

  A reduce_row(const std::byte* x, std::int64_t count) const {
    std::array<A, kReductionLanes> lanes;
    lanes.fill(identity<A>(reduction_));
    functions_.row(lanes.data(), x, count);
    return combine_tree(reduction_, lanes.data(), std::clamp<std::int64_t>(count, 1, kReductionLanes));
  }

  void reduce_columns(const std::byte* input, void* output, A* partial) const {
    const std::int64_t chunks = std::max<std::int64_t>(chunks_, 1);
    const std::int64_t blocks = (extent_.inner + kColumnBlock - 1) / kColumnBlock;
    const std::int64_t cost = std::min(extent_.reduced, chunk_) * std::min(extent_.inner, kColumnBlock) + 64;
    parallel_for(extent_.outer * chunks * blocks, grain_for(cost), [&](std::int64_t begin, std::int64_t end) {
      alignas(64) A accumulators[kColumnBlock];
      for (std::int64_t unit = begin; unit < end; ++unit) {
        const std::int64_t column = unit % blocks * kColumnBlock;
        const std::int64_t width = std::min(kColumnBlock, extent_.inner - column);
        const std::int64_t chunk = unit / blocks % chunks;
        const std::int64_t outer = unit / blocks / chunks;
        const std::int64_t first = chunk * chunk_;
        const std::int64_t rows = std::min(chunk_, extent_.reduced - first);
        const std::int64_t place = (outer * extent_.reduced + first) * extent_.inner + column;
        std::fill_n(accumulators, width, identity<A>(reduction_));
        functions_.columns(accumulators, input + static_cast<std::size_t>(place) * size_of(in_), width, rows,
                           extent_.inner);
        if (chunks_ > 1) {
          std::copy_n(accumulators, width, partial + (outer * chunks + chunk) * extent_.inner + column);
        } else {
          for (std::int64_t j = 0; j < width; ++j) {
            write(output, outer * extent_.inner + column + j, static_cast<Total>(accumulators[j]));
          }
        }
      }
    });
  }

  // partial is (outer, chunks, inner).
  void add_chunks(const A* partial, void* output) const {
    const std::int64_t results = extent_.outer * extent_.inner;
    parallel_for(results, grain_for(chunks_), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const A* from = partial + i / extent_.inner * chunks_ * extent_.inner + i % extent_.inner;
        Total total = static_cast<Total>(from[0]);
        for (std::int64_t chunk = 1; chunk < chunks_; ++chunk) {
          total = combine(reduction_, total, static_cast<Total>(from[chunk * extent_.inner]));
        }
        write(output, i, total);
      }
    });
  }

  void write(void* output, std::int64_t index, Total total) const {
    if constexpr (std::is_floating_point_v<A>) {
      const double value = scale_ == 1 ? static_cast<double>(total) : static_cast<double>(total) / scale_;
      if (out_ == DType::float64) {
        static_cast<double*>(output)[index] = value;
      } else if (out_ == DType::float32) {
        static_cast<float*>(output)[index] = static_cast<float>(value);
      } else {
        const float narrow = static_cast<float>(value);
        store_floats(out_, &narrow, static_cast<std::uint16_t*>(output) + index, 1);
      }
    } else {
      static_cast<A*>(output)[index] = total;
    }
  }

  Reduction reduction_;
  Extent extent_;
  DType in_, out_;
  double scale_;
  ReduceFunctions functions_;
  std::int64_t chunk_ = 1, chunks_ = 1;
};

// Several groups of reduced axes: one stage a group, the last axes first, through scratch.
class StagedKernel final : public Kernel {
 public:
  void add(std::unique_ptr<Kernel> kernel, std::size_t result_bytes) {
    results_.push_back((result_bytes + 63) / 64 * 64);
    stages_.push_back(std::move(kernel));
  }

  std::size_t scratch_bytes() const override {
    std::size_t own = 0, inner = 0;
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      own += results_[i];
      inner = std::max(inner, stages_[i]->scratch_bytes());
    }
    return own + inner;
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs,
           void* scratch) const override {
    auto* memory = static_cast<std::byte*>(scratch);
    auto* inner = memory;
    for (const std::size_t bytes : results_) inner += bytes;
    const void* source = inputs[0];
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      void* result = i + 1 == stages_.size() ? outputs[0] : memory;
      stages_[i]->run(std::span(&source, 1), std::span(&result, 1), inner);
      source = result;
      memory += results_[i];
    }
  }

  std::string describe() const override { return text(stages_.size(), " x ", stages_.front()->describe()); }

 private:
  std::vector<std::unique_ptr<Kernel>> stages_;
  std::vector<std::size_t> results_;
};

// The extents of all stages, for axes in ascending order.
std::vector<Extent> stages_of(const Shape& shape, const Integers& axes) {
  std::vector<Extent> stages;
  std::int64_t inner = 1;  // of what is kept behind the current axis
  int axis = shape.rank() - 1;
  auto reduced = axes.rbegin();
  while (axis >= 0) {
    if (reduced == axes.rend() || *reduced != axis) {
      inner *= shape[axis--];
      continue;
    }
    Extent extent;
    extent.inner = inner;
    for (; reduced != axes.rend() && *reduced == axis; ++reduced) extent.reduced *= shape[axis--];
    extent.outer = shape.product(0, axis + 1);
    stages.push_back(extent);
  }
  if (stages.empty()) stages.push_back({1, 1, shape.size()});  // nothing is reduced: a conversion
  return stages;
}

std::unique_ptr<Kernel> make_stage(Reduction reduction, Extent extent, DType in, DType out, double scale) {
  const bool adds = reduction == Reduction::sum || reduction == Reduction::product;
  if (is_half(in)) return std::make_unique<ReduceKernel<float>>(reduction, extent, in, out, scale);
  if (adds && !is_floating(in)) {
    if (is_unsigned_integer(in))
      return std::make_unique<ReduceKernel<std::uint64_t>>(reduction, extent, in, out, scale);
    return std::make_unique<ReduceKernel<std::int64_t>>(reduction, extent, in, out, scale);
  }
  if (is_boolean(in)) in = out = DType::uint8;
  return dispatch_number(in, [&]<typename T>() -> std::unique_ptr<Kernel> {
    return std::make_unique<ReduceKernel<T>>(reduction, extent, in, out, scale);
  });
}

KernelFactory reduction_of(Reduction reduction, bool mean) {
  return [=](const KernelRequest& request) -> std::unique_ptr<Kernel> {
    const TensorType& input = request.inputs[0];
    const DType out = request.outputs[0].dtype;
    // Between stages: wide enough that nothing is rounded twice.
    const DType between = is_half(input.dtype) ? DType::float32 : out;
    const std::vector<Extent> stages = stages_of(input.shape, request.attributes.integers("axis"));
    double count = 1;
    for (const Extent& stage : stages) count *= static_cast<double>(stage.reduced);
    const double scale = mean ? count : 1;
    if (stages.size() == 1) return make_stage(reduction, stages[0], input.dtype, out, scale);
    auto staged = std::make_unique<StagedKernel>();
    for (std::size_t i = 0; i < stages.size(); ++i) {
      const bool last = i + 1 == stages.size();
      const std::size_t bytes =
          static_cast<std::size_t>(stages[i].outer * stages[i].inner) * size_of(between);
      staged->add(make_stage(reduction, stages[i], i == 0 ? input.dtype : between, last ? out : between,
                             last ? scale : 1),
                  last ? 0 : bytes);
    }
    return staged;
  };
}

MXPIPE_KERNEL("sum", 100, reduction_of(Reduction::sum, false));
MXPIPE_KERNEL("mean", 100, reduction_of(Reduction::sum, true));
MXPIPE_KERNEL("prod", 100, reduction_of(Reduction::product, false));
MXPIPE_KERNEL("max", 100, reduction_of(Reduction::maximum, false));
MXPIPE_KERNEL("min", 100, reduction_of(Reduction::minimum, false));

}  // namespace
}  // namespace mxpipe
