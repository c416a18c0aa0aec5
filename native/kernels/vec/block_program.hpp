// A program made ready to run: operands resolved to registers, splats and memory, loads and stores left out
// where a step can read or write memory in place. What enters: graph/program.hpp's Program. What leaves:
// steps over blocks in L1. Who calls: elementwise.cpp.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "graph/program.hpp"
#include "kernels/vec/table.hpp"

namespace mxpipe {

enum class Place : std::uint8_t {
  none,
  reg,     // a block in the arena, alive from its definition to its last use
  splat,   // one value repeated over a vector: constants and scalar inputs
  input,   // memory of an input, read in place
  output,  // memory of an output, written (and read again) in place
};

struct Operand {
  Place place = Place::none;
  std::int32_t index = 0;
};

enum class StepKind : std::uint8_t { compute, fetch, random };

struct Step {
  StepKind kind = StepKind::compute;
  BlockFunction function = nullptr;  // compute; fetch of a dtype that is no register type (else null)
  Operand destination;
  Operand sources[3];
  std::int32_t input = 0;    // fetch: which; random: the key
  std::int64_t integer = 0;  // random: added to the key's counter
  bool streams = false;      // compute: a copy to an output that may pass the caches by
  std::int8_t weight = 0;  // compute: 0 cannot ask for memory by the way, 1 does little else, 2 computes long
  std::int32_t ahead = -1;  // compute: the input whose next block it asks for
};

// How blocks find an input's elements.
enum class Access : std::uint8_t {
  splat,      // one element for all
  direct,     // contiguous at the block's place
  row_splat,  // by_rows only: one element a row
  gather,     // strided: copied element by element into a register
};

struct InputPlan {
  Access access = Access::direct;
  DType dtype = DType::float32;
  std::size_t element_bytes = 4;
  Shape strides;
  std::int32_t splat = -1;       // of Access::splat and row_splat
  BlockFunction load = nullptr;  // null: the dtype is a register type
};

struct OutputPlan {
  DType dtype = DType::float32;
  std::size_t element_bytes = 4;
};

struct Constant {
  RegisterType type = RegisterType::f32;
  double real = 0;
  std::int64_t integer = 0;
};

struct BlockProgram {
  Shape shape;
  std::int64_t size = 0;
  std::int64_t inner = 1;  // length of the last axis
  bool by_rows = false;    // blocks stay within a row, so that inputs repeated over rows are read in place
  std::vector<InputPlan> inputs;
  std::vector<OutputPlan> outputs;
  std::vector<Constant> constants;  // splats 0, 1, ...; inputs' splats follow
  std::int32_t splats = 0;
  std::int32_t registers = 0;
  std::size_t register_width = 4;  // bytes an element
  std::int64_t block = 0;          // elements
  std::vector<Step> steps;
  std::size_t instructions = 0;
  bool large = false;  // more memory than caches hold: inputs are fetched ahead, outputs pass the caches by

  std::size_t arena_bytes() const;
};

BlockProgram prepare(const Program& program, const IsaTable& table);

}  // namespace mxpipe
