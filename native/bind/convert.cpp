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

// What may follow a condition as an argument of require() is computed always: here, where calls take less
// than a microsecond, messages are made in a branch.
std::int64_t to_integer(py::handle object) {
  const long long value = PyLong_AsLongLong(object.ptr());  // takes whatever has __index__
  if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
  return value;
}

Integers to_integers(py::handle object, std::string_view where) {
  if (py::isinstance<py::int_>(object)) return {to_integer(object)};
  if (!PySequence_Check(object.ptr()))
    fail(ErrorKind::op, where, "must be an int or a sequence of ints; got ", type_name(object), ".");
  const auto items = py::reinterpret_steal<py::object>(PySequence_Fast(object.ptr(), "must be a sequence"));
  if (!items) throw py::error_already_set();
  Integers integers(static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items.ptr())));
  for (std::size_t i = 0; i < integers.size(); ++i) {
    const py::handle item = PySequence_Fast_GET_ITEM(items.ptr(), static_cast<py::ssize_t>(i));
    if (!PyIndex_Check(item.ptr())) fail(ErrorKind::op, where, "must hold ints; got ", type_name(item), ".");
    integers[i] = to_integer(item);
  }
  return integers;
}

Attribute to_attribute(py::handle object, AttributeType type, std::string_view where) {
  if (type == AttributeType::dtype) return to_dtype(object, where);
  if (type == AttributeType::integers) return to_integers(object, where);
  if (py::isinstance<py::bool_>(object)) return object.cast<bool>();
  if (PyFloat_CheckExact(object.ptr())) return PyFloat_AS_DOUBLE(object.ptr());
  if (PyIndex_Check(object.ptr())) return to_integer(object);
  if (py::isinstance<py::str>(object)) return object.cast<std::string>();
  if (!PyNumber_Check(object.ptr()))
    fail(ErrorKind::op, where, "must be of type ", name_of(type), "; got ", type_name(object), ".");
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

ArrayPtr scalar_array(double value, DType dtype) {
  if (const auto& trace = Trace::current()) {
    GraphBuilder builder(trace->graph());
    return trace->wrap(builder.scalar(value, dtype));
  }
  if (dtype == DType::float32) {  // by far the most frequent: without a kernel
    ArrayPtr array = Array::empty({dtype, Shape{}});
    *reinterpret_cast<float*>(array->data()) = static_cast<float>(value);
    return array;
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

std::vector<ArrayPtr> to_inputs(std::string_view op, std::span<const py::handle> items) {
  std::vector<ArrayPtr> inputs;
  inputs.reserve(items.size());
  std::optional<DType> beside;
  bool has_numbers = false;
  for (const py::handle item : items) {
    if (is_python_number(item)) {
      has_numbers = true;
      inputs.push_back(nullptr);
      continue;
    }
    require(!item.is_none(), op, "inputs must be arrays; got None.");
    const ArrayPtr* array = find_array(item);
    inputs.push_back(array ? *array : from_numpy(item, default_dtype(item), true));
    beside = beside ? promote(*beside, inputs.back()->dtype()) : inputs.back()->dtype();
  }
  if (!has_numbers) return inputs;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (!inputs[i]) inputs[i] = weak_scalar(op, items[i], beside ? &*beside : nullptr);
  }
  return inputs;
}

std::vector<ArrayPtr> to_inputs(std::string_view op, py::handle sequence) {
  const auto items =
      py::reinterpret_steal<py::object>(PySequence_Fast(sequence.ptr(), "inputs must be a sequence"));
  if (!items) throw py::error_already_set();
  const auto* first = reinterpret_cast<const py::handle*>(PySequence_Fast_ITEMS(items.ptr()));
  return to_inputs(op, std::span(first, static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items.ptr()))));
}

const ArrayPtr* find_array(py::handle object) {
  static PyTypeObject* const type = py::detail::get_type_info(typeid(Array))->type;
  if (Py_TYPE(object.ptr()) != type && !PyObject_TypeCheck(object.ptr(), type)) return nullptr;
  py::detail::value_and_holder held =
      reinterpret_cast<py::detail::instance*>(object.ptr())->get_value_and_holder();
  return held.holder_constructed() ? &held.holder<ArrayPtr>() : nullptr;
}

py::object from_array(ArrayPtr array) {
  if (!array || array.use_count() != 1) return py::cast(std::move(array));
  // Nobody else holds it, so no Python object stands for it yet: make one.
  static const py::detail::type_info* const info = py::detail::get_type_info(typeid(Array));
  auto object = py::reinterpret_steal<py::object>(py::detail::make_new_instance(info->type));
  auto* instance = reinterpret_cast<py::detail::instance*>(object.ptr());
  instance->get_value_and_holder().value_ptr() = array.get();
  instance->owned = true;
  info->init_instance(instance, &array);
  return object;
}

py::object from_outputs(std::vector<ArrayPtr> outputs) {
  if (outputs.size() == 1) return from_array(std::move(outputs[0]));
  py::tuple result(outputs.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) result[i] = from_array(std::move(outputs[i]));
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
