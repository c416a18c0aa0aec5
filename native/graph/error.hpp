// Errors of the core. What enters: facts about a bad call. What leaves: one exception type that the Python
// binding turns into the matching class of mxpipe.errors.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace mxpipe {

enum class ErrorKind { op, graph, data, storage, internal };

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

// Writes all arguments one after the other: text(1, " < ", 2) is "1 < 2".
template <typename... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

// Throws "[where] <parts>"; every message states what must hold and what was got.
template <typename... Parts>
[[noreturn]] void fail(ErrorKind kind, std::string_view where, const Parts&... parts) {
  throw Error(kind, text("[", where, "] ", parts...));
}

// The common case: an op was called with inputs or attributes that it cannot take.
template <typename... Parts>
void require(bool holds, std::string_view op, const Parts&... parts) {
  if (!holds) fail(ErrorKind::op, op, parts...);
}

}  // namespace mxpipe
