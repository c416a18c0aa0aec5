#include "kernels/matrix_product.hpp"

#include <algorithm>

namespace mxpipe {
namespace {

// The leading axes of `shape`, padded with 1 to `rank`.
Shape leading(const Shape& shape, int rank) {
  Shape result;
  for (int axis = 0; axis < rank; ++axis) {
    const int own = axis - (rank - (shape.rank() - 2));
    result.push_back(own < 0 ? 1 : shape[own]);
  }
  return result;
}

Activation activation_of(std::string_view name) {
  if (name == "relu") return Activation::relu;
  if (name == "gelu") return Activation::gelu;
  if (name == "tanh") return Activation::tanh;
  return name == "sigmoid" ? Activation::sigmoid : Activation::none;
}

// Merges adjacent batch axes over which both operands move alike.
void merge_batches(MatrixProduct& product) {
  Shape batch, of_a, of_b;
  for (int axis = 0; axis < product.batch.rank(); ++axis) {
    const std::int64_t size = product.batch[axis], a = product.batch_of_a[axis], b = product.batch_of_b[axis];
    if (size == 1) continue;
    const int last = batch.rank() - 1;
    if (last >= 0 && (of_a[last] == batch[last]) == (a == size) &&
        (of_b[last] == batch[last]) == (b == size)) {
      batch[last] *= size;
      of_a[last] *= a;
      of_b[last] *= b;
    } else {
      batch.push_back(size);
      of_a.push_back(a);
      of_b.push_back(b);
    }
  }
  product.batch = batch;
  product.batch_of_a = of_a;
  product.batch_of_b = of_b;
  // One B for all: a taller A.
  const bool one_b = std::ranges::all_of(of_b.dims(), [](std::int64_t dim) { return dim == 1; });
  if (one_b && of_a == batch && !product.transpose_a) {
    product.m *= batch.size();
    product.batch = product.batch_of_a = product.batch_of_b = Shape();
  }
}

}  // namespace

std::int64_t MatrixProduct::matrix_of(const Shape& operand, const Shape& batch, std::int64_t index) {
  std::int64_t result = 0, stride = 1;
  for (int axis = batch.rank() - 1; axis >= 0; --axis) {
    if (operand[axis] != 1) result += index % batch[axis] * stride;
    stride *= operand[axis];
    index /= batch[axis];
  }
  return result;
}

MatrixProduct matrix_product(const KernelRequest& request) {
  const Shape& a = request.inputs[0].shape;
  const Shape& b = request.inputs[1].shape;
  MatrixProduct product;
  product.dtype = request.inputs[0].dtype;
  if (request.op == "fully_connected") {
    product.transpose_b = true;
    product.bias = request.inputs.size() > 2;
    if (product.bias) product.bias_dtype = request.inputs[2].dtype;
    product.activation = activation_of(request.attributes.string("activation"));
  } else {
    product.transpose_a = request.attributes.boolean("transpose_a");
    product.transpose_b = request.attributes.boolean("transpose_b");
  }
  product.m = a[a.rank() - (product.transpose_a ? 1 : 2)];
  product.k = a[a.rank() - (product.transpose_a ? 2 : 1)];
  product.n = b[b.rank() - (product.transpose_b ? 2 : 1)];
  const int rank = std::max(a.rank(), b.rank()) - 2;
  product.batch_of_a = leading(a, rank);
  product.batch_of_b = leading(b, rank);
  product.batch = leading(request.outputs[0].shape, rank);
  merge_batches(product);
  return product;
}

}  // namespace mxpipe
