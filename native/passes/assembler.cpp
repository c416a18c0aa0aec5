#include "passes/assembler.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "graph/error.hpp"

namespace mxpipe {
namespace {

bool compares(Opcode opcode) { return opcode >= Opcode::equal && opcode <= Opcode::is_nan; }
bool is_logical(Opcode opcode) { return opcode >= Opcode::logical_and && opcode <= Opcode::logical_not; }
// Chooses or copies one of its sources (or 0): what was representable stays so.
bool selects(Opcode opcode) {
  return opcode == Opcode::select || opcode == Opcode::maximum || opcode == Opcode::minimum ||
         opcode == Opcode::relu || opcode == Opcode::multiply_if_positive;
}
// Narrower than its register, so results must be brought back into range.
bool is_narrow(DType dtype) {
  switch (dtype) {
    case DType::float32:
    case DType::float64:
    case DType::int32:
    case DType::int64:
    case DType::uint64:
      return false;
    default:
      return true;
  }
}

// Which sources of an instruction are registers (the others name operands).
int register_sources(const Instruction& instruction) {
  switch (instruction.opcode) {
    case Opcode::load:
    case Opcode::constant:
    case Opcode::random_uniform:
      return 0;
    default:
      return 3;
  }
}

constexpr std::uint16_t kUnused = 0xFFFF;

double read_scalar(const Node& node) {
  const auto read = [&](auto sample) {
    std::memcpy(&sample, node.constant->data(), sizeof(sample));
    return static_cast<double>(sample);
  };
  switch (node.outputs[0].dtype) {
    case DType::float32:
      return read(float{});
    case DType::float64:
      return read(double{});
    case DType::int8:
      return read(std::int8_t{});
    case DType::int16:
      return read(std::int16_t{});
    case DType::int32:
      return read(std::int32_t{});
    case DType::int64:
      return read(std::int64_t{});
    case DType::uint8:
      return read(std::uint8_t{});
    case DType::uint16:
      return read(std::uint16_t{});
    case DType::uint32:
      return read(std::uint32_t{});
    case DType::uint64:
      return read(std::uint64_t{});
    default:
      return read(std::uint8_t{});
  }
}

// A double holds every inlined value exactly, except large 64-bit integers, which stay operands.
bool is_exact(double value, DType dtype) {
  return !(dtype == DType::int64 || dtype == DType::uint64) || std::abs(value) < 9007199254740992.0;
}

// Merges adjacent axes where every operand steps through them as through one, and drops axes of one element.
void merge_axes(Program& program) {
  Shape shape;
  std::vector<Shape> strides(program.inputs.size());
  for (int axis = 0; axis < program.shape.rank(); ++axis) {
    const std::int64_t dim = program.shape[axis];
    if (dim == 1) continue;
    bool mergeable = shape.rank() > 0;
    for (std::size_t i = 0; i < strides.size() && mergeable; ++i) {
      mergeable = strides[i].back() == program.inputs[i].strides[axis] * dim;
    }
    if (mergeable) {
      shape[shape.rank() - 1] *= dim;
      for (std::size_t i = 0; i < strides.size(); ++i)
        strides[i][strides[i].rank() - 1] = program.inputs[i].strides[axis];
    } else {
      shape.push_back(dim);
      for (std::size_t i = 0; i < strides.size(); ++i) strides[i].push_back(program.inputs[i].strides[axis]);
    }
  }
  program.shape = shape;
  for (std::size_t i = 0; i < strides.size(); ++i) program.inputs[i].strides = strides[i];
}

// Linear scan: a register is free again after the last read of its value.
void assign_registers(Program& program) {
  std::vector<std::size_t> last_read(kUnused, 0);
  for (std::size_t at = 0; at < program.instructions.size(); ++at) {
    const Instruction& instruction = program.instructions[at];
    for (int i = 0; i < register_sources(instruction); ++i) {
      const std::uint16_t source = instruction.sources[static_cast<std::size_t>(i)];
      if (source != kUnused) last_read[source] = at;
    }
  }
  std::vector<std::uint16_t> real(kUnused, kUnused);
  std::vector<std::uint16_t> unused;
  std::uint16_t made = 0;
  for (std::size_t at = 0; at < program.instructions.size(); ++at) {
    Instruction& instruction = program.instructions[at];
    for (int i = 0; i < register_sources(instruction); ++i) {
      std::uint16_t& source = instruction.sources[static_cast<std::size_t>(i)];
      if (source == kUnused) {
        source = 0;
        continue;
      }
      const std::uint16_t held = real[source];
      if (last_read[source] == at && std::find(unused.begin(), unused.end(), held) == unused.end())
        unused.push_back(held);
      source = held;
    }
    if (instruction.opcode == Opcode::store) continue;
    std::uint16_t target;
    if (unused.empty()) {
      target = made++;
    } else {
      target = unused.back();
      unused.pop_back();
    }
    const std::uint16_t virtual_register = instruction.destination;
    real[virtual_register] = target;
    instruction.destination = target;
    if (last_read[virtual_register] == 0) unused.push_back(target);  // never read: a value nobody stores
  }
  program.registers = made;
}

}  // namespace

bool is_inline_constant(const Graph& graph, Value value) {
  const Node& node = graph.node(value);
  if (node.kind == NodeKind::op) {
    return node.op && node.op->name == "full" &&
           is_exact(node.attributes.real("value"), node.outputs[0].dtype);
  }
  return node.kind == NodeKind::constant && node.outputs[0].size() == 1 &&
         node.outputs[0].dtype != DType::float16 && node.outputs[0].dtype != DType::bfloat16 &&
         is_exact(read_scalar(node), node.outputs[0].dtype);
}

void ProgramAssembler::lower(std::int32_t node) {
  current_ = &graph_.nodes[static_cast<std::size_t>(node)];
  std::vector<TensorType> types;
  for (const Value value : current_->inputs) types.push_back(graph_.type(value));
  registers_[{node, 0}] = current_->op->lower({*this, current_->attributes, types, current_->outputs[0]});
}

std::uint16_t ProgramAssembler::operand(Value value) {
  const auto found = std::find(operands_.begin(), operands_.end(), value);
  if (found != operands_.end()) return static_cast<std::uint16_t>(found - operands_.begin());
  const TensorType& type = graph_.type(value);
  ProgramInput input{type.dtype, shape_};
  const Shape own = contiguous_strides(type.shape);
  const int added = shape_.rank() - type.shape.rank();
  for (int axis = 0; axis < shape_.rank(); ++axis) {
    const bool broadcasts = axis < added || type.shape[axis - added] != shape_[axis];
    input.strides[axis] = broadcasts ? 0 : own[axis - added];
  }
  operands_.push_back(value);
  program_.inputs.push_back(input);
  return static_cast<std::uint16_t>(operands_.size() - 1);
}

ProgramAssembler::Register ProgramAssembler::append(Instruction instruction) {
  const auto target = static_cast<std::size_t>(program_.registers);
  if (target >= kUnused) fail(ErrorKind::internal, "fuse", "a program must have fewer than 65535 values.");
  instruction.destination = static_cast<Register>(program_.registers++);
  program_.instructions.push_back(instruction);
  return instruction.destination;
}

ProgramAssembler::Register ProgramAssembler::input(int index) {
  const Value value = current_->inputs[static_cast<std::size_t>(index)];
  if (const auto found = registers_.find(value); found != registers_.end()) return found->second;
  if (is_inline_constant(graph_, value)) return registers_[value] = inline_constant(value);
  Instruction load;
  load.opcode = Opcode::load;
  load.type = register_type(graph_.type(value).dtype);
  load.sources = {operand(value), kUnused, kUnused};
  return registers_[value] = append(load);
}

ProgramAssembler::Register ProgramAssembler::inline_constant(Value value) {
  const Node& node = graph_.node(value);
  const double number = node.kind == NodeKind::constant ? read_scalar(node) : node.attributes.real("value");
  return constant(number, node.outputs[0].dtype);
}

ProgramAssembler::Register ProgramAssembler::input_as(int index, DType dtype) {
  const DType own = graph_.type(current_->inputs[static_cast<std::size_t>(index)]).dtype;
  return convert(input(index), own, dtype);
}

ProgramAssembler::Register ProgramAssembler::constant(double value, DType dtype) {
  Instruction instruction;
  instruction.opcode = Opcode::constant;
  instruction.type = register_type(dtype);
  instruction.sources = {kUnused, kUnused, kUnused};
  const bool floating = is_floating(dtype);
  instruction.immediate = floating ? value : 0;
  instruction.integer = floating ? 0 : is_boolean(dtype) ? value != 0 : static_cast<std::int64_t>(value);
  const Register made = append(instruction);
  return floating && is_narrow(dtype) ? round_to(made, dtype) : made;
}

ProgramAssembler::Register ProgramAssembler::round_to(Register value, DType dtype) {
  Instruction instruction;
  instruction.opcode = Opcode::round_to;
  instruction.type = register_type(dtype);
  instruction.dtype = dtype;
  instruction.sources = {value, kUnused, kUnused};
  return append(instruction);
}

ProgramAssembler::Register ProgramAssembler::emit(Opcode opcode, DType dtype,
                                                  std::initializer_list<Register> sources) {
  Instruction instruction;
  instruction.opcode = opcode;
  instruction.type = register_type(dtype);
  instruction.sources = {kUnused, kUnused, kUnused};
  std::copy(sources.begin(), sources.end(), instruction.sources.begin());
  const Register made = append(instruction);
  const bool exact = compares(opcode) || is_logical(opcode) || selects(opcode) || is_boolean(dtype);
  return exact || !is_narrow(dtype) ? made : round_to(made, dtype);
}

ProgramAssembler::Register ProgramAssembler::random_uniform(int key_input, std::int64_t offset) {
  Instruction instruction;
  instruction.opcode = Opcode::random_uniform;
  // The key is not an element of the iteration space: its operand stands still.
  const Value key = current_->inputs[static_cast<std::size_t>(key_input)];
  const auto found = std::find(operands_.begin(), operands_.end(), key);
  if (found == operands_.end()) {
    ProgramInput still{DType::uint64, shape_};
    for (int axis = 0; axis < shape_.rank(); ++axis) still.strides[axis] = 0;
    operands_.push_back(key);
    program_.inputs.push_back(still);
  }
  const auto position = std::find(operands_.begin(), operands_.end(), key) - operands_.begin();
  instruction.sources = {static_cast<std::uint16_t>(position), kUnused, kUnused};
  instruction.integer = offset;
  return append(instruction);
}

ProgramAssembler::Register ProgramAssembler::convert(Register value, DType from, DType to) {
  if (from == to) return value;
  const RegisterType source = register_type(from);
  if (is_boolean(to)) return emit(Opcode::not_equal, from, {value, constant(0, from)});
  if (register_type(to) != source) {
    Instruction instruction;
    instruction.opcode = Opcode::convert;
    instruction.type = register_type(to);
    instruction.from = source;
    instruction.sources = {value, kUnused, kUnused};
    value = append(instruction);
  }
  return is_narrow(to) && !is_boolean(from) ? round_to(value, to) : value;
}

void ProgramAssembler::store(Value value) {
  Instruction instruction;
  instruction.opcode = Opcode::store;
  instruction.type = register_type(graph_.type(value).dtype);
  instruction.destination = static_cast<Register>(program_.outputs.size());
  instruction.sources = {registers_.at(value), kUnused, kUnused};
  program_.instructions.push_back(instruction);
  program_.outputs.push_back(graph_.type(value).dtype);
}

Program ProgramAssembler::finish() {
  program_.shape = shape_;
  merge_axes(program_);
  assign_registers(program_);
  return std::move(program_);
}

}  // namespace mxpipe
