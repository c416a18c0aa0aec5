#include "kernels/vec/block_program.hpp"

#include <algorithm>
#include <utility>

#include "graph/error.hpp"

namespace mxpipe {
namespace {

constexpr std::size_t kArenaTarget = 24 * 1024;  // what registers may take of L1
constexpr std::int64_t kMaxBlock = 1024;
constexpr std::size_t kLarge = std::size_t{32} << 20;  // bytes that no cache keeps until they are used again
constexpr std::int64_t kMinRow = 256;                  // shorter rows are not worth a block of their own

std::size_t width_of(RegisterType type) {
  return type == RegisterType::f64 || type == RegisterType::i64 ? 8 : 4;
}

// A value of the program in single-assignment form.
struct Value {
  RegisterType type = RegisterType::f32;
  Operand operand;
  std::int32_t defined = -1;   // step
  std::int32_t last_use = -1;  // step
};

class Preparation {
 public:
  Preparation(const Program& program, const IsaTable& table) : program_(program), table_(table) {}

  BlockProgram run() {
    plan_inputs();
    for (const DType dtype : program_.outputs) result_.outputs.push_back({dtype, size_of(dtype)});
    result_.large = touched_bytes() > kLarge;
    current_.assign(static_cast<std::size_t>(std::max(program_.registers, 1)), -1);
    for (const Instruction& instruction : program_.instructions) lower(instruction);
    pair_steps();
    place_stores();
    allocate();
    size_blocks();
    if (result_.large) share_fetches();
    result_.instructions = program_.instructions.size();
    return std::move(result_);
  }

 private:
  // --- inputs
  // ------------------------------------------------------------------------------------------------

  void plan_inputs() {
    result_.shape = program_.shape;
    result_.size = program_.shape.size();
    const int rank = program_.shape.rank();
    result_.inner = rank == 0 ? 1 : program_.shape.back();
    const Shape whole = contiguous_strides(program_.shape);
    bool random = false;
    for (const Instruction& instruction : program_.instructions) {
      random = random || instruction.opcode == Opcode::random_uniform;
    }
    bool rows_help = false;
    for (const ProgramInput& input : program_.inputs) {
      rows_help =
          rows_help || (!is_scalar(input) && !is_contiguous(input, whole) && input.strides.back() <= 1);
    }
    result_.by_rows = rows_help && !random && result_.inner >= kMinRow;
    for (const ProgramInput& input : program_.inputs) result_.inputs.push_back(plan_input(input, whole));
  }

  std::size_t touched_bytes() const {
    std::size_t element = 0;
    for (const OutputPlan& output : result_.outputs) element += output.element_bytes;
    for (const InputPlan& input : result_.inputs) {
      if (input.access == Access::direct && !result_.by_rows) element += input.element_bytes;
    }
    return element * static_cast<std::size_t>(result_.size);
  }

  // Strides of axes of length 1 mean nothing.
  bool is_scalar(const ProgramInput& input) const {
    for (int axis = 0; axis < input.strides.rank(); ++axis) {
      if (input.strides[axis] != 0 && program_.shape[axis] != 1) return false;
    }
    return true;
  }
  bool is_contiguous(const ProgramInput& input, const Shape& whole) const {
    for (int axis = 0; axis < input.strides.rank(); ++axis) {
      if (input.strides[axis] != whole[axis] && program_.shape[axis] != 1) return false;
    }
    return true;
  }

  InputPlan plan_input(const ProgramInput& input, const Shape& whole) {
    InputPlan plan;
    plan.dtype = input.dtype;
    plan.element_bytes = size_of(input.dtype);
    plan.strides = input.strides;
    if (is_scalar(input)) {
      plan.access = Access::splat;
    } else if (is_contiguous(input, whole)) {
      plan.access = Access::direct;
    } else if (result_.by_rows && input.strides.back() == 1) {
      plan.access = Access::direct;
    } else if (result_.by_rows && input.strides.back() == 0) {
      plan.access = Access::row_splat;
    } else {
      plan.access = Access::gather;
    }
    const bool native = input.dtype == DType::float32 || input.dtype == DType::float64 ||
                        input.dtype == DType::int32 || input.dtype == DType::int64 ||
                        input.dtype == DType::uint64;
    if (!native) plan.load = table_.load(input.dtype);
    return plan;
  }

  // --- lowering
  // ----------------------------------------------------------------------------------------------

  std::int32_t new_value(RegisterType type, Operand operand) {
    values_.push_back({type, operand, -1, -1});
    return static_cast<std::int32_t>(values_.size()) - 1;
  }

