#include "graph/dtype.hpp"

#include <algorithm>
#include <array>

#include "graph/error.hpp"

namespace mxpipe {
namespace {

struct Facts {
  std::string_view name;
  std::size_t bytes;
};

constexpr std::array<Facts, kDTypeCount> kFacts{{
    {"float32", 4},
    {"float64", 8},
    {"float16", 2},
    {"bfloat16", 2},
    {"int8", 1},
    {"int16", 2},
    {"int32", 4},
    {"int64", 8},
    {"uint8", 1},
    {"uint16", 2},
    {"uint32", 4},
    {"uint64", 8},
    {"bool", 1},
}};

DType signed_of_size(std::size_t bytes) {
  switch (bytes) {
    case 1:
      return DType::int8;
    case 2:
      return DType::int16;
    case 4:
      return DType::int32;
    default:
      return DType::int64;
  }
}

DType promote_floating(DType a, DType b) {
  if (a == DType::float64 || b == DType::float64) return DType::float64;
  return DType::float32;  // two different types of at most 32 bits: float16 with bfloat16 meets in float32
}

DType promote_integers(DType a, DType b) {
  if (is_signed_integer(a) == is_signed_integer(b)) return size_of(a) >= size_of(b) ? a : b;
  const DType with_sign = is_signed_integer(a) ? a : b;
  const DType without_sign = is_signed_integer(a) ? b : a;
  if (size_of(with_sign) > size_of(without_sign)) return with_sign;
  if (without_sign == DType::uint64) return DType::float64;  // no integer type holds both; NumPy's choice
  return signed_of_size(2 * size_of(without_sign));
}

}  // namespace

std::size_t size_of(DType dtype) { return kFacts[static_cast<std::size_t>(dtype)].bytes; }

std::string_view name_of(DType dtype) { return kFacts[static_cast<std::size_t>(dtype)].name; }

DType dtype_from_name(std::string_view name, std::string_view where) {
  const auto found =
      std::find_if(kFacts.begin(), kFacts.end(), [&](const Facts& f) { return f.name == name; });
  require(found != kFacts.end(), where,
          "dtype must be one of float32, float64, float16, bfloat16, int8..int64, ",
          "uint8..uint64, bool; got ", name, ".");
  return static_cast<DType>(found - kFacts.begin());
}

DType promote(DType a, DType b) {
  if (a == b) return a;
  if (is_boolean(a)) return b;
  if (is_boolean(b)) return a;
  if (is_floating(a) && is_floating(b)) return promote_floating(a, b);
  if (is_floating(a)) return a;
  if (is_floating(b)) return b;
  return promote_integers(a, b);
}

}  // namespace mxpipe
