// One block of a column into registers' reach: typed loops, chosen once a block and not once a value.
#pragma once

#include <cstdint>

#include "data/column.hpp"

namespace mxpipe::data {

// Rows of one block, at most kBlockRows: consecutive from `first`, or listed.
struct BlockRows {
  std::int64_t first;
  const std::int64_t* list;  // null: consecutive
  std::int64_t count;
};

inline constexpr std::int64_t kBlockRows = 128;

// Asks for the memory of listed rows of a column, so that it is there when the column is decoded.
void prefetch_values(const Column& column, const BlockRows& rows);

// out[i] = (value - mean) * inverse_std in float64, rounded to float32; `fill` for null, NaN and infinite
// values. The column holds numbers or bits, or nothing but nulls.
void decode_normalised(const Column& column, const BlockRows& rows, double mean, double inverse_std,
                       float fill, float* out);

// out[i] = 1 where the value is null, NaN or infinite, else 0.
void decode_missing(const Column& column, const BlockRows& rows, float* out);

// out[i] = ids[index of the row], 0 for a null. Throws DataError for an index outside of the dictionary.
void decode_dictionary(const Column& column, const BlockRows& rows, const std::vector<std::int32_t>& ids,
                       std::int32_t* out);

}  // namespace mxpipe::data
