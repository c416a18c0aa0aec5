#include "kernels/convolution.hpp"

#include <functional>
#include <numeric>

namespace mxpipe {
namespace {

std::int64_t product(const Integers& values) {
  return std::accumulate(values.begin(), values.end(), std::int64_t{1}, std::multiplies<>());
}

}  // namespace

std::int64_t Convolution::positions() const { return product(result); }
std::int64_t Convolution::volume() const { return product(kernel); }

double Convolution::operations() const {
  return 2.0 * static_cast<double>(batch) * static_cast<double>(positions()) * static_cast<double>(out) *
         static_cast<double>(in / groups) * static_cast<double>(volume());
}

Convolution convolution_of(const KernelRequest& request) {
  Convolution c;
  const Attributes& attributes = request.attributes;
  if (request.op == "convolution_backward_data") c.kind = ConvolutionKind::backward_data;
  if (request.op == "convolution_backward_weights") c.kind = ConvolutionKind::backward_weights;
  const bool forward = c.kind == ConvolutionKind::forward;
  const bool of_data = c.kind == ConvolutionKind::backward_data;
  const TensorType& x = of_data ? request.outputs[0] : request.inputs[0];
  const TensorType& weight = forward || of_data ? request.inputs[1] : request.outputs[0];
  const TensorType& y = forward ? request.outputs[0] : request.inputs[of_data ? 0 : 1];
  c.layout = layout_of(request.op, attributes, x.shape.rank());
  c.dtype = x.dtype;
  c.weight_dtype = weight.dtype;
  c.batch = x.shape[0];
  c.groups = attributes.integer("groups");
  c.in = x.shape[c.layout.channel_axis()];
  c.out = y.shape[c.layout.channel_axis()];
  c.size = c.layout.sizes(x.shape);
  c.result = c.layout.sizes(y.shape);
  c.kernel = Integers(weight.shape.begin() + 2, weight.shape.end());
  c.stride = axis_values(request.op, attributes, "stride", c.layout.spatial, 1, 1);
  c.padding = axis_values(request.op, attributes, "padding", c.layout.spatial, 0, 0);
  c.dilation = axis_values(request.op, attributes, "dilation", c.layout.spatial, 1, 1);
  if (forward) {
    c.bias = request.inputs.size() > 2;
    c.addend = request.inputs.size() > 3;
    c.relu = attributes.string("activation") == "relu";
    if (c.bias) c.bias_dtype = request.inputs[2].dtype;
  }
  return c;
}

}  // namespace mxpipe
