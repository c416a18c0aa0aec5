// Lowers elementwise nodes of one shape into one program: loads shared, constants inlined, registers reused.
#pragma once

#include <map>
#include <vector>

#include "graph/graph.hpp"
#include "ops/registry.hpp"

namespace mxpipe {

// A value that every program can make for itself instead of loading it: a one-element constant or a `full`.
bool is_inline_constant(const Graph& graph, Value value);

class ProgramAssembler : public ProgramBuilder {
 public:
  ProgramAssembler(const Graph& graph, Shape shape) : graph_(graph), shape_(std::move(shape)) {}

  void lower(std::int32_t node);  // its in-group inputs must have been lowered before
  void store(Value value);        // makes it the next output of the program
  Program finish();
  const std::vector<Value>& external_inputs() const { return operands_; }

  Register input(int index) override;
  Register input_as(int index, DType dtype) override;
  Register constant(double value, DType dtype) override;
  Register emit(Opcode opcode, DType dtype, std::initializer_list<Register> sources) override;
  Register random_uniform(int key_input, std::int64_t offset) override;
  Register convert(Register value, DType from, DType to) override;

 private:
  std::uint16_t operand(Value value);
  Register append(Instruction instruction);
  Register round_to(Register value, DType dtype);
  Register inline_constant(Value value);

  const Graph& graph_;
  Shape shape_;
  const Node* current_ = nullptr;
  std::map<Value, Register> registers_;  // values computed or loaded so far
  std::vector<Value> operands_;
  Program program_;
};

}  // namespace mxpipe
