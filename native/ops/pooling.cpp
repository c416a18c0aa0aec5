// Pooling: the maximum or the mean of each window, and their gradients.
#include "graph/spatial.hpp"
#include "ops/declare.hpp"

namespace mxpipe::ops {
namespace {

std::vector<AttributeSchema> pooling_attributes(std::vector<AttributeSchema> more = {}) {
  std::vector<AttributeSchema> result{
      attribute("kernel", Attribute(Integers{}), "spatial sizes of a window"),
      attribute("stride", Attribute(Integers{}), "step of the window, a number each spatial axis; [] for 1"),
      attribute("padding", Attribute(Integers{}), "added at both ends of each spatial axis; [] for 0"),
      attribute("ceil_mode", Attribute(false), "let the last window reach beyond the padding"),
      attribute(
          "output_size", Attribute(Integers{}),
          "instead of the above: that many windows, window i from floor(i n / m) to ceil((i + 1) n / m)"),
      attribute("layout", Attribute(std::string("NCHW")),
                "axes of x and of the result: NCW, NCHW, NCDHW, NWC, NHWC or NDHWC")};
  result.insert(result.end(), more.begin(), more.end());
  return result;
}

AttributeSchema count_include_pad() {
  return attribute("count_include_pad", Attribute(true), "count the padding as elements, of value 0");
}
AttributeSchema size_attribute() {
  return attribute("size", AttributeType::integers, "spatial sizes of the result");
}

// The number of elements in the largest window.
std::int64_t window_volume(std::string_view op, const Attributes& attributes, const SpatialLayout& layout,
                           const Integers& sizes) {
  std::int64_t volume = 1;
  const Integers& wanted = attributes.integers("output_size");
  const Integers kernel = axis_values(op, attributes, "kernel", layout.spatial, 1, 1);
  for (std::size_t axis = 0; axis < sizes.size(); ++axis) {
    volume *= wanted.empty() ? kernel[axis] : largest_adaptive_window(sizes[axis], wanted[axis]);
  }
  return volume;
}

Shape pooled_shape(std::string_view op, const Attributes& attributes, const Shape& x) {
  const SpatialLayout layout = layout_of(op, attributes, x.rank());
  Integers sizes = layout.sizes(x);
  if (!attributes.integers("output_size").empty()) {
    for (const std::int64_t size : sizes) {
      require(size >= 1, op, "the spatial axes must not be empty; got shape ", x, ".");
    }
    return layout.shape(x[0], x[layout.channel_axis()],
                        axis_values(op, attributes, "output_size", layout.spatial, 1, 1));
  }
  require(!attributes.integers("kernel").empty(), op, "kernel or output_size must be given.");
  const Integers kernel = axis_values(op, attributes, "kernel", layout.spatial, 1, 1);
  const Integers stride = axis_values(op, attributes, "stride", layout.spatial, 1, 1);
  const Integers padding = axis_values(op, attributes, "padding", layout.spatial, 0, 0);
  for (std::size_t axis = 0; axis < sizes.size(); ++axis) {
    require(padding[axis] < kernel[axis], op, "padding must be smaller than the kernel; got ",
            Attribute(padding), " for ", Attribute(kernel), ".");
    const std::int64_t size = sizes[axis];
    sizes[axis] = count_windows(op, size, kernel[axis], stride[axis], padding[axis], 1);
    const bool room = (size + 2 * padding[axis] - kernel[axis]) % stride[axis] != 0;
    // A window more, if it begins before the padding at the end.
    if (attributes.boolean("ceil_mode") && room && sizes[axis] * stride[axis] < size + padding[axis]) {
      ++sizes[axis];
    }
  }
  return layout.shape(x[0], x[layout.channel_axis()], sizes);
}

std::vector<TensorType> infer_max_pool(Types inputs, const Attributes& attributes) {
  const TensorType& x = inputs[0];
  require_floating("max_pool", "x", x);
  const Shape shape = pooled_shape("max_pool", attributes, x.shape);
  const SpatialLayout layout = layout_of("max_pool", attributes, x.shape.rank());
  const std::int64_t volume = window_volume("max_pool", attributes, layout, layout.sizes(x.shape));
  return {{x.dtype, shape}, {window_position_dtype(volume), shape}};
}

std::vector<TensorType> infer_avg_pool(Types inputs, const Attributes& attributes) {
  require_floating("avg_pool", "x", inputs[0]);
  return {{inputs[0].dtype, pooled_shape("avg_pool", attributes, inputs[0].shape)}};
}

// The type of x, whose pooled shape g must have.
TensorType pooled_input(std::string_view op, const TensorType& g, const Attributes& attributes) {
  require_floating(op, "g", g);
  const SpatialLayout layout = layout_of(op, attributes, g.shape.rank());
  const Shape x = layout.shape(g.shape[0], g.shape[layout.channel_axis()],
                               axis_values(op, attributes, "size", layout.spatial, 0, 0));
  const Shape expected = pooled_shape(op, attributes, x);
  require(g.shape == expected, op, "g must have the shape of the pooled ", x, ", ", expected, "; got ",
          g.shape, ".");
  return {g.dtype, x};
}

std::vector<TensorType> infer_max_pool_backward(Types inputs, const Attributes& attributes) {
  const std::string_view op = "max_pool_backward";
  const TensorType x = pooled_input(op, inputs[0], attributes);
  const TensorType positions = infer_max_pool(std::span(&x, 1), attributes)[1];
  require_same_type(op, "positions", inputs[1], "forward's", positions);
  return {x};
}

Attributes with_size(const Attributes& attributes, const Shape& x) {
  Attributes result = attributes;
  result.set("size", layout_of("pooling", attributes, x.rank()).sizes(x));
  return result;
}

Attributes without_size(const Attributes& attributes) {
  Attributes result;
  for (const auto& [name, value] : attributes.entries()) {
    if (name != "size") result.set(name, value);
  }
  return result;
}

}  // namespace

MXPIPE_OP({
    .name = "max_pool",
    .doc = R"(The largest number of each window of each channel, and its position in the window.

Padding never wins. The position counts row-major over the window, uint8 or (from 255 elements on) int32; the
first of equal numbers is taken.

>>> x = np.array([[[1.0, 3.0, 2.0, 0.0]]])
>>> y, position = _native.invoke("max_pool", [x], {"kernel": [2], "stride": [2], "layout": "NCW"})
>>> y, position
(array([[[3., 2.]]]), array([[[1, 0]]], dtype=uint8))
)",
    .inputs = {{"x", "array of a floating dtype, (batch, channels, *spatial) or in another layout"}},
    .attributes = pooling_attributes(),
    .infer = infer_max_pool,
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      if (!call.gradients[0].valid()) return {Gradient()};
      return {gradient(call).call("max_pool_backward", {call.outputs[1]},
                                  with_size(call.attributes, input(call, 0).type().shape))};
    },
    .by_row = true,
    .narrow = {0},
    .images = {0},
});

