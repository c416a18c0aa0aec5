#include "exec/eager.hpp"

#include <algorithm>
#include <array>
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
  const OpSchema* op = nullptr;
  std::vector<TensorType> inputs;
  Attributes given;
  Attributes attributes;  // completed
  std::vector<TensorType> outputs;
  std::unique_ptr<Kernel> kernel;     // none for a view or empty outputs
  std::vector<std::size_t> operands;  // which inputs the kernel reads, in its order
  bool has_elements = false;
  std::size_t scratch_bytes = 0;
};

std::unique_ptr<Kernel> elementwise_kernel(PreparedCall& call) {
  Graph graph;
  Node node;
  node.op = call.op;
  node.attributes = call.attributes;
  node.outputs = call.outputs;
  for (const TensorType& type : call.inputs) node.inputs.push_back(graph.add_input(type, ""));
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

std::shared_ptr<const PreparedCall> prepare(const OpSchema& op, std::span<const ArrayPtr> inputs,
                                            const Attributes& attributes) {
  auto call = std::make_shared<PreparedCall>();
  call->op = &op;
  for (const ArrayPtr& input : inputs) call->inputs.push_back(input->type());
  call->given = attributes;
  Node node = make_node(op, {}, call->inputs, attributes);
  call->attributes = std::move(node.attributes);
  call->outputs = std::move(node.outputs);
  for (const TensorType& type : call->outputs) call->has_elements |= type.size() != 0;
  if (op.view || !call->has_elements) return call;
  if (op.lower) {
    call->kernel = elementwise_kernel(*call);
  } else {
    for (std::size_t i = 0; i < inputs.size(); ++i) call->operands.push_back(i);
    call->kernel = make_kernel({op.name, call->attributes, call->inputs, call->outputs, nullptr});
  }
  call->scratch_bytes = packing_scratch_bytes(*call->kernel, call->operands.size());
  return call;
}

// What distinguishes calls: the op, the inputs' types, and the attributes as given.
std::uint64_t hash_of_call(const OpSchema& op, std::span<const ArrayPtr> inputs,
                           const Attributes& attributes) {
  std::uint64_t hash = mix(reinterpret_cast<std::uintptr_t>(&op), inputs.size());
  for (const ArrayPtr& input : inputs) {
    hash = mix(hash, static_cast<std::uint64_t>(input->dtype()));
    for (const std::int64_t dim : input->shape()) hash = mix(hash, static_cast<std::uint64_t>(dim));
  }
  return attributes.entries().empty() ? hash : mix(hash, hash_of(attributes));
}

bool is_call(const PreparedCall& call, const OpSchema& op, std::span<const ArrayPtr> inputs,
             const Attributes& attributes) {
  return call.op == &op &&
         std::equal(inputs.begin(), inputs.end(), call.inputs.begin(), call.inputs.end(),
                    [](const ArrayPtr& input, const TensorType& type) { return input->type() == type; }) &&
         identical(call.given, attributes);
}

using PreparedCallPtr = std::shared_ptr<const PreparedCall>;

// All threads' calls by hash.
class CallCache {
 public:
  PreparedCallPtr get(std::uint64_t hash, const OpSchema& op, std::span<const ArrayPtr> inputs,
                      const Attributes& attributes) {
    {
      const std::shared_lock lock(mutex_);
      const auto [first, last] = calls_.equal_range(hash);
      for (auto found = first; found != last; ++found) {
        if (is_call(*found->second, op, inputs, attributes)) return found->second;
      }
    }
    PreparedCallPtr call = prepare(op, inputs, attributes);
    const std::unique_lock lock(mutex_);
    if (calls_.size() >= kMostCalls) calls_.clear();  // shapes that never repeat must not grow it for ever
    calls_.emplace(hash, call);
    return call;
  }

 private:
  static constexpr std::size_t kMostCalls = 4096;
  std::shared_mutex mutex_;
  std::unordered_multimap<std::uint64_t, PreparedCallPtr> calls_;
};

CallCache& call_cache() {
  static CallCache* cache =
      new CallCache;  // kernels must outlive static destruction of their libraries' users
  return *cache;
}

// The calls that this thread made last, by hash, so that a repeated one is found without a lock.
PreparedCallPtr find_call(const OpSchema& op, std::span<const ArrayPtr> inputs,
                          const Attributes& attributes) {
  constexpr std::size_t kRecent = 256;
  static thread_local std::array<PreparedCallPtr, kRecent> recent;
  const std::uint64_t hash = hash_of_call(op, inputs, attributes);
  PreparedCallPtr& call = recent[hash % kRecent];
  if (!call || !is_call(*call, op, inputs, attributes)) call = call_cache().get(hash, op, inputs, attributes);
  return call;
}

void run_kernel(const PreparedCall& call, std::span<const ArrayPtr> inputs,
                std::span<const ArrayPtr> outputs) {
  constexpr std::size_t kFew = 8;  // such calls allocate nothing
  std::array<const void*, kFew> few_reads;
  std::array<void*, kFew> few_writes;
  std::vector<const void*> many_reads;
  std::vector<void*> many_writes;
  std::span<const void*> reads(few_reads.data(), std::min(kFew, call.operands.size()));
  std::span<void*> writes(few_writes.data(), std::min(kFew, outputs.size()));
  if (call.operands.size() > kFew) {
    many_reads.resize(call.operands.size());
    reads = many_reads;
  }
  if (outputs.size() > kFew) {
    many_writes.resize(outputs.size());
    writes = many_writes;
  }
  for (std::size_t i = 0; i < reads.size(); ++i) reads[i] = inputs[call.operands[i]]->data();
  for (std::size_t i = 0; i < writes.size(); ++i) writes[i] = outputs[i]->data();
  if (call.scratch_bytes == 0) return call.kernel->run(reads, writes, nullptr);
  const std::shared_ptr<Storage> scratch = Storage::allocate(call.scratch_bytes);
  pack_and_run(*call.kernel, reads, writes, scratch->data());
}

ArrayPtr make_output(const PreparedCall& call, std::span<const ArrayPtr> inputs, std::size_t index) {
  return call.op->view ? Array::view(*inputs[0], call.outputs[index]) : Array::empty(call.outputs[index]);
}

void check_given(const OpSchema& op, std::span<const ArrayPtr> inputs) {
  for (const ArrayPtr& input : inputs) require(input != nullptr, op.name, "inputs must be arrays; got None.");
}

void copy_bytes(Array& target, const Array& value) {
  if (target.type().bytes() != 0) std::memmove(target.data(), value.data(), target.type().bytes());
  target.storage()->touch();
}

}  // namespace

