#include "exec/array.hpp"

#include "graph/error.hpp"

namespace mxpipe {

ArrayPtr Array::empty(const TensorType& type) { return wrap(type, Storage::allocate(type.bytes())); }

ArrayPtr Array::wrap(const TensorType& type, std::shared_ptr<Storage> storage, std::size_t offset) {
  auto array = std::make_shared<Array>();
  array->type_ = type;
  array->storage_ = std::move(storage);
  array->offset_ = offset;
  return array;
}

ArrayPtr Array::view(const Array& of, const TensorType& type) { return wrap(type, of.storage_, of.offset_); }

ArrayPtr Array::traced(std::shared_ptr<Trace> trace, Value value, const TensorType& type) {
  auto array = std::make_shared<Array>();
  array->type_ = type;
  array->trace_ = std::move(trace);
  array->value_ = value;
  return array;
}

std::byte* Array::data() const {
  if (is_traced()) {
    fail(ErrorKind::graph, "array",
         "a traced array has a shape and dtype but no value; read it outside the traced function.");
  }
  return storage_->data() + offset_;
}

ArrayPtr Array::detached() const {
  auto copy = std::make_shared<Array>(*this);
  copy->leaf = nullptr;
  copy->producer = nullptr;
  return copy;
}

bool Array::wants_gradient() const {
  const bool wanted = leaf ? leaf->request != GradientRequest::none : producer != nullptr;
  return wanted && is_floating(dtype());
}

std::vector<ArrayGradient> unpack_gradients(std::span<const GradientForm> forms,
                                            std::span<const ArrayPtr> values) {
  std::vector<ArrayGradient> results(forms.size());
  std::size_t next = 0;
  for (std::size_t i = 0; i < forms.size(); ++i) {
    if (forms[i] == GradientForm::dense) results[i].dense = values[next++];
    if (forms[i] == GradientForm::row_sparse) {
      results[i].ids = values[next++];
      results[i].rows = values[next++];
    }
  }
  return results;
}

}  // namespace mxpipe
