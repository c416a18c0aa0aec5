// memory: a home for every value. Liveness over the running order, best-fit offsets in one arena, results and
// updates computed where they belong, programs, in-place ops and convolutions over their dying operand or
// addend.
#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "passes/passes.hpp"
#include "passes/rewriter.hpp"

namespace mxpipe {
namespace {

constexpr std::size_t kAlignment = 64;  // a cache line, and the widest vector

std::size_t align(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Offsets in one growing block: freed ranges are merged and the tightest one that fits is taken.
class OffsetAllocator {
 public:
  std::size_t take(std::size_t bytes) {
    auto best = free_.end();
    for (auto range = free_.begin(); range != free_.end(); ++range) {
      if (range->second >= bytes && (best == free_.end() || range->second < best->second)) best = range;
    }
    if (best == free_.end()) return grow(bytes);
    const auto [offset, size] = *best;
    free_.erase(best);
    if (size > bytes) free_[offset + bytes] = size - bytes;
    return offset;
  }

  void give_back(std::size_t offset, std::size_t bytes) {
    auto next = free_.lower_bound(offset);
    if (next != free_.end() && offset + bytes == next->first) {
      bytes += next->second;
      next = free_.erase(next);
    }
    if (next != free_.begin()) {
      auto previous = std::prev(next);
      if (previous->first + previous->second == offset) {
        previous->second += bytes;
        return;
      }
    }
    free_[offset] = bytes;
  }

  std::size_t peak() const { return end_; }

 private:
  std::size_t grow(std::size_t bytes) {
    std::size_t offset = end_;
    if (!free_.empty()) {  // stretch a free range at the end
      const auto last = std::prev(free_.end());
      if (last->first + last->second == end_) {
        offset = last->first;
        free_.erase(last);
      }
    }
    end_ = offset + bytes;
    return offset;
  }

  std::map<std::size_t, std::size_t> free_;
  std::size_t end_ = 0;
};

bool is_view(const Node& node) { return node.kind == NodeKind::op && node.op && node.op->view; }

class Planner {
 public:
  explicit Planner(const Graph& graph) : graph_(graph), last_(static_cast<std::int32_t>(graph.nodes.size())) {
    find_roots();
    find_readers();
  }

  MemoryPlan run() {
    plan_.homes.resize(graph_.nodes.size());
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i)
      plan_.homes[i].resize(graph_.nodes[i].outputs.size());
    place_inputs();
    claim_updates();
    claim_outputs();
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) place_node(static_cast<std::int32_t>(i));
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (is_view(graph_.nodes[i])) plan_.homes[i][0] = home(root({static_cast<std::int32_t>(i), 0}));
    }
    plan_.arena_bytes = arena_.peak();
    return std::move(plan_);
  }

 private:
  Value root(Value value) const { return roots_.at(value); }
  Home& home(Value value) {
    return plan_.homes[static_cast<std::size_t>(value.node)][static_cast<std::size_t>(value.output)];
  }

