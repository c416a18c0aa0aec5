// The fused elementwise program: a small register machine that the vector kernels run block by block in L1.
// What enters: a group of elementwise ops (passes/fuse lowers them; a single eager op is a group of one).
// What leaves: data. kernels/vec runs it; it can print itself.
#pragma once

#include <array>
#include <cstdint>
#include <ostream>
#include <string_view>
#include <vector>

#include "graph/shape.hpp"

namespace mxpipe {

// What a register holds. bool, int8..int32, uint8, uint16 compute in i32 (bool as 0 or 1); uint32, int64 and
// uint64 in i64; float16, bfloat16 and float32 in f32.
enum class RegisterType : std::uint8_t { f32, f64, i32, i64 };

RegisterType register_type(DType dtype);
std::string_view name_of(RegisterType type);
constexpr bool is_floating(RegisterType type) { return type <= RegisterType::f64; }

enum class Opcode : std::uint8_t {
  // moving
  load,      // destination <- input operand sources[0], converted to `type`
  store,     // output operand `destination` <- register sources[0] of `type`
  constant,  // destination <- immediate[0] (or integer when `type` is an integer)
  convert,   // destination (type) <- sources[0] (of type `from`); float to integer truncates toward zero
  round_to,  // destination <- sources[0] rounded (floats) or wrapped (integers) to `dtype`, kept in its
             // register type
  // arithmetic, in `type`
  add,
  subtract,
  multiply,
  divide,
  power,
  maximum,
  minimum,
  modulo,
  floor_divide,
  negative,
  absolute,
  sign,
  square,
  reciprocal,
  sqrt,
  rsqrt,
  exp,
  expm1,
  log,
  log1p,
  sin,
  cos,
  tanh,
  sigmoid,
  erf,
  softplus,
  floor,
  ceil,
  round,
  relu,                  // max(x, 0), and NaN stays NaN
  multiply_if_positive,  // destination <- sources[1] > 0 ? sources[0] : 0   (gradient of relu)
  // comparisons: sources in `type`, destination i32 holding 0 or 1
  equal,
  not_equal,
  less,
  less_equal,
  greater,
  greater_equal,
  is_nan,
  // on i32 truth values
  logical_and,
  logical_or,
  logical_not,
  select,  // destination (type) <- sources[0] (i32) != 0 ? sources[1] : sources[2]
  // counter-based random numbers: uniform in [0, 1), f32, a function of (seed, counter + integer, element
  // index).
  // sources[0] names an *input operand* of type uint64 and shape (2,), holding {seed, counter}.
  random_uniform,
};

std::string_view name_of(Opcode opcode);
int source_count(Opcode opcode);  // how many of Instruction::sources name registers that it reads

struct Instruction {
  Opcode opcode = Opcode::load;
  RegisterType type = RegisterType::f32;
  RegisterType from = RegisterType::f32;  // convert only
  DType dtype = DType::float32;           // round_to only
  std::uint16_t destination = 0;
  std::array<std::uint16_t, 3> sources{};
  double immediate = 0;      // constant of a float type
  std::int64_t integer = 0;  // constant of an integer type; offset of random_uniform
  bool operator==(const Instruction&) const = default;
};

struct ProgramInput {
  DType dtype = DType::float32;
  Shape strides;  // elements per step of each axis of Program::shape; 0 broadcasts
  bool operator==(const ProgramInput&) const = default;
};

struct Program {
  Shape shape;  // the iteration space, adjacent axes merged where every operand allows
  std::vector<ProgramInput> inputs;
  std::vector<DType> outputs;  // each contiguous over `shape`
  std::vector<Instruction> instructions;
  int registers = 0;  // registers are reused; each holds one block of one value of any type
  bool operator==(const Program&) const = default;
};

std::ostream& operator<<(std::ostream& stream, const Program& program);

}  // namespace mxpipe
