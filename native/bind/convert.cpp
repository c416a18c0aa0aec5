#include "bind/convert.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "exec/eager.hpp"
#include "exec/trace.hpp"
#include "graph/error.hpp"

namespace mxpipe::bind {
namespace {

py::module_ numpy() { return py::module_::import("numpy"); }

std::string type_name(py::handle object) { return py::str(py::type::handle_of(object).attr("__name__")); }

Integers to_integers(py::handle object, std::string_view where) {
  Integers integers;
  if (py::isinstance<py::int_>(object)) return {object.cast<std::int64_t>()};
  require(py::isinstance<py::sequence>(object), where, "must be an int or a sequence of ints; got ",
          type_name(object), ".");
  for (const py::handle item : object) {
    require(PyIndex_Check(item.ptr()), where, "must hold ints; got ", type_name(item), ".");
    integers.push_back(
        py::int_(py::reinterpret_steal<py::object>(PyNumber_Index(item.ptr()))).cast<std::int64_t>());
  }
  return integers;
}

Attribute to_attribute(py::handle object, AttributeType type, std::string_view where) {
  if (type == AttributeType::dtype) return to_dtype(object, where);
  if (type == AttributeType::integers) return to_integers(object, where);
  if (py::isinstance<py::bool_>(object)) return object.cast<bool>();
  if (PyIndex_Check(object.ptr())) {
    return py::int_(py::reinterpret_steal<py::object>(PyNumber_Index(object.ptr()))).cast<std::int64_t>();
  }
  if (py::isinstance<py::str>(object)) return object.cast<std::string>();
  require(PyNumber_Check(object.ptr()) != 0, where, "must be of type ", name_of(type), "; got ",
          type_name(object), ".");
  return py::float_(py::reinterpret_borrow<py::object>(object)).cast<double>();
}

bool is_python_number(py::handle object) {
  return PyBool_Check(object.ptr()) || PyLong_CheckExact(object.ptr()) || PyFloat_CheckExact(object.ptr());
}

DType weak_dtype(py::handle number, const DType* beside) {
  if (PyBool_Check(number.ptr())) return beside ? *beside : DType::boolean;
  if (PyFloat_CheckExact(number.ptr())) return beside && is_floating(*beside) ? *beside : DType::float32;
  return beside && !is_boolean(*beside) ? *beside : DType::int64;
}

ArrayPtr weak_scalar(std::string_view op, py::handle number, const DType* beside) {
  const DType dtype = weak_dtype(number, beside);
  if (!PyLong_CheckExact(number.ptr()) || is_floating(dtype))
    return scalar_array(py::float_(py::reinterpret_borrow<py::object>(number)).cast<double>(), dtype);
  // Integers stay integers, beyond the 53 bits of a double too.
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  const int bits = static_cast<int>(size_of(dtype)) * 8;
  const bool fits =
      overflow == 0 && (is_unsigned_integer(dtype)
                            ? value >= 0 && (bits == 64 || value < (1LL << bits))
                            : bits == 64 || (value >= -(1LL << (bits - 1)) && value < (1LL << (bits - 1))));
  require(fits, op, "a Python int must fit the dtype ", dtype, " of the array beside it; got ",
          py::str(number).cast<std::string>(), ".");
  if (Trace::current() && std::abs(static_cast<double>(value)) < 9007199254740992.0)
    return scalar_array(static_cast<double>(value), dtype);
  ArrayPtr array = Array::empty({dtype, Shape{}});
  std::memcpy(array->data(), &value, size_of(dtype));  // little-endian, as every supported machine
  return array;
}

}  // namespace

py::object to_python(DType dtype) {
  if (dtype == DType::bfloat16) return py::str("bfloat16");
  static PyObject* cached[kDTypeCount] = {};
  PyObject*& slot = cached[static_cast<std::size_t>(dtype)];
  if (!slot) slot = numpy().attr("dtype")(std::string(name_of(dtype))).release().ptr();
  return py::reinterpret_borrow<py::object>(slot);
}

DType to_dtype(py::handle object, std::string_view where) {
  if (py::isinstance<py::str>(object)) return dtype_from_name(object.cast<std::string>(), where);
  py::object normalized;
  try {
    normalized = numpy().attr("dtype")(object);
  } catch (const py::error_already_set&) {
    fail(ErrorKind::op, where, "dtype must be a name or a NumPy dtype; got ", type_name(object), ".");
  }
  return dtype_from_name(py::str(normalized.attr("name")).cast<std::string>(), where);
}

py::tuple to_python(const Shape& shape) {
  py::tuple result(static_cast<std::size_t>(shape.rank()));
  for (int axis = 0; axis < shape.rank(); ++axis) result[static_cast<std::size_t>(axis)] = shape[axis];
  return result;
}

Shape to_shape(py::handle object, std::string_view where) { return Shape(to_integers(object, where)); }

py::object to_python(const Attribute& value) {
  return std::visit(
      [](const auto& held) -> py::object {
        if constexpr (std::is_same_v<std::decay_t<decltype(held)>, DType>) {
          return py::str(std::string(name_of(held)));
        } else {
          return py::cast(held);
        }
      },
      value);
}

Attributes to_attributes(const OpSchema& op, const py::dict& given) {
  Attributes attributes;
  for (const auto& [key, value] : given) {
    if (value.is_none()) continue;
    const auto name = key.cast<std::string>();
    AttributeType type = AttributeType::string;
    bool known = false;
    for (const AttributeSchema& schema : op.attributes) {
      if (schema.name != name) continue;
      type = schema.type;
      known = true;
    }
    require(known, op.name, "attributes must be declared ones; got ", name, ".");
    attributes.set(name, to_attribute(value, type, op.name));
  }
  return attributes;
}

ArrayPtr from_numpy(py::handle object, const py::object& dtype, bool copy) {
  if (py::isinstance<Array>(object) && !copy) return object.cast<ArrayPtr>();
  // A symbol answers every index, so NumPy would read it for ever.
  require(!py::hasattr(object, "__mxpipe_symbol__"), "array", "a symbol has no values; got ",
          type_name(object), ".");
  py::object array = numpy().attr("asarray")(object);
  DType wanted = DType::float32;
  const bool given = !dtype.is_none();
  if (given) wanted = to_dtype(dtype, "array");
  const bool direct = given && wanted != DType::bfloat16;
  array = numpy()
              .attr("ascontiguousarray")(array, direct ? to_python(wanted) : py::object(py::none()))
              .attr("reshape")(array.attr("shape"));  // ascontiguousarray makes scalars one-dimensional
  const DType own = to_dtype(array.attr("dtype"), "array");
  const TensorType type{own, to_shape(array.attr("shape"), "array")};
  const auto pointer = array.attr("ctypes").attr("data").cast<std::uintptr_t>();
  ArrayPtr result;
  const bool writable = array.attr("flags").attr("writeable").cast<bool>();  // ours could overwrite it
  if (copy || !writable || pointer % size_of(own) != 0) {
    result = Array::empty(type);
    if (type.bytes()) std::memcpy(result->data(), reinterpret_cast<const void*>(pointer), type.bytes());
  } else {
    PyObject* owner = array.release().ptr();
    result = Array::wrap(type, Storage::wrap(reinterpret_cast<void*>(pointer), type.bytes(), [owner] {
                           if (!Py_IsInitialized()) return;
                           const py::gil_scoped_acquire gil;
                           Py_DECREF(owner);
                         }));
  }
  return given && own != wanted ? invoke("cast", {result}, {{"dtype", wanted}})[0] : result;
}

py::object to_numpy(const ArrayPtr& array) {
  ArrayPtr source = array;
  if (array->dtype() == DType::bfloat16) {
    source = invoke("cast", {array->detached()}, {{"dtype", DType::float32}})[0];
  }
  const std::byte* data = source->data();  // refuses a traced array
  py::object result = numpy().attr("empty")(to_python(source->shape()), to_python(source->dtype()));
  const std::size_t bytes = source->type().bytes();
  if (bytes)
    std::memcpy(reinterpret_cast<void*>(result.attr("ctypes").attr("data").cast<std::uintptr_t>()), data,
                bytes);
  return result;
}

ArrayPtr scalar_array(double value, DType dtype) {
  if (const auto& trace = Trace::current()) {
    GraphBuilder builder(trace->graph());
    return trace->wrap(builder.scalar(value, dtype));
  }
  return invoke("full", {}, {{"shape", Integers{}}, {"value", value}, {"dtype", dtype}})[0];
}

// Lists of Python floats become float32, as mx.np.array makes them; what has a dtype keeps it.
static py::object default_dtype(py::handle object) {
  if (py::hasattr(object, "dtype")) return py::none();
  const py::object own = numpy().attr("asarray")(object).attr("dtype");
  return own.attr("kind").cast<std::string>() == "f" ? py::object(py::str("float32"))
                                                     : py::object(py::none());
}

std::vector<ArrayPtr> to_inputs(std::string_view op, py::handle sequence) {
  std::vector<ArrayPtr> inputs;
  std::optional<DType> beside;
  bool has_numbers = false;
  for (const py::handle item : sequence) {
    if (is_python_number(item)) {
      has_numbers = true;
      inputs.push_back(nullptr);
      continue;
    }
    require(!item.is_none(), op, "inputs must be arrays; got None.");
    inputs.push_back(py::isinstance<Array>(item) ? item.cast<ArrayPtr>()
                                                 : from_numpy(item, default_dtype(item), true));
    beside = beside ? promote(*beside, inputs.back()->dtype()) : inputs.back()->dtype();
  }
  if (!has_numbers) return inputs;
  std::size_t index = 0;
  for (const py::handle item : sequence) {
    if (!inputs[index]) inputs[index] = weak_scalar(op, item, beside ? &*beside : nullptr);
    ++index;
  }
  return inputs;
}

py::object from_outputs(std::vector<ArrayPtr> outputs) {
  if (outputs.size() == 1) return py::cast(std::move(outputs[0]));
  py::tuple result(outputs.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) result[i] = py::cast(std::move(outputs[i]));
  return result;
}

void register_errors(py::module_&) {
  py::register_local_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const Error& error) {
      static constexpr const char* kClasses[] = {"OperatorError", "GraphError", "DataError", "StorageError",
                                                 "MxpipeError"};
      const py::object type =
          py::module_::import("mxpipe.errors").attr(kClasses[static_cast<std::size_t>(error.kind())]);
      py::set_error(type, error.what());
    }
  });
}

}  // namespace mxpipe::bind
