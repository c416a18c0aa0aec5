// What the kernels of pooling have in common: the windows of each spatial axis.
// What enters: a kernel request. What leaves: sizes and windows.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "graph/spatial.hpp"
#include "kernels/kernel.hpp"

namespace mxpipe {

// One spatial axis. Window i takes elements [begin[i], end[i]) of the axis, cut at its borders; its first
// element, were there no borders, is number start[i], and it counts `length[i]` elements with the padding.
struct PoolingAxis {
  std::int64_t size = 1, windows = 1, kernel = 1, stride = 1, padding = 0;
  bool reaches_beyond = false;  // the last window ends after the padding
  std::vector<std::int64_t> start{}, begin{}, end{}, length{};
  // Element q lies in windows [first[q], last[q]).
  std::vector<std::int64_t> first{}, last{};
};

struct Pooling {
  DType dtype = DType::float32, position_dtype = DType::uint8;
  SpatialLayout layout;
  std::int64_t batch = 0, channels = 0;
  bool maximum = false, backward = false, adaptive = false;
  bool count_padding = false;       // of the mean
  std::array<PoolingAxis, 3> axes;  // fewer spatial axes come last; the others have size 1

  std::int64_t elements() const { return axes[0].size * axes[1].size * axes[2].size; }
  std::int64_t windows() const { return axes[0].windows * axes[1].windows * axes[2].windows; }
};

Pooling pooling_of(const KernelRequest& request);

}  // namespace mxpipe
