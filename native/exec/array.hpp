// Arrays: what Python holds. Concrete (it has storage), or traced (it stands for a value of a graph being
// traced). Always contiguous and row-major. A view shares storage at an offset.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "exec/storage.hpp"
#include "graph/graph.hpp"

namespace mxpipe {

class Trace;
class TapeNode;
class Array;
using ArrayPtr = std::shared_ptr<Array>;

// A gradient as arrays: dense, or row-sparse with ids and rows.
struct ArrayGradient {
  ArrayPtr dense;
  ArrayPtr ids;
  ArrayPtr rows;

  bool is_row_sparse() const { return ids != nullptr; }
  bool is_none() const { return !dense && !ids; }
};

// What a plan gives for one input's gradient: nothing, one array, or ids and rows.
enum class GradientForm : std::uint8_t { none, dense, row_sparse };
// A plan's results as gradients, one a form.
std::vector<ArrayGradient> unpack_gradients(std::span<const GradientForm> forms,
                                            std::span<const ArrayPtr> values);

enum class GradientRequest : std::uint8_t { none, write, add };

// A leaf whose gradient backward() fills. Copies of an Array share it.
struct Leaf {
  GradientRequest request = GradientRequest::write;
  ArrayGradient gradient;
  bool fresh = false;  // backward has filled it since the flag was cleared
};

class Array : public std::enable_shared_from_this<Array> {
 public:
  static ArrayPtr empty(const TensorType& type);
  static ArrayPtr view(const Array& of, const TensorType& type);  // same bytes, another shape
  static ArrayPtr traced(std::shared_ptr<Trace> trace, Value value, const TensorType& type);
  static ArrayPtr wrap(const TensorType& type, std::shared_ptr<Storage> storage, std::size_t offset = 0);

  const TensorType& type() const { return type_; }
  const Shape& shape() const { return type_.shape; }
  DType dtype() const { return type_.dtype; }

  bool is_traced() const { return trace_ != nullptr; }
  const std::shared_ptr<Trace>& trace() const { return trace_; }
  Value value() const { return value_; }

  // Throws GraphError on a traced array.
  std::byte* data() const;
  const std::shared_ptr<Storage>& storage() const { return storage_; }
  std::size_t offset() const { return offset_; }

  // Autograd: a leaf (attach_grad), or an output of a recorded call.
  std::shared_ptr<Leaf> leaf;
  std::shared_ptr<TapeNode> producer;
  int output = 0;
  bool takes_gradient() const { return leaf != nullptr || producer != nullptr; }
  // Whether backward has to compute its gradient.
  bool wants_gradient() const;
  ArrayPtr detached() const;

 private:
  TensorType type_;
  std::shared_ptr<Storage> storage_;
  std::size_t offset_ = 0;
  std::shared_ptr<Trace> trace_;
  Value value_;
};

}  // namespace mxpipe