  void find_roots() {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      for (std::int32_t output = 0; output < static_cast<std::int32_t>(node.outputs.size()); ++output) {
        const Value value{static_cast<std::int32_t>(i), output};
        roots_[value] = is_view(node) ? roots_.at(node.inputs[0]) : value;
      }
    }
  }

  void find_readers() {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (is_view(graph_.nodes[i])) continue;
      for (const Value input : graph_.nodes[i].inputs)
        readers_[root(input)].push_back(static_cast<std::int32_t>(i));
    }
    // What leaves the graph is read after the last node.
    for (const Value output : graph_.outputs) readers_[root(output)].push_back(last_);
    for (const Update& update : graph_.updates) readers_[root(update.value)].push_back(last_);
  }

  std::int32_t last_read(Value root_value) const {
    const auto found = readers_.find(root_value);
    return found == readers_.end() ? root_value.node : found->second.back();
  }

  void place_inputs() {
    for (std::size_t i = 0; i < graph_.inputs.size(); ++i) home({graph_.inputs[i], 0}) = {Place::input, i};
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (graph_.nodes[i].kind == NodeKind::constant) plan_.homes[i][0] = {Place::constant, i};
    }
  }

  void claim_updates() {
    for (const Update& update : graph_.updates) {
      const Value value = root(update.value);
      const Home target{Place::update, static_cast<std::size_t>(update.input)};
      if (home(value).place == Place::none && can_update_in_place(update, value)) {
        home(value) = target;
      } else {
        plan_.copies.push_back({update.value, target});
      }
    }
  }

  // Every reader of the old content runs before the producer, or is the producer and may run in place.
  bool can_update_in_place(const Update& update, Value value) const {
    const Value target{graph_.inputs[static_cast<std::size_t>(update.input)], 0};
    const Node& producer = graph_.node(value);
    if (producer.kind != NodeKind::op) return false;
    const auto found = readers_.find(target);
    if (found == readers_.end()) return true;
    return std::all_of(found->second.begin(), found->second.end(), [&](std::int32_t reader) {
      return reader < value.node || (reader == value.node && may_alias(producer, value, target));
    });
  }

  // Whether output `value` of `node` may be written over its operand `operand` (a root).
  bool may_alias(const Node& node, Value value, Value operand) const {
    const auto reads = [&](Value input) { return root(input) == operand; };
    const auto count = std::count_if(node.inputs.begin(), node.inputs.end(), reads);
    if (count != 1) return false;
    const TensorType& result = graph_.type(value);
    if (node.program) {
      const auto at = static_cast<std::size_t>(std::find_if(node.inputs.begin(), node.inputs.end(), reads) -
                                               node.inputs.begin());
      return size_of(node.program->inputs[at].dtype) == size_of(result.dtype) &&
             graph_.type(operand).bytes() == result.bytes() &&
             node.program->inputs[at].strides == contiguous_strides(node.program->shape);
    }
    if (is_op(node, "convolution")) return node.inputs.size() > 3 && root(node.inputs[3]) == operand;
    return node.op->in_place && value.output == 0 && root(node.inputs[0]) == operand;
  }

  void claim_outputs() {
    for (std::size_t i = 0; i < graph_.outputs.size(); ++i) {
      const Value value = root(graph_.outputs[i]);
      const Home target{Place::output, i};
      if (home(value).place == Place::none) {
        home(value) = target;
      } else {
        plan_.copies.push_back({graph_.outputs[i], target});
      }
    }
    // Results first, since they may show the content that an update then replaces.
    std::stable_sort(plan_.copies.begin(), plan_.copies.end(),
                     [](const auto& a, const auto& b) { return a.to.place < b.to.place; });
  }

  void place_node(std::int32_t index) {
    const Node& node = graph_.nodes[static_cast<std::size_t>(index)];
    if (node.kind == NodeKind::op && !is_view(node)) {
      std::set<Value> taken;  // operands whose memory an output of this node has inherited
      for (std::int32_t output = 0; output < static_cast<std::int32_t>(node.outputs.size()); ++output) {
        place_output(node, {index, output}, taken);
      }
      release(node, index, taken);
    }
  }

  void place_output(const Node& node, Value value, std::set<Value>& taken) {
    Home& own = home(value);
    if (own.place != Place::none) return;
    const std::size_t bytes = align(node.outputs[static_cast<std::size_t>(value.output)].bytes());
    for (const Value input : node.inputs) {
      const Value operand = root(input);
      if (home(operand).place != Place::arena || taken.contains(operand) || last_read(operand) != value.node)
        continue;
      if (!may_alias(node, value, operand)) continue;
      own = home(operand);
      taken.insert(operand);
      return;
    }
    own = {Place::arena, arena_.take(bytes)};
  }

  void release(const Node& node, std::int32_t index, const std::set<Value>& taken) {
    std::set<Value> dying;
    for (const Value input : node.inputs) {
      if (last_read(root(input)) == index) dying.insert(root(input));
    }
    for (std::int32_t output = 0; output < static_cast<std::int32_t>(node.outputs.size()); ++output) {
      if (last_read({index, output}) == index) dying.insert({index, output});  // nobody reads it
    }
    for (const Value value : dying) {
      if (home(value).place != Place::arena || taken.contains(value)) continue;
      arena_.give_back(home(value).index, align(graph_.type(value).bytes()));
    }
  }

  const Graph& graph_;
  std::int32_t last_;
  std::map<Value, Value> roots_;
  std::map<Value, std::vector<std::int32_t>> readers_;  // of roots, ascending
  OffsetAllocator arena_;
  MemoryPlan plan_;
};

}  // namespace

MemoryPlan plan_memory(const Graph& graph) { return Planner(graph).run(); }

}  // namespace mxpipe
