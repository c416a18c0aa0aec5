// simplify: dead code, common subexpressions, and algebra that keeps every bit. One walk in topological
// order.
#include <algorithm>
#include <array>
#include <map>
#include <sstream>
#include <string>

#include "passes/passes.hpp"
#include "passes/rewriter.hpp"

namespace mxpipe {
namespace {

// Two nodes with equal keys compute the same bytes: random ops too, since they are functions of key and
// offset.
std::string key_of(const Node& node) {
  std::ostringstream key;
  key.precision(17);
  key << node.op->name << "{" << node.attributes << "}";
  for (const Value input : node.inputs) key << " " << input.node << "." << input.output;
  for (const TensorType& type : node.outputs) key << " " << type;
  return key.str();
}

std::string key_of_constant(const Node& node) {
  std::ostringstream key;
  key << "constant " << node.outputs[0] << " ";
  key.write(reinterpret_cast<const char*>(node.constant->data()),
            static_cast<std::streamsize>(node.constant->size()));
  return key.str();
}

// Axes that swap the last two and keep the rest.
bool swaps_last_two(const Integers& axes) {
  const std::size_t rank = axes.size();
  if (rank < 2) return false;
  for (std::size_t i = 0; i + 2 < rank; ++i) {
    if (axes[i] != static_cast<std::int64_t>(i)) return false;
  }
  return axes[rank - 1] == static_cast<std::int64_t>(rank) - 2 &&
         axes[rank - 2] == static_cast<std::int64_t>(rank) - 1;
}

class Simplifier {
 public:
  explicit Simplifier(const Graph& from) : from_(from), rewriter_(from) {}

  Graph run() {
    const std::vector<bool> live = live_nodes(from_);
    for (std::size_t i = 0; i < from_.nodes.size(); ++i) {
      if (live[i]) visit(static_cast<std::int32_t>(i));
    }
    Graph result = rewriter_.finish();
    return result;
  }

 private:
  void visit(std::int32_t index) {
    Node node = from_.nodes[static_cast<std::size_t>(index)];
    if (node.kind == NodeKind::input) return rewriter_.copy(index);
    for (Value& input : node.inputs) input = rewriter_.get(input);
    if (node.kind == NodeKind::op) {
      shorten_reduction(node);
      if (const Value same = identity(node); same.valid()) return rewriter_.set({index, 0}, same);
      if (is_op(node, "matmul")) absorb_transposes(node);
    }
    const std::string key = node.kind == NodeKind::constant ? key_of_constant(node) : key_of(node);
    const auto [found, fresh] =
        seen_.try_emplace(key, static_cast<std::int32_t>(rewriter_.graph().nodes.size()));
    if (fresh) return rewriter_.adopt(index, std::move(node));
    for (std::int32_t output = 0; output < static_cast<std::int32_t>(node.outputs.size()); ++output) {
      rewriter_.set({index, output}, {found->second, output});
    }
  }

  // A value that already holds what `node` would compute; may shorten a chain of views first.
  Value identity(Node& node) {
    const Graph& graph = rewriter_.graph();
    if (node.inputs.empty()) return {};
    if (is_op(node, "reshape") && is_op(graph.node(node.inputs[0]), "reshape")) {
      node.inputs[0] = graph.node(node.inputs[0]).inputs[0];
      node.attributes.set("shape",
                          node.outputs[0].shape.to_vector());  // may have referred to the skipped one's axes
    }
    const bool keeps_value = is_op(node, "reshape") || is_op(node, "stop_gradient") || is_op(node, "cast") ||
                             is_op(node, "broadcast_to");
    if (keeps_value && graph.type(node.inputs[0]) == node.outputs[0]) return node.inputs[0];
    return {};
  }

  // A sum or mean over axes of one entry is a view.
  void shorten_reduction(Node& node) {
    if (!is_op(node, "sum") && !is_op(node, "mean")) return;
    const TensorType from = rewriter_.graph().type(node.inputs[0]);
    const TensorType& to = node.outputs[0];
    if (from.dtype != to.dtype || from.shape.size() != to.shape.size() || to.shape.size() == 0) return;
    node = make_node(op_schema("reshape"), node.inputs, std::array{from}, {{"shape", to.shape.to_vector()}});
  }

  void absorb_transposes(Node& node) {
    absorb_transpose(node, 0, "transpose_a");
    absorb_transpose(node, 1, "transpose_b");
  }

  void absorb_transpose(Node& node, std::size_t input, std::string_view flag) {
    const Node& producer = rewriter_.graph().node(node.inputs[input]);
    if (!is_op(producer, "transpose") || !swaps_last_two(producer.attributes.integers("axes"))) return;
    node.inputs[input] = producer.inputs[0];
    node.attributes.set(flag, !node.attributes.boolean(flag));
  }

  const Graph& from_;
  Rewriter rewriter_;
  std::map<std::string, std::int32_t> seen_;
};

}  // namespace

Graph simplify(const Graph& graph) {  // rules leave producers without readers behind
  return drop_dead(Simplifier(graph).run());
}

}  // namespace mxpipe