std::vector<ArrayPtr> invoke(const OpSchema& op, std::vector<ArrayPtr> inputs, const Attributes& attributes) {
  check_given(op, inputs);
  if (Trace::current()) return Trace::current()->call(op, inputs, attributes);
  if (op.random && inputs.size() + 1 == op.inputs.size()) inputs.push_back(take_random_key(1));
  const PreparedCallPtr call = find_call(op, inputs, attributes);
  std::vector<ArrayPtr> outputs;
  outputs.reserve(call->outputs.size());
  for (std::size_t i = 0; i < call->outputs.size(); ++i) outputs.push_back(make_output(*call, inputs, i));
  if (call->kernel) run_kernel(*call, inputs, outputs);
  if (is_recording()) record_op(op, call->attributes, inputs, outputs);
  return outputs;
}

ArrayPtr invoke_one(const OpSchema& op, std::span<const ArrayPtr> inputs, const Attributes& attributes) {
  if (Trace::current() || op.random || is_recording())
    return std::move(invoke(op, {inputs.begin(), inputs.end()}, attributes)[0]);
  check_given(op, inputs);
  const PreparedCallPtr call = find_call(op, inputs, attributes);
  ArrayPtr output = make_output(*call, inputs, 0);
  if (call->kernel) run_kernel(*call, inputs, {&output, 1});
  return output;
}

void assign(const ArrayPtr& target, const ArrayPtr& value) {
  if (Trace::current()) return Trace::current()->assign(*target, value);
  require(!target->storage()->is_read_only(), "assign", "an array that maps a file must not be written.");
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
