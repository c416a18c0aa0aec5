// stop_gradient: the identity that gradients do not pass.
#include "ops/registry.hpp"

namespace mxpipe {

MXPIPE_OP{{
    .name = "stop_gradient",
    .doc = R"(Returns x itself; its gradient is zero. Any shape and dtype.

>>> npx.stop_gradient(np.ones(2))
array([1., 1.])
)",
    .inputs = {{.name = "x", .doc = "any array"}},
    .attributes = {},
    .infer = [](std::span<const TensorType> inputs, const Attributes&) { return std::vector{inputs[0]}; },
    .gradient = {},
    .lower = {},
    .zero_gradient = true,
    .view = true,
}};

}  // namespace mxpipe
