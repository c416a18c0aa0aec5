#include "data/gather.hpp"

#include <algorithm>
#include <array>
#include <atomic>

#include "data/decode.hpp"

namespace mxpipe::data {

namespace {

std::atomic<std::uint64_t> gathers{0};
std::atomic<std::uint64_t> bytes_written{0};

// Columns are decoded one after the other into a tile that stays in the first-level cache, which is then
// written out row by row.
constexpr std::int64_t kTileColumns = 16;

template <typename T>
struct Tile {
  alignas(64) std::array<T, static_cast<std::size_t>(kTileColumns* kBlockRows)> values;

  T* column(std::int64_t index) { return values.data() + index * kBlockRows; }
};

using Quad [[gnu::vector_size(16)]] = std::int32_t;

// Four rows of four columns at once: 32-bit values only move, whatever their type.
void transpose_four(const void* const in[4], void* const out[4]) {
  Quad a, b, c, d;
  __builtin_memcpy(&a, in[0], sizeof a);
  __builtin_memcpy(&b, in[1], sizeof b);
  __builtin_memcpy(&c, in[2], sizeof c);
  __builtin_memcpy(&d, in[3], sizeof d);
  const Quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5),
             ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5),
             cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const Quad rows[4] = {__builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5),
                        __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7),
                        __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5),
                        __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7)};
  for (int i = 0; i < 4; ++i) __builtin_memcpy(out[i], &rows[i], sizeof rows[i]);
}

// Columns of the tile to `columns` neighbouring places of each row; row i begins at out + positions[i] *
// stride.
template <typename T>
void store_tile(Tile<T>& tile, std::int64_t columns, const std::int64_t* positions, std::int64_t count,
                T* out, std::int64_t stride) {
  static_assert(sizeof(T) == 4);
  std::int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    T* const rows[4] = {out + positions[i] * stride, out + positions[i + 1] * stride,
                        out + positions[i + 2] * stride, out + positions[i + 3] * stride};
    std::int64_t c = 0;
    for (; c + 4 <= columns; c += 4) {
      const void* const in[4] = {tile.column(c) + i, tile.column(c + 1) + i, tile.column(c + 2) + i,
                                 tile.column(c + 3) + i};
      void* const to[4] = {rows[0] + c, rows[1] + c, rows[2] + c, rows[3] + c};
      transpose_four(in, to);
    }
    for (; c < columns; ++c) {
      for (int k = 0; k < 4; ++k) rows[k][c] = tile.column(c)[i + k];
    }
  }
  for (; i < count; ++i) {
    for (std::int64_t c = 0; c < columns; ++c) out[positions[i] * stride + c] = tile.column(c)[i];
  }
}

bool consecutive(const std::int64_t* rows, std::int64_t count) {
  for (std::int64_t i = 1; i < count; ++i) {
    if (rows[i] != rows[i - 1] + 1) return false;
  }
  return true;
}

void check_numeric(const Column& column, const std::string& name) {
  if (column.dictionary || is_string(column.kind)) {
    throw SchemaError(text("[rows] column '", name, "' must be numeric; got ",
                           column.dictionary ? "a dictionary" : name_of(column.kind), "."));
  }
}

void check_categorical(const Column& column, const std::string& name, const Vocabulary& vocabulary) {
  const ValueKind kind = column.dictionary ? column.dictionary->kind : column.kind;
  if (kind != ValueKind::none &&
      (is_string(kind) != vocabulary.holds_strings() || kind == ValueKind::float16)) {
    throw SchemaError(text("[rows] column '", name, "' must hold ",
                           vocabulary.holds_strings() ? "strings" : "integers", "; got ", name_of(kind),
                           "."));
  }
}

}  // namespace

CopyCount copy_count() { return {gathers.load(), bytes_written.load()}; }

// Rows of one chunk: their numbers in the chunk, and the rows of the batch that they go to.
struct RowGather::Run {
  std::size_t chunk;
  const std::int64_t* rows;
  const std::int64_t* positions;
  std::int64_t count;

