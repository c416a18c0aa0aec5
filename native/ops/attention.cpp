// Scaled dot product attention (Vaswani et al. 2017), forward and backward as one fused op each: the matrix
// of scores is never written to memory.
#include "ops/declare.hpp"

namespace mxpipe::ops {
namespace {

// What the inputs of an attention op mean: [qkv] or [q, k, v], then the mask where there is one, then the key
// where probabilities are dropped.
struct Operands {
  Shape scores;  // (batch, heads, queries, keys)
  std::int64_t depth = 0;
  std::size_t arrays = 0;  // 1 where packed, else 3
  bool masked = false;

  TensorType result(DType dtype) const { return {dtype, Shape{scores[0], scores[2], scores[1], depth}}; }
  TensorType log_sum(DType dtype) const {
    return {compute_dtype(dtype), Shape{scores[0], scores[1], scores[2]}};
  }
};

void require_mask(std::string_view op, const TensorType& mask, const Operands& operands, DType dtype) {
  const bool typed = is_boolean(mask.dtype) || mask.dtype == dtype || mask.dtype == compute_dtype(dtype);
  require(typed, op, "mask must be bool, ", compute_dtype(dtype), " or of q's dtype; got ", mask.dtype, ".");
  require(mask.shape.rank() <= 4 && broadcast(mask.shape, operands.scores, op) == operands.scores, op,
          "mask must broadcast to (batch, heads, queries, keys) = ", operands.scores, "; got shape ",
          mask.shape, ".");
}

Operands operands_of(std::string_view op, Types inputs, const Attributes& attributes) {
  const TensorType& q = inputs[0];
  const Shape& shape = q.shape;
  Operands operands;
  require_floating(op, "q", q);
  if (shape.rank() == 5) {
    require(shape[2] == 3, op, "packed q, k and v must have shape (batch, tokens, 3, heads, depth); got ",
            shape, ".");
    operands.arrays = 1;
    operands.scores = {shape[0], shape[3], shape[1], shape[1]};
    operands.depth = shape[4];
  } else {
    require_rank(op, "q", q, 4);
    require(inputs.size() >= 3, op, "k and v must be given unless q is packed.");
    require_same_type(op, "k", inputs[1], "v", inputs[2]);
    const Shape& k = inputs[1].shape;
    require(k.rank() == 4 && inputs[1].dtype == q.dtype && k[0] == shape[0] && k[2] == shape[2] &&
                k[3] == shape[3],
            op, "k must be q but for the number of tokens; got ", inputs[1], " and ", q, ".");
    operands.arrays = 3;
    operands.scores = {shape[0], shape[2], shape[1], k[1]};
    operands.depth = shape[3];
  }
  const double dropout = attributes.real("dropout");
  require(dropout >= 0 && dropout < 1, op, "dropout must lie in [0, 1); got ", dropout, ".");
  const std::size_t keys = dropout > 0 ? 1 : 0;
  const std::size_t count = operands.arrays + keys;
  require(inputs.size() == count || inputs.size() == count + 1, op, "there must be ", count, " or ",
          count + 1, " inputs (with a mask); got ", inputs.size(), ".");
  operands.masked = inputs.size() > count;
  if (operands.masked) require_mask(op, inputs[operands.arrays], operands, q.dtype);
  const TensorType key{DType::uint64, Shape{2}};
  require(keys == 0 || inputs.back() == key, op, "the last input must be the key of dropout, ", key, "; got ",
          inputs.back(), ".");
  return operands;
}

std::vector<AttributeSchema> attention_attributes() {
  return {attribute("causal", Attribute(false), "query i sees the keys 0 to i only"),
          attribute("scale", Attribute(0.0), "factor of q k^T; 0 means 1 / sqrt(depth)"),
          attribute("dropout", Attribute(0.0), "share of probabilities that become 0, in [0, 1)")};
}

std::vector<InputSchema> attention_inputs() {
  return {
      {"q", "array (batch, queries, heads, depth), or q, k and v as one (batch, tokens, 3, heads, depth)"},
      {.name = "others",
       .doc = "unless packed k and v, arrays (batch, keys, heads, depth); then a mask that broadcasts to "
              "(batch, heads, queries, keys), bool (True: is seen) or added to the scores; then with "
              "dropout the key, uint64 (2,)",
       .optional = true,
       .variadic = true}};
}

std::vector<TensorType> infer_attention(Types inputs, const Attributes& attributes) {
  const Operands operands = operands_of("attention", inputs, attributes);
  return {operands.result(inputs[0].dtype), operands.log_sum(inputs[0].dtype)};
}

std::vector<TensorType> infer_attention_backward(Types inputs, const Attributes& attributes) {
  constexpr std::string_view kOp = "attention_backward";
  const Types forward = inputs.subspan(3);
  const Operands operands = operands_of(kOp, forward, attributes);
  const DType dtype = forward[0].dtype;
  require_same_type(kOp, "g", inputs[0], "the result", operands.result(dtype));
  require_same_type(kOp, "y", inputs[1], "the result", operands.result(dtype));
  require_same_type(kOp, "log_sum", inputs[2], "forward's", operands.log_sum(dtype));
  std::vector<TensorType> results(forward.begin(),
                                  forward.begin() + static_cast<std::ptrdiff_t>(operands.arrays));
  if (attributes.boolean("scores")) results.push_back({dtype, operands.scores});
  return results;
}

std::vector<Gradient> attention_gradient(const GradientCall& call) {
  require(!call.gradients[1].valid(), "attention",
          "only the first result must be differentiated; got a gradient of log_sum.");
  std::vector<TensorType> types;
  for (const Value input : call.inputs) types.push_back(call.type(input));
  const Operands operands = operands_of("attention", types, call.attributes);
  const bool of_mask = operands.masked && call.needed[operands.arrays];
  std::vector<Value> inputs{call.gradients[0], call.outputs[0], call.outputs[1]};
  inputs.insert(inputs.end(), call.inputs.begin(), call.inputs.end());
  Attributes attributes = call.attributes;
  attributes.set("scores", of_mask);
  const std::vector<Value> made =
      call.builder.call_all("attention_backward", std::move(inputs), std::move(attributes));
  std::vector<Gradient> results(call.inputs.size());
  for (std::size_t i = 0; i < operands.arrays; ++i) results[i] = made[i];
  if (of_mask) results[operands.arrays] = to_input(call, operands.arrays, {call.builder, made.back()});
  return results;
}

std::vector<AttributeSchema> backward_attributes() {
  std::vector<AttributeSchema> attributes = attention_attributes();
  attributes.push_back(
      attribute("scores", Attribute(false), "also give the gradient of the scores, after q's, k's and v's"));
  return attributes;
}

}  // namespace

MXPIPE_OP({
    .name = "attention",
    .doc = R"(softmax(scale q k^T + mask) v for each head, and the logarithm of softmax's denominator.

Equation 1 of Vaswani et al. 2017, computed tile by tile (Dao et al. 2022): memory grows with the tokens, not
with their square. A query that sees no key gives 0, and infinity as its logarithm. With `dropout` the
probabilities are dropped as the op dropout does to an array (batch, heads, queries, keys).

>>> q = np.ones((1, 2, 1, 4))
>>> _native.invoke("attention", [q, q, q], {})[0].shape
(1, 2, 1, 4)
)",
    .inputs = attention_inputs(),
    .attributes = attention_attributes(),
    .infer = infer_attention,
    .gradient = attention_gradient,
    .narrow = {0, 1, 2},
});

