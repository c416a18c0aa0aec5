// Op "elementwise": runs a program block by block.
// Bytes: every input and output once, whatever the number of instructions; operations: one a lane and
// instruction, through L1. A chunk of blocks is one thread's work; chunks depend on the program only.
#include <algorithm>
#include <cstring>
#include <memory>

#include "graph/error.hpp"
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "kernels/vec/block_program.hpp"
#include "kernels/vec/isa.hpp"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace mxpipe {
namespace {

constexpr std::size_t kStackArena = 40 * 1024;
constexpr std::size_t kTailBytes = kBlockPad * 8;
constexpr std::size_t kStreamAlignment = 64;    // of destinations that pass the caches by
constexpr std::int64_t kTileOfRow = 16 * 1024;  // elements of a long row that are one thread's work

// The state of one chunk: an arena in L1 and where the current block's operands lie.
class BlockRunner {
 public:
  BlockRunner(const BlockProgram& program, const IsaTable& table, std::span<const void* const> inputs,
              std::span<void* const> outputs, std::byte* arena)
      : program_(program), table_(table), inputs_(inputs), outputs_(outputs) {
    registers_ = arena;
    gathered_ = registers_ + static_cast<std::size_t>(program.registers) * register_bytes();
    splats_ = gathered_ + static_cast<std::size_t>(program.block) * 8;
    tails_ = splats_ + static_cast<std::size_t>(program.splats) * kSplatBytes;
    fill_splats();
  }

  // Elements [first, first + count) of the iteration space; with by_rows they lie in one row.
  void run(std::int64_t first, std::int64_t count) {
    locate(first);
    last_ = count;
    const std::int64_t whole = count / kBlockPad * kBlockPad;
    for (std::int64_t done = 0; done < whole; done += program_.block) {
      execute(done, std::min(program_.block, whole - done));
    }
    if (whole < count) run_tail(whole, count - whole);
    finish_streams();
  }

 private:
  // Other threads see what passed the caches by only after this.
  void finish_streams() const {
#if defined(__x86_64__)
    if (program_.large) _mm_sfence();
#endif
  }

  // Streams need whole lines. In place they pay as well: 23 million parameters of AdamW, alone, took 7.3 ms
  // with them and 11 without.
  static bool may_stream(const std::byte* destination) {
    return reinterpret_cast<std::uintptr_t>(destination) % kStreamAlignment == 0;
  }

  std::size_t register_bytes() const {
    return static_cast<std::size_t>(program_.block) * program_.register_width;
  }

  void fill_splats() {
    for (std::size_t i = 0; i < program_.constants.size(); ++i) {
      const Constant& constant = program_.constants[i];
      switch (constant.type) {
        case RegisterType::f32:
          fill_splat(i, static_cast<float>(constant.real));
          break;
        case RegisterType::f64:
          fill_splat(i, constant.real);
          break;
        case RegisterType::i32:
          fill_splat(i, static_cast<std::int32_t>(constant.integer));
          break;
        case RegisterType::i64:
          fill_splat(i, constant.integer);
          break;
      }
    }
    for (std::size_t i = 0; i < program_.inputs.size(); ++i) {
      if (program_.inputs[i].access == Access::splat)
        splat_input(i, static_cast<const std::byte*>(inputs_[i]));
    }
  }

  template <typename T>
  void fill_splat(std::size_t splat, T value) {
    for (std::size_t i = 0; i < kSplatBytes / sizeof(T); ++i) {
      std::memcpy(splats_ + splat * kSplatBytes + i * sizeof(T), &value, sizeof(T));
    }
  }

  void splat_input(std::size_t index, const std::byte* element) {
    const InputPlan& input = program_.inputs[index];
    std::byte* splat = splats_ + static_cast<std::size_t>(input.splat) * kSplatBytes;
    if (input.load == nullptr) {
      for (std::size_t i = 0; i < kSplatBytes; i += input.element_bytes) {
        std::memcpy(splat + i, element, input.element_bytes);
      }
      return;
    }
    alignas(64) std::byte raw[kBlockPad * 8];
    alignas(64) std::byte values[kBlockPad * 8];
    for (std::size_t i = 0; i < kBlockPad; ++i)
      std::memcpy(raw + i * input.element_bytes, element, input.element_bytes);
    BlockCall call;
    call.destination = values;
    call.sources[0] = raw;
    call.count = kBlockPad;
    input.load(call);
    std::memcpy(splat, values, kSplatBytes);
  }

  // Offset of element `place` of the iteration space in an input, in elements.
  std::int64_t offset_of(const InputPlan& input, std::int64_t place) const {
    std::int64_t offset = 0;
    for (int axis = program_.shape.rank() - 1; axis >= 0; --axis) {
      const std::int64_t dim = program_.shape[axis];
      offset += place % dim * input.strides[axis];
      place /= dim;
    }
    return offset;
  }

