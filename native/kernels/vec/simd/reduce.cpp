// Inner loops of reductions, written for the compiler's vectoriser: fixed lanes, no dependence between them.
// Bytes: reads x once; operations: one an element.
#include "kernels/vec/simd/functions.hpp"
#include "kernels/vec/simd/storage.hpp"

namespace mxpipe::MXPIPE_ISA {
namespace {

using std::int64_t;

struct Sum {
  template <typename A>
  static A apply(A a, A b) {
    return a + b;
  }
};
struct Product {
  template <typename A>
  static A apply(A a, A b) {
    return a * b;
  }
};
struct Maximum {  // NaN stays
  template <typename A>
  static A apply(A a, A b) {
    return (a > b) | (a != a) ? a : b;
  }
};
struct Minimum {
  template <typename A>
  static A apply(A a, A b) {
    return (a < b) | (a != a) ? a : b;
  }
};

template <typename T, typename A, typename Operation>
void row(void* lanes, const void* x, int64_t count) {
  A* __restrict accumulators = static_cast<A*>(lanes);
  const T* __restrict values = static_cast<const T*>(x);
  A local[kReductionLanes];
  for (int64_t j = 0; j < kReductionLanes; ++j) local[j] = accumulators[j];
  int64_t i = 0;
  for (; i + kReductionLanes <= count; i += kReductionLanes) {
    for (int64_t j = 0; j < kReductionLanes; ++j) {
      local[j] = Operation::apply(local[j], static_cast<A>(values[i + j]));
    }
  }
  for (int64_t j = 0; i + j < count; ++j)
    local[j] = Operation::apply(local[j], static_cast<A>(values[i + j]));
  for (int64_t j = 0; j < kReductionLanes; ++j) accumulators[j] = local[j];
}

template <typename T, typename A, typename Operation>
void columns(void* accumulators, const void* x, int64_t width, int64_t rows, int64_t stride) {
  A* __restrict result = static_cast<A*>(accumulators);
  const T* values = static_cast<const T*>(x);
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    const T* __restrict a = values + i * stride;
    const T* __restrict b = a + stride;
    const T* __restrict c = b + stride;
    const T* __restrict d = c + stride;
    for (int64_t j = 0; j < width; ++j) {
      const A left = Operation::apply(static_cast<A>(a[j]), static_cast<A>(b[j]));
      const A right = Operation::apply(static_cast<A>(c[j]), static_cast<A>(d[j]));
      result[j] = Operation::apply(result[j], Operation::apply(left, right));
    }
  }
  for (; i < rows; ++i) {
    const T* __restrict a = values + i * stride;
    for (int64_t j = 0; j < width; ++j) result[j] = Operation::apply(result[j], static_cast<A>(a[j]));
  }
}

// Of 16-bit floats, in float32.
template <typename S, typename Operation>
void half_row(void* lanes, const void* x, int64_t count) {
  constexpr int kVectors = static_cast<int>(kReductionLanes) / kLanes<float>;
  float* accumulators = static_cast<float*>(lanes);
  const auto* values = static_cast<const typename S::type*>(x);
  f32 local[kVectors];
  for (int k = 0; k < kVectors; ++k) local[k] = load<f32>(accumulators + k * kLanes<float>);
  int64_t i = 0;
  for (; i + kReductionLanes <= count; i += kReductionLanes) {
    for (int k = 0; k < kVectors; ++k)
      local[k] = Operation::apply(local[k], S::load(values + i + k * kLanes<float>));
  }
  for (int k = 0; k < kVectors; ++k) store(accumulators + k * kLanes<float>, local[k]);
  for_vectors(count - i, [&]<bool whole>(int64_t j, int64_t some) {
    const f32 taken = load_vector<Float32, whole>(accumulators + j, some);
    const f32 value = load_vector<S, whole>(values + i + j, some);
    store_vector<Float32, whole>(accumulators + j, some, Operation::apply(taken, value));
  });
}

template <typename S, typename Operation>
void half_columns(void* accumulators, const void* x, int64_t width, int64_t rows, int64_t stride) {
  constexpr int64_t kTogether = 4;
  float* result = static_cast<float*>(accumulators);
  const auto* values = static_cast<const typename S::type*>(x);
  for (int64_t first = 0; first < rows; first += kTogether) {
    const int64_t some = rows - first < kTogether ? rows - first : kTogether;
    for_vectors(width, [&]<bool whole>(int64_t j, int64_t lanes) {
      f32 taken = load_vector<Float32, whole>(result + j, lanes);
      for (int64_t i = first; i < first + some; ++i) {
        taken = Operation::apply(taken, load_vector<S, whole>(values + i * stride + j, lanes));
      }
      store_vector<Float32, whole>(result + j, lanes, taken);
    });
  }
}

template <typename S>
ReduceFunctions half_functions(Reduction reduction) {
  switch (reduction) {
    case Reduction::sum:
      return {half_row<S, Sum>, half_columns<S, Sum>};
    case Reduction::product:
      return {half_row<S, Product>, half_columns<S, Product>};
    case Reduction::maximum:
      return {half_row<S, Maximum>, half_columns<S, Maximum>};
    case Reduction::minimum:
      return {half_row<S, Minimum>, half_columns<S, Minimum>};
  }
  return {};
}

template <typename T, typename Wide>
ReduceFunctions functions(Reduction reduction) {
  switch (reduction) {
    case Reduction::sum:
      return {row<T, Wide, Sum>, columns<T, Wide, Sum>};
    case Reduction::product:
      return {row<T, Wide, Product>, columns<T, Wide, Product>};
    case Reduction::maximum:
      return {row<T, T, Maximum>, columns<T, T, Maximum>};
    case Reduction::minimum:
      return {row<T, T, Minimum>, columns<T, T, Minimum>};
  }
  return {};
}

}  // namespace

ReduceFunctions reduce_functions(Reduction reduction, DType dtype) {
  switch (dtype) {
    case DType::float32:
      return functions<float, float>(reduction);
    case DType::float64:
      return functions<double, double>(reduction);
    case DType::int8:
      return functions<std::int8_t, int64_t>(reduction);
    case DType::int16:
      return functions<std::int16_t, int64_t>(reduction);
    case DType::int32:
      return functions<std::int32_t, int64_t>(reduction);
    case DType::int64:
      return functions<int64_t, int64_t>(reduction);
    case DType::boolean:
      return functions<std::uint8_t, int64_t>(reduction);
    case DType::uint8:
      return functions<std::uint8_t, std::uint64_t>(reduction);
    case DType::uint16:
      return functions<std::uint16_t, std::uint64_t>(reduction);
    case DType::uint32:
      return functions<std::uint32_t, std::uint64_t>(reduction);
    case DType::uint64:
      return functions<std::uint64_t, std::uint64_t>(reduction);
    case DType::float16:
      return half_functions<Float16>(reduction);
    case DType::bfloat16:
      return half_functions<Bfloat16>(reduction);
  }
  return {};
}

}  // namespace mxpipe::MXPIPE_ISA
