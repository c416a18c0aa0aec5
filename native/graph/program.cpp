#include "graph/program.hpp"

#include <string_view>

namespace mxpipe {
namespace {

constexpr std::string_view kTypeNames[] = {"f32", "f64", "i32", "i64"};

// In the order of Opcode.
constexpr std::string_view kOpcodeNames[] = {
    "load",       "store",        "constant",   "convert",     "round_to", "add",
    "subtract",   "multiply",     "divide",     "power",       "maximum",  "minimum",
    "modulo",     "floor_divide", "negative",   "absolute",    "sign",     "square",
    "reciprocal", "sqrt",         "rsqrt",      "exp",         "expm1",    "log",
    "log1p",      "sin",          "cos",        "tanh",        "sigmoid",  "erf",
    "softplus",   "floor",        "ceil",       "round",       "relu",     "multiply_if_positive",
    "equal",      "not_equal",    "less",       "less_equal",  "greater",  "greater_equal",
    "is_nan",     "logical_and",  "logical_or", "logical_not", "select",   "random_uniform"};

static_assert(std::size(kOpcodeNames) == static_cast<std::size_t>(Opcode::random_uniform) + 1);

void print(std::ostream& stream, const Instruction& instruction) {
  const auto [a, b, c] = instruction.sources;
  const std::string_view type = name_of(instruction.type);
  switch (instruction.opcode) {
    case Opcode::load:
      stream << 'r' << instruction.destination << " = load." << type << " in" << a;
      return;
    case Opcode::store:
      stream << "out" << instruction.destination << " = store." << type << " r" << a;
      return;
    case Opcode::constant:
      stream << 'r' << instruction.destination << " = constant." << type << ' ';
      if (is_floating(instruction.type)) {
        stream << instruction.immediate;
      } else {
        stream << instruction.integer;
      }
      return;
    case Opcode::random_uniform:
      stream << 'r' << instruction.destination << " = random_uniform.f32 in" << a << " + "
             << instruction.integer;
      return;
    default:
      break;
  }
  stream << 'r' << instruction.destination << " = " << name_of(instruction.opcode) << '.' << type;
  if (instruction.opcode == Opcode::convert) stream << '.' << name_of(instruction.from);
  if (instruction.opcode == Opcode::round_to) stream << '.' << instruction.dtype;
  const int sources = source_count(instruction.opcode);
  if (sources > 0) stream << " r" << a;
  if (sources > 1) stream << " r" << b;
  if (sources > 2) stream << " r" << c;
}

}  // namespace

RegisterType register_type(DType dtype) {
  switch (dtype) {
    case DType::float32:
    case DType::float16:
    case DType::bfloat16:
      return RegisterType::f32;
    case DType::float64:
      return RegisterType::f64;
    case DType::int64:
    case DType::uint32:
    case DType::uint64:
      return RegisterType::i64;
    default:
      return RegisterType::i32;
  }
}

std::string_view name_of(RegisterType type) { return kTypeNames[static_cast<std::size_t>(type)]; }
std::string_view name_of(Opcode opcode) { return kOpcodeNames[static_cast<std::size_t>(opcode)]; }

int source_count(Opcode opcode) {
  switch (opcode) {
    case Opcode::load:
    case Opcode::constant:
    case Opcode::random_uniform:
      return 0;
    case Opcode::select:
      return 3;
    case Opcode::add:
    case Opcode::subtract:
    case Opcode::multiply:
    case Opcode::divide:
    case Opcode::power:
    case Opcode::maximum:
    case Opcode::minimum:
    case Opcode::modulo:
    case Opcode::floor_divide:
    case Opcode::multiply_if_positive:
    case Opcode::equal:
    case Opcode::not_equal:
    case Opcode::less:
    case Opcode::less_equal:
    case Opcode::greater:
    case Opcode::greater_equal:
    case Opcode::logical_and:
    case Opcode::logical_or:
      return 2;
    default:
      return 1;
  }
}

std::ostream& operator<<(std::ostream& stream, const Program& program) {
  stream << "program over " << program.shape << ", " << program.registers << " registers\n";
  for (std::size_t i = 0; i < program.inputs.size(); ++i) {
    stream << "  in" << i << ": " << program.inputs[i].dtype << " strides " << program.inputs[i].strides
           << '\n';
  }
  for (std::size_t i = 0; i < program.outputs.size(); ++i) {
    stream << "  out" << i << ": " << program.outputs[i] << '\n';
  }
  for (const Instruction& instruction : program.instructions) {
    stream << "  ";
    print(stream, instruction);
    stream << '\n';
  }
  return stream;
}

}  // namespace mxpipe
