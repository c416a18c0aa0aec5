// Makers of elementwise declarations: an op of a common kind is then one short row.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "ops/declare.hpp"

namespace mxpipe::ops {

using Register = ProgramBuilder::Register;

// How the output dtype follows from the input dtypes.
enum class Rule {
  number,    // the promoted dtype; bool alone is refused
  any,       // the promoted dtype, bool included
  floating,  // the promoted dtype; integers and bool become float32
  truth,     // bool
};

// The output type: inputs promoted by `rule` and broadcast against each other.
std::vector<TensorType> infer_elementwise(std::string_view op, Rule rule, Types inputs);

// Input `index` as a truth value: bool as it is, numbers compared with zero.
Register truth(const ElementwiseCall& call, int index);

// What the derivatives of y = f(x) and y = f(a, b) are formulas of; g is the gradient of y.
struct Unary {
  Term g, x, y;
};
struct Binary {
  Term g, a, b, y;
};

// y = opcode(x), computed in the output's dtype (in the input's, for a truth value).
struct UnaryRow {
  std::string name;
  std::string doc;
  Rule rule = Rule::floating;
  Opcode opcode;
  std::function<Term(const Unary& t)> derivative{};  // empty: zero
};
OpSchema unary(UnaryRow row);

// y = opcode(a, b), computed in the output's dtype.
struct BinaryRow {
  std::string name;
  std::string doc;
  Rule rule = Rule::number;
  Opcode opcode;
  std::optional<Opcode> on_bool{};              // what it means for two bool arrays, under Rule::any
  std::function<Term(const Binary& t)> to_a{};  // empty: zero
  std::function<Term(const Binary& t)> to_b{};
};
OpSchema binary(BinaryRow row);

// y = lower(x), several instructions computed in compute_dtype and rounded once.
struct FormulaRow {
  std::string name;
  std::string doc;
  std::vector<AttributeSchema> attributes{};
  std::function<Register(ProgramBuilder& program, const Attributes& attributes, DType dtype, Register x)>
      lower;
  GradientFunction gradient;
};
OpSchema formula(FormulaRow row);

}  // namespace mxpipe::ops