  // Calls each(block, positions) for parts that fit into a tile.
  template <typename Each>
  void for_blocks(const Each& each) const {
    for (std::int64_t start = 0; start < count; start += kBlockRows) {
      const std::int64_t size = std::min(kBlockRows, count - start);
      const std::int64_t* list = rows + start;
      each(BlockRows{list[0], consecutive(list, size) ? nullptr : list, size}, positions + start);
    }
  }
};

RowGather::RowGather(const RowSource& source, std::vector<NumericFeature> numeric,
                     std::vector<CategoricalFeature> categorical, std::optional<std::string> label)
    : names_(source.names()), chunks_(source.chunks()), rows_(source.rows()) {
  for (const bool indicators : {false, true}) {
    for (const NumericFeature& feature : numeric) {
      if (indicators && !feature.indicator) continue;
      const std::size_t column = source.index_of(feature.name);
      for (const Chunk& chunk : chunks_) check_numeric(chunk.columns[column], feature.name);
      const auto fill = static_cast<float>((feature.fill - feature.mean) * feature.inverse_std);
      outputs_.push_back({column, feature.mean, feature.inverse_std, fill, indicators});
    }
  }
  for (CategoricalFeature& feature : categorical) {
    CategoricalOutput output{source.index_of(feature.name), std::move(feature.vocabulary), {}};
    const Column* previous = nullptr;
    for (const Chunk& chunk : chunks_) {
      const Column& column = chunk.columns[output.column];
      check_categorical(column, feature.name, *output.vocabulary);
      const Column* dictionary = column.dictionary.get();
      const bool same = dictionary && previous && dictionary->values == previous->values &&
                        dictionary->text == previous->text && dictionary->length == previous->length &&
                        dictionary->offset == previous->offset;
      if (same) {
        output.dictionary_ids.push_back(output.dictionary_ids.back());
      } else if (dictionary) {
        output.dictionary_ids.push_back(
            std::make_shared<const std::vector<std::int32_t>>(output.vocabulary->ids_of(*dictionary)));
      } else {
        output.dictionary_ids.push_back(nullptr);
      }
      previous = dictionary;
    }
    categorical_.push_back(std::move(output));
  }
  if (label) {
    label_ = source.index_of(*label);
    for (const Chunk& chunk : chunks_) check_numeric(chunk.columns[*label_], *label);
  }
}

void RowGather::gather(const std::int64_t* rows, std::int64_t count, const BatchView& out) const {
  std::vector<std::int64_t> scratch;
  for (const Run& run : sort_into_runs(rows, count, scratch)) {
    write_numeric(run, out.numeric);
    write_categorical(run, out.categorical);
    if (label_) write_label(run, out.label);
  }
  const std::int64_t width = numeric_width() + categorical_width() + (label_ ? 1 : 0);
  gathers.fetch_add(1, std::memory_order_relaxed);
  bytes_written.fetch_add(static_cast<std::uint64_t>(count * width) * 4, std::memory_order_relaxed);
}

std::vector<RowGather::Run> RowGather::sort_into_runs(const std::int64_t* rows, std::int64_t count,
                                                      std::vector<std::int64_t>& scratch) const {
  const auto size = static_cast<std::size_t>(count);
  std::vector<std::size_t> chunk_of(size);
  std::vector<std::int64_t> ends(chunks_.size() + 1, 0);
  for (std::size_t i = 0; i < size; ++i) {
    if (rows[i] < 0 || rows[i] >= rows_) {
      fail(ErrorKind::data, "gather", "rows must be in 0..", rows_, "; got ", rows[i], ".");
    }
    const auto after =
        std::upper_bound(chunks_.begin(), chunks_.end(), rows[i],
                         [](std::int64_t row, const Chunk& chunk) { return row < chunk.first; });
    chunk_of[i] = static_cast<std::size_t>(after - chunks_.begin()) - 1;
    ++ends[chunk_of[i] + 1];
  }
  for (std::size_t c = 0; c < chunks_.size(); ++c) ends[c + 1] += ends[c];
  scratch.resize(2 * size);
  std::int64_t* const local = scratch.data();
  std::int64_t* const positions = local + count;
  std::vector<std::int64_t> next(ends.begin(), ends.end() - 1);
  for (std::size_t i = 0; i < size; ++i) {
    const std::int64_t place = next[chunk_of[i]]++;
    local[place] = rows[i] - chunks_[chunk_of[i]].first;
    positions[place] = static_cast<std::int64_t>(i);
  }
  std::vector<Run> runs;
  for (std::size_t c = 0; c < chunks_.size(); ++c) {
    if (ends[c + 1] > ends[c])
      runs.push_back({c, local + ends[c], positions + ends[c], ends[c + 1] - ends[c]});
  }
  return runs;
}

