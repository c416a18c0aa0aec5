// Elementwise functions of two arrays: arithmetic, comparisons, logic, and the choice between two arrays.
#include "ops/elementwise.hpp"

namespace mxpipe::ops {
namespace {

// Comparisons compute in the promoted dtype of the inputs and give bool.
OpSchema comparison(BinaryRow row) {
  row.rule = Rule::truth;
  OpSchema op = binary(row);
  op.lower = [opcode = row.opcode](const ElementwiseCall& call) {
    const DType common = promote(call.inputs[0].dtype, call.inputs[1].dtype);
    return call.program.emit(opcode, common,
                             {call.program.input_as(0, common), call.program.input_as(1, common)});
  };
  return op;
}

// Logic takes each number as a truth value first.
OpSchema logical(BinaryRow row) {
  row.rule = Rule::truth;
  OpSchema op = binary(row);
  op.lower = [opcode = row.opcode](const ElementwiseCall& call) {
    return call.program.emit(opcode, DType::boolean, {truth(call, 0), truth(call, 1)});
  };
  return op;
}

// Where the exponent is 0 the derivative is 0 even at a = 0, where a ** (b - 1) is infinite.
Term power_to_base(const Binary& t) {
  return where(t.b == 0.0, 0.0, t.g * t.b * t.a.call("power", {t.b - 1.0}));
}

// At a = 0 the derivative is 0, where log(a) is -infinite.
Term power_to_exponent(const Binary& t) { return where(t.a == 0.0, 0.0, t.g * t.y * t.a.call("log")); }

}  // namespace

// ---------------------------------------------------------------------------------------------- arithmetic

MXPIPE_OP(binary({
    .name = "add",
    .doc = R"(a + b; "or" of two bool arrays.

>>> np.add(np.array([1.0, 2.0]), 3.0)
array([4., 5.])
)",
    .rule = Rule::any,
    .opcode = Opcode::add,
    .on_bool = Opcode::logical_or,
    .to_a = [](const Binary& t) { return t.g; },
    .to_b = [](const Binary& t) { return t.g; },
}));

MXPIPE_OP(binary({
    .name = "subtract",
    .doc = R"(a - b. Refuses two bool arrays.

>>> np.subtract(np.array([1.0, 2.0]), 3.0)
array([-2., -1.])
)",
    .rule = Rule::number,
    .opcode = Opcode::subtract,
    .to_a = [](const Binary& t) { return t.g; },
    .to_b = [](const Binary& t) { return -t.g; },
}));

MXPIPE_OP(binary({
    .name = "multiply",
    .doc = R"(a * b; "and" of two bool arrays.

>>> np.multiply(np.array([1.0, 2.0]), 3.0)
array([3., 6.])
)",
    .rule = Rule::any,
    .opcode = Opcode::multiply,
    .on_bool = Opcode::logical_and,
    .to_a = [](const Binary& t) { return t.g * t.b; },
    .to_b = [](const Binary& t) { return t.g * t.a; },
}));

MXPIPE_OP(binary({
    .name = "divide",
    .doc = R"(a / b, the true quotient: float32 for integers.

>>> np.divide(np.array([1.0, 2.0]), 4.0)
array([0.25, 0.5 ])
)",
    .rule = Rule::floating,
    .opcode = Opcode::divide,
    .to_a = [](const Binary& t) { return t.g / t.b; },
    .to_b = [](const Binary& t) { return -(t.g * t.y / t.b); },
}));

MXPIPE_OP(binary({
    .name = "power",
    .doc = R"(a to the power of b. Where b or a is 0 the respective gradient is 0.

>>> np.power(np.array([2.0, 3.0]), 2.0)
array([4., 9.])
)",
    .rule = Rule::number,
    .opcode = Opcode::power,
    .to_a = power_to_base,
    .to_b = power_to_exponent,
}));

MXPIPE_OP(binary({
    .name = "maximum",
    .doc = R"(The larger of a and b; NaN if either is NaN. At equality the gradient goes to a.

>>> np.maximum(np.array([1.0, 5.0]), 3.0)
array([3., 5.])
)",
    .rule = Rule::any,
    .opcode = Opcode::maximum,
    .on_bool = Opcode::logical_or,
    .to_a = [](const Binary& t) { return where(t.a >= t.b, t.g, 0.0); },
    .to_b = [](const Binary& t) { return where(t.a >= t.b, 0.0, t.g); },
}));

MXPIPE_OP(binary({
    .name = "minimum",
    .doc = R"(The smaller of a and b; NaN if either is NaN. At equality the gradient goes to a.

>>> np.minimum(np.array([1.0, 5.0]), 3.0)
array([1., 3.])
)",
    .rule = Rule::any,
    .opcode = Opcode::minimum,
    .on_bool = Opcode::logical_and,
    .to_a = [](const Binary& t) { return where(t.a <= t.b, t.g, 0.0); },
    .to_b = [](const Binary& t) { return where(t.a <= t.b, 0.0, t.g); },
}));

