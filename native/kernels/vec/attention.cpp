// attention and attention_backward for float32 and bfloat16, through vec/simd/attention.cpp (which says what
// moves). A unit of work is a tile of queries of a head forward, a whole head backward, so results do not
// depend on the thread count.
#include "kernels/attention.hpp"

#include <memory>

#include "graph/error.hpp"
#include "kernels/parallel.hpp"
#include "kernels/vec/isa.hpp"

namespace mxpipe {
namespace {

constexpr std::int64_t kMostDepth = 512;  // wider heads would not leave their tiles in L2

// Tiles of the calling thread; kept from call to call, since their pages are warm.
float* tile_memory(std::int64_t floats) {
  struct Free {
    void operator()(float* memory) const { ::operator delete[](memory, std::align_val_t{64}); }
  };
  thread_local std::unique_ptr<float, Free> memory;
  thread_local std::int64_t held = 0;
  if (floats > held) {
    memory.reset();
    held = 0;
    const auto bytes = static_cast<std::size_t>(floats) * sizeof(float);
    memory.reset(static_cast<float*>(::operator new[](bytes, std::align_val_t{64})));
    held = floats;
  }
  return memory.get();
}

// Tiles of q, k, v, g and their sums, transposed ones, scores; and what backward keeps of all queries.
std::int64_t memory_of(const AttentionProblem& problem, bool backward) {
  const std::int64_t width = (problem.depth + 15) / 16 * 16;
  const std::int64_t tiles =
      9 * (kAttentionTile + 16) * (width + 1) + (backward ? 3 : 2) * kAttentionTile * (kAttentionTile + 16);
  return tiles + (backward ? (problem.queries + 16) * (width + 1) : 0);
}

class Attention : public Kernel {
 protected:
  Attention(const KernelRequest& request, bool backward)
      : problem_(request), memory_(memory_of(problem_, backward)) {}

  const std::byte* operand(std::span<const void* const> inputs, int index, std::int64_t offset) const {
    const auto* array = static_cast<const std::byte*>(inputs[problem_.first + problem_.array_of(index)]);
    return array + bytes(problem_.start_of(index) + offset);
  }
  std::size_t bytes(std::int64_t elements) const {
    return static_cast<std::size_t>(elements) * size_of(problem_.dtype);
  }

  AttentionHead head_of(std::span<const void* const> inputs, std::int64_t unit) const {
    AttentionHead head;
    head.q = operand(inputs, 0, problem_.query_offset(unit));
    head.k = operand(inputs, 1, problem_.key_offset(unit));
    head.v = operand(inputs, 2, problem_.key_offset(unit));
    head.queries = problem_.queries;
    head.keys = problem_.keys;
    head.depth = problem_.depth;
    head.query_stride = problem_.query_stride;
    head.key_stride = problem_.key_stride;
    head.result_stride = problem_.heads * problem_.depth;
    head.causal = problem_.causal;
    head.scale = static_cast<float>(problem_.scale);
    head.dropout = static_cast<float>(problem_.dropout);
    head.key = problem_.random_key(inputs);
    head.random_first = unit * problem_.queries * problem_.keys;
    if (problem_.mask < 0) return head;
    head.mask_kind = problem_.mask_dtype == DType::boolean   ? AttentionMask::boolean
                     : problem_.mask_dtype == DType::float32 ? AttentionMask::float32
                                                             : AttentionMask::bfloat16;
    head.mask = static_cast<const std::byte*>(inputs[static_cast<std::size_t>(problem_.mask)]) +
                static_cast<std::size_t>(problem_.mask_offset(unit)) * size_of(problem_.mask_dtype);
    head.mask_query = problem_.mask_strides[2];
    head.mask_key = problem_.mask_strides[3];
    return head;
  }

  bool is_half() const { return problem_.dtype == DType::bfloat16; }

  AttentionProblem problem_;
  std::int64_t memory_;
};

class AttentionKernel final : public Attention {
 public:
  explicit AttentionKernel(const KernelRequest& request) : Attention(request, false) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const auto forward = is_half() ? isa().attention.forward_bfloat16 : isa().attention.forward;
    const std::int64_t tiles = (problem_.queries + kAttentionTile - 1) / kAttentionTile;
    const std::int64_t rows = std::min(kAttentionTile, problem_.queries);
    const std::int64_t cost = rows * problem_.keys * (problem_.depth / 4 + 4);
    parallel_for(problem_.units() * tiles, grain_for(cost), [&](std::int64_t begin, std::int64_t end) {
      float* memory = tile_memory(memory_);
      for (std::int64_t at = begin; at < end; ++at) {
        const std::int64_t unit = at / tiles, query = at % tiles * kAttentionTile;
        void* result = static_cast<std::byte*>(outputs[0]) + bytes(problem_.result_offset(unit));
        float* log_sums = static_cast<float*>(outputs[1]) + unit * problem_.queries;
        forward(head_of(inputs, unit), query, std::min(kAttentionTile, problem_.queries - query), result,
                log_sums, memory);
      }
    });
  }
  std::string describe() const override { return text("vec ", isa().name, " attention ", problem_.dtype); }
};

class AttentionBackwardKernel final : public Attention {
 public:
  explicit AttentionBackwardKernel(const KernelRequest& request) : Attention(request, true) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const auto backward = is_half() ? isa().attention.backward_bfloat16 : isa().attention.backward;
    const std::int64_t cost = problem_.queries * problem_.keys * (problem_.depth + 4);
    parallel_for(problem_.units(), grain_for(cost), [&](std::int64_t begin, std::int64_t end) {
      float* memory = tile_memory(memory_);
      for (std::int64_t unit = begin; unit < end; ++unit) {
        const auto result = [&](int index, std::int64_t offset) -> void* {
          return static_cast<std::byte*>(outputs[problem_.array_of(index)]) +
                 bytes(problem_.start_of(index) + offset);
        };
        AttentionGradient gradient;
        gradient.g = static_cast<const std::byte*>(inputs[0]) + bytes(problem_.result_offset(unit));
        gradient.y = static_cast<const std::byte*>(inputs[1]) + bytes(problem_.result_offset(unit));
        gradient.log_sums = static_cast<const float*>(inputs[2]) + unit * problem_.queries;
        gradient.q = result(0, problem_.query_offset(unit));
        gradient.k = result(1, problem_.key_offset(unit));
        gradient.v = result(2, problem_.key_offset(unit));
        backward(head_of(inputs, unit), gradient, memory);
      }
    });
  }
  std::string describe() const override {
    return text("vec ", isa().name, " attention_backward ", problem_.dtype);
  }
};

template <typename Made>
std::unique_ptr<Kernel> make_attention(const KernelRequest& request) {
  const AttentionProblem problem(request);
  const bool fits = problem.dtype == DType::float32 || problem.dtype == DType::bfloat16;
  // The gradient of the scores is an array of queries x keys: nothing that tiles could save.
  if (!fits || problem.scores || problem.depth > kMostDepth) return nullptr;
  if (problem.keys == 0 || problem.queries == 0 || problem.depth == 0) return nullptr;
  return std::make_unique<Made>(request);
}

MXPIPE_KERNEL("attention", 100, make_attention<AttentionKernel>);
MXPIPE_KERNEL("attention_backward", 100, make_attention<AttentionBackwardKernel>);

}  // namespace
}  // namespace mxpipe
