#include "graph/attributes.hpp"

#include <algorithm>
#include <array>

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

std::ostream& operator<<(std::ostream& stream, const Attributes& attributes) {
  bool first = true;
  for (const auto& [name, value] : attributes.entries()) {
    stream << (first ? "" : ", ") << name << "=" << value;
    first = false;
  }
  return stream;
}

}  // namespace mxpipe