  // `opcode`: of arithmetic in float32, which may be half of a pair.
  std::int32_t emit(Step step, RegisterType type, std::span<const std::int32_t> sources,
                    Opcode opcode = Opcode::load) {
    for (std::size_t i = 0; i < sources.size(); ++i) step_sources_.push_back(sources[i]);
    for (std::size_t i = sources.size(); i < 3; ++i) step_sources_.push_back(-1);
    const std::int32_t value = new_value(type, {Place::reg, -1});
    values_.back().defined = static_cast<std::int32_t>(result_.steps.size());
    step_values_.push_back(value);
    result_.steps.push_back(step);
    opcodes_.push_back(opcode);
    return value;
  }

  std::int32_t converted(std::int32_t value, RegisterType to) {
    const RegisterType from = values_[static_cast<std::size_t>(value)].type;
    if (from == to) return value;
    Step step;
    step.function = table_.convert(from, to);
    return emit(step, to, std::span(&value, 1));
  }

  std::int32_t loaded(std::int32_t index) {
    InputPlan& input = result_.inputs[static_cast<std::size_t>(index)];
    const RegisterType type = register_type(input.dtype);
    if (input.access == Access::splat || input.access == Access::row_splat) {
      return new_value(type, {Place::splat, -1 - index});  // numbered once all constants are known
    }
    if (input.access == Access::direct && input.load == nullptr)
      return new_value(type, {Place::input, index});
    Step step;
    step.kind = StepKind::fetch;
    step.input = index;
    step.function = input.load;
    return emit(step, type, {});
  }

  std::int32_t source(const Instruction& instruction, int which) const {
    const std::int32_t value = current_.at(instruction.sources[static_cast<std::size_t>(which)]);
    if (value < 0) fail(ErrorKind::internal, "program", "a register must be written before it is read.");
    return value;
  }

  void lower(const Instruction& instruction) {
    std::int32_t value = -1;
    switch (instruction.opcode) {
      case Opcode::store:
        stores_.push_back({instruction.destination, source(instruction, 0)});
        return;
      case Opcode::load:
        value = converted(loaded(instruction.sources[0]), instruction.type);
        break;
      case Opcode::constant:
        result_.constants.push_back({instruction.type, instruction.immediate, instruction.integer});
        value = new_value(instruction.type,
                          {Place::splat, static_cast<std::int32_t>(result_.constants.size()) - 1});
        break;
      case Opcode::convert:
        value = converted(source(instruction, 0), instruction.type);
        break;
      case Opcode::round_to:
        value = rounded(instruction);
        break;
      case Opcode::random_uniform: {
        Step step;
        step.kind = StepKind::random;
        step.input = instruction.sources[0];
        step.integer = instruction.integer;
        value = emit(step, RegisterType::f32, {});
        break;
      }
      default:
        value = computed(instruction);
    }
    current_.at(instruction.destination) = value;
  }

  std::int32_t rounded(const Instruction& instruction) {
    const std::int32_t from = source(instruction, 0);
    Step step;
    step.function = table_.round_to(instruction.dtype);
    if (step.function == nullptr) return from;
    return emit(step, instruction.type, std::span(&from, 1));
  }

  std::int32_t computed(const Instruction& instruction) {
    Step step;
    step.function = table_.operation(instruction.opcode, instruction.type);
    step.weight = weight_of(instruction.opcode);
    if (step.function == nullptr) {
      fail(ErrorKind::internal, "program", name_of(instruction.opcode), " must have a meaning for ",
           name_of(instruction.type), ".");
    }
    std::int32_t sources[3];
    const int count = source_count(instruction.opcode);
    for (int i = 0; i < count; ++i) sources[i] = source(instruction, i);
    return emit(step, result_type(instruction), std::span(sources, static_cast<std::size_t>(count)),
                instruction.type == RegisterType::f32 ? instruction.opcode : Opcode::load);
  }

  static std::int8_t weight_of(Opcode opcode) {
    if (opcode >= Opcode::exp && opcode <= Opcode::softplus) return 2;
    return opcode >= Opcode::add && opcode < Opcode::equal ? 1 : 0;
  }

  static RegisterType result_type(const Instruction& instruction) {
    const bool truth = instruction.opcode >= Opcode::equal && instruction.opcode <= Opcode::logical_not;
    return truth ? RegisterType::i32 : instruction.type;
  }

  // --- pairs
  // -----------------------------------------------------------------------------------------------

