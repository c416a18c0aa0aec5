#include "graph/attributes.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include "graph/error.hpp"

namespace mxpipe {

std::string_view name_of(AttributeType type) {
  static constexpr std::array<std::string_view, 6> kNames{"bool", "int", "float", "str", "ints", "dtype"};
  return kNames[static_cast<std::size_t>(type)];
}

std::ostream& operator<<(std::ostream& stream, const Attribute& value) {
  std::visit(
      [&](const auto& held) {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, bool>) {
          stream << (held ? "true" : "false");
        } else if constexpr (std::is_same_v<Held, Integers>) {
          stream << "[";
          for (std::size_t i = 0; i < held.size(); ++i) stream << (i ? ", " : "") << held[i];
          stream << "]";
        } else {
          stream << held;
        }
      },
      value);
  return stream;
}

const Attribute* Attributes::find(std::string_view name) const {
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.first == name; });
  return found == entries_.end() ? nullptr : &found->second;
}

const Attribute& Attributes::at(std::string_view name) const {
  const Attribute* found = find(name);
  if (!found) fail(ErrorKind::internal, "attributes", "attribute ", name, " must be declared.");
  return *found;
}

void Attributes::set(std::string_view name, Attribute value) {
  for (Entry& entry : entries_) {
    if (entry.first == name) {
      entry.second = std::move(value);
      return;
    }
  }
  entries_.emplace_back(std::string(name), std::move(value));
}

namespace {

bool identical(const Attribute& a, const Attribute& b) {
  if (a.index() != b.index()) return false;
  const auto* real = std::get_if<double>(&a);
  return real ? std::bit_cast<std::uint64_t>(*real) == std::bit_cast<std::uint64_t>(std::get<double>(b))
              : a == b;
}

std::uint64_t hash_of(const Attribute& value) {
  return std::visit(
      [](const auto& held) -> std::uint64_t {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, std::string>) {
          return std::hash<std::string>{}(held);
        } else if constexpr (std::is_same_v<Held, Integers>) {
          std::uint64_t hash = held.size();
          for (const std::int64_t item : held) hash = mix(hash, static_cast<std::uint64_t>(item));
          return hash;
        } else if constexpr (std::is_same_v<Held, double>) {
          return std::bit_cast<std::uint64_t>(held);
        } else {
          return static_cast<std::uint64_t>(held);
        }
      },
      value);
}

}  // namespace

bool identical(const Attributes& a, const Attributes& b) {
  return std::equal(a.entries().begin(), a.entries().end(), b.entries().begin(), b.entries().end(),
                    [](const Attributes::Entry& left, const Attributes::Entry& right) {
                      return left.first == right.first && identical(left.second, right.second);
                    });
}

std::uint64_t hash_of(const Attributes& attributes) {
  std::uint64_t hash = attributes.entries().size();
  for (const auto& [name, value] : attributes.entries()) hash = mix(mix(hash, name.size()), hash_of(value));
  return hash;
}

std::ostream& operator<<(std::ostream& stream, const Attributes& attributes) {
  bool first = true;
  for (const auto& [name, value] : attributes.entries()) {
    stream << (first ? "" : ", ") << name << "=" << value;
    first = false;
  }
  return stream;
}

}  // namespace mxpipe
