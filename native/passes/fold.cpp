// fold: in inference, the scale and shift of each channel behind a convolution or dense layer (batch norm
// with running statistics, say) become part of its weight and bias. Only what frozen inputs make is folded,
// so that hoist computes the new weight once.
//
//     activation-free layer(x, w, b) * s + t  =  layer(x, w * s, b * s + t)
#include <algorithm>

#include "passes/passes.hpp"
#include "passes/rewriter.hpp"

namespace mxpipe {
namespace {

// A layer, and the axis of its result that holds the weight's first axis.
struct Layer {
  const Node* node = nullptr;
  int channel_axis = 0;
};

class Folder {
 public:
  Folder(const Graph& graph, const std::vector<bool>& frozen)
      : graph_(graph), uses_(count_uses(graph)), frozen_(graph.nodes.size()), rewriter_(graph) {
    for (std::size_t i = 0; i < graph.inputs.size(); ++i)
      frozen_[static_cast<std::size_t>(graph.inputs[i])] = i < frozen.size() && frozen[i];
    for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
      const Node& node = graph.nodes[i];
      if (node.kind == NodeKind::input) continue;
      frozen_[i] = !(node.op && node.op->random) &&
                   std::all_of(node.inputs.begin(), node.inputs.end(), [&](Value v) { return is_frozen(v); });
    }
  }

  Graph run() {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      const auto index = static_cast<std::int32_t>(i);
      if (!fold(index)) rewriter_.copy(index);
    }
    return drop_dead(rewriter_.finish());
  }

 private:
  bool is_frozen(Value value) const { return frozen_[static_cast<std::size_t>(value.node)]; }

  // `value` as a layer that nobody else reads and that has no activation yet.
  Layer layer_of(Value value) const {
    const Node& node = rewriter_.graph().node(rewriter_.get(value));
    const bool dense = is_op(node, "fully_connected");
    if (!dense && !is_op(node, "convolution")) return {};
    const bool plain = node.attributes.string("activation").empty() && node.inputs.size() <= 3;
    if (!plain || uses_[static_cast<std::size_t>(value.node)] != 1) return {};
    const int rank = node.outputs[0].shape.rank();
    const bool channels_last = !dense && node.attributes.string("layout").back() == 'C';
    return {&node, dense || channels_last ? rank - 1 : 1};
  }

  bool fold(std::int32_t index) {
    const Node& node = graph_.nodes[static_cast<std::size_t>(index)];
    const bool scales = is_op(node, "multiply");
    if (!scales && !is_op(node, "add") && !is_op(node, "subtract")) return false;
    for (const std::size_t side : {0U, 1U}) {
      if (side == 1 && is_op(node, "subtract")) continue;
      const Value factor = node.inputs[1 - side];
      const Layer layer = layer_of(node.inputs[side]);
      if (!layer.node || is_frozen(node.inputs[side]) || !is_frozen(factor)) continue;
      if (node.outputs[0] != layer.node->outputs[0]) continue;
      if (!is_per_channel(graph_.type(factor), *layer.node, layer.channel_axis)) continue;
      rewriter_.set({index, 0}, folded(node, *layer.node, rewriter_.get(factor)));
      return true;
    }
    return false;
  }

  // One number, or one a channel, of the layer's own dtype.
  static bool is_per_channel(const TensorType& factor, const Node& layer, int channel_axis) {
    const TensorType& result = layer.outputs[0];
    if (factor.dtype != result.dtype || layer.inputs.size() < 2) return false;
    if (factor.shape.size() == 1) return true;
    const int own_axis = channel_axis - (result.shape.rank() - factor.shape.rank());
    return own_axis >= 0 && factor.shape[own_axis] == factor.shape.size() &&
           factor.shape.size() == result.shape[channel_axis];
  }

  Value folded(const Node& node, Node layer, Value factor) {  // a copy: the graph's nodes move as it grows
    GraphBuilder builder(rewriter_.graph());
    const TensorType weight = builder.type(layer.inputs[1]);
    const std::int64_t channels = weight.shape[0];
    const auto shaped = [&](Value value, const Shape& shape) {
      return builder.call("reshape", {value}, {{"shape", shape.to_vector()}});
    };
    if (builder.type(factor).shape.size() != channels)
      factor = builder.call("broadcast_to", {shaped(factor, Shape{1})}, {{"shape", Integers{channels}}});
    factor = shaped(factor, Shape{channels});
    const bool has_bias = layer.inputs.size() > 2;
    const std::string_view op = node.op->name;
    if (op == "multiply") {
      Shape column{channels};
      for (int axis = 1; axis < weight.shape.rank(); ++axis) column.push_back(1);
      layer.inputs[1] = builder.call("multiply", {layer.inputs[1], shaped(factor, column)});
      if (has_bias) layer.inputs[2] = builder.call("multiply", {layer.inputs[2], factor});
    } else if (has_bias) {
      layer.inputs[2] = builder.call(op, {layer.inputs[2], factor});
    } else {
      layer.inputs.push_back(op == "add" ? factor : builder.call("negative", {factor}));
    }
    return builder.call(layer.op->name, layer.inputs, layer.attributes);
  }

  const Graph& graph_;
  std::vector<int> uses_;
  std::vector<bool> frozen_;  // per node: frozen inputs and constants make it
  Rewriter rewriter_;
};

}  // namespace

Graph fold_channels(const Graph& graph, const CompileOptions& options) {
  return options.fold ? Folder(graph, options.frozen).run() : graph;
}

}  // namespace mxpipe
