// matmul and fully_connected as oneDNN primitives, made once.
// Operations: 2 m n k a batch; bytes: each matrix once, if oneDNN's blocking does its work. Bias and relu
// ride along.
#include <array>
#include <atomic>
#include <oneapi/dnnl/dnnl.hpp>
#include <string_view>

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

// oneDNN's memory objects of one call: made once, given new pointers at every call.
class Arguments {
 public:
  explicit Arguments(const dnnl::matmul::primitive_desc& descriptor, bool bias) {
    add(DNNL_ARG_SRC, descriptor.src_desc());
    add(DNNL_ARG_WEIGHTS, descriptor.weights_desc());
    add(DNNL_ARG_DST, descriptor.dst_desc());
    add(DNNL_ARG_SCRATCHPAD, descriptor.scratchpad_desc());
    if (bias) add(DNNL_ARG_BIAS, descriptor.query_md(dnnl::query::weights_md, 1));
  }

  void execute(const dnnl::matmul& primitive, std::span<const void* const> inputs, void* output,
               void* scratch) {
    // oneDNN does not write to sources.
    memories_[0].set_data_handle(const_cast<void*>(inputs[0]));
    memories_[1].set_data_handle(const_cast<void*>(inputs[1]));
    memories_[2].set_data_handle(output);
    memories_[3].set_data_handle(scratch);
    if (count_ > 4) memories_[4].set_data_handle(const_cast<void*>(inputs[2]));
    const dnnl_status_t status =
        dnnl_primitive_execute(primitive.get(), stream().get(), count_, arguments_.data());
    if (status != dnnl_success) fail(ErrorKind::internal, "onednn", "matmul must succeed; got ", status, ".");
  }

 private:
  void add(int argument, const memory::desc& descriptor) {
    const auto i = static_cast<std::size_t>(count_++);
    memories_[i] = memory(descriptor, engine(), nullptr);
    arguments_[i] = {argument, memories_[i].get()};
  }

  std::array<memory, 5> memories_;
  std::array<dnnl_exec_arg_t, 5> arguments_{};
  int count_ = 0;
};

class MatmulKernel final : public Kernel {
 public:
  MatmulKernel(const MatrixProduct& product, dnnl::matmul::primitive_desc descriptor)
      : descriptor_(std::move(descriptor)),
        primitive_(descriptor_),
        bias_(product.bias),
        threads_(threads_for(product)),
        name_(text("onednn matmul ", product.dtype, " ", descriptor_.impl_info_str())) {}
  ~MatmulKernel() override { delete spare_.load(); }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs,
           void* scratch) const override {
    use_threads(threads_);
    // Calls that overlap in time each have arguments of their own; one set is kept for the next call.
    std::unique_ptr<Arguments> arguments(spare_.exchange(nullptr));
    if (!arguments) arguments = std::make_unique<Arguments>(descriptor_, bias_);
    arguments->execute(primitive_, inputs, outputs[0], scratch);
    arguments.reset(spare_.exchange(arguments.release()));
  }

  std::size_t scratch_bytes() const override { return descriptor_.scratchpad_desc().get_size(); }
  std::string describe() const override { return name_; }

 private:
  dnnl::matmul::primitive_desc descriptor_;
  dnnl::matmul primitive_;
  mutable std::atomic<Arguments*> spare_{nullptr};
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