MXPIPE_OP({
    .name = "max_pool_backward",
    .doc = R"(The gradient of max_pool's x: each number of g goes to where its window's maximum was.

>>> g, position = np.array([[[5.0, 6.0]]]), np.array([[[1, 0]]], dtype="uint8")
>>> sizes = {"kernel": [2], "stride": [2], "layout": "NCW", "size": [4]}
>>> _native.invoke("max_pool_backward", [g, position], sizes)
array([[[0., 5., 6., 0.]]])
)",
    .inputs = {{"g", "gradient of the result"}, {"positions", "the positions that forward gave"}},
    .attributes = pooling_attributes({size_attribute()}),
    .infer = infer_max_pool_backward,
    .narrow = {0},
    .images = {0, 1},
});

MXPIPE_OP({
    .name = "avg_pool",
    .doc = R"(The mean of each window of each channel.

Windows are cut at the end of the padding. With count_include_pad the padding counts as elements, of value 0;
otherwise the mean is that of the elements of x in the window.

>>> x = np.array([[[1.0, 3.0, 2.0, 0.0]]])
>>> _native.invoke("avg_pool", [x], {"kernel": [2], "stride": [2], "layout": "NCW"})
array([[[2., 1.]]])
)",
    .inputs = {{"x", "array of a floating dtype, (batch, channels, *spatial) or in another layout"}},
    .attributes = pooling_attributes({count_include_pad()}),
    .infer = infer_avg_pool,
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      return {
          gradient(call).call("avg_pool_backward", with_size(call.attributes, input(call, 0).type().shape))};
    },
    .by_row = true,
    .narrow = {0},
    .images = {0},
});

MXPIPE_OP({
    .name = "avg_pool_backward",
    .doc = R"(The gradient of avg_pool's x: each number of g is shared out over its window.

>>> sizes = {"kernel": [2], "stride": [2], "layout": "NCW", "size": [4]}
>>> _native.invoke("avg_pool_backward", [np.array([[[4.0, 6.0]]])], sizes)
array([[[2., 2., 3., 3.]]])
)",
    .inputs = {{"g", "gradient of the result"}},
    .attributes = pooling_attributes({count_include_pad(), size_attribute()}),
    .infer = [](Types inputs, const Attributes& attributes) -> std::vector<TensorType> {
      return {pooled_input("avg_pool_backward", inputs[0], attributes)};
    },
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      return {gradient(call).call("avg_pool", without_size(call.attributes))};
    },
    .narrow = {0},
    .images = {0},
});

}  // namespace mxpipe::ops
