// Elementwise functions of one array.
#include <cmath>
#include <numbers>

#include "ops/elementwise.hpp"

namespace mxpipe::ops {
namespace {

// floor, ceil and round leave integers as they are; the rounding opcodes exist for floats only.
OpSchema rounding(UnaryRow row) {
  OpSchema op = unary(row);
  op.lower = [opcode = row.opcode](const ElementwiseCall& call) {
    const DType dtype = call.output.dtype;
    const Register x = call.program.input(0);
    return is_integer(dtype) ? x : call.program.emit(opcode, dtype, {x});
  };
  return op;
}

}  // namespace

// ------------------------------------------------------------------------------------ numbers to numbers

MXPIPE_OP(unary({
    .name = "negative",
    .doc = R"(The numbers of `x` with the opposite sign.

>>> np.negative(np.array([1.0, -2.0]))
array([-1.,  2.])
)",
    .rule = Rule::number,
    .opcode = Opcode::negative,
    .derivative = [](const Unary& t) { return -t.g; },
}));

MXPIPE_OP(unary({
    .name = "abs",
    .doc = R"(Absolute values. The gradient at 0 is 0.

>>> np.abs(np.array([1.0, -2.0]))
array([1., 2.])
)",
    .rule = Rule::number,
    .opcode = Opcode::absolute,
    .derivative = [](const Unary& t) { return t.g * t.x.call("sign"); },
}));

MXPIPE_OP(unary({
    .name = "sign",
    .doc = R"(-1, 0 or 1 by the sign of each number; NaN stays NaN.

>>> np.sign(np.array([3.0, 0.0, -2.0]))
array([ 1.,  0., -1.])
)",
    .rule = Rule::number,
    .opcode = Opcode::sign,
}));

MXPIPE_OP(unary({
    .name = "square",
    .doc = R"(Each number times itself.

>>> np.square(np.array([1.0, -2.0]))
array([1., 4.])
)",
    .rule = Rule::number,
    .opcode = Opcode::square,
    .derivative = [](const Unary& t) { return t.g * (2.0 * t.x); },
}));

MXPIPE_OP(rounding({
    .name = "floor",
    .doc = R"(The largest whole number that is not above each number. The gradient is 0.

>>> np.floor(np.array([1.7, -1.7]))
array([ 1., -2.])
)",
    .rule = Rule::number,
    .opcode = Opcode::floor,
}));

MXPIPE_OP(rounding({
    .name = "ceil",
    .doc = R"(The smallest whole number that is not below each number. The gradient is 0.

>>> np.ceil(np.array([1.2, -1.2]))
array([ 2., -1.])
)",
    .rule = Rule::number,
    .opcode = Opcode::ceil,
}));

MXPIPE_OP(rounding({
    .name = "round",
    .doc = R"(The nearest whole number; halves go to the even neighbour. The gradient is 0.

>>> np.round(np.array([0.5, 1.5, -1.2]))
array([ 0.,  2., -1.])
)",
    .rule = Rule::number,
    .opcode = Opcode::round,
}));

// --------------------------------------------------------------------------------------- to real numbers

MXPIPE_OP(unary({
    .name = "reciprocal",
    .doc = R"(One divided by each number.

>>> np.reciprocal(np.array([1.0, 4.0]))
array([1.  , 0.25])
)",
    .rule = Rule::floating,
    .opcode = Opcode::reciprocal,
    .derivative = [](const Unary& t) { return -(t.g * t.y * t.y); },
}));

MXPIPE_OP(unary({
    .name = "sqrt",
    .doc = R"(Square root; NaN for negative numbers.

>>> np.sqrt(np.array([1.0, 4.0]))
array([1., 2.])
)",
    .rule = Rule::floating,
    .opcode = Opcode::sqrt,
    .derivative = [](const Unary& t) { return 0.5 * t.g / t.y; },
}));

MXPIPE_OP(unary({
    .name = "rsqrt",
    .doc = R"(One divided by the square root.

>>> npx.rsqrt(np.array([1.0, 4.0]))
array([1. , 0.5])
)",
    .rule = Rule::floating,
    .opcode = Opcode::rsqrt,
    .derivative = [](const Unary& t) { return -0.5 * t.g * (t.y * t.y * t.y); },
}));

