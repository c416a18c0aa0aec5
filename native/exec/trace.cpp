#include "exec/trace.hpp"

#include "graph/error.hpp"
#include "passes/passes.hpp"

namespace mxpipe {
namespace {

std::shared_ptr<Trace>& current_slot() {
  thread_local std::shared_ptr<Trace> trace;
  return trace;
}

Value match_type(Builder& builder, Value value, const TensorType& type) {
  if (builder.type(value).shape != type.shape) {
    value = builder.call("broadcast_to", {value}, {{"shape", type.shape.to_vector()}});
  }
  return builder.type(value).dtype == type.dtype ? value
                                                 : builder.call("cast", {value}, {{"dtype", type.dtype}});
}

}  // namespace

const std::shared_ptr<Trace>& Trace::current() { return current_slot(); }
void Trace::set_current(std::shared_ptr<Trace> trace) { current_slot() = std::move(trace); }

ArrayPtr Trace::add_argument(const TensorType& type, std::string name) {
  const Value value = graph_.add_input(type, std::move(name));
  inputs_.push_back({TracedGraph::Source::argument, arguments_++});
  return wrap(value);
}

std::size_t Trace::capture(Array& array) {
  const Identity identity{array.data(), array.dtype(), array.shape().to_vector()};
  const auto [found, fresh] = known_.try_emplace(identity, captures_.size());
  if (!fresh) return found->second;
  const std::size_t index = captures_.size();
  capture_inputs_.push_back(graph_.inputs.size());
  capture_values_.push_back(graph_.add_input(array.type(), text("capture", index)));
  capture_assigned_.push_back(false);
  inputs_.push_back({TracedGraph::Source::capture, index});
  captures_.push_back(array.shared_from_this());
  return index;
}

Value Trace::value_of(Array& array) {
  if (!array.is_traced()) return capture_values_[capture(array)];
  if (array.trace().get() != this) {
    fail(ErrorKind::graph, "trace", "a traced array must be used within the function that is being traced.");
  }
  return array.value();
}

Value Trace::key() {
  if (!key_.valid()) {
    key_ = graph_.add_input({DType::uint64, Shape{2}}, "random key");
    inputs_.push_back({TracedGraph::Source::key, 0});
  }
  return key_;
}

std::vector<ArrayPtr> Trace::call(const OpSchema& op, std::span<const ArrayPtr> inputs,
                                  const Attributes& attributes) {
  std::vector<Value> values;
  for (const ArrayPtr& input : inputs) values.push_back(value_of(*input));
  Attributes given = attributes;
  if (op.random && values.size() + 1 == op.inputs.size()) {
    values.push_back(key());
    given.set("offset", static_cast<std::int64_t>(ticks_++));
  }
  GraphBuilder builder(graph_);
  std::vector<ArrayPtr> outputs;
  for (const Value value : builder.call_all(op.name, std::move(values), std::move(given)))
    outputs.push_back(wrap(value));
  return outputs;
}

void Trace::assign(Array& target, const ArrayPtr& value) {
  GraphBuilder builder(graph_);
  const Value fresh = match_type(builder, value_of(*value), target.type());
  if (target.is_traced()) {  // a local of the traced function: the name now means the new value
    value_of(target);
    target = *wrap(fresh);
    return;
  }
  const std::size_t index = capture(target);
  capture_values_[index] = fresh;
  capture_assigned_[index] = true;
}

std::vector<ArrayGradient> Trace::gradients(std::span<const ArrayPtr> heads,
                                            std::span<const ArrayPtr> head_gradients,
                                            std::span<const ArrayPtr> variables) {
  std::vector<Value> head_values, gradient_values, variable_values;
  for (const ArrayPtr& head : heads) head_values.push_back(value_of(*head));
  for (const ArrayPtr& gradient : head_gradients) gradient_values.push_back(value_of(*gradient));
  for (const ArrayPtr& variable : variables) variable_values.push_back(value_of(*variable));
  std::vector<ArrayGradient> results;
  for (const Gradient& gradient : append_gradients(graph_, head_values, gradient_values, variable_values)) {
    ArrayGradient result;
    if (gradient.is_row_sparse()) {
      result.ids = wrap(gradient.ids);
      result.rows = wrap(gradient.rows);
    } else {
      result.dense = wrap(gradient.dense);
    }
    results.push_back(std::move(result));
  }
  return results;
}

std::vector<ArrayPtr> Trace::inline_graph(const TracedGraph& traced, std::span<const ArrayPtr> arguments) {
  std::vector<std::vector<Value>> values(traced.graph.nodes.size());
  for (std::size_t i = 0; i < traced.inputs.size(); ++i) {
    const auto node = static_cast<std::size_t>(traced.graph.inputs[i]);
    const TracedGraph::Input& input = traced.inputs[i];
    switch (input.source) {
      case TracedGraph::Source::argument:
        values[node] = {value_of(*arguments[input.index])};
        break;
      case TracedGraph::Source::capture:
        values[node] = {value_of(*traced.captures[input.index])};
        break;
      case TracedGraph::Source::key:
        values[node] = {key()};
        break;
    }
  }
  const auto mapped = [&](Value old) {
    return values[static_cast<std::size_t>(old.node)][static_cast<std::size_t>(old.output)];
  };
  for (std::size_t i = 0; i < traced.graph.nodes.size(); ++i) {
    Node node = traced.graph.nodes[i];
    if (node.kind == NodeKind::input) continue;
    for (Value& input : node.inputs) input = mapped(input);
    if (node.op && node.op->random) {
      node.attributes.set("offset", node.attributes.integer("offset") + static_cast<std::int64_t>(ticks_));
    }
    const auto count = static_cast<std::int32_t>(node.outputs.size());
    const Value fresh = graph_.add_op(std::move(node));
    for (std::int32_t output = 0; output < count; ++output) values[i].push_back({fresh.node, output});
  }
  ticks_ += traced.random_ticks;
  for (const Update& update : traced.graph.updates) {
    const TracedGraph::Input& input = traced.inputs[static_cast<std::size_t>(update.input)];
    assign(*traced.captures[input.index], wrap(mapped(update.value)));
  }
  std::vector<ArrayPtr> outputs;
  for (const Value output : traced.graph.outputs) outputs.push_back(wrap(mapped(output)));
  return outputs;
}

TracedGraph Trace::finish(std::span<const ArrayPtr> outputs) {
  for (const ArrayPtr& output : outputs) graph_.outputs.push_back(value_of(*output));
  for (std::size_t i = 0; i < captures_.size(); ++i) {
    if (capture_assigned_[i])
      graph_.updates.push_back({static_cast<std::int32_t>(capture_inputs_[i]), capture_values_[i]});
  }
  return {std::move(graph_), std::move(inputs_), std::move(captures_), arguments_, ticks_};
}

}  // namespace mxpipe
