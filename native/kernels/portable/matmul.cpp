// matmul and fully_connected without oneDNN: OpenBLAS for float32 and float64, plain loops for integers;
// float16 and bfloat16 pass through float32 and are rounded once. Operations: 2 m n k a batch; bias and
// activation are one more pass over the result while it is in cache.
#include "graph/error.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/matrix_product.hpp"
#include "kernels/parallel.hpp"
#include "kernels/portable/gemm.hpp"
#include "kernels/portable/widened.hpp"

#ifdef MXPIPE_OPENBLAS
#include <cblas.h>
#endif

namespace mxpipe {
namespace {

#ifdef MXPIPE_OPENBLAS
inline constexpr bool kBlas = true;

void blas_gemm(const MatrixProduct& p, const float* a, const float* b, float* c) {
  scipy_cblas_sgemm(CblasRowMajor, p.transpose_a ? CblasTrans : CblasNoTrans,
                    p.transpose_b ? CblasTrans : CblasNoTrans, static_cast<blasint>(p.m),
                    static_cast<blasint>(p.n), static_cast<blasint>(p.k), 1.0F, a,
                    static_cast<blasint>(p.transpose_a ? p.m : p.k), b,
                    static_cast<blasint>(p.transpose_b ? p.k : p.n), 0.0F, c, static_cast<blasint>(p.n));
}
void blas_gemm(const MatrixProduct& p, const double* a, const double* b, double* c) {
  scipy_cblas_dgemm(CblasRowMajor, p.transpose_a ? CblasTrans : CblasNoTrans,
                    p.transpose_b ? CblasTrans : CblasNoTrans, static_cast<blasint>(p.m),
                    static_cast<blasint>(p.n), static_cast<blasint>(p.k), 1.0, a,
                    static_cast<blasint>(p.transpose_a ? p.m : p.k), b,
                    static_cast<blasint>(p.transpose_b ? p.k : p.n), 0.0, c, static_cast<blasint>(p.n));
}
void use_blas_threads() {
  if (scipy_openblas_get_num_threads() != num_threads()) scipy_openblas_set_num_threads(num_threads());
}
#else
inline constexpr bool kBlas = false;
template <typename T>
void blas_gemm(const MatrixProduct&, const T*, const T*, T*) {}
void use_blas_threads() {}
#endif

template <typename T>
class ProductKernel final : public Kernel {
 public:
  explicit ProductKernel(const MatrixProduct& product) : product_(product) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const auto* a = static_cast<const T*>(inputs[0]);
    const auto* b = static_cast<const T*>(inputs[1]);
    auto* c = static_cast<T*>(outputs[0]);
    const std::int64_t size = product_.m * product_.n;
    for (std::int64_t i = 0; i < product_.batches(); ++i) {
      const std::int64_t in_a = MatrixProduct::matrix_of(product_.batch_of_a, product_.batch, i);
      const std::int64_t in_b = MatrixProduct::matrix_of(product_.batch_of_b, product_.batch, i);
      multiply(a + in_a * product_.m * product_.k, b + in_b * product_.k * product_.n, c + i * size);
    }
    if (product_.bias || product_.activation != Activation::none)
      finish(inputs.size() > 2 ? static_cast<const T*>(inputs[2]) : nullptr, c);
  }

  std::string describe() const override {
    return text(kBlas && std::is_floating_point_v<T> ? "openblas" : "portable", " matmul ", product_.dtype);
  }

 private:
  void multiply(const T* a, const T* b, T* c) const {
    const MatrixProduct& p = product_;
    if (p.m == 0 || p.n == 0) return;
    if constexpr (kBlas && std::is_floating_point_v<T>) {
      if (p.k > 0) {
        use_blas_threads();
        blas_gemm(p, a, b, c);
        return;
      }
    }
    plain_gemm<T>(p.m, p.n, p.k, {a, p.transpose_a ? 1 : p.k, p.transpose_a ? p.m : 1},
                  {b, p.transpose_b ? 1 : p.n, p.transpose_b ? p.k : 1}, c);
  }

  void finish(const T* bias, T* c) const {
    const std::int64_t n = product_.n;
    parallel_for(product_.m, grain_for(n), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        T* row = c + i * n;
        for (std::int64_t j = 0; j < n; ++j) {
          const T sum = bias == nullptr ? row[j] : static_cast<T>(row[j] + bias[j]);
          row[j] = activate(product_.activation, sum);
        }
      }
    });
  }

  MatrixProduct product_;
};

std::unique_ptr<Kernel> make_matmul(const KernelRequest& request) {
  const DType dtype = request.inputs[0].dtype;
  if (has_half(request)) return make_widened(request);
  if (is_boolean(dtype)) return nullptr;
  const MatrixProduct product = matrix_product(request);
  return dispatch_number(dtype, [&]<typename T>() -> std::unique_ptr<Kernel> {
    return std::make_unique<ProductKernel<T>>(product);
  });
}

MXPIPE_KERNEL("matmul", 0, make_matmul);
MXPIPE_KERNEL("fully_connected", 0, make_matmul);

}  // namespace
}  // namespace mxpipe
