#include "graph/graph.hpp"

#include <utility>

#include "graph/error.hpp"

namespace mxpipe {

Value Graph::add_input(TensorType type, std::string name) {
  Node node;
  node.kind = NodeKind::input;
  node.outputs.push_back(std::move(type));
  node.name = std::move(name);
  const Value value = add_op(std::move(node));
  inputs.push_back(value.node);
  return value;
}

Value Graph::add_constant(TensorType type, Bytes bytes) {
  if (bytes.size() != type.bytes()) {
    fail(ErrorKind::graph, "constant", "bytes must match the type; got ", bytes.size(), " for ", type, ".");
  }
  Node node;
  node.kind = NodeKind::constant;
  node.outputs.push_back(std::move(type));
  node.constant = std::make_shared<const Bytes>(std::move(bytes));
  return add_op(std::move(node));
}

Value Graph::add_op(Node node) {
  nodes.push_back(std::move(node));
  return {static_cast<std::int32_t>(nodes.size()) - 1, 0};
}

std::vector<int> count_uses(const Graph& graph) {
  std::vector<int> uses(graph.nodes.size(), 0);
  const auto use = [&](Value value) { ++uses[static_cast<std::size_t>(value.node)]; };
  for (const Node& node : graph.nodes) {
    for (const Value input : node.inputs) use(input);
  }
  for (const Value output : graph.outputs) use(output);
  for (const Update& update : graph.updates) use(update.value);
  return uses;
}

}  // namespace mxpipe
