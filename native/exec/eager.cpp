#include "exec/eager.hpp"

#include <cstring>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "exec/random.hpp"
#include "exec/tape.hpp"
#include "exec/trace.hpp"
#include "graph/error.hpp"
#include "kernels/kernel.hpp"
#include "passes/assembler.hpp"

namespace mxpipe {
namespace {

// An op prepared for given attributes and types.
struct PreparedCall {
  Attributes attributes;
  std::vector<TensorType> outputs;
  std::unique_ptr<Kernel> kernel;     // none for a view or empty outputs
  std::vector<std::size_t> operands;  // which inputs the kernel reads, in its order
  bool has_elements = false;
};

std::unique_ptr<Kernel> elementwise_kernel(const OpSchema& op, std::span<const TensorType> types,
                                           PreparedCall& call) {
  Graph graph;
  Node node;
  node.op = &op;
  node.attributes = call.attributes;
  node.outputs = call.outputs;
  for (const TensorType& type : types) node.inputs.push_back(graph.add_input(type, ""));
  const Value result = graph.add_op(std::move(node));
  ProgramAssembler assembler(graph, call.outputs[0].shape);
  assembler.lower(result.node);
  assembler.store(result);
  std::vector<TensorType> operand_types;
  for (const Value input : assembler.external_inputs()) {
    call.operands.push_back(static_cast<std::size_t>(input.node));
    operand_types.push_back(graph.type(input));
  }
  auto program = std::make_shared<const Program>(assembler.finish());
  return make_kernel({"elementwise", call.attributes, operand_types, call.outputs, program});
}

std::shared_ptr<const PreparedCall> prepare(const OpSchema& op, std::span<const TensorType> types,
                                            const Attributes& attributes) {
  auto call = std::make_shared<PreparedCall>();
  Node node = make_node(op, {}, types, attributes);
  call->attributes = std::move(node.attributes);
  call->outputs = std::move(node.outputs);
  for (const TensorType& type : call->outputs) call->has_elements |= type.size() != 0;
  if (op.view || !call->has_elements) return call;
  if (op.lower) {
    call->kernel = elementwise_kernel(op, types, *call);
  } else {
    for (std::size_t i = 0; i < types.size(); ++i) call->operands.push_back(i);
    call->kernel = make_kernel({op.name, call->attributes, types, call->outputs, nullptr});
  }
  return call;
}

template <typename T>
void append_bytes(std::string& key, const T& value) {
  key.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void append_attribute(std::string& key, const Attribute& value) {
  append_bytes(key, value.index());
  std::visit(
      [&](const auto& held) {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, std::string>) {
          append_bytes(key, held.size());
          key.append(held);
        } else if constexpr (std::is_same_v<Held, Integers>) {
          append_bytes(key, held.size());
          for (const std::int64_t item : held) append_bytes(key, item);
        } else {
          append_bytes(key, held);
        }
      },
      value);
}

std::string cache_key(const OpSchema& op, std::span<const ArrayPtr> inputs, const Attributes& attributes) {
  std::string key;
  key.reserve(128);
  append_bytes(key, &op);
  for (const ArrayPtr& input : inputs) {
    append_bytes(key, input->dtype());
    append_bytes(key, input->shape().rank());
    for (const std::int64_t dim : input->shape()) append_bytes(key, dim);
  }
  for (const auto& [name, value] : attributes.entries()) {
    append_bytes(key, name.size());
    key.append(name);
    append_attribute(key, value);
  }
  return key;
}

class CallCache {
 public:
  std::shared_ptr<const PreparedCall> get(const OpSchema& op, std::span<const ArrayPtr> inputs,
                                          const Attributes& attributes) {
    std::string key = cache_key(op, inputs, attributes);
    {
      const std::shared_lock lock(mutex_);
      if (const auto found = calls_.find(key); found != calls_.end()) return found->second;
    }
    std::vector<TensorType> types;
    for (const ArrayPtr& input : inputs) types.push_back(input->type());
    std::shared_ptr<const PreparedCall> call = prepare(op, types, attributes);
    const std::unique_lock lock(mutex_);
    if (calls_.size() >= kMostCalls) calls_.clear();  // shapes that never repeat must not grow it for ever
    calls_[std::move(key)] = call;
    return call;
  }

