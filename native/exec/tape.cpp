#include "exec/tape.hpp"

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <sstream>
#include <unordered_map>

#include "exec/eager.hpp"
#include "exec/plan.hpp"
#include "exec/trace.hpp"
#include "graph/error.hpp"
#include "passes/passes.hpp"

namespace mxpipe {
namespace {

thread_local bool recording = false;
thread_local bool training = false;

// The gradient of one op call as a plan over [inputs, outputs, present output gradients].
struct GradientPlan {
  std::unique_ptr<Plan> plan;
  std::vector<GradientForm> forms;  // one an input of the op
  std::vector<bool> reads;          // which of the plan's inputs it reads
};

std::shared_ptr<const GradientPlan> make_gradient_plan(const OpSchema& op, const Attributes& attributes,
                                                       std::span<const TensorType> inputs,
                                                       std::span<const TensorType> outputs,
                                                       const std::vector<bool>& present,
                                                       const std::vector<bool>& needed) {
  Graph graph;
  std::vector<Value> input_values, output_values, gradient_values;
  for (const TensorType& type : inputs) input_values.push_back(graph.add_input(type, "input"));
  for (const TensorType& type : outputs) output_values.push_back(graph.add_input(type, "output"));
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    gradient_values.push_back(present[i] ? graph.add_input(outputs[i], "gradient") : Value{});
  }
  GraphBuilder builder(graph);
  const std::vector<Gradient> results =
      op.gradient({builder, attributes, input_values, output_values, gradient_values, needed});
  auto made = std::make_shared<GradientPlan>();
  made->forms.resize(inputs.size(), GradientForm::none);
  for (std::size_t i = 0; i < inputs.size() && i < results.size(); ++i) {
    if (!needed[i] || results[i].is_none()) continue;
    if (results[i].is_row_sparse()) {
      made->forms[i] = GradientForm::row_sparse;
      graph.outputs.insert(graph.outputs.end(), {results[i].ids, results[i].rows});
    } else {
      made->forms[i] = GradientForm::dense;
      graph.outputs.push_back(results[i].dense);
    }
  }
  made->plan = std::make_unique<Plan>(transform(graph, {}));
  const std::vector<int> uses = count_uses(made->plan->graph());
  for (const std::int32_t input : made->plan->graph().inputs)
    made->reads.push_back(uses[static_cast<std::size_t>(input)] > 0);
  return made;
}

std::shared_ptr<const GradientPlan> gradient_plan(const OpSchema& op, const Attributes& attributes,
                                                  std::span<const TensorType> inputs,
                                                  std::span<const TensorType> outputs,
                                                  const std::vector<bool>& present,
                                                  const std::vector<bool>& needed) {
  static std::mutex mutex;
  static auto* plans = new std::unordered_map<std::string, std::shared_ptr<const GradientPlan>>;
  constexpr std::size_t kMostPlans = 4096;
  std::ostringstream stream;
  stream.precision(17);
  stream << op.name << "{" << attributes << "}";
  for (const TensorType& type : inputs) stream << type;
  for (const bool flag : present) stream << flag;
  for (const bool flag : needed) stream << flag;
  const std::string key = stream.str();
  {
    const std::scoped_lock lock(mutex);
    if (const auto found = plans->find(key); found != plans->end()) return found->second;
  }
  std::shared_ptr<const GradientPlan> made =
      make_gradient_plan(op, attributes, inputs, outputs, present, needed);
  const std::scoped_lock lock(mutex);
  if (plans->size() >= kMostPlans) plans->clear();
  (*plans)[key] = made;
  return made;
}

class OpTapeNode : public TapeNode {
 public:
  OpTapeNode(const OpSchema& op, Attributes attributes, std::span<const ArrayPtr> results)
      : op_(op), attributes_(std::move(attributes)) {
    for (const ArrayPtr& result : results) results_.push_back(save(result->detached()));
  }

