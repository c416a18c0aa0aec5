// The graph: what eager calls, autograd and hybridize all make, and what passes rewrite.
// What enters: typed inputs and op nodes, appended in topological order. What leaves: values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "graph/attributes.hpp"
#include "graph/program.hpp"
#include "graph/shape.hpp"

namespace mxpipe {

struct OpSchema;

// Output `output` of node `node`.
struct Value {
  std::int32_t node = -1;
  std::int32_t output = 0;

  bool valid() const { return node >= 0; }
  auto operator<=>(const Value&) const = default;
};

enum class NodeKind : std::uint8_t { input, constant, op };

using Bytes = std::vector<std::byte>;

struct Node {
  NodeKind kind = NodeKind::op;
  const OpSchema* op = nullptr;  // of an op node
  Attributes attributes;
  std::vector<Value> inputs;
  std::vector<TensorType> outputs;
  std::string name;                        // of an input; free text elsewhere
  std::shared_ptr<const Bytes> constant;   // of a constant: row-major bytes
  std::shared_ptr<const Program> program;  // of an "elementwise" node, made by the fuse pass
};

// A captured input that the graph overwrites when it runs: `value` is written to input `input`'s storage
// after every read of its old content.
struct Update {
  std::int32_t input = 0;  // position in Graph::inputs
  Value value;
};

struct Graph {
  std::vector<Node> nodes;           // in topological order
  std::vector<std::int32_t> inputs;  // node ids, in calling order
  std::vector<Value> outputs;
  std::vector<Update> updates;

  const Node& node(Value value) const { return nodes[static_cast<std::size_t>(value.node)]; }
  const TensorType& type(Value value) const {
    return node(value).outputs[static_cast<std::size_t>(value.output)];
  }

  Value add_input(TensorType type, std::string name);
  Value add_constant(TensorType type, Bytes bytes);
  Value add_op(Node node);
};

// For every node, how many times its outputs are read by nodes, graph outputs and updates.
std::vector<int> count_uses(const Graph& graph);

}  // namespace mxpipe
