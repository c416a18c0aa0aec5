#include "exec/compiled.hpp"

#include <algorithm>

#include "exec/eager.hpp"
#include "exec/random.hpp"
#include "exec/row_blocks.hpp"
#include "graph/error.hpp"

namespace mxpipe {

struct Compiled::Differentiated {
  std::unique_ptr<Plan> forward;   // outputs, then residuals that are no inputs
  std::unique_ptr<Plan> backward;  // reads residual inputs, other residuals, then one gradient an output
  std::vector<std::size_t> residual_inputs;
  std::vector<GradientForm> forms;  // one a graph input
};

struct Compiled::Inference {
  std::unique_ptr<Plan> prologue;  // reads captures; none where nothing depends on them alone
  // They read the graph's inputs, then prologue's results. Several where blocks of rows go through stages.
  std::vector<std::unique_ptr<Plan>> main;
  std::vector<bool> captured;       // per input of main
  bool keeps = false;               // whether captures keep their values from call to call
  std::optional<RowBlocks> blocks;  // set where main is for blocks of rows

  std::vector<ArrayPtr> run(std::span<const ArrayPtr> inputs, std::span<const Plan::Packs> packs = {}) const {
    if (blocks) return run_row_blocks(main, *blocks, inputs, packs);
    return main[0]->run(inputs, packs.empty() ? Plan::Packs() : packs[0]);
  }
};

struct Compiled::Frozen {
  std::vector<std::uint64_t> versions;  // of the captures' storage
  std::vector<ArrayPtr> values;
  std::vector<Plan::Packs> packs;  // one a plan
};

// Splits a joint graph at `forward_size`: what backward reads of forward becomes its inputs.
class GraphSplitter {
 public:
  GraphSplitter(const Graph& joint, std::size_t forward_size, std::size_t outputs, bool recompute)
      : joint_(joint),
        forward_size_(forward_size),
        recompute_(recompute),
        forward_(joint),
        values_(joint.nodes.size()) {
    forward_.nodes.resize(forward_size);
    forward_.inputs.erase(
        std::remove_if(forward_.inputs.begin(), forward_.inputs.end(),
                       [&](std::int32_t node) { return static_cast<std::size_t>(node) >= forward_size; }),
        forward_.inputs.end());
    forward_.outputs.resize(outputs);
  }

  void split(std::span<const Value> results) {
    find_residuals(results);
    for (std::size_t i = forward_size_; i < joint_.nodes.size(); ++i) {
      Node node = joint_.nodes[i];
      for (Value& input : node.inputs) input = mapped(input);
      const bool is_input = node.kind == NodeKind::input;
      const auto count = static_cast<std::int32_t>(node.outputs.size());
      const Value fresh = backward_.add_op(std::move(node));
      if (is_input) backward_.inputs.push_back(fresh.node);
      for (std::int32_t output = 0; output < count; ++output) values_[i].push_back({fresh.node, output});
    }
    for (const Value result : results) backward_.outputs.push_back(mapped(result));
  }

  Graph take_forward() { return std::move(forward_); }
  Graph take_backward() { return std::move(backward_); }
  const std::vector<std::size_t>& residual_inputs() const { return residual_inputs_; }

 private:
  Value& mapped(Value old) {
    auto& outputs = values_[static_cast<std::size_t>(old.node)];
    if (outputs.size() <= static_cast<std::size_t>(old.output))
      outputs.resize(static_cast<std::size_t>(old.output) + 1);
    return outputs[static_cast<std::size_t>(old.output)];
  }

  bool is_forward(Value value) const { return static_cast<std::size_t>(value.node) < forward_size_; }

