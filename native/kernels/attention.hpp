// What the attention kernels have in common. What enters: a request of attention or attention_backward. What
// leaves: sizes, strides, and where the operands of one head lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/kernel.hpp"
#include "kernels/vec/table.hpp"

namespace mxpipe {

struct AttentionProblem {
  explicit AttentionProblem(const KernelRequest& request);

  DType dtype = DType::float32;
  std::int64_t batch = 0, heads = 0, queries = 0, keys = 0, depth = 0;
  bool packed = false, causal = false, scores = false;
  double scale = 1, dropout = 0;
  std::size_t first = 0;    // input that holds q: 0 forward, 3 backward
  int mask = -1, key = -1;  // inputs, or -1
  DType mask_dtype = DType::boolean;
  std::int64_t mask_strides[4] = {};  // in elements, along (batch, heads, queries, keys); 0 where repeated
  std::int64_t query_stride = 0, key_stride = 0;  // elements from one token to the next

  std::int64_t units() const { return batch * heads; }
  // Of unit = batch index * heads + head, in elements.
  std::int64_t query_offset(std::int64_t unit) const { return offset(unit, queries, query_stride); }
  std::int64_t key_offset(std::int64_t unit) const { return offset(unit, keys, key_stride); }
  std::int64_t result_offset(std::int64_t unit) const { return offset(unit, queries, heads * depth); }
  std::int64_t mask_offset(std::int64_t unit) const {
    return unit / heads * mask_strides[0] + unit % heads * mask_strides[1];
  }
  // Elements of the arrays that hold k and v, from the start of the array that does: packed ones follow q.
  std::int64_t start_of(int operand) const { return packed ? operand * heads * depth : 0; }
  std::size_t array_of(int operand) const { return packed ? 0 : static_cast<std::size_t>(operand); }
  RandomKey random_key(std::span<const void* const> inputs) const;

 private:
  std::int64_t offset(std::int64_t unit, std::int64_t tokens, std::int64_t stride) const {
    return unit / heads * tokens * stride + unit % heads * depth;
  }
};

}  // namespace mxpipe
