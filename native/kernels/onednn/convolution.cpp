// Convolution and its gradients as oneDNN primitives, made once.
// Operations: 2 batch positions out (in / groups) volume; bytes: x, the weight and the result once each, if
// oneDNN's blocking does its work, and the weight once more in and out of oneDNN's own format.
//
// Channels-last is what oneDNN's convolutions on whole vectors of channels are made for: they reach the
// machine's limit forward and backward, so activations never leave that layout. Weights take the format that
// the primitive asks for: the caller packs them (see Kernel::pack), and a weight's gradient is unpacked here.
#include "kernels/convolution.hpp"

#include <cstring>
#include <optional>

#include "kernels/onednn/primitive.hpp"

namespace mxpipe::onednn {
namespace {

using dnnl::memory;

memory::dims dims_of(std::initializer_list<std::int64_t> first, const Integers& rest) {
  memory::dims dims(first);
  dims.insert(dims.end(), rest.begin(), rest.end());
  return dims;
}

memory::desc images(const Convolution& c, std::int64_t channels, const Integers& sizes) {
  memory::dims dims = dims_of({c.batch, channels}, sizes), strides(dims.size());
  std::int64_t stride = c.layout.channels_last ? channels : 1;
  for (std::size_t axis = dims.size(); axis-- > 2;) {
    strides[axis] = stride;
    stride *= dims[axis];
  }
  strides[1] = c.layout.channels_last ? 1 : stride;
  strides[0] = c.layout.channels_last ? stride : stride * channels;
  return {dims, data_type(c.dtype), strides};
}

memory::dims weight_dims(const Convolution& c) {
  const std::int64_t in = c.in / c.groups;
  if (c.groups == 1) return dims_of({c.out, in}, c.kernel);
  return dims_of({c.groups, c.out / c.groups, in}, c.kernel);
}

// As the op has it: row-major.
memory::desc plain_weight(const Convolution& c, DType dtype) {
  memory::dims dims = weight_dims(c), strides(dims.size());
  std::int64_t stride = 1;
  for (std::size_t axis = dims.size(); axis-- > 0;) {
    strides[axis] = stride;
    stride *= dims[axis];
  }
  return {dims, data_type(dtype), strides};
}

memory::desc any_weight(const Convolution& c, DType dtype) {
  return {weight_dims(c), data_type(dtype), memory::format_tag::any};
}

struct Geometry {
  explicit Geometry(const Convolution& c)
      : x(images(c, c.in, c.size)), y(images(c, c.out, c.result)), stride(c.stride), padding(c.padding) {
    for (std::size_t axis = 0; axis < c.size.size(); ++axis) {
      dilation.push_back(c.dilation[axis] - 1);
      // What the windows leave over at the end is not padding: it may be negative.
      end.push_back((c.result[axis] - 1) * c.stride[axis] + c.dilation[axis] * (c.kernel[axis] - 1) + 1 -
                    c.size[axis] - c.padding[axis]);
    }
  }
  memory::desc x, y;
  memory::dims stride, padding, end, dilation;
};

constexpr bool kAllowEmpty = true;

// in_place: the addend lies where the result goes, which saves a pass over memory.
dnnl::primitive_attr attributes_of(const Convolution& c, const Geometry& geometry, bool in_place) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::post_ops after;
  if (c.addend && in_place) after.append_sum();
  if (c.addend && !in_place) after.append_binary(dnnl::algorithm::binary_add, geometry.y);
  if (c.relu) after.append_eltwise(dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
  attributes.set_post_ops(after);
  return attributes;
}

dnnl::convolution_forward::primitive_desc forward_descriptor(const Convolution& c, const Geometry& g,
                                                             const dnnl::primitive_attr& attributes) {
  const memory::desc weight = any_weight(c, c.dtype);
  const auto kind = dnnl::prop_kind::forward_training;
  const auto algorithm = dnnl::algorithm::convolution_direct;
  if (!c.bias) {
    return {engine(), kind,       algorithm, g.x,   weight,     g.y,
            g.stride, g.dilation, g.padding, g.end, attributes, kAllowEmpty};
  }
  const memory::desc bias({c.out}, data_type(c.bias_dtype), memory::format_tag::a);
  return {engine(), kind,       algorithm, g.x,   weight,     bias,       g.y,
          g.stride, g.dilation, g.padding, g.end, attributes, kAllowEmpty};
}

// What all three kernels share: a primitive whose arguments start as Kernel::run gets them, and a weight in a
// format of its own.
class ConvolutionKernel final : public Kernel {
 public:
  template <typename Descriptor>
  ConvolutionKernel(const Convolution& convolution, const Descriptor& descriptor,
                    const dnnl::primitive& primitive, Primitive::Arguments arguments,
                    const memory::desc& weight)
      : threads_(threads_for(convolution.operations())),
        kind_(convolution.kind),
        scratchpad_bytes_(align(descriptor.scratchpad_desc().get_size())),
        packed_weight_(weight),
        name_(text("onednn convolution ", convolution.dtype, " ", descriptor.impl_info_str())) {
    arguments.emplace_back(DNNL_ARG_SCRATCHPAD, descriptor.scratchpad_desc());
    primitive_.emplace(primitive, std::move(arguments));
    const memory::desc plain = plain_weight(convolution, convolution.weight_dtype);
    if (plain == weight) return;
    const bool unpacks = kind_ == ConvolutionKind::backward_weights;
    const memory::desc& from = unpacks ? weight : plain;
    const memory::desc& to = unpacks ? plain : weight;
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::reorder::primitive_desc reorder(engine(), from, engine(), to, attributes);
    reorder_bytes_ = align(reorder.scratchpad_desc().get_size());
    reorder_.emplace(
        dnnl::reorder(reorder),
        Primitive::Arguments{
            {DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}, {DNNL_ARG_SCRATCHPAD, reorder.scratchpad_desc()}});
  }

