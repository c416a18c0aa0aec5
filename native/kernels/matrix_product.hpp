// What matmul and fully_connected have in common: C[batch] = act(A[batch] B[batch] + bias).
// What enters: a kernel request. What leaves: sizes and strides that oneDNN, BLAS and the plain loops all
// take.
#pragma once

#include <cstdint>

#include "kernels/kernel.hpp"

namespace mxpipe {

struct MatrixProduct {
  DType dtype = DType::float32;
  std::int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;  // the matrices lie in memory as (k, m) and (n, k)
  bool bias = false, relu = false;
  Shape batch;                   // of the output; adjacent axes merged where both operands allow
  Shape batch_of_a, batch_of_b;  // the same rank; 1 where an operand is repeated

  std::int64_t batches() const { return batch.size(); }
  bool empty() const { return batches() == 0 || m == 0 || n == 0 || k == 0; }
  // Which matrix of A (or of B) belongs to output matrix `index`.
  static std::int64_t matrix_of(const Shape& operand, const Shape& batch, std::int64_t index);
};

MatrixProduct matrix_product(const KernelRequest& request);

}  // namespace mxpipe
