// What convolution and pooling have in common: where a layout keeps its axes, and how windows lie on them.
// What enters: attributes and shapes. What leaves: sizes. Who calls: ops (to infer) and kernels.
#pragma once

#include <cstdint>
#include <string_view>

#include "graph/attributes.hpp"
#include "graph/shape.hpp"

namespace mxpipe {

// Of an image batch: (batch, channels, *spatial) or (batch, *spatial, channels), with 1 to 3 spatial axes.
struct SpatialLayout {
  int spatial = 2;  // number of spatial axes
  bool channels_last = false;

  int channel_axis() const { return channels_last ? spatial + 1 : 1; }
  int first_axis() const { return channels_last ? 1 : 2; }  // of the spatial ones
  Integers sizes(const Shape& shape) const;                 // of the spatial axes
  Shape shape(std::int64_t batch, std::int64_t channels, const Integers& sizes) const;
};

// From attribute `layout`: NCW, NCHW, NCDHW, NWC, NHWC or NDHWC. Throws when it has not `rank` axes.
SpatialLayout layout_of(std::string_view op, const Attributes& attributes, int rank);

// One number for each spatial axis, at least `least`; an empty list means `otherwise` for each.
Integers axis_values(std::string_view op, const Attributes& attributes, std::string_view name, int spatial,
                     std::int64_t otherwise, std::int64_t least);

// How many windows of `kernel` elements, `dilation` apart, fit on an axis of `size` with `padding` on both
// sides.
std::int64_t count_windows(std::string_view op, std::int64_t size, std::int64_t kernel, std::int64_t stride,
                           std::int64_t padding, std::int64_t dilation);

// Adaptive pooling: window i of `count` reaches from floor(i size / count) to ceil((i + 1) size / count).
std::int64_t largest_adaptive_window(std::int64_t size, std::int64_t count);

// The dtype of a position in a window of `volume` elements.
constexpr DType window_position_dtype(std::int64_t volume) {
  return volume < 255 ? DType::uint8 : DType::int32;  // oneDNN's choice
}

}  // namespace mxpipe