void RowGather::write_numeric(const Run& run, float* out) const {
  const std::vector<Column>& columns = chunks_[run.chunk].columns;
  Tile<float> tile;
  run.for_blocks([&](const BlockRows& rows, const std::int64_t* positions) {
    for (std::int64_t begin = 0; begin < numeric_width(); begin += kTileColumns) {
      const std::int64_t width = std::min(kTileColumns, numeric_width() - begin);
      for (std::int64_t c = 0; c < width; ++c) {
        const NumericOutput& output = outputs_[static_cast<std::size_t>(begin + c)];
        const Column& column = columns[output.column];
        if (c + 1 < width)
          prefetch_values(columns[outputs_[static_cast<std::size_t>(begin + c) + 1].column], rows);
        if (output.indicator) {
          decode_missing(column, rows, tile.column(c));
        } else {
          decode_normalised(column, rows, output.mean, output.inverse_std, output.fill, tile.column(c));
        }
      }
      store_tile(tile, width, positions, rows.count, out + begin, numeric_width());
    }
  });
}

void RowGather::write_categorical(const Run& run, std::int32_t* out) const {
  const std::vector<Column>& columns = chunks_[run.chunk].columns;
  Tile<std::int32_t> tile;
  run.for_blocks([&](const BlockRows& rows, const std::int64_t* positions) {
    for (std::int64_t begin = 0; begin < categorical_width(); begin += kTileColumns) {
      const std::int64_t width = std::min(kTileColumns, categorical_width() - begin);
      for (std::int64_t c = 0; c < width; ++c) {
        const CategoricalOutput& output = categorical_[static_cast<std::size_t>(begin + c)];
        const Column& column = columns[output.column];
        if (c + 1 < width) {
          prefetch_values(columns[categorical_[static_cast<std::size_t>(begin + c) + 1].column], rows);
        }
        std::int32_t* const ids = tile.column(c);
        if (const auto& known = output.dictionary_ids[run.chunk]) {
          decode_dictionary(column, rows, *known, ids);
        } else {
          for (std::int64_t i = 0; i < rows.count; ++i) {
            ids[i] = output.vocabulary->id_at(column, rows.list ? rows.list[i] : rows.first + i);
          }
        }
      }
      store_tile(tile, width, positions, rows.count, out + begin, categorical_width());
    }
  });
}

void RowGather::write_label(const Run& run, float* out) const {
  const Column& column = chunks_[run.chunk].columns[*label_];
  Tile<float> tile;
  run.for_blocks([&](const BlockRows& rows, const std::int64_t* positions) {
    decode_missing(column, rows, tile.column(0));
    const float* const missing = std::find(tile.column(0), tile.column(0) + rows.count, 1.0F);
    if (missing != tile.column(0) + rows.count) {
      const std::int64_t i = missing - tile.column(0);
      fail(ErrorKind::data, "gather", "label column '", names_[*label_],
           "' must have a finite value in every row; ", "got none in row ",
           chunks_[run.chunk].first + (rows.list ? rows.list[i] : rows.first + i), ".");
    }
    decode_normalised(column, rows, 0.0, 1.0, 0.0F, tile.column(0));
    store_tile(tile, 1, positions, rows.count, out, 1);
  });
}

}  // namespace mxpipe::data
