#include "data/vocabulary.hpp"

#include <algorithm>
#include <cmath>

namespace mxpipe::data {

namespace {

constexpr std::int64_t kDenseRange = 1 << 16;

std::int32_t checked_size(std::size_t values) {
  if (values >= (std::size_t{1} << 31) - 1) {
    fail(ErrorKind::data, "vocabulary", "ids must fit into int32; got ", values, " values.");
  }
  return static_cast<std::int32_t>(values) + 1;
}

}  // namespace

Vocabulary::Vocabulary(std::vector<std::string> values)
    : strings_(true), size_(checked_size(values.size())), values_(std::move(values)) {
  by_string_.reserve(values_.size());
  for (const std::string& value : values_) {
    const auto id = static_cast<std::int32_t>(by_string_.size()) + 1;
    if (!by_string_.emplace(value, id).second) {
      fail(ErrorKind::data, "vocabulary", "values must be distinct; got '", value, "' twice.");
    }
  }
}

Vocabulary::Vocabulary(const std::vector<std::int64_t>& values)
    : strings_(false), size_(checked_size(values.size())) {
  for (const std::int64_t value : values) {
    const auto id = static_cast<std::int32_t>(by_integer_.size()) + 1;
    if (!by_integer_.emplace(value, id).second) {
      fail(ErrorKind::data, "vocabulary", "values must be distinct; got ", value, " twice.");
    }
  }
  if (values.empty()) return;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  if (static_cast<std::uint64_t>(*high) - static_cast<std::uint64_t>(*low) >= kDenseRange) return;
  dense_base_ = *low;
  dense_.resize(static_cast<std::size_t>(*high - *low) + 1, 0);
  for (const auto& [value, id] : by_integer_) dense_[static_cast<std::size_t>(value - dense_base_)] = id;
}

std::int32_t Vocabulary::id_of(std::string_view value) const {
  const auto found = by_string_.find(value);
  return found == by_string_.end() ? 0 : found->second;
}

std::int32_t Vocabulary::id_of(std::int64_t value) const {
  if (!dense_.empty()) {
    const std::uint64_t place = static_cast<std::uint64_t>(value) - static_cast<std::uint64_t>(dense_base_);
    return place < dense_.size() ? dense_[place] : 0;
  }
  const auto found = by_integer_.find(value);
  return found == by_integer_.end() ? 0 : found->second;
}

std::int32_t Vocabulary::id_at(const Column& column, std::int64_t row) const {
  if (!column.is_valid(row)) return 0;
  if (strings_) return id_of(column.string_at(row));
  double value = 0;
  switch (column.kind) {
    case ValueKind::float64:
      value = static_cast<const double*>(column.values)[column.offset + row];
      break;
    case ValueKind::float32:
      value = static_cast<const float*>(column.values)[column.offset + row];
      break;
    default:
      return id_of(integer_at(column, row));
  }
  // A server may get integers as floats (nulls as NaN); anything that is not a whole number is unknown.
  const bool whole = std::abs(value) < 9.0e18 && std::trunc(value) == value;
  return whole ? id_of(static_cast<std::int64_t>(value)) : 0;
}

std::vector<std::int32_t> Vocabulary::ids_of(const Column& dictionary) const {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(dictionary.length));
  for (std::int64_t row = 0; row < dictionary.length; ++row) {
    ids[static_cast<std::size_t>(row)] = id_at(dictionary, row);
  }
  return ids;
}

}  // namespace mxpipe::data
