// attention and attention_backward, one query after the other, and random_key.
// Operations: 4 queries keys depth a head forward, 10 backward; a row of scores is all that is kept beside
// the results.
#include "kernels/attention.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "graph/error.hpp"
#include "kernels/parallel.hpp"
#include "kernels/portable/memory.hpp"
#include "kernels/portable/widened.hpp"
#include "kernels/vec/isa.hpp"

namespace mxpipe {
namespace {

// One head: where its rows are, and the scores of one query.
template <typename T>
class Head {
 public:
  Head(const AttentionProblem& problem, std::span<const void* const> inputs, std::int64_t unit)
      : problem_(problem), unit_(unit), key_(problem.random_key(inputs)) {
    const auto row = [&](int operand, std::int64_t offset) {
      const auto* array = static_cast<const T*>(inputs[problem.first + problem.array_of(operand)]);
      return array + problem.start_of(operand) + offset;
    };
    q = row(0, problem.query_offset(unit));
    k = row(1, problem.key_offset(unit));
    v = row(2, problem.key_offset(unit));
    if (problem.mask >= 0) mask_ = inputs[static_cast<std::size_t>(problem.mask)];
  }

  const T* query(std::int64_t i) const { return q + i * problem_.query_stride; }

  // scale q_i k_j + mask for all j; -infinity where j is not seen.
  void scores(std::int64_t i, T* row) const {
    for (std::int64_t j = 0; j < problem_.keys; ++j) {
      row[j] = -std::numeric_limits<T>::infinity();
      if (problem_.causal && j > i) continue;
      T sum = 0;
      for (std::int64_t d = 0; d < problem_.depth; ++d) sum += query(i)[d] * k[j * problem_.key_stride + d];
      row[j] = masked(i, j, sum * static_cast<T>(problem_.scale));
    }
  }

  // 0 or 1 / (1 - dropout) for each key.
  void factors(std::int64_t i, T* row) const {
    std::fill_n(row, problem_.keys, T{1});
    if (problem_.dropout == 0) return;
    std::vector<float> uniform(static_cast<std::size_t>(problem_.keys));
    isa().random_uniform(uniform.data(), (unit_ * problem_.queries + i) * problem_.keys, problem_.keys, key_);
    for (std::int64_t j = 0; j < problem_.keys; ++j) {
      const bool dropped = uniform[static_cast<std::size_t>(j)] < static_cast<float>(problem_.dropout);
      row[j] = dropped ? T{0} : static_cast<T>(1 / (1 - problem_.dropout));
    }
  }

  const T *q, *k, *v;

 private:
  T masked(std::int64_t i, std::int64_t j, T score) const {
    if (problem_.mask < 0) return score;
    const std::int64_t at =
        problem_.mask_offset(unit_) + i * problem_.mask_strides[2] + j * problem_.mask_strides[3];
    if (problem_.mask_dtype != DType::boolean) return score + static_cast<const T*>(mask_)[at];
    return static_cast<const std::uint8_t*>(mask_)[at] != 0 ? score : -std::numeric_limits<T>::infinity();
  }

  const AttentionProblem& problem_;
  std::int64_t unit_;
  RandomKey key_;
  const void* mask_ = nullptr;
};

template <typename T>
class AttentionKernel final : public Kernel {
 public:
  explicit AttentionKernel(const KernelRequest& request) : problem_(request) {}

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    const std::int64_t queries = problem_.queries;
    auto* log_sums = static_cast<T*>(outputs[1]);
    parallel_for(problem_.units() * queries, grain_for(problem_.keys * problem_.depth * 2),
                 [&](std::int64_t begin, std::int64_t end) {
                   std::vector<T> memory(static_cast<std::size_t>(2 * problem_.keys));
                   for (std::int64_t at = begin; at < end; ++at) {
                     const Head<T> head(problem_, inputs, at / queries);
                     T* y = static_cast<T*>(outputs[0]) + problem_.result_offset(at / queries) +
                            at % queries * problem_.heads * problem_.depth;
                     log_sums[at] = attend(head, at % queries, memory.data(), y);
                   }
                 });
  }
  std::string describe() const override { return text("portable attention ", problem_.dtype); }

 private:
  // Returns the logarithm of the sum of exponentials.
  T attend(const Head<T>& head, std::int64_t i, T* row, T* y) const {
    T* factors = row + problem_.keys;
    head.scores(i, row);
    head.factors(i, factors);
    std::fill_n(y, problem_.depth, T{0});
    T top = -std::numeric_limits<T>::infinity(), sum = 0;
    for (std::int64_t j = 0; j < problem_.keys; ++j) top = row[j] > top || row[j] != row[j] ? row[j] : top;
    if (top == -std::numeric_limits<T>::infinity()) return std::numeric_limits<T>::infinity();
    for (std::int64_t j = 0; j < problem_.keys; ++j) {
      const T p = std::exp(row[j] - top);
      sum += p;
      for (std::int64_t d = 0; d < problem_.depth; ++d)
        y[d] += p * factors[j] * head.v[j * problem_.key_stride + d];
    }
    for (std::int64_t d = 0; d < problem_.depth; ++d) y[d] /= sum;
    return top + std::log(sum);
  }

