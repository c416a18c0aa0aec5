#include "kernels/portable/strided_copy.hpp"

#include <algorithm>
#include <cstdlib>

#include "kernels/parallel.hpp"

namespace mxpipe {
namespace {

constexpr std::int64_t kTile = 32;
constexpr std::int64_t kMostFew = 3;        // columns that are too few for tiles
constexpr std::int64_t kPiece = 16 * 1024;  // elements of a long row that are one thread's work

}  // namespace

StridedCopy::StridedCopy(const Shape& shape, const Shape& source, const Shape& destination, std::size_t bytes)
    : bytes_(bytes) {
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (shape[axis] == 1) continue;
    const int last = shape_.rank() - 1;
    const bool merges = last >= 0 && source_[last] == source[axis] * shape[axis] &&
                        destination_[last] == destination[axis] * shape[axis];
    if (merges) {
      shape_[last] *= shape[axis];
      source_[last] = source[axis];
      destination_[last] = destination[axis];
    } else {
      shape_.push_back(shape[axis]);
      source_.push_back(source[axis]);
      destination_.push_back(destination[axis]);
    }
  }
  if (shape_.rank() == 0) {
    shape_ = source_ = destination_ = Shape{1};
  }
  const int last = shape_.rank() - 1;
  for (int axis = 0; axis < last; ++axis) {
    const bool fills_rows = destination_[last] == 1 && destination_[axis] == shape_[last];
    const bool wide = shape_[last] > kMostFew;
    if (source_[axis] == 1 && source_[last] != 1 && shape_[axis] >= 4 && (wide || fills_rows)) tiled_ = axis;
  }
  outer_ = shape_.product(0, last);
  if (tiled_ >= 0 && outer_ > 0) outer_ /= shape_[tiled_];
}

StridedCopy::Offsets StridedCopy::locate(std::int64_t index) const {
  Offsets offsets;
  for (int axis = shape_.rank() - 2; axis >= 0; --axis) {
    if (axis == tiled_) continue;
    const std::int64_t place = index % shape_[axis];
    offsets.source += place * source_[axis];
    offsets.destination += place * destination_[axis];
    index /= shape_[axis];
  }
  return offsets;
}

template <typename T>
void StridedCopy::run_rows(const T* source, T* destination) const {
  const int last = shape_.rank() - 1;
  const std::int64_t size = shape_[last], from = source_[last], to = destination_[last];
  const std::int64_t pieces = (size + kPiece - 1) / kPiece;
  parallel_for(outer_ * pieces, grain_for(std::min(size, kPiece) + 8),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t unit = begin; unit < end; ++unit) {
                   const Offsets offsets = locate(unit / pieces);
                   const std::int64_t first = unit % pieces * kPiece;
                   const std::int64_t count = std::min(kPiece, size - first);
                   const T* row = source + offsets.source + first * from;
                   T* result = destination + offsets.destination + first * to;
                   if (from == 1 && to == 1) {
                     std::copy_n(row, count, result);
                   } else {
                     for (std::int64_t i = 0; i < count; ++i) result[i * to] = row[i * from];
                   }
                 }
               });
}

template <typename T>
void StridedCopy::run_tiles(const T* source, T* destination) const {
  const int last = shape_.rank() - 1;
  const std::int64_t rows = shape_[tiled_], columns = shape_[last];
  const std::int64_t tiles_down = (rows + kTile - 1) / kTile, tiles_across = (columns + kTile - 1) / kTile;
  const std::int64_t units = outer_ * tiles_down * tiles_across;
  parallel_for(units, grain_for(kTile * kTile), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t across = unit % tiles_across * kTile;
      const std::int64_t down = unit / tiles_across % tiles_down * kTile;
      const Offsets offsets = locate(unit / tiles_across / tiles_down);
      const T* from = source + offsets.source + down + across * source_[last];
      T* to = destination + offsets.destination + down * destination_[tiled_] + across * destination_[last];
      const std::int64_t height = std::min(kTile, rows - down), width = std::min(kTile, columns - across);
      // Through a buffer: each line of memory is touched once, however its address falls on the cache's sets.
      T tile[kTile * kTile];
      for (std::int64_t j = 0; j < width; ++j) {
        for (std::int64_t i = 0; i < height; ++i) tile[i * kTile + j] = from[i + j * source_[last]];
      }
      for (std::int64_t i = 0; i < height; ++i) {
        T* row = to + i * destination_[tiled_];
        for (std::int64_t j = 0; j < width; ++j) row[j * destination_[last]] = tile[i * kTile + j];
      }
    }
  });
}

// The same where the destination is rows of a few columns: images of as many channels.
template <typename T, int columns>
void StridedCopy::run_few(const T* source, T* destination) const {
  const std::int64_t rows = shape_[tiled_], across = source_[shape_.rank() - 1];
  const std::int64_t pieces = (rows + kPiece - 1) / kPiece;
  parallel_for(outer_ * pieces, grain_for(std::min(rows, kPiece) * columns),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t unit = begin; unit < end; ++unit) {
                   const Offsets offsets = locate(unit / pieces);
                   const std::int64_t first = unit % pieces * kPiece, count = std::min(kPiece, rows - first);
                   const T* from = source + offsets.source + first;
                   T* to = destination + offsets.destination + first * columns;
                   for (std::int64_t i = 0; i < count; ++i) {
                     for (int j = 0; j < columns; ++j) to[i * columns + j] = from[i + j * across];
                   }
                 }
               });
}

template <typename T>
void StridedCopy::run_as(const T* source, T* destination) const {
  if (outer_ == 0 || shape_.size() == 0) return;
  const std::int64_t columns = shape_[shape_.rank() - 1];
  if (tiled_ >= 0 && columns == 2) {
    run_few<T, 2>(source, destination);
  } else if (tiled_ >= 0 && columns == 3) {
    run_few<T, 3>(source, destination);
  } else if (tiled_ >= 0) {
    run_tiles(source, destination);
  } else {
    run_rows(source, destination);
  }
}

void StridedCopy::run(const void* source, void* destination) const {
  switch (bytes_) {
    case 1:
      return run_as(static_cast<const std::uint8_t*>(source), static_cast<std::uint8_t*>(destination));
    case 2:
      return run_as(static_cast<const std::uint16_t*>(source), static_cast<std::uint16_t*>(destination));
    case 4:
      return run_as(static_cast<const std::uint32_t*>(source), static_cast<std::uint32_t*>(destination));
    default:
      return run_as(static_cast<const std::uint64_t*>(source), static_cast<std::uint64_t*>(destination));
  }
}

}  // namespace mxpipe
