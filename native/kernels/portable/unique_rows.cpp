// unique_rows: the sum of a row-sparse gradient's rows of equal id. Cost depends on the rows given, never on
// the vocabulary. Bytes: ids 4 to 8 times (a radix sort of as many bytes as the largest id has), values once,
// result once.
#include <algorithm>
#include <array>
#include <cstring>

#include "graph/error.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "kernels/portable/memory.hpp"
#include "kernels/portable/widened.hpp"

namespace mxpipe {
namespace {

struct Entry {
  std::int64_t id;
  std::int64_t position;
};

// Stable sort by id; `entries` and `spare` swap roles. Returns the sorted one.
Entry* radix_sort(Entry* entries, Entry* spare, std::int64_t count, std::int64_t largest) {
  for (int shift = 0; shift == 0 || (shift < 63 && (largest >> shift) > 0); shift += 8) {
    std::array<std::int64_t, 257> starts{};
    for (std::int64_t i = 0; i < count; ++i)
      ++starts[static_cast<std::size_t>((entries[i].id >> shift) & 255) + 1];
    for (std::size_t bucket = 1; bucket < 256; ++bucket) starts[bucket] += starts[bucket - 1];
    for (std::int64_t i = 0; i < count; ++i) {
      spare[starts[static_cast<std::size_t>((entries[i].id >> shift) & 255)]++] = entries[i];
    }
    std::swap(entries, spare);
  }
  return entries;
}

template <typename T>
class UniqueRowsKernel final : public Kernel {
 public:
  explicit UniqueRowsKernel(const KernelRequest& request)
      : count_(request.inputs[0].size()), width_(count_ == 0 ? 0 : request.inputs[1].size() / count_) {}

  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(count_) * 2 * sizeof(Entry) + static_cast<std::size_t>(count_ + 1) * 8;
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs,
           void* scratch) const override {
    const auto* ids = static_cast<const std::int64_t*>(inputs[0]);
    Entry* entries = static_cast<Entry*>(scratch);
    auto* starts = reinterpret_cast<std::int64_t*>(entries + 2 * count_);  // of each run of equal ids
    std::int64_t kept = 0, largest = 0;
    for (std::int64_t i = 0; i < count_; ++i) {
      if (ids[i] < 0) continue;
      entries[kept++] = {ids[i], i};
      largest = std::max(largest, ids[i]);
    }
    const Entry* sorted = radix_sort(entries, entries + count_, kept, largest);
    std::int64_t runs = 0;
    for (std::int64_t i = 0; i < kept; ++i) {
      if (i == 0 || sorted[i].id != sorted[i - 1].id) starts[runs++] = i;
    }
    starts[runs] = kept;
    write(sorted, starts, runs, static_cast<const T*>(inputs[1]), static_cast<std::int64_t*>(outputs[0]),
          static_cast<T*>(outputs[1]));
  }

  std::string describe() const override { return "portable unique_rows"; }

 private:
  void write(const Entry* sorted, const std::int64_t* starts, std::int64_t runs, const T* values,
             std::int64_t* unique, T* sums) const {
    parallel_for(count_, grain_for(width_ + 8), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t run = begin; run < end; ++run) {
        if (run + kRowsAhead < runs) {
          prefetch_row(values, sorted[starts[run + kRowsAhead]].position,
                       static_cast<std::size_t>(width_) * sizeof(T));
        }
        T* __restrict sum = sums + run * width_;
        if (run >= runs) {
          unique[run] = -1;
          std::fill_n(sum, width_, T{});
          continue;
        }
        unique[run] = sorted[starts[run]].id;
        copy_row(sum, values + sorted[starts[run]].position * width_,
                 static_cast<std::size_t>(width_) * sizeof(T));
        for (std::int64_t i = starts[run] + 1; i < starts[run + 1]; ++i) {
          const T* __restrict row = values + sorted[i].position * width_;
          for (std::int64_t j = 0; j < width_; ++j) sum[j] = static_cast<T>(sum[j] + row[j]);
        }
      }
    });
  }

  std::int64_t count_, width_;
};

std::unique_ptr<Kernel> make_unique_rows(const KernelRequest& request) {
  if (has_half(request)) return make_widened(request);
  return dispatch_number(request.inputs[1].dtype, [&]<typename T>() -> std::unique_ptr<Kernel> {
    return std::make_unique<UniqueRowsKernel<T>>(request);
  });
}

MXPIPE_KERNEL("unique_rows", 0, make_unique_rows);

}  // namespace
}  // namespace mxpipe
