// Convolution and its two gradients. Each is linear in both of its inputs, so the three are each other's
// gradients to any order, and a transposed convolution is convolution_backward_data.
#include <array>

#include "graph/spatial.hpp"
#include "ops/declare.hpp"

namespace mxpipe::ops {
namespace {

constexpr std::array<std::string_view, 5> kShared{"stride", "padding", "dilation", "groups", "layout"};

std::vector<AttributeSchema> convolution_attributes(std::vector<AttributeSchema> more) {
  std::vector<AttributeSchema> result{
      attribute("stride", Attribute(Integers{}), "step of the window, a number each spatial axis; [] for 1"),
      attribute("padding", Attribute(Integers{}), "zeros added at both ends of each spatial axis; [] for 0"),
      attribute("dilation", Attribute(Integers{}), "distance between the kernel's elements; [] for 1"),
      attribute("groups", Attribute(std::int64_t{1}), "the channels are split into this many groups"),
      attribute("layout", Attribute(std::string("NCHW")),
                "axes of x and of the result: NCW, NCHW, NCDHW, NWC, NHWC or NDHWC")};
  result.insert(result.end(), more.begin(), more.end());
  return result;
}

Attributes shared_attributes(const Attributes& attributes) {
  Attributes result;
  for (const std::string_view name : kShared) result.set(name, attributes.at(name));
  return result;
}

// The shape of the result, of x (batch, in, *size) and a weight (out, in / groups, *kernel).
Shape result_shape(std::string_view op, const Attributes& attributes, const Shape& x, const Shape& weight) {
  const SpatialLayout layout = layout_of(op, attributes, x.rank());
  const std::int64_t groups = attributes.integer("groups");
  const std::int64_t in = x[layout.channel_axis()];
  require(groups >= 1, op, "groups must be at least 1; got ", groups, ".");
  require(weight.rank() == x.rank(), op, "weight must have as many axes as x; got shape ", weight, " and ", x,
          ".");
  require(weight[1] * groups == in && weight[0] % groups == 0, op,
          "weight must be (out, channels / groups, ...) with out a multiple of groups; got shape ", weight,
          " for ", in, " channels in ", groups, " groups.");
  const Integers stride = axis_values(op, attributes, "stride", layout.spatial, 1, 1);
  const Integers padding = axis_values(op, attributes, "padding", layout.spatial, 0, 0);
  const Integers dilation = axis_values(op, attributes, "dilation", layout.spatial, 1, 1);
  Integers sizes = layout.sizes(x);
  for (std::size_t axis = 0; axis < sizes.size(); ++axis) {
    const std::int64_t kernel = weight[static_cast<int>(axis) + 2];
    require(kernel >= 1, op, "the kernel must not be empty; got shape ", weight, ".");
    sizes[axis] = count_windows(op, sizes[axis], kernel, stride[axis], padding[axis], dilation[axis]);
  }
  return layout.shape(x[0], weight[0], sizes);
}

// Of narrow x also float32: sums are taken in float32 anyway.
void require_beside(std::string_view op, std::string_view name, DType dtype, DType x) {
  require(dtype == x || dtype == compute_dtype(x), op, name, " must have x's dtype or ", compute_dtype(x),
          "; got ", dtype, " for ", x, ".");
}

std::vector<TensorType> infer_convolution(Types inputs, const Attributes& attributes) {
  const std::string_view op = "convolution";
  const TensorType& x = inputs[0];
  const std::string& activation = attributes.string("activation");
  require_floating(op, "x", x);
  require_same_dtype(op, inputs.first(2));
  require(activation.empty() || activation == "relu", op, "activation must be \"\" or relu; got ", activation,
          ".");
  const TensorType result{x.dtype, result_shape(op, attributes, x.shape, inputs[1].shape)};
  if (inputs.size() > 2) {
    require(inputs[2].shape == Shape{inputs[1].shape[0]}, op,
            "bias must hold one number for each channel of the result; got shape ", inputs[2].shape, " for ",
            result.shape, ".");
    require_beside(op, "bias", inputs[2].dtype, x.dtype);
  }
  if (inputs.size() > 3) require_same_type(op, "addend", inputs[3], "the result", result);
  return {result};
}

std::vector<TensorType> infer_backward_data(Types inputs, const Attributes& attributes) {
  const std::string_view op = "convolution_backward_data";
  const TensorType& g = inputs[0];
  const Shape& weight = inputs[1].shape;
  require_floating(op, "g", g);
  require_same_dtype(op, inputs);
  const SpatialLayout layout = layout_of(op, attributes, g.shape.rank());
  require(weight.rank() == g.shape.rank(), op, "weight must have as many axes as g; got shape ", weight,
          " and ", g.shape, ".");
  const Integers size = axis_values(op, attributes, "size", layout.spatial, 0, 0);
  const Shape x = layout.shape(g.shape[0], weight[1] * attributes.integer("groups"), size);
  const Shape expected = result_shape(op, attributes, x, weight);
  require(g.shape == expected, op, "g must have the shape of the convolution of ", x, ", ", expected,
          "; got ", g.shape, ".");
  return {{g.dtype, x}};
}

std::vector<TensorType> infer_backward_weights(Types inputs, const Attributes& attributes) {
  const std::string_view op = "convolution_backward_weights";
  const TensorType& x = inputs[0];
  const TensorType& g = inputs[1];
  const std::int64_t groups = attributes.integer("groups");
  require_floating(op, "x", x);
  require_same_dtype(op, inputs);
  const SpatialLayout layout = layout_of(op, attributes, x.shape.rank());
  require(g.shape.rank() == x.shape.rank() && groups >= 1, op,
          "g must have as many axes as x, and groups be at least 1; got shape ", g.shape, " and ", x.shape,
          ", groups ", groups, ".");
  Shape weight{g.shape[layout.channel_axis()], x.shape[layout.channel_axis()] / groups};
  for (const std::int64_t size : axis_values(op, attributes, "kernel", layout.spatial, 1, 1)) {
    weight.push_back(size);
  }
  const Shape expected = result_shape(op, attributes, x.shape, weight);
  require(g.shape == expected, op, "g must have the shape of the convolution, ", expected, "; got ", g.shape,
          ".");
  return {{attributes.boolean("wide") ? compute_dtype(x.dtype) : x.dtype, weight}};
}

Term backward_data(const Attributes& attributes, Term g, Term weight, const Shape& x) {
  Attributes own = shared_attributes(attributes);
  own.set("size", layout_of("convolution", attributes, x.rank()).sizes(x));
  return g.call("convolution_backward_data", {weight}, own);
}

Term backward_weights(const Attributes& attributes, Term x, Term g, const TensorType& weight) {
  Attributes own = shared_attributes(attributes);
  own.set("kernel", Integers(weight.shape.begin() + 2, weight.shape.end()));
  // True of float32 too, so that the result stays float32 when only the inputs become narrow.
  own.set("wide", weight.dtype == compute_dtype(x.type().dtype));
  return x.call("convolution_backward_weights", {g}, own);
}

// Sums g over all axes but that of the channels.
Term channel_sums(const Attributes& attributes, Term g) {
  const int rank = g.type().shape.rank();
  const int channels = layout_of("convolution", attributes, rank).channel_axis();
  Integers axes;
  for (int axis = 0; axis < rank; ++axis) {
    if (axis != channels) axes.push_back(axis);
  }
  return g.call("sum", {{"axis", axes}, {"keepdims", false}});
}

std::vector<Gradient> convolution_gradient(const GradientCall& call) {
  std::vector<Gradient> result(call.inputs.size());
  const Attributes& attributes = call.attributes;
  const Term x = input(call, 0), weight = input(call, 1);
  Term g = gradient(call);
  if (attributes.string("activation") == "relu") g = g.call("multiply_if_positive", {output(call)});
  if (call.needed[0]) result[0] = backward_data(attributes, g, weight, x.type().shape);
  if (call.needed[1]) result[1] = backward_weights(attributes, x, g, weight.type());
  if (call.inputs.size() > 2 && call.needed[2]) {
    const DType bias = input(call, 2).type().dtype;
    result[2] = channel_sums(attributes, g.cast(compute_dtype(g.type().dtype))).cast(bias);
  }
  if (call.inputs.size() > 3 && call.needed[3]) result[3] = g;
  return result;
}

std::vector<Gradient> backward_data_gradient(const GradientCall& call) {
  std::vector<Gradient> result(2);
  const Term g = input(call, 0), weight = input(call, 1), upstream = gradient(call);
  const Attributes shared = shared_attributes(call.attributes);
  if (call.needed[0]) result[0] = upstream.call("convolution", {weight}, shared);
  if (call.needed[1]) result[1] = backward_weights(shared, upstream, g, weight.type());
  return result;
}

std::vector<Gradient> backward_weights_gradient(const GradientCall& call) {
  std::vector<Gradient> result(2);
  const Term x = input(call, 0), g = input(call, 1);
  const Term upstream = gradient(call).cast(x.type().dtype);
  const Attributes shared = shared_attributes(call.attributes);
  if (call.needed[0]) result[0] = backward_data(shared, g, upstream, x.type().shape);
  if (call.needed[1]) result[1] = x.call("convolution", {upstream}, shared);
  return result;
}

}  // namespace

MXPIPE_OP({
    .name = "convolution",
    .doc =
        R"(The correlation of x with a kernel, over 1 to 3 spatial axes; then the bias, the addend, the activation.

    result[n, o, p] = sum over c, k of x[n, c, p * stride + k * dilation - padding] * weight[o, c, k]

x is taken as 0 outside its borders. With groups, group i of the channels makes group i of the result. The weight
is (out, channels / groups, *kernel) in every layout. float16 and bfloat16 are summed in float32 and rounded once.

>>> x, weight = np.array([[[1.0, 2.0, 3.0]]]), np.array([[[1.0, 10.0]]])
>>> _native.invoke("convolution", [x, weight], {"layout": "NCW"})
array([[[21., 32.]]])
)",
    .inputs = {{"x", "array of a floating dtype, (batch, channels, *spatial) or in another layout"},
               {"weight", "array (out, channels / groups, *kernel)"},
               {.name = "bias", .doc = "array (out,), of x's dtype or float32", .optional = true},
               {.name = "addend", .doc = "array of the result's shape and dtype", .optional = true}},
    .attributes = convolution_attributes({attribute("activation", Attribute(std::string()),
                                                    "\"\" or relu, applied to the result")}),
    .infer = infer_convolution,
    .gradient = convolution_gradient,
    .by_row = true,
    .narrow = {0, 1, 3},
    .images = {0, 3},
});

