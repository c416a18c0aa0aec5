// Reductions over axes.
#include <algorithm>
#include <functional>

#include "ops/declare.hpp"

namespace mxpipe::ops {
namespace {

// Sums of 32 bits and less overflow soon, so integers (and the count of True) are summed in 64 bits.
DType accumulated(DType dtype) {
  if (is_floating(dtype)) return dtype;
  return is_unsigned_integer(dtype) ? DType::uint64 : DType::int64;
}

void require_axes(std::string_view op, const Integers& axes, int rank) {
  const bool ascending = std::adjacent_find(axes.begin(), axes.end(), std::greater_equal<>()) == axes.end();
  const bool inside = axes.empty() || (axes.front() >= 0 && axes.back() < rank);
  require(ascending && inside, op, "axis must hold ascending axes in [0, ", rank, "); got ", Attribute(axes),
          ".");
}

// The smallest and largest of no numbers do not exist.
void require_not_empty(std::string_view op, const Shape& shape, const Shape& result) {
  require(shape.size() > 0 || result.size() == 0, op, "axes reduced must not be empty; got shape ", shape,
          ".");
}

InferTypes infer_reduction(std::string op) {
  return [op](Types inputs, const Attributes& attributes) -> std::vector<TensorType> {
    const TensorType& x = inputs[0];
    const Integers& axes = attributes.integers("axis");
    require_axes(op, axes, x.shape.rank());
    const Shape shape = reduced_shape(x.shape, axes, attributes.boolean("keepdims"));
    if (op == "mean") require_floating(op, "x", x);
    if (op == "max" || op == "min") require_not_empty(op, x.shape, shape);
    const bool wide = attributes.find("wide") != nullptr && attributes.boolean("wide");
    if (wide && is_floating(x.dtype)) return {{compute_dtype(x.dtype), shape}};
    return {{op == "sum" || op == "prod" ? accumulated(x.dtype) : x.dtype, shape}};
  };
}

InferTypes infer_position(std::string op) {
  return [op](Types inputs, const Attributes& attributes) -> std::vector<TensorType> {
    const Shape& shape = inputs[0].shape;
    const int axis = axis_of(op, attributes, shape.rank());
    const Shape result = reduced_shape(shape, {axis}, attributes.boolean("keepdims"));
    require_not_empty(op, shape, result);
    return {{DType::int64, result}};
  };
}

InputSchema any_array() { return {"x", "array of any shape"}; }

std::vector<AttributeSchema> axes_attributes() {
  return {attribute("axis", AttributeType::integers, "axes to reduce, ascending"),
          attribute("keepdims", Attribute(false), "keep reduced axes, as 1")};
}

std::vector<AttributeSchema> sum_attributes() {
  std::vector<AttributeSchema> attributes = axes_attributes();
  attributes.push_back(attribute("wide", Attribute(false), "of 16-bit floats give a float32 result"));
  return attributes;
}

std::vector<AttributeSchema> axis_attributes() {
  return {axis_attribute(-1, "axis to search"), attribute("keepdims", Attribute(false), "keep it, as 1")};
}

// `value` (a reduction's result or its gradient) with the reduced axes as 1, ready to broadcast against x.
Term kept(const GradientCall& call, Term value) {
  return value.reshape(reduced_shape(input(call, 0).type().shape, call.attributes.integers("axis"), true));
}

Term spread(const GradientCall& call, Term value) {
  return kept(call, value).call("broadcast_to", {{"shape", input(call, 0).type().shape.to_vector()}});
}

Term sum_kept(const GradientCall& call, Term value) {
  return value.call("sum", {{"axis", call.attributes.integers("axis")}, {"keepdims", true}});
}

std::vector<Gradient> mean_gradient(const GradientCall& call) {
  const auto count = [&](std::size_t which) {
    return static_cast<double>((which == 0 ? input(call, 0) : output(call)).type().size());
  };
  const Term share = gradient(call) * (count(1) / count(0));
  return {spread(call, share.cast(input(call, 0).type().dtype))};
}

// Equal extremes share the gradient evenly.
std::vector<Gradient> extreme_gradient(const GradientCall& call) {
  const Term x = input(call, 0);
  const Term chosen = (x == kept(call, output(call))).cast(x.type().dtype);
  return {kept(call, gradient(call)) * chosen / sum_kept(call, chosen)};
}

std::vector<Gradient> sum_gradient(const GradientCall& call) {
  return {spread(call, gradient(call).cast(input(call, 0).type().dtype))};
}

// The product of the others without dividing by 0: where one number is 0, only its own derivative remains.
std::vector<Gradient> prod_gradient(const GradientCall& call) {
  const Term x = input(call, 0);
  const Term zero = x == 0.0;
  const Term zeros = sum_kept(call, zero.cast(x.type().dtype));
  const Term safe = where(zero, 1.0, x);
  const Term product = safe.call("prod", {{"axis", call.attributes.integers("axis")}, {"keepdims", true}});
  const Term of_zero = where(zeros == 1.0, product, 0.0);
  const Term of_others = where(zeros == 0.0, product, 0.0) / safe;
  return {kept(call, gradient(call)) * where(zero, of_zero, of_others)};
}

}  // namespace

MXPIPE_OP({
    .name = "sum",
    .doc = R"(Sum over axes. Integers and bool are summed in 64 bits, 16-bit floats in float32.

The result does not depend on the number of threads.

>>> np.sum(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=0)
array([4., 6.])
)",
    .inputs = {any_array()},
    .attributes = sum_attributes(),
    .infer = infer_reduction("sum"),
    .gradient = sum_gradient,
});

