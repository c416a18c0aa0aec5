// Inner loops of batch_norm and its gradient (kernels/vec/batch_norm.cpp): float32 arithmetic on data of 32
// or 16 bits. Bytes: every operand once a call; operations: 3 to 8 an element, so memory decides.
#include "kernels/vec/simd/functions.hpp"
#include "kernels/vec/simd/lanes.hpp"
#include "kernels/vec/simd/storage.hpp"

namespace mxpipe::MXPIPE_ISA {
namespace {

using std::int64_t;

constexpr int64_t kTogether = 4;  // rows for which a sum is loaded and stored once

// Rows [0, count / width), and a last one of count % width elements: body.operator()<rows>(first element,
// width).
template <typename Body>
void for_rows(int64_t count, int64_t width, const Body& body) {
  int64_t at = 0;
  for (; at + kTogether * width <= count; at += kTogether * width)
    body.template operator()<kTogether>(at, width);
  for (; at + width <= count; at += width) body.template operator()<1>(at, width);
  if (at < count) body.template operator()<1>(at, count - at);
}

// Whether vectors of `to`, and of every row behind it, may pass the caches by.
template <typename S>
bool streams(const BatchNormCall& call, const void* to) {
  constexpr auto kBytes = static_cast<int64_t>(sizeof(typename S::type));
  return call.streams && is_aligned(to) && (call.one_channel || call.width * kBytes % kVectorBytes == 0);
}

template <typename S, bool whole>
void write(bool past_caches, typename S::type* to, int64_t lanes, f32 v) {
  if (whole && past_caches) return S::stream(to, v);
  store_vector<S, whole>(to, lanes, v);
}

// ------------------------------------------------------------------------------------------------ statistics

// Sums are taken of x - shift, the shift being the mean of the first rows: nothing cancels, whatever the
// mean.
template <typename S>
void column_shifts(const typename S::type* x, int64_t count, int64_t width, float* shift) {
  const int64_t rows = count / width < kTogether ? count / width : kTogether;
  for_vectors(width, [&]<bool whole>(int64_t j, int64_t lanes) {
    f32 sum{};
    for (int64_t row = 0; row < rows; ++row) sum += load_vector<S, whole>(x + row * width + j, lanes);
    store_vector<Float32, whole>(shift + j, lanes, rows == 0 ? sum : sum / static_cast<float>(rows));
  });
}

template <typename S>
void column_statistics(const BatchNormCall& call) {
  const auto* x = static_cast<const typename S::type*>(call.x);
  const int64_t width = call.width;
  float* __restrict mean = call.first_sum;
  float* __restrict squares = call.second_sum;
  float* __restrict shift = call.work;
  column_shifts<S>(x, call.count, width, shift);
  for (int64_t j = 0; j < width; ++j) mean[j] = squares[j] = 0;
  for_rows(call.count, width, [&]<int64_t rows>(int64_t at, int64_t some) {
    for_vectors(some, [&]<bool whole>(int64_t j, int64_t lanes) {
      const f32 center = load_vector<Float32, whole>(shift + j, lanes);
      f32 sum = load_vector<Float32, whole>(mean + j, lanes);
      f32 square = load_vector<Float32, whole>(squares + j, lanes);
      for (int64_t row = 0; row < rows; ++row) {
        const f32 d = load_vector<S, whole>(x + at + row * width + j, lanes) - center;
        sum += d;
        square = fma(d, d, square);
      }
      store_vector<Float32, whole>(mean + j, lanes, sum);
      store_vector<Float32, whole>(squares + j, lanes, square);
    });
  });
  for (int64_t j = 0; j < width; ++j) {
    const int64_t rows = call.count / width + (j < call.count % width ? 1 : 0);
    const float share = rows == 0 ? 0.0f : mean[j] / static_cast<float>(rows);
    squares[j] -= mean[j] * share;
    mean[j] = shift[j] + share;
  }
}

// Of numbers that belong to one channel.
template <typename S>
void run_statistics(const BatchNormCall& call) {
  const auto* x = static_cast<const typename S::type*>(call.x);
  const int64_t head = call.count < kReductionLanes ? call.count : kReductionLanes;
  f32 sums[kVectors] = {}, squares[kVectors] = {};
  for_lanes(head, [&]<bool whole>(int64_t i, int64_t lanes, int k) {
    sums[k] += load_vector<S, whole>(x + i, lanes);
  });
  const float shift = sum_of_vectors(sums) / static_cast<float>(head);
  for (f32& sum : sums) sum = f32{};
  for_lanes(call.count, [&]<bool whole>(int64_t i, int64_t lanes, int k) {
    f32 d = load_vector<S, whole>(x + i, lanes) - shift;
    if constexpr (!whole) d = keep_first(d, lanes);
    sums[k] += d;
    squares[k] = fma(d, d, squares[k]);
  });
  const float sum = sum_of_vectors(sums);
  const float share = sum / static_cast<float>(call.count);
  *call.first_sum = shift + share;
  *call.second_sum = sum_of_vectors(squares) - sum * share;
}

// ------------------------------------------------------------------------------------------------- normalize

// The parameters of the channels of a vector.
template <bool one_channel, bool whole>
f32 parameter(const float* values, int64_t j, int64_t lanes) {
  if constexpr (one_channel) {
    return splat<f32>(values[0]);
  } else {
    return load_vector<Float32, whole>(values + j, lanes);
  }
}

// Forward and backward must agree to the bit on where the result is positive.
template <bool one_channel, bool whole>
f32 normalized(const BatchNormCall& call, f32 x, int64_t j, int64_t lanes) {
  const f32 centered = x - parameter<one_channel, whole>(call.mean, j, lanes);
  return fma(centered, parameter<one_channel, whole>(call.scale, j, lanes),
             parameter<one_channel, whole>(call.beta, j, lanes));
}

template <typename S, bool one_channel, bool relu, bool residual>
void normalize(const BatchNormCall& call) {
  const auto* x = static_cast<const typename S::type*>(call.x);
  const auto* other = static_cast<const typename S::type*>(call.residual);
  auto* result = static_cast<typename S::type*>(call.result);
  const bool past_caches = streams<S>(call, result);
  for_rows(call.count, call.width, [&]<int64_t rows>(int64_t at, int64_t some) {
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t first = at + row * call.width;
      for_vectors(some, [&]<bool whole>(int64_t j, int64_t lanes) {
        f32 y = normalized<one_channel, whole>(call, load_vector<S, whole>(x + first + j, lanes), j, lanes);
        if constexpr (residual) y += load_vector<S, whole>(other + first + j, lanes);
        if constexpr (relu) y = select(y < 0.0f, f32{}, y);  // NaN stays
        write<S, whole>(past_caches, result + first + j, lanes, y);
      });
    }
  });
  if (past_caches) end_streams();
}

template <typename S, bool one_channel>
void normalize_any(const BatchNormCall& call) {
  const bool residual = call.residual != nullptr;
  if (call.relu)
    return residual ? normalize<S, one_channel, true, true>(call)
                    : normalize<S, one_channel, true, false>(call);
  residual ? normalize<S, one_channel, false, true>(call) : normalize<S, one_channel, false, false>(call);
}

// -------------------------------------------------------------------------------------------------- backward

// Where the relu behind the normalization lets the gradient pass.
enum class Mask { none, computed, result };

// The gradient of the sum in front of the relu.
template <typename S, Mask mask, bool one_channel, bool whole>
f32 masked_gradient(const BatchNormCall& call, f32 x, int64_t at, int64_t j, int64_t lanes) {
  const f32 g = load_vector<S, whole>(static_cast<const typename S::type*>(call.g) + at + j, lanes);
  if constexpr (mask == Mask::computed) {
    return select(normalized<one_channel, whole>(call, x, j, lanes) > 0.0f, g, f32{});
  } else if constexpr (mask == Mask::result) {
    const auto* y = static_cast<const typename S::type*>(call.y);
    return select(load_vector<S, whole>(y + at + j, lanes) > 0.0f, g, f32{});
  } else {
    return g;
  }
}

// Adds up g and g * (x - mean), g behind the mask; keeps that g where a residual wants it.
template <typename S, Mask mask>
void column_sums(const BatchNormCall& call) {
  const auto* x = static_cast<const typename S::type*>(call.x);
  auto* kept = static_cast<typename S::type*>(call.residual_gradient);
  const int64_t width = call.width;
  const bool past_caches = streams<S>(call, kept);
  float* __restrict sums = call.first_sum;
  float* __restrict products = call.second_sum;
  for (int64_t j = 0; j < width; ++j) sums[j] = products[j] = 0;
  for_rows(call.count, width, [&]<int64_t rows>(int64_t at, int64_t some) {
    for_vectors(some, [&]<bool whole>(int64_t j, int64_t lanes) {
      const f32 center = load_vector<Float32, whole>(call.mean + j, lanes);
      f32 sum = load_vector<Float32, whole>(sums + j, lanes);
      f32 product = load_vector<Float32, whole>(products + j, lanes);
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t first = at + row * width;
        const f32 value = load_vector<S, whole>(x + first + j, lanes);
        const f32 g = masked_gradient<S, mask, false, whole>(call, value, first, j, lanes);
        if constexpr (mask == Mask::result) write<S, whole>(past_caches, kept + first + j, lanes, g);
        sum += g;
        product = fma(g, value - center, product);
      }
      store_vector<Float32, whole>(sums + j, lanes, sum);
      store_vector<Float32, whole>(products + j, lanes, product);
    });
  });
  if (past_caches) end_streams();
}

