// The list of passes. Autodiff runs before it, where a caller asks for gradients (append_gradients).
#include <array>

#include "ops/graph_text.hpp"
#include "passes/passes.hpp"
#include "passes/rewriter.hpp"

namespace mxpipe {
namespace {

struct Pass {
  std::string_view name;
  Graph (*run)(const Graph&, const CompileOptions&);
};

template <Graph (*pass)(const Graph&)>
Graph without_options(const Graph& graph, const CompileOptions&) {
  return pass(graph);
}

constexpr std::array kTransforms{
    Pass{"simplify", without_options<simplify>},         // dead code, equal expressions, algebra
    Pass{"fold", fold_channels},                         // scales and shifts into frozen weights
    Pass{"norms", without_options<fuse_norms>},          // relu and residuals into normalisation
    Pass{"losses", without_options<join_losses>},        // a loss and its gradient in one pass
    Pass{"post_ops", without_options<attach_post_ops>},  // relu and residuals into matrix work
    Pass{"amp", mix_precision},                          // bfloat16 where it is asked for
    Pass{"layout", without_options<choose_layouts>},     // images channels-last
    Pass{"recompute", recompute},                        // made again instead of kept, where asked for
};

constexpr std::array kLowerings{
    Pass{"fuse", without_options<fuse>},          // elementwise groups into programs
    Pass{"schedule", without_options<schedule>},  // updates as early as they may run
};

Graph run(std::span<const Pass> passes, const Graph& graph, const CompileOptions& options,
          const PassObserver& observe) {
  Graph current = graph;
  for (const Pass& pass : passes) {
    current = pass.run(current, options);
#ifdef MXPIPE_VERIFY_PASSES
    verify(current);
#endif
    if (observe) observe({pass.name, current});
  }
  return current;
}

}  // namespace

Graph transform(const Graph& graph, const CompileOptions& options, const PassObserver& observe) {
  if (observe) observe({"traced", graph});
  return run(kTransforms, graph, options, observe);
}

Graph lower(const Graph& graph, const PassObserver& observe) {
  return run(kLowerings, graph, CompileOptions(), observe);
}

Graph drop_dead(const Graph& graph) {
  const std::vector<bool> live = live_nodes(graph);
  Rewriter rewriter(graph);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (live[i]) rewriter.copy(static_cast<std::int32_t>(i));
  }
  return rewriter.finish();
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
