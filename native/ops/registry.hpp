// The op registry: an op is declared once, in a family file of this folder, and everything else derives from
// the declaration - the Python function and its stub, serialization, gradients, the fuser's decision, the
// test row. What enters: OpSchema objects at load time. What leaves: lookups by name. Who calls: everyone
// above.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/attributes.hpp"
#include "graph/graph.hpp"

namespace mxpipe {

// ---------------------------------------------------------------------------------------------- declaration

struct InputSchema {
  std::string name;
  std::string doc;
  bool optional = false;  // trailing inputs only
  bool variadic = false;  // the last input only: one or more
};

struct AttributeSchema {
  std::string name;
  AttributeType type;
  std::optional<Attribute> default_value;  // none: required
  std::string doc;
};

// Appends op nodes; gradients and composites are written against it, so one text serves a graph, a tape and
// a gradient of a gradient.
class Builder {
 public:
  virtual ~Builder() = default;
  virtual std::vector<Value> call_all(std::string_view op, std::vector<Value> inputs,
                                      Attributes attributes = {}) = 0;
  virtual const TensorType& type(Value value) const = 0;

  Value call(std::string_view op, std::vector<Value> inputs, Attributes attributes = {}) {
    return call_all(op, std::move(inputs), std::move(attributes)).front();
  }
  // A scalar constant of `dtype`.
  virtual Value scalar(double value, DType dtype) = 0;
  Value zeros(const TensorType& type);
  // Sums `value` over the axes that broadcasting added or stretched, so that it has `shape`.
  Value sum_to(Value value, const Shape& shape);
};

// A gradient: dense, or row-sparse (rows[i] belongs to row ids[i] of the input; ids may repeat), or none.
struct Gradient {
  Value dense;
  Value ids;
  Value rows;

  Gradient() = default;
  Gradient(Value value) : dense(value) {}  // NOLINT(google-explicit-constructor): a list of values reads well
  static Gradient row_sparse(Value ids, Value rows) {
    Gradient gradient;
    gradient.ids = ids;
    gradient.rows = rows;
    return gradient;
  }
  bool is_row_sparse() const { return ids.valid(); }
  bool is_none() const { return !dense.valid() && !ids.valid(); }
};

struct GradientCall {
  Builder& builder;
  const Attributes& attributes;
  std::span<const Value> inputs;
  std::span<const Value> outputs;
  std::span<const Value> gradients;  // of the outputs; an invalid Value means zero
  const std::vector<bool>& needed;   // per input

  const TensorType& type(Value value) const { return builder.type(value); }
};

// Lowers one elementwise op into instructions of a program.
class ProgramBuilder {
 public:
  virtual ~ProgramBuilder() = default;
  using Register = std::uint16_t;  // a virtual register; the pass assigns real ones

  virtual Register input(int index) = 0;                  // input `index` in its own dtype's register type
  virtual Register input_as(int index, DType dtype) = 0;  // converted to compute in `dtype`
  virtual Register constant(double value, DType dtype) = 0;
  virtual Register emit(Opcode opcode, DType dtype, std::initializer_list<Register> sources) = 0;
  // Uniform numbers in [0, 1) from the uint64 key at input `key_input` and a fixed counter offset.
  virtual Register random_uniform(int key_input, std::int64_t offset) = 0;
  virtual Register convert(Register value, DType from, DType to) = 0;
};

struct ElementwiseCall {
  ProgramBuilder& program;
  const Attributes& attributes;
  std::span<const TensorType> inputs;
  const TensorType& output;
};

using InferTypes =
    std::function<std::vector<TensorType>(std::span<const TensorType> inputs, const Attributes& attributes)>;
using GradientFunction = std::function<std::vector<Gradient>(const GradientCall& call)>;  // one per input
// Returns the register that holds the output, computed in the output dtype's register type and already
// rounded to the output dtype where that is narrower (emit does so by itself for the dtype it is given).
using LowerFunction = std::function<ProgramBuilder::Register(const ElementwiseCall& call)>;

struct OpSchema {
  std::string name;
  std::string doc;  // first line: what it computes; then shapes, dtypes, errors, source of the formula
  std::vector<InputSchema> inputs{};
  std::vector<AttributeSchema> attributes{};
  InferTypes infer;
  GradientFunction gradient{};  // empty: not differentiable (asking for a gradient is an error)
  LowerFunction lower{};        // set: elementwise, runs as (part of) a program
  bool zero_gradient = false;   // piecewise constant or integer-valued: the gradient is zero, not an error
  bool view = false;            // the output has the bytes of input 0
  bool random = false;          // the last input is the key, supplied by the engine; attribute `offset`
  bool moves = false;           // the output holds elements of the inputs as they are
  // Row i (of the first axis) of the outputs depends on row i of input 0 and of `images` alone, and on the
  // other inputs; where there is an attribute axis, unless it is the first. Elementwise ops need not say so.
  bool by_row = false;
  std::vector<int> narrow{};  // inputs that mixed precision feeds in bfloat16 (passes/amp)
  std::vector<int> images{};  // inputs whose axes `layout` names, or whose channels are on `axis`
  bool in_place = false;      // output 0 may overwrite input 0's memory, and is cheap only when it does
};

struct OpRegistration {
  explicit OpRegistration(OpSchema schema);
};

#define MXPIPE_OP_CONCATENATE_(a, b) a##b
#define MXPIPE_OP_CONCATENATE(a, b) MXPIPE_OP_CONCATENATE_(a, b)
#define MXPIPE_OP static const ::mxpipe::OpRegistration MXPIPE_OP_CONCATENATE(op_registration_, __COUNTER__)

// --------------------------------------------------------------------------------------------------- lookup

const OpSchema& op_schema(std::string_view name);  // throws OperatorError for an unknown name
const OpSchema* find_op(std::string_view name);
std::vector<const OpSchema*> all_ops();  // sorted by name

// Fills defaults and orders by declaration; throws OperatorError for an unknown, missing or wrongly typed
// one. An integer is accepted where a real is declared; an integer where integers are declared becomes a list
// of one.
Attributes complete_attributes(const OpSchema& op, const Attributes& given);
// Checks the number of inputs, completes the attributes and infers: the one way an op node is made.
Node make_node(const OpSchema& op, std::vector<Value> inputs, std::span<const TensorType> types,
               const Attributes& given);

// A Builder that appends to a graph.
class GraphBuilder : public Builder {
 public:
  explicit GraphBuilder(Graph& graph) : graph_(graph) {}
  std::vector<Value> call_all(std::string_view op, std::vector<Value> inputs,
                              Attributes attributes = {}) override;
  const TensorType& type(Value value) const override { return graph_.type(value); }
  Value scalar(double value, DType dtype) override;

 private:
  Graph& graph_;
};

}  // namespace mxpipe