  // The same with an addend that lies where the result goes; `arguments` without the addend.
  template <typename Descriptor>
  void set_in_place(const Descriptor& descriptor, const dnnl::primitive& primitive,
                    Primitive::Arguments arguments) {
    arguments.emplace_back(DNNL_ARG_SCRATCHPAD, descriptor.scratchpad_desc());
    scratchpad_bytes_ = std::max(scratchpad_bytes_, align(descriptor.scratchpad_desc().get_size()));
    in_place_.emplace(primitive, std::move(arguments));
  }

  // Should the addend lie there, it is copied first.
  void copy_addend(std::size_t bytes) { addend_bytes_ = bytes; }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs,
           void* scratch) const override {
    use_threads(threads_);
    auto* memory = static_cast<std::byte*>(scratch);
    const bool unpacks = reorder_ && kind_ == ConvolutionKind::backward_weights;
    const bool overwrites = inputs.back() == outputs[0];
    std::byte* behind = memory + scratchpad_bytes_;
    std::array<const void*, Primitive::kMostArguments> pointers{};
    std::copy(inputs.begin(), inputs.end(), pointers.begin());
    std::size_t count = inputs.size();
    if (overwrites && in_place_) {
      --count;
    } else if (overwrites) {
      std::memcpy(behind, inputs.back(), addend_bytes_);
      pointers[count - 1] = behind;
    }
    pointers[count] = unpacks ? behind : outputs[0];
    pointers[count + 1] = memory;
    (overwrites && in_place_ ? *in_place_ : *primitive_).execute(pointers);
    if (!unpacks) return;
    reorder_->execute(std::array<const void*, 3>{behind, outputs[0], memory});
  }

  std::size_t scratch_bytes() const override {
    if (!reorder_ || kind_ != ConvolutionKind::backward_weights) return scratchpad_bytes_ + addend_bytes_;
    return std::max(scratchpad_bytes_, reorder_bytes_) + packed_weight_.get_size();
  }

  std::size_t packed_bytes(std::size_t input) const override {
    const bool packs = reorder_ && kind_ != ConvolutionKind::backward_weights && input == 1;
    return packs ? align(packed_weight_.get_size()) + reorder_bytes_ : 0;
  }

  void pack(std::size_t, const void* raw, void* packed) const override {
    use_threads(threads_);
    auto* scratch = static_cast<std::byte*>(packed) + align(packed_weight_.get_size());
    reorder_->execute(std::array<const void*, 3>{raw, packed, scratch});
  }

  std::string describe() const override { return name_; }

