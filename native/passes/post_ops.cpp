// post_ops: an activation behind matrix work becomes its last step, done while the result is in registers.
#include <array>

#include "passes/passes.hpp"
#include "passes/rewriter.hpp"

namespace mxpipe {
namespace {

// Ops with an attribute `activation` that names what is applied to the result.
constexpr std::array<std::string_view, 2> kProducers{"fully_connected", "convolution"};
// Their gradients are functions of the result alone: the number before is not needed again.
constexpr std::array<std::string_view, 1> kActivations{"relu"};

bool is_any_of(const Node& node, std::span<const std::string_view> names) {
  for (const std::string_view name : names) {
    if (is_op(node, name)) return true;
  }
  return false;
}

}  // namespace

Graph attach_activations(const Graph& graph) {
  const std::vector<int> uses = count_uses(graph);
  Rewriter rewriter(graph);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    const auto index = static_cast<std::int32_t>(i);
    if (is_any_of(node, kActivations)) {
      const Value input = node.inputs[0];
      const Node& producer = graph.node(input);
      if (is_any_of(producer, kProducers) && producer.attributes.string("activation").empty() &&
          uses[static_cast<std::size_t>(input.node)] == 1) {
        // The producer was copied without activation; it has this one reader, so its copy can be changed.
        const Value copied = rewriter.get(input);
        rewriter.graph().nodes[static_cast<std::size_t>(copied.node)].attributes.set(
            "activation", std::string(node.op->name));
        rewriter.set({index, 0}, copied);
        continue;
      }
    }
    rewriter.copy(index);
  }
  return rewriter.finish();
}

}  // namespace mxpipe
