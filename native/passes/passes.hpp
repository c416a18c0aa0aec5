// The compiler: named pure functions Graph -> Graph, in the order that pipeline.cpp lists.
// What enters: a graph as traced. What leaves: a graph of kernels in running order, and where each value
// lives. Who calls: exec/plan.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "graph/graph.hpp"
#include "ops/registry.hpp"

namespace mxpipe {

// Dead code, common subexpressions, and algebra that keeps every bit (no reassociation).
Graph simplify(const Graph& graph);

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

struct PassDump {
  std::string_view name;
  const Graph& graph;
};

// Runs all graph passes; `dump`, when given, sees the graph before the first and after each.
Graph optimize(const Graph& graph, const std::function<void(const PassDump&)>& dump = {});

}  // namespace mxpipe
