// Normalisation over the batch or over the features of a sample: each one kernel forward and one backward.
#include <array>

#include "ops/declare.hpp"

namespace mxpipe::ops {
namespace {

// gamma and beta hold one number for each entry of `size`, in x's dtype or in the dtype of its statistics.
void require_scale(std::string_view op, std::string_view name, const TensorType& scale, const TensorType& x,
                   std::int64_t size) {
  require(scale.shape == Shape{size}, op, name, " must have shape (", size, ",); got ", scale.shape,
          " for x of shape ", x.shape, ".");
  require(scale.dtype == x.dtype || scale.dtype == compute_dtype(x.dtype), op, name, " must be ",
          compute_dtype(x.dtype), " or of x's dtype; got ", scale.dtype, ".");
}

// The statistics are by-products: nobody may ask how they depend on x.
void require_only_first(std::string_view op, const GradientCall& call) {
  const bool only_first = !call.gradients[1].valid() && !call.gradients[2].valid();
  require(only_first, op, "only the first result must be differentiated; got a gradient of the statistics.");
}

std::vector<TensorType> infer_layer_norm(Types inputs, const Attributes&) {
  const TensorType& x = inputs[0];
  require_floating("layer_norm", "x", x);
  require(x.shape.rank() > 0, "layer_norm", "x must have at least 1 axis; got shape ()", ".");
  require_scale("layer_norm", "gamma", inputs[1], x, x.shape.back());
  require_scale("layer_norm", "beta", inputs[2], x, x.shape.back());
  require_same_dtype("layer_norm", inputs.subspan(1));
  const TensorType statistics{compute_dtype(x.dtype), without_axis(x.shape, x.shape.rank() - 1)};
  return {x, statistics, statistics};
}

// `forward` gives the types that the statistics must have.
InferTypes infer_norm_backward(std::string op, InferTypes forward) {
  return [op, forward](Types inputs, const Attributes& attributes) -> std::vector<TensorType> {
    const TensorType& gamma = inputs[2];
    const std::vector<TensorType> types = forward(std::array{inputs[1], gamma, gamma}, attributes);
    require_same_type(op, "g", inputs[0], "x", inputs[1]);
    require_same_type(op, "mean", inputs[3], "forward's", types[1]);
    require_same_type(op, "the other statistic", inputs[4], "forward's", types[2]);
    return {inputs[1], gamma, gamma};
  };
}

std::vector<InputSchema> norm_backward_inputs(std::string statistic) {
  return {{"g", "gradient of the result"},
          {"x", "the input"},
          {"gamma", "the scale"},
          {"mean", "the mean that forward gave"},
          {statistic, "the " + statistic + " that forward gave"}};
}

std::vector<TensorType> infer_rms_norm(Types inputs, const Attributes&) {
  const TensorType& x = inputs[0];
  require_floating("rms_norm", "x", x);
  require(x.shape.rank() > 0, "rms_norm", "x must have at least 1 axis; got shape ()", ".");
  require_scale("rms_norm", "gamma", inputs[1], x, x.shape.back());
  return {x, {compute_dtype(x.dtype), without_axis(x.shape, x.shape.rank() - 1)}};
}

std::vector<TensorType> infer_rms_norm_backward(Types inputs, const Attributes& attributes) {
  constexpr std::string_view op = "rms_norm_backward";
  const std::vector<TensorType> types = infer_rms_norm(inputs.subspan(1, 2), attributes);
  require_same_type(op, "g", inputs[0], "x", inputs[1]);
  require_same_type(op, "rstd", inputs[3], "forward's", types[1]);
  return {inputs[1], inputs[2]};
}

std::vector<Gradient> rms_norm_gradient(const GradientCall& call) {
  require(!call.gradients[1].valid(), "rms_norm",
          "only the first result must be differentiated; got a gradient of rstd", ".");
  const std::vector<Value> gradients = call.builder.call_all(
      "rms_norm_backward", {call.gradients[0], call.inputs[0], call.inputs[1], call.outputs[1]});
  return {gradients[0], gradients[1]};
}

// ---------------------------------------------------------------------------------------------- batch_norm

bool has_relu(const Attributes& attributes) { return attributes.string("activation") == "relu"; }

void require_activation(std::string_view op, const Attributes& attributes) {
  const std::string& activation = attributes.string("activation");
  require(activation.empty() || activation == "relu", op, "activation must be \"\" or \"relu\"; got \"",
          activation, "\".");
}

std::vector<TensorType> infer_batch_norm(Types inputs, const Attributes& attributes) {
  const TensorType& x = inputs[0];
  require_floating("batch_norm", "x", x);
  require_activation("batch_norm", attributes);
  const std::int64_t channels = x.shape[axis_of("batch_norm", attributes, x.shape.rank())];
  require_scale("batch_norm", "gamma", inputs[1], x, channels);
  require_scale("batch_norm", "beta", inputs[2], x, channels);
  require_same_dtype("batch_norm", inputs.subspan(1, 2));
  if (inputs.size() > 3) require_same_type("batch_norm", "residual", inputs[3], "x", x);
  require(channels == 0 || x.size() > 0, "batch_norm", "x must hold at least one row; got shape ", x.shape,
          ".");
  const TensorType statistics{compute_dtype(x.dtype), Shape{channels}};
  return {x, statistics, statistics};
}

std::vector<TensorType> infer_batch_norm_backward(Types inputs, const Attributes& attributes) {
  constexpr std::string_view op = "batch_norm_backward";
  std::vector<TensorType> types = infer_norm_backward(std::string(op), infer_batch_norm)(inputs, attributes);
  require(has_relu(attributes) ? inputs.size() > 5 : inputs.size() == 5, op,
          "beta must be given with an activation and only then; got ", inputs.size(), " inputs.");
  if (inputs.size() > 5) require_same_type(op, "beta", inputs[5], "gamma", inputs[2]);
  if (inputs.size() > 6) {
    require_same_type(op, "y", inputs[6], "x", inputs[1]);
    types.push_back(inputs[1]);
  }
  return types;
}

std::vector<AttributeSchema> batch_norm_attributes() {
  return {axis_attribute(1, "axis of the channels"),
          attribute("eps", Attribute(1e-5), "added to the variance"),
          attribute("activation", Attribute(std::string()), "\"relu\": applied to the result")};
}

// Where a residual was added the result tells where the relu lets gradients pass; otherwise it is cheaper to
// compute the result again from x than to read it.
std::vector<Gradient> batch_norm_gradient(const GradientCall& call) {
  require_only_first("batch_norm", call);
  const bool relu = has_relu(call.attributes);
  const bool residual = call.inputs.size() > 3;
  std::vector<Value> inputs{call.gradients[0], call.inputs[0], call.inputs[1], call.outputs[1],
                            call.outputs[2]};
  if (relu) inputs.push_back(call.inputs[2]);
  if (relu && residual) inputs.push_back(call.outputs[0]);
  const std::vector<Value> gradients =
      call.builder.call_all("batch_norm_backward", std::move(inputs), call.attributes);
  std::vector<Gradient> result{gradients[0], gradients[1], gradients[2]};
  if (residual) result.emplace_back(relu ? gradients[3] : call.gradients[0]);
  return result;
}

// The gradient of `forward` through its backward op, which takes the statistics that forward gave.
std::vector<Gradient> norm_gradient(const std::string& forward, const GradientCall& call,
                                    const Attributes& attributes) {
  require_only_first(forward, call);
  const std::vector<Value> gradients = call.builder.call_all(
      forward + "_backward",
      {call.gradients[0], call.inputs[0], call.inputs[1], call.outputs[1], call.outputs[2]}, attributes);
  return {gradients[0], gradients[1], gradients[2]};
}

}  // namespace

MXPIPE_OP({
    .name = "layer_norm",
    .doc = R"((x - mean) * rstd * gamma + beta over the last axis, and the mean and rstd of each line.

rstd is 1 / sqrt(variance + eps). The statistics are float32, or float64 for float64.

>>> x, scale = np.array([[1.0, 3.0]]), np.ones(2)
>>> y, mean, rstd = _native.invoke("layer_norm", [x, scale, np.zeros(2)], {"eps": 0.0})
>>> y, mean, rstd
(array([[-1.,  1.]]), array([2.]), array([1.]))
)",
    .inputs = {{"x", "array (..., d) of a floating dtype"}, {"gamma", "array (d,)"}, {"beta", "array (d,)"}},
    .attributes = {attribute("eps", Attribute(1e-5), "added to the variance")},
    .infer = infer_layer_norm,
    .gradient = [](const GradientCall& call) { return norm_gradient("layer_norm", call, {}); },
    .by_row = true,
    .narrow = {0},
});

