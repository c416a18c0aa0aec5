// What the family files share: attribute shorthands, inference rules, and Term, which lets a gradient read as
// its formula. Only files of this folder include it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "graph/error.hpp"
#include "ops/registry.hpp"

namespace mxpipe::ops {

using Types = std::span<const TensorType>;

// --------------------------------------------------------------------------------------------- attributes

inline AttributeSchema attribute(std::string name, AttributeType type, std::string doc) {
  return {std::move(name), type, std::nullopt, std::move(doc)};
}
inline AttributeSchema attribute(std::string name, Attribute default_value, std::string doc) {
  const AttributeType type = type_of(default_value);
  return {std::move(name), type, std::move(default_value), std::move(doc)};
}
inline AttributeSchema axis_attribute(std::int64_t default_value, std::string doc) {
  return attribute("axis", Attribute(default_value), std::move(doc));
}

// ---------------------------------------------------------------------------------------------- inference

// The type that a kernel computes in and that statistics and losses have: float64 for float64, else float32.
constexpr DType compute_dtype(DType dtype) {
  return dtype == DType::float64 ? DType::float64 : DType::float32;
}
// Integers and bool become float32 where a function's values are real numbers.
constexpr DType floating_of(DType dtype) { return is_floating(dtype) ? dtype : DType::float32; }

void require_floating(std::string_view op, std::string_view input, const TensorType& type);
void require_integer(std::string_view op, std::string_view input, const TensorType& type);
// Row ids and positions: int32 or int64.
void require_index(std::string_view op, std::string_view input, const TensorType& type);
void require_rank(std::string_view op, std::string_view input, const TensorType& type, int rank);
void require_same_dtype(std::string_view op, Types inputs);
// `a` and `b` must have the same shape and dtype.
void require_same_type(std::string_view op, std::string_view a, const TensorType& left, std::string_view b,
                       const TensorType& right);

// A shape from an attribute; every dim must be at least 0.
Shape shape_attribute(std::string_view op, const Attributes& attributes, std::string_view name = "shape");
// `axis` (which may be negative) of the attributes, for an array of `rank` axes.
int axis_of(std::string_view op, const Attributes& attributes, int rank);
Shape without_axis(const Shape& shape, int axis);
// `shape` with the axes of `axes` removed, or set to 1.
Shape reduced_shape(const Shape& shape, const Integers& axes, bool keepdims);
// A shape made of the parts, one after the other.
Shape join(std::initializer_list<std::span<const std::int64_t>> parts);

// ----------------------------------------------------------------------------------------------- gradients

// A value together with the builder that made it: gradients are then written as formulas, `g * (1.0 - y *
// y)`. Numbers take the dtype of the term beside them.
class Term {
 public:
  Term(Builder& builder, Value value) : builder_(&builder), value_(value) {}
  operator Value() const { return value_; }       // NOLINT(google-explicit-constructor)
  operator Gradient() const { return {value_}; }  // NOLINT(google-explicit-constructor)

  const TensorType& type() const { return builder_->type(value_); }
  Term scalar(double value) const { return {*builder_, builder_->scalar(value, type().dtype)}; }
  // The op with this term as its first input.
  Term call(std::string_view op, Attributes attributes = {}) const;
  Term call(std::string_view op, std::vector<Value> others, Attributes attributes = {}) const;
  Term cast(DType dtype) const;
  Term reshape(const Shape& shape) const;
  Term sum(int axis) const;  // keeps the axis, as 1

 private:
  Builder* builder_;
  Value value_;
};

#define MXPIPE_TERM_OPERATOR(symbol, op)                                              \
  inline Term operator symbol(Term a, Term b) { return a.call(op, {b}); }             \
  inline Term operator symbol(Term a, double b) { return a.call(op, {a.scalar(b)}); } \
  inline Term operator symbol(double a, Term b) { return b.scalar(a).call(op, {b}); }
MXPIPE_TERM_OPERATOR(+, "add")
MXPIPE_TERM_OPERATOR(-, "subtract")
MXPIPE_TERM_OPERATOR(*, "multiply")
MXPIPE_TERM_OPERATOR(/, "divide")
MXPIPE_TERM_OPERATOR(==, "equal")
MXPIPE_TERM_OPERATOR(>, "greater")
MXPIPE_TERM_OPERATOR(>=, "greater_equal")
MXPIPE_TERM_OPERATOR(<=, "less_equal")
#undef MXPIPE_TERM_OPERATOR
inline Term operator-(Term a) { return a.call("negative"); }

inline Term where(Term condition, Term a, Term b) { return condition.call("where", {a, b}); }
inline Term where(Term condition, Term a, double b) { return where(condition, a, a.scalar(b)); }
inline Term where(Term condition, double a, Term b) { return where(condition, b.scalar(a), b); }

// The terms of a gradient call.
inline Term input(const GradientCall& call, std::size_t index) { return {call.builder, call.inputs[index]}; }
inline Term output(const GradientCall& call, std::size_t index = 0) {
  return {call.builder, call.outputs[index]};
}
inline Term gradient(const GradientCall& call, std::size_t index = 0) {
  return {call.builder, call.gradients[index]};
}
// `value` as the gradient of input `index`: summed over broadcast axes and cast to the input's dtype.
Gradient to_input(const GradientCall& call, std::size_t index, Term value);

}  // namespace mxpipe::ops
