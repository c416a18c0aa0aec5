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

}  // namespace mxpipe
