// From a category to its id: 1 + its position in the vocabulary, 0 for everything else.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/column.hpp"

namespace mxpipe::data {

class Vocabulary {
 public:
  // Throws DataError when a value is there twice.
  explicit Vocabulary(std::vector<std::string> values);
  explicit Vocabulary(const std::vector<std::int64_t>& values);

  bool holds_strings() const { return strings_; }
  // Ids, the 0 of unknown values included.
  std::int32_t size() const { return size_; }

  std::int32_t id_of(std::string_view value) const;
  std::int32_t id_of(std::int64_t value) const;

  // The id of a row of any column (no dictionary) that holds the vocabulary's kind of values; 0 for a null.
  std::int32_t id_at(const Column& column, std::int64_t row) const;

  // Ids of all values of a dictionary: built once, then a row costs one look-up.
  std::vector<std::int32_t> ids_of(const Column& dictionary) const;

 private:
  bool strings_;
  std::int32_t size_;
  std::vector<std::string> values_;  // what by_string_ points into
  std::unordered_map<std::string_view, std::int32_t> by_string_;
  std::unordered_map<std::int64_t, std::int32_t> by_integer_;
  std::int64_t dense_base_ = 0;  // small ranges of integers need no hashing
  std::vector<std::int32_t> dense_;
};

using VocabularyPtr = std::shared_ptr<const Vocabulary>;

}  // namespace mxpipe::data
