// float16 and bfloat16 by way of float32.
#pragma once

#include "kernels/kernel.hpp"

namespace mxpipe {

bool has_half(const KernelRequest& request);  // among inputs and outputs

// Converts 16-bit inputs to float32 in scratch, runs the float32 kernel, rounds its results once. Other
// inputs and outputs pass through. Bytes: 6 more an element than a kernel of its own.
std::unique_ptr<Kernel> make_widened(const KernelRequest& request);

}  // namespace mxpipe
