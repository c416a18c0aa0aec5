// Products of a matrix and a vector, where a row of the matrix and the vector are contiguous: fully_connected
// with one output or one row, matmul with a transposed operand. oneDNN's matmul is made for matrices: it
// needs two to five times as long for these. Bytes: the matrix once; operations: 2 an element. So memory
// decides.
#include "graph/error.hpp"
#include "kernels/kernel.hpp"
#include "kernels/matrix_product.hpp"
#include "kernels/parallel.hpp"
#include "kernels/vec/isa.hpp"

namespace mxpipe {
namespace {

class MatvecKernel final : public Kernel {
 public:
  explicit MatvecKernel(const MatrixProduct& product)
      : rows_(product.n == 1 ? product.m : product.n),
        length_(product.k),
        matrix_(product.n == 1 ? 0 : 1),
        bias_step_(product.n == 1 ? 0 : 1),
        bias_(product.bias),
        activation_(product.activation) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const auto* matrix = static_cast<const float*>(inputs[matrix_]);
    const auto* vector = static_cast<const float*>(inputs[1 - matrix_]);
    const auto* bias = bias_ ? static_cast<const float*>(inputs[2]) : nullptr;
    auto* result = static_cast<float*>(outputs[0]);
    parallel_for(rows_, grain_for(length_ / 2 + 8), [&](std::int64_t begin, std::int64_t end) {
      isa().rows.dots(vector, matrix + begin * length_, end - begin, length_, result + begin);
      finish(bias, result, begin, end);
    });
  }
  std::string describe() const override { return text("vec ", isa().name, " matvec f32"); }

 private:
  // A loop for each of the two, and for relu, so that a compiler makes vectors of them.
  void finish(const float* bias, float* result, std::int64_t begin, std::int64_t end) const {
    if (bias != nullptr) {
      for (std::int64_t row = begin; row < end; ++row) result[row] += bias[row * bias_step_];
    }
    if (activation_ == Activation::relu) {
      for (std::int64_t row = begin; row < end; ++row) result[row] = activate(Activation::relu, result[row]);
    } else if (activation_ != Activation::none) {
      for (std::int64_t row = begin; row < end; ++row) result[row] = activate(activation_, result[row]);
    }
  }

  std::int64_t rows_, length_;
  std::size_t matrix_;  // which input
  std::int64_t bias_step_;
  bool bias_;
  Activation activation_;
};

std::unique_ptr<Kernel> make_matvec(const KernelRequest& request) {
  if (request.inputs[0].dtype != DType::float32) return nullptr;
  const MatrixProduct product = matrix_product(request);
  if (product.empty() || product.batches() != 1) return nullptr;
  const bool column = product.n == 1 && !product.transpose_a;               // rows of A, the vector B
  const bool row = product.m == 1 && product.transpose_b && product.n > 1;  // rows of B, the vector A
  if (!column && !row) return nullptr;
  return std::make_unique<MatvecKernel>(product);
}

MXPIPE_KERNEL("matmul", 250, make_matvec);
MXPIPE_KERNEL("fully_connected", 250, make_matvec);

}  // namespace
}  // namespace mxpipe
