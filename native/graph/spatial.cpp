#include "graph/spatial.hpp"

#include <algorithm>
#include <array>

#include "graph/error.hpp"

namespace mxpipe {

Integers SpatialLayout::sizes(const Shape& shape) const {
  return {shape.begin() + first_axis(), shape.begin() + first_axis() + spatial};
}

Shape SpatialLayout::shape(std::int64_t batch, std::int64_t channels, const Integers& sizes) const {
  Shape result{batch};
  if (!channels_last) result.push_back(channels);
  for (const std::int64_t size : sizes) result.push_back(size);
  if (channels_last) result.push_back(channels);
  return result;
}

SpatialLayout layout_of(std::string_view op, const Attributes& attributes, int rank) {
  static constexpr std::array<std::string_view, 6> kLayouts{"NCW", "NCHW", "NCDHW", "NWC", "NHWC", "NDHWC"};
  const std::string& layout = attributes.string("layout");
  const auto found = std::find(kLayouts.begin(), kLayouts.end(), layout);
  require(found != kLayouts.end(), op, "layout must be NCW, NCHW, NCDHW, NWC, NHWC or NDHWC; got ", layout,
          ".");
  require(static_cast<int>(layout.size()) == rank, op, "x must have the axes of layout ", layout, "; got ",
          rank, " axes.");
  return {rank - 2, layout.back() == 'C'};
}

Integers axis_values(std::string_view op, const Attributes& attributes, std::string_view name, int spatial,
                     std::int64_t otherwise, std::int64_t least) {
  Integers values = attributes.integers(name);
  if (values.empty()) values.assign(static_cast<std::size_t>(spatial), otherwise);
  const bool enough =
      std::all_of(values.begin(), values.end(), [&](std::int64_t value) { return value >= least; });
  require(static_cast<int>(values.size()) == spatial && enough, op, name, " must hold ", spatial,
          " numbers of at least ", least, "; got ", Attribute(values), ".");
  return values;
}

std::int64_t count_windows(std::string_view op, std::int64_t size, std::int64_t kernel, std::int64_t stride,
                           std::int64_t padding, std::int64_t dilation) {
  const std::int64_t room = size + 2 * padding - (dilation * (kernel - 1) + 1);
  require(room >= 0, op, "the kernel must fit on the padded input; got kernel ", kernel, " with dilation ",
          dilation, " on size ", size, " with padding ", padding, ".");
  return room / stride + 1;
}

std::int64_t largest_adaptive_window(std::int64_t size, std::int64_t count) {
  std::int64_t largest = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, ((i + 1) * size + count - 1) / count - i * size / count);
  }
  return largest;
}

}  // namespace mxpipe
