// Products of matrices.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "ops/declare.hpp"

namespace mxpipe::ops {
namespace {

Term matmul(Term a, Term b, bool transpose_a, bool transpose_b) {
  return a.call("matmul", {b}, {{"transpose_a", transpose_a}, {"transpose_b", transpose_b}});
}

std::vector<TensorType> infer_matmul(Types inputs, const Attributes& attributes) {
  const Shape& a = inputs[0].shape;
  const Shape& b = inputs[1].shape;
  require(a.rank() >= 2 && b.rank() >= 2, "matmul", "a and b must have at least 2 axes; got shape ", a,
          " and ", b, ".");
  require_same_dtype("matmul", inputs);
  require(!is_boolean(inputs[0].dtype), "matmul", "inputs must be numbers; got bool.");
  // Rows and columns of a matrix after its transposition.
  const auto rows = [](const Shape& shape, bool transposed) {
    return shape[shape.rank() - (transposed ? 1 : 2)];
  };
  const auto columns = [&](const Shape& shape, bool transposed) { return rows(shape, !transposed); };
  const bool transpose_a = attributes.boolean("transpose_a");
  const bool transpose_b = attributes.boolean("transpose_b");
  require(columns(a, transpose_a) == rows(b, transpose_b), "matmul",
          "columns of a must equal rows of b; got shape ", a, transpose_a ? " transposed" : "", " and ", b,
          transpose_b ? " transposed" : "", ".");
  Shape shape = broadcast(Shape(a.dims().first(static_cast<std::size_t>(a.rank() - 2))),
                          Shape(b.dims().first(static_cast<std::size_t>(b.rank() - 2))), "matmul");
  shape.push_back(rows(a, transpose_a));
  shape.push_back(columns(b, transpose_b));
  return {{inputs[0].dtype, shape}};
}

// All matrices of a batch as one, one below the other: one product then sums over the batch too.
Term rows(Term batch) {
  const Shape& shape = batch.type().shape;
  return batch.reshape({shape.product(0, shape.rank() - 1), shape.back()});
}

// Of Y = A B, where A is a or its transpose and B likewise: dA = G B' and dB = A' G, transposed back.
std::vector<Gradient> matmul_gradient(const GradientCall& call) {
  std::vector<Gradient> result(2);
  const Term g = gradient(call);
  const Term a = input(call, 0);
  const Term b = input(call, 1);
  const bool transpose_a = call.attributes.boolean("transpose_a");
  const bool transpose_b = call.attributes.boolean("transpose_b");
  if (call.needed[0]) {
    result[0] =
        to_input(call, 0, transpose_a ? matmul(b, g, transpose_b, true) : matmul(g, b, false, !transpose_b));
  }
  if (call.needed[1] && b.type().shape.rank() == 2 && !transpose_a) {
    result[1] = transpose_b ? matmul(rows(g), rows(a), true, false) : matmul(rows(a), rows(g), true, false);
  } else if (call.needed[1]) {
    result[1] =
        to_input(call, 1, transpose_b ? matmul(g, a, true, transpose_a) : matmul(a, g, !transpose_a, false));
  }
  return result;
}

std::vector<TensorType> infer_fully_connected(Types inputs, const Attributes& attributes) {
  const TensorType& x = inputs[0];
  const TensorType& weight = inputs[1];
  const std::string& activation = attributes.string("activation");
  require_rank("fully_connected", "x", x, 2);
  require_rank("fully_connected", "weight", weight, 2);
  require_floating("fully_connected", "x", x);
  require_same_dtype("fully_connected", inputs.first(2));
  require(inputs.size() < 3 || inputs[2].dtype == x.dtype || inputs[2].dtype == compute_dtype(x.dtype),
          "fully_connected", "bias must be ", compute_dtype(x.dtype), " or of x's dtype; got ",
          inputs.back().dtype, ".");
  require(x.shape[1] == weight.shape[1], "fully_connected",
          "x and weight must have as many columns; got shape ", x.shape, " and ", weight.shape, ".");
  require(inputs.size() < 3 || inputs[2].shape == Shape{weight.shape[0]}, "fully_connected",
          "bias must hold one number for each row of weight; got shape ", inputs.back().shape, " and ",
          weight.shape, ".");
  constexpr std::array<std::string_view, 5> kActivations{"", "relu", "gelu", "tanh", "sigmoid"};
  require(std::ranges::find(kActivations, activation) != kActivations.end(), "fully_connected",
          "activation must be \"\", relu, gelu, tanh or sigmoid; got ", activation, ".");
  return {{x.dtype, Shape{x.shape[0], weight.shape[0]}}};
}

// g through the activation; the number before gelu, which its result does not tell, is computed again.
Term through_activation(const GradientCall& call) {
  const Term g = gradient(call), y = output(call);
  const std::string& activation = call.attributes.string("activation");
  if (activation == "relu") return g.call("multiply_if_positive", {y});
  if (activation == "tanh") return g * (1.0 - y * y);
  if (activation == "sigmoid") return g * (y * (1.0 - y));
  if (activation != "gelu") return g;
  const Term x = input(call, 0).call("fully_connected", {call.inputs.begin() + 1, call.inputs.end()});
  const Term below = 0.5 * (1.0 + (x * std::sqrt(0.5)).call("erf"));
  const Term density = (x * x * -0.5).call("exp") * std::sqrt(0.5 * std::numbers::inv_pi);
  return g * (below + x * density);
}

std::vector<Gradient> fully_connected_gradient(const GradientCall& call) {
  std::vector<Gradient> result(call.inputs.size());
  const Term g = through_activation(call);
  if (call.needed[0]) result[0] = matmul(g, input(call, 1), false, false);
  if (call.needed[1]) result[1] = matmul(g, input(call, 0), true, false);
  if (call.inputs.size() > 2 && call.needed[2]) result[2] = to_input(call, 2, g);
  return result;
}

}  // namespace

MXPIPE_OP({
    .name = "matmul",
    .doc = R"(Matrix product of the last two axes; the axes before them broadcast.

float16 and bfloat16 are summed in float32 and rounded once; integers are exact, modulo their width.

>>> _native.invoke("matmul", [np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])], {"transpose_b": True})
array([[11.]])
)",
    .inputs = {{"a", "array (..., n, k), or (..., k, n) with transpose_a"},
               {"b", "array (..., k, m), or (..., m, k) with transpose_b, of a's dtype"}},
    .attributes = {attribute("transpose_a", Attribute(false), "swap the last two axes of a first"),
                   attribute("transpose_b", Attribute(false), "swap the last two axes of b first")},
    .infer = infer_matmul,
    .gradient = matmul_gradient,
    .narrow = {0, 1},
});

MXPIPE_OP({
    .name = "fully_connected",
    .doc = R"(A dense layer: x times the transposed weight, plus the bias, then the activation.

>>> npx.fully_connected(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([0.5]))
array([[11.5]])
)",
    .inputs = {{"x", "array (n, k) of a floating dtype"},
               {"weight", "array (m, k)"},
               {.name = "bias", .doc = "array (m,), of x's dtype or float32", .optional = true}},
    .attributes = {attribute("activation", Attribute(std::string()),
                             "\"\", relu, gelu (by erf), tanh or sigmoid, applied to the result")},
    .infer = infer_fully_connected,
    .gradient = fully_connected_gradient,
    .by_row = true,
    .narrow = {0, 1},
});

}  // namespace mxpipe::ops
