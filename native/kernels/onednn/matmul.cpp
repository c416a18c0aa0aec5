// matmul and fully_connected as oneDNN primitives, made once.
// Operations: 2 m n k a batch; bytes: each matrix once, if oneDNN's blocking does its work. Bias and
// activation ride along. B is read in oneDNN's blocked format where that pays: on Zen 5 it takes products of
// 2048 x 768 x 3072 from 0.83-0.95 to 0.97-0.99 of the peak, for one pass over B.
#include <algorithm>
#include <array>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>

#include "graph/error.hpp"
#include "kernels/matrix_product.hpp"
#include "kernels/onednn/primitive.hpp"

namespace mxpipe::onednn {
namespace {

using dnnl::memory;

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

// Packing costs one pass over B, the gain grows with the rows of A: from about this many on it pays at every
// run. What is packed once and kept pays always.
constexpr std::int64_t kPackedRows = 512;
constexpr std::int64_t kPackedElements = std::int64_t{1} << 16;  // of B

bool is_packed(const MatrixProduct& product, bool frozen) {
  if (product.batch.rank() > 0) return false;
  return frozen || (product.m >= kPackedRows && product.k * product.n >= kPackedElements);
}

constexpr std::size_t align(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

dnnl::primitive_attr user_scratchpad() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

void append_activation(dnnl::post_ops& after, Activation activation) {
  using dnnl::algorithm;
  switch (activation) {
    case Activation::none:
      return;
    case Activation::relu:
      return after.append_eltwise(algorithm::eltwise_relu, 0.0F, 0.0F);
    case Activation::gelu:
      return after.append_eltwise(algorithm::eltwise_gelu_erf, 0.0F, 0.0F);
    case Activation::tanh:
      return after.append_eltwise(algorithm::eltwise_tanh, 0.0F, 0.0F);
    case Activation::sigmoid:
      return after.append_eltwise(algorithm::eltwise_logistic, 0.0F, 0.0F);
  }
}

double operations(const MatrixProduct& product) {
  return 2.0 * static_cast<double>(product.m) * static_cast<double>(product.n) *
         static_cast<double>(product.k) * static_cast<double>(product.batches());
}

class MatmulKernel final : public Kernel {
 public:
  MatmulKernel(const MatrixProduct& product, const dnnl::matmul::primitive_desc& descriptor,
               const memory::desc& plain_b)
      : packed_b_(descriptor.weights_desc()),
        scratch_bytes_(descriptor.scratchpad_desc().get_size()),
        threads_(threads_for(operations(product))) {
    Primitive::Arguments arguments{{DNNL_ARG_SRC, descriptor.src_desc()}, {DNNL_ARG_WEIGHTS, packed_b_}};
    if (product.bias) arguments.emplace_back(DNNL_ARG_BIAS, descriptor.query_md(dnnl::query::weights_md, 1));
    arguments.emplace_back(DNNL_ARG_DST, descriptor.dst_desc());
    arguments.emplace_back(DNNL_ARG_SCRATCHPAD, descriptor.scratchpad_desc());
    primitive_.emplace(dnnl::matmul(descriptor), std::move(arguments));
    const bool packs = packed_b_ != plain_b;
    name_ = text("onednn matmul ", product.dtype, packs ? " packed " : " ", descriptor.impl_info_str());
    if (!packs) return;
    const dnnl::reorder::primitive_desc reorder(engine(), plain_b, engine(), packed_b_, user_scratchpad());
    reorder_bytes_ = align(reorder.scratchpad_desc().get_size());
    reorder_.emplace(dnnl::reorder(reorder),
                     Primitive::Arguments{{DNNL_ARG_FROM, plain_b},
                                          {DNNL_ARG_TO, packed_b_},
                                          {DNNL_ARG_SCRATCHPAD, reorder.scratchpad_desc()}});
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs,
           void* scratch) const override {
    use_threads(threads_);
    std::array<const void*, Primitive::kMostArguments> pointers{};
    std::copy(inputs.begin(), inputs.end(), pointers.begin());
    pointers[inputs.size()] = outputs[0];
    pointers[inputs.size() + 1] = scratch;
    primitive_->execute(pointers);
  }

  std::size_t scratch_bytes() const override { return scratch_bytes_; }
  std::string describe() const override { return name_; }

  std::size_t packed_bytes(std::size_t input) const override {
    return reorder_ && input == 1 ? align(packed_b_.get_size()) + reorder_bytes_ : 0;
  }
  void pack(std::size_t, const void* raw, void* packed) const override {
    use_threads(threads_);
    auto* scratch = static_cast<std::byte*>(packed) + align(packed_b_.get_size());
    reorder_->execute(std::array<const void*, 3>{raw, packed, scratch});
  }

 private:
  memory::desc packed_b_;
  std::size_t scratch_bytes_, reorder_bytes_ = 0;
  int threads_;
  std::optional<Primitive> primitive_, reorder_;
  std::string name_;
};

std::unique_ptr<Kernel> make_matmul(const KernelRequest& request) {
  const DType dtype = request.inputs[0].dtype;
  if (dtype != DType::float32 && dtype != DType::bfloat16) return nullptr;
  const MatrixProduct product = matrix_product(request);
  if (product.empty()) return nullptr;
  use_threads(threads_for(operations(product)));

  const memory::desc a = matrices(product.batch_of_a, product.m, product.k, product.transpose_a, dtype);
  const memory::desc b = matrices(product.batch_of_b, product.k, product.n, product.transpose_b, dtype);
  const memory::desc c = matrices(product.batch, product.m, product.n, false, dtype);
  const bool packs = is_packed(product, (request.frozen & 2U) != 0);
  const memory::desc wanted_b =
      packs ? memory::desc({product.k, product.n}, data_type(dtype), memory::format_tag::any) : b;
  dnnl::primitive_attr attributes = user_scratchpad();
  dnnl::post_ops after;
  append_activation(after, product.activation);
  attributes.set_post_ops(after);
  memory::desc bias;
  if (product.bias) bias = matrices(Shape(), 1, product.n, false, product.bias_dtype);
  constexpr bool kAllowEmpty = true;
  const dnnl::matmul::primitive_desc descriptor =
      product.bias ? dnnl::matmul::primitive_desc(engine(), a, wanted_b, bias, c, attributes, kAllowEmpty)
                   : dnnl::matmul::primitive_desc(engine(), a, wanted_b, c, attributes, kAllowEmpty);
  if (!descriptor || is_reference(descriptor.impl_info_str())) return nullptr;
  return std::make_unique<MatmulKernel>(product, descriptor, b);
}

MXPIPE_KERNEL("matmul", 200, make_matmul);
MXPIPE_KERNEL("fully_connected", 200, make_matmul);

}  // namespace
}  // namespace mxpipe::onednn
