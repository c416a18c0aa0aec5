// Typed attributes of a node. Always complete: the registry fills defaults and refuses unknown names before a
// node is made, so a kernel or gradient reads without checks.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "graph/dtype.hpp"

namespace mxpipe {

using Integers = std::vector<std::int64_t>;

enum class AttributeType { boolean, integer, real, string, integers, dtype };

using Attribute =
    std::variant<bool, std::int64_t, double, std::string, Integers, DType>;  // order of AttributeType

inline AttributeType type_of(const Attribute& value) { return static_cast<AttributeType>(value.index()); }
std::string_view name_of(AttributeType type);
std::ostream& operator<<(std::ostream& stream, const Attribute& value);

class Attributes {
 public:
  using Entry = std::pair<std::string, Attribute>;

  Attributes() = default;
  Attributes(std::initializer_list<Entry> entries) : entries_(entries) {}

  const Attribute* find(std::string_view name) const;
  const Attribute& at(std::string_view name) const;  // throws when absent: a fault of the op's declaration
  void set(std::string_view name, Attribute value);

  bool boolean(std::string_view name) const { return std::get<bool>(at(name)); }
  std::int64_t integer(std::string_view name) const { return std::get<std::int64_t>(at(name)); }
  double real(std::string_view name) const { return std::get<double>(at(name)); }
  const std::string& string(std::string_view name) const { return std::get<std::string>(at(name)); }
  const Integers& integers(std::string_view name) const { return std::get<Integers>(at(name)); }
  DType dtype(std::string_view name) const { return std::get<DType>(at(name)); }

  const std::vector<Entry>& entries() const { return entries_; }
  bool operator==(const Attributes&) const = default;

 private:
  std::vector<Entry> entries_;  // in the order of the op's declaration
};

std::ostream& operator<<(std::ostream& stream, const Attributes& attributes);

// For caches: equal to the bit (0.0 is not -0.0, and a NaN is itself), and a hash that agrees with it.
bool identical(const Attributes& a, const Attributes& b);
std::uint64_t hash_of(const Attributes& attributes);
// Mixes `value` into a running hash.
constexpr std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15U;
  return hash ^ (hash >> 29);
}

}  // namespace mxpipe
