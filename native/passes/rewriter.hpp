// The loop that passes share: copy a graph node by node, giving each old value a new one.
#pragma once

#include <string_view>
#include <vector>

#include "graph/graph.hpp"
#include "ops/registry.hpp"

namespace mxpipe {

class Rewriter {
 public:
  explicit Rewriter(const Graph& from) : from_(from), values_(from.nodes.size()) {
    for (std::size_t i = 0; i < from.nodes.size(); ++i) values_[i].resize(from.nodes[i].outputs.size());
  }

  Graph& graph() { return to_; }
  const Graph& graph() const { return to_; }
  bool has(Value old) const { return values_[index(old)][static_cast<std::size_t>(old.output)].valid(); }
  Value get(Value old) const { return values_[index(old)][static_cast<std::size_t>(old.output)]; }
  void set(Value old, Value fresh) { values_[index(old)][static_cast<std::size_t>(old.output)] = fresh; }

  // Copies a node with its inputs replaced; all its outputs become known.
  void copy(std::int32_t old_node) {
    Node node = from_.nodes[static_cast<std::size_t>(old_node)];
    for (Value& input : node.inputs) input = get(input);
    adopt(old_node, std::move(node));
  }

  void adopt(std::int32_t old_node, Node node) {
    const auto outputs = static_cast<std::int32_t>(node.outputs.size());
    const Value fresh = to_.add_op(std::move(node));
    for (std::int32_t output = 0; output < outputs; ++output) set({old_node, output}, {fresh.node, output});
  }

  // Ends the rewrite: inputs keep their order (all must have been copied), outputs and updates follow.
  Graph finish() {
    for (const std::int32_t input : from_.inputs) to_.inputs.push_back(get({input, 0}).node);
    for (const Value output : from_.outputs) to_.outputs.push_back(get(output));
    for (const Update& update : from_.updates) to_.updates.push_back({update.input, get(update.value)});
    return std::move(to_);
  }

 private:
  static std::size_t index(Value value) { return static_cast<std::size_t>(value.node); }

  const Graph& from_;
  Graph to_;
  std::vector<std::vector<Value>> values_;
};

inline bool is_op(const Node& node, std::string_view name) {
  return node.kind == NodeKind::op && node.op && node.op->name == name;
}

// A graph without cycles whose nodes may come before their inputs, in an order in which they do not; nodes
// stay where they are if they can.
Graph in_order(const Graph& graph);
// The graph without nodes that nothing reads.
Graph drop_dead(const Graph& graph);
// Marks the nodes that outputs, updates or inputs keep alive.
std::vector<bool> live_nodes(const Graph& graph);

}  // namespace mxpipe
