// Tracing: while a trace is current on this thread, every op call appends a node instead of computing, and
// concrete arrays met on the way (parameters, optimizer state) become captured inputs by the identity of
// their storage.
#pragma once

#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "exec/array.hpp"
#include "ops/registry.hpp"

namespace mxpipe {

// A finished trace: a graph, and where each of its inputs comes from.
struct TracedGraph {
  enum class Source : std::uint8_t { argument, capture, key };
  struct Input {
    Source source = Source::argument;
    std::size_t index = 0;
  };

  Graph graph;
  std::vector<Input> inputs;  // one a graph input
  std::vector<ArrayPtr> captures;
  std::size_t arguments = 0;
  std::uint64_t random_ticks = 0;  // random calls in the trace, in program order
};

class Trace : public std::enable_shared_from_this<Trace> {
 public:
  static const std::shared_ptr<Trace>& current();
  static void set_current(std::shared_ptr<Trace> trace);

  ArrayPtr add_argument(const TensorType& type, std::string name);
  std::vector<ArrayPtr> call(const OpSchema& op, std::span<const ArrayPtr> inputs,
                             const Attributes& attributes);
  void assign(Array& target, const ArrayPtr& value);
  // Gradients by the graph pass.
  std::vector<ArrayGradient> gradients(std::span<const ArrayPtr> heads,
                                       std::span<const ArrayPtr> head_gradients,
                                       std::span<const ArrayPtr> variables);
  // Appends a finished graph, as if its ops had been called one by one.
  std::vector<ArrayPtr> inline_graph(const TracedGraph& traced, std::span<const ArrayPtr> arguments);
  TracedGraph finish(std::span<const ArrayPtr> outputs);

  // Captures a concrete array when first met; an assigned one reads as its new value.
  Value value_of(Array& array);
  ArrayPtr wrap(Value value) { return Array::traced(shared_from_this(), value, graph_.type(value)); }
  Graph& graph() { return graph_; }

 private:
  using Identity = std::tuple<const std::byte*, DType, std::vector<std::int64_t>>;

  std::size_t capture(Array& array);
  Value key();

  Graph graph_;
  std::vector<TracedGraph::Input> inputs_;
  std::vector<ArrayPtr> captures_;
  std::vector<std::size_t> capture_inputs_;  // position in Graph::inputs
  std::vector<Value> capture_values_;        // as of now
  std::vector<bool> capture_assigned_;
  std::map<Identity, std::size_t> known_;
  std::size_t arguments_ = 0;
  std::uint64_t ticks_ = 0;
  Value key_;
};

}  // namespace mxpipe