template <typename S, Mask mask>
void run_sums(const BatchNormCall& call) {
  const auto* x = static_cast<const typename S::type*>(call.x);
  auto* kept = static_cast<typename S::type*>(call.residual_gradient);
  f32 sums[kVectors] = {}, products[kVectors] = {};
  for_lanes(call.count, [&]<bool whole>(int64_t i, int64_t lanes, int k) {
    const f32 value = load_vector<S, whole>(x + i, lanes);
    const f32 g = masked_gradient<S, mask, true, whole>(call, value, 0, i, lanes);
    if constexpr (mask == Mask::result) store_vector<S, whole>(kept + i, lanes, g);
    sums[k] += g;
    products[k] = fma(g, value - call.mean[0], products[k]);  // lanes that are not there have g = 0
  });
  *call.first_sum = sum_of_vectors(sums);
  *call.second_sum = sum_of_vectors(products);
}

// result = g * scale - (x - mean) * slope - shift.
template <typename S, Mask mask, bool one_channel>
void gradient(const BatchNormCall& call) {
  const auto* x = static_cast<const typename S::type*>(call.x);
  auto* result = static_cast<typename S::type*>(call.result);
  const bool past_caches = streams<S>(call, result);
  for_rows(call.count, call.width, [&]<int64_t rows>(int64_t at, int64_t some) {
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t first = at + row * call.width;
      for_vectors(some, [&]<bool whole>(int64_t j, int64_t lanes) {
        const f32 value = load_vector<S, whole>(x + first + j, lanes);
        const f32 g = masked_gradient<S, mask, one_channel, whole>(call, value, first, j, lanes);
        const f32 d = value - parameter<one_channel, whole>(call.mean, j, lanes);
        const f32 scaled = fma(g, parameter<one_channel, whole>(call.scale, j, lanes),
                               -parameter<one_channel, whole>(call.shift, j, lanes));
        const f32 y = fma(d, -parameter<one_channel, whole>(call.slope, j, lanes), scaled);
        write<S, whole>(past_caches, result + first + j, lanes, y);
      });
    }
  });
  if (past_caches) end_streams();
}