  std::vector<ArrayGradient> backward(std::span<const ArrayPtr> gradients, const std::vector<bool>& needed,
                                      bool create_graph) override {
    if (op_.zero_gradient) return std::vector<ArrayGradient>(inputs.size());
    if (!op_.gradient)
      fail(ErrorKind::op, op_.name, "must be differentiable to take part in a gradient; it is not.");
    if (results_.empty()) {
      fail(ErrorKind::graph, "backward",
           "a recorded graph can be walked once; pass retain_graph=True to walk it again.");
    }
    return create_graph ? backward_recorded(gradients, needed) : backward_planned(gradients, needed);
  }

  void release() override {
    inputs.clear();
    results_.clear();
  }

 private:
  std::vector<ArrayGradient> backward_planned(std::span<const ArrayPtr> gradients,
                                              const std::vector<bool>& needed) {
    std::vector<TensorType> types;
    std::vector<ArrayPtr> arguments;
    std::vector<const Saved*> saved;
    for (const Saved& input : inputs) {
      types.push_back(input.array->type());
      saved.push_back(&input);
    }
    for (const Saved& result : results_) saved.push_back(&result);
    for (const Saved* each : saved) arguments.push_back(each->array);
    std::vector<bool> present;
    for (const ArrayPtr& gradient : gradients) {
      present.push_back(gradient != nullptr);
      if (gradient) arguments.push_back(gradient);
    }
    const auto prepared = gradient_plan(op_, attributes_, types, outputs, present, needed);
    for (std::size_t i = 0; i < saved.size(); ++i) {
      if (prepared->reads[i]) check_version(*saved[i], op_.name);
    }
    return unpack_gradients(prepared->forms, prepared->plan->run(arguments));
  }

  std::vector<ArrayGradient> backward_recorded(std::span<const ArrayPtr> gradients,
                                               const std::vector<bool>& needed) {
    EagerBuilder builder;
    std::vector<Value> input_values, output_values, gradient_values;
    for (const Saved& input : inputs) input_values.push_back(builder.add(input.array));
    for (std::size_t i = 0; i < results_.size(); ++i) {
      auto linked = std::make_shared<Array>(*results_[i].array);
      linked->producer = shared_from_this();
      linked->output = static_cast<int>(i);
      output_values.push_back(builder.add(std::move(linked)));
    }
    for (const ArrayPtr& gradient : gradients)
      gradient_values.push_back(gradient ? builder.add(gradient) : Value{});
    std::vector<ArrayGradient> results(inputs.size());
    const std::vector<Gradient> made =
        op_.gradient({builder, attributes_, input_values, output_values, gradient_values, needed});
    for (std::size_t i = 0; i < results.size() && i < made.size(); ++i) {
      if (!needed[i] || made[i].is_none()) continue;
      if (made[i].is_row_sparse()) {
        results[i].ids = builder.array(made[i].ids);
        results[i].rows = builder.array(made[i].rows);
      } else {
        results[i].dense = builder.array(made[i].dense);
      }
    }
    return results;
  }

  const OpSchema& op_;
  Attributes attributes_;
  std::vector<Saved> results_;
};

// ------------------------------------------------------------------------------------------------- backward
// walk

Gradient to_values(EagerBuilder& builder, const ArrayGradient& gradient) {
  if (gradient.is_row_sparse())
    return Gradient::row_sparse(builder.add(gradient.ids), builder.add(gradient.rows));
  return builder.add(gradient.dense);
}

ArrayGradient to_arrays(const EagerBuilder& builder, const Gradient& gradient) {
  ArrayGradient result;
  if (gradient.is_row_sparse()) {
    result.ids = builder.array(gradient.ids);
    result.rows = builder.array(gradient.rows);
  } else {
    result.dense = builder.array(gradient.dense);
  }
  return result;
}

void accumulate(ArrayGradient& held, const ArrayGradient& fresh, const TensorType& type) {
  if (held.is_none()) {
    held = fresh;
    return;
  }
  EagerBuilder builder;
  held =
      to_arrays(builder, add_gradients(builder, to_values(builder, held), to_values(builder, fresh), type));
}

ArrayPtr densify(const ArrayGradient& gradient, const TensorType& type) {
  if (gradient.is_none() || !gradient.is_row_sparse()) return gradient.dense;
  EagerBuilder builder;
  return builder.array(dense_gradient(builder, to_values(builder, gradient), type));
}

ArrayGradient canonical(const ArrayGradient& gradient) {
  EagerBuilder builder;
  return to_arrays(builder, canonical_gradient(builder, to_values(builder, gradient)));
}

ArrayPtr ones_like(const TensorType& type) {
  return invoke("full", {}, {{"shape", type.shape.to_vector()}, {"value", 1.0}, {"dtype", type.dtype}})[0];
}

// Walks the tape from the newest call to the oldest.
class Walk {
 public:
  Walk(bool retain_graph, bool create_graph) : retain_(retain_graph || create_graph), create_(create_graph) {}

