// mxpipe._core.Array: the class behind mx.np.ndarray.
#include <limits>

#include "bind/convert.hpp"
#include "bind/operators.hpp"
#include "exec/eager.hpp"
#include "exec/tape.hpp"
#include "exec/trace.hpp"
#include "graph/error.hpp"

namespace mxpipe::bind {
namespace {

constexpr std::int64_t kToTheEnd = std::numeric_limits<std::int64_t>::max();

py::object call(std::string_view op, std::vector<ArrayPtr> inputs, const Attributes& attributes = {}) {
  std::vector<ArrayPtr> outputs;
  {
    const py::gil_scoped_release release;
    outputs = invoke(op, std::move(inputs), attributes);
  }
  return from_outputs(std::move(outputs));
}

ArrayPtr call_array(std::string_view op, std::vector<ArrayPtr> inputs, const Attributes& attributes = {}) {
  return std::move(invoke(op, std::move(inputs), attributes)[0]);
}

py::object binary(std::string_view op, py::handle left, py::handle right) {
  const bool known = py::isinstance<Array>(right) || py::isinstance<py::float_>(right) ||
                     py::isinstance<py::int_>(right) || py::hasattr(right, "__array_interface__") ||
                     py::isinstance<Array>(left);
  if (!known || (PyObject_HasAttrString(right.ptr(), "__mxpipe_symbol__") != 0)) {
    return py::reinterpret_borrow<py::object>(Py_NotImplemented);
  }
  return call(op, to_inputs(op, py::make_tuple(left, right)));
}

template <typename Class>
void bind_binary(Class& type, const char* method, const char* reflected, const char* op) {
  const std::string name = op;
  type.def(
      method, [name](py::handle self, py::handle other) { return binary(name, self, other); },
      py::is_operator());
  if (reflected) {
    type.def(
        reflected, [name](py::handle self, py::handle other) { return binary(name, other, self); },
        py::is_operator());
  }
}

template <typename Class>
void bind_in_place(Class& type, const char* method, const char* op) {
  const std::string name = op;
  type.def(method, [name](const py::object& self, py::handle other) {
    assign(self.cast<ArrayPtr>(), invoke(name, to_inputs(name, py::make_tuple(self, other)), {})[0]);
    return self;
  });
}

// ----------------------------------------------------------------------------------------------------
// indexing

// A basic index as a slice of every axis, and the shape without the axes that an int removed.
struct Region {
  Integers begin, end, step;
  Integers shape;  // for the final reshape; -2 keeps a leading axis whatever its length
  bool reshapes = false;
  bool whole = true;  // every axis in full
};

std::int64_t count_axes(const py::tuple& index) {
  std::int64_t axes = 0;
  for (const py::handle item : index) axes += !item.is_none() && !item.is(py::ellipsis());
  return axes;
}

void add_slice(Region& region, py::handle item, std::int64_t dim) {
  Py_ssize_t begin = 0, end = 0, step = 1;
  if (PySlice_Unpack(item.ptr(), &begin, &end, &step) != 0) throw py::error_already_set();
  const bool full = step == 1 && begin == 0 && end == PY_SSIZE_T_MAX;
  const Py_ssize_t length = PySlice_AdjustIndices(dim, &begin, &end, step);
  region.begin.push_back(begin);
  region.end.push_back(full ? kToTheEnd : (length == 0 ? begin : begin + length * step));
  region.step.push_back(step);
  region.shape.push_back(full && !region.reshapes ? -2 : length);
  region.whole &= full;
}

void add_integer(Region& region, py::handle item, std::int64_t dim, int axis) {
  const auto index =
      py::int_(py::reinterpret_steal<py::object>(PyNumber_Index(item.ptr()))).cast<std::int64_t>();
  require(index >= -dim && index < dim, "getitem", "index must lie in [", -dim, ", ", dim, ") on axis ", axis,
          "; got ", index, ".");
  const std::int64_t at = index < 0 ? index + dim : index;
  region.begin.push_back(at);
  region.end.push_back(at + 1);
  region.step.push_back(1);
  region.reshapes = true;
  region.whole = false;
}

Region to_region(const Array& array, const py::tuple& index) {
  Region region;
  const int rank = array.shape().rank();
  const std::int64_t given = count_axes(index);
  require(given <= rank, "getitem", "there must be at most one index an axis, ", rank, "; got ", given, ".");
  int axis = 0;
  const auto take_full = [&](std::int64_t count) {
    for (; count > 0; --count, ++axis)
      add_slice(region, py::slice(std::nullopt, std::nullopt, std::nullopt), array.shape()[axis]);
  };
  bool ellipsis_seen = false;
  for (const py::handle item : index) {
    if (item.is(py::ellipsis())) {
      require(!ellipsis_seen, "getitem", "an index must hold at most one ellipsis.");
      ellipsis_seen = true;
      take_full(rank - given);
    } else if (item.is_none()) {
      region.shape.push_back(1);
      region.reshapes = true;
    } else if (py::isinstance<py::slice>(item)) {
      add_slice(region, item, array.shape()[axis++]);
    } else {
      if (!PyIndex_Check(item.ptr())) {
        fail(ErrorKind::op, "getitem", "an index must be ints, slices, ... or None, or one array; got ",
             py::str(py::type::handle_of(item)).cast<std::string>(), ".");
      }
      add_integer(region, item, array.shape()[axis], axis);
      ++axis;
    }
  }
  take_full(rank - axis);
  return region;
}

bool is_array_like(py::handle index) {
  if (PyLong_CheckExact(index.ptr()) || PySlice_Check(index.ptr()) || PyTuple_CheckExact(index.ptr()))
    return false;
  return py::isinstance<Array>(index) || py::isinstance<py::list>(index) ||
         py::hasattr(index, "__array_interface__");
}

Attributes slice_attributes(const Region& region) {
  return {{"begin", region.begin}, {"end", region.end}, {"step", region.step}};
}

py::tuple as_tuple(py::handle index) {
  return py::isinstance<py::tuple>(index) ? py::reinterpret_borrow<py::tuple>(index) : py::make_tuple(index);
}

ArrayPtr take_region(const ArrayPtr& array, const Region& region) {
  ArrayPtr result = region.whole && !region.reshapes
                        ? call_array("reshape", {array}, {{"shape", array->shape().to_vector()}})
                        : call_array("slice", {array}, slice_attributes(region));
  return region.reshapes ? call_array("reshape", {result}, {{"shape", region.shape}}) : result;
}

py::object get_item(const ArrayPtr& self, py::handle index) {
  if (is_array_like(index) && !py::isinstance<py::tuple>(index)) {
    const ArrayPtr indices = from_numpy(index, py::none(), false);
    if (is_boolean(indices->dtype())) {  // the result's shape depends on values: eager only, through NumPy
      return py::cast(from_numpy(to_numpy(self).attr("__getitem__")(to_numpy(indices)), py::none(), false));
    }
    return call("take", {self, indices}, {{"axis", std::int64_t{0}}});
  }
  return py::cast(take_region(self, to_region(*self, as_tuple(index))));
}

void set_item(const ArrayPtr& self, py::handle index, py::handle value) {
  const Region region = to_region(*self, as_tuple(index));
  const std::vector<ArrayPtr> pair = to_inputs("setitem", py::make_tuple(self->detached(), value));
  ArrayPtr fresh = pair[1];
  if (fresh->dtype() != self->dtype()) fresh = call_array("cast", {fresh}, {{"dtype", self->dtype()}});
  if (region.whole && !region.reshapes) return assign(self, fresh);
  const RecordingScope pause(false);
  const ArrayPtr target = self->is_traced() ? self : self->detached();
  const ArrayPtr sliced = call_array("slice", {target}, slice_attributes(region));
  const ArrayPtr shaped =
      region.reshapes ? call_array("reshape", {sliced}, {{"shape", region.shape}}) : sliced;
  fresh = call_array("broadcast_to", {fresh}, {{"shape", shaped->shape().to_vector()}});
  fresh = call_array("reshape", {fresh}, {{"shape", sliced->shape().to_vector()}});
  assign(self, call_array("slice_assign", {target, fresh}, slice_attributes(region)));
}

// ---------------------------------------------------------------------------------------------------- the
// rest

Integers reshape_arguments(const py::args& arguments) {
  const bool one_sequence = arguments.size() == 1 && py::isinstance<py::sequence>(arguments[0]);
  return to_shape(one_sequence ? py::object(arguments[0]) : py::object(arguments), "reshape").to_vector();
}

Integers transpose_arguments(const Array& array, const py::args& arguments) {
  Integers axes;
  if (arguments.size() == 0 || (arguments.size() == 1 && arguments[0].is_none())) {
    for (int axis = array.shape().rank() - 1; axis >= 0; --axis) axes.push_back(axis);
    return axes;
  }
  const bool one_sequence = arguments.size() == 1 && py::isinstance<py::sequence>(arguments[0]);
  for (const std::int64_t axis :
       to_shape(one_sequence ? py::object(arguments[0]) : py::object(arguments), "transpose")) {
    axes.push_back(normalize_axis(axis, array.shape().rank(), "transpose"));
  }
  return axes;
}

py::object gradient_of(const Array& array) {
  if (!array.leaf) return py::none();
  ArrayGradient& gradient = array.leaf->gradient;
  if (gradient.is_row_sparse()) return py::make_tuple(gradient.ids, gradient.rows);
  if (!gradient.dense) {
    gradient.dense = call_array(
        "full", {}, {{"shape", array.shape().to_vector()}, {"value", 0.0}, {"dtype", array.dtype()}});
  }
  return py::cast(gradient.dense);
}

void set_gradient(Array& array, py::handle value) {
  require(array.leaf != nullptr, "grad", "attach_grad() must be called before a gradient is set.");
  array.leaf->gradient = {};
  if (py::isinstance<py::tuple>(value)) {
    const auto pair = py::reinterpret_borrow<py::tuple>(value);
    array.leaf->gradient.ids = pair[0].cast<ArrayPtr>();
    array.leaf->gradient.rows = pair[1].cast<ArrayPtr>();
  } else if (!value.is_none()) {
    array.leaf->gradient.dense = value.cast<ArrayPtr>();
  }
}

void attach_gradient(Array& array, const std::string& request) {
  require(is_floating(array.dtype()), "attach_grad", "the dtype must be floating; got ", array.dtype(), ".");
  array.leaf = std::make_shared<Leaf>();
  array.producer = nullptr;
  if (request == "write") {
    array.leaf->request = GradientRequest::write;
  } else if (request == "add") {
    array.leaf->request = GradientRequest::add;
  } else {
    require(request == "null", "attach_grad", "grad_req must be write, add or null; got ", request, ".");
    array.leaf->request = GradientRequest::none;
  }
}

py::str represent(const ArrayPtr& array) {
  if (array->is_traced()) return py::str(text("traced(", array->type(), ")"));
  std::string body = py::str(py::module_::import("numpy").attr("array2string")(
      to_numpy(array), py::arg("separator") = ", ", py::arg("prefix") = "array("));
  return py::str(
      text("array(", body, array->dtype() == DType::float32 ? "" : text(", dtype=", array->dtype()), ")"));
}

py::buffer_info buffer_of(Array& array) {
  const DType dtype = array.dtype();
  require(dtype != DType::bfloat16, "array", "NumPy has no bfloat16; use astype('float32') or asnumpy().");
  const py::object numpy_type = to_python(dtype);
  const auto format = numpy_type.attr("char").cast<std::string>();
  const Shape strides = contiguous_strides(array.shape());
  std::vector<py::ssize_t> shape(array.shape().begin(), array.shape().end());
  std::vector<py::ssize_t> byte_strides;
  for (const std::int64_t stride : strides)
    byte_strides.push_back(stride * static_cast<py::ssize_t>(size_of(dtype)));
  const bool read_only = array.storage()->is_read_only();
  if (!read_only) array.storage()->expose();
  return {array.data(), static_cast<py::ssize_t>(size_of(dtype)),
          format,       array.shape().rank(),
          shape,        byte_strides,
          read_only};
}

py::object item(const ArrayPtr& self) {
  require(self->type().size() == 1, "item", "the array must hold one element; got shape ", self->shape(),
          ".");
  return to_numpy(self).attr("item")();
}

ArrayPtr detach(const ArrayPtr& self) {
  return self->is_traced() ? call_array("stop_gradient", {self}) : self->detached();
}

ArrayPtr copy(const ArrayPtr& self) {
  if (self->is_traced() || is_recording())
    return call_array("multiply", {self, scalar_array(1.0, self->dtype())});
  ArrayPtr fresh = Array::empty(self->type());
  assign(fresh, self->detached());
  return fresh;
}

using ArrayClass = py::class_<Array, ArrayPtr>;

void bind_operators(ArrayClass& type) {
  bind_binary(type, "__add__", "__radd__", "add");
  bind_binary(type, "__sub__", "__rsub__", "subtract");
  bind_binary(type, "__mul__", "__rmul__", "multiply");
  bind_binary(type, "__truediv__", "__rtruediv__", "divide");
  bind_binary(type, "__floordiv__", "__rfloordiv__", "floor_divide");
  bind_binary(type, "__mod__", "__rmod__", "mod");
  bind_binary(type, "__pow__", "__rpow__", "power");
  bind_binary(type, "__eq__", nullptr, "equal");
  bind_binary(type, "__ne__", nullptr, "not_equal");
  bind_binary(type, "__lt__", nullptr, "less");
  bind_binary(type, "__le__", nullptr, "less_equal");
  bind_binary(type, "__gt__", nullptr, "greater");
  bind_binary(type, "__ge__", nullptr, "greater_equal");
  bind_in_place(type, "__iadd__", "add");
  bind_in_place(type, "__isub__", "subtract");
  bind_in_place(type, "__imul__", "multiply");
  bind_in_place(type, "__itruediv__", "divide");
  type.def("__neg__", [](const ArrayPtr& self) { return call("negative", {self}); });
  type.def("__pos__", [](const ArrayPtr& self) { return self; });
  type.def("__abs__", [](const ArrayPtr& self) { return call("abs", {self}); });
  type.def("__invert__", [](const ArrayPtr& self) { return call("logical_not", {self}); });
  type.def("__hash__", [](const Array& self) { return reinterpret_cast<std::uintptr_t>(&self) / 16; });
}

void bind_values(ArrayClass& type) {
  type.def("asnumpy", &to_numpy, "A copy as a NumPy array; bfloat16 becomes float32.");
  type.def(
      "__array__",
      [](const py::object& self, const py::object& dtype, const py::object& copying) {
        const auto array = self.cast<ArrayPtr>();
        py::object values = to_numpy(array);
        static_cast<void>(copying);
        return dtype.is_none() ? values : values.attr("astype")(dtype);
      },
      py::arg("dtype") = py::none(), py::arg("copy") = py::none());
  type.def("item", &item);
  type.def("tolist", [](const ArrayPtr& self) { return to_numpy(self).attr("tolist")(); });
  type.def("__float__", [](const ArrayPtr& self) { return py::float_(item(self)); });
  type.def("__int__", [](const ArrayPtr& self) { return py::int_(item(self)); });
  type.def("__index__", [](const ArrayPtr& self) {
    require(is_integer(self->dtype()), "index", "the dtype must be an integer; got ", self->dtype(), ".");
    return py::int_(item(self));
  });
  type.def("__bool__", [](const ArrayPtr& self) { return item(self).cast<py::bool_>(); });
  type.def("__len__", [](const Array& self) {
    require(self.shape().rank() > 0, "len", "an array without axes has no length.");
    return self.shape()[0];
  });
  type.def("__dlpack__", [](const py::object& self, const py::kwargs& options) {
    return py::module_::import("numpy")
        .attr("frombuffer")(self, self.attr("dtype"))
        .attr("reshape")(self.attr("shape"))
        .attr("__dlpack__")(**options);
  });
  type.def("__dlpack_device__", [](const Array&) { return py::make_tuple(1, 0); });
  type.def("__repr__", &represent);
  type.def_buffer(&buffer_of);
}

void bind_autograd_methods(ArrayClass& type) {
  type.def("attach_grad", &attach_gradient, py::arg("grad_req") = "write");
  type.def_property("grad", &gradient_of, &set_gradient);
  type.def_property_readonly("takes_gradient", &Array::takes_gradient);
  type.def_property(
      "fresh_grad", [](const Array& self) { return self.leaf && self.leaf->fresh; },
      [](Array& self, bool fresh) {
        if (self.leaf) self.leaf->fresh = fresh;
      });
  type.def("detach", &detach);
  type.def(
      "backward",
      [](const ArrayPtr& self, const py::object& head, bool retain_graph) {
        std::vector<ArrayPtr> heads{self}, gradients;
        if (!head.is_none()) gradients.push_back(head.cast<ArrayPtr>());
        const py::gil_scoped_release release;
        backward(heads, gradients, retain_graph);
      },
      py::arg("head_gradient") = py::none(), py::arg("retain_graph") = false);
}

}  // namespace

void bind_array(py::module_& module) {
  ArrayClass type(module, "Array", py::buffer_protocol(), py::dynamic_attr(),
                  "An array: contiguous, row-major, of one dtype. Made by mxpipe.np.array and by ops.");
  type.def_property_readonly("shape", [](const Array& self) { return to_python(self.shape()); });
  type.def_property_readonly("dtype", [](const Array& self) { return to_python(self.dtype()); });
  type.def_property_readonly("ndim", [](const Array& self) { return self.shape().rank(); });
  type.def_property_readonly("size", [](const Array& self) { return self.type().size(); });
  type.def_property_readonly("nbytes", [](const Array& self) { return self.type().bytes(); });
  type.def_property_readonly(
      "address", [](const Array& self) { return reinterpret_cast<std::uintptr_t>(self.data()); },
      "Where the elements begin in memory: equal for arrays that share them.");
  type.def_property_readonly("itemsize", [](const Array& self) { return size_of(self.dtype()); });
  type.def_property_readonly("is_traced", &Array::is_traced);
  type.def_property_readonly("T", [](const ArrayPtr& self) {
    return call("transpose", {self}, {{"axes", transpose_arguments(*self, py::args())}});
  });
  type.def("reshape", [](const ArrayPtr& self, const py::args& shape) {
    return call("reshape", {self}, {{"shape", reshape_arguments(shape)}});
  });
  type.def("transpose", [](const ArrayPtr& self, const py::args& axes) {
    return call("transpose", {self}, {{"axes", transpose_arguments(*self, axes)}});
  });
  type.def(
      "astype",
      [](const ArrayPtr& self, py::handle dtype) {
        return call("cast", {self}, {{"dtype", to_dtype(dtype, "astype")}});
      },
      py::arg("dtype"));
  type.def("copy", &copy);
  type.def("__getitem__", &get_item);
  type.def("__setitem__", &set_item);
  bind_operators(type);
  bind_values(type);
  bind_autograd_methods(type);
  // NumPy must leave `numpy_array + array` to us.
  type.attr("__array_priority__") = 1000.0;
  type.attr("__array_ufunc__") = py::none();
  install_operators(type);

  module.def("array", &from_numpy, py::arg("object"), py::arg("dtype") = py::none(), py::arg("copy") = true,
             "An array from whatever numpy.asarray takes; copy=False shares the memory of a contiguous NumPy "
             "array.");
  bind_map_array(module);
  bind_invoke(module);
  module.def(
      "assign",
      [](const ArrayPtr& target, py::handle value) {
        const std::vector<ArrayPtr> pair = to_inputs("assign", py::make_tuple(target, value));
        assign(pair[0], pair[1]);
      },
      py::arg("target"), py::arg("value"));
}

}  // namespace mxpipe::bind
