#include "ops/graph_text.hpp"

#include "graph/error.hpp"
#include "ops/registry.hpp"

namespace mxpipe {
namespace {

void print_value(std::ostream& stream, Value value) {
  stream << "%" << value.node;
  if (value.output != 0) stream << "." << value.output;
}

void print_node(std::ostream& stream, const Graph& graph, std::size_t index) {
  const Node& node = graph.nodes[index];
  stream << "%" << index << " = ";
  if (node.kind == NodeKind::input) {
    stream << "input " << node.name;
  } else if (node.kind == NodeKind::constant) {
    stream << "constant";
  } else {
    stream << (node.op ? node.op->name : "elementwise") << "(";
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (i) stream << ", ";
      print_value(stream, node.inputs[i]);
    }
    stream << ")";
    if (!node.attributes.entries().empty()) stream << " {" << node.attributes << "}";
    if (node.program) stream << " [" << node.program->instructions.size() << " instructions]";
  }
  stream << " :";
  for (const TensorType& type : node.outputs) stream << " " << type;
  stream << "\n";
}

void check_value(const Graph& graph, Value value, std::size_t limit, std::string_view where) {
  const bool exists = value.node >= 0 && static_cast<std::size_t>(value.node) < limit && value.output >= 0 &&
                      static_cast<std::size_t>(value.output) < graph.node(value).outputs.size();
  if (!exists)
    fail(ErrorKind::graph, where, "must read a value made before it; got %", value.node, ".", value.output,
         ".");
}

void check_node(const Graph& graph, std::size_t index) {
  const Node& node = graph.nodes[index];
  const std::string where = text("graph node ", index);
  std::vector<TensorType> types;
  for (const Value input : node.inputs) {
    check_value(graph, input, index, where);
    types.push_back(graph.type(input));
  }
  if (node.kind != NodeKind::op || !node.op) return;
  if (node.op->infer(types, node.attributes) != node.outputs) {
    fail(ErrorKind::graph, where, "recorded types must equal those that ", node.op->name, " infers.");
  }
}

}  // namespace

std::ostream& operator<<(std::ostream& stream, const Graph& graph) {
  for (std::size_t index = 0; index < graph.nodes.size(); ++index) print_node(stream, graph, index);
  stream << "return";
  for (std::size_t i = 0; i < graph.outputs.size(); ++i) {
    stream << (i ? ", " : " ");
    print_value(stream, graph.outputs[i]);
  }
  stream << "\n";
  for (const Update& update : graph.updates) {
    stream << "update %" << graph.inputs[static_cast<std::size_t>(update.input)] << " <- ";
    print_value(stream, update.value);
    stream << "\n";
  }
  return stream;
}

void verify(const Graph& graph) {
  for (std::size_t index = 0; index < graph.nodes.size(); ++index) check_node(graph, index);
  for (const std::int32_t input : graph.inputs) {
    check_value(graph, {input, 0}, graph.nodes.size(), "graph inputs");
    if (graph.nodes[static_cast<std::size_t>(input)].kind != NodeKind::input) {
      fail(ErrorKind::graph, "graph inputs", "must be input nodes; got %", input, ".");
    }
  }
  for (const Value output : graph.outputs) check_value(graph, output, graph.nodes.size(), "graph outputs");
  for (const Update& update : graph.updates) {
    check_value(graph, update.value, graph.nodes.size(), "graph updates");
    if (update.input < 0 || static_cast<std::size_t>(update.input) >= graph.inputs.size()) {
      fail(ErrorKind::graph, "graph updates", "must name an input; got ", update.input, ".");
    }
    const TensorType& target = graph.type({graph.inputs[static_cast<std::size_t>(update.input)], 0});
    if (!(graph.type(update.value) == target)) {
      fail(ErrorKind::graph, "graph updates", "must have the type of their input ", target, "; got ",
           graph.type(update.value), ".");
    }
  }
}

}  // namespace mxpipe