  void locate(std::int64_t first) {
    first_ = first;
    if (!program_.by_rows) return;
    for (std::size_t i = 0; i < program_.inputs.size(); ++i) {
      const InputPlan& input = program_.inputs[i];
      if (input.access != Access::row_splat) continue;
      const auto offset = static_cast<std::size_t>(offset_of(input, first)) * input.element_bytes;
      splat_input(i, static_cast<const std::byte*>(inputs_[i]) + offset);
    }
  }

  const std::byte* input_at(std::size_t index, std::int64_t done) const {
    if (in_tail_) return tails_ + index * kTailBytes;
    const InputPlan& input = program_.inputs[index];
    const std::int64_t offset = program_.by_rows ? offset_of(input, first_) + done : first_ + done;
    return static_cast<const std::byte*>(inputs_[index]) +
           static_cast<std::size_t>(offset) * input.element_bytes;
  }

  std::byte* output_at(std::size_t index, std::int64_t done) const {
    if (in_tail_) return tails_ + (program_.inputs.size() + index) * kTailBytes;
    const auto offset = static_cast<std::size_t>(first_ + done) * program_.outputs[index].element_bytes;
    return static_cast<std::byte*>(outputs_[index]) + offset;
  }

  std::byte* resolve(const Operand& operand, std::int64_t done) const {
    const auto index = static_cast<std::size_t>(operand.index);
    switch (operand.place) {
      case Place::reg:
        return registers_ + index * register_bytes();
      case Place::splat:
        return splats_ + index * kSplatBytes;
      case Place::input:
        return const_cast<std::byte*>(input_at(index, done));  // read only: never a destination
      case Place::output:
        return output_at(index, done);
      case Place::none:
        break;
    }
    return nullptr;
  }

  void execute(std::int64_t done, std::int64_t count) {
    const std::int64_t next = done + count;
    for (const Step& step : program_.steps) {
      std::byte* destination = resolve(step.destination, done);
      if (step.kind == StepKind::compute) {
        BlockCall call;
        call.destination = destination;
        for (int i = 0; i < 3; ++i) {
          call.sources[i] = resolve(step.sources[i], done);
          call.steps[i] = step.sources[i].place == Place::splat ? 0 : 1;
        }
        call.count = count;
        if (step.ahead >= 0 && next < last_ && !in_tail_) {
          const auto input = static_cast<std::size_t>(step.ahead);
          call.ahead = input_at(input, next);
          call.ahead_bytes = static_cast<std::int64_t>(program_.inputs[input].element_bytes);
        }
        (step.streams && may_stream(destination) ? table_.stream : step.function)(call);
      } else if (step.kind == StepKind::fetch) {
        fetch(step, destination, done, count);
      } else {
        RandomKey key;
        const auto* words = static_cast<const std::byte*>(inputs_[static_cast<std::size_t>(step.input)]);
        std::memcpy(&key.seed, words, 8);
        std::memcpy(&key.counter, words + 8, 8);
        key.counter += static_cast<std::uint64_t>(step.integer);
        table_.random_uniform(reinterpret_cast<float*>(destination), first_ + done, count, key);
      }
    }
  }

  void fetch(const Step& step, std::byte* destination, std::int64_t done, std::int64_t count) {
    const auto index = static_cast<std::size_t>(step.input);
    const InputPlan& input = program_.inputs[index];
    const std::byte* source = nullptr;
    if (input.access == Access::gather && !in_tail_) {
      std::byte* raw = step.function == nullptr ? destination : gathered_;
      gather(index, first_ + done, count, raw);
      source = raw;
    } else {
      source = input_at(index, done);
    }
    if (step.function == nullptr) {
      if (source != destination)
        std::memcpy(destination, source, static_cast<std::size_t>(count) * input.element_bytes);
      return;
    }
    BlockCall call;
    call.destination = destination;
    call.sources[0] = source;
    call.count = count;
    step.function(call);
  }

  void gather(std::size_t index, std::int64_t place, std::int64_t count, std::byte* to) const {
    const InputPlan& input = program_.inputs[index];
    const auto* from = static_cast<const std::byte*>(inputs_[index]);
    switch (input.element_bytes) {
      case 1:
        return gather_as<std::uint8_t>(input, from, place, count, to);
      case 2:
        return gather_as<std::uint16_t>(input, from, place, count, to);
      case 4:
        return gather_as<std::uint32_t>(input, from, place, count, to);
      default:
        return gather_as<std::uint64_t>(input, from, place, count, to);
    }
  }

  template <typename T>
  void gather_as(const InputPlan& input, const std::byte* from, std::int64_t place, std::int64_t count,
                 std::byte* to) const {
    const std::int64_t inner = program_.inner;
    const std::int64_t stride = input.strides.back();
    const T* base = reinterpret_cast<const T*>(from);
    T* destination = reinterpret_cast<T*>(to);
    while (count > 0) {
      const std::int64_t length = std::min(count, inner - place % inner);
      const T* row = base + offset_of(input, place);
      if (stride == 1) {
        for (std::int64_t i = 0; i < length; ++i) destination[i] = row[i];
      } else if (stride == 0) {
        for (std::int64_t i = 0; i < length; ++i) destination[i] = *row;
      } else {
        for (std::int64_t i = 0; i < length; ++i) destination[i] = row[i * stride];
      }
      destination += length;
      place += length;
      count -= length;
    }
  }

