#include "graph/shape.hpp"

#include <algorithm>

#include "graph/error.hpp"

namespace mxpipe {

Shape::Shape(std::span<const std::int64_t> dims) {
  require(dims.size() <= kMaxRank, "shape", "an array must have at most ", kMaxRank, " axes; got ",
          dims.size(), ".");
  std::copy(dims.begin(), dims.end(), dims_.begin());
  rank_ = static_cast<int>(dims.size());
}

std::int64_t Shape::size() const { return product(0, rank_); }

std::int64_t Shape::product(int first, int last) const {
  std::int64_t result = 1;
  for (int axis = first; axis < last; ++axis) {
    if (__builtin_mul_overflow(result, (*this)[axis], &result)) {
      fail(ErrorKind::op, "shape", "the number of elements must fit 63 bits; got shape ", *this, ".");
    }
  }
  return result;
}

void Shape::push_back(std::int64_t dim) {
  require(rank_ < kMaxRank, "shape", "an array must have at most ", kMaxRank, " axes; got ", rank_ + 1, ".");
  dims_[static_cast<std::size_t>(rank_++)] = dim;
}

bool Shape::operator==(const Shape& other) const {
  return std::equal(begin(), end(), other.begin(), other.end());
}

std::ostream& operator<<(std::ostream& stream, const Shape& shape) {
  stream << "(";
  for (int axis = 0; axis < shape.rank(); ++axis) stream << (axis ? ", " : "") << shape[axis];
  return stream << (shape.rank() == 1 ? ",)" : ")");
}

Shape contiguous_strides(const Shape& shape) {
  Shape strides = shape;
  std::int64_t step = 1;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    strides[axis] = step;
    step *= shape[axis];
  }
  return strides;
}

Shape broadcast(const Shape& a, const Shape& b, std::string_view op) {
  const Shape& longer = a.rank() >= b.rank() ? a : b;
  const Shape& shorter = a.rank() >= b.rank() ? b : a;
  Shape result = longer;
  const int offset = longer.rank() - shorter.rank();
  for (int axis = 0; axis < shorter.rank(); ++axis) {
    std::int64_t& dim = result[offset + axis];
    if (dim == shorter[axis] || shorter[axis] == 1) continue;
    require(dim == 1, op, "shapes must match or broadcast; got shape ", a, " and ", b, ".");
    dim = shorter[axis];
  }
  return result;
}

int normalize_axis(std::int64_t axis, int rank, std::string_view op) {
  require(axis >= -rank && axis < rank, op, "axis must lie in [", -rank, ", ", rank, "); got ", axis, ".");
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

std::ostream& operator<<(std::ostream& stream, const TensorType& type) {
  return stream << type.dtype << type.shape;
}

}  // namespace mxpipe
