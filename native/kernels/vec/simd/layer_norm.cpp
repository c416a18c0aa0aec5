// Rows of layer_norm and rms_norm and of their gradients, of 32 or 16 bits; float32 arithmetic.
// Bytes: each operand once from memory; a row stays in L1 for its second pass, in which large data asks for
// the next row. Operations: 5 to 10 an element.
#include "kernels/vec/simd/functions.hpp"
#include "kernels/vec/simd/lanes.hpp"
#include "kernels/vec/simd/storage.hpp"

namespace mxpipe::MXPIPE_ISA {
namespace {

using std::int64_t;

constexpr int64_t kTogether = 4;  // rows for which gamma and its gradient are loaded once

template <typename S>
float mean_of(const typename S::type* x, int64_t count) {
  f32 sums[kVectors] = {};
  for_lanes(count, [&]<bool whole>(int64_t i, int64_t lanes, int k) {
    sums[k] += load_vector<S, whole>(x + i, lanes);
  });
  return sum_of_vectors(sums) / static_cast<float>(count);
}

struct Moments {
  float mean, square;  // square: the mean of squared deviations
};

// Around the mean of the first numbers, so that nothing cancels; around 0 if not centered.
template <typename S, bool centered>
Moments moments_of(const typename S::type* x, int64_t count) {
  const float shift = centered ? mean_of<S>(x, count < kReductionLanes ? count : kReductionLanes) : 0.0f;
  f32 sums[kVectors] = {}, squares[kVectors] = {};
  for_lanes(count, [&]<bool whole>(int64_t i, int64_t lanes, int k) {
    f32 d = load_vector<S, whole>(x + i, lanes);
    if constexpr (centered) {
      d = d - shift;
      if constexpr (!whole) d = keep_first(d, lanes);
      sums[k] += d;
    }
    squares[k] = fma(d, d, squares[k]);
  });
  const float share = centered ? sum_of_vectors(sums) / static_cast<float>(count) : 0.0f;
  return {shift + share, sum_of_vectors(squares) / static_cast<float>(count) - share * share};
}

template <typename S, bool streams, bool whole>
void write(typename S::type* to, int64_t lanes, f32 v) {
  if constexpr (streams && whole) {
    S::stream(to, v);
  } else {
    store_vector<S, whole>(to, lanes, v);
  }
}

template <typename S, bool centered, bool streams>
void forward(const LayerNormCall& call) {
  for (int64_t row = 0; row < call.rows; ++row) {
    const auto* x = static_cast<const typename S::type*>(call.x) + row * call.width;
    auto* y = static_cast<typename S::type*>(call.result) + row * call.width;
    const Moments moments = moments_of<S, centered>(x, call.width);
    const float mean = moments.mean;
    const float rstd = 1.0f / sqrt(splat<f32>(moments.square + call.eps))[0];
    if constexpr (centered) call.mean[row] = mean;
    call.rstd[row] = rstd;
    for_vectors(call.width, [&]<bool whole>(int64_t i, int64_t lanes) {
      const f32 gamma = load_vector<Float32, whole>(call.gamma + i, lanes);
      const f32 value = load_vector<S, whole>(x + i, lanes);
      f32 result = centered ? (value - mean) * rstd : value * rstd;
      if constexpr (centered) {
        result = fma(result, gamma, load_vector<Float32, whole>(call.beta + i, lanes));
      } else {
        result = result * gamma;
      }
      write<S, streams, whole>(y + i, lanes, result);
      if constexpr (streams) fetch(x + call.width + i);
    });
  }
}

// result = rstd * (g gamma - mean(g gamma) - n mean(g gamma n)), n being the normalised x; without the middle
// term if not centered.
template <typename S, bool centered, bool streams, int64_t rows>
void backward_rows(const LayerNormCall& call, int64_t first) {
  using T = typename S::type;
  const T* x = static_cast<const T*>(call.x) + first * call.width;
  const T* g = static_cast<const T*>(call.g) + first * call.width;
  T* to = static_cast<T*>(call.result) + first * call.width;
  const auto normal = [&]<bool whole>(int64_t row, int64_t i, int64_t lanes) {
    const f32 value = load_vector<S, whole>(x + row * call.width + i, lanes);
    if constexpr (centered) return (value - call.mean[first + row]) * call.rstd[first + row];
    return value * call.rstd[first + row];
  };
  f32 sums[rows] = {}, products[rows] = {};
  for_vectors(call.width, [&]<bool whole>(int64_t i, int64_t lanes) {
    const f32 gamma = load_vector<Float32, whole>(call.gamma + i, lanes);
    f32 gamma_sum = load_vector<Float32, whole>(call.gamma_sum + i, lanes);
    f32 beta_sum{};
    if constexpr (centered) beta_sum = load_vector<Float32, whole>(call.beta_sum + i, lanes);
    for (int64_t row = 0; row < rows; ++row) {  // lanes that are not there have g = 0
      const f32 up = load_vector<S, whole>(g + row * call.width + i, lanes);
      const f32 n = normal.template operator()<whole>(row, i, lanes);
      const f32 scaled = up * gamma;
      gamma_sum = fma(up, n, gamma_sum);
      products[row] = fma(scaled, n, products[row]);
      if constexpr (centered) {
        beta_sum += up;
        sums[row] += scaled;
      }
    }
    store_vector<Float32, whole>(call.gamma_sum + i, lanes, gamma_sum);
    if constexpr (centered) store_vector<Float32, whole>(call.beta_sum + i, lanes, beta_sum);
  });
  const float share = 1.0f / static_cast<float>(call.width);
  for (int64_t row = 0; row < rows; ++row) {
    const float mean_sum = centered ? sum_of_lanes(sums[row]) * share : 0.0f;
    const float mean_product = sum_of_lanes(products[row]) * share;
    for_vectors(call.width, [&]<bool whole>(int64_t i, int64_t lanes) {
      const f32 n = normal.template operator()<whole>(row, i, lanes);
      f32 inner = load_vector<S, whole>(g + row * call.width + i, lanes) *
                  load_vector<Float32, whole>(call.gamma + i, lanes);
      if constexpr (centered) inner = inner - mean_sum;
      const f32 result = fma(n, splat<f32>(-mean_product), inner) * call.rstd[first + row];
      write<S, streams, whole>(to + row * call.width + i, lanes, result);
      if constexpr (streams) {
        fetch(x + (rows + row) * call.width + i);
        fetch(g + (rows + row) * call.width + i);
      }
    });
  }
}

template <typename S, bool centered, bool streams>
void backward(const LayerNormCall& call) {
  int64_t row = 0;
  for (; row + kTogether <= call.rows; row += kTogether)
    backward_rows<S, centered, streams, kTogether>(call, row);
  for (; row < call.rows; ++row) backward_rows<S, centered, streams, 1>(call, row);
}

// Every row starts where vectors may be streamed to.
template <typename S>
bool may_stream(const LayerNormCall& call) {
  return call.streams && is_aligned(call.result) && call.width % kLanes<float> == 0;
}

template <typename S, bool centered>
void forward_any(const LayerNormCall& call) {
  if (!may_stream<S>(call)) return forward<S, centered, false>(call);
  forward<S, centered, true>(call);
  end_streams();
}

template <typename S, bool centered>
void backward_any(const LayerNormCall& call) {
  if (!may_stream<S>(call)) return backward<S, centered, false>(call);
  backward<S, centered, true>(call);
  end_streams();
}

template <typename S>
LayerNormFunctions functions() {
  return {forward_any<S, true>, backward_any<S, true>, forward_any<S, false>, backward_any<S, false>};
}

}  // namespace

LayerNormFunctions layer_norm_functions(DType dtype) {
  if (dtype == DType::bfloat16) return functions<Bfloat16>();
  if (dtype == DType::float16) return functions<Float16>();
  return functions<Float32>();
}

}  // namespace mxpipe::MXPIPE_ISA
