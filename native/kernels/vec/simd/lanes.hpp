// Sums over a run of numbers in as many lanes whatever the vector width: they are then as exact, and the
// same.
#pragma once

#include "kernels/vec/simd/storage.hpp"
#include "kernels/vec/table.hpp"

namespace mxpipe::MXPIPE_ISA {

constexpr int kVectors = static_cast<int>(kReductionLanes) / kLanes<float>;

// body.operator()<whole>(first element, lanes, vector), `vector` counting round to kVectors.
template <typename Body>
inline void for_lanes(std::int64_t count, const Body& body) {
  std::int64_t i = 0;
  for (; i + kReductionLanes <= count; i += kReductionLanes) {
    for (int k = 0; k < kVectors; ++k)
      body.template operator()<true>(i + k * kLanes<float>, kLanes<float>, k);
  }
  int k = 0;
  for_vectors(count - i, [&]<bool whole>(std::int64_t j, std::int64_t lanes) {
    body.template operator()<whole>(i + j, lanes, k++);
  });
}

inline float sum_of_vectors(f32 (&sums)[kVectors]) {
  for (int half = kVectors / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) sums[k] += sums[k + half];
  }
  return sum_of_lanes(sums[0]);
}

}  // namespace mxpipe::MXPIPE_ISA
