// What matmul and fully_connected have in common: C[batch] = act(A[batch] B[batch] + bias).
// What enters: a kernel request. What leaves: sizes and strides that oneDNN, BLAS and the plain loops all
// take.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

#include "kernels/kernel.hpp"

namespace mxpipe {

enum class Activation : std::uint8_t { none, relu, gelu, tanh, sigmoid };

template <typename T>
T activate(Activation activation, T x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return x < T{} ? T{} : x;
    case Activation::gelu:
      return static_cast<T>(x * (1 + std::erf(x * std::numbers::sqrt2 / 2)) / 2);
    case Activation::tanh:
      return static_cast<T>(std::tanh(x));
    case Activation::sigmoid:
      return static_cast<T>(1 / (1 + std::exp(-x)));
  }
  return x;
}

struct MatrixProduct {
  DType dtype = DType::float32;
  std::int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;  // the matrices lie in memory as (k, m) and (n, k)
  bool bias = false;
  DType bias_dtype = DType::float32;
  Activation activation = Activation::none;
  Shape batch;                   // of the output; adjacent axes merged where both operands allow
  Shape batch_of_a, batch_of_b;  // the same rank; 1 where an operand is repeated

  std::int64_t batches() const { return batch.size(); }
  bool empty() const { return batches() == 0 || m == 0 || n == 0 || k == 0; }
  // Which matrix of A (or of B) belongs to output matrix `index`.
  static std::int64_t matrix_of(const Shape& operand, const Shape& batch, std::int64_t index);
};

MatrixProduct matrix_product(const KernelRequest& request);

}  // namespace mxpipe