 private:
  static std::size_t align(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

  int threads_;
  ConvolutionKind kind_;
  std::size_t scratchpad_bytes_, reorder_bytes_ = 0, addend_bytes_ = 0;
  memory::desc packed_weight_;
  std::optional<Primitive> primitive_, in_place_, reorder_;
  std::string name_;
};

// Whether an addend in place gives the bytes of one elsewhere: other kernels start their sums with it.
bool adds_last(const dnnl::convolution_forward::primitive_desc& descriptor) {
  return descriptor && std::string_view(descriptor.impl_info_str()).starts_with("brg");
}

std::unique_ptr<Kernel> make_forward(const Convolution& c, const Geometry& geometry) {
  const auto descriptor = forward_descriptor(c, geometry, attributes_of(c, geometry, false));
  if (!descriptor || is_reference(descriptor.impl_info_str())) return nullptr;
  Primitive::Arguments arguments{{DNNL_ARG_SRC, descriptor.src_desc()},
                                 {DNNL_ARG_WEIGHTS, descriptor.weights_desc()}};
  if (c.bias) arguments.emplace_back(DNNL_ARG_BIAS, descriptor.bias_desc());
  Primitive::Arguments in_place_arguments = arguments;
  if (c.addend) {
    arguments.emplace_back(DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, geometry.y);
  }
  arguments.emplace_back(DNNL_ARG_DST, descriptor.dst_desc());
  auto kernel = std::make_unique<ConvolutionKernel>(c, descriptor, dnnl::convolution_forward(descriptor),
                                                    arguments, descriptor.weights_desc());
  if (c.addend) {
    const auto in_place = forward_descriptor(c, geometry, attributes_of(c, geometry, true));
    in_place_arguments.emplace_back(DNNL_ARG_DST, geometry.y);
    if (adds_last(descriptor) && adds_last(in_place) &&
        in_place.weights_desc() == descriptor.weights_desc()) {
      kernel->set_in_place(in_place, dnnl::convolution_forward(in_place), in_place_arguments);
    } else {
      kernel->copy_addend(geometry.y.get_size());
    }
  }
  return kernel;
}

// Gradients name the forward convolution that they belong to; it has no post-ops.
dnnl::primitive_attr user_scratchpad() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

std::unique_ptr<Kernel> make_backward_data(const Convolution& c, const Geometry& g) {
  const auto hint = forward_descriptor(c, g, user_scratchpad());
  if (!hint) return nullptr;
  const dnnl::convolution_backward_data::primitive_desc descriptor(
      engine(), dnnl::algorithm::convolution_direct, g.x, any_weight(c, c.dtype), g.y, g.stride, g.dilation,
      g.padding, g.end, hint, user_scratchpad(), kAllowEmpty);
  if (!descriptor || is_reference(descriptor.impl_info_str())) return nullptr;
  return std::make_unique<ConvolutionKernel>(
      c, descriptor, dnnl::convolution_backward_data(descriptor),
      Primitive::Arguments{{DNNL_ARG_DIFF_DST, descriptor.diff_dst_desc()},
                           {DNNL_ARG_WEIGHTS, descriptor.weights_desc()},
                           {DNNL_ARG_DIFF_SRC, descriptor.diff_src_desc()}},
      descriptor.weights_desc());
}

std::unique_ptr<Kernel> make_backward_weights(const Convolution& c, const Geometry& g) {
  const auto hint = forward_descriptor(c, g, user_scratchpad());
  if (!hint) return nullptr;
  const dnnl::convolution_backward_weights::primitive_desc descriptor(
      engine(), dnnl::algorithm::convolution_direct, g.x, any_weight(c, c.weight_dtype), g.y, g.stride,
      g.dilation, g.padding, g.end, hint, user_scratchpad(), kAllowEmpty);
  if (!descriptor || is_reference(descriptor.impl_info_str())) return nullptr;
  return std::make_unique<ConvolutionKernel>(
      c, descriptor, dnnl::convolution_backward_weights(descriptor),
      Primitive::Arguments{{DNNL_ARG_SRC, descriptor.src_desc()},
                           {DNNL_ARG_DIFF_DST, descriptor.diff_dst_desc()},
                           {DNNL_ARG_DIFF_WEIGHTS, descriptor.diff_weights_desc()}},
      descriptor.diff_weights_desc());
}

std::unique_ptr<Kernel> make_convolution(const KernelRequest& request) {
  const Convolution c = convolution_of(request);
  if (c.dtype != DType::float32 && c.dtype != DType::bfloat16) return nullptr;
  if (c.empty()) return nullptr;
  use_threads(threads_for(c.operations()));
  const Geometry geometry(c);
  switch (c.kind) {
    case ConvolutionKind::forward:
      return make_forward(c, geometry);
    case ConvolutionKind::backward_data:
      return make_backward_data(c, geometry);
    case ConvolutionKind::backward_weights:
      return make_backward_weights(c, geometry);
  }
  return nullptr;
}

MXPIPE_KERNEL("convolution", 200, make_convolution);
MXPIPE_KERNEL("convolution_backward_data", 200, make_convolution);
MXPIPE_KERNEL("convolution_backward_weights", 200, make_convolution);

}  // namespace
}  // namespace mxpipe::onednn
