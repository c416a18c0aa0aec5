// Pooling as oneDNN primitives where the windows are those that oneDNN knows: its workspace of a maximum is
// the op's positions. Bytes: x and the result once.
#include "kernels/pooling.hpp"

#include <optional>

#include "kernels/onednn/primitive.hpp"

namespace mxpipe::onednn {
namespace {

using dnnl::memory;

constexpr bool kAllowEmpty = true;

struct Geometry {
  explicit Geometry(const Pooling& p) {
    memory::dims elements, windows;
    for (std::size_t at = 3 - static_cast<std::size_t>(p.layout.spatial); at < 3; ++at) {
      const PoolingAxis& axis = p.axes[at];
      elements.push_back(axis.size);
      windows.push_back(axis.windows);
      kernel.push_back(axis.kernel);
      stride.push_back(axis.stride);
      padding.push_back(axis.padding);
      dilation.push_back(0);
      end.push_back((axis.windows - 1) * axis.stride + axis.kernel - axis.size - axis.padding);
    }
    x = images(p, elements, p.dtype);
    y = images(p, windows, p.dtype);
    positions = images(p, windows, p.position_dtype);
  }

  static memory::desc images(const Pooling& p, const memory::dims& sizes, DType dtype) {
    memory::dims dims{p.batch, p.channels}, strides(sizes.size() + 2);
    dims.insert(dims.end(), sizes.begin(), sizes.end());
    std::int64_t stride = p.layout.channels_last ? p.channels : 1;
    for (std::size_t axis = dims.size(); axis-- > 2;) {
      strides[axis] = stride;
      stride *= dims[axis];
    }
    strides[1] = p.layout.channels_last ? 1 : stride;
    strides[0] = p.layout.channels_last ? stride : stride * p.channels;
    return {dims, data_type(dtype), strides};
  }

  memory::desc x, y, positions;
  memory::dims kernel, stride, padding, end, dilation;
};

class PoolingKernel final : public Kernel {
 public:
  template <typename Descriptor>
  PoolingKernel(const Pooling& pooling, const Descriptor& descriptor, const dnnl::primitive& primitive,
                Primitive::Arguments arguments)
      : scratch_bytes_(descriptor.scratchpad_desc().get_size()),
        name_(text("onednn ", pooling.maximum ? "max" : "avg", " pooling ", pooling.dtype, " ",
                   descriptor.impl_info_str())) {
    arguments.emplace_back(DNNL_ARG_SCRATCHPAD, descriptor.scratchpad_desc());
    primitive_.emplace(primitive, std::move(arguments));
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs,
           void* scratch) const override {
    use_threads(num_threads());
    std::array<const void*, Primitive::kMostArguments> pointers{};
    std::copy(inputs.begin(), inputs.end(), pointers.begin());
    std::copy(outputs.begin(), outputs.end(), pointers.begin() + static_cast<std::ptrdiff_t>(inputs.size()));
    pointers[inputs.size() + outputs.size()] = scratch;
    primitive_->execute(pointers);
  }

  std::size_t scratch_bytes() const override { return scratch_bytes_; }
  std::string describe() const override { return name_; }

 private:
  std::size_t scratch_bytes_;
  std::optional<Primitive> primitive_;
  std::string name_;
};

std::unique_ptr<Kernel> make_pooling(const KernelRequest& request) {
  const Pooling p = pooling_of(request);
  if (p.dtype != DType::float32 && p.dtype != DType::bfloat16) return nullptr;
  if (p.maximum && p.position_dtype != DType::uint8)
    return nullptr;  // its large windows go wrong in bfloat16
  if (p.adaptive || p.batch * p.channels * p.elements() * p.windows() == 0) return nullptr;
  for (const PoolingAxis& axis : p.axes) {
    if (axis.reaches_beyond && p.count_padding) return nullptr;  // oneDNN would count what lies beyond
  }
  use_threads(num_threads());
  const Geometry g(p);
  const auto algorithm = p.maximum         ? dnnl::algorithm::pooling_max
                         : p.count_padding ? dnnl::algorithm::pooling_avg_include_padding
                                           : dnnl::algorithm::pooling_avg_exclude_padding;
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const dnnl::pooling_forward::primitive_desc forward(engine(), dnnl::prop_kind::forward_training, algorithm,
                                                      g.x, g.y, g.stride, g.kernel, g.dilation, g.padding,
                                                      g.end, attributes, kAllowEmpty);
  if (!forward || is_reference(forward.impl_info_str())) return nullptr;
  if (p.maximum && forward.workspace_desc() != g.positions) return nullptr;
  if (!p.backward) {
    Primitive::Arguments arguments{{DNNL_ARG_SRC, g.x}, {DNNL_ARG_DST, g.y}};
    if (p.maximum) arguments.emplace_back(DNNL_ARG_WORKSPACE, g.positions);
    return std::make_unique<PoolingKernel>(p, forward, dnnl::pooling_forward(forward), arguments);
  }
  const dnnl::pooling_backward::primitive_desc backward(engine(), algorithm, g.x, g.y, g.stride, g.kernel,
                                                        g.dilation, g.padding, g.end, forward, attributes,
                                                        kAllowEmpty);
  if (!backward || is_reference(backward.impl_info_str())) return nullptr;
  Primitive::Arguments arguments{{DNNL_ARG_DIFF_DST, g.y}};
  if (p.maximum) arguments.emplace_back(DNNL_ARG_WORKSPACE, g.positions);
  arguments.emplace_back(DNNL_ARG_DIFF_SRC, g.x);
  return std::make_unique<PoolingKernel>(p, backward, dnnl::pooling_backward(backward), arguments);
}

MXPIPE_KERNEL("max_pool", 200, make_pooling);
MXPIPE_KERNEL("max_pool_backward", 200, make_pooling);
MXPIPE_KERNEL("avg_pool", 200, make_pooling);
MXPIPE_KERNEL("avg_pool_backward", 200, make_pooling);

}  // namespace
}  // namespace mxpipe::onednn
