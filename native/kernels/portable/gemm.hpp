// Matrix product by plain loops, for the types that BLAS does not know (and for all where there is no BLAS).
// Operations: 2 m n k; B is packed in tiles of 32 x 128 that stay in L1 while 64 rows of A pass.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/parallel.hpp"

namespace mxpipe {

// Unsigned arithmetic wraps; small types are widened so that their products do not overflow an int.
template <typename T>
struct WrappingType {
  using type = std::conditional_t<sizeof(T) <= 4, std::uint32_t, std::uint64_t>;
};
template <>
struct WrappingType<float> {
  using type = float;
};
template <>
struct WrappingType<double> {
  using type = double;
};

template <typename T>
struct StridedMatrix {
  const T* data;
  std::int64_t row, column;  // strides in elements
};

// c (m, n), row-major, is overwritten.
template <typename T>
void plain_gemm(std::int64_t m, std::int64_t n, std::int64_t k, StridedMatrix<T> a, StridedMatrix<T> b,
                T* c) {
  using Wide = typename WrappingType<T>::type;
  constexpr std::int64_t kRows = 64, kColumns = 128, kDepth = 32;
  parallel_for(m, kRows, [&](std::int64_t begin, std::int64_t end) {
    alignas(64) T tile[kDepth * kColumns];
    for (std::int64_t i = begin; i < end; ++i) std::fill_n(c + i * n, n, T{});
    for (std::int64_t j = 0; j < n; j += kColumns) {
      const std::int64_t columns = std::min(kColumns, n - j);
      for (std::int64_t l = 0; l < k; l += kDepth) {
        const std::int64_t depth = std::min(kDepth, k - l);
        for (std::int64_t p = 0; p < depth; ++p) {
          for (std::int64_t q = 0; q < columns; ++q) {
            tile[p * kColumns + q] = b.data[(l + p) * b.row + (j + q) * b.column];
          }
        }
        for (std::int64_t i = begin; i < end; ++i) {
          T* row = c + i * n + j;
          for (std::int64_t p = 0; p < depth; ++p) {
            const Wide factor = static_cast<Wide>(a.data[i * a.row + (l + p) * a.column]);
            const T* line = tile + p * kColumns;
            for (std::int64_t q = 0; q < columns; ++q) {
              row[q] = static_cast<T>(static_cast<Wide>(row[q]) + factor * static_cast<Wide>(line[q]));
            }
          }
        }
      }
    }
  });
}

}  // namespace mxpipe
