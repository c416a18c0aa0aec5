// Softmax and cross entropy: each one kernel forward and one backward.

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

// `values` (n,) as a column beside (n, classes).
Term column(const Term& values) { return values.reshape({values.type().shape[0], 1}); }

// exp(logits - log_sum).
Term probabilities(const Term& logits, const Term& log_sum) {
  return (logits.cast(log_sum.type().dtype) - column(log_sum)).call("exp");
}

std::vector<Gradient> cross_entropy_gradient(const GradientCall& call) {
  const Term logits = input(call, 0);
  const DType dtype = logits.type().dtype;
  std::vector<Gradient> result(2);
  if (call.gradients[0].valid()) {
    result[0] = gradient(call).call("softmax_cross_entropy_backward",
                                    {call.inputs[0], call.inputs[1], call.outputs[1]});
  }
  if (call.gradients[1].valid()) {
    const Term more = column(gradient(call, 1)) * probabilities(logits, output(call, 1));
    result[0] =
        result[0].is_none() ? more.cast(dtype) : Term(call.builder, result[0].dense) + more.cast(dtype);
  }
  return result;
}

// z = g * (exp(logits - log_sum) - one_hot(labels)) row by row; h is the gradient of z.
std::vector<Gradient> cross_entropy_second(const GradientCall& call) {
  std::vector<Gradient> result(4);
  const Term logits = input(call, 1);
  const Shape& shape = logits.type().shape;
  const DType dtype = compute_dtype(logits.type().dtype);
  const Term h = gradient(call).cast(dtype);
  const Term p = probabilities(logits, input(call, 3));
  const Term slope = column(input(call, 0)) * h * p;
  if (call.needed[0]) {
    const Term codes = input(call, 2).call("one_hot", {{"depth", shape[1]}, {"dtype", dtype}});
    result[0] = (h * (p - codes)).sum(1).reshape({shape[0]});
  }
  if (call.needed[1]) result[1] = slope.cast(logits.type().dtype);
  if (call.needed[3]) result[3] = -slope.sum(1).reshape({shape[0]});
  return result;
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
    .by_row = true,
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
    .by_row = true,
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
        R"(-log_softmax(logits)[i, labels[i]] for each row i, and log(sum(exp(logits[i]))), which its gradient needs.

Both are float32, or float64 for float64 logits. A label outside [0, classes) raises OperatorError.

>>> _native.invoke("softmax_cross_entropy", [np.array([[0.0, 0.0]]), np.array([1])], {})
(array([0.6931472]), array([0.6931472]))
)",
    .inputs = {{"logits", "array (n, classes) of a floating dtype"}, {"labels", "int32 or int64 array (n,)"}},
    .infer = [](Types inputs, const Attributes&) -> std::vector<TensorType> {
      require_logits("softmax_cross_entropy", inputs[0], inputs[1]);
      return {loss_type(inputs[0]), loss_type(inputs[0])};
    },
    .gradient = cross_entropy_gradient,
});

MXPIPE_OP({
    .name = "softmax_cross_entropy_backward",
    .doc = R"(g * (softmax(logits) - one_hot(labels)), row by row: the gradient of softmax_cross_entropy.

>>> logits, labels, log_sum = np.array([[0.0, 0.0]]), np.array([1]), np.array([0.6931472])
>>> _native.invoke("softmax_cross_entropy_backward", [np.array([1.0]), logits, labels, log_sum], {})
array([[ 0.5, -0.5]])
)",
    .inputs = {{"g", "gradient of the loss, (n,)"},
               {"logits", "array (n, classes)"},
               {"labels", "int32 or int64 array (n,)"},
               {"log_sum", "log(sum(exp)) of each row, as forward gave it, (n,)"}},
    .infer = [](Types inputs, const Attributes&) -> std::vector<TensorType> {
      constexpr std::string_view op = "softmax_cross_entropy_backward";
      require_logits(op, inputs[1], inputs[2]);
      require_same_type(op, "g", inputs[0], "the loss", loss_type(inputs[1]));
      require_same_type(op, "log_sum", inputs[3], "the loss", loss_type(inputs[1]));
      return {inputs[1]};
    },
    .gradient = cross_entropy_second,
});

MXPIPE_OP({
    .name = "softmax_cross_entropy_and_gradient",
    .doc = R"(The results of softmax_cross_entropy, and its gradient for a g that is known before the loss.

The logits are read from memory once for both. Passes make it of the two ops; see passes/losses.cpp.

>>> logits, labels, g = np.array([[0.0, 0.0]]), np.array([1]), np.array([1.0])
>>> _native.invoke("softmax_cross_entropy_and_gradient", [logits, labels, g], {})
(array([0.6931472]), array([0.6931472]), array([[ 0.5, -0.5]]))
)",
    .inputs = {{"logits", "array (n, classes) of a floating dtype"},
               {"labels", "int32 or int64 array (n,)"},
               {"g", "gradient of the loss, (n,)"}},
    .infer = [](Types inputs, const Attributes&) -> std::vector<TensorType> {
      constexpr std::string_view op = "softmax_cross_entropy_and_gradient";
      require_logits(op, inputs[0], inputs[1]);
      require_same_type(op, "g", inputs[2], "the loss", loss_type(inputs[0]));
      return {loss_type(inputs[0]), loss_type(inputs[0]), inputs[0]};
    },
});

}  // namespace mxpipe::ops
