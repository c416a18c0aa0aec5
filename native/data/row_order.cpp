#include "data/row_order.hpp"

#include <algorithm>
#include <bit>

#include "graph/error.hpp"

namespace mxpipe::data {

namespace {

// The finalizer of SplitMix64: every input bit changes every output bit with probability one half.
std::uint64_t mix(std::uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15ULL;

}  // namespace

RowOrder::RowOrder(std::int64_t rows, std::optional<std::uint64_t> seed, std::int64_t epoch)
    : rows_(rows), shuffled_(seed.has_value() && rows > 1) {
  if (rows < 1 || rows > std::int64_t{1} << 62) {
    fail(ErrorKind::data, "order", "rows must be in 1..2**62; got ", rows, ".");
  }
  if (epoch < 0) fail(ErrorKind::data, "order", "epoch must not be negative; got ", epoch, ".");
  if (!shuffled_) return;
  const int bits = std::max(2, static_cast<int>(std::bit_width(static_cast<std::uint64_t>(rows - 1))));
  right_bits_ = bits / 2;
  left_bits_ = bits - right_bits_;
  std::uint64_t state = mix(mix(*seed + kGolden) ^ (static_cast<std::uint64_t>(epoch) * kGolden));
  for (std::uint64_t& key : keys_) key = mix(state += kGolden);
}

std::uint64_t RowOrder::permute(std::uint64_t value) const {
  const std::uint64_t left_mask = (std::uint64_t{1} << left_bits_) - 1;
  const std::uint64_t right_mask = (std::uint64_t{1} << right_bits_) - 1;
  std::uint64_t left = value >> right_bits_, right = value & right_mask;
  for (int round = 0; round < kRounds; round += 2) {
    left ^= mix(keys_[static_cast<std::size_t>(round)] ^ right) & left_mask;
    right ^= mix(keys_[static_cast<std::size_t>(round) + 1] ^ left) & right_mask;
  }
  return (left << right_bits_) | right;
}

void RowOrder::fill(std::int64_t start, std::int64_t count, std::int64_t* out) const {
  if (start < 0 || count < 0 || start > rows_ || count > rows_ - start) {
    fail(ErrorKind::data, "order", "positions must be in 0..", rows_, "; got ", count, " from ", start, ".");
  }
  if (!shuffled_) {
    for (std::int64_t i = 0; i < count; ++i) out[i] = start + i;
    return;
  }
  // One step for all, free of branches, then the few that need to walk on.
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = static_cast<std::int64_t>(permute(static_cast<std::uint64_t>(start + i)));
  }
  for (std::int64_t i = 0; i < count; ++i) {
    while (out[i] >= rows_) out[i] = static_cast<std::int64_t>(permute(static_cast<std::uint64_t>(out[i])));
  }
}

}  // namespace mxpipe::data
