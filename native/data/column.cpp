#include "data/column.hpp"

#include <array>
#include <cstring>
#include <limits>

namespace mxpipe::data {

namespace {

constexpr std::int64_t kMaxLength = std::int64_t{1} << 48;

struct Format {
  char code;
  ValueKind kind;
};

constexpr std::array<Format, 15> kFormats{{{'c', ValueKind::int8},
                                           {'s', ValueKind::int16},
                                           {'i', ValueKind::int32},
                                           {'l', ValueKind::int64},
                                           {'C', ValueKind::uint8},
                                           {'S', ValueKind::uint16},
                                           {'I', ValueKind::uint32},
                                           {'L', ValueKind::uint64},
                                           {'e', ValueKind::float16},
                                           {'f', ValueKind::float32},
                                           {'g', ValueKind::float64},
                                           {'b', ValueKind::bits},
                                           {'u', ValueKind::utf8},
                                           {'U', ValueKind::utf8_64},
                                           {'n', ValueKind::none}}};

ValueKind kind_of(const char* format, std::string_view name) {
  for (const Format& known : kFormats) {
    if (format[0] == known.code && format[1] == '\0') return known.kind;
  }
  throw SchemaError(text("[arrow] column '", name,
                         "' must hold numbers, bools or strings; got Arrow format '", format, "'."));
}

void check(bool holds, std::string_view name, std::string_view rule) {
  if (!holds) fail(ErrorKind::data, "arrow", "column '", name, "' must ", rule, "; it does not.");
}

template <typename Offset>
std::string_view string_between(const Column& column, std::int64_t row) {
  const Offset* offsets = static_cast<const Offset*>(column.values) + column.offset;
  const Offset begin = offsets[row], end = offsets[row + 1];
  // The last offset is the declared size of the text.
  if (begin < 0 || end < begin || end > offsets[column.length]) {
    fail(ErrorKind::data, "arrow", "string offsets must ascend inside the buffer; got ", begin, "..", end,
         " in row ", row, ".");
  }
  return {column.text + begin, static_cast<std::size_t>(end - begin)};
}

}  // namespace

std::string_view name_of(ValueKind kind) {
  constexpr std::array<std::string_view, 15> kNames{"int8",    "int16",  "int32",   "int64",   "uint8",
                                                    "uint16",  "uint32", "uint64",  "float16", "float32",
                                                    "float64", "bool",   "strings", "strings", "nulls"};
  return kNames[static_cast<std::size_t>(kind)];
}

bool is_string(ValueKind kind) { return kind == ValueKind::utf8 || kind == ValueKind::utf8_64; }

std::string_view Column::string_at(std::int64_t row) const {
  return kind == ValueKind::utf8 ? string_between<std::int32_t>(*this, row)
                                 : string_between<std::int64_t>(*this, row);
}

Column Column::slice(std::int64_t first, std::int64_t count) const {
  Column part = *this;
  part.offset += first;
  part.length = count;
  return part;
}

Column import_column(const ArrowSchema& schema, const ArrowArray& array, std::shared_ptr<const void> owner,
                     std::string_view name) {
  check(schema.format != nullptr, name, "have an Arrow format");
  Column column;
  column.kind = kind_of(schema.format, name);
  column.length = array.length;
  column.offset = array.offset;
  column.owner = std::move(owner);
  check(array.length >= 0 && array.length <= kMaxLength, name, "have a length that memory can hold");
  check(array.offset >= 0 && array.offset <= kMaxLength, name, "have an offset that memory can hold");
  if (column.kind == ValueKind::none) return column;
  const std::int64_t buffers = is_string(column.kind) ? 3 : 2;
  check(array.n_buffers == buffers && array.buffers != nullptr, name, "have the buffers of its type");
  // A null count of -1 is "unknown"; without a bitmap there are no nulls.
  column.validity = array.null_count == 0 ? nullptr : static_cast<const std::uint8_t*>(array.buffers[0]);
  check(array.null_count <= 0 || column.validity != nullptr, name, "have a bitmap for its nulls");
  column.values = array.buffers[1];
  check(column.values != nullptr || column.length == 0, name, "have a buffer of values");
  if (buffers == 3) {
    column.text = static_cast<const char*>(array.buffers[2]);
    if (column.text == nullptr) column.text = "";
  }
  if (schema.dictionary != nullptr) {
    check(array.dictionary != nullptr, name, "have the dictionary that its type declares");
    check(column.kind <= ValueKind::uint64, name, "have integer indices into its dictionary");
    check(schema.dictionary->dictionary == nullptr, name, "have a plain dictionary");
    column.dictionary =
        std::make_shared<Column>(import_column(*schema.dictionary, *array.dictionary, column.owner, name));
  }
  return column;
}

std::int64_t integer_at(const Column& column, std::int64_t row) {
  const std::int64_t at = column.offset + row;
  switch (column.kind) {
    case ValueKind::int8:
      return static_cast<const std::int8_t*>(column.values)[at];
    case ValueKind::int16:
      return static_cast<const std::int16_t*>(column.values)[at];
    case ValueKind::int32:
      return static_cast<const std::int32_t*>(column.values)[at];
    case ValueKind::int64:
      return static_cast<const std::int64_t*>(column.values)[at];
    case ValueKind::uint8:
      return static_cast<const std::uint8_t*>(column.values)[at];
    case ValueKind::uint16:
      return static_cast<const std::uint16_t*>(column.values)[at];
    case ValueKind::uint32:
      return static_cast<const std::uint32_t*>(column.values)[at];
    case ValueKind::uint64:
      // A value above the range of int64 becomes negative and matches nothing.
      return static_cast<std::int64_t>(static_cast<const std::uint64_t*>(column.values)[at]);
    case ValueKind::bits:
      return (static_cast<const std::uint8_t*>(column.values)[at >> 3] >> (at & 7)) & 1;
    default:
      fail(ErrorKind::internal, "arrow", "a column of ", name_of(column.kind), " holds no integers.");
  }
}

}  // namespace mxpipe::data