MXPIPE_OP({
    .name = "mean",
    .doc = R"(Mean over axes of floats; NaN of no numbers. 16-bit floats are summed in float32.

>>> np.mean(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=0)
array([2., 3.])
)",
    .inputs = {any_array()},
    .attributes = sum_attributes(),
    .infer = infer_reduction("mean"),
    .gradient = mean_gradient,
});

MXPIPE_OP({
    .name = "prod",
    .doc = R"(Product over axes. Integers and bool are multiplied in 64 bits.

>>> np.prod(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=0)
array([3., 8.])
)",
    .inputs = {any_array()},
    .attributes = axes_attributes(),
    .infer = infer_reduction("prod"),
    .gradient = prod_gradient,
});

MXPIPE_OP({
    .name = "max",
    .doc = R"(Largest number over axes; NaN if there is one. Equal ones share the gradient.

>>> np.max(np.array([[1.0, 2.0], [3.0, 0.0]]), axis=0)
array([3., 2.])
)",
    .inputs = {any_array()},
    .attributes = axes_attributes(),
    .infer = infer_reduction("max"),
    .gradient = extreme_gradient,
});

MXPIPE_OP({
    .name = "min",
    .doc = R"(Smallest number over axes; NaN if there is one. Equal ones share the gradient.

>>> np.min(np.array([[1.0, 2.0], [3.0, 0.0]]), axis=0)
array([1., 0.])
)",
    .inputs = {any_array()},
    .attributes = axes_attributes(),
    .infer = infer_reduction("min"),
    .gradient = extreme_gradient,
});

MXPIPE_OP({
    .name = "argmax",
    .doc = R"(Position of the first largest number along an axis (of the first NaN, if any), int64.

>>> np.argmax(np.array([[1.0, 2.0], [3.0, 0.0]]), axis=1)
array([1, 0], dtype=int64)
)",
    .inputs = {{"x", "array of at least one axis"}},
    .attributes = axis_attributes(),
    .infer = infer_position("argmax"),
    .zero_gradient = true,
});

MXPIPE_OP({
    .name = "argmin",
    .doc = R"(Position of the first smallest number along an axis (of the first NaN, if any), int64.

>>> np.argmin(np.array([[1.0, 2.0], [3.0, 0.0]]), axis=1)
array([0, 1], dtype=int64)
)",
    .inputs = {{"x", "array of at least one axis"}},
    .attributes = axis_attributes(),
    .infer = infer_position("argmin"),
    .zero_gradient = true,
});

}  // namespace mxpipe::ops
