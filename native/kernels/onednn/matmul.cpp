// matmul and fully_connected as oneDNN primitives, made once.
// Operations: 2 m n k a batch; bytes: each matrix once, if oneDNN's blocking does its work. Bias and relu
// ride along.
#include <oneapi/dnnl/dnnl.hpp>
#include <string_view>
#include <unordered_map>

#include "graph/error.hpp"
#include "kernels/matrix_product.hpp"
#include "kernels/onednn/runtime.hpp"

namespace mxpipe::onednn {
namespace {

using dnnl::memory;

memory::data_type data_type(DType dtype) {
  return dtype == DType::bfloat16 ? memory::data_type::bf16 : memory::data_type::f32;
}

// A row-major stack of rows x columns matrices; `transposed`: it lies in memory as columns x rows.
memory::desc matrices(const Shape& batch, std::int64_t rows, std::int64_t columns, bool transposed,
                      DType dtype) {
  memory::dims dims, strides(static_cast<std::size_t>(batch.rank()));
  std::int64_t stride = rows * columns;
  for (int axis = batch.rank() - 1; axis >= 0; --axis) {
    strides[static_cast<std::size_t>(axis)] = stride;
    stride *= batch[axis];
  }
  dims.assign(batch.begin(), batch.end());
  dims.insert(dims.end(), {rows, columns});
  strides.insert(strides.end(), {transposed ? 1 : columns, transposed ? rows : 1});
  return {dims, data_type(dtype), strides};
}

// Below this many operations (about 40 us of one core) other threads are not worth waking.
constexpr double kSerialOperations = 1e7;

int threads_for(const MatrixProduct& product) {
  const double operations = 2.0 * static_cast<double>(product.m) * static_cast<double>(product.n) *
                            static_cast<double>(product.k) * static_cast<double>(product.batches());
  return operations < kSerialOperations ? 1 : num_threads();
}

class MatmulKernel final : public Kernel {
 public:
  MatmulKernel(const MatrixProduct& product, dnnl::matmul::primitive_desc descriptor)
      : descriptor_(std::move(descriptor)),
        primitive_(descriptor_),
        bias_(product.bias),
        threads_(threads_for(product)),
        name_(text("onednn matmul ", product.dtype, " ", descriptor_.impl_info_str())) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs,
           void* scratch) const override {
    use_threads(threads_);
    std::unordered_map<int, memory> arguments{
        {DNNL_ARG_SRC, wrap(descriptor_.src_desc(), inputs[0])},
        {DNNL_ARG_WEIGHTS, wrap(descriptor_.weights_desc(), inputs[1])},
        {DNNL_ARG_DST, wrap(descriptor_.dst_desc(), outputs[0])},
        {DNNL_ARG_SCRATCHPAD, wrap(descriptor_.scratchpad_desc(), scratch)}};
    if (bias_)
      arguments.emplace(DNNL_ARG_BIAS, wrap(descriptor_.query_md(dnnl::query::weights_md, 1), inputs[2]));
    primitive_.execute(stream(), arguments);
  }

  std::size_t scratch_bytes() const override { return descriptor_.scratchpad_desc().get_size(); }
  std::string describe() const override { return name_; }

 private:
  static memory wrap(const memory::desc& descriptor, const void* pointer) {
    return {descriptor, engine(), const_cast<void*>(pointer)};  // oneDNN does not write to sources
  }

  dnnl::matmul::primitive_desc descriptor_;
  dnnl::matmul primitive_;
  bool bias_;
  int threads_;
  std::string name_;
};

std::unique_ptr<Kernel> make_matmul(const KernelRequest& request) {
  const DType dtype = request.inputs[0].dtype;
  if (dtype != DType::float32 && dtype != DType::bfloat16) return nullptr;
  const MatrixProduct product = matrix_product(request);
  if (product.empty()) return nullptr;
  use_threads(threads_for(product));

  const memory::desc a = matrices(product.batch_of_a, product.m, product.k, product.transpose_a, dtype);
  const memory::desc b = matrices(product.batch_of_b, product.k, product.n, product.transpose_b, dtype);
  const memory::desc c = matrices(product.batch, product.m, product.n, false, dtype);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (product.relu) {
    dnnl::post_ops after;
    after.append_eltwise(dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
    attributes.set_post_ops(after);
  }
  memory::desc bias;
  if (product.bias) bias = matrices(Shape(), 1, product.n, false, dtype);
  constexpr bool kAllowEmpty = true;
  dnnl::matmul::primitive_desc descriptor =
      product.bias ? dnnl::matmul::primitive_desc(engine(), a, b, bias, c, attributes, kAllowEmpty)
                   : dnnl::matmul::primitive_desc(engine(), a, b, c, attributes, kAllowEmpty);
  if (!descriptor) return nullptr;
  // The reference implementation is a plain loop: bfloat16 on a processor without it, say. Portable kernels
  // do better.
  if (std::string_view(descriptor.impl_info_str()).starts_with("ref")) return nullptr;
  return std::make_unique<MatmulKernel>(product, std::move(descriptor));
}

MXPIPE_KERNEL("matmul", 200, make_matmul);
MXPIPE_KERNEL("fully_connected", 200, make_matmul);

}  // namespace
}  // namespace mxpipe::onednn
