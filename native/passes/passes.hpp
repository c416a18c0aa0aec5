// The compiler: named pure functions Graph -> Graph, in the order that pipeline.cpp lists.
// What enters: a graph as traced. What leaves: a graph of kernels in running order, and where each value
// lives. Who calls: exec/plan.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "graph/graph.hpp"
#include "ops/registry.hpp"

namespace mxpipe {

// What a caller chooses; everything else the passes decide from the graph.
struct CompileOptions {
  // bfloat16: matrix work and the activations between it are bfloat16; parameters, statistics, losses and
  // everything elementwise are computed in float32.
  DType precision = DType::float32;
  // Arithmetic on weights that changes the last bits may be done once, ahead: inference sessions ask for it.
  bool fold = false;
  // What backward can make again cheaply is not kept for it: less memory, a little more time.
  bool recompute = false;
  // Inputs that keep their values from call to call: weights in inference. Filled in by exec.
  std::vector<bool> frozen{};

  bool operator==(const CompileOptions&) const = default;
};

// Dead code, common subexpressions, and algebra that keeps every bit (no reassociation).
Graph simplify(const Graph& graph);

// Residuals and activations become the last step of the matrix work before them.
Graph attach_post_ops(const Graph& graph);

// Scales and shifts of channels become part of the weights before them, where those are frozen.
Graph fold_channels(const Graph& graph, const CompileOptions& options);

// relu and the addition of a residual become part of the batch norm before them, forward and backward.
Graph fuse_norms(const Graph& graph);

// Softmax cross entropy and its gradient become one pass over the logits.
Graph join_losses(const Graph& graph);

// Mixed precision, where the options ask for it (see amp.cpp).
Graph mix_precision(const Graph& graph, const CompileOptions& options);

// Values that backward makes again instead of forward keeping them, where the options ask for it.
Graph recompute(const Graph& graph, const CompileOptions& options);
// Whether making a node's results again costs little beside matrix work: about a pass over memory.
bool is_cheap(const Node& node);

// Images become channels-last (see layout.cpp).
Graph choose_layouts(const Graph& graph);

// Appends the gradient of sum(head * head_gradient) with respect to each value of `variables`; the result has
// one Gradient a variable (zeros where it does not depend on it). Row-sparse ones are returned with ascending
// unique ids. Reverse mode, by the ops' own gradient declarations.
std::vector<Gradient> append_gradients(Graph& graph, std::span<const Value> heads,
                                       std::span<const Value> head_gradients,
                                       std::span<const Value> variables);
// The one rule by which two gradients of the same value meet; eager autograd and the graph share it.
Gradient add_gradients(Builder& builder, const Gradient& first, const Gradient& second,
                       const TensorType& type);
Gradient canonical_gradient(Builder& builder, const Gradient& gradient);
Value dense_gradient(Builder& builder, const Gradient& gradient, const TensorType& type);

// Every elementwise node becomes (part of) an "elementwise" node that carries a program.
Graph fuse(const Graph& graph);

// Running order: program order, with updates of captured inputs as early as their last reader allows.
Graph schedule(const Graph& graph);

// Where the plan keeps each value.
enum class Place : std::uint8_t {
  none,      // never read
  input,     // the caller's array `index`
  constant,  // bytes of the node
  arena,     // offset `index` of the plan's arena
  output,    // the fresh result array `index`
  update,    // written straight into the storage of input `index`
};

struct Home {
  Place place = Place::none;
  std::size_t index = 0;
};

struct MemoryPlan {
  std::vector<std::vector<Home>> homes;  // [node][output]; a view has the home of what it views
  std::size_t arena_bytes = 0;
  // Values to be copied at the end: outputs that are not computed in place (inputs, constants, repeated
  // outputs, views of them) and updates whose target is still read later.
  struct Copy {
    Value from;
    Home to;
  };
  std::vector<Copy> copies;
};

// Liveness over the graph's order, greedy best-fit offsets, in place where a program or in-place op allows.
MemoryPlan plan_memory(const Graph& graph);

// A graph cut in two: `prologue` computes what depends on nothing but the inputs marked as frozen (weights in
// inference) and is run once per change of them; `main` reads its results as further inputs.
struct HoistedGraph {
  Graph prologue;  // inputs: the frozen ones, in order; outputs: what main reads. May have no outputs
  Graph main;      // inputs: the graph's, then one a prologue output
};
HoistedGraph hoist(const Graph& graph, const std::vector<bool>& frozen);

// A graph whose rows are computed each by itself, cut into stages: each computes a block of rows at a time
// for all rows before the next one starts. None where rows depend on each other, or where blocks would gain
// nothing.
struct RowStage {
  Graph graph;                     // of one block; inputs: the whole graph's, then `reads`
  std::vector<std::size_t> reads;  // which of the earlier stages' results, all in a row, it needs
  std::vector<bool> split;         // per input: whether it has rows
  std::int64_t block = 0;
};
struct RowBlocks {
  std::vector<RowStage> stages;
  std::vector<std::size_t> outputs;  // one an output: which of the stages' results, all in a row, it is
  std::int64_t rows = 0;
  bool across_threads = false;  // threads take whole blocks; otherwise every kernel runs on all threads
};
std::optional<RowBlocks> split_rows(const Graph& graph, const std::vector<bool>& captured);

struct PassDump {
  std::string_view name;
  const Graph& graph;
};
using PassObserver = std::function<void(const PassDump&)>;

// The graph passes in two runs: transform() keeps ops and is what hoist() can cut; lower() makes kernels of
// them in running order. An observer sees the graph before the first pass and after each.
Graph transform(const Graph& graph, const CompileOptions& options, const PassObserver& observe = {});
Graph lower(const Graph& graph, const PassObserver& observe = {});

}  // namespace mxpipe
