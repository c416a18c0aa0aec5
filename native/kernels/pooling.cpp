#include "kernels/pooling.hpp"

#include <algorithm>

namespace mxpipe {
namespace {

void add_window(PoolingAxis& axis, std::int64_t start, std::int64_t end) {
  axis.start.push_back(start);
  axis.begin.push_back(std::max<std::int64_t>(start, 0));
  axis.end.push_back(std::min(end, axis.size));
  axis.length.push_back(std::min(end, axis.size + axis.padding) - start);
}

void find_windows_of_elements(PoolingAxis& axis) {
  const auto size = static_cast<std::size_t>(axis.size);
  axis.first.assign(size, axis.windows);
  axis.last.assign(size, 0);
  for (std::int64_t window = 0; window < axis.windows; ++window) {
    const auto i = static_cast<std::size_t>(window);
    for (std::int64_t q = axis.begin[i]; q < axis.end[i]; ++q) {
      const auto at = static_cast<std::size_t>(q);
      axis.first[at] = std::min(axis.first[at], window);
      axis.last[at] = window + 1;
    }
  }
}

PoolingAxis adaptive_axis(std::int64_t size, std::int64_t windows) {
  PoolingAxis axis{.size = size, .windows = windows, .kernel = largest_adaptive_window(size, windows)};
  for (std::int64_t i = 0; i < windows; ++i) {
    add_window(axis, i * size / windows, ((i + 1) * size + windows - 1) / windows);
  }
  return axis;
}

PoolingAxis plain_axis(std::int64_t size, std::int64_t windows, std::int64_t kernel, std::int64_t stride,
                       std::int64_t padding) {
  PoolingAxis axis{.size = size, .windows = windows, .kernel = kernel, .stride = stride, .padding = padding};
  for (std::int64_t i = 0; i < windows; ++i) {
    add_window(axis, i * stride - padding, i * stride - padding + kernel);
  }
  axis.reaches_beyond = (windows - 1) * stride + kernel > size + 2 * padding;
  return axis;
}

}  // namespace

Pooling pooling_of(const KernelRequest& request) {
  Pooling p;
  const Attributes& attributes = request.attributes;
  p.maximum = request.op.starts_with("max_pool");
  p.backward = request.op.ends_with("_backward");
  const TensorType& x = p.backward ? request.outputs[0] : request.inputs[0];
  const TensorType& y = p.backward ? request.inputs[0] : request.outputs[0];
  p.dtype = x.dtype;
  if (p.maximum) p.position_dtype = p.backward ? request.inputs[1].dtype : request.outputs[1].dtype;
  p.layout = layout_of(request.op, attributes, x.shape.rank());
  p.batch = x.shape[0];
  p.channels = x.shape[p.layout.channel_axis()];
  p.adaptive = !attributes.integers("output_size").empty();
  p.count_padding = !p.maximum && attributes.boolean("count_include_pad");
  const int spatial = p.layout.spatial;
  const Integers size = p.layout.sizes(x.shape), windows = p.layout.sizes(y.shape);
  const Integers kernel = axis_values(request.op, attributes, "kernel", spatial, 1, 1);
  const Integers stride = axis_values(request.op, attributes, "stride", spatial, 1, 1);
  const Integers padding = axis_values(request.op, attributes, "padding", spatial, 0, 0);
  for (std::size_t at = 0; at < 3; ++at) {
    const std::size_t missing = 3 - size.size();
    if (at < missing) {
      p.axes[at] = plain_axis(1, 1, 1, 1, 0);
    } else {
      const std::size_t i = at - missing;
      p.axes[at] = p.adaptive ? adaptive_axis(size[i], windows[i])
                              : plain_axis(size[i], windows[i], kernel[i], stride[i], padding[i]);
    }
    find_windows_of_elements(p.axes[at]);
  }
  return p;
}

}  // namespace mxpipe