  void start(const Array& head, const ArrayPtr& gradient) {
    ArrayGradient given;
    given.dense = gradient;
    deliver(head, given);
  }

  void run() {
    while (!pending_.empty()) {
      const std::shared_ptr<TapeNode> node = pending_.begin()->second;
      pending_.erase(pending_.begin());
      visit(*node);
    }
  }

  const std::map<Leaf*, ArrayGradient>& leaves() const { return leaves_; }
  const std::vector<std::shared_ptr<Leaf>>& leaf_order() const { return leaf_order_; }

  const ArrayGradient* find(const Array& variable) const {
    if (variable.leaf) {
      const auto found = leaves_.find(variable.leaf.get());
      return found == leaves_.end() ? nullptr : &found->second;
    }
    const auto found = values_.find({variable.producer.get(), variable.output});
    return found == values_.end() ? nullptr : &found->second;
  }

  // Keeps gradients of this array although it is no leaf.
  void watch(const Array& variable) {
    if (variable.producer) watched_[{variable.producer.get(), variable.output}] = true;
  }

 private:
  using Key = std::pair<TapeNode*, int>;

  void deliver(const Array& to, const ArrayGradient& gradient) {
    if (to.leaf) {
      const auto [found, fresh] = leaves_.try_emplace(to.leaf.get());
      if (fresh) leaf_order_.push_back(to.leaf);
      accumulate(found->second, gradient, to.type());
    } else if (to.producer) {
      accumulate(values_[{to.producer.get(), to.output}], gradient, to.type());
      pending_.emplace(to.producer->sequence, to.producer);
    }
  }

  void visit(TapeNode& node) {
    std::vector<ArrayPtr> incoming;
    for (int output = 0; output < static_cast<int>(node.outputs.size()); ++output) {
      const auto found = values_.find({&node, output});
      if (found == values_.end()) {
        incoming.push_back(nullptr);
        continue;
      }
      incoming.push_back(densify(found->second, node.outputs[static_cast<std::size_t>(output)]));
      if (!watched_.contains({&node, output})) values_.erase(found);
    }
    const std::vector<bool> needed = node.needed_inputs();
    const std::vector<ArrayGradient> results = node.backward(incoming, needed, create_);
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (needed[i] && !results[i].is_none()) deliver(*node.inputs[i].array, results[i]);
    }
    if (!retain_) node.release();
  }

  bool retain_;
  bool create_;
  std::map<std::uint64_t, std::shared_ptr<TapeNode>, std::greater<>> pending_;
  std::map<Key, ArrayGradient> values_;
  std::map<Key, bool> watched_;
  std::map<Leaf*, ArrayGradient> leaves_;
  std::vector<std::shared_ptr<Leaf>> leaf_order_;
};

void start_all(Walk& walk, std::span<const ArrayPtr> heads, std::span<const ArrayPtr> head_gradients) {
  for (std::size_t i = 0; i < heads.size(); ++i) {
    if (!heads[i]->takes_gradient()) {
      fail(ErrorKind::graph, "backward",
           "a head must have been computed under autograd.record() from arrays with attach_grad().");
    }
    const bool given = i < head_gradients.size() && head_gradients[i];
    if (given && !(head_gradients[i]->type() == heads[i]->type())) {
      fail(ErrorKind::op, "backward", "a head gradient must have its head's type ", heads[i]->type(),
           "; got ", head_gradients[i]->type(), ".");
    }
    walk.start(*heads[i], given ? head_gradients[i] : ones_like(heads[i]->type()));
  }
}

}  // namespace

