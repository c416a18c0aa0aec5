// Rows of a sparse matrix times a dense one.
// Bytes: for each nonzero a row of the dense matrix, mostly from the caches, its value and index from memory;
// the result once. Operations: a multiplication and an addition a nonzero and column. So what counts is that
// the dense rows are asked for early enough: kAhead nonzeros before their turn, across the rows' borders.
#include "kernels/vec/simd/functions.hpp"

namespace mxpipe::MXPIPE_ISA {
namespace {

using std::int64_t;

constexpr int64_t kAhead = 12;
constexpr int64_t kLine = 64;
constexpr int kMostVectors = 8;  // of a result's row that stay in registers

template <typename T, typename Id>
void prefetch_row(const CsrCall& call, int64_t p, int64_t column, int64_t width) {
  if (p >= call.nonzeros) return;
  // As an integer: a wrong index leads anywhere, but a prefetch cannot fail.
  const auto id = static_cast<std::uintptr_t>(static_cast<const Id*>(call.indices)[p]);
  const auto place = id * static_cast<std::uintptr_t>(call.columns) + static_cast<std::uintptr_t>(column);
  const auto row = reinterpret_cast<std::uintptr_t>(call.dense) + place * sizeof(T);
  for (int64_t byte = 0; byte < width * static_cast<int64_t>(sizeof(T)); byte += kLine) {
    __builtin_prefetch(reinterpret_cast<const char*>(row + static_cast<std::uintptr_t>(byte)));
  }
}

// `vectors` vectors of a result's row, from `column` on.
template <int vectors, typename T, typename Id>
void multiply_block(const CsrCall& call, int64_t begin, int64_t end, int64_t column, T* result) {
  const auto* data = static_cast<const T*>(call.data);
  const auto* indices = static_cast<const Id*>(call.indices);
  const T* dense = static_cast<const T*>(call.dense) + column;
  Vec<T> sums[vectors] = {};
  for (int64_t p = begin; p < end; ++p) {
    prefetch_row<T, Id>(call, p + kAhead, column, vectors * kLanes<T>);
    const T* row = dense + static_cast<int64_t>(indices[p]) * call.columns;
    const Vec<T> value = splat<Vec<T>>(data[p]);
    for (int i = 0; i < vectors; ++i) sums[i] = fma(value, load<Vec<T>>(row + i * kLanes<T>), sums[i]);
  }
  for (int i = 0; i < vectors; ++i) store(result + column + i * kLanes<T>, sums[i]);
}

// The last columns, fewer than a vector.
template <typename T, typename Id>
void multiply_rest(const CsrCall& call, int64_t begin, int64_t end, int64_t column, T* result) {
  const auto* data = static_cast<const T*>(call.data);
  const auto* indices = static_cast<const Id*>(call.indices);
  const T* dense = static_cast<const T*>(call.dense) + column;
  const int64_t width = call.columns - column;
  T sums[kLanes<T>] = {};
  for (int64_t p = begin; p < end; ++p) {
    prefetch_row<T, Id>(call, p + kAhead, column, width);
    const T* row = dense + static_cast<int64_t>(indices[p]) * call.columns;
    for (int64_t j = 0; j < width; ++j) sums[j] += data[p] * row[j];
  }
  for (int64_t j = 0; j < width; ++j) result[column + j] = sums[j];
}

template <typename T, typename Id>
void multiply_row(const CsrCall& call, int64_t begin, int64_t end, T* result) {
  constexpr int64_t kWidest = kMostVectors * kLanes<T>;
  int64_t column = 0;
  const auto blocks = [&]<int vectors>() {
    constexpr int64_t kWidth = vectors * kLanes<T>;
    for (; column + kWidth <= call.columns; column += kWidth) {
      multiply_block<vectors, T, Id>(call, begin, end, column, result);
    }
  };
  static_assert(kWidest == 8 * kLanes<T>);
  blocks.template operator()<kMostVectors>();
  blocks.template operator()<4>();
  blocks.template operator()<2>();
  blocks.template operator()<1>();
  if (column < call.columns) multiply_rest<T, Id>(call, begin, end, column, result);
}

// The first of the row's indices that lies outside, or -1.
template <typename Id>
int64_t find_outside(const CsrCall& call, int64_t begin, int64_t end) {
  const auto* indices = static_cast<const Id*>(call.indices);
  bool outside = false;
  for (int64_t p = begin; p < end; ++p) {
    outside |= static_cast<std::uint64_t>(indices[p]) >= static_cast<std::uint64_t>(call.limit);
  }
  if (!outside) return -1;
  for (int64_t p = begin; p < end; ++p) {
    if (static_cast<std::uint64_t>(indices[p]) >= static_cast<std::uint64_t>(call.limit)) return p;
  }
  return -1;
}

template <typename T, typename Id>
int64_t multiply(const CsrCall& call, int64_t first, int64_t last) {
  const auto* starts = static_cast<const Id*>(call.indptr);
  for (int64_t row = first; row < last; ++row) {
    const auto begin = static_cast<int64_t>(starts[row]), end = static_cast<int64_t>(starts[row + 1]);
    if (const int64_t outside = find_outside<Id>(call, begin, end); outside >= 0) return outside;
    multiply_row<T, Id>(call, begin, end, static_cast<T*>(call.result) + row * call.columns);
  }
  return -1;
}

// The transposed matrix: row r of the dense one is added to the result's rows. Columns [first, last) only, so
// that threads write different columns.
template <typename T, typename Id>
int64_t multiply_transposed(const CsrCall& call, int64_t rows, int64_t first, int64_t last) {
  const auto* data = static_cast<const T*>(call.data);
  const auto* indices = static_cast<const Id*>(call.indices);
  const auto* starts = static_cast<const Id*>(call.indptr);
  T* result = static_cast<T*>(call.result);
  for (int64_t row = 0; row < rows; ++row) {
    const auto begin = static_cast<int64_t>(starts[row]), end = static_cast<int64_t>(starts[row + 1]);
    if (const int64_t outside = find_outside<Id>(call, begin, end); outside >= 0) return outside;
    const T* from = static_cast<const T*>(call.dense) + row * call.columns;
    for (int64_t p = begin; p < end; ++p) {
      if (p + kAhead < call.nonzeros) {
        const auto id = static_cast<std::uintptr_t>(indices[p + kAhead]);
        const auto place =
            id * static_cast<std::uintptr_t>(call.columns) + static_cast<std::uintptr_t>(first);
        const auto line = reinterpret_cast<std::uintptr_t>(result) + place * sizeof(T);
        __builtin_prefetch(reinterpret_cast<const char*>(line), 1);
      }
      T* to = result + static_cast<int64_t>(indices[p]) * call.columns;
      int64_t column = first;
      for (; column + kLanes<T> <= last; column += kLanes<T>) {
        const Vec<T> sum = load<Vec<T>>(to + column);
        store(to + column, fma(splat<Vec<T>>(data[p]), load<Vec<T>>(from + column), sum));
      }
      for (; column < last; ++column) to[column] += data[p] * from[column];
    }
  }
  return -1;
}

}  // namespace

template <typename T>
CsrFunctions make_csr_functions() {
  return {multiply<T, std::int32_t>, multiply<T, int64_t>, multiply_transposed<T, std::int32_t>,
          multiply_transposed<T, int64_t>};
}

template CsrFunctions make_csr_functions<float>();
template CsrFunctions make_csr_functions<double>();

}  // namespace mxpipe::MXPIPE_ISA
