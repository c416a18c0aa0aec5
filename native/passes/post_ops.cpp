// post_ops: what follows matrix work at once becomes its last step, done while the result is in registers:
// the addition of a residual, an activation.
#include <array>

#include "passes/passes.hpp"
#include "passes/rewriter.hpp"

namespace mxpipe {
namespace {

// Whether `layer` has an attribute `activation` that may name `activation`. Where a gradient needs the number
// in front of it, that number has a second reader and the two stay apart.
bool takes(const Node& layer, const Node& activation) {
  if (is_op(activation, "relu")) return is_op(layer, "fully_connected") || is_op(layer, "convolution");
  if (!is_op(layer, "fully_connected")) return false;
  if (is_op(activation, "gelu")) return !activation.attributes.boolean("approximate");
  return is_op(activation, "tanh") || is_op(activation, "sigmoid");
}
// Ops with an input `addend` behind `bias`.
constexpr std::array<std::string_view, 1> kAdders{"convolution"};

bool is_any_of(const Node& node, std::span<const std::string_view> names) {
  for (const std::string_view name : names) {
    if (is_op(node, name)) return true;
  }
  return false;
}

class Attacher {
 public:
  explicit Attacher(const Graph& graph) : graph_(graph), uses_(count_uses(graph)), rewriter_(graph) {}

  Graph run() {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      const auto index = static_cast<std::int32_t>(i);
      if (!attach_activation(index) && !attach_addend(index)) rewriter_.copy(index);
    }
    return drop_dead(rewriter_.finish());
  }

 private:
  // The copy of `value`'s producer, where it has no activation yet and this one reader.
  Node* producer(Value value) {
    const Value copied = rewriter_.get(value);
    Node& node = rewriter_.graph().nodes[static_cast<std::size_t>(copied.node)];
    const bool alone = uses_[static_cast<std::size_t>(value.node)] == 1;
    const Attribute* const activation = node.attributes.find("activation");
    const bool free = alone && activation != nullptr && *activation == Attribute(std::string());
    return free ? &node : nullptr;
  }

  bool attach_activation(std::int32_t index) {
    const Node& node = graph_.nodes[static_cast<std::size_t>(index)];
    if (node.kind != NodeKind::op || node.inputs.empty()) return false;
    const Value made = behind_views(node.inputs[0]);
    Node* const layer = made.valid() ? producer(made) : nullptr;
    if (layer == nullptr || !takes(*layer, node)) return false;
    layer->attributes.set("activation", std::string(node.op->name));
    rewriter_.set({index, 0}, rewriter_.get(node.inputs[0]));
    return true;
  }

  // What `value` shows under another shape, if each is read once; else an invalid value.
  Value behind_views(Value value) const {
    while (uses_[static_cast<std::size_t>(value.node)] == 1) {
      const Node& node = graph_.node(value);
      if (node.kind != NodeKind::op || !node.op || !node.op->view) return value;
      value = node.inputs[0];
    }
    return {};
  }

  // A convolution moves to where its result is added to another image.
  bool attach_addend(std::int32_t index) {
    const Node& node = graph_.nodes[static_cast<std::size_t>(index)];
    if (!is_op(node, "add")) return false;
    const std::size_t later = node.inputs[0].node > node.inputs[1].node ? 0 : 1;
    for (const std::size_t side : {later, 1 - later}) {
      const Value image = node.inputs[side];
      const Value addend = node.inputs[1 - side];
      const Node* const found = producer(image);
      if (found == nullptr || !is_any_of(*found, kAdders) || found->inputs.size() > 3 ||
          image.node == addend.node)
        continue;
      if (graph_.type(addend) != found->outputs[0]) continue;
      Node layer = *found;
      GraphBuilder builder(rewriter_.graph());
      if (layer.inputs.size() == 2) {
        const TensorType weight = builder.type(layer.inputs[1]);
        layer.inputs.push_back(builder.zeros({weight.dtype, Shape{weight.shape[0]}}));
      }
      layer.inputs.push_back(rewriter_.get(addend));
      rewriter_.set({index, 0}, builder.call(layer.op->name, layer.inputs, layer.attributes));
      return true;
    }
    return false;
  }

  const Graph& graph_;
  std::vector<int> uses_;
  Rewriter rewriter_;
};

}  // namespace

Graph attach_post_ops(const Graph& graph) { return Attacher(graph).run(); }

}  // namespace mxpipe
