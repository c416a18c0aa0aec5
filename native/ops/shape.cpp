// Ops that move numbers without changing them.
#include <algorithm>
#include <cstdlib>
#include <limits>

#include "ops/declare.hpp"

namespace mxpipe::ops {
namespace {

// ---------------------------------------------------------------------------------- reshape and transpose

// -2 copies the dim of x at the same place, one -1 takes what is left.
Shape resolve_shape(const Shape& from, const Integers& wanted) {
  Shape shape{std::span<const std::int64_t>(wanted)};
  int unknown = -1;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (shape[axis] == -2 && axis < from.rank()) shape[axis] = from[axis];
    if (shape[axis] == -1 && unknown < 0) {
      unknown = axis;
      shape[axis] = 1;
    }
    require(shape[axis] >= 0, "reshape",
            "shape must hold sizes, at most one -1, and -2 only where x has an axis; got ", Attribute(wanted),
            " for shape ", from, ".");
  }
  if (unknown >= 0) shape[unknown] = shape.size() > 0 ? from.size() / shape.size() : 0;
  require(shape.size() == from.size(), "reshape", "the number of elements must stay the same; got shape ",
          from, " and ", Attribute(wanted), ".");
  return shape;
}

Integers inverse(const Integers& axes) {
  Integers result(axes.size());
  for (std::size_t i = 0; i < axes.size(); ++i)
    result[static_cast<std::size_t>(axes[i])] = static_cast<std::int64_t>(i);
  return result;
}

std::vector<TensorType> infer_transpose(Types inputs, const Attributes& attributes) {
  const Shape& from = inputs[0].shape;
  const Integers& axes = attributes.integers("axes");
  Integers sorted = axes;
  std::sort(sorted.begin(), sorted.end());
  bool permutation = static_cast<int>(axes.size()) == from.rank();
  for (std::size_t i = 0; permutation && i < sorted.size(); ++i)
    permutation = sorted[i] == static_cast<std::int64_t>(i);
  require(permutation, "transpose", "axes must name each axis once; got ", Attribute(axes), " for shape ",
          from, ".");
  Shape shape;
  for (const std::int64_t axis : axes) shape.push_back(from[static_cast<int>(axis)]);
  return {{inputs[0].dtype, shape}};
}

// -------------------------------------------------------------------------------------------- concatenate

std::vector<TensorType> infer_concatenate(Types inputs, const Attributes& attributes) {
  require_same_dtype("concatenate", inputs);
  Shape shape = inputs[0].shape;
  const int axis = axis_of("concatenate", attributes, shape.rank());
  for (const TensorType& type : inputs.subspan(1)) {
    bool fits = type.shape.rank() == shape.rank();
    for (int i = 0; fits && i < shape.rank(); ++i) fits = i == axis || type.shape[i] == shape[i];
    require(fits, "concatenate", "shapes must agree but along axis ", axis, "; got shape ", inputs[0].shape,
            " and ", type.shape, ".");
    shape[axis] += type.shape[axis];
  }
  return {{inputs[0].dtype, shape}};
}

std::vector<Gradient> concatenate_gradient(const GradientCall& call) {
  std::vector<Gradient> result(call.inputs.size());
  const Shape& shape = output(call).type().shape;
  const auto axis = static_cast<std::size_t>(axis_of("concatenate", call.attributes, shape.rank()));
  Integers begin(static_cast<std::size_t>(shape.rank()), 0);
  Integers end = shape.to_vector();
  const Integers step(begin.size(), 1);
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    end[axis] = begin[axis] + input(call, i).type().shape[static_cast<int>(axis)];
    if (call.needed[i])
      result[i] = gradient(call).call("slice", {{"begin", begin}, {"end", end}, {"step", step}});
    begin[axis] = end[axis];
  }
  return result;
}

// --------------------------------------------------------------------------------------------------- slices

// The shape of x[begin:end:step]. `end` may lie beyond the axis: a slice of a whole axis then fits any size.
Shape sliced_shape(std::string_view op, const Shape& from, const Attributes& attributes) {
  const Integers& begins = attributes.integers("begin");
  const Integers& ends = attributes.integers("end");
  const Integers& steps = attributes.integers("step");
  const auto rank = static_cast<std::size_t>(from.rank());
  require(begins.size() == rank && ends.size() == rank && steps.size() == rank, op,
          "begin, end and step must hold one number for each axis; got ", attributes, " for shape ", from,
          ".");
  Shape shape;
  for (int axis = 0; axis < from.rank(); ++axis) {
    const auto i = static_cast<std::size_t>(axis);
    const std::int64_t step = steps[i];
    require(step != 0 && step != std::numeric_limits<std::int64_t>::min(), op, "step must not be 0; got ",
            attributes, ".");
    const std::int64_t begin = std::clamp<std::int64_t>(begins[i], -1, from[axis]);
    const std::int64_t end = std::clamp<std::int64_t>(ends[i], step > 0 ? 0 : -1, from[axis]);
    const std::int64_t distance = step > 0 ? end - begin : begin - end;
    const std::int64_t size = distance > 0 ? (distance - 1) / std::abs(step) + 1 : 0;
    require(size == 0 || (begins[i] >= 0 && begins[i] < from[axis]), op,
            "begin must lie inside the array; got ", attributes, " for shape ", from, ".");
    shape.push_back(size);
  }
  return shape;
}

std::vector<AttributeSchema> slice_attributes() {
  return {
      attribute("begin", AttributeType::integers, "first position along each axis, counted from the front"),
      attribute("end", AttributeType::integers,
                "position behind the last one; -1 for before the front, anything "
                "beyond the axis for its end"),
      attribute("step", AttributeType::integers, "distance of positions, not 0; may be negative")};
}