MXPIPE_OP({
    .name = "attention_backward",
    .doc = R"(Gradients of attention: of q, k and v, or of the packed array. Probabilities are computed anew.

>>> y = np.ones((1, 2, 1, 4))
>>> [g.shape for g in _native.invoke("attention_backward", [y, y, np.ones((1, 1, 2)), y, y, y], {})]
[(1, 2, 1, 4), (1, 2, 1, 4), (1, 2, 1, 4)]
)",
    .inputs =
        [] {
          std::vector<InputSchema> inputs = attention_inputs();
          inputs.insert(inputs.begin(), {{"g", "gradient of the result"},
                                         {"y", "the result"},
                                         {"log_sum", "the logarithm that forward gave"}});
          return inputs;
        }(),
    .attributes = backward_attributes(),
    .infer = infer_attention_backward,
    .narrow = {0, 1, 3, 4, 5},
});

MXPIPE_OP({
    .name = "random_key",
    .doc =
        R"(A key of random numbers as an array, for ops that draw by themselves and again in their gradient.

>>> _native.invoke("random_key", [], {}).shape
(2,)
)",
    .inputs = {{"key", "uint64 (2,): seed and counter"}},
    .attributes = {attribute("offset", Attribute(std::int64_t{0}),
                             "added to the counter, to tell draws of one graph apart")},
    .infer = [](Types inputs, const Attributes&) -> std::vector<TensorType> {
      const TensorType key{DType::uint64, Shape{2}};
      require(inputs[0] == key, "random_key", "key must be of type ", key, "; got ", inputs[0], ".");
      return {key};
    },
    .zero_gradient = true,
    .random = true,
});

}  // namespace mxpipe::ops
