// fuse: elementwise ops of one shape become one program, so that a chain costs one pass over memory.
//
// Nodes are grouped by merging units (a unit is a set of nodes that run as one step). Merging two is legal
// when no path leads from one to the other through a third, since the merged step would then wait for itself.
#include <algorithm>
#include <map>
#include <set>

#include "passes/assembler.hpp"
#include "passes/passes.hpp"
#include "passes/rewriter.hpp"

namespace mxpipe {
namespace {

constexpr std::size_t kMostMembers = 48;  // keeps a program's registers within L1
constexpr std::size_t kMostOperands = 24;

bool is_elementwise(const Node& node) { return node.kind == NodeKind::op && node.op && node.op->lower; }

// Values kept in a narrow type are widened again by every program that reads them: a widened copy in memory
// would cost twice the bytes.
bool is_widening(const Graph& graph, const Node& node) {
  return node.kind == NodeKind::op && node.op && node.op->name == "cast" &&
         graph.type(node.inputs[0]).dtype == DType::bfloat16 && node.outputs[0].dtype == DType::float32;
}

// One widening cast a reader, so that each can become part of its reader's program.
Graph widen_at_readers(const Graph& graph) {
  Rewriter rewriter(graph);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    Node node = graph.nodes[i];
    std::map<Value, Value> widened;  // by this node
    for (Value& input : node.inputs) {
      const Node& producer = graph.node(input);
      if (!is_widening(graph, producer)) {
        input = rewriter.get(input);
        continue;
      }
      Value& own = widened[input];
      if (!own.valid()) {
        Node cast = producer;
        cast.inputs = {rewriter.get(producer.inputs[0])};
        own = rewriter.graph().add_op(std::move(cast));
      }
      input = own;
    }
    rewriter.adopt(static_cast<std::int32_t>(i), std::move(node));
  }
  return drop_dead(rewriter.finish());
}

class Units {
 public:
  explicit Units(const Graph& graph)
      : graph_(graph), unit_of_(graph.nodes.size()), seen_(graph.nodes.size(), 0) {
    for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
      unit_of_[i] = static_cast<std::int32_t>(i);
      members_.push_back({static_cast<std::int32_t>(i)});
    }
  }

  std::int32_t unit(std::int32_t node) const { return unit_of_[static_cast<std::size_t>(node)]; }
  const std::vector<std::int32_t>& members(std::int32_t unit) const {
    return members_[static_cast<std::size_t>(unit)];
  }

  bool can_merge(std::int32_t a, std::int32_t b) {
    if (members(a).size() + members(b).size() > kMostMembers || operands(a, b) > kMostOperands) return false;
    return !reached_through_another(a, b) && !reached_through_another(b, a);
  }

  void merge(std::int32_t into, std::int32_t from) {
    auto& target = members_[static_cast<std::size_t>(into)];
    auto& source = members_[static_cast<std::size_t>(from)];
    for (const std::int32_t node : source) unit_of_[static_cast<std::size_t>(node)] = into;
    target.insert(target.end(), source.begin(), source.end());
    std::sort(target.begin(), target.end());
    source.clear();
  }

  std::set<std::int32_t> producers(std::int32_t unit) const {
    std::set<std::int32_t> result;
    for (const std::int32_t node : members(unit)) {
      for (const Value input : graph_.nodes[static_cast<std::size_t>(node)].inputs) {
        if (this->unit(input.node) != unit) result.insert(this->unit(input.node));
      }
    }
    return result;
  }

 private:
  std::size_t operands(std::int32_t a, std::int32_t b) const {
    std::set<Value> values;
    for (const std::int32_t unit : {a, b}) {
      for (const std::int32_t node : members(unit)) {
        for (const Value input : graph_.nodes[static_cast<std::size_t>(node)].inputs) {
          const std::int32_t from = this->unit(input.node);
          if (from != a && from != b) values.insert(input);
        }
      }
    }
    return values.size();
  }

  // Whether `start` depends on `target` by a path with at least one unit between.
  bool reached_through_another(std::int32_t start, std::int32_t target) {
    ++stamp_;
    std::vector<std::int32_t> stack;
    for (const std::int32_t producer : producers(start)) {
      if (producer != target) stack.push_back(producer);
    }
    const std::int32_t first = members(target).front();
    while (!stack.empty()) {
      const std::int32_t unit = stack.back();
      stack.pop_back();
      if (unit == target) return true;
      int& seen = seen_[static_cast<std::size_t>(unit)];
      if (seen == stamp_ || members(unit).back() < first)
        continue;  // older than the target: cannot depend on it
      seen = stamp_;
      for (const std::int32_t producer : producers(unit)) stack.push_back(producer);
    }
    return false;
  }

