// hoist: cuts off what depends on frozen inputs alone (casts and foldings of weights in inference), so that
// it is computed once per change of them and not once per call.
#include <algorithm>

#include "passes/passes.hpp"
#include "passes/rewriter.hpp"

namespace mxpipe {
namespace {

// Hoisted results are kept in memory: what only grows its inputs (a broadcast) is cheaper made again.
bool is_worth_keeping(const Graph& graph, const Node& node) {
  std::size_t read = 0;
  std::size_t written = 0;
  for (const Value input : node.inputs) read += graph.type(input).bytes();
  for (const TensorType& type : node.outputs) written += type.bytes();
  return written <= 2 * read;
}

class Hoister {
 public:
  Hoister(const Graph& graph, const std::vector<bool>& frozen) : graph_(graph), early_(graph.nodes.size()) {
    for (std::size_t i = 0; i < frozen.size(); ++i) {
      if (frozen[i]) early_[static_cast<std::size_t>(graph.inputs[i])] = true;
    }
    for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
      const Node& node = graph.nodes[i];
      const auto is_early = [&](Value input) { return early_[static_cast<std::size_t>(input.node)]; };
      if (node.kind == NodeKind::input || (node.op && node.op->random)) continue;
      if (is_from_nothing(node)) {
        early_[i] = true;
        continue;
      }
      early_[i] =
          std::all_of(node.inputs.begin(), node.inputs.end(), is_early) && is_worth_keeping(graph, node);
    }
  }

  HoistedGraph run() {
    find_boundary();
    HoistedGraph result;
    result.prologue = make_prologue();
    result.main = make_main();
    return result;
  }

 private:
  using Values = std::vector<std::vector<Value>>;

  // Constants and the like: each graph makes its own.
  static bool is_from_nothing(const Node& node) {
    return node.kind != NodeKind::input && node.inputs.empty();
  }

  bool is_early_op(Value value) const {
    return early_[static_cast<std::size_t>(value.node)] && !graph_.node(value).inputs.empty();
  }

  // Early values that late nodes or the results read.
  void find_boundary() {
    const auto need = [&](Value value) {
      if (is_early_op(value) && std::find(boundary_.begin(), boundary_.end(), value) == boundary_.end())
        boundary_.push_back(value);
    };
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (early_[i]) continue;
      for (const Value input : graph_.nodes[i].inputs) need(input);
    }
    for (const Value output : graph_.outputs) need(output);
  }

  static void append(Graph& graph, Values& values, std::size_t index, Node node) {
    for (Value& input : node.inputs)
      input = values[static_cast<std::size_t>(input.node)][static_cast<std::size_t>(input.output)];
    const auto outputs = static_cast<std::int32_t>(node.outputs.size());
    const Value fresh = graph.add_op(std::move(node));
    values[index].clear();
    for (std::int32_t output = 0; output < outputs; ++output) values[index].push_back({fresh.node, output});
  }

  static Value get(const Values& values, Value old) {
    return values[static_cast<std::size_t>(old.node)][static_cast<std::size_t>(old.output)];
  }

  Graph make_prologue() const {
    Graph graph;
    Values values(graph_.nodes.size());
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (early_[i]) append(graph, values, i, graph_.nodes[i]);
    }
    for (const std::int32_t input : graph_.inputs) {
      if (early_[static_cast<std::size_t>(input)]) graph.inputs.push_back(get(values, {input, 0}).node);
    }
    for (const Value value : boundary_) graph.outputs.push_back(get(values, value));
    return drop_dead(graph);
  }

  Graph make_main() const {
    Graph graph;
    Values values(graph_.nodes.size());
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (!early_[i] || graph_.nodes[i].inputs.empty()) {
        append(graph, values, i, graph_.nodes[i]);
      } else {
        values[i].resize(graph_.nodes[i].outputs.size());
        add_boundary_of(static_cast<std::int32_t>(i), graph, values);
      }
    }
    graph.inputs.clear();  // in calling order, not in that of their making
    for (const std::int32_t input : graph_.inputs) graph.inputs.push_back(get(values, {input, 0}).node);
    for (const Value value : boundary_) graph.inputs.push_back(get(values, value).node);
    for (const Value output : graph_.outputs) graph.outputs.push_back(get(values, output));
    return drop_dead(graph);
  }

  void add_boundary_of(std::int32_t node, Graph& graph, Values& values) const {
    for (const Value value : boundary_) {
      if (value.node != node) continue;
      values[static_cast<std::size_t>(node)][static_cast<std::size_t>(value.output)] =
          graph.add_input(TensorType(graph_.type(value)), "hoisted");
    }
  }

  const Graph& graph_;
  std::vector<bool> early_;
  std::vector<Value> boundary_;
};

}  // namespace

HoistedGraph hoist(const Graph& graph, const std::vector<bool>& frozen) {
  return Hoister(graph, frozen).run();
}

}  // namespace mxpipe
