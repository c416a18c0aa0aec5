// losses: softmax cross entropy and its gradient in one pass over the logits, where the gradient of the loss
// is known before the loss is: always, when the losses are averaged or weighted.
#include <algorithm>

#include "passes/passes.hpp"
#include "passes/rewriter.hpp"

namespace mxpipe {
namespace {

bool depends(const Graph& graph, Value start, std::int32_t target) {
  std::vector<bool> seen(graph.nodes.size(), false);
  std::vector<std::int32_t> stack{start.node};
  while (!stack.empty()) {
    const std::int32_t index = stack.back();
    stack.pop_back();
    if (index == target) return true;
    if (index < target || seen[static_cast<std::size_t>(index)])
      continue;  // inputs come before their readers
    seen[static_cast<std::size_t>(index)] = true;
    for (const Value input : graph.nodes[static_cast<std::size_t>(index)].inputs) stack.push_back(input.node);
  }
  return false;
}

// The forward node whose gradient `backward` computes, or -1.
std::int32_t forward_of(const Graph& graph, const Node& backward) {
  const Value log_sum = backward.inputs[3];
  const Node& forward = graph.node(log_sum);
  const bool same = is_op(forward, "softmax_cross_entropy") && log_sum.output == 1 &&
                    forward.inputs[0] == backward.inputs[1] && forward.inputs[1] == backward.inputs[2];
  return same ? log_sum.node : -1;
}

}  // namespace

Graph join_losses(const Graph& graph) {
  Graph joined = graph;
  bool changed = false;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& backward = graph.nodes[i];
    if (!is_op(backward, "softmax_cross_entropy_backward")) continue;
    const std::int32_t index = forward_of(graph, backward);
    if (index < 0) continue;
    Node& forward = joined.nodes[static_cast<std::size_t>(index)];
    if (forward.inputs.size() > 2 || depends(graph, backward.inputs[0], index)) continue;
    forward.op = &op_schema("softmax_cross_entropy_and_gradient");
    forward.inputs.push_back(backward.inputs[0]);
    forward.outputs.push_back(backward.outputs[0]);
    const Value old{static_cast<std::int32_t>(i), 0}, fresh{index, 2};
    for (Node& reader : joined.nodes) std::replace(reader.inputs.begin(), reader.inputs.end(), old, fresh);
    std::replace(joined.outputs.begin(), joined.outputs.end(), old, fresh);
    for (Update& update : joined.updates) {
      if (update.value == old) update.value = fresh;
    }
    changed = true;
  }
  return changed ? drop_dead(in_order(joined)) : joined;
}

}  // namespace mxpipe
