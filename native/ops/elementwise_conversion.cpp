// Elementwise conversions (dtype, range, shape by broadcasting) and constants.
#include <cmath>

#include "ops/elementwise.hpp"

namespace mxpipe::ops {
namespace {

// Integers are clipped by whole numbers, or not at all on that side.
void require_bound(std::string_view name, double bound, DType dtype) {
  const bool fits = is_floating(dtype) || std::isinf(bound) || bound == std::floor(bound);
  require(fits, "clip", name, " must be a whole number for integers; got ", bound, ".");
}

// `from` fits into `shape` from the back, but for axes of size 1.
void require_stretches(const Shape& from, const Shape& shape) {
  const int added = shape.rank() - from.rank();
  bool fits = added >= 0;
  for (int axis = 0; fits && axis < from.rank(); ++axis)
    fits = from[axis] == 1 || from[axis] == shape[axis + added];
  require(fits, "broadcast_to", "x must broadcast to ", shape, "; got shape ", from, ".");
}

Register lower_clip(const ElementwiseCall& call) {
  const DType dtype = call.output.dtype;
  Register x = call.program.input(0);
  const auto bound = [&](Opcode opcode, double limit) {
    if (!std::isinf(limit)) x = call.program.emit(opcode, dtype, {x, call.program.constant(limit, dtype)});
  };
  bound(Opcode::maximum, call.attributes.real("a_min"));
  bound(Opcode::minimum, call.attributes.real("a_max"));
  return x;
}

}  // namespace

MXPIPE_OP({
    .name = "cast",
    .doc = R"(The numbers of `x` in another dtype.

Floats become integers by dropping the fraction, wider integers wrap, and numbers become True unless 0.

>>> _native.invoke("cast", [np.array([1.7, -1.7])], {"dtype": "int32"})
array([ 1, -1], dtype=int32)
)",
    .inputs = {{"x", "array of any shape"}},
    .attributes = {attribute("dtype", AttributeType::dtype, "dtype of the result")},
    .infer = [](Types inputs, const Attributes& attributes) -> std::vector<TensorType> {
      return {{attributes.dtype("dtype"), inputs[0].shape}};
    },
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      return {to_input(call, 0, gradient(call))};
    },
    .lower =
        [](const ElementwiseCall& call) {
          return is_boolean(call.output.dtype) ? truth(call, 0) : call.program.input_as(0, call.output.dtype);
        },
});

MXPIPE_OP({
    .name = "clip",
    .doc = R"(The numbers of `x` moved into [a_min, a_max]; NaN stays NaN. Outside the gradient is 0.

>>> np.clip(np.array([-2.0, 0.5, 2.0]), -1.0, 1.0)
array([-1. ,  0.5,  1. ])
)",
    .inputs = {{"x", "array of numbers"}},
    .attributes = {attribute("a_min", Attribute(-INFINITY), "lower bound; -inf for none"),
                   attribute("a_max", Attribute(+INFINITY), "upper bound; inf for none")},
    .infer =
        [](Types inputs, const Attributes& attributes) {
          require_bound("a_min", attributes.real("a_min"), inputs[0].dtype);
          require_bound("a_max", attributes.real("a_max"), inputs[0].dtype);
          return infer_elementwise("clip", Rule::number, inputs);
        },
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      const Term x = input(call, 0);
      const Term inside =
          (x >= call.attributes.real("a_min")).call("logical_and", {x <= call.attributes.real("a_max")});
      return {where(inside, gradient(call), 0.0)};
    },
    .lower = lower_clip,
});

MXPIPE_OP({
    .name = "broadcast_to",
    .doc = R"(`x` repeated along new leading axes and axes of size 1, until it has `shape`.

>>> np.broadcast_to(np.array([1.0, 2.0]), (2, 2))
array([[1., 2.],
       [1., 2.]])
)",
    .inputs = {{"x", "array whose shape broadcasts to `shape`"}},
    .attributes = {attribute("shape", AttributeType::integers, "shape of the result")},
    .infer = [](Types inputs, const Attributes& attributes) -> std::vector<TensorType> {
      const Shape shape = shape_attribute("broadcast_to", attributes);
      require_stretches(inputs[0].shape, shape);
      return {{inputs[0].dtype, shape}};
    },
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      return {to_input(call, 0, gradient(call))};
    },
    .lower = [](const ElementwiseCall& call) { return call.program.input(0); },
});

MXPIPE_OP({
    .name = "full",
    .doc = R"(An array that holds one number everywhere.

>>> np.full((2,), 3.0)
array([3., 3.])
)",
    .attributes = {attribute("shape", AttributeType::integers, "shape of the result"),
                   attribute("value", AttributeType::real, "the number, converted to dtype"),
                   attribute("dtype", Attribute(DType::float32), "dtype of the result")},
    .infer = [](Types, const Attributes& attributes) -> std::vector<TensorType> {
      return {{attributes.dtype("dtype"), shape_attribute("full", attributes)}};
    },
    .lower =
        [](const ElementwiseCall& call) {
          return call.program.constant(call.attributes.real("value"), call.output.dtype);
        },
    .zero_gradient = true,
});

}  // namespace mxpipe::ops