bool is_recording() { return recording; }
bool is_training() { return training; }
bool set_recording(bool on) { return std::exchange(recording, on); }
bool set_training(bool on) { return std::exchange(training, on); }

std::vector<bool> TapeNode::needed_inputs() const {
  std::vector<bool> needed;
  for (const Saved& input : inputs) needed.push_back(input.array->wants_gradient());
  return needed;
}

Saved save(const ArrayPtr& array) { return {std::make_shared<Array>(*array), array->storage()->version()}; }

void check_version(const Saved& saved, std::string_view where) {
  if (saved.array->storage()->version() == saved.version) return;
  fail(ErrorKind::graph, where, "an array of shape ", saved.array->shape(),
       " must keep its content between the recorded call and backward; it was overwritten.");
}

bool any_takes_gradient(std::span<const ArrayPtr> inputs) {
  for (const ArrayPtr& input : inputs) {
    if (input->takes_gradient()) return true;
  }
  return false;
}

void record(std::shared_ptr<TapeNode> node, std::span<const ArrayPtr> inputs,
            std::span<const ArrayPtr> outputs) {
  static std::atomic<std::uint64_t> next{1};
  node->sequence = next++;
  for (const ArrayPtr& input : inputs) node->inputs.push_back(save(input));
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    node->outputs.push_back(outputs[i]->type());
    if (!is_floating(outputs[i]->dtype())) continue;
    outputs[i]->producer = node;
    outputs[i]->output = static_cast<int>(i);
  }
}

void record_op(const OpSchema& op, const Attributes& attributes, std::span<const ArrayPtr> inputs,
               std::span<const ArrayPtr> outputs) {
  if (op.zero_gradient || !any_takes_gradient(inputs)) return;
  record(std::make_shared<OpTapeNode>(op, attributes, outputs), inputs, outputs);
}

void backward(std::span<const ArrayPtr> heads, std::span<const ArrayPtr> head_gradients, bool retain_graph) {
  if (Trace::current()) fail(ErrorKind::graph, "backward", "use autograd.grad within a traced function.");
  const RecordingScope pause(false);
  Walk walk(retain_graph, false);
  start_all(walk, heads, head_gradients);
  walk.run();
  for (const std::shared_ptr<Leaf>& leaf : walk.leaf_order()) {
    if (leaf->request == GradientRequest::none) continue;
    leaf->fresh = true;
    const ArrayGradient fresh = canonical(walk.leaves().at(leaf.get()));
    if (leaf->request == GradientRequest::write || leaf->gradient.is_none()) {
      leaf->gradient = fresh;
      continue;
    }
    const ArrayPtr& sample = fresh.is_row_sparse() ? leaf->gradient.dense : fresh.dense;
    accumulate(leaf->gradient, fresh, sample ? sample->type() : TensorType{});
    leaf->gradient = canonical(leaf->gradient);
  }
}

std::vector<ArrayGradient> gradients(std::span<const ArrayPtr> heads,
                                     std::span<const ArrayPtr> head_gradients,
                                     std::span<const ArrayPtr> variables, bool retain_graph,
                                     bool create_graph) {
  if (Trace::current()) {
    std::vector<ArrayPtr> given;
    for (std::size_t i = 0; i < heads.size(); ++i) {
      const bool has = i < head_gradients.size() && head_gradients[i];
      given.push_back(has ? head_gradients[i] : ones_like(heads[i]->type()));
    }
    return Trace::current()->gradients(heads, given, variables);
  }
  const RecordingScope scope(create_graph);
  Walk walk(retain_graph, create_graph);
  for (const ArrayPtr& variable : variables) walk.watch(*variable);
  start_all(walk, heads, head_gradients);
  walk.run();
  std::vector<ArrayGradient> results;
  for (const ArrayPtr& variable : variables) {
    const ArrayGradient* found = walk.find(*variable);
    ArrayGradient zero;
    if (!found)
      zero.dense =
          invoke("full", {},
                 {{"shape", variable->shape().to_vector()}, {"value", 0.0}, {"dtype", variable->dtype()}})[0];
    results.push_back(found ? canonical(*found) : zero);
  }
  return results;
}

}  // namespace mxpipe