  const Graph& graph_;
  std::vector<std::int32_t> unit_of_;
  std::vector<std::vector<std::int32_t>> members_;
  std::vector<int> seen_;
  int stamp_ = 0;
};

Units group(const Graph& graph) {
  Units units(graph);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    if (!is_elementwise(node) || is_widening(graph, node)) continue;
    for (const Value input : node.inputs) {
      const Node& producer = graph.node(input);
      if (!is_elementwise(producer) || producer.outputs[0].shape != node.outputs[0].shape) continue;
      const std::int32_t own = units.unit(static_cast<std::int32_t>(i));
      const std::int32_t other = units.unit(input.node);
      if (own != other && units.can_merge(other, own)) units.merge(other, own);
    }
  }
  return units;
}

class Emitter {
 public:
  explicit Emitter(const Graph& graph)
      : graph_(graph), units_(group(graph)), rewriter_(graph), read_outside_(reads()) {}

  Graph run() {
    std::vector<bool> done(graph_.nodes.size(), false);
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i)
      emit(units_.unit(static_cast<std::int32_t>(i)), done);
    return rewriter_.finish();
  }

 private:
  // Depth first over producers, without recursion: graphs may be deep.
  void emit(std::int32_t root, std::vector<bool>& done) {
    std::vector<std::int32_t> stack{root};
    while (!stack.empty()) {
      const std::int32_t unit = stack.back();
      if (done[static_cast<std::size_t>(unit)]) {
        stack.pop_back();
        continue;
      }
      bool ready = true;
      for (const std::int32_t producer : units_.producers(unit)) {
        if (done[static_cast<std::size_t>(producer)]) continue;
        stack.push_back(producer);
        ready = false;
      }
      if (!ready) continue;
      stack.pop_back();
      done[static_cast<std::size_t>(unit)] = true;
      emit_unit(unit);
    }
  }

  void emit_unit(std::int32_t unit) {
    const std::vector<std::int32_t>& members = units_.members(unit);
    const Node& first = graph_.nodes[static_cast<std::size_t>(members.front())];
    if (!is_elementwise(first)) return rewriter_.copy(members.front());
    ProgramAssembler assembler(graph_, first.outputs[0].shape);
    Node fused;
    std::vector<Value> stored;
    for (const std::int32_t node : members) {
      assembler.lower(node);
      const Value value{node, 0};
      if (read_outside_.contains(value)) stored.push_back(value);
    }
    // Stores come last, since an output may overwrite the memory of an operand that is still to be read.
    for (const Value value : stored) {
      assembler.store(value);
      fused.outputs.push_back(graph_.type(value));
    }
    if (stored.empty()) return;  // constants that every reader made for itself
    for (const Value input : assembler.external_inputs()) fused.inputs.push_back(rewriter_.get(input));
    fused.program = std::make_shared<const Program>(assembler.finish());
    const Value made = rewriter_.graph().add_op(std::move(fused));
    for (std::size_t output = 0; output < stored.size(); ++output) {
      rewriter_.set(stored[output], {made.node, static_cast<std::int32_t>(output)});
    }
  }

  // Values that some other unit, an output or an update reads.
  std::set<Value> reads() const {
    std::set<Value> values(graph_.outputs.begin(), graph_.outputs.end());
    for (const Update& update : graph_.updates) values.insert(update.value);
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      for (const Value input : graph_.nodes[i].inputs) {
        const bool elsewhere = units_.unit(input.node) != units_.unit(static_cast<std::int32_t>(i));
        const bool made_in_place = is_elementwise(graph_.nodes[i]) && is_inline_constant(graph_, input);
        if (elsewhere && !made_in_place) values.insert(input);
      }
    }
    return values;
  }

  const Graph& graph_;
  Units units_;
  Rewriter rewriter_;
  std::set<Value> read_outside_;
};

}  // namespace

Graph fuse(const Graph& graph) { return Emitter(widen_at_readers(graph)).run(); }

}  // namespace mxpipe
