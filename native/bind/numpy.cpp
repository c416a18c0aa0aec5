// Between Array and NumPy's arrays.
#include <pybind11/numpy.h>

#include <cstring>

#include "bind/convert.hpp"
#include "exec/eager.hpp"
#include "graph/error.hpp"

namespace mxpipe::bind {
namespace {

py::object& numpy() {
  static auto* module = new py::object(py::module_::import("numpy"));
  return *module;
}

// A C-contiguous ndarray: `object` itself where it is one.
py::array to_contiguous(py::handle object, const py::object& dtype) {
  if (py::isinstance<py::array>(object) && dtype.is_none()) {
    auto array = py::reinterpret_borrow<py::array>(object);
    if ((array.flags() & py::array::c_style) != 0) return array;
  }
  const py::object array = numpy().attr("asarray")(object);
  return numpy()
      .attr("ascontiguousarray")(array, dtype)
      .attr("reshape")(array.attr("shape"));  // ascontiguousarray makes scalars one-dimensional
}

Shape shape_of(const py::array& array) {
  Shape shape;
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) shape.push_back(array.shape(axis));
  return shape;
}

DType dtype_of(const py::array& array) {
  static PyObject* float32 = py::dtype::of<float>().release().ptr();
  PyObject* dtype = py::detail::array_proxy(array.ptr())->descr;
  return dtype == float32 ? DType::float32 : to_dtype(dtype, "array");
}

// Gives up a reference from whatever thread drops the memory that it keeps.
std::function<void()> release_later(PyObject* owner) {
  return [owner] {
    if (!Py_IsInitialized()) return;
    const py::gil_scoped_acquire gil;
    Py_DECREF(owner);
  };
}

}  // namespace

ArrayPtr from_numpy(py::handle object, const py::object& dtype, bool copy) {
  if (const ArrayPtr* known = copy ? nullptr : find_array(object)) return *known;
  // A symbol answers every index, so NumPy would read it for ever.
  require(py::isinstance<py::array>(object) || !py::hasattr(object, "__mxpipe_symbol__"), "array",
          "a symbol has no values; got ",
          py::str(py::type::handle_of(object).attr("__name__")).cast<std::string>(), ".");
  DType wanted = DType::float32;
  const bool given = !dtype.is_none();
  if (given) wanted = to_dtype(dtype, "array");
  const bool direct = given && wanted != DType::bfloat16;
  py::array array = to_contiguous(object, direct ? to_python(wanted) : py::object(py::none()));
  const TensorType type{dtype_of(array), shape_of(array)};
  auto* data = const_cast<void*>(array.data());
  ArrayPtr result;
  const bool aligned = reinterpret_cast<std::uintptr_t>(data) % size_of(type.dtype) == 0;
  if (copy || !array.writeable() || !aligned) {  // ours could overwrite what is not writeable
    result = Array::empty(type);
    if (type.bytes()) std::memcpy(result->data(), data, type.bytes());
  } else {
    PyObject* owner = array.release().ptr();
    result = Array::wrap(type, Storage::wrap(data, type.bytes(), release_later(owner)));
  }
  return given && type.dtype != wanted ? invoke("cast", {result}, {{"dtype", wanted}})[0] : result;
}

ArrayPtr map_numpy(const py::array& values) {
  const TensorType type{dtype_of(values), shape_of(values)};
  const bool aligned = reinterpret_cast<std::uintptr_t>(values.data()) % size_of(type.dtype) == 0;
  require((values.flags() & py::array::c_style) != 0 && !values.writeable() && aligned, "map_array",
          "the values must be contiguous, aligned and read-only.");
  PyObject* owner = py::object(values).release().ptr();
  return Array::wrap(type, Storage::wrap_read_only(values.data(), type.bytes(), release_later(owner)));
}

py::object to_numpy(const ArrayPtr& array) {
  ArrayPtr source = array;
  if (array->dtype() == DType::bfloat16) {
    source = invoke("cast", {array->detached()}, {{"dtype", DType::float32}})[0];
  }
  const std::byte* data = source->data();  // refuses a traced array
  py::array result(py::reinterpret_borrow<py::dtype>(to_python(source->dtype())),
                   std::vector<py::ssize_t>(source->shape().begin(), source->shape().end()));
  if (const std::size_t bytes = source->type().bytes()) std::memcpy(result.mutable_data(), data, bytes);
  return result;
}

void bind_map_array(py::module_& module) {
  module.def("map_array", &map_numpy, py::arg("values"),
             "An array over the memory of a read-only NumPy array, which nobody may write: a mapped file.");
}

}  // namespace mxpipe::bind
