// What the kernels of convolution and of its two gradients have in common.
// What enters: a kernel request. What leaves: sizes that oneDNN and the portable kernels both take.
#pragma once

#include <cstdint>

#include "graph/spatial.hpp"
#include "kernels/kernel.hpp"

namespace mxpipe {

enum class ConvolutionKind : std::uint8_t { forward, backward_data, backward_weights };

struct Convolution {
  ConvolutionKind kind = ConvolutionKind::forward;
  DType dtype = DType::float32;  // of x and of the result
  DType weight_dtype = DType::float32, bias_dtype = DType::float32;
  SpatialLayout layout;
  std::int64_t batch = 0, groups = 1, in = 0, out = 0;  // channels: all groups together
  Integers size, result;                                // spatial sizes of x and of the result
  Integers kernel, stride, padding, dilation;
  bool bias = false, addend = false, relu = false;

  std::int64_t positions() const;  // of the result, an image and channel
  std::int64_t volume() const;     // elements of the kernel
  double operations() const;
  bool empty() const { return operations() == 0; }
};

Convolution convolution_of(const KernelRequest& request);

}  // namespace mxpipe