MXPIPE_OP({
    .name = "layer_norm_backward",
    .doc = R"(The gradients of layer_norm's x, gamma and beta.

>>> g, x, gamma = np.array([[1.0, 0.0]]), np.array([[1.0, 3.0]]), np.ones(2)
>>> inputs = [g, x, gamma, np.array([2.0]), np.array([1.0])]
>>> gx, ggamma, gbeta = _native.invoke("layer_norm_backward", inputs, {})
>>> gx, ggamma, gbeta
(array([[0., 0.]]), array([-1.,  0.]), array([1., 0.]))
)",
    .inputs = norm_backward_inputs("rstd"),
    .infer = infer_norm_backward("layer_norm_backward", infer_layer_norm),
    .narrow = {0, 1},
});

MXPIPE_OP({
    .name = "rms_norm",
    .doc = R"(x * rstd * gamma over the last axis, and the rstd of each line: 1 / sqrt(mean(x^2) + eps).

rstd is float32, or float64 for float64. Zhang and Sennrich 2019.

>>> _native.invoke("rms_norm", [np.array([[1.0, 7.0]]), np.ones(2)], {"eps": 0.0})
(array([[0.2, 1.4]]), array([0.2]))
)",
    .inputs = {{"x", "array (..., d) of a floating dtype"}, {"gamma", "array (d,)"}},
    .attributes = {attribute("eps", Attribute(1e-6), "added to the mean square")},
    .infer = infer_rms_norm,
    .gradient = rms_norm_gradient,
    .narrow = {0},
});

