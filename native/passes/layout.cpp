// layout: images become channels-last, which is what convolutions, pools and normalisation read fastest.
//
// Every value may be known in two forms: as written (channels first), and with the channels moved to the last
// axis. Ops that name a `layout`, and normalisation over the channel axis, switch to channels-last;
// elementwise ops, reductions, concatenations and slices follow where an operand already is; everything else
// asks for the form as written. A change of form is a transpose in the graph, made once for each value, so
// that the plan shows what the pass chose.
#include <algorithm>
#include <map>
#include <numeric>

#include "passes/passes.hpp"
#include "passes/rewriter.hpp"

namespace mxpipe {
namespace {

// Axes of the channels-last form, of a value as written; and the way back.
Integers to_last(int rank) {
  Integers axes(static_cast<std::size_t>(rank));
  std::iota(axes.begin(), axes.end(), 1);
  axes.front() = 0;
  axes.back() = 1;
  for (int axis = 1; axis + 1 < rank; ++axis) axes[static_cast<std::size_t>(axis)] = axis + 1;
  return axes;
}
Integers to_first(int rank) {
  Integers axes(static_cast<std::size_t>(rank));
  std::iota(axes.begin(), axes.end(), -1);
  axes[0] = 0;
  axes[1] = rank - 1;
  return axes;
}

Shape permuted(const Shape& shape, const Integers& axes) {
  Shape result;
  for (const std::int64_t axis : axes) result.push_back(shape[static_cast<int>(axis)]);
  return result;
}

// Where axis `axis` as written lies in the channels-last form.
std::int64_t moved_axis(std::int64_t axis, int rank) {
  if (axis == 0) return 0;
  return axis == 1 ? rank - 1 : axis - 1;
}

// Of a list with an entry an axis.
Integers moved(const Integers& values) {
  Integers result;
  for (const std::int64_t axis : to_last(static_cast<int>(values.size())))
    result.push_back(values[static_cast<std::size_t>(axis)]);
  return result;
}

bool is_any_of(const Node& node, std::initializer_list<std::string_view> names) {
  return std::any_of(names.begin(), names.end(), [&](std::string_view name) { return is_op(node, name); });
}

class LayoutChooser {
 public:
  explicit LayoutChooser(const Graph& graph) : graph_(graph), rewriter_(graph) {}

  Graph run() {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      const auto index = static_cast<std::int32_t>(i);
      if (!becomes_channels_last(index)) keep(index);
    }
    for (const Value output : graph_.outputs) as_written(output);
    for (const Update& update : graph_.updates) as_written(update.value);
    return rewriter_.finish();
  }

 private:
  int rank(Value old) const { return graph_.type(old).shape.rank(); }
  bool is_last(Value old) const { return last_.contains(old); }

  // ------------------------------------------------------------------------------------------------- forms

  Value as_written(Value old) {
    if (!rewriter_.has(old)) rewriter_.set(old, permute(last_.at(old), to_first(rank(old)), rank(old) - 1));
    return rewriter_.get(old);
  }

  Value channels_last(Value old) {
    const auto found = last_.find(old);
    if (found != last_.end()) return found->second;
    const Value made = made_channels_last(old);
    last_[old] = made;
    return made;
  }

  Value made_channels_last(Value old) {
    const Node& node = graph_.node(old);
    const Integers axes = to_last(rank(old));
    const Integers shape = permuted(graph_.type(old).shape, axes).to_vector();
    // What has no large operand is made again in this form: cheaper than to move what it makes.
    if (is_op(node, "full")) return call("full", {}, with(node.attributes, "shape", shape));
    if (is_op(node, "broadcast_to"))
      return call("broadcast_to", {broadcast_last(node.inputs[0], rank(old))}, with({}, "shape", shape));
    return permute(as_written(old), axes, 1);
  }

  Value permute(Value fresh, const Integers& axes, int channel_axis) {
    const Shape from = rewriter_.graph().type(fresh).shape;
    const std::int64_t channels = from[channel_axis];
    const bool stays_in_place = channels == 1 || from.size() == from[0] * channels;
    if (stays_in_place) return call("reshape", {fresh}, with({}, "shape", permuted(from, axes).to_vector()));
    return call("transpose", {fresh}, with({}, "axes", axes));
  }

  Value call(std::string_view op, std::vector<Value> inputs, Attributes attributes) {
    return GraphBuilder(rewriter_.graph()).call(op, std::move(inputs), std::move(attributes));
  }

  static Attributes with(Attributes attributes, std::string_view name, Attribute value) {
    attributes.set(name, std::move(value));
    return attributes;
  }

  // ------------------------------------------------------------------------------------------------- nodes

  void keep(std::int32_t index) {
    Node node = graph_.nodes[static_cast<std::size_t>(index)];
    for (Value& input : node.inputs) input = as_written(input);
    rewriter_.adopt(index, std::move(node));
  }

  // Appends `node`; results of at least three axes are channels-last unless `plain`.
  bool add(std::int32_t index, Node node, bool plain = false) {
    std::vector<TensorType> types;
    for (const Value input : node.inputs) types.push_back(rewriter_.graph().type(input));
    node.outputs = node.op->infer(types, node.attributes);
    const auto outputs = static_cast<std::int32_t>(node.outputs.size());
    const std::int32_t fresh = rewriter_.graph().add_op(std::move(node)).node;
    for (std::int32_t output = 0; output < outputs; ++output) {
      const Value old{index, output};
      if (plain || rank(old) < 3) {
        rewriter_.set(old, {fresh, output});
      } else {
        last_[old] = {fresh, output};
      }
    }
    return true;
  }

