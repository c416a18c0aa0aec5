// Columns of a table, in chunks (record batches of memory-mapped shards): rows can be addressed by one
// number.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/column.hpp"

namespace mxpipe::data {

// Rows first..first+rows of the table; one column a name of the source, in its order.
struct Chunk {
  std::int64_t first = 0;
  std::int64_t rows = 0;
  std::vector<Column> columns;
};

class RowSource {
 public:
  explicit RowSource(std::vector<std::string> names) : names_(std::move(names)) {}

  const std::vector<std::string>& names() const { return names_; }
  const std::vector<Chunk>& chunks() const { return chunks_; }
  std::int64_t rows() const { return rows_; }

  // Position of a column. Throws SchemaError when the source does not have it.
  std::size_t index_of(std::string_view name) const;

  // Appends the rows of a struct array that has (at least) the source's columns.
  // Throws SchemaError when a column is missing, DataError for an array that breaks the rules of the
  // interface.
  void append(const ArrowSchema& schema, const std::shared_ptr<OwnedArray>& array);

  // Appends rows given as one list of parts a column; columns may be cut differently. Throws DataError when
  // they differ in length.
  void append_columns(const std::vector<std::vector<Column>>& columns);

 private:
  void append_chunk(std::int64_t rows, std::vector<Column> columns);

  std::vector<std::string> names_;
  std::vector<Chunk> chunks_;
  std::int64_t rows_ = 0;
};

}  // namespace mxpipe::data