MXPIPE_OP({
    .name = "rms_norm_backward",
    .doc = R"(The gradients of rms_norm's x and gamma.

>>> g, x, gamma, rstd = np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]]), np.ones(2), np.ones(1)
>>> _native.invoke("rms_norm_backward", [g, x, gamma, rstd], {})
(array([[ 0.5, -0.5]]), array([1., 0.]))
)",
    .inputs = {{"g", "gradient of the result"},
               {"x", "the input"},
               {"gamma", "the scale"},
               {"rstd", "the rstd that forward gave"}},
    .infer = infer_rms_norm_backward,
    .narrow = {0, 1},
});

MXPIPE_OP({
    .name = "batch_norm",
    .doc =
        R"((x - mean) / sqrt(variance + eps) * gamma + beta for each channel, and the batch's mean and variance.

The statistics are taken over all axes but `axis`, are float32 (float64 for float64), and the variance is biased.
A residual is added to the normalized x, and then the activation is applied.

>>> x, gamma, beta = np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1)
>>> y, mean, variance = _native.invoke("batch_norm", [x, gamma, beta], {"eps": 0.0})
>>> y, mean, variance
(array([[-1.],
       [ 1.]]), array([2.]), array([1.]))
)",
    .inputs = {{"x", "array of a floating dtype"},
               {"gamma", "array (channels,)"},
               {"beta", "array (channels,)"},
               {.name = "residual", .doc = "array of x's shape and dtype", .optional = true}},
    .attributes = batch_norm_attributes(),
    .infer = infer_batch_norm,
    .gradient = batch_norm_gradient,
    .narrow = {0, 3},
    .images = {0, 3},
});

MXPIPE_OP({
    .name = "batch_norm_backward",
    .doc = R"(The gradients of batch_norm's x, gamma and beta; and of the residual, where there was one.

With an activation beta must be given, from which it is computed where gradients pass; and y, the result, where a
residual was added.

>>> g, x, gamma = np.array([[1.0], [0.0]]), np.array([[1.0], [3.0]]), np.ones(1)
>>> inputs = [g, x, gamma, np.array([2.0]), np.array([1.0])]
>>> gx, ggamma, gbeta = _native.invoke("batch_norm_backward", inputs, {"eps": 0.0})
>>> ggamma, gbeta
(array([-1.]), array([1.]))
)",
    .inputs =
        [] {
          std::vector<InputSchema> inputs = norm_backward_inputs("variance");
          inputs.push_back({.name = "beta", .doc = "the shift, with an activation", .optional = true});
          inputs.push_back({.name = "y", .doc = "the result, with a residual", .optional = true});
          return inputs;
        }(),
    .attributes = batch_norm_attributes(),
    .infer = infer_batch_norm_backward,
    .narrow = {0, 1, 6},
    .images = {0, 1, 6},
});

}  // namespace mxpipe::ops