MXPIPE_OP(unary({
    .name = "exp",
    .doc = R"(e to the power of each number.

>>> np.exp(np.array([0.0, 1.0]))
array([1.       , 2.7182817])
)",
    .rule = Rule::floating,
    .opcode = Opcode::exp,
    .derivative = [](const Unary& t) { return t.g * t.y; },
}));

MXPIPE_OP(unary({
    .name = "expm1",
    .doc = R"(exp(x) - 1, exact near 0.

>>> np.expm1(np.array([0.0, 1e-10]))
array([0.e+00, 1.e-10])
)",
    .rule = Rule::floating,
    .opcode = Opcode::expm1,
    .derivative = [](const Unary& t) { return t.g * (t.y + 1.0); },
}));

MXPIPE_OP(unary({
    .name = "log",
    .doc = R"(Natural logarithm; -inf at 0 and NaN below.

>>> np.log(np.array([1.0, 10.0]))
array([0.       , 2.3025851])
)",
    .rule = Rule::floating,
    .opcode = Opcode::log,
    .derivative = [](const Unary& t) { return t.g / t.x; },
}));

MXPIPE_OP(unary({
    .name = "log1p",
    .doc = R"(log(1 + x), exact near 0.

>>> np.log1p(np.array([0.0, 1e-10]))
array([0.e+00, 1.e-10])
)",
    .rule = Rule::floating,
    .opcode = Opcode::log1p,
    .derivative = [](const Unary& t) { return t.g / (t.x + 1.0); },
}));

MXPIPE_OP(unary({
    .name = "sin",
    .doc = R"(Sine of angles in radians.

>>> np.sin(np.array([0.0, 1.0]))
array([0.      , 0.841471])
)",
    .rule = Rule::floating,
    .opcode = Opcode::sin,
    .derivative = [](const Unary& t) { return t.g * t.x.call("cos"); },
}));

MXPIPE_OP(unary({
    .name = "cos",
    .doc = R"(Cosine of angles in radians.

>>> np.cos(np.array([0.0, 1.0]))
array([1.       , 0.5403023])
)",
    .rule = Rule::floating,
    .opcode = Opcode::cos,
    .derivative = [](const Unary& t) { return -(t.g * t.x.call("sin")); },
}));

MXPIPE_OP(unary({
    .name = "tanh",
    .doc = R"(Hyperbolic tangent.

>>> np.tanh(np.array([0.0, 1.0]))
array([0.        , 0.76159424])
)",
    .rule = Rule::floating,
    .opcode = Opcode::tanh,
    .derivative = [](const Unary& t) { return t.g * (1.0 - t.y * t.y); },
}));

MXPIPE_OP(unary({
    .name = "erf",
    .doc = R"(Error function, 2 / sqrt(pi) times the integral of exp(-t * t) from 0 to x.

>>> npx.erf(np.array([0.0, 1.0]))
array([0.        , 0.84270084])
)",
    .rule = Rule::floating,
    .opcode = Opcode::erf,
    .derivative =
        [](const Unary& t) { return t.g * (2.0 * std::numbers::inv_sqrtpi * (-(t.x * t.x)).call("exp")); },
}));

// ----------------------------------------------------------------------------------------------- questions

MXPIPE_OP([] {
  OpSchema op = unary({
      .name = "is_nan",
      .doc = R"(True where a number is NaN; integers and bool never are.

>>> np.isnan(np.array([1.0, np.nan]))
array([False,  True], dtype=bool)
)",
      .rule = Rule::truth,
      .opcode = Opcode::is_nan,
  });
  op.lower = [](const ElementwiseCall& call) {
    const DType dtype = call.inputs[0].dtype;
    if (!is_floating(dtype)) return call.program.constant(0, DType::boolean);
    return call.program.emit(Opcode::is_nan, dtype, {call.program.input(0)});
  };
  return op;
}());

}  // namespace mxpipe::ops
