// Rows of softmax, log_softmax and cross entropy, contiguous, of 32 or 16 bits; float32 arithmetic.
// Bytes: a row is read from memory once and stays in the cache for its other passes; operations: about 15 for
// each exponential.
#include "kernels/vec/simd/functions.hpp"
#include "kernels/vec/simd/math.hpp"
#include "kernels/vec/simd/storage.hpp"

namespace mxpipe::MXPIPE_ISA {
namespace {

using std::int64_t;

constexpr int64_t kBlock = 2048;  // numbers whose largest is found before their exponentials are summed
constexpr int64_t kAtOnce = 4;    // vectors, so that one's latency hides behind the others

// body.operator()<whole>(first, lanes, vector), `vector` counting round to kAtOnce.
template <typename Body>
void for_many(int64_t count, const Body& body) {
  constexpr int64_t kStep = kAtOnce * kLanes<float>;
  int64_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    for (int64_t k = 0; k < kAtOnce; ++k)
      body.template operator()<true>(i + k * kLanes<float>, kLanes<float>, k);
  }
  int64_t k = 0;
  for_vectors(count - i, [&]<bool whole>(int64_t j, int64_t lanes) {
    body.template operator()<whole>(i + j, lanes, k++);
  });
}

// NaN is passed over: it comes back as an exponential.
template <typename S>
float largest(const typename S::type* x, int64_t count) {
  f32 best[kAtOnce];
  for (f32& v : best) v = splat<f32>(-kInfinity);
  for_many(count, [&]<bool whole>(int64_t i, int64_t lanes, int64_t k) {
    f32 v = load_vector<S, whole>(x + i, lanes);
    if constexpr (!whole) v = keep_first(v, lanes, -kInfinity);
    best[k] = maximum(v, best[k]);
  });
  return across_lanes<float>(maximum(maximum(best[0], best[1]), maximum(best[2], best[3])),
                             [](auto a, auto b) { return select(a > b, a, b); });
}

// The sum of exp(x - shift), and the terms, if `store` takes them.
template <typename S, typename Store>
float sum_exponentials(const typename S::type* x, int64_t count, float shift, const Store& store) {
  f32 sums[kAtOnce] = {};
  for_many(count, [&]<bool whole>(int64_t i, int64_t lanes, int64_t k) {
    __builtin_prefetch(x + i + kBlock);  // what comes next arrives while this computes
    f32 e = exp(load_vector<S, whole>(x + i, lanes) - shift);
    store.template operator()<whole>(i, lanes, e);
    if constexpr (!whole) e = keep_first(e, lanes);
    sums[k] += e;
  });
  return sum_of_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

struct Nowhere {
  template <bool whole>
  void operator()(int64_t, int64_t, f32) const {}
};

// Where all is -infinity so far, exp(-infinity - 0) is 0 as it should be.
float finite(float shift) { return shift == -kInfinity ? 0.0f : shift; }

float log_of(float x) { return log(splat<f32>(x))[0]; }
float exp_of(float x) { return exp(splat<f32>(x))[0]; }

template <typename S>
float log_sum_exp(const void* row, int64_t count) {
  const auto* x = static_cast<const typename S::type*>(row);
  float top = -kInfinity, sum = 0;
  for (int64_t i = 0; i < count; i += kBlock) {
    const int64_t some = count - i < kBlock ? count - i : kBlock;
    const float here = largest<S>(x + i, some);
    if (here > top) {
      if (sum != 0) sum *= exp_of(top - here);
      top = here;
    }
    sum += sum_exponentials<S>(x + i, some, finite(top), Nowhere());
  }
  return log_of(sum) + finite(top);
}

template <typename S, bool streams>
void write_gradient(const typename S::type* x, typename S::type* to, int64_t count, float log_sum, float g) {
  for_vectors(count, [&]<bool whole>(int64_t i, int64_t lanes) {
    const f32 y = exp(load_vector<S, whole>(x + i, lanes) - log_sum) * g;
    if constexpr (streams && whole) {
      S::stream(to + i, y);
    } else {
      store_vector<S, whole>(to + i, lanes, y);
    }
  });
}

template <typename S>
void cross_entropy_gradient(const void* row, void* result, int64_t count, int64_t label, float log_sum,
                            float g, bool streams) {
  const auto* x = static_cast<const typename S::type*>(row);
  auto* to = static_cast<typename S::type*>(result);
  const float of_label = S::load(x + label, 1)[0];
  if (streams && is_aligned(to)) {
    write_gradient<S, true>(x, to, count, log_sum, g);
    end_streams();
  } else {
    write_gradient<S, false>(x, to, count, log_sum, g);
  }
  S::store(to + label, 1, splat<f32>((exp_of(of_label - log_sum) - 1.0f) * g));
}

template <typename S>
float element(const void* row, int64_t index) {
  return S::load(static_cast<const typename S::type*>(row) + index, 1)[0];
}

// ----------------------------------------------------------------------------------------------------
// softmax

template <typename S>
void softmax(const void* row, void* result, int64_t count, bool logarithm) {
  const auto* x = static_cast<const typename S::type*>(row);
  auto* y = static_cast<typename S::type*>(result);
  if (logarithm) {
    const float shift = finite(largest<S>(x, count));
    const float log_sum = log_of(sum_exponentials<S>(x, count, shift, Nowhere()));
    for_vectors(count, [&]<bool whole>(int64_t i, int64_t lanes) {
      store_vector<S, whole>(y + i, lanes, load_vector<S, whole>(x + i, lanes) - shift - log_sum);
    });
    return;
  }
  const float shift = finite(largest<S>(x, count));
  if constexpr (sizeof(typename S::type) == sizeof(float)) {
    const float sum = sum_exponentials<S>(x, count, shift, [&]<bool whole>(int64_t i, int64_t lanes, f32 e) {
      store_vector<S, whole>(y + i, lanes, e);
    });
    for_vectors(count, [&]<bool whole>(int64_t i, int64_t lanes) {
      store_vector<S, whole>(y + i, lanes, load_vector<S, whole>(y + i, lanes) * (1.0f / sum));
    });
  } else {  // 16 bits are too few to keep the terms in
    const float share = 1.0f / sum_exponentials<S>(x, count, shift, Nowhere());
    for_vectors(count, [&]<bool whole>(int64_t i, int64_t lanes) {
      store_vector<S, whole>(y + i, lanes, exp(load_vector<S, whole>(x + i, lanes) - shift) * share);
    });
  }
}

template <typename S>
void softmax_backward(const void* gradient, const void* row, void* result, int64_t count, bool logarithm) {
  const auto* g = static_cast<const typename S::type*>(gradient);
  const auto* y = static_cast<const typename S::type*>(row);
  auto* to = static_cast<typename S::type*>(result);
  f32 sums[kAtOnce] = {};
  for_many(count, [&]<bool whole>(int64_t i, int64_t lanes, int64_t k) {
    const f32 left = load_vector<S, whole>(g + i, lanes);
    sums[k] = logarithm ? sums[k] + left : fma(left, load_vector<S, whole>(y + i, lanes), sums[k]);
  });
  const float total = sum_of_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
  for_vectors(count, [&]<bool whole>(int64_t i, int64_t lanes) {
    const f32 left = load_vector<S, whole>(g + i, lanes);
    const f32 right = load_vector<S, whole>(y + i, lanes);
    store_vector<S, whole>(to + i, lanes, logarithm ? left - exp(right) * total : right * (left - total));
  });
}

template <typename S>
SoftmaxFunctions functions() {
  return {softmax<S>, softmax_backward<S>, log_sum_exp<S>, cross_entropy_gradient<S>, element<S>};
}

}  // namespace

SoftmaxFunctions softmax_functions(DType dtype) {
  if (dtype == DType::bfloat16) return functions<Bfloat16>();
  if (dtype == DType::float16) return functions<Float16>();
  return functions<Float32>();
}

}  // namespace mxpipe::MXPIPE_ISA
