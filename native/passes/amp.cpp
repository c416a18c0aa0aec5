// amp: mixed precision. Ops that declare `narrow` inputs (matrix work, and normalisation and pooling between)
// get those in bfloat16 and answer in it; what only moves elements moves them as they come; everything else
// stays in float32, where the casts cost nothing since they fuse into elementwise programs.
//
// An activation that a narrow input reads is kept in bfloat16 alone: its other readers, backward's among
// them, read that copy widened. Parameters are graph inputs and so keep their float32 value for whoever
// updates them.
#include <algorithm>
#include <map>
#include <set>

#include "passes/passes.hpp"
#include "passes/rewriter.hpp"

namespace mxpipe {
namespace {

class Narrower {
 public:
  Narrower(const Graph& graph, DType narrow) : graph_(graph), narrow_(narrow), rewriter_(graph) {
    for (const Node& node : graph.nodes) {
      for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        if (is_narrow_input(node, i)) read_narrow_.insert(node.inputs[i]);
      }
    }
  }

  Graph run() {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) visit(static_cast<std::int32_t>(i));
    for (const Value output : graph_.outputs) restore(output);
    for (const Update& update : graph_.updates) restore(update.value);
    return rewriter_.finish();
  }

 private:
  bool is_wide(Value old) const { return graph_.type(old).dtype == DType::float32; }

  bool is_narrow_input(const Node& node, std::size_t input) const {
    if (node.kind != NodeKind::op || !is_wide(node.inputs[input])) return false;
    const std::vector<int>& narrow = node.op->narrow;
    return std::find(narrow.begin(), narrow.end(), static_cast<int>(input)) != narrow.end();
  }

  void visit(std::int32_t index) {
    const Node& old = graph_.nodes[static_cast<std::size_t>(index)];
    if (old.kind != NodeKind::op) return rewriter_.copy(index);
    Node node = old;
    const bool sums = sums_narrow(old);
    if (sums) node.attributes.set("wide", true);
    const bool moves = sums || moves_narrow(old);
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const bool wants_narrow = moves ? is_wide(old.inputs[i]) : is_narrow_input(old, i);
      node.inputs[i] = wants_narrow ? narrowed(old.inputs[i]) : widened(old.inputs[i]);
    }
    infer(node);
    const auto outputs = static_cast<std::int32_t>(node.outputs.size());
    rewriter_.adopt(index, std::move(node));
    for (std::int32_t output = 0; output < outputs; ++output) keep_narrow({index, output});
  }

  void infer(Node& node) const {
    std::vector<TensorType> types;
    for (const Value input : node.inputs) types.push_back(rewriter_.graph().type(input));
    node.outputs = node.op->infer(types, node.attributes);
  }

  // Whether all that the node moves is at hand in the narrow type.
  bool moves_narrow(const Node& node) const {
    if (!node.op->moves && !node.op->view) return false;
    return std::any_of(node.inputs.begin(), node.inputs.end(), [&](Value old) { return is_wide(old); }) &&
           std::all_of(node.inputs.begin(), node.inputs.end(),
                       [&](Value old) { return !is_wide(old) || is_kept_narrow(old); });
  }

  // Sums of what is at hand in the narrow type read that, and are float32 all the same.
  bool sums_narrow(const Node& node) const {
    return node.attributes.find("wide") != nullptr && node.inputs.size() == 1 && is_wide(node.inputs[0]) &&
           is_kept_narrow(node.inputs[0]);
  }

  bool is_kept_narrow(Value old) const { return type_of(rewriter_.get(old)) == narrow_; }
  DType type_of(Value fresh) const { return rewriter_.graph().type(fresh).dtype; }

  // What an op computes in float32 for a narrow reader is rounded once, here, for all readers.
  void keep_narrow(Value old) {
    if (!is_wide(old) || !read_narrow_.contains(old) || is_kept_narrow(old)) return;
    rewriter_.set(old, narrowed(old));
  }

  Value narrowed(Value old) { return converted(old, narrow_, narrow_of_); }

  Value widened(Value old) {
    return is_wide(old) ? converted(old, DType::float32, wide_of_) : rewriter_.get(old);
  }

  Value converted(Value old, DType dtype, std::map<Value, Value>& known) {
    const Value fresh = rewriter_.get(old);
    if (type_of(fresh) == dtype) return fresh;
    const auto [found, missing] = known.try_emplace(old);
    if (missing) found->second = GraphBuilder(rewriter_.graph()).call("cast", {fresh}, {{"dtype", dtype}});
    return found->second;
  }

  // What leaves the graph has the type that it had.
  void restore(Value old) { rewriter_.set(old, widened(old)); }

  const Graph& graph_;
  DType narrow_;
  Rewriter rewriter_;
  std::set<Value> read_narrow_;
  std::map<Value, Value> narrow_of_;  // old value -> its narrow copy, where the mapped one is wide
  std::map<Value, Value> wide_of_;
};

}  // namespace

Graph mix_precision(const Graph& graph, const CompileOptions& options) {
  return options.precision == DType::float32 ? graph : Narrower(graph, options.precision).run();
}

}  // namespace mxpipe
