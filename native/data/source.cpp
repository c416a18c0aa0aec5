#include "data/source.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace mxpipe::data {

std::size_t RowSource::index_of(std::string_view name) const {
  const auto found = std::find(names_.begin(), names_.end(), name);
  if (found == names_.end()) throw SchemaError(text("[rows] column '", name, "' must be in the source."));
  return static_cast<std::size_t>(found - names_.begin());
}

void RowSource::append(const ArrowSchema& schema, const std::shared_ptr<OwnedArray>& array) {
  const ArrowArray& rows = **array;
  const auto check = [](bool holds, std::string_view rule) {
    if (!holds) fail(ErrorKind::data, "arrow", "rows must ", rule, "; they do not.");
  };
  check(schema.format != nullptr && std::strcmp(schema.format, "+s") == 0, "come as a struct array");
  check(schema.n_children == rows.n_children, "have the children that their type declares");
  check(rows.length >= 0 && rows.offset >= 0, "have a length and an offset");
  check(rows.null_count == 0 || rows.n_buffers == 0 || rows.buffers[0] == nullptr, "not be null as a whole");
  std::vector<Column> columns;
  for (const std::string& name : names_) {
    const ArrowSchema* const* begin = schema.children;
    const ArrowSchema* const* end = begin + schema.n_children;
    const auto found = std::find_if(
        begin, end, [&](const ArrowSchema* child) { return child->name && name == child->name; });
    if (found == end)
      throw SchemaError(text("[rows] column '", name, "' must be in every part of the rows."));
    Column column = import_column(**found, *rows.children[found - begin], array, name);
    check(column.length - rows.offset >= rows.length, "be as long as each of their columns");
    columns.push_back(column.slice(rows.offset, rows.length));
  }
  append_chunk(rows.length, std::move(columns));
}

void RowSource::append_columns(const std::vector<std::vector<Column>>& columns) {
  if (columns.size() != names_.size()) {
    fail(ErrorKind::data, "rows", "a list of parts must be given for each of ", names_.size(),
         " columns; got ", columns.size(), ".");
  }
  // A cut wherever any column has one.
  std::vector<std::int64_t> cuts{0};
  std::int64_t rows = -1;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    std::int64_t end = 0;
    for (const Column& part : columns[i]) cuts.push_back(end += part.length);
    if (rows < 0) rows = end;
    if (end != rows) {
      fail(ErrorKind::data, "rows", "columns must be equally long; got ", rows, " rows in column '",
           names_[0], "' and ", end, " in column '", names_[i], "'.");
    }
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  std::vector<std::size_t> part(columns.size(), 0);
  std::vector<std::int64_t> used(columns.size(), 0);
  for (std::size_t cut = 1; cut < cuts.size(); ++cut) {
    const std::int64_t count = cuts[cut] - cuts[cut - 1];
    std::vector<Column> slices;
    for (std::size_t i = 0; i < columns.size(); ++i) {
      while (used[i] == columns[i][part[i]].length) {
        ++part[i];
        used[i] = 0;
      }
      slices.push_back(columns[i][part[i]].slice(used[i], count));
      used[i] += count;
    }
    append_chunk(count, std::move(slices));
  }
}

void RowSource::append_chunk(std::int64_t rows, std::vector<Column> columns) {
  if (rows == 0) return;
  chunks_.push_back({rows_, rows, std::move(columns)});
  rows_ += rows;
}

}  // namespace mxpipe::data
