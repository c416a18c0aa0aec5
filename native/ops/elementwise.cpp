#include "ops/elementwise.hpp"

namespace mxpipe::ops {
namespace {

DType apply(Rule rule, DType promoted) {
  if (rule == Rule::truth) return DType::boolean;
  return rule == Rule::floating ? floating_of(promoted) : promoted;
}

InferTypes infer_by(const std::string& op, Rule rule) {
  return [op, rule](Types inputs, const Attributes&) { return infer_elementwise(op, rule, inputs); };
}

InputSchema any_array() { return {"x", "array of any shape"}; }

}  // namespace

std::vector<TensorType> infer_elementwise(std::string_view op, Rule rule, Types inputs) {
  TensorType result = inputs.front();
  for (const TensorType& type : inputs.subspan(1)) {
    result = {promote(result.dtype, type.dtype), broadcast(result.shape, type.shape, op)};
  }
  require(rule != Rule::number || !is_boolean(result.dtype), op, "inputs must be numbers; got bool.");
  return {{apply(rule, result.dtype), result.shape}};
}

Register truth(const ElementwiseCall& call, int index) {
  const DType dtype = call.inputs[static_cast<std::size_t>(index)].dtype;
  if (is_boolean(dtype)) return call.program.input(index);
  return call.program.emit(Opcode::not_equal, dtype,
                           {call.program.input(index), call.program.constant(0, dtype)});
}

OpSchema unary(UnaryRow row) {
  OpSchema op{
      .name = row.name, .doc = row.doc, .inputs = {any_array()}, .infer = infer_by(row.name, row.rule)};
  op.lower = [opcode = row.opcode](const ElementwiseCall& call) {
    const DType dtype = is_boolean(call.output.dtype) ? call.inputs[0].dtype : call.output.dtype;
    return call.program.emit(opcode, dtype, {call.program.input_as(0, dtype)});
  };
  op.zero_gradient = !row.derivative;
  if (op.zero_gradient) return op;
  op.gradient = [derivative = row.derivative](const GradientCall& call) -> std::vector<Gradient> {
    return {to_input(call, 0, derivative({gradient(call), input(call, 0), output(call)}))};
  };
  return op;
}

OpSchema binary(BinaryRow row) {
  OpSchema op{.name = row.name,
              .doc = row.doc,
              .inputs = {{"a", "array"}, {"b", "array whose shape broadcasts with that of a"}},
              .infer = infer_by(row.name, row.rule)};
  op.lower = [opcode = row.opcode, on_bool = row.on_bool](const ElementwiseCall& call) {
    const DType dtype = call.output.dtype;
    return call.program.emit(is_boolean(dtype) && on_bool ? *on_bool : opcode, dtype,
                             {call.program.input_as(0, dtype), call.program.input_as(1, dtype)});
  };
  op.zero_gradient = !row.to_a;
  if (op.zero_gradient) return op;
  op.gradient = [to_a = row.to_a, to_b = row.to_b](const GradientCall& call) {
    std::vector<Gradient> result(2);
    const Binary terms{gradient(call), input(call, 0), input(call, 1), output(call)};
    if (call.needed[0]) result[0] = to_input(call, 0, to_a(terms));
    if (call.needed[1] && to_b) result[1] = to_input(call, 1, to_b(terms));
    return result;
  };
  return op;
}

OpSchema formula(FormulaRow row) {
  OpSchema op{.name = row.name,
              .doc = row.doc,
              .inputs = {any_array()},
              .attributes = row.attributes,
              .infer = infer_by(row.name, Rule::floating),
              .gradient = row.gradient};
  op.lower = [lower = row.lower](const ElementwiseCall& call) {
    const DType dtype = compute_dtype(call.output.dtype);
    const Register y = lower(call.program, call.attributes, dtype, call.program.input_as(0, dtype));
    return call.program.convert(y, dtype, call.output.dtype);
  };
  return op;
}

}  // namespace mxpipe::ops
