// Products of small float32 matrices that lie in cache, register-blocked.
// Operations: 2 rows depth columns; a block of rows x vectors sums stays in registers, so a step of the inner
// loop is rows * vectors fused multiply-adds for rows + vectors loads.
#pragma once

#include "kernels/vec/simd/vec.hpp"

namespace mxpipe::MXPIPE_ISA {

#if defined(__AVX512F__) || defined(__aarch64__)  // 32 registers
inline constexpr int kBlockRows = 6, kBlockVectors = 4;
#else
inline constexpr int kBlockRows = 6, kBlockVectors = 2;
#endif

inline f32 broadcast(float value) {
#if defined(__AVX512F__)
  return f32(_mm512_set1_ps(value));
#elif defined(__AVX2__)
  return f32(_mm256_set1_ps(value));
#elif defined(__x86_64__)
  return f32(_mm_set1_ps(value));
#else
  return f32(vdupq_n_f32(value));
#endif
}

struct TileProduct {
  const float* a;
  std::int64_t a_row, a_step;  // strides of a along c's rows and along the sum
  const float* b;              // rows along the sum, of whole vectors
  std::int64_t b_row;
  float* c;
  std::int64_t c_row;
  std::int64_t rows, columns, depth;  // columns: a multiple of the lanes
  bool add;                           // to what c holds
};

template <int rows, int vectors>
inline void multiply_block(const TileProduct& p, std::int64_t row, std::int64_t column) {
  f32 sums[rows][vectors];
  float* c = p.c + row * p.c_row + column;
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j)
      sums[i][j] = p.add ? load<f32>(c + i * p.c_row + j * kLanes<float>) : f32{};
  }
  const float* a = p.a + row * p.a_row;
  const float* b = p.b + column;
  for (std::int64_t step = 0; step < p.depth; ++step) {
    f32 right[vectors];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j) right[j] = load<f32>(b + j * kLanes<float>);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const f32 left = broadcast(a[i * p.a_row]);
#pragma GCC unroll 8
      for (int j = 0; j < vectors; ++j) sums[i][j] = fma(left, right[j], sums[i][j]);
    }
    a += p.a_step;
    b += p.b_row;
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j) store(c + i * p.c_row + j * kLanes<float>, sums[i][j]);
  }
}

template <int vectors>
inline void multiply_columns(const TileProduct& p, std::int64_t column) {
  std::int64_t row = 0;
  for (; row + kBlockRows <= p.rows; row += kBlockRows) multiply_block<kBlockRows, vectors>(p, row, column);
  if (p.rows - row >= 4) {
    multiply_block<4, vectors>(p, row, column);
    row += 4;
  }
  if (p.rows - row >= 2) {
    multiply_block<2, vectors>(p, row, column);
    row += 2;
  }
  if (row < p.rows) multiply_block<1, vectors>(p, row, column);
}

inline void multiply_tiles(const TileProduct& p) {
  constexpr std::int64_t kLane = kLanes<float>;
  std::int64_t column = 0;
  for (; column + kBlockVectors * kLane <= p.columns; column += kBlockVectors * kLane)
    multiply_columns<kBlockVectors>(p, column);
  for (; column + 2 * kLane <= p.columns; column += 2 * kLane) multiply_columns<2>(p, column);
  if (column < p.columns) multiply_columns<1>(p, column);
}

}  // namespace mxpipe::MXPIPE_ISA
