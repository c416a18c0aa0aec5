// Rows of softmax, cross entropy and layer norm.
// Bytes: a row is read from memory once and stays in L1 for its two or three passes; operations: about 20 an
// element where there is an exponential, 5 elsewhere.
#include "kernels/vec/simd/functions.hpp"
#include "kernels/vec/simd/math.hpp"

namespace mxpipe::MXPIPE_ISA {
namespace {

using std::int64_t;

// The last elements of a row, fewer than a vector; lanes behind them hold `fill`.
template <typename T>
Vec<T> load_some(const T* from, int64_t count, T fill) {
  if (count >= kLanes<T>) return load<Vec<T>>(from);
  Vec<T> v = splat<Vec<T>>(fill);
  for (int64_t i = 0; i < count; ++i) v[i] = from[i];
  return v;
}
template <typename T>
void store_some(T* to, int64_t count, Vec<T> v) {
  if (count >= kLanes<T>) {
    store(to, v);
    return;
  }
  for (int64_t i = 0; i < count; ++i) to[i] = v[i];
}

template <typename T>
T sum_lanes(Vec<T> v) {
  return across_lanes<T>(v, [](auto a, auto b) { return a + b; });
}

template <typename T>
T largest(const T* x, int64_t count) {
  Vec<T> best = splat<Vec<T>>(T(-kInfinity));
  for (int64_t i = 0; i < count; i += kLanes<T>) {
    const Vec<T> v = load_some(x + i, count - i, T(-kInfinity));
    best = select((v > best) | (v != v), v, best);
  }
  return across_lanes<T>(best, [](auto a, auto b) { return select((a > b) | (a != a), a, b); });
}

// The sum of exp(x - shift); writes the terms when y is not null.
template <typename T>
T sum_exponentials(const T* x, T* y, int64_t count, T shift) {
  Vec<T> sum{};
  for (int64_t i = 0; i < count; i += kLanes<T>) {
    const Vec<T> e = exp(load_some(x + i, count - i, T(-kInfinity)) - shift);
    sum += e;
    if (y != nullptr) store_some(y + i, count - i, e);
  }
  return sum_lanes<T>(sum);
}

// exp(-infinity - shift) is 0 for padding, unless the whole row is -infinity.
template <typename T>
T finite_shift(T shift) {
  return shift == T(-kInfinity) ? T(0) : shift;
}

template <typename T>
void softmax(const T* x, T* y, int64_t count, bool logarithm) {
  const T top = largest(x, count);
  const T shift = finite_shift(top);
  const T sum = sum_exponentials(x, logarithm ? nullptr : y, count, shift);
  const T log_sum = logarithm ? log(splat<Vec<T>>(sum))[0] : T(0);
  for (int64_t i = 0; i < count; i += kLanes<T>) {
    const Vec<T> result = logarithm ? load_some(x + i, count - i, T(0)) - shift - log_sum
                                    : load_some<T>(y + i, count - i, T(0)) / sum;
    store_some(y + i, count - i, result);
  }
}

template <typename T>
void softmax_backward(const T* g, const T* y, T* result, int64_t count, bool logarithm) {
  Vec<T> sum{};
  for (int64_t i = 0; i < count; i += kLanes<T>) {
    const Vec<T> left = load_some(g + i, count - i, T(0));
    sum += logarithm ? left : left * load_some(y + i, count - i, T(0));
  }
  const T total = sum_lanes<T>(sum);
  for (int64_t i = 0; i < count; i += kLanes<T>) {
    const Vec<T> left = load_some(g + i, count - i, T(0));
    const Vec<T> right = load_some(y + i, count - i, T(0));
    store_some(result + i, count - i, logarithm ? left - exp(right) * total : right * (left - total));
  }
}

template <typename T>
T log_sum_exp(const T* x, int64_t count) {
  const T shift = finite_shift(largest(x, count));
  const Vec<T> sum = splat<Vec<T>>(sum_exponentials<T>(x, nullptr, count, shift));
  return log(sum)[0] + shift;
}

template <typename T>
void scaled_softmax(const T* x, T* result, int64_t count, T log_sum, T g) {
  for (int64_t i = 0; i < count; i += kLanes<T>) {
    store_some(result + i, count - i, exp(load_some(x + i, count - i, T(0)) - log_sum) * g);
  }
}

template <typename T>
void layer_norm(const T* x, const T* gamma, const T* beta, T* y, int64_t count, T eps, T* mean, T* rstd) {
  Vec<T> sum{};
  for (int64_t i = 0; i < count; i += kLanes<T>) sum += load_some(x + i, count - i, T(0));
  const T center = sum_lanes<T>(sum) / static_cast<T>(count);
  Vec<T> squares{};
  for (int64_t i = 0; i < count; i += kLanes<T>) {
    const Vec<T> d = load_some(x + i, count - i, center) - center;
    squares += d * d;
  }
  const Vec<T> variance = splat<Vec<T>>(sum_lanes<T>(squares) / static_cast<T>(count) + eps);
  const T scale = T(1) / sqrt(variance)[0];
  *mean = center;
  *rstd = scale;
  for (int64_t i = 0; i < count; i += kLanes<T>) {
    const Vec<T> normal = (load_some(x + i, count - i, T(0)) - center) * scale;
    store_some(y + i, count - i,
               normal * load_some(gamma + i, count - i, T(0)) + load_some(beta + i, count - i, T(0)));
  }
}

// result = rstd * (g gamma - mean(g gamma) - n mean(g gamma n)), n being the normalised x.
template <typename T>
void layer_norm_backward(const T* g, const T* x, const T* gamma, T mean, T rstd, T* result, T* gamma_sum,
                         T* beta_sum, int64_t count) {
  Vec<T> sum{}, product{};
  for (int64_t i = 0; i < count; i += kLanes<T>) {
    const int64_t left = count - i;
    const Vec<T> up = load_some(g + i, left, T(0));
    const Vec<T> normal = (load_some(x + i, left, mean) - mean) * rstd;
    const Vec<T> scaled = up * load_some(gamma + i, left, T(0));
    sum += scaled;
    product += scaled * normal;
    store_some(gamma_sum + i, left, load_some<T>(gamma_sum + i, left, T(0)) + up * normal);
    store_some(beta_sum + i, left, load_some<T>(beta_sum + i, left, T(0)) + up);
  }
  const T mean_sum = sum_lanes<T>(sum) / static_cast<T>(count);
  const T mean_product = sum_lanes<T>(product) / static_cast<T>(count);
  for (int64_t i = 0; i < count; i += kLanes<T>) {
    const int64_t left = count - i;
    const Vec<T> normal = (load_some(x + i, left, mean) - mean) * rstd;
    const Vec<T> scaled = load_some(g + i, left, T(0)) * load_some(gamma + i, left, T(0));
    store_some(result + i, left, (scaled - mean_sum - normal * mean_product) * rstd);
  }
}

// What is left to add up of a dot product.
template <typename T>
Vec<T> lanes_of_dot(const T* a, const T* b, int64_t count) {
  constexpr int64_t kUnroll = 4;
  Vec<T> sums[kUnroll] = {};
  int64_t i = 0;
  for (; i + kUnroll * kLanes<T> <= count; i += kUnroll * kLanes<T>) {
    for (int64_t j = 0; j < kUnroll; ++j) {
      sums[j] = fma(load<Vec<T>>(a + i + j * kLanes<T>), load<Vec<T>>(b + i + j * kLanes<T>), sums[j]);
    }
  }
  for (; i < count; i += kLanes<T>) {
    sums[0] = fma(load_some(a + i, count - i, T(0)), load_some(b + i, count - i, T(0)), sums[0]);
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

template <typename T>
T dot(const T* a, const T* b, int64_t count) {
  return sum_lanes<T>(lanes_of_dot(a, b, count));
}

template <int... lane>
struct Lanes {};
template <int count, int... lane>
struct CountLanes : CountLanes<count - 1, count - 1, lane...> {};
template <int... lane>
struct CountLanes<0, lane...> {
  using type = Lanes<lane...>;
};

// Adds the halves of each group of lanes: those of a's and of b's groups by turns.
template <int group, typename V, int... lane>
inline V add_halves(V a, V b, Lanes<lane...>) {
  constexpr int kHalf = group / 2, kAll = sizeof...(lane);
  return __builtin_shufflevector(a, b, (lane / kHalf % 2 * kAll + lane / group * group + lane % kHalf)...) +
         __builtin_shufflevector(a, b,
                                 (lane / kHalf % 2 * kAll + lane / group * group + lane % kHalf + kHalf)...);
}

// The sums of the lanes of as many vectors as a vector has lanes, in order: the tree of sum_lanes, for all of
// them at once.
template <int group, typename T>
inline Vec<T> sums_of_lanes(Vec<T>* v) {
  if constexpr (group == 1) {
    return v[0];
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < group / 2; ++i) {
      v[i] = add_halves<group>(v[i], v[i + group / 2], typename CountLanes<kLanes<T>>::type{});
    }
    return sums_of_lanes<group / 2, T>(v);
  }
}

template <typename T>
void dots(const T* a, const T* rows, int64_t count, int64_t length, T* result) {
  int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) {
    Vec<T> sums[kLanes<T>];
    for (int64_t j = 0; j < kLanes<T>; ++j) sums[j] = lanes_of_dot(a, rows + (i + j) * length, length);
    store(result + i, sums_of_lanes<kLanes<T>, T>(sums));
  }
  for (; i < count; ++i) result[i] = dot(a, rows + i * length, length);
}

template <typename T>
void dots_backward(const T* g, const T* a, const T* rows, int64_t count, int64_t length, T* a_sum,
                   T* row_sums) {
  for (int64_t column = 0; column < length; column += kLanes<T>) {
    const int64_t left = length - column;
    const Vec<T> own = load_some(a + column, left, T(0));
    Vec<T> sum = load_some<T>(a_sum + column, left, T(0));
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = i * length + column;
      sum = fma(load_some(rows + at, left, T(0)), splat<Vec<T>>(g[i]), sum);
      store_some(row_sums + at, left, fma(own, splat<Vec<T>>(g[i]), load_some<T>(row_sums + at, left, T(0))));
    }
    store_some(a_sum + column, left, sum);
  }
}

}  // namespace

template <typename T>
RowFunctions<T> make_row_functions() {
  return {softmax<T>,      softmax_backward<T>,    log_sum_exp<T>, scaled_softmax<T>,
          layer_norm<T>,   layer_norm_backward<T>, dot<T>,         dots<T>,
          dots_backward<T>};
}

template RowFunctions<float> make_row_functions<float>();
template RowFunctions<double> make_row_functions<double>();

}  // namespace mxpipe::MXPIPE_ISA
