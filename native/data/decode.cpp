#include "data/decode.hpp"

#include <cmath>
#include <cstring>

namespace mxpipe::data {

namespace {

struct Half {
  std::uint16_t bits;
};

double as_double(Half half) {
  const int exponent = (half.bits >> 10) & 31, mantissa = half.bits & 1023;
  const double sign = (half.bits >> 15) != 0 ? -1.0 : 1.0;
  if (exponent == 31) return mantissa != 0 ? std::nan("") : sign * HUGE_VAL;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(mantissa + 1024, exponent - 25);
}

template <typename T>
double as_double(T value) {
  return static_cast<double>(value);
}

// Access to the values of a block, by kind of storage.
template <typename T>
struct Numbers {
  const T* values;
  explicit Numbers(const Column& column) : values(static_cast<const T*>(column.values) + column.offset) {}
  T operator[](std::int64_t row) const { return values[row]; }
};

struct Bits {
  const std::uint8_t* bytes;
  std::int64_t offset;
  explicit Bits(const Column& column)
      : bytes(static_cast<const std::uint8_t*>(column.values)), offset(column.offset) {}
  std::uint8_t operator[](std::int64_t row) const {
    const std::int64_t bit = offset + row;
    return (bytes[bit >> 3] >> (bit & 7)) & 1;
  }
};

// Calls visit(values) with the typed values of a numeric column.
template <typename Visit>
void with_values(const Column& column, const Visit& visit) {
  switch (column.kind) {
    case ValueKind::int8:
      return visit(Numbers<std::int8_t>(column));
    case ValueKind::int16:
      return visit(Numbers<std::int16_t>(column));
    case ValueKind::int32:
      return visit(Numbers<std::int32_t>(column));
    case ValueKind::int64:
      return visit(Numbers<std::int64_t>(column));
    case ValueKind::uint8:
      return visit(Numbers<std::uint8_t>(column));
    case ValueKind::uint16:
      return visit(Numbers<std::uint16_t>(column));
    case ValueKind::uint32:
      return visit(Numbers<std::uint32_t>(column));
    case ValueKind::uint64:
      return visit(Numbers<std::uint64_t>(column));
    case ValueKind::float16:
      return visit(Numbers<Half>(column));
    case ValueKind::float32:
      return visit(Numbers<float>(column));
    case ValueKind::float64:
      return visit(Numbers<double>(column));
    case ValueKind::bits:
      return visit(Bits(column));
    default:
      fail(ErrorKind::internal, "gather", "a column of ", name_of(column.kind), " holds no numbers.");
  }
}

// Calls each(i, row) for the rows of a block; consecutive rows leave the compiler a plain loop.
template <typename Each>
void for_rows(const BlockRows& rows, const Each& each) {
  if (rows.list == nullptr) {
    for (std::int64_t i = 0; i < rows.count; ++i) each(i, rows.first + i);
  } else {
    for (std::int64_t i = 0; i < rows.count; ++i) each(i, rows.list[i]);
  }
}

// Fills out with `absent` where a row is null.
template <typename T>
void overwrite_nulls(const Column& column, const BlockRows& rows, T absent, T* out) {
  if (column.validity == nullptr) return;
  for_rows(rows, [&](std::int64_t i, std::int64_t row) { out[i] = column.is_valid(row) ? out[i] : absent; });
}

template <typename T>
void fill_block(const BlockRows& rows, T value, T* out) {
  for (std::int64_t i = 0; i < rows.count; ++i) out[i] = value;
}

}  // namespace

void prefetch_values(const Column& column, const BlockRows& rows) {
  if (rows.list == nullptr || column.kind >= ValueKind::bits) return;
  with_values(column, [&](const auto& values) {
    if constexpr (requires { values.values; }) {
      for (std::int64_t i = 0; i < rows.count; ++i) __builtin_prefetch(values.values + rows.list[i]);
    }
  });
}

void decode_normalised(const Column& column, const BlockRows& rows, double mean, double inverse_std,
                       float fill, float* out) {
  if (column.kind == ValueKind::none) return fill_block(rows, fill, out);
  with_values(column, [&](const auto& values) {
    for_rows(rows, [&](std::int64_t i, std::int64_t row) {
      const double value = as_double(values[row]);
      const auto normal = static_cast<float>((value - mean) * inverse_std);
      out[i] = std::isfinite(value) ? normal : fill;
    });
  });
  overwrite_nulls(column, rows, fill, out);
}

void decode_missing(const Column& column, const BlockRows& rows, float* out) {
  if (column.kind == ValueKind::none) return fill_block(rows, 1.0F, out);
  with_values(column, [&](const auto& values) {
    for_rows(rows, [&](std::int64_t i, std::int64_t row) {
      out[i] = std::isfinite(as_double(values[row])) ? 0.0F : 1.0F;
    });
  });
  overwrite_nulls(column, rows, 1.0F, out);
}

void decode_dictionary(const Column& column, const BlockRows& rows, const std::vector<std::int32_t>& ids,
                       std::int32_t* out) {
  const auto size = static_cast<std::uint64_t>(ids.size());
  bool inside = true;
  with_values(column, [&](const auto& values) {
    using Index = std::decay_t<decltype(values[0])>;
    if constexpr (std::is_integral_v<Index>) {
      for_rows(rows, [&](std::int64_t i, std::int64_t row) {
        const auto index = static_cast<std::uint64_t>(static_cast<std::int64_t>(values[row]));
        // The index under a null may be anything.
        const bool known = index < size;
        out[i] = known ? ids[index] : 0;
        inside = inside && (known || !column.is_valid(row));
      });
    }
  });
  if (!inside) fail(ErrorKind::data, "gather", "an index must lie in its dictionary of ", size, " values.");
  overwrite_nulls(column, rows, std::int32_t{0}, out);
}

}  // namespace mxpipe::data