  // A step that is the only reader of another becomes one with it, where there is a function for both: their
  // value does not pass through L1.
  void pair_steps() {
    std::vector<int> uses(values_.size(), 0);
    for (const std::int32_t value : step_sources_) {
      if (value >= 0) ++uses[static_cast<std::size_t>(value)];
    }
    for (const auto& store : stores_) ++uses[static_cast<std::size_t>(store.second)];
    std::vector<bool> gone(result_.steps.size(), false);
    for (std::size_t i = 0; i < result_.steps.size(); ++i) {
      if (opcodes_[i] == Opcode::load) continue;
      for (const std::size_t side : {std::size_t{0}, std::size_t{1}}) {
        const std::int32_t value = step_sources_[3 * i + side];
        if (value < 0 || uses[static_cast<std::size_t>(value)] != 1) continue;
        const std::int32_t defined = values_[static_cast<std::size_t>(value)].defined;
        if (defined >= 0 && join(static_cast<std::size_t>(defined), i, side)) {
          gone[static_cast<std::size_t>(defined)] = true;
          break;
        }
      }
    }
    drop(gone);
  }

  // Step `first` into `second`, whose source `side` it is.
  bool join(std::size_t first, std::size_t second, std::size_t side) {
    const bool squares = opcodes_[first] == Opcode::square;
    const Opcode opcode = squares ? Opcode::multiply : opcodes_[first];
    const BlockFunction function = table_.pair(opcode, opcodes_[second], side == 0);
    if (function == nullptr) return false;
    const std::int32_t other = step_sources_[3 * second + 1 - side];
    step_sources_[3 * second] = step_sources_[3 * first];
    step_sources_[3 * second + 1] = step_sources_[3 * first + (squares ? 0 : 1)];
    step_sources_[3 * second + 2] = other;
    result_.steps[second].function = function;
    opcodes_[second] = Opcode::load;  // no half of another pair
    return true;
  }

  void drop(const std::vector<bool>& gone) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < gone.size(); ++i) {
      if (gone[i]) continue;
      result_.steps[kept] = result_.steps[i];
      step_values_[kept] = step_values_[i];
      values_[static_cast<std::size_t>(step_values_[i])].defined = static_cast<std::int32_t>(kept);
      std::copy_n(step_sources_.begin() + static_cast<std::ptrdiff_t>(3 * i), 3,
                  step_sources_.begin() + static_cast<std::ptrdiff_t>(3 * kept));
      ++kept;
    }
    result_.steps.resize(kept);
    step_values_.resize(kept);
    step_sources_.resize(3 * kept);
  }

  // --- stores
  // ------------------------------------------------------------------------------------------------

  // An output may be the memory of an input, so nothing is written before the last read of any input. A value
  // that is computed after it goes straight to its output; others wait in a register.
  void place_stores() {
    std::int32_t last_read = -1;
    for (std::size_t i = 0; i < result_.steps.size(); ++i) {
      bool reads = result_.steps[i].kind == StepKind::fetch;
      for (std::size_t j = 0; j < 3; ++j) {
        const std::int32_t value = step_sources_[3 * i + j];
        reads =
            reads || (value >= 0 && values_[static_cast<std::size_t>(value)].operand.place == Place::input);
      }
      if (reads) last_read = static_cast<std::int32_t>(i);
    }
    for (auto& [output, value] : stores_) {
      const DType dtype = result_.outputs.at(output).dtype;
      value = converted(value, register_type(dtype));
      const Value stored = values_[static_cast<std::size_t>(value)];
      if (stored.operand.place == Place::input && stores_.size() > 1) {
        Step copy;
        copy.function = table_.operation(Opcode::constant, stored.type);
        value = emit(copy, stored.type, std::span(&value, 1));
        last_read = static_cast<std::int32_t>(result_.steps.size()) - 1;
      }
    }
    for (const auto& [output, value] : stores_) {
      const DType dtype = result_.outputs.at(output).dtype;
      Value& stored = values_[static_cast<std::size_t>(value)];
      const Operand to{Place::output, output};
      const bool native = register_type(dtype) == RegisterType::f64 || dtype == DType::float32 ||
                          dtype == DType::int32 || dtype == DType::int64 || dtype == DType::uint64;
      Step step;
      step.streams = result_.large && dtype == DType::float32;
      if (native && !step.streams && stored.operand.place == Place::reg && stored.defined >= last_read) {
        stored.operand = to;
        continue;
      }
      step.function = table_.store(dtype);
      emit(step, register_type(dtype), std::span(&value, 1));
      values_.back().operand = to;
    }
  }

