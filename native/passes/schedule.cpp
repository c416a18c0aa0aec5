// schedule: program order, but an update of a captured input (a parameter, a running mean) runs as soon as
// its operands exist and nobody needs the old content any more: gradients die early, and the update can be in
// place.
#include <map>
#include <set>

#include "passes/passes.hpp"
#include "passes/rewriter.hpp"

namespace mxpipe {
namespace {

class Scheduler {
 public:
  explicit Scheduler(const Graph& graph)
      : graph_(graph), waiting_for_(graph.nodes.size()), done_(graph.nodes.size()) {
    for (const Update& update : graph.updates) prepare(update);
  }

  std::vector<std::int32_t> run() {
    const auto count = static_cast<std::int32_t>(graph_.nodes.size());
    // What is at hand comes first: a state that the trace met last must not hold up its update.
    for (std::int32_t i = 0; i < count; ++i) {
      const Node& node = graph_.nodes[static_cast<std::size_t>(i)];
      if (node.kind != NodeKind::op) emit(i);
    }
    for (std::int32_t i = 0; i < count; ++i) emit(i);
    return order_;
  }

 private:
  // The producer of an updated value waits for its operands and for the other readers of the old content.
  void prepare(const Update& update) {
    const std::int32_t producer = update.value.node;
    std::set<std::int32_t>& waits = waiting_for_[static_cast<std::size_t>(producer)];
    for (const Value input : graph_.nodes[static_cast<std::size_t>(producer)].inputs)
      waits.insert(input.node);
    const std::int32_t target = graph_.inputs[static_cast<std::size_t>(update.input)];
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (static_cast<std::int32_t>(i) == producer) continue;
      for (const Value input : graph_.nodes[i].inputs) {
        if (input.node == target) waits.insert(static_cast<std::int32_t>(i));
      }
    }
    for (const std::int32_t node : waits) readers_[node].insert(producer);
  }

  void emit(std::int32_t node) {
    if (done_[static_cast<std::size_t>(node)]) return;
    done_[static_cast<std::size_t>(node)] = true;
    order_.push_back(node);
    const auto found = readers_.find(node);
    if (found == readers_.end()) return;
    for (const std::int32_t producer : found->second) {
      std::set<std::int32_t>& waits = waiting_for_[static_cast<std::size_t>(producer)];
      waits.erase(node);
      if (waits.empty()) emit(producer);
    }
  }

  const Graph& graph_;
  std::vector<std::set<std::int32_t>> waiting_for_;  // of update producers
  std::map<std::int32_t, std::set<std::int32_t>> readers_;
  std::vector<bool> done_;
  std::vector<std::int32_t> order_;
};

}  // namespace

Graph schedule(const Graph& graph) {
  Rewriter rewriter(graph);
  for (const std::int32_t node : Scheduler(graph).run()) rewriter.copy(node);
  return rewriter.finish();
}

}  // namespace mxpipe