  bool becomes_channels_last(std::int32_t index) {
    const Node& node = graph_.nodes[static_cast<std::size_t>(index)];
    if (node.kind != NodeKind::op || node.inputs.empty() || node.op->random) return false;
    if (!node.op->images.empty()) return image_op(index, node);
    if (node.op->lower) return elementwise(index, node);
    if (!is_last(node.inputs[0])) return false;
    if (is_any_of(node, {"sum", "mean", "prod", "max", "min"})) return reduction(index, node);
    if (is_op(node, "concatenate")) return concatenation(index, node);
    if (is_op(node, "slice")) return slice(index, node);
    return false;
  }

  // Convolutions always; pools and normalisation where an image already is channels-last.
  bool image_op(std::int32_t index, Node node) {
    const bool matrix_work = node.op->name.starts_with("convolution");
    bool near = false;
    for (const int image : node.op->images) {
      if (static_cast<std::size_t>(image) < node.inputs.size()) {
        near = near || is_last(node.inputs[static_cast<std::size_t>(image)]);
      }
    }
    if (rank(node.inputs[static_cast<std::size_t>(node.op->images[0])]) < 3 || !(matrix_work || near) ||
        !name_channels_last(node))
      return false;
    const std::vector<Value> old = node.inputs;
    for (std::size_t i = 0; i < old.size(); ++i) {
      const auto& images = node.op->images;
      const bool is_image = std::find(images.begin(), images.end(), static_cast<int>(i)) != images.end();
      node.inputs[i] = is_image ? channels_last(old[i]) : as_written(old[i]);
    }
    const bool makes_weight = node.op->name == "convolution_backward_weights";
    return add(index, std::move(node), makes_weight);
  }

  // False where the node says that its channels are elsewhere than on axis 1.
  bool name_channels_last(Node& node) const {
    if (node.attributes.find("layout")) {
      std::string layout = node.attributes.string("layout");
      if (layout.size() < 3 || layout[1] != 'C') return false;
      layout.erase(1, 1);
      node.attributes.set("layout", layout + "C");
      return true;
    }
    const int axes = rank(node.inputs[static_cast<std::size_t>(node.op->images[0])]);
    if (node.attributes.integer("axis") != 1) return false;
    node.attributes.set("axis", std::int64_t{axes - 1});
    return true;
  }

  // Follows its largest operand.
  bool elementwise(std::int32_t index, Node node) {
    const int axes = rank({index, 0});
    if (axes < 3) return false;
    Value largest;
    const auto size = [&](Value value) { return graph_.type(value).shape.size(); };
    for (const Value input : node.inputs) {
      if (is_op(graph_.node(input), "full")) continue;
      const bool leads =
          !largest.valid() || size(input) > size(largest) || (size(input) == size(largest) && is_last(input));
      if (leads) largest = input;
    }
    if (!largest.valid() || rank(largest) != axes || !is_last(largest)) return false;
    for (Value& input : node.inputs) input = broadcast_last(input, axes);
    if (node.attributes.find("shape")) node.attributes.set("shape", moved(node.attributes.integers("shape")));
    return add(index, std::move(node));
  }

  // An operand of an elementwise op of `axes` axes: axes that broadcasting would add are added first.
  Value broadcast_last(Value old, int axes) {
    const int own = rank(old);
    if (own == axes) return channels_last(old);
    if (own == 0) return as_written(old);
    Shape shape;
    for (int axis = own; axis < axes; ++axis) shape.push_back(1);
    for (const std::int64_t size : graph_.type(old).shape) shape.push_back(size);
    const Value full = call("reshape", {as_written(old)}, with({}, "shape", shape.to_vector()));
    return permute(full, to_last(axes), 1);
  }

  bool reduction(std::int32_t index, Node node) {
    const int axes = rank(node.inputs[0]);
    Integers reduced;
    bool keeps_channels = true;
    for (const std::int64_t axis : node.attributes.integers("axis")) {
      reduced.push_back(moved_axis(axis, axes));
      if (axis == 1) keeps_channels = false;
    }
    std::sort(reduced.begin(), reduced.end());
    const bool keepdims = node.attributes.boolean("keepdims");
    const auto spatial_left = axes - 2 -
                              std::count_if(reduced.begin(), reduced.end(),
                                            [&](std::int64_t axis) { return axis != 0 && axis != axes - 1; });
    // Without the reduced axes, what is left must lie in the order that is written.
    if (!keepdims && keeps_channels && spatial_left > 0) return false;
    node.attributes.set("axis", reduced);
    node.inputs[0] = channels_last(node.inputs[0]);
    return add(index, std::move(node), !keepdims);
  }

  bool concatenation(std::int32_t index, Node node) {
    const int axes = rank(node.inputs[0]);
    const std::int64_t axis = node.attributes.integer("axis");
    node.attributes.set("axis", moved_axis(axis < 0 ? axis + axes : axis, axes));
    for (Value& input : node.inputs) input = channels_last(input);
    return add(index, std::move(node));
  }

  bool slice(std::int32_t index, Node node) {
    for (const std::string_view name : {"begin", "end", "step"})
      node.attributes.set(name, moved(node.attributes.integers(name)));
    node.inputs[0] = channels_last(node.inputs[0]);
    return add(index, std::move(node));
  }

  const Graph& graph_;
  Rewriter rewriter_;
  std::map<Value, Value> last_;  // old value -> its channels-last form
};

}  // namespace

Graph choose_layouts(const Graph& graph) { return LayoutChooser(graph).run(); }

}  // namespace mxpipe
