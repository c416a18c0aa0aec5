// Softmax, cross entropy and normalisation: each one kernel forward and one backward.
#include <array>

#include "ops/declare.hpp"

namespace mxpipe::ops {
namespace {

std::vector<AttributeSchema> axis_attributes() {
  return {axis_attribute(-1, "axis along which numbers belong together")};
}

// ------------------------------------------------------------------------------------------------- softmax

InferTypes infer_softmax(std::string op) {
  return [op](Types inputs, const Attributes& attributes) -> std::vector<TensorType> {
    require_floating(op, "x", inputs[0]);
    axis_of(op, attributes, inputs[0].shape.rank());
    return {inputs[0]};
  };
}

InferTypes infer_softmax_backward(std::string op) {
  return [op](Types inputs, const Attributes& attributes) -> std::vector<TensorType> {
    require_floating(op, "y", inputs[1]);
    require_same_type(op, "g", inputs[0], "y", inputs[1]);
    axis_of(op, attributes, inputs[0].shape.rank());
    return {inputs[0]};
  };
}

GradientFunction softmax_gradient(std::string backward) {
  return [backward](const GradientCall& call) -> std::vector<Gradient> {
    return {gradient(call).call(backward, {output(call)}, call.attributes)};
  };
}

std::vector<InputSchema> softmax_inputs() {
  return {{"x", "array of a floating dtype, of at least one axis"}};
}

std::vector<InputSchema> softmax_backward_inputs() {
  return {{"g", "gradient of the result"}, {"y", "the result"}};
}

// z = y * (g - sum(g * y)); h is the gradient of z.
std::vector<Gradient> softmax_second(const GradientCall& call) {
  std::vector<Gradient> result(2);
  const Term h = gradient(call);
  const Term g = input(call, 0);
  const Term y = input(call, 1);
  const int axis = axis_of("softmax", call.attributes, y.type().shape.rank());
  if (call.needed[0]) result[0] = h.call("softmax_backward", {y}, call.attributes);
  if (call.needed[1]) result[1] = h * (g - (g * y).sum(axis)) - g * (h * y).sum(axis);
  return result;
}

// z = g - exp(y) * sum(g); h is the gradient of z.
std::vector<Gradient> log_softmax_second(const GradientCall& call) {
  std::vector<Gradient> result(2);
  const Term h = gradient(call);
  const Term p = input(call, 1).call("exp");
  const int axis = axis_of("log_softmax", call.attributes, p.type().shape.rank());
  if (call.needed[0]) result[0] = h - (h * p).sum(axis);
  if (call.needed[1]) result[1] = -(h * p * input(call, 0).sum(axis));
  return result;
}

// ------------------------------------------------------------------------------------------- cross entropy

void require_logits(std::string_view op, const TensorType& logits, const TensorType& labels) {
  require_floating(op, "logits", logits);
  require_rank(op, "logits", logits, 2);
  require_index(op, "labels", labels);
  require(labels.shape == Shape{logits.shape[0]}, op,
          "labels must hold one id for each row of logits; got shape ", labels.shape, " and ", logits.shape,
          ".");
}

TensorType loss_type(const TensorType& logits) {
  return {compute_dtype(logits.dtype), Shape{logits.shape[0]}};
}

// z = g * (softmax(logits) - one_hot(labels)) row by row; h is the gradient of z.
std::vector<Gradient> cross_entropy_second(const GradientCall& call) {
  std::vector<Gradient> result(3);
  const Term logits = input(call, 1);
  const Shape& shape = logits.type().shape;
  const DType dtype = compute_dtype(logits.type().dtype);
  const Term h = gradient(call).cast(dtype);
  const Term p = logits.cast(dtype).call("softmax", {{"axis", std::int64_t{1}}});
  if (call.needed[0]) {
    const Term codes = input(call, 2).call("one_hot", {{"depth", shape[1]}, {"dtype", dtype}});
    result[0] = (h * (p - codes)).sum(1).reshape({shape[0]});
  }
  if (call.needed[1]) {
    const Term g = input(call, 0).reshape({shape[0], 1});
    result[1] = (g * h.call("softmax_backward", {p}, {{"axis", std::int64_t{1}}})).cast(logits.type().dtype);
  }
  return result;
}

// ------------------------------------------------------------------------------------------- normalisation

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

std::vector<TensorType> infer_batch_norm(Types inputs, const Attributes& attributes) {
  const TensorType& x = inputs[0];
  require_floating("batch_norm", "x", x);
  const std::int64_t channels = x.shape[axis_of("batch_norm", attributes, x.shape.rank())];
  require_scale("batch_norm", "gamma", inputs[1], x, channels);
  require_scale("batch_norm", "beta", inputs[2], x, channels);
  require_same_dtype("batch_norm", inputs.subspan(1));
  require(channels == 0 || x.size() > 0, "batch_norm", "x must hold at least one row; got shape ", x.shape,
          ".");
  const TensorType statistics{compute_dtype(x.dtype), Shape{channels}};
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

std::vector<AttributeSchema> batch_norm_attributes() {
  return {axis_attribute(1, "axis of the channels"),
          attribute("eps", Attribute(1e-5), "added to the variance")};
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
    .name = "softmax",
    .doc = R"(exp(x) divided by its sum along an axis, without overflow.

>>> npx.softmax(np.array([0.0, 0.0]))
array([0.5, 0.5])
)",
    .inputs = softmax_inputs(),
    .attributes = axis_attributes(),
    .infer = infer_softmax("softmax"),
    .gradient = softmax_gradient("softmax_backward"),
});

MXPIPE_OP({
    .name = "log_softmax",
    .doc = R"(The logarithm of softmax, without overflow.

>>> npx.log_softmax(np.array([0.0, 0.0]))
array([-0.6931472, -0.6931472])
)",
    .inputs = softmax_inputs(),
    .attributes = axis_attributes(),
    .infer = infer_softmax("log_softmax"),
    .gradient = softmax_gradient("log_softmax_backward"),
});

