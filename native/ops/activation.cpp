// Activation functions: elementwise functions whose gradients deserve their own formulas.
#include <numbers>

#include "ops/elementwise.hpp"

namespace mxpipe::ops {
namespace {

constexpr double kTanhScale = std::numbers::sqrt2 * std::numbers::inv_sqrtpi;  // sqrt(2 / pi)
constexpr double kTanhCubic = 0.044715;

Register scaled(ProgramBuilder& program, DType dtype, Register x, double factor) {
  return program.emit(Opcode::multiply, dtype, {x, program.constant(factor, dtype)});
}

Register shifted(ProgramBuilder& program, DType dtype, Register x, double offset) {
  return program.emit(Opcode::add, dtype, {x, program.constant(offset, dtype)});
}

// x / 2 * (1 + t(x)), where t is erf(x / sqrt(2)) or its approximation by tanh.
Register lower_gelu(ProgramBuilder& program, const Attributes& attributes, DType dtype, Register x) {
  Register t;
  if (attributes.boolean("approximate")) {
    const Register square = program.emit(Opcode::square, dtype, {x});
    const Register cubic = shifted(program, dtype, scaled(program, dtype, square, kTanhCubic), 1.0);
    const Register inner =
        program.emit(Opcode::multiply, dtype, {scaled(program, dtype, x, kTanhScale), cubic});
    t = program.emit(Opcode::tanh, dtype, {inner});
  } else {
    t = program.emit(Opcode::erf, dtype, {scaled(program, dtype, x, 1.0 / std::numbers::sqrt2)});
  }
  return program.emit(Opcode::multiply, dtype,
                      {scaled(program, dtype, x, 0.5), shifted(program, dtype, t, 1.0)});
}

// The derivative is (1 + t) / 2 + x / 2 * t'(x), in compute_dtype: it has too many steps for 16 bits.
std::vector<Gradient> gelu_gradient(const GradientCall& call) {
  const DType dtype = input(call, 0).type().dtype;
  const Term x = input(call, 0).cast(compute_dtype(dtype));
  const Term g = gradient(call).cast(compute_dtype(dtype));
  const Term square = x * x;
  if (call.attributes.boolean("approximate")) {
    const Term t = (kTanhScale * x * (1.0 + kTanhCubic * square)).call("tanh");
    const Term slope = (1.0 - t * t) * (kTanhScale * (1.0 + 3.0 * kTanhCubic * square));
    return {(g * (0.5 * (1.0 + t) + 0.5 * x * slope)).cast(dtype)};
  }
  const Term cumulative = 0.5 * (1.0 + (x * (1.0 / std::numbers::sqrt2)).call("erf"));
  const Term density = (kTanhScale * 0.5) * (-0.5 * square).call("exp");
  return {(g * (cumulative + x * density)).cast(dtype)};
}

Register lower_silu(ProgramBuilder& program, const Attributes&, DType dtype, Register x) {
  return program.emit(Opcode::multiply, dtype, {x, program.emit(Opcode::sigmoid, dtype, {x})});
}

std::vector<Gradient> silu_gradient(const GradientCall& call) {
  const Term s = input(call, 0).call("sigmoid");
  return {gradient(call) * (s + output(call) * (1.0 - s))};
}

Register lower_leaky_relu(ProgramBuilder& program, const Attributes& attributes, DType dtype, Register x) {
  const Register positive = program.emit(Opcode::greater, dtype, {x, program.constant(0, dtype)});
  return program.emit(Opcode::select, dtype,
                      {positive, x, scaled(program, dtype, x, attributes.real("slope"))});
}

std::vector<Gradient> leaky_relu_gradient(const GradientCall& call) {
  const Term g = gradient(call);
  return {where(input(call, 0) > 0.0, g, g * call.attributes.real("slope"))};
}

}  // namespace

MXPIPE_OP(unary({
    .name = "sigmoid",
    .doc = R"(1 / (1 + exp(-x)), without overflow.

>>> npx.sigmoid(np.array([0.0, 2.0]))
array([0.5     , 0.880797])
)",
    .rule = Rule::floating,
    .opcode = Opcode::sigmoid,
    .derivative = [](const Unary& t) { return t.g * (t.y * (1.0 - t.y)); },
}));

MXPIPE_OP(unary({
    .name = "softplus",
    .doc = R"(log(1 + exp(x)), without overflow.

>>> npx.softplus(np.array([0.0, 100.0]))
array([  0.6931472, 100.       ])
)",
    .rule = Rule::floating,
    .opcode = Opcode::softplus,
    .derivative = [](const Unary& t) { return t.g * t.x.call("sigmoid"); },
}));

MXPIPE_OP(unary({
    .name = "relu",
    .doc = R"(The number where it is positive, else 0; NaN stays NaN. The gradient at 0 is 0.

>>> npx.relu(np.array([-1.0, 2.0]))
array([0., 2.])
)",
    .rule = Rule::number,
    .opcode = Opcode::relu,
    // By the output, so that the input need not be kept and relu can be a layer's post-op.
    .derivative = [](const Unary& t) { return t.g.call("multiply_if_positive", {t.y}); },
}));

MXPIPE_OP(formula({
    .name = "silu",
    .doc = R"(x * sigmoid(x), also called swish.

>>> npx.silu(np.array([0.0, 2.0]))
array([0.      , 1.761594])
)",
    .lower = lower_silu,
    .gradient = silu_gradient,
}));

MXPIPE_OP(formula({
    .name = "gelu",
    .doc = R"(x times the probability that a standard normal number is below x.

With `approximate` the probability comes from tanh (Hendrycks and Gimpel 2016), else from erf.

>>> npx.gelu(np.array([0.0, 2.0]))
array([0.       , 1.9544997])
)",
    .attributes = {attribute("approximate", Attribute(false), "compute through tanh instead of erf")},
    .lower = lower_gelu,
    .gradient = gelu_gradient,
}));

MXPIPE_OP(formula({
    .name = "leaky_relu",
    .doc = R"(The number where it is positive, else `slope` times the number.

>>> npx.leaky_relu(np.array([-1.0, 2.0]), slope=0.1)
array([-0.1,  2. ])
)",
    .attributes = {attribute("slope", Attribute(0.25), "factor of negative numbers")},
    .lower = lower_leaky_relu,
    .gradient = leaky_relu_gradient,
}));

MXPIPE_OP(binary({
    .name = "multiply_if_positive",
    .doc = R"(`a` where `b` is positive, else 0: the gradient of relu.

>>> _native.invoke("multiply_if_positive", [np.array([5.0, 6.0]), np.array([-1.0, 1.0])], {})
array([0., 6.])
)",
    .rule = Rule::number,
    .opcode = Opcode::multiply_if_positive,
    .to_a = [](const Binary& t) { return t.g.call("multiply_if_positive", {t.b}); },
}));

}  // namespace mxpipe::ops
