// autodiff: reverse mode over the graph. Gradients are written with ops, so a gradient can be differentiated
// again.
#include "graph/error.hpp"
#include "passes/passes.hpp"

namespace mxpipe {
namespace {

Gradient concatenate_rows(Builder& builder, const Gradient& first, const Gradient& second) {
  const Attributes along_rows{{"axis", std::int64_t{0}}};
  return Gradient::row_sparse(builder.call("concatenate", {first.ids, second.ids}, along_rows),
                              builder.call("concatenate", {first.rows, second.rows}, along_rows));
}

class Reverse {
 public:
  Reverse(Graph& graph, std::span<const Value> variables)
      : graph_(graph), builder_(graph), size_(graph.nodes.size()), gradients_(size_), depends_(size_, false) {
    for (std::size_t i = 0; i < size_; ++i) gradients_[i].resize(graph.nodes[i].outputs.size());
    for (const Value variable : variables) depends_[static_cast<std::size_t>(variable.node)] = true;
    for (std::size_t i = 0; i < size_; ++i) {
      for (const Value input : graph.nodes[i].inputs) {
        if (depends_[static_cast<std::size_t>(input.node)]) depends_[i] = true;
      }
    }
  }

  void add(Value value, const Gradient& gradient) {
    Gradient& held = gradients_[static_cast<std::size_t>(value.node)][static_cast<std::size_t>(value.output)];
    const TensorType type = graph_.type(value);
    held = held.is_none() ? gradient : add_gradients(builder_, held, gradient, type);
  }

  void run() {
    for (std::size_t i = size_; i-- > 0;) visit(static_cast<std::int32_t>(i));
  }

  Gradient result(Value variable) {
    const Gradient& held =
        gradients_[static_cast<std::size_t>(variable.node)][static_cast<std::size_t>(variable.output)];
    if (held.is_none()) return builder_.zeros(TensorType(graph_.type(variable)));
    return canonical_gradient(builder_, held);
  }

 private:
  void visit(std::int32_t index) {
    const auto position = static_cast<std::size_t>(index);
    // A copy: the gradient function appends nodes, which may move the graph's storage.
    const Node node = graph_.nodes[position];
    if (node.kind != NodeKind::op || !depends_[position] || node.op->zero_gradient) return;
    std::vector<Value> incoming(node.outputs.size());
    std::vector<Value> outputs(node.outputs.size());
    bool reached = false;
    for (std::size_t output = 0; output < node.outputs.size(); ++output) {
      outputs[output] = {index, static_cast<std::int32_t>(output)};
      const Gradient& held = gradients_[position][output];
      if (held.is_none()) continue;
      incoming[output] = dense_gradient(builder_, held, node.outputs[output]);
      reached = true;
    }
    if (reached) propagate(node, outputs, incoming);
  }

  void propagate(const Node& node, const std::vector<Value>& outputs, const std::vector<Value>& incoming) {
    if (!node.op->gradient) {
      fail(ErrorKind::op, node.op->name, "must be differentiable to take part in a gradient; it is not.");
    }
    std::vector<bool> needed;
    for (const Value input : node.inputs) {
      needed.push_back(depends_[static_cast<std::size_t>(input.node)] &&
                       is_floating(graph_.type(input).dtype));
    }
    const std::vector<Gradient> results =
        node.op->gradient({builder_, node.attributes, node.inputs, outputs, incoming, needed});
    for (std::size_t input = 0; input < node.inputs.size() && input < results.size(); ++input) {
      if (needed[input] && !results[input].is_none()) add(node.inputs[input], results[input]);
    }
  }

  Graph& graph_;
  GraphBuilder builder_;
  std::size_t size_;
  std::vector<std::vector<Gradient>> gradients_;
  std::vector<bool> depends_;
};

}  // namespace

Value dense_gradient(Builder& builder, const Gradient& gradient, const TensorType& type) {
  if (!gradient.is_row_sparse()) return gradient.dense;
  return builder.call("row_sparse_to_dense", {gradient.ids, gradient.rows}, {{"rows", type.shape[0]}});
}

Gradient add_gradients(Builder& builder, const Gradient& first, const Gradient& second,
                       const TensorType& type) {
  if (first.is_row_sparse() && second.is_row_sparse()) return concatenate_rows(builder, first, second);
  return builder.call("add", {dense_gradient(builder, first, type), dense_gradient(builder, second, type)});
}

Gradient canonical_gradient(Builder& builder, const Gradient& gradient) {
  if (!gradient.is_row_sparse()) return gradient;
  const std::vector<Value> unique = builder.call_all("unique_rows", {gradient.ids, gradient.rows});
  return Gradient::row_sparse(unique[0], unique[1]);
}

std::vector<Gradient> append_gradients(Graph& graph, std::span<const Value> heads,
                                       std::span<const Value> head_gradients,
                                       std::span<const Value> variables) {
  Reverse reverse(graph, variables);
  for (std::size_t i = 0; i < heads.size(); ++i) reverse.add(heads[i], head_gradients[i]);
  reverse.run();
  std::vector<Gradient> results;
  for (const Value variable : variables) results.push_back(reverse.result(variable));
  return results;
}

}  // namespace mxpipe
