// Eager calls: one op at once, through a cache of prepared one-op plans. The one entry of every door: it
// computes, or appends to the current trace; it records on the tape when autograd asks.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "exec/array.hpp"
#include "ops/registry.hpp"

namespace mxpipe {

std::vector<ArrayPtr> invoke(const OpSchema& op, std::vector<ArrayPtr> inputs, const Attributes& attributes);
inline std::vector<ArrayPtr> invoke(std::string_view op, std::vector<ArrayPtr> inputs,
                                    const Attributes& attributes = {}) {
  return invoke(op_schema(op), std::move(inputs), attributes);
}
// The same for an op of one result: short calls, which make no list.
ArrayPtr invoke_one(const OpSchema& op, std::span<const ArrayPtr> inputs, const Attributes& attributes = {});

// Writes `value`, cast and broadcast where needed, into target's storage (traced: an update of the graph).
void assign(const ArrayPtr& target, const ArrayPtr& value);

// A Builder whose calls run at once (and are recorded when recording is on), so that gradient declarations
// serve eager autograd too.
class EagerBuilder : public Builder {
 public:
  Value add(ArrayPtr array);
  const ArrayPtr& array(Value value) const { return arrays_[static_cast<std::size_t>(value.node)]; }

  std::vector<Value> call_all(std::string_view op, std::vector<Value> inputs,
                              Attributes attributes = {}) override;
  const TensorType& type(Value value) const override { return array(value)->type(); }
  Value scalar(double value, DType dtype) override;

 private:
  std::vector<ArrayPtr> arrays_;
};

}  // namespace mxpipe