MXPIPE_OP({
    .name = "softmax_backward",
    .doc = R"(y * (g - sum(g * y)) along an axis: the gradient of softmax.

>>> _native.invoke("softmax_backward", [np.array([1.0, 0.0]), np.array([0.5, 0.5])], {})
array([ 0.25, -0.25])
)",
    .inputs = softmax_backward_inputs(),
    .attributes = axis_attributes(),
    .infer = infer_softmax_backward("softmax_backward"),
    .gradient = softmax_second,
});

MXPIPE_OP({
    .name = "log_softmax_backward",
    .doc = R"(g - exp(y) * sum(g) along an axis: the gradient of log_softmax.

>>> _native.invoke("log_softmax_backward", [np.array([1.0, 0.0]), np.array([0.0, 0.0])], {})
array([ 0., -1.])
)",
    .inputs = softmax_backward_inputs(),
    .attributes = axis_attributes(),
    .infer = infer_softmax_backward("log_softmax_backward"),
    .gradient = log_softmax_second,
});

MXPIPE_OP({
    .name = "softmax_cross_entropy",
    .doc =
        R"(-log_softmax(logits)[i, labels[i]] for each row i. A label outside [0, classes) raises OperatorError.

The loss is float32, or float64 for float64 logits.

>>> npx.softmax_cross_entropy(np.array([[0.0, 0.0]]), np.array([1]))
array([0.6931472])
)",
    .inputs = {{"logits", "array (n, classes) of a floating dtype"}, {"labels", "int32 or int64 array (n,)"}},
    .infer = [](Types inputs, const Attributes&) -> std::vector<TensorType> {
      require_logits("softmax_cross_entropy", inputs[0], inputs[1]);
      return {loss_type(inputs[0])};
    },
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      return {gradient(call).call("softmax_cross_entropy_backward", {call.inputs[0], call.inputs[1]}),
              Gradient()};
    },
});

MXPIPE_OP({
    .name = "softmax_cross_entropy_backward",
    .doc = R"(g * (softmax(logits) - one_hot(labels)), row by row: the gradient of softmax_cross_entropy.

>>> logits, labels = np.array([[0.0, 0.0]]), np.array([1])
>>> _native.invoke("softmax_cross_entropy_backward", [np.array([1.0]), logits, labels], {})
array([[ 0.5, -0.5]])
)",
    .inputs = {{"g", "gradient of the loss, (n,)"},
               {"logits", "array (n, classes)"},
               {"labels", "int32 or int64 array (n,)"}},
    .infer = [](Types inputs, const Attributes&) -> std::vector<TensorType> {
      require_logits("softmax_cross_entropy_backward", inputs[1], inputs[2]);
      require_same_type("softmax_cross_entropy_backward", "g", inputs[0], "the loss", loss_type(inputs[1]));
      return {inputs[1]};
    },
    .gradient = cross_entropy_second,
});

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
    .name = "batch_norm",
    .doc =
        R"((x - mean) / sqrt(variance + eps) * gamma + beta for each channel, and the batch's mean and variance.

The statistics are taken over all axes but `axis`, are float32 (float64 for float64), and the variance is biased.

>>> x, gamma, beta = np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1)
>>> y, mean, variance = _native.invoke("batch_norm", [x, gamma, beta], {"eps": 0.0})
>>> y, mean, variance
(array([[-1.],
       [ 1.]]), array([2.]), array([1.]))
)",
    .inputs = {{"x", "array of a floating dtype"},
               {"gamma", "array (channels,)"},
               {"beta", "array (channels,)"}},
    .attributes = batch_norm_attributes(),
    .infer = infer_batch_norm,
    .gradient = [](const GradientCall& call) { return norm_gradient("batch_norm", call, call.attributes); },
    .narrow = {0},
});

MXPIPE_OP({
    .name = "batch_norm_backward",
    .doc = R"(The gradients of batch_norm's x, gamma and beta.

>>> g, x, gamma = np.array([[1.0], [0.0]]), np.array([[1.0], [3.0]]), np.ones(1)
>>> inputs = [g, x, gamma, np.array([2.0]), np.array([1.0])]
>>> gx, ggamma, gbeta = _native.invoke("batch_norm_backward", inputs, {"eps": 0.0})
>>> ggamma, gbeta
(array([-1.]), array([1.]))
)",
    .inputs = norm_backward_inputs("variance"),
    .attributes = batch_norm_attributes(),
    .infer = infer_norm_backward("batch_norm_backward", infer_batch_norm),
    .narrow = {0, 1},
});

}  // namespace mxpipe::ops
