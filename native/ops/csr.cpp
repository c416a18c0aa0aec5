// Products of compressed sparse row (CSR) matrices. Row r of such a matrix holds data[p] in column indices[p]
// for p in [indptr[r], indptr[r + 1]); of equal columns the sum counts.
#include "ops/declare.hpp"

namespace mxpipe::ops {
namespace {

// indices (nonzeros,) and indptr (rows + 1,); returns the number of rows.
std::int64_t require_pattern(std::string_view op, const TensorType& indices, const TensorType& indptr) {
  require_index(op, "indices", indices);
  require_rank(op, "indices", indices, 1);
  require(indptr.dtype == indices.dtype, op, "indptr must have the dtype of indices, ", indices.dtype,
          "; got ", indptr.dtype, ".");
  require(indptr.shape.rank() == 1 && indptr.shape[0] > 0, op,
          "indptr must have shape (rows + 1,); got shape ", indptr.shape, ".");
  return indptr.shape[0] - 1;
}

std::int64_t columns_of(std::string_view op, const Attributes& attributes) {
  const std::int64_t columns = attributes.integer("columns");
  require(columns >= 0, op, "columns must be at least 0; got ", columns, ".");
  return columns;
}

AttributeSchema columns_attribute() {
  return attribute("columns", AttributeType::integer, "columns of the sparse matrix");
}

std::vector<TensorType> infer_csr_matmul(Types inputs, const Attributes& attributes) {
  constexpr std::string_view kOp = "csr_matmul";
  const std::int64_t rows = require_pattern(kOp, inputs[1], inputs[2]);
  const std::int64_t columns = columns_of(kOp, attributes);
  const bool transposed = attributes.boolean("transpose_a");
  const TensorType& data = inputs[0];
  const TensorType& b = inputs[3];
  require_floating(kOp, "data", data);
  require(data.shape == inputs[1].shape, kOp, "data must hold one number for each of indices; got shape ",
          data.shape, " and ", inputs[1].shape, ".");
  require(b.dtype == data.dtype, kOp, "b must have the dtype of data, ", data.dtype, "; got ", b.dtype, ".");
  const std::int64_t inner = transposed ? rows : columns;
  require(b.shape.rank() == 2 && b.shape[0] == inner, kOp, "b must have shape (", inner, ", n); got shape ",
          b.shape, ".");
  return {{data.dtype, Shape{transposed ? columns : rows, b.shape[1]}}};
}

std::vector<TensorType> infer_csr_sampled_matmul(Types inputs, const Attributes& attributes) {
  constexpr std::string_view kOp = "csr_sampled_matmul";
  const std::int64_t rows = require_pattern(kOp, inputs[0], inputs[1]);
  const std::int64_t columns = columns_of(kOp, attributes);
  const TensorType& a = inputs[2];
  const TensorType& b = inputs[3];
  require_floating(kOp, "a", a);
  require_rank(kOp, "a", a, 2);
  require(a.shape[0] == rows, kOp, "a must have shape (", rows, ", n); got shape ", a.shape, ".");
  const TensorType expected{a.dtype, Shape{columns, a.shape[1]}};
  require(b == expected, kOp, "b must be of type ", expected, "; got ", b, ".");
  return {{a.dtype, inputs[0].shape}};
}

}  // namespace

MXPIPE_OP({
    .name = "csr_matmul",
    .doc = R"(A sparse matrix, or its transpose, times a dense one.

An index outside [0, columns), or an indptr that does not lead from 0 to the number of indices, raises
OperatorError.

>>> data, indices, indptr = np.array([5.0, 7.0]), np.array([1, 0]), np.array([0, 1, 2])
>>> _native.invoke("csr_matmul", [data, indices, indptr, np.array([[1.0], [2.0]])], {"columns": 2})
array([[10.],
       [ 7.]])
)",
    .inputs = {{"data", "floating array (nonzeros,)"},
               {"indices", "int32 or int64 array (nonzeros,): the column of each"},
               {"indptr", "array (rows + 1,) of the dtype of indices: where each row begins"},
               {"b", "array (columns, n), or (rows, n) with transpose_a, of the dtype of data"}},
    .attributes = {columns_attribute(),
                   attribute("transpose_a", Attribute(false), "multiply the transposed sparse matrix")},
    .infer = infer_csr_matmul,
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      const bool transposed = call.attributes.boolean("transpose_a");
      const std::int64_t columns = call.attributes.integer("columns");
      std::vector<Gradient> result(4);
      const Value g = call.gradients[0];
      if (call.needed[0]) {
        const Value left = transposed ? call.inputs[3] : g;
        const Value right = transposed ? g : call.inputs[3];
        result[0] =
            input(call, 1).call("csr_sampled_matmul", {call.inputs[2], left, right}, {{"columns", columns}});
      }
      if (call.needed[3]) {
        result[3] = input(call, 0).call("csr_matmul", {call.inputs[1], call.inputs[2], g},
                                        {{"columns", columns}, {"transpose_a", !transposed}});
      }
      return result;
    },
});

MXPIPE_OP({
    .name = "csr_sampled_matmul",
    .doc = R"(The entries of a b^T at the places of a sparse matrix: the gradient of csr_matmul's data.

>>> indices, indptr = np.array([1, 0]), np.array([0, 1, 2])
>>> a, b = np.array([[1.0], [2.0]]), np.array([[3.0], [4.0]])
>>> _native.invoke("csr_sampled_matmul", [indices, indptr, a, b], {"columns": 2})
array([4., 6.])
)",
    .inputs = {{"indices", "int32 or int64 array (nonzeros,): the column of each"},
               {"indptr", "array (rows + 1,) of the dtype of indices: where each row begins"},
               {"a", "floating array (rows, n)"},
               {"b", "array (columns, n) of the dtype of a"}},
    .attributes = {columns_attribute()},
    .infer = infer_csr_sampled_matmul,
    .gradient = [](const GradientCall& call) -> std::vector<Gradient> {
      const auto product = [&](std::size_t other, bool transposed) {
        return gradient(call).call(
            "csr_matmul", {call.inputs[0], call.inputs[1], call.inputs[other]},
            {{"columns", call.attributes.integer("columns")}, {"transpose_a", transposed}});
      };
      std::vector<Gradient> result(4);
      if (call.needed[2]) result[2] = product(3, false);
      if (call.needed[3]) result[3] = product(2, true);
      return result;
    },
});

}  // namespace mxpipe::ops