  void find_residuals(std::span<const Value> results) {
    std::vector<Value> residuals;
    const auto need = [&](Value value) {
      if (is_forward(value) && std::find(residuals.begin(), residuals.end(), value) == residuals.end())
        residuals.push_back(value);
    };
    for (std::size_t i = forward_size_; i < joint_.nodes.size(); ++i) {
      for (const Value input : joint_.nodes[i].inputs) need(input);
    }
    for (const Value result : results) need(result);
    // Inputs of the call first: they are passed on as they are.
    for (std::size_t i = 0; i < joint_.inputs.size(); ++i) {
      const Value value{joint_.inputs[i], 0};
      if (std::find(residuals.begin(), residuals.end(), value) == residuals.end()) continue;
      residual_inputs_.push_back(i);
      mapped(value) = backward_.add_input(joint_.type(value), "residual");
    }
    std::sort(residuals.begin(), residuals.end());  // what one is made of comes before it
    for (const Value value : residuals) {
      if (mapped(value).valid()) continue;
      if (is_remade(joint_.node(value))) {
        Node node = joint_.node(value);
        for (Value& input : node.inputs) input = mapped(input);
        mapped(value) = {backward_.add_op(std::move(node)).node, value.output};
      } else {
        forward_.outputs.push_back(value);
        mapped(value) = backward_.add_input(joint_.type(value), "residual");
      }
    }
  }

  // Made from nothing, or, where that is asked for, cheaply from what is at hand: again rather than kept.
  bool is_remade(const Node& node) {
    if (node.kind == NodeKind::constant || (node.kind == NodeKind::op && node.inputs.empty())) return true;
    return recompute_ && is_cheap(node) &&
           std::all_of(node.inputs.begin(), node.inputs.end(), [&](Value v) { return mapped(v).valid(); });
  }

  const Graph& joint_;
  std::size_t forward_size_;
  bool recompute_;
  Graph forward_;
  Graph backward_;
  std::vector<std::vector<Value>> values_;
  std::vector<std::size_t> residual_inputs_;
};

class Compiled::Node : public TapeNode {
 public:
  Node(std::shared_ptr<const Compiled> owner, std::shared_ptr<const Differentiated> plans,
       std::vector<ArrayPtr> residuals, std::vector<Saved> residual_inputs)
      : owner_(std::move(owner)),
        plans_(std::move(plans)),
        residuals_(std::move(residuals)),
        residual_inputs_(std::move(residual_inputs)) {}

  std::vector<ArrayGradient> backward(std::span<const ArrayPtr> gradients, const std::vector<bool>&,
                                      bool create_graph) override {
    if (create_graph) {
      fail(ErrorKind::graph, "backward",
           "a compiled block has no second-order gradient; call it without hybridize().");
    }
    if (released_) {
      fail(ErrorKind::graph, "backward",
           "a recorded graph can be walked once; pass retain_graph=True to walk it again.");
    }
    std::vector<ArrayPtr> arguments;
    for (const Saved& saved : residual_inputs_) {
      check_version(saved, "compiled");
      arguments.push_back(saved.array);
    }
    arguments.insert(arguments.end(), residuals_.begin(), residuals_.end());
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      if (!is_floating(outputs[i].dtype)) continue;
      arguments.push_back(gradients[i] ? gradients[i]
                                       : invoke("full", {},
                                                {{"shape", outputs[i].shape.to_vector()},
                                                 {"value", 0.0},
                                                 {"dtype", outputs[i].dtype}})[0]);
    }
    return unpack_gradients(plans_->forms, plans_->backward->run(arguments));
  }

  void release() override {
    inputs.clear();
    residuals_.clear();
    residual_inputs_.clear();
    released_ = true;
  }

 private:
  std::shared_ptr<const Compiled> owner_;
  std::shared_ptr<const Differentiated> plans_;
  std::vector<ArrayPtr> residuals_;
  std::vector<Saved> residual_inputs_;
  bool released_ = false;
};

Compiled::Compiled(TracedGraph traced, const CompileOptions& options)
    : traced_(std::move(traced)), options_(options) {}

Compiled::~Compiled() = default;

std::span<const std::unique_ptr<Plan>> Compiled::plans() const { return inference().main; }

