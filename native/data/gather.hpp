// Rows of a source to the tensors of a batch, in one pass: look up, normalise, write. The only copy of the
// data path.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/source.hpp"
#include "data/vocabulary.hpp"

namespace mxpipe::data {

// (value - mean) * inverse_std in float64, rounded to float32; null, NaN and infinite values take `fill`.
struct NumericFeature {
  std::string name;
  double mean = 0;
  double inverse_std = 1;
  double fill = 0;
  bool indicator = false;  // a further output column, behind all others: 1 where `fill` was used, else 0
};

struct CategoricalFeature {
  std::string name;
  VocabularyPtr vocabulary;
};

// What was written into batches since the process began.
struct CopyCount {
  std::uint64_t gathers = 0;
  std::uint64_t bytes = 0;
};
CopyCount copy_count();

// Where a gather writes, row-major: float32 (rows, numeric_width), int32 (rows, categorical_width), float32
// (rows).
struct BatchView {
  float* numeric = nullptr;
  std::int32_t* categorical = nullptr;
  float* label = nullptr;
};

// Features of a source, resolved: immutable, for any number of threads.
class RowGather {
 public:
  // Reads the chunks that the source has now. Throws SchemaError naming a column whose values do not suit its
  // role.
  RowGather(const RowSource& source, std::vector<NumericFeature> numeric,
            std::vector<CategoricalFeature> categorical, std::optional<std::string> label);

  std::int64_t rows() const { return rows_; }
  std::int64_t numeric_width() const { return static_cast<std::int64_t>(outputs_.size()); }
  std::int64_t categorical_width() const { return static_cast<std::int64_t>(categorical_.size()); }
  bool has_label() const { return label_.has_value(); }

  // Writes `count` rows, whose numbers are given. Throws DataError for a row that does not exist and for a
  // null label.
  void gather(const std::int64_t* rows, std::int64_t count, const BatchView& out) const;

 private:
  struct NumericOutput {
    std::size_t column;  // of the source
    double mean, inverse_std;
    float fill;  // already normalised
    bool indicator;
  };
  struct CategoricalOutput {
    std::size_t column;
    VocabularyPtr vocabulary;
    std::vector<std::shared_ptr<const std::vector<std::int32_t>>>
        dictionary_ids;  // by chunk; null: no dictionary
  };
  struct Run;

  std::vector<Run> sort_into_runs(const std::int64_t* rows, std::int64_t count,
                                  std::vector<std::int64_t>& scratch) const;
  void write_numeric(const Run& run, float* out) const;
  void write_categorical(const Run& run, std::int32_t* out) const;
  void write_label(const Run& run, float* out) const;

  std::vector<std::string> names_;
  std::vector<Chunk> chunks_;
  std::int64_t rows_;
  std::vector<NumericOutput> outputs_;
  std::vector<CategoricalOutput> categorical_;
  std::optional<std::size_t> label_;
};

}  // namespace mxpipe::data
