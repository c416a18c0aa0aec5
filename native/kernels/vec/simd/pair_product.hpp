// Products of small bfloat16 matrices that lie in cache, with float32 sums: AVX512_BF16 multiplies pairs of
// neighbours along the sum, so an operand is a matrix of pairs. Twice the operations of tile_product.hpp in
// the same time.
#pragma once

#include "kernels/vec/simd/half.hpp"
#include "kernels/vec/simd/tile_product.hpp"

#if defined(__AVX512F__)
#define MXPIPE_HAS_PAIRS 1
#define MXPIPE_PAIRS __attribute__((target("avx512bf16")))

namespace mxpipe::MXPIPE_ISA {

inline bool cpu_has_pairs() { return __builtin_cpu_supports("avx512bf16") != 0; }

// As TileProduct; a and b hold pairs, and `depth` counts pairs.
struct PairProduct {
  const std::uint32_t* a;
  std::int64_t a_row, a_step;
  const std::uint32_t* b;
  std::int64_t b_row;
  float* c;
  std::int64_t c_row;
  std::int64_t rows, columns, depth;
  bool add;
};

template <int rows, int vectors>
MXPIPE_PAIRS inline void multiply_pair_block(const PairProduct& p, std::int64_t row, std::int64_t column) {
  __m512 sums[rows][vectors];
  float* c = p.c + row * p.c_row + column;
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j)
      sums[i][j] = p.add ? _mm512_loadu_ps(c + i * p.c_row + j * 16) : _mm512_setzero_ps();
  }
  const std::uint32_t* a = p.a + row * p.a_row;
  const std::uint32_t* b = p.b + column;
  for (std::int64_t step = 0; step < p.depth; ++step) {
    __m512bh right[vectors];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j) right[j] = bits<__m512bh>(load<u32>(b + j * 16));
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const __m512bh left = bits<__m512bh>(_mm512_set1_epi32(static_cast<int>(a[i * p.a_row])));
#pragma GCC unroll 8
      for (int j = 0; j < vectors; ++j) sums[i][j] = _mm512_dpbf16_ps(sums[i][j], left, right[j]);
    }
    a += p.a_step;
    b += p.b_row;
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j) _mm512_storeu_ps(c + i * p.c_row + j * 16, sums[i][j]);
  }
}

template <int vectors>
MXPIPE_PAIRS inline void multiply_pair_columns(const PairProduct& p, std::int64_t column) {
  std::int64_t row = 0;
  for (; row + 6 <= p.rows; row += 6) multiply_pair_block<6, vectors>(p, row, column);
  for (; row + 2 <= p.rows; row += 2) multiply_pair_block<2, vectors>(p, row, column);
  if (row < p.rows) multiply_pair_block<1, vectors>(p, row, column);
}

MXPIPE_PAIRS inline void multiply_pairs(const PairProduct& p) {
  std::int64_t column = 0;
  for (; column + 64 <= p.columns; column += 64) multiply_pair_columns<4>(p, column);
  for (; column + 32 <= p.columns; column += 32) multiply_pair_columns<2>(p, column);
  if (column < p.columns) multiply_pair_columns<1>(p, column);
}

}  // namespace mxpipe::MXPIPE_ISA
#endif