PlanReport Compiled::report() const {
  const Inference& plans = inference();
  return plans.blocks ? join_reports(plans.main, *plans.blocks) : plans.main[0]->report();
}

const Compiled::Inference& Compiled::inference() const {
  const std::scoped_lock lock(mutex_);
  if (inference_) return *inference_;
  auto made = std::make_unique<Inference>();
  for (const TracedGraph::Input& input : traced_.inputs)
    made->captured.push_back(input.source == TracedGraph::Source::capture);
  CompileOptions options = options_;
  if (traced_.graph.updates.empty()) options.frozen = made->captured;
  const Graph graph = transform(traced_.graph, options);
  // Where captures are overwritten (a training step), nothing stays true from one call to the next.
  if (graph.updates.empty() && !traced_.captures.empty()) {
    HoistedGraph hoisted = hoist(graph, made->captured);
    if (!hoisted.prologue.outputs.empty()) made->prologue = std::make_unique<Plan>(hoisted.prologue);
    made->captured.resize(hoisted.main.inputs.size(), true);
    made->blocks = split_rows(hoisted.main, made->captured);
    if (made->blocks) {
      for (const RowStage& stage : made->blocks->stages)
        made->main.push_back(std::make_unique<Plan>(stage.graph, made->captured));
    } else {
      made->main.push_back(std::make_unique<Plan>(hoisted.main, made->captured));
    }
    made->keeps = made->prologue || std::any_of(made->main.begin(), made->main.end(),
                                                [](const auto& plan) { return plan->packs_inputs(); });
  } else {
    made->main.push_back(std::make_unique<Plan>(graph));
  }
  inference_ = std::move(made);
  return *inference_;
}

std::shared_ptr<const Compiled::Frozen> Compiled::frozen(const Inference& plans,
                                                         std::span<const ArrayPtr> inputs) const {
  std::vector<std::uint64_t> versions;
  bool counted = true;
  for (const ArrayPtr& capture : traced_.captures) {
    versions.push_back(capture->storage()->version());
    counted = counted && capture->storage()->counts_overwrites();
  }
  if (counted) {
    const std::scoped_lock lock(mutex_);
    if (frozen_ && frozen_->versions == versions) return frozen_;
  }
  auto made = std::make_shared<Frozen>();
  made->versions = std::move(versions);
  std::vector<ArrayPtr> captured;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (plans.captured[i]) captured.push_back(inputs[i]);
  }
  if (plans.prologue) made->values = plans.prologue->run(captured);
  std::vector<ArrayPtr> all(inputs.begin(), inputs.end());
  all.insert(all.end(), made->values.begin(), made->values.end());
  for (const auto& plan : plans.main) made->packs.push_back(plan->pack(all, plans.captured));
  if (!counted) return made;
  const std::scoped_lock lock(mutex_);
  frozen_ = made;
  return frozen_;
}

std::vector<ArrayPtr> Compiled::infer(std::vector<ArrayPtr> inputs) const {
  const Inference& plans = inference();
  if (!plans.keeps) return plans.run(inputs);
  const std::shared_ptr<const Frozen> kept = frozen(plans, inputs);
  inputs.insert(inputs.end(), kept->values.begin(), kept->values.end());
  return plans.run(inputs, kept->packs);
}

std::vector<ArrayPtr> Compiled::gather(std::span<const ArrayPtr> arguments) const {
  require(arguments.size() == traced_.arguments, "compiled", "must be called with ", traced_.arguments,
          " arrays; got ", arguments.size(), ".");
  std::vector<ArrayPtr> inputs;
  for (const TracedGraph::Input& input : traced_.inputs) {
    switch (input.source) {
      case TracedGraph::Source::argument:
        inputs.push_back(arguments[input.index]);
        break;
      case TracedGraph::Source::capture:
        inputs.push_back(traced_.captures[input.index]);
        break;
      case TracedGraph::Source::key:
        inputs.push_back(take_random_key(traced_.random_ticks));
        break;
    }
  }
  return inputs;
}

