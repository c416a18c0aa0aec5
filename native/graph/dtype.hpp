// Element types and the promotion between them (array API standard; int64 with float32 gives float32, as
// MXNet does).
#pragma once

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string_view>

namespace mxpipe {

enum class DType : std::uint8_t {
  float32,
  float64,
  float16,
  bfloat16,
  int8,
  int16,
  int32,
  int64,
  uint8,
  uint16,
  uint32,
  uint64,
  boolean,
};

inline constexpr int kDTypeCount = 13;

std::size_t size_of(DType dtype);
std::string_view name_of(DType dtype);
// Throws OperatorError naming `where` for a name that is not a dtype.
DType dtype_from_name(std::string_view name, std::string_view where = "dtype");

constexpr bool is_floating(DType dtype) { return dtype <= DType::bfloat16; }
constexpr bool is_boolean(DType dtype) { return dtype == DType::boolean; }
constexpr bool is_signed_integer(DType dtype) { return dtype >= DType::int8 && dtype <= DType::int64; }
constexpr bool is_unsigned_integer(DType dtype) { return dtype >= DType::uint8 && dtype <= DType::uint64; }
constexpr bool is_integer(DType dtype) { return is_signed_integer(dtype) || is_unsigned_integer(dtype); }

DType promote(DType a, DType b);

inline std::ostream& operator<<(std::ostream& stream, DType dtype) { return stream << name_of(dtype); }

}  // namespace mxpipe