MXPIPE_OP(binary({
    .name = "mod",
    .doc = R"(The rest of a / b that has the sign of b: a - floor(a / b) * b. Integers modulo 0 give 0.

>>> np.mod(np.array([5.0, -5.0]), 3.0)
array([2., 1.])
)",
    .rule = Rule::number,
    .opcode = Opcode::modulo,
    .to_a = [](const Binary& t) { return t.g; },
    .to_b = [](const Binary& t) { return -(t.g * t.a.call("floor_divide", {t.b})); },
}));

MXPIPE_OP(binary({
    .name = "floor_divide",
    .doc = R"(The largest whole number not above a / b. Integers divided by 0 give 0; the gradient is 0.

>>> np.floor_divide(np.array([5.0, -5.0]), 3.0)
array([ 1., -2.])
)",
    .rule = Rule::number,
    .opcode = Opcode::floor_divide,
}));

// --------------------------------------------------------------------------------------------- comparisons

MXPIPE_OP(comparison({
    .name = "equal",
    .doc = R"(True where a = b; NaN equals nothing.

>>> np.equal(np.array([1.0, 2.0]), 2.0)
array([False,  True], dtype=bool)
)",
    .opcode = Opcode::equal,
}));

MXPIPE_OP(comparison({
    .name = "not_equal",
    .doc = R"(True where a and b differ; NaN differs from everything.

>>> np.not_equal(np.array([1.0, 2.0]), 2.0)
array([ True, False], dtype=bool)
)",
    .opcode = Opcode::not_equal,
}));

MXPIPE_OP(comparison({
    .name = "less",
    .doc = R"(True where a < b.

>>> np.less(np.array([1.0, 2.0]), 2.0)
array([ True, False], dtype=bool)
)",
    .opcode = Opcode::less,
}));

MXPIPE_OP(comparison({
    .name = "less_equal",
    .doc = R"(True where a <= b.

>>> np.less_equal(np.array([1.0, 2.0]), 2.0)
array([ True,  True], dtype=bool)
)",
    .opcode = Opcode::less_equal,
}));

MXPIPE_OP(comparison({
    .name = "greater",
    .doc = R"(True where a > b.

>>> np.greater(np.array([1.0, 2.0]), 1.0)
array([False,  True], dtype=bool)
)",
    .opcode = Opcode::greater,
}));

MXPIPE_OP(comparison({
    .name = "greater_equal",
    .doc = R"(True where a >= b.

>>> np.greater_equal(np.array([1.0, 2.0]), 1.0)
array([ True,  True], dtype=bool)
)",
    .opcode = Opcode::greater_equal,
}));

// --------------------------------------------------------------------------------------------------- logic

MXPIPE_OP(logical({
    .name = "logical_and",
    .doc = R"(True where both a and b are true, that is, not 0.

>>> np.logical_and(np.array([0.0, 2.0]), True)
array([False,  True], dtype=bool)
)",
    .opcode = Opcode::logical_and,
}));

MXPIPE_OP(logical({
    .name = "logical_or",
    .doc = R"(True where a or b is true, that is, not 0.

>>> np.logical_or(np.array([0.0, 2.0]), False)
array([False,  True], dtype=bool)
)",
    .opcode = Opcode::logical_or,
}));

MXPIPE_OP({
    .name = "logical_not",
    .doc = R"(True where x is 0.

>>> np.logical_not(np.array([0.0, 2.0]))
array([ True, False], dtype=bool)
)",
    .inputs = {{"x", "array of any shape"}},
    .infer = [](Types inputs,
                const Attributes&) { return infer_elementwise("logical_not", Rule::truth, inputs); },
    .lower =
        [](const ElementwiseCall& call) {
          return call.program.emit(Opcode::logical_not, DType::boolean, {truth(call, 0)});
        },
    .zero_gradient = true,
});

MXPIPE_OP({
    .name = "where",
    .doc = R"(`a` where `condition` is true (not 0), else `b`; all three broadcast.

>>> np.where(np.array([True, False]), np.array([1.0, 2.0]), 0.0)
array([1., 0.])
)",
    .inputs = {{"condition", "array of any dtype"}, {"a", "array"}, {"b", "array"}},
    .infer =
        [](Types inputs, const Attributes&) {
          std::vector<TensorType> types = infer_elementwise("where", Rule::any, inputs.subspan(1));
          types[0].shape = broadcast(inputs[0].shape, types[0].shape, "where");
          return types;
        },
    .gradient =
        [](const GradientCall& call) {
          std::vector<Gradient> result(3);
          const Term g = gradient(call);
          const Term condition = input(call, 0);
          if (call.needed[1]) result[1] = to_input(call, 1, where(condition, g, 0.0));
          if (call.needed[2]) result[2] = to_input(call, 2, where(condition, 0.0, g));
          return result;
        },
    .lower =
        [](const ElementwiseCall& call) {
          const DType dtype = call.output.dtype;
          return call.program.emit(
              Opcode::select, dtype,
              {truth(call, 0), call.program.input_as(1, dtype), call.program.input_as(2, dtype)});
        },
});

}  // namespace mxpipe::ops
