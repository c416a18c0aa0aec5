// Interactions between the features of a sample (recommenders).
#include "ops/declare.hpp"

namespace mxpipe::ops {
namespace {

constexpr std::string_view kName = "dot_interaction";

// (n, d) and (n, f, d) to (n, d + f (f + 1) / 2)
TensorType interaction_type(const TensorType& x, const TensorType& rows) {
  require_floating(kName, "x", x);
  require_rank(kName, "x", x, 2);
  require_rank(kName, "rows", rows, 3);
  require(rows.dtype == x.dtype, kName, "rows must have x's dtype, ", x.dtype, "; got ", rows.dtype, ".");
  require(rows.shape[0] == x.shape[0] && rows.shape[2] == x.shape[1], kName,
          "rows must have shape (n, f, d) for x of shape (n, d); got shape ", rows.shape, " and ", x.shape,
          ".");
  const std::int64_t features = rows.shape[1];
  return {x.dtype, Shape{x.shape[0], x.shape[1] + features * (features + 1) / 2}};
}

}  // namespace

MXPIPE_OP({
    .name = "dot_interaction",
    .doc =
        R"(`x` and, behind it, the dot product of each pair of the vectors [x, rows[0], rows[1], ...] of a sample.

The pairs (i, j), j < i, stand in the order of a lower triangle: (1, 0), (2, 0), (2, 1), (3, 0), ... Source:
Naumov et al. 2019, Deep Learning Recommendation Model.

>>> npx.dot_interaction(np.array([[1.0, 2.0]]), np.array([[[3.0, 4.0], [5.0, 6.0]]]))
array([[ 1.,  2., 11., 17., 39.]])
)",
    .inputs = {{"x", "floating array (n, d)"}, {"rows", "array (n, f, d) of x's dtype"}},
    .infer = [](Types inputs, const Attributes&) -> std::vector<TensorType> {
      return {interaction_type(inputs[0], inputs[1])};
    },
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      const std::vector<Value> gradients = call.builder.call_all(
          "dot_interaction_backward", {call.gradients[0], call.inputs[0], call.inputs[1]});
      return {gradients[0], gradients[1]};
    },
});

MXPIPE_OP({
    .name = "dot_interaction_backward",
    .doc = R"(The gradients of dot_interaction's inputs.

>>> _native.invoke("dot_interaction_backward", [np.ones((1, 3)), np.ones((1, 2)), np.ones((1, 1, 2))], {})
(array([[2., 2.]]), array([[[1., 1.]]]))
)",
    .inputs = {{"g", "gradient of the result"}, {"x", "the first input"}, {"rows", "the second input"}},
    .infer = [](Types inputs, const Attributes&) -> std::vector<TensorType> {
      require_same_type("dot_interaction_backward", "g", inputs[0], "forward's result",
                        interaction_type(inputs[1], inputs[2]));
      return {inputs[1], inputs[2]};
    },
});

}  // namespace mxpipe::ops
