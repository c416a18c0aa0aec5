// Random ops. Each draws from a counter-based generator (Philox): a pure function of the key, the offset and
// the element's position. The engine supplies the key, {seed, counter}; so eager and compiled runs draw the
// same numbers on any number of threads, and a resumed run goes on where it stopped.
#include "ops/elementwise.hpp"

namespace mxpipe::ops {
namespace {

InputSchema key_input() { return {"key", "uint64 (2,): seed and counter"}; }

AttributeSchema offset_attribute() {
  return attribute("offset", Attribute(std::int64_t{0}),
                   "added to the counter, to tell draws of one graph apart");
}

void require_key(std::string_view op, const TensorType& key) {
  const TensorType expected{DType::uint64, Shape{2}};
  require(key == expected, op, "key must be of type ", expected, "; got ", key, ".");
}

void require_probability(std::string_view op, double p) {
  require(p >= 0 && p <= 1, op, "p must lie in [0, 1]; got ", p, ".");
}

// shape, the attributes of the distribution, dtype, offset
std::vector<AttributeSchema> draw_attributes(std::vector<AttributeSchema> attributes) {
  attributes.insert(attributes.begin(), attribute("shape", AttributeType::integers, "shape of the result"));
  attributes.push_back(attribute("dtype", Attribute(DType::float32), "dtype of the result"));
  attributes.push_back(offset_attribute());
  return attributes;
}

std::vector<TensorType> infer_draw(std::string_view op, Types inputs, const Attributes& attributes) {
  require_key(op, inputs[0]);
  return {{attributes.dtype("dtype"), shape_attribute(op, attributes)}};
}

void require_floating_result(std::string_view op, const Attributes& attributes) {
  const DType dtype = attributes.dtype("dtype");
  require(is_floating(dtype), op, "dtype must be a floating one; got ", dtype, ".");
}

// low + (high - low) * u, in float32 or float64, rounded once.
Register lower_uniform(const ElementwiseCall& call) {
  ProgramBuilder& program = call.program;
  const DType dtype = compute_dtype(call.output.dtype);
  const double low = call.attributes.real("low");
  const double width = call.attributes.real("high") - low;
  const Register unit =
      program.convert(program.random_uniform(0, call.attributes.integer("offset")), DType::float32, dtype);
  const Register scaled = program.emit(Opcode::multiply, dtype, {unit, program.constant(width, dtype)});
  const Register result = program.emit(Opcode::add, dtype, {scaled, program.constant(low, dtype)});
  return program.convert(result, dtype, call.output.dtype);
}

// True with probability p.
Register lower_trial(ProgramBuilder& program, int key_input, std::int64_t offset, double p) {
  const Register unit = program.random_uniform(key_input, offset);
  return program.emit(Opcode::less, DType::float32, {unit, program.constant(p, DType::float32)});
}

Register lower_bernoulli(const ElementwiseCall& call) {
  const Register trial =
      lower_trial(call.program, 0, call.attributes.integer("offset"), call.attributes.real("p"));
  return call.program.convert(trial, DType::boolean, call.output.dtype);
}

Register lower_dropout(const ElementwiseCall& call) {
  ProgramBuilder& program = call.program;
  const DType dtype = call.output.dtype;
  const double p = call.attributes.real("p");
  const Register dropped = lower_trial(program, 1, call.attributes.integer("offset"), p);
  const Register scale = program.constant(p < 1 ? 1 / (1 - p) : 0, compute_dtype(dtype));
  const Register scaled =
      program.emit(Opcode::multiply, dtype, {program.input_as(0, compute_dtype(dtype)), scale});
  return program.emit(Opcode::select, dtype, {dropped, program.constant(0, dtype), scaled});
}

}  // namespace

MXPIPE_OP({
    .name = "dropout",
    .doc =
        R"(Each number is 0 with probability `p`, else divided by 1 - p. The gradient drops the same numbers.

>>> _native.invoke("dropout", [np.ones(3)], {"p": 0.0})
array([1., 1., 1.])
)",
    .inputs = {{"x", "array of a floating dtype"}, key_input()},
    .attributes = {attribute("p", AttributeType::real, "probability of 0, in [0, 1]"), offset_attribute()},
    .infer = [](Types inputs, const Attributes& attributes) -> std::vector<TensorType> {
      require_floating("dropout", "x", inputs[0]);
      require_key("dropout", inputs[1]);
      require_probability("dropout", attributes.real("p"));
      return {inputs[0]};
    },
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      return {gradient(call).call("dropout", {call.inputs[1]}, call.attributes), Gradient()};
    },
    .lower = lower_dropout,
    .random = true,
});

MXPIPE_OP({
    .name = "random_uniform",
    .doc = R"(Numbers evenly spread over [low, high), in steps of (high - low) / 2**24.

Rounding to a 16-bit dtype may give `high` itself.

>>> np.random.uniform(size=(2, 3)).shape
(2, 3)
)",
    .inputs = {key_input()},
    .attributes = draw_attributes({attribute("low", Attribute(0.0), "lower bound"),
                                   attribute("high", Attribute(1.0), "upper bound")}),
    .infer =
        [](Types inputs, const Attributes& attributes) {
          require_floating_result("random_uniform", attributes);
          return infer_draw("random_uniform", inputs, attributes);
        },
    .lower = lower_uniform,
    .zero_gradient = true,
    .random = true,
});

MXPIPE_OP({
    .name = "random_bernoulli",
    .doc = R"(1 with probability `p`, else 0.

>>> np.random.bernoulli(1.0, size=3)
array([1., 1., 1.])
)",
    .inputs = {key_input()},
    .attributes = draw_attributes({attribute("p", AttributeType::real, "probability of 1, in [0, 1]")}),
    .infer =
        [](Types inputs, const Attributes& attributes) {
          require_probability("random_bernoulli", attributes.real("p"));
          return infer_draw("random_bernoulli", inputs, attributes);
        },
    .lower = lower_bernoulli,
    .zero_gradient = true,
    .random = true,
});

MXPIPE_OP({
    .name = "random_normal",
    .doc = R"(Numbers of a normal distribution, by Box and Muller's transform.

>>> np.random.normal(size=(2, 3)).shape
(2, 3)
)",
    .inputs = {key_input()},
    .attributes = draw_attributes({attribute("loc", Attribute(0.0), "mean"),
                                   attribute("scale", Attribute(1.0), "standard deviation")}),
    .infer =
        [](Types inputs, const Attributes& attributes) {
          const double scale = attributes.real("scale");
          require_floating_result("random_normal", attributes);
          require(scale >= 0, "random_normal", "scale must be at least 0; got ", scale, ".");
          return infer_draw("random_normal", inputs, attributes);
        },
    .zero_gradient = true,
    .random = true,
});

}  // namespace mxpipe::ops