  // The last elements, fewer than a vector: through padded buffers, by the same vector code.
  void run_tail(std::int64_t done, std::int64_t count) {
    for (std::size_t i = 0; i < program_.inputs.size(); ++i) {
      const InputPlan& input = program_.inputs[i];
      std::byte* tail = tails_ + i * kTailBytes;
      if (input.access == Access::direct) {
        std::memcpy(tail, input_at(i, done), static_cast<std::size_t>(count) * input.element_bytes);
      } else if (input.access == Access::gather) {
        gather(i, first_ + done, count, tail);
      }
    }
    in_tail_ = true;
    execute(done, kBlockPad);
    in_tail_ = false;
    for (std::size_t i = 0; i < program_.outputs.size(); ++i) {
      const std::size_t bytes = static_cast<std::size_t>(count) * program_.outputs[i].element_bytes;
      std::memcpy(output_at(i, done), tails_ + (program_.inputs.size() + i) * kTailBytes, bytes);
    }
  }

  const BlockProgram& program_;
  const IsaTable& table_;
  std::span<const void* const> inputs_;
  std::span<void* const> outputs_;
  std::byte* registers_;
  std::byte* gathered_;
  std::byte* splats_;
  std::byte* tails_;
  std::int64_t first_ = 0, last_ = 0;
  bool in_tail_ = false;
};

class ElementwiseKernel final : public Kernel {
 public:
  ElementwiseKernel(const Program& program, const IsaTable& table)
      : table_(table), program_(prepare(program, table)) {
    // Measured: about a nanosecond for an element and 40 instructions, and seldom less for its memory.
    const auto cost = static_cast<std::int64_t>(std::max<std::size_t>(1, program_.instructions / 10));
    grain_ =
        std::max<std::int64_t>(grain_for(cost, kChunkWork) / kMaxGrainUnit * kMaxGrainUnit, kMaxGrainUnit);
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    if (program_.by_rows) {
      run_rows(inputs, outputs);
      return;
    }
    parallel_for(program_.size, grain_, [&](std::int64_t begin, std::int64_t end) {
      with_runner(inputs, outputs, [&](BlockRunner& runner) { runner.run(begin, end - begin); });
    });
  }

  std::string describe() const override {
    return text("vec ", table_.name, " program of ", program_.instructions, " in ", program_.steps.size(),
                " steps");
  }

 private:
  static constexpr std::int64_t kMaxGrainUnit = 4096;
  // 15 us: a second thread that has gone to sleep is woken for no less than 60.
  static constexpr std::int64_t kChunkWork = 3 << 14;

  template <typename Body>
  void with_runner(std::span<const void* const> inputs, std::span<void* const> outputs,
                   const Body& body) const {
    const std::size_t bytes = program_.arena_bytes();
    alignas(64) std::byte stack[kStackArena];
    std::unique_ptr<std::byte[]> heap;  // for programs of very many registers
    if (bytes > kStackArena) heap.reset(new std::byte[bytes + 64]);
    std::byte* arena = stack;
    if (heap) {
      const auto address = reinterpret_cast<std::uintptr_t>(heap.get());
      arena = heap.get() + (64 - address % 64) % 64;
    }
    BlockRunner runner(program_, table_, inputs, outputs, arena);
    body(runner);
  }

  void run_rows(std::span<const void* const> inputs, std::span<void* const> outputs) const {
    const std::int64_t inner = program_.inner;
    const std::int64_t tiles = (inner + kTileOfRow - 1) / kTileOfRow;
    const std::int64_t units = program_.size / inner * tiles;
    const std::int64_t grain = std::max<std::int64_t>(1, grain_ / std::min(inner, kTileOfRow));
    parallel_for(units, grain, [&](std::int64_t begin, std::int64_t end) {
      with_runner(inputs, outputs, [&](BlockRunner& runner) {
        for (std::int64_t unit = begin; unit < end; ++unit) {
          const std::int64_t column = unit % tiles * kTileOfRow;
          runner.run(unit / tiles * inner + column, std::min(kTileOfRow, inner - column));
        }
      });
    });
  }

  const IsaTable& table_;
  BlockProgram program_;
  std::int64_t grain_ = 0;
};

std::unique_ptr<Kernel> make_elementwise(const KernelRequest& request) {
  if (!request.program) return nullptr;
  return std::make_unique<ElementwiseKernel>(*request.program, isa());
}

MXPIPE_KERNEL("elementwise", 100, make_elementwise);

}  // namespace
}  // namespace mxpipe