std::shared_ptr<const Compiled::Differentiated> Compiled::differentiated(
    const std::vector<bool>& needed) const {
  const std::scoped_lock lock(mutex_);
  auto& slot = differentiated_[needed];
  if (slot) return slot;
  Graph joint = traced_.graph;
  const std::size_t forward_size = joint.nodes.size();
  const std::size_t output_count = joint.outputs.size();
  std::vector<Value> heads, head_gradients, variables, results;
  for (const Value output : traced_.graph.outputs) {
    if (!is_floating(joint.type(output).dtype)) continue;
    heads.push_back(output);
    head_gradients.push_back(joint.add_input(TensorType(joint.type(output)), "gradient"));
  }
  for (std::size_t i = 0; i < needed.size(); ++i) {
    if (needed[i]) variables.push_back({traced_.graph.inputs[i], 0});
  }
  auto made = std::make_shared<Differentiated>();
  made->forms.resize(needed.size(), GradientForm::none);
  const std::vector<Gradient> gradients = append_gradients(joint, heads, head_gradients, variables);
  std::size_t next = 0;
  for (std::size_t i = 0; i < needed.size(); ++i) {
    if (!needed[i]) continue;
    const Gradient& gradient = gradients[next++];
    made->forms[i] = gradient.is_row_sparse() ? GradientForm::row_sparse : GradientForm::dense;
    if (gradient.is_row_sparse()) {
      results.insert(results.end(), {gradient.ids, gradient.rows});
    } else {
      results.push_back(gradient.dense);
    }
  }
  GraphSplitter splitter(joint, forward_size, output_count, options_.recompute);
  splitter.split(results);
  made->residual_inputs = splitter.residual_inputs();
  made->forward = std::make_unique<Plan>(transform(splitter.take_forward(), options_));
  made->backward = std::make_unique<Plan>(transform(splitter.take_backward(), options_));
  slot = made;
  return slot;
}

std::vector<ArrayPtr> Compiled::call(std::span<const ArrayPtr> arguments) const {
  if (Trace::current()) return Trace::current()->inline_graph(traced_, arguments);
  std::vector<ArrayPtr> inputs = gather(arguments);
  if (!is_recording() || !any_takes_gradient(inputs)) return infer(std::move(inputs));

  std::vector<bool> needed;
  for (const ArrayPtr& input : inputs) needed.push_back(input->wants_gradient());
  const std::shared_ptr<const Differentiated> plans = differentiated(needed);
  std::vector<Saved> residual_inputs;
  for (const std::size_t index : plans->residual_inputs) residual_inputs.push_back(save(inputs[index]));
  std::vector<ArrayPtr> outputs = plans->forward->run(inputs);
  const std::vector<ArrayPtr> residuals(
      outputs.begin() + static_cast<std::ptrdiff_t>(traced_.graph.outputs.size()), outputs.end());
  outputs.resize(traced_.graph.outputs.size());
  record(std::make_shared<Node>(shared_from_this(), plans, residuals, std::move(residual_inputs)), inputs,
         outputs);
  return outputs;
}

Graph retype(const Graph& graph, std::span<const TensorType> inputs) {
  require(inputs.size() == graph.inputs.size(), "retype", "there must be one type an input, ",
          graph.inputs.size(), "; got ", inputs.size(), ".");
  Graph fresh = graph;
  for (std::size_t i = 0; i < inputs.size(); ++i)
    fresh.nodes[static_cast<std::size_t>(graph.inputs[i])].outputs[0] = inputs[i];
  for (Node& node : fresh.nodes) {
    if (node.kind != NodeKind::op) continue;
    std::vector<TensorType> types;
    for (const Value input : node.inputs) types.push_back(fresh.type(input));
    node.outputs = node.op->infer(types, node.attributes);
  }
  return fresh;
}

}  // namespace mxpipe
