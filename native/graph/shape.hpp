// Shapes and tensor types. A shape lives inline (no heap), because eager calls make many.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>
#include <vector>

#include "graph/dtype.hpp"

namespace mxpipe {

inline constexpr int kMaxRank = 8;

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const std::int64_t> dims);  // throws when the rank exceeds kMaxRank

  int rank() const { return rank_; }
  std::int64_t operator[](int axis) const { return dims_[static_cast<std::size_t>(axis)]; }
  std::int64_t& operator[](int axis) { return dims_[static_cast<std::size_t>(axis)]; }
  std::int64_t back() const { return dims_[static_cast<std::size_t>(rank_ - 1)]; }
  const std::int64_t* begin() const { return dims_.data(); }
  const std::int64_t* end() const { return dims_.data() + rank_; }
  std::span<const std::int64_t> dims() const { return {dims_.data(), static_cast<std::size_t>(rank_)}; }
  std::vector<std::int64_t> to_vector() const { return {begin(), end()}; }

  std::int64_t size() const;  // number of elements; 1 for a scalar; throws when it overflows
  // Product of the dims in [first, last).
  std::int64_t product(int first, int last) const;
  void push_back(std::int64_t dim);  // throws when the rank exceeds kMaxRank
  bool operator==(const Shape& other) const;

 private:
  std::array<std::int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

std::ostream& operator<<(std::ostream& stream, const Shape& shape);

// Row-major strides, in elements.
Shape contiguous_strides(const Shape& shape);
// NumPy broadcasting; throws OperatorError naming `op` when the shapes do not match.
Shape broadcast(const Shape& a, const Shape& b, std::string_view op);
// -1 means the last axis; throws OperatorError naming `op` when out of range.
int normalize_axis(std::int64_t axis, int rank, std::string_view op);

struct TensorType {
  DType dtype = DType::float32;
  Shape shape;

  std::int64_t size() const { return shape.size(); }
  std::size_t bytes() const { return static_cast<std::size_t>(shape.size()) * size_of(dtype); }
  bool operator==(const TensorType&) const = default;
};

std::ostream& operator<<(std::ostream& stream, const TensorType& type);

}  // namespace mxpipe
