// Copies a box of elements between two strided layouts: what transpose and the slices are made of.
// Bytes: each element read and written once, in whole rows, in 32 x 32 tiles that fit L1, or side by side
// where a row of the destination has two or three.
#pragma once

#include <cstdint>

#include "graph/shape.hpp"

namespace mxpipe {

class StridedCopy {
 public:
  StridedCopy() = default;
  // Strides in elements, negative ones too; `bytes` is the size of an element (1, 2, 4 or 8).
  StridedCopy(const Shape& shape, const Shape& source, const Shape& destination, std::size_t bytes);

  void run(const void* source, void* destination) const;

 private:
  struct Offsets {
    std::int64_t source = 0, destination = 0;
  };
  template <typename T>
  void run_as(const T* source, T* destination) const;
  template <typename T>
  void run_rows(const T* source, T* destination) const;
  template <typename T>
  void run_tiles(const T* source, T* destination) const;
  template <typename T, int columns>
  void run_few(const T* source, T* destination) const;
  // Of element `index` of the outer box: all axes but the last, and but `tiled_` where tiles are used.
  Offsets locate(std::int64_t index) const;

  Shape shape_, source_, destination_;  // merged
  std::size_t bytes_ = 4;
  int tiled_ = -1;  // the axis along which the source is contiguous, when that is not the last
  std::int64_t outer_ = 0;
};

}  // namespace mxpipe