Attributes region(const Attributes& attributes) {
  return {{"begin", attributes.integers("begin")},
          {"end", attributes.integers("end")},
          {"step", attributes.integers("step")}};
}

Attributes region_of(const Attributes& attributes, const Shape& shape) {
  Attributes result = region(attributes);
  result.set("shape", shape.to_vector());
  return result;
}

void require_region(std::string_view op, std::string_view name, const TensorType& value,
                    const TensorType& target, const Attributes& attributes) {
  const Shape shape = sliced_shape(op, target.shape, attributes);
  require(value.shape == shape && value.dtype == target.dtype, op, name, " must be of type ",
          TensorType{target.dtype, shape}, " as the slice; got ", value, ".");
}

}  // namespace

MXPIPE_OP({
    .name = "reshape",
    .doc = R"(The same numbers, in order, under another shape. A view: nothing is copied.

>>> _native.invoke("reshape", [np.array([[1.0, 2.0], [3.0, 4.0]])], {"shape": (-1,)})
array([1., 2., 3., 4.])
)",
    .inputs = {{"x", "array of any shape"}},
    .attributes = {attribute("shape", AttributeType::integers,
                             "sizes; one may be -1 (what is left), -2 copies the size of x at that place")},
    .infer = [](Types inputs, const Attributes& attributes) -> std::vector<TensorType> {
      return {{inputs[0].dtype, resolve_shape(inputs[0].shape, attributes.integers("shape"))}};
    },
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      return {gradient(call).reshape(input(call, 0).type().shape)};
    },
    .view = true,
});

MXPIPE_OP({
    .name = "transpose",
    .doc = R"(The axes of `x` in another order.

>>> np.transpose(np.array([[1.0, 2.0], [3.0, 4.0]]))
array([[1., 3.],
       [2., 4.]])
)",
    .inputs = {{"x", "array of any shape"}},
    .attributes = {attribute("axes", AttributeType::integers, "for each axis of the result, the axis of x")},
    .infer = infer_transpose,
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      return {gradient(call).call("transpose", {{"axes", inverse(call.attributes.integers("axes"))}})};
    },
    .moves = true,
});

MXPIPE_OP({
    .name = "concatenate",
    .doc = R"(Arrays joined along an axis that they have.

>>> np.concatenate([np.array([1.0, 2.0]), np.array([3.0])])
array([1., 2., 3.])
)",
    .inputs = {{.name = "arrays",
                .doc = "arrays of one dtype, of equal shape but along axis",
                .variadic = true}},
    .attributes = {axis_attribute(0, "axis to join along")},
    .infer = infer_concatenate,
    .gradient = concatenate_gradient,
    .moves = true,
});

MXPIPE_OP({
    .name = "slice",
    .doc = R"(Every step-th position from begin to before end, along each axis.

>>> _native.invoke("slice", [np.array([1.0, 2.0, 3.0])], {"begin": 0, "end": 3, "step": 2})
array([1., 3.])
)",
    .inputs = {{"x", "array of any shape"}},
    .attributes = slice_attributes(),
    .infer = [](Types inputs, const Attributes& attributes) -> std::vector<TensorType> {
      return {{inputs[0].dtype, sliced_shape("slice", inputs[0].shape, attributes)}};
    },
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      return {gradient(call).call("slice_scatter", region_of(call.attributes, input(call, 0).type().shape))};
    },
    .moves = true,
});

MXPIPE_OP({
    .name = "slice_scatter",
    .doc = R"(Zeros of `shape`, with `g` written into the slice: the gradient of slice.

>>> _native.invoke("slice_scatter", [np.array([1.0])], {"shape": 3, "begin": 1, "end": 2, "step": 1})
array([0., 1., 0.])
)",
    .inputs = {{"g", "array of the slice's shape"}},
    .attributes =
        [] {
          std::vector<AttributeSchema> attributes = slice_attributes();
          attributes.insert(attributes.begin(),
                            attribute("shape", AttributeType::integers, "shape of the result"));
          return attributes;
        }(),
    .infer = [](Types inputs, const Attributes& attributes) -> std::vector<TensorType> {
      const TensorType target{inputs[0].dtype, shape_attribute("slice_scatter", attributes)};
      require_region("slice_scatter", "g", inputs[0], target, attributes);
      return {target};
    },
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      return {gradient(call).call("slice", region(call.attributes))};
    },
    .moves = true,
});

MXPIPE_OP({
    .name = "slice_assign",
    .doc = R"(`target` with a slice replaced by `value`.

>>> _native.invoke("slice_assign", [np.zeros(3), np.array([1.0])], {"begin": 1, "end": 2, "step": 1})
array([0., 1., 0.])
)",
    .inputs = {{"target", "array of any shape"}, {"value", "array of the slice's shape and target's dtype"}},
    .attributes = slice_attributes(),
    .infer = [](Types inputs, const Attributes& attributes) -> std::vector<TensorType> {
      require_region("slice_assign", "value", inputs[1], inputs[0], attributes);
      return {inputs[0]};
    },
    .gradient =
        [](const GradientCall& call) {
          std::vector<Gradient> result(2);
          const Term g = gradient(call);
          if (call.needed[0]) {
            const Value zeros = call.builder.zeros(input(call, 1).type());
            result[0] = g.call("slice_assign", {zeros}, region(call.attributes));
          }
          if (call.needed[1]) result[1] = g.call("slice", region(call.attributes));
          return result;
        },
    .moves = true,
    .in_place = true,
});

}  // namespace mxpipe::ops
