// The order of an epoch: a permutation of the rows that is a function of (rows, seed, epoch) and gives any
// position at once, without a table. A Feistel network over the smallest power of two that holds all rows,
// walked along its cycle until it lands on a row.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

namespace mxpipe::data {

class RowOrder {
 public:
  // No seed: the rows in their own order. Throws DataError unless 1 <= rows <= 2**62 and epoch >= 0.
  RowOrder(std::int64_t rows, std::optional<std::uint64_t> seed, std::int64_t epoch);

  std::int64_t rows() const { return rows_; }

  // Rows at positions start..start+count. Throws DataError when they lie outside.
  void fill(std::int64_t start, std::int64_t count, std::int64_t* out) const;

 private:
  static constexpr int kRounds = 8;

  std::uint64_t permute(std::uint64_t value) const;

  std::int64_t rows_;
  bool shuffled_;
  int left_bits_ = 0;
  int right_bits_ = 0;
  std::array<std::uint64_t, kRounds> keys_{};
};

}  // namespace mxpipe::data
