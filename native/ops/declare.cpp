#include "ops/declare.hpp"

#include <algorithm>

namespace mxpipe::ops {

void require_floating(std::string_view op, std::string_view input, const TensorType& type) {
  require(is_floating(type.dtype), op, input, " must be of a floating dtype; got ", type.dtype, ".");
}

void require_integer(std::string_view op, std::string_view input, const TensorType& type) {
  require(is_integer(type.dtype), op, input, " must be of an integer dtype; got ", type.dtype, ".");
}

void require_index(std::string_view op, std::string_view input, const TensorType& type) {
  require(type.dtype == DType::int32 || type.dtype == DType::int64, op, input,
          " must be int32 or int64; got ", type.dtype, ".");
}

void require_rank(std::string_view op, std::string_view input, const TensorType& type, int rank) {
  require(type.shape.rank() == rank, op, input, " must have ", rank, rank == 1 ? " axis" : " axes",
          "; got shape ", type.shape, ".");
}

void require_same_dtype(std::string_view op, Types inputs) {
  for (const TensorType& type : inputs) {
    require(type.dtype == inputs.front().dtype, op, "inputs must have one dtype; got ", inputs.front().dtype,
            " and ", type.dtype, ".");
  }
}

void require_same_type(std::string_view op, std::string_view a, const TensorType& left, std::string_view b,
                       const TensorType& right) {
  require(left == right, op, a, " and ", b, " must have the same dtype and shape; got ", left, " and ", right,
          ".");
}

Shape shape_attribute(std::string_view op, const Attributes& attributes, std::string_view name) {
  const Shape shape{std::span<const std::int64_t>(attributes.integers(name))};
  const bool valid = std::all_of(shape.begin(), shape.end(), [](std::int64_t dim) { return dim >= 0; });
  require(valid, op, name, " must hold no negative number; got ", shape, ".");
  return shape;
}

int axis_of(std::string_view op, const Attributes& attributes, int rank) {
  return normalize_axis(attributes.integer("axis"), rank, op);
}

Shape without_axis(const Shape& shape, int axis) { return reduced_shape(shape, {axis}, false); }

Shape reduced_shape(const Shape& shape, const Integers& axes, bool keepdims) {
  Shape result;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const bool reduced = std::find(axes.begin(), axes.end(), axis) != axes.end();
    if (!reduced) result.push_back(shape[axis]);
    if (reduced && keepdims) result.push_back(1);
  }
  return result;
}

Shape join(std::initializer_list<std::span<const std::int64_t>> parts) {
  Shape result;
  for (const auto part : parts) {
    for (const std::int64_t dim : part) result.push_back(dim);
  }
  return result;
}

Term Term::call(std::string_view op, Attributes attributes) const {
  return call(op, std::vector<Value>{}, attributes);
}

Term Term::call(std::string_view op, std::vector<Value> others, Attributes attributes) const {
  others.insert(others.begin(), value_);
  return {*builder_, builder_->call(op, std::move(others), std::move(attributes))};
}

Term Term::cast(DType dtype) const {
  return type().dtype == dtype ? *this : call("cast", {{"dtype", dtype}});
}

Term Term::reshape(const Shape& shape) const {
  return type().shape == shape ? *this : call("reshape", {{"shape", shape.to_vector()}});
}

Term Term::sum(int axis) const { return call("sum", {{"axis", Integers{axis}}, {"keepdims", true}}); }

Gradient to_input(const GradientCall& call, std::size_t index, Term value) {
  const TensorType& wanted = call.type(call.inputs[index]);
  return Term(call.builder, call.builder.sum_to(value, wanted.shape)).cast(wanted.dtype);
}

}  // namespace mxpipe::ops
