// Graphs as text, and the check that passes must keep. Above the registry, since both need the ops.
#pragma once

#include <ostream>

#include "graph/graph.hpp"

namespace mxpipe {

std::ostream& operator<<(std::ostream& stream, const Graph& graph);

// Throws GraphError unless nodes are in topological order, every value exists, every op node has the types
// that its op infers, and updates have the type of their input.
void verify(const Graph& graph);

}  // namespace mxpipe