template <typename S>
void sums_any(const BatchNormCall& call) {
  if (call.y != nullptr)
    return call.one_channel ? run_sums<S, Mask::result>(call) : column_sums<S, Mask::result>(call);
  if (call.relu)
    return call.one_channel ? run_sums<S, Mask::computed>(call) : column_sums<S, Mask::computed>(call);
  call.one_channel ? run_sums<S, Mask::none>(call) : column_sums<S, Mask::none>(call);
}

// Behind a residual, g has passed the mask already.
template <typename S>
void gradient_any(const BatchNormCall& call) {
  if (call.relu && call.y == nullptr)
    return call.one_channel ? gradient<S, Mask::computed, true>(call)
                            : gradient<S, Mask::computed, false>(call);
  call.one_channel ? gradient<S, Mask::none, true>(call) : gradient<S, Mask::none, false>(call);
}

template <typename S>
void statistics_any(const BatchNormCall& call) {
  call.one_channel ? run_statistics<S>(call) : column_statistics<S>(call);
}

template <typename S>
void normalize_either(const BatchNormCall& call) {
  call.one_channel ? normalize_any<S, true>(call) : normalize_any<S, false>(call);
}

template <typename S>
BatchNormFunctions functions() {
  return {statistics_any<S>, normalize_either<S>, sums_any<S>, gradient_any<S>};
}

}  // namespace

BatchNormFunctions batch_norm_functions(DType dtype) {
  if (dtype == DType::bfloat16) return functions<Bfloat16>();
  if (dtype == DType::float16) return functions<Float16>();
  return functions<Float32>();
}

}  // namespace mxpipe::MXPIPE_ISA