MXPIPE_OP({
    .name = "convolution_backward_data",
    .doc = R"(The gradient of a convolution's x; as a layer of its own, the transposed convolution.

    result[n, c, q] = sum over o, k with q = p * stride + k * dilation - padding of g[n, o, p] * weight[o, c, k]

>>> g, weight = np.array([[[1.0, 2.0]]]), np.array([[[1.0, 10.0]]])
>>> _native.invoke("convolution_backward_data", [g, weight], {"layout": "NCW", "size": [3]})
array([[[ 1., 12., 20.]]])
)",
    .inputs = {{"g", "array (batch, out, *spatial): the gradient of the convolution's result"},
               {"weight", "array (out, channels / groups, *kernel)"}},
    .attributes = convolution_attributes({attribute("size", AttributeType::integers,
                                                    "spatial sizes of the result")}),
    .infer = infer_backward_data,
    .gradient = backward_data_gradient,
    .by_row = true,
    .narrow = {0, 1},
    .images = {0},
});

MXPIPE_OP({
    .name = "convolution_backward_weights",
    .doc = R"(The gradient of a convolution's weight.

    result[o, c, k] = sum over n, p of g[n, o, p] * x[n, c, p * stride + k * dilation - padding]

>>> x, g = np.array([[[1.0, 2.0, 3.0]]]), np.array([[[1.0, 10.0]]])
>>> _native.invoke("convolution_backward_weights", [x, g], {"layout": "NCW", "kernel": [2]})
array([[[21., 32.]]])
)",
    .inputs = {{"x", "array (batch, channels, *spatial)"},
               {"g", "array (batch, out, *spatial): the gradient of the convolution's result"}},
    .attributes = convolution_attributes(
        {attribute("kernel", AttributeType::integers, "spatial sizes of the weight"),
         attribute("wide", Attribute(false), "of float16 and bfloat16 give a float32 result")}),
    .infer = infer_backward_weights,
    .gradient = backward_weights_gradient,
    .narrow = {0, 1},
    .images = {0, 1},
});

}  // namespace mxpipe::ops
