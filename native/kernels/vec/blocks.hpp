// Floating arrays of any width as float32 blocks, for kernels that compute in float32.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "graph/dtype.hpp"
#include "kernels/parallel.hpp"
#include "kernels/vec/isa.hpp"

namespace mxpipe {

// Converts `count` elements; neither pointer needs alignment or padding.
void load_floats(DType dtype, const void* source, float* destination, std::int64_t count);
void store_floats(DType dtype, const float* source, void* destination, std::int64_t count);

// The same for whole arrays, in parallel.
void load_array(DType dtype, const void* source, float* destination, std::int64_t count);
void store_array(DType dtype, const float* source, void* destination, std::int64_t count);

}  // namespace mxpipe
