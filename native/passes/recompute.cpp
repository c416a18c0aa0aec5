// recompute: trades time for memory. A large value that forward makes cheaply (elementwise, or a
// normalisation) and that only backward reads again, much later, is made again there from what is kept
// anyway.
#include <algorithm>
#include <array>
#include <map>

#include "passes/passes.hpp"
#include "passes/rewriter.hpp"

namespace mxpipe {
namespace {

constexpr std::size_t kSmallest = std::size_t{1} << 16;  // bytes: less is not worth a step of the plan

class Recomputer {
 public:
  explicit Recomputer(const Graph& graph) : graph_(graph), rewriter_(graph) {
    for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
      for (const Value input : graph.nodes[i].inputs) readers_[input].push_back(static_cast<std::int32_t>(i));
    }
    const auto end = static_cast<std::int32_t>(graph.nodes.size());
    for (const Value output : graph.outputs) readers_[output].push_back(end);
    for (const Update& update : graph.updates) readers_[update.value].push_back(end);
    long_time_ = std::max(32, end / 16);
  }

  Graph run() {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      Node node = graph_.nodes[i];
      for (Value& input : node.inputs) input = value_at(input, static_cast<std::int32_t>(i));
      rewriter_.adopt(static_cast<std::int32_t>(i), std::move(node));
    }
    return rewriter_.finish();
  }

 private:
  // The value as the reader at position `reader` sees it: a fresh copy from its first late reader on.
  Value value_at(Value old, std::int32_t reader) {
    const auto found = late_.find(old);
    if (found != late_.end()) return found->second;
    const std::int32_t late = first_late_reader(old);
    if (late < 0 || reader < late || !is_made_from_kept(old, late)) return rewriter_.get(old);
    Node again = graph_.node(old);
    for (Value& input : again.inputs) input = rewriter_.get(input);
    return late_[old] = {rewriter_.graph().add_op(std::move(again)).node, old.output};
  }

  // -1 where the value is small, or never lies unread for long.
  std::int32_t first_late_reader(Value value) const {
    if (!is_cheap(graph_.node(value)) || graph_.type(value).bytes() < kSmallest) return -1;
    std::int32_t previous = value.node;
    for (const std::int32_t reader : readers_.at(value)) {
      if (reader - previous > long_time_) return reader < last() ? reader : -1;
      previous = reader;
    }
    return -1;
  }

  // Whether all that it is made from is kept until then without this, and is not made again itself.
  bool is_made_from_kept(Value value, std::int32_t until) const {
    const std::vector<Value>& inputs = graph_.node(value).inputs;
    return std::all_of(inputs.begin(), inputs.end(), [&](Value input) {
      const Node& producer = graph_.node(input);
      if (producer.inputs.empty()) return true;  // an input of the graph, or a constant
      return first_late_reader(input) < 0 && readers_.at(input).back() >= until;
    });
  }

  std::int32_t last() const { return static_cast<std::int32_t>(graph_.nodes.size()); }

  const Graph& graph_;
  Rewriter rewriter_;
  std::map<Value, std::vector<std::int32_t>> readers_;  // ascending
  std::map<Value, Value> late_;                         // what late readers read instead
  std::int32_t long_time_ = 0;                          // in nodes
};

}  // namespace

bool is_cheap(const Node& node) {
  static constexpr std::array<std::string_view, 4> kNorms{"batch_norm", "layer_norm", "rms_norm",
                                                          "group_norm"};
  if (node.kind != NodeKind::op || node.inputs.empty() || node.op->random) return false;
  return node.op->lower || std::find(kNorms.begin(), kNorms.end(), node.op->name) != kNorms.end();
}

Graph recompute(const Graph& graph, const CompileOptions& options) {
  return options.recompute ? Recomputer(graph).run() : graph;
}

}  // namespace mxpipe