  // Each input's next block comes into cache while a step computes on this one: the longest steps ask first,
  // then others at even distances, since memory takes its time for a block.
  void share_fetches() {
    std::vector<std::int32_t> inputs;
    for (std::size_t i = 0; i < result_.inputs.size(); ++i) {
      if (result_.inputs[i].access == Access::direct) inputs.push_back(static_cast<std::int32_t>(i));
    }
    for (const int weight : {2, 1}) {
      std::vector<Step*> steps;
      for (Step& step : result_.steps) {
        if (step.weight == weight) steps.push_back(&step);
      }
      const std::size_t count = std::min(steps.size(), inputs.size());
      for (std::size_t i = 0; i < count; ++i) steps[i * steps.size() / count]->ahead = inputs[i];
      inputs.erase(inputs.begin(), inputs.begin() + static_cast<std::ptrdiff_t>(count));
    }
  }

  // --- registers
  // ---------------------------------------------------------------------------------------------

  void allocate() {
    number_splats();
    for (std::size_t i = 0; i < result_.steps.size(); ++i) {
      for (std::size_t j = 0; j < 3; ++j) {
        const std::int32_t value = step_sources_[3 * i + j];
        if (value >= 0) values_[static_cast<std::size_t>(value)].last_use = static_cast<std::int32_t>(i);
      }
    }
    std::vector<std::int32_t> free;
    for (std::size_t i = 0; i < result_.steps.size(); ++i) {
      Step& step = result_.steps[i];
      Value& made = values_[static_cast<std::size_t>(step_values_[i])];
      bool one_width = true;  // a step may write over its sources only element for element
      for (std::size_t j = 0; j < 3; ++j) {
        const std::int32_t value = step_sources_[3 * i + j];
        if (value < 0) continue;
        step.sources[j] = values_[static_cast<std::size_t>(value)].operand;
        one_width =
            one_width && width_of(values_[static_cast<std::size_t>(value)].type) == width_of(made.type);
      }
      if (one_width) release(i, free);
      if (made.operand.place == Place::reg) {
        made.operand.index = take(free);
        // Never read: the register is free again at once.
        if (made.last_use < 0) free.push_back(made.operand.index);
      }
      step.destination = made.operand;
      if (!one_width) release(i, free);
      result_.register_width = std::max(result_.register_width, width_of(made.type));
    }
  }

  void release(std::size_t step, std::vector<std::int32_t>& free) {
    for (std::size_t j = 0; j < 3; ++j) {
      const std::int32_t id = step_sources_[3 * step + j];
      if (id < 0) continue;
      Value& value = values_[static_cast<std::size_t>(id)];
      if (value.operand.place != Place::reg || value.last_use != static_cast<std::int32_t>(step)) continue;
      free.push_back(value.operand.index);
      value.last_use = -1;  // a source may appear twice
    }
  }

  std::int32_t take(std::vector<std::int32_t>& free) {
    if (free.empty()) return result_.registers++;
    const std::int32_t index = free.back();
    free.pop_back();
    return index;
  }

  void number_splats() {
    result_.splats = static_cast<std::int32_t>(result_.constants.size());
    for (InputPlan& input : result_.inputs) {
      if (input.access == Access::splat || input.access == Access::row_splat) input.splat = result_.splats++;
    }
    for (Value& value : values_) {
      if (value.operand.place != Place::splat || value.operand.index >= 0) continue;
      value.operand.index = result_.inputs[static_cast<std::size_t>(-1 - value.operand.index)].splat;
    }
  }

  void size_blocks() {
    const auto registers = static_cast<std::size_t>(std::max(result_.registers, 1));
    const auto fitting = static_cast<std::int64_t>(kArenaTarget / (registers * result_.register_width));
    result_.block = std::clamp<std::int64_t>(fitting / kRandomGroup * kRandomGroup, kRandomGroup, kMaxBlock);
  }

  const Program& program_;
  const IsaTable& table_;
  BlockProgram result_;
  std::vector<Value> values_;
  std::vector<std::int32_t> current_;       // register -> value
  std::vector<std::int32_t> step_sources_;  // three values a step, -1: none
  std::vector<std::int32_t> step_values_;   // what a step defines
  std::vector<Opcode> opcodes_;             // of each step, until steps are paired
  std::vector<std::pair<std::uint16_t, std::int32_t>> stores_;
};

}  // namespace

std::size_t BlockProgram::arena_bytes() const {
  constexpr std::size_t kTail = kBlockPad * 8;
  const std::size_t gathered = static_cast<std::size_t>(block) * 8;  // raw elements before their conversion
  return static_cast<std::size_t>(registers) * static_cast<std::size_t>(block) * register_width + gathered +
         static_cast<std::size_t>(splats) * kSplatBytes + (inputs.size() + outputs.size()) * kTail;
}

BlockProgram prepare(const Program& program, const IsaTable& table) {
  return Preparation(program, table).run();
}

}  // namespace mxpipe
