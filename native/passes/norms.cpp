// norms: a relu behind a batch norm, and the addition of a residual between them, become part of its kernels,
// forward and backward: two to four passes over an activation fewer. In float32 no bit changes.
//
//   y = relu(batch_norm(x) [+ residual])          one batch_norm with activation and residual
//   m = multiply_if_positive(g, y), and
//   batch_norm_backward(m, x, ...)                one batch_norm_backward, whose last result is m, should
//                                                 others read it: it is the residual's gradient
#include <algorithm>
#include <map>

#include "passes/passes.hpp"
#include "passes/rewriter.hpp"

namespace mxpipe {
namespace {

class NormFuser {
 public:
  explicit NormFuser(const Graph& graph) : graph_(graph) {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      for (const Value input : graph_.nodes[i].inputs)
        readers_[input].push_back(static_cast<std::int32_t>(i));
    }
    for (const Value output : graph_.outputs) readers_[output].push_back(-1);
    for (const Update& update : graph_.updates) readers_[update.value].push_back(-1);
  }

  Graph run() {
    const auto count = static_cast<std::int32_t>(graph_.nodes.size());
    for (std::int32_t i = 0; i < count; ++i) {
      if (is_op(node(i), "relu")) fuse_forward(i);
    }
    return changed_ ? drop_dead(in_order(graph_)) : std::move(graph_);
  }

 private:
  Node& node(std::int32_t index) { return graph_.nodes[static_cast<std::size_t>(index)]; }

  // Whether `value` is the result of a batch norm without activation, and only one node reads it.
  bool is_open_norm(Value value) {
    const Node& norm = node(value.node);
    return is_op(norm, "batch_norm") && value.output == 0 && norm.inputs.size() == 3 &&
           norm.attributes.string("activation").empty() && readers_[value].size() == 1;
  }

  void fuse_forward(std::int32_t relu) {
    const Value before = node(relu).inputs[0];
    Value norm = before, residual;
    if (is_op(node(before.node), "add") && readers_[before].size() == 1) {
      norm = node(before.node).inputs[0];
      residual = node(before.node).inputs[1];
      // Of two batch norms the later one: it need not be moved behind the other.
      if (!is_open_norm(norm) || (is_open_norm(residual) && residual.node > norm.node))
        std::swap(norm, residual);
    }
    if (!is_open_norm(norm)) return;
    if (residual.valid() && (graph_.type(residual) != graph_.type(norm) || depends(residual.node, norm.node)))
      return;
    node(norm.node).attributes.set("activation", std::string("relu"));
    if (residual.valid()) node(norm.node).inputs.push_back(residual);
    replace({relu, 0}, norm);
    fuse_backward(norm.node);
    changed_ = true;
  }

  // `norm` has its activation, and its result is what the relu's result was.
  void fuse_backward(std::int32_t norm) {
    const Value y{norm, 0};
    const bool residual = node(norm).inputs.size() > 3;
    const std::vector<std::int32_t> masks = readers_[y];
    for (const std::int32_t mask : masks) {
      if (mask < 0 || !is_op(node(mask), "multiply_if_positive") || node(mask).inputs[1] != y) continue;
      const Value masked{mask, 0};
      const Value g = node(mask).inputs[0];
      if (graph_.type(g) != graph_.type(y)) continue;
      const std::vector<std::int32_t> readers = readers_[masked];
      if (!residual && readers.size() != 1) continue;
      const auto found = std::find_if(readers.begin(), readers.end(), [&](std::int32_t reader) {
        return reader >= 0 && is_backward_of(norm, node(reader), masked);
      });
      if (found != readers.end()) attach_mask(*found, norm, masked, g);
    }
  }

  bool is_backward_of(std::int32_t norm, const Node& backward, Value g) {
    const std::vector<Value>& x = node(norm).inputs;
    return is_op(backward, "batch_norm_backward") && backward.inputs.size() == 5 && backward.inputs[0] == g &&
           backward.inputs[1] == x[0] && backward.inputs[2] == x[1] && backward.inputs[3] == Value{norm, 1} &&
           backward.inputs[4] == Value{norm, 2} &&
           backward.attributes.integer("axis") == node(norm).attributes.integer("axis") &&
           backward.attributes.real("eps") == node(norm).attributes.real("eps");
  }

  void attach_mask(std::int32_t index, std::int32_t norm, Value masked, Value g) {
    const bool residual = node(norm).inputs.size() > 3;
    Node& backward = node(index);
    backward.attributes.set("activation", std::string("relu"));
    backward.inputs.push_back(node(norm).inputs[2]);
    if (residual) {
      backward.inputs.push_back({norm, 0});
      backward.outputs.push_back(graph_.type(masked));
    }
    backward.inputs[0] = g;
    readers_[g].push_back(index);
    std::erase(readers_[masked], index);
    if (residual) replace(masked, {index, 3});
  }

  // All readers of `old` read `fresh` instead.
  void replace(Value old, Value fresh) {
    for (const std::int32_t reader : readers_[old]) {
      if (reader < 0) continue;
      std::replace(node(reader).inputs.begin(), node(reader).inputs.end(), old, fresh);
    }
    std::replace(graph_.outputs.begin(), graph_.outputs.end(), old, fresh);
    for (Update& update : graph_.updates) {
      if (update.value == old) update.value = fresh;
    }
    readers_[fresh] = std::move(readers_[old]);
    readers_[old].clear();
  }

  // Whether `start` needs a result of `target`; inputs come before their readers, but for what was fused.
  bool depends(std::int32_t start, std::int32_t target) {
    std::vector<bool> seen(graph_.nodes.size(), false);
    std::vector<std::int32_t> stack{start};
    while (!stack.empty()) {
      const std::int32_t index = stack.back();
      stack.pop_back();
      if (index == target) return true;
      if (seen[static_cast<std::size_t>(index)]) continue;
      seen[static_cast<std::size_t>(index)] = true;
      for (const Value input : node(index).inputs) stack.push_back(input.node);
    }
    return false;
  }

  Graph graph_;
  std::map<Value, std::vector<std::int32_t>> readers_;  // -1: the graph's caller
  bool changed_ = false;
};

}  // namespace

Graph fuse_norms(const Graph& graph) { return NormFuser(graph).run(); }

Graph in_order(const Graph& graph) {
  Rewriter rewriter(graph);
  std::vector<bool> done(graph.nodes.size(), false);
  std::vector<std::int32_t> stack;  // no recursion: graphs may be deep
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    stack.push_back(static_cast<std::int32_t>(i));
    while (!stack.empty()) {
      const std::int32_t index = stack.back();
      const std::size_t waiting = stack.size();
      if (!done[static_cast<std::size_t>(index)]) {
        for (const Value input : graph.nodes[static_cast<std::size_t>(index)].inputs) {
          if (!done[static_cast<std::size_t>(input.node)]) stack.push_back(input.node);
        }
      }
      if (stack.size() > waiting) continue;
      stack.pop_back();
      if (done[static_cast<std::size_t>(index)]) continue;
      done[static_cast<std::size_t>(index)] = true;
      rewriter.copy(index);
    }
  }
  return rewriter.finish();
}

}  // namespace mxpipe