  AttentionProblem problem_;
};

template <typename T>
class AttentionBackwardKernel final : public Kernel {
 public:
  explicit AttentionBackwardKernel(const KernelRequest& request) : problem_(request) {
    for (const TensorType& type : request.outputs) bytes_.push_back(type.bytes());
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    for (std::size_t i = 0; i < bytes_.size(); ++i) fill_zero(outputs[i], bytes_[i]);
    parallel_for(problem_.units(), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t unit = begin; unit < end; ++unit) run_head(inputs, outputs, unit);
    });
  }
  std::string describe() const override { return text("portable attention_backward ", problem_.dtype); }

 private:
  void run_head(std::span<const void* const> inputs, std::span<void* const> outputs,
                std::int64_t unit) const {
    const Head<T> head(problem_, inputs, unit);
    const auto result = [&](int operand, std::int64_t offset) {
      return static_cast<T*>(outputs[problem_.array_of(operand)]) + problem_.start_of(operand) + offset;
    };
    T* gq = result(0, problem_.query_offset(unit));
    T* gk = result(1, problem_.key_offset(unit));
    T* gv = result(2, problem_.key_offset(unit));
    T* scores = problem_.scores
                    ? static_cast<T*>(outputs[bytes_.size() - 1]) + unit * problem_.queries * problem_.keys
                    : nullptr;
    const std::int64_t depth = problem_.depth, stride = problem_.heads * depth;
    const T* g = static_cast<const T*>(inputs[0]) + problem_.result_offset(unit);
    const T* y = static_cast<const T*>(inputs[1]) + problem_.result_offset(unit);
    const T* log_sums = static_cast<const T*>(inputs[2]) + unit * problem_.queries;
    std::vector<T> row(static_cast<std::size_t>(problem_.keys)), factors(row);
    const T scale = static_cast<T>(problem_.scale);
    for (std::int64_t i = 0; i < problem_.queries; ++i, g += stride, y += stride) {
      head.scores(i, row.data());
      head.factors(i, factors.data());
      T delta = 0;
      for (std::int64_t d = 0; d < depth; ++d) delta += g[d] * y[d];
      for (std::int64_t j = 0; j < problem_.keys; ++j) {
        const auto at = static_cast<std::size_t>(j);
        const std::int64_t to = j * problem_.key_stride;
        const T p = std::exp(row[at] - log_sums[i]);
        T product = 0;
        for (std::int64_t d = 0; d < depth; ++d) {
          product += g[d] * head.v[to + d];
          gv[to + d] += p * factors[at] * g[d];
        }
        const T of_score = p * (product * factors[at] - delta);
        if (scores != nullptr) scores[i * problem_.keys + j] = of_score;
        for (std::int64_t d = 0; d < depth; ++d) {
          gq[i * problem_.query_stride + d] += of_score * scale * head.k[to + d];
          gk[to + d] += of_score * scale * head.query(i)[d];
        }
      }
    }
  }

  AttentionProblem problem_;
  std::vector<std::size_t> bytes_;
};

template <template <typename> class Attention>
std::unique_ptr<Kernel> make_attention(const KernelRequest& request) {
  if (has_half(request)) return make_widened(request);
  const DType dtype = request.outputs[0].dtype;
  if (dtype == DType::float64) return std::make_unique<Attention<double>>(request);
  return std::make_unique<Attention<float>>(request);
}

class RandomKeyKernel final : public Kernel {
 public:
  explicit RandomKeyKernel(const KernelRequest& request)
      : offset_(static_cast<std::uint64_t>(request.attributes.integer("offset"))) {}
  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    std::uint64_t words[2];
    std::memcpy(words, inputs[0], sizeof(words));
    words[1] += offset_;
    std::memcpy(outputs[0], words, sizeof(words));
  }
  std::string describe() const override { return "portable random_key"; }

 private:
  std::uint64_t offset_;
};

std::unique_ptr<Kernel> make_random_key(const KernelRequest& request) {
  return std::make_unique<RandomKeyKernel>(request);
}

MXPIPE_KERNEL("attention", 0, make_attention<AttentionKernel>);
MXPIPE_KERNEL("attention_backward", 0, make_attention<AttentionBackwardKernel>);
MXPIPE_KERNEL("random_key", 0, make_random_key);

}  // namespace
}  // namespace mxpipe
