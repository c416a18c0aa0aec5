// Row-sparse arrays: pairs of ids (n,) and rows (n, ...). They make updates whose cost does not grow with the
// number of rows. Ids are ascending, and unused places at the end hold -1, which every op here ignores.
#include "ops/declare.hpp"

namespace mxpipe::ops {
namespace {

// ids (n,) and rows (n, ...).
void require_pairs(std::string_view op, const TensorType& ids, std::string_view name,
                   const TensorType& rows) {
  require_index(op, "ids", ids);
  require_rank(op, "ids", ids, 1);
  require(rows.shape.rank() > 0 && rows.shape[0] == ids.shape[0], op, name,
          " must have one row for each id; got shape ", rows.shape, " and ", ids.shape, ".");
}

Shape with_rows(std::int64_t rows, const Shape& like) {
  Shape shape = like;
  shape[0] = rows;
  return shape;
}

}  // namespace

MXPIPE_OP({
    .name = "unique_rows",
    .doc = R"(Each id once, ascending, and the sum of its rows in order of appearance.

The results have the size of the inputs: behind the last id come -1 and rows of zeros. Ids of -1 are dropped.

>>> ids, rows = npx.unique_rows(np.array([3, 1, 3]), np.array([[1.0], [2.0], [4.0]]))
>>> ids, rows
(array([ 1,  3, -1], dtype=int64), array([[2.],
       [5.],
       [0.]]))
)",
    .inputs = {{"ids", "int64 array (n,), ids of at least 0, or -1"}, {"rows", "array (n, ...)"}},
    .infer = [](Types inputs, const Attributes&) -> std::vector<TensorType> {
      require(inputs[0].dtype == DType::int64, "unique_rows", "ids must be int64; got ", inputs[0].dtype,
              ".");
      require_pairs("unique_rows", inputs[0], "rows", inputs[1]);
      return {inputs[0], inputs[1]};
    },
});

MXPIPE_OP({
    .name = "take_rows",
    .doc =
        R"(The rows of `a` at `ids`, zeros for an id of -1. Other ids outside [0, rows) raise OperatorError.

>>> npx.take_rows(np.array([[1.0], [2.0]]), np.array([1, -1]))
array([[2.],
       [0.]])
)",
    .inputs = {{"a", "array (rows, ...)"}, {"ids", "int32 or int64 array (n,)"}},
    .infer = [](Types inputs, const Attributes&) -> std::vector<TensorType> {
      require_index("take_rows", "ids", inputs[1]);
      require_rank("take_rows", "ids", inputs[1], 1);
      require(inputs[0].shape.rank() > 0, "take_rows", "a must have at least 1 axis; got shape ()", ".");
      return {{inputs[0].dtype, with_rows(inputs[1].shape[0], inputs[0].shape)}};
    },
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      const std::int64_t rows = input(call, 0).type().shape[0];
      return {input(call, 1).call("row_sparse_to_dense", {gradient(call)}, {{"rows", rows}}), Gradient()};
    },
});

MXPIPE_OP({
    .name = "scatter_rows",
    .doc = R"(`target` with the rows at `ids` replaced by `rows`; ids of -1 are ignored.

Other ids outside [0, rows of target) raise OperatorError; of equal ids the last row stays.

>>> npx.scatter_rows(np.zeros((2, 1)), np.array([1, -1]), np.array([[5.0], [6.0]]))
array([[0.],
       [5.]])
)",
    .inputs = {{"target", "array (rows, ...)"},
               {"ids", "int32 or int64 array (n,)"},
               {"rows", "array (n, ...) of target's dtype"}},
    .infer = [](Types inputs, const Attributes&) -> std::vector<TensorType> {
      const TensorType& target = inputs[0];
      require_pairs("scatter_rows", inputs[1], "rows", inputs[2]);
      require(target.shape.rank() > 0, "scatter_rows", "target must have at least 1 axis; got shape ()", ".");
      const TensorType expected{target.dtype, with_rows(inputs[1].shape[0], target.shape)};
      require(inputs[2] == expected, "scatter_rows", "rows must be of type ", expected, "; got ", inputs[2],
              ".");
      return {target};
    },
    .gradient =
        [](const GradientCall& call) {
          std::vector<Gradient> result(3);
          const Term g = gradient(call);
          const Value ids = call.inputs[1];
          if (call.needed[0]) {
            result[0] = g.call("scatter_rows", {ids, call.builder.zeros(input(call, 2).type())});
          }
          if (call.needed[2]) result[2] = g.call("take_rows", {ids});
          return result;
        },
    .in_place = true,
});

MXPIPE_OP({
    .name = "row_sparse_to_dense",
    .doc = R"(Zeros with `values` added to the rows at `ids`, in order; ids of -1 are ignored.

Other ids outside [0, rows) raise OperatorError.

>>> _native.invoke("row_sparse_to_dense", [np.array([1, 1]), np.array([[2.0], [3.0]])], {"rows": 2})
array([[0.],
       [5.]])
)",
    .inputs = {{"ids", "int32 or int64 array (n,)"}, {"values", "array (n, ...)"}},
    .attributes = {attribute("rows", AttributeType::integer, "rows of the result")},
    .infer = [](Types inputs, const Attributes& attributes) -> std::vector<TensorType> {
      const std::int64_t rows = attributes.integer("rows");
      require_pairs("row_sparse_to_dense", inputs[0], "values", inputs[1]);
      require(rows >= 0, "row_sparse_to_dense", "rows must be at least 0; got ", rows, ".");
      return {{inputs[1].dtype, with_rows(rows, inputs[1].shape)}};
    },
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      return {Gradient(), gradient(call).call("take_rows", {call.inputs[0]})};
    },
});

}  // namespace mxpipe::ops
