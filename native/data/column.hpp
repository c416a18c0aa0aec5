// The data path: columns in, batches out, one copy between them.
//
// What enters: Arrow arrays through the C Data Interface (usually memory-mapped), or buffers of NumPy. What
// leaves: float32 and int32 rows of a batch (gather.hpp), written where the caller wants them. Called by the
// Python binding alone. Nothing here knows the interpreter; everything may run on any thread.
//
//   column.hpp      a typed, checked view of one column
//   source.hpp      columns of a table, in chunks
//   vocabulary.hpp  from a category to its id
//   row_order.hpp   the order of an epoch
//   gather.hpp      rows of a source to batch tensors
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/arrow_abi.hpp"
#include "graph/error.hpp"

namespace mxpipe::data {

// A column is missing or holds values of another kind: mxpipe.errors.SchemaError.
class SchemaError : public Error {
 public:
  explicit SchemaError(const std::string& message) : Error(ErrorKind::data, message) {}
};

enum class ValueKind : std::uint8_t {
  int8,
  int16,
  int32,
  int64,
  uint8,
  uint16,
  uint32,
  uint64,
  float16,
  float32,
  float64,
  bits,     // one bit a value
  utf8,     // int32 offsets
  utf8_64,  // int64 offsets
  none      // every row is null; no buffers
};

std::string_view name_of(ValueKind kind);
bool is_string(ValueKind kind);

// A view of one column. Values start at `offset` in every buffer. The owner keeps the buffers alive.
struct Column {
  ValueKind kind = ValueKind::float64;
  std::int64_t length = 0;
  std::int64_t offset = 0;
  const std::uint8_t* validity = nullptr;    // a bit a row, 1 is valid; null when no row is null
  const void* values = nullptr;              // numbers, bits, or string offsets
  const char* text = nullptr;                // bytes of strings
  std::shared_ptr<const Column> dictionary;  // set: values are indices into it
  std::shared_ptr<const void> owner;

  bool is_valid(std::int64_t row) const {
    const std::int64_t bit = offset + row;
    if (kind == ValueKind::none) return false;
    return validity == nullptr || ((validity[bit >> 3] >> (bit & 7)) & 1) != 0;
  }

  // The string of a row of a string column. Throws DataError when the offsets leave the buffer.
  std::string_view string_at(std::int64_t row) const;

  // Rows first..first+count of the same buffers.
  Column slice(std::int64_t first, std::int64_t count) const;
};

// The column that an Arrow array holds, without a copy. Throws SchemaError for a type that we do not read,
// DataError for an array that breaks the rules of the interface; `name` is for the errors.
Column import_column(const ArrowSchema& schema, const ArrowArray& array, std::shared_ptr<const void> owner,
                     std::string_view name);

// The integer at a row of an integer, bit or index column.
std::int64_t integer_at(const Column& column, std::int64_t row);

}  // namespace mxpipe::data
