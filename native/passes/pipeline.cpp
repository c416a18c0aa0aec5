// The list of passes. Autodiff runs before it, where a caller asks for gradients (append_gradients).
#include <array>

#include "ops/graph_text.hpp"
#include "passes/passes.hpp"
#include "passes/rewriter.hpp"

namespace mxpipe {
namespace {

struct Pass {
  std::string_view name;
  Graph (*run)(const Graph&);
};

constexpr std::array kPasses{
    Pass{"simplify", simplify},
    Pass{"fuse", fuse},
    Pass{"schedule", schedule},
};

}  // namespace

Graph optimize(const Graph& graph, const std::function<void(const PassDump&)>& dump) {
  Graph current = graph;
  if (dump) dump({"traced", current});
  for (const Pass& pass : kPasses) {
    current = pass.run(current);
#ifdef MXPIPE_VERIFY_PASSES
    verify(current);
#endif
    if (dump) dump({pass.name, current});
  }
  return current;
}

std::vector<bool> live_nodes(const Graph& graph) {
  std::vector<bool> live(graph.nodes.size(), false);
  const auto mark = [&](Value value) { live[static_cast<std::size_t>(value.node)] = true; };
  for (const std::int32_t input : graph.inputs) live[static_cast<std::size_t>(input)] = true;
  for (const Value output : graph.outputs) mark(output);
  for (const Update& update : graph.updates) mark(update.value);
  for (std::size_t i = graph.nodes.size(); i-- > 0;) {
    if (!live[i]) continue;
    for (const Value input : graph.nodes[i].inputs) mark(input);
  }
  return live;
}

}  // namespace mxpipe