 private:
  static constexpr std::size_t kMostCalls = 4096;
  std::shared_mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<const PreparedCall>> calls_;
};

CallCache& call_cache() {
  static CallCache* cache =
      new CallCache;  // kernels must outlive static destruction of their libraries' users
  return *cache;
}

std::vector<ArrayPtr> compute(const OpSchema& op, std::span<const ArrayPtr> inputs,
                              const PreparedCall& call) {
  std::vector<ArrayPtr> outputs;
  if (op.view) {
    outputs.push_back(Array::view(*inputs[0], call.outputs[0]));
    return outputs;
  }
  for (const TensorType& type : call.outputs) outputs.push_back(Array::empty(type));
  if (!call.kernel) return outputs;
  std::vector<const void*> reads;
  std::vector<void*> writes;
  for (const std::size_t operand : call.operands) reads.push_back(inputs[operand]->data());
  for (const ArrayPtr& output : outputs) writes.push_back(output->data());
  const std::size_t scratch_bytes = packing_scratch_bytes(*call.kernel, reads.size());
  const std::shared_ptr<Storage> scratch = scratch_bytes ? Storage::allocate(scratch_bytes) : nullptr;
  pack_and_run(*call.kernel, reads, writes, scratch ? scratch->data() : nullptr);
  return outputs;
}

void copy_bytes(Array& target, const Array& value) {
  if (target.type().bytes() != 0) std::memmove(target.data(), value.data(), target.type().bytes());
  target.storage()->touch();
}

}  // namespace

std::vector<ArrayPtr> invoke(const OpSchema& op, std::vector<ArrayPtr> inputs, const Attributes& attributes) {
  for (const ArrayPtr& input : inputs) require(input != nullptr, op.name, "inputs must be arrays; got None.");
  if (Trace::current()) return Trace::current()->call(op, inputs, attributes);
  if (op.random && inputs.size() + 1 == op.inputs.size()) inputs.push_back(take_random_key(1));
  const std::shared_ptr<const PreparedCall> call = call_cache().get(op, inputs, attributes);
  std::vector<ArrayPtr> outputs = compute(op, inputs, *call);
  if (is_recording()) record_op(op, call->attributes, inputs, outputs);
  return outputs;
}

void assign(const ArrayPtr& target, const ArrayPtr& value) {
  if (Trace::current()) return Trace::current()->assign(*target, value);
  const RecordingScope pause(false);
  ArrayPtr fresh = value;
  if (fresh->shape() != target->shape()) {
    fresh = invoke("broadcast_to", {fresh}, {{"shape", target->shape().to_vector()}})[0];
  }
  if (fresh->dtype() != target->dtype()) fresh = invoke("cast", {fresh}, {{"dtype", target->dtype()}})[0];
  copy_bytes(*target, *fresh);
}

Value EagerBuilder::add(ArrayPtr array) {
  arrays_.push_back(std::move(array));
  return {static_cast<std::int32_t>(arrays_.size()) - 1, 0};
}

std::vector<Value> EagerBuilder::call_all(std::string_view op, std::vector<Value> inputs,
                                          Attributes attributes) {
  std::vector<ArrayPtr> arrays;
  for (const Value input : inputs) arrays.push_back(array(input));
  std::vector<Value> outputs;
  for (ArrayPtr& output : invoke(op, std::move(arrays), attributes))
    outputs.push_back(add(std::move(output)));
  return outputs;
}

Value EagerBuilder::scalar(double value, DType dtype) {
  return call("full", {}, {{"shape", Integers{}}, {"value", value}, {"dtype", dtype}});
}

}  // namespace mxpipe
