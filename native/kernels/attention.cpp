#include "kernels/attention.hpp"

#include <cmath>
#include <cstring>

namespace mxpipe {

AttentionProblem::AttentionProblem(const KernelRequest& request)
    : causal(request.attributes.boolean("causal")),
      scale(request.attributes.real("scale")),
      dropout(request.attributes.real("dropout")) {
  const bool backward = request.op == "attention_backward";
  first = backward ? 3 : 0;
  scores = backward && request.attributes.boolean("scores");
  const Shape& q = request.inputs[first].shape;
  dtype = request.inputs[first].dtype;
  packed = q.rank() == 5;
  batch = q[0];
  queries = q[1];
  heads = q[packed ? 3 : 2];
  depth = q.back();
  keys = packed ? queries : request.inputs[first + 1].shape[1];
  query_stride = key_stride = heads * depth * (packed ? 3 : 1);
  if (scale == 0) scale = depth == 0 ? 1 : 1 / std::sqrt(static_cast<double>(depth));
  const std::size_t arrays = first + (packed ? 1 : 3);
  if (dropout > 0) key = static_cast<int>(request.inputs.size()) - 1;
  if (request.inputs.size() > arrays + (dropout > 0 ? 1 : 0)) {
    mask = static_cast<int>(arrays);
    const TensorType& type = request.inputs[arrays];
    mask_dtype = type.dtype;
    const Shape strides = contiguous_strides(type.shape);
    const int missing = 4 - type.shape.rank();
    for (int axis = missing; axis < 4; ++axis) {
      mask_strides[axis] = type.shape[axis - missing] == 1 ? 0 : strides[axis - missing];
    }
  }
}

RandomKey AttentionProblem::random_key(std::span<const void* const> inputs) const {
  RandomKey result;
  if (key < 0) return result;
  const auto* words = static_cast<const std::byte*>(inputs[static_cast<std::size_t>(key)]);
  std::memcpy(&result.seed, words, 8);
  std::memcpy(&result.counter, words + 8, 8);
  return result;
}

}  // namespace mxpipe
