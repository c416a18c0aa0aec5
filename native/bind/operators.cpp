// Python's operators and mxpipe._core.invoke as plain C functions: pybind11's dispatch costs more than a call
// on small arrays computes. What enters: Python operands. What leaves: an Array, or NotImplemented.
#include "bind/operators.hpp"

#include <array>
#include <unordered_map>

#include "bind/convert.hpp"
#include "exec/eager.hpp"
#include "graph/error.hpp"

namespace mxpipe::bind {
namespace {

constexpr std::int64_t kBriefElements = 4096;  // a microsecond or two of elementwise work

// Whether a call ends before another thread would have got hold of the interpreter's lock.
bool is_brief(const OpSchema& op, std::span<const ArrayPtr> inputs) {
  if (op.view) return true;
  if (!op.lower || inputs.empty()) return false;
  const Shape* wide = nullptr;  // the one shape of all inputs that are no scalars: the output's too
  for (const ArrayPtr& input : inputs) {
    if (!input) return false;
    if (input->type().size() == 1) continue;
    if (wide && input->shape() != *wide) return false;
    wide = &input->shape();
  }
  return !wide || wide->size() <= kBriefElements;
}

// Runs `body`, which returns a new reference, and turns what it throws into a Python error.
template <typename Body>
PyObject* guarded(const Body& body) {
  try {
    return body();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (...) {
    py::detail::try_translate_exceptions();
  }
  return nullptr;
}

PyObject* call_one(const OpSchema& op, std::span<const ArrayPtr> inputs) {
  if (is_brief(op, inputs)) return from_array(invoke_one(op, inputs)).release().ptr();
  ArrayPtr output;
  {
    const py::gil_scoped_release release;
    output = invoke_one(op, inputs);
  }
  return from_array(std::move(output)).release().ptr();
}

bool is_symbol(PyObject* object) {
  return !PyFloat_CheckExact(object) && !PyLong_CheckExact(object) &&
         PyObject_HasAttrString(object, "__mxpipe_symbol__") != 0;
}

PyObject* call_binary(const OpSchema& op, PyObject* left, PyObject* right) {
  return guarded([&]() -> PyObject* {
    const ArrayPtr* a = find_array(left);
    const ArrayPtr* b = find_array(right);
    if (a && b) return call_one(op, std::array{*a, *b});
    if (is_symbol(a ? right : left)) return Py_NewRef(Py_NotImplemented);
    return call_one(op, to_inputs(op.name, std::array{py::handle(left), py::handle(right)}));
  });
}

PyObject* call_unary(const OpSchema& op, PyObject* self) {
  return guarded([&] { return call_one(op, std::array{*find_array(self)}); });
}

// One function an op, as the slots of a type want them.
template <const char* kOp>
PyObject* binary_slot(PyObject* left, PyObject* right) {
  static const OpSchema& op = op_schema(kOp);
  return call_binary(op, left, right);
}

template <const char* kOp>
PyObject* unary_slot(PyObject* self) {
  static const OpSchema& op = op_schema(kOp);
  return call_unary(op, self);
}

PyObject* power_slot(PyObject* base, PyObject* exponent, PyObject* modulus) {
  static const OpSchema& op = op_schema("power");
  return modulus == Py_None ? call_binary(op, base, exponent) : Py_NewRef(Py_NotImplemented);
}

PyObject* compare_slot(PyObject* left, PyObject* right, int comparison) {
  static const std::array<const OpSchema*, 6> ops = [] {
    std::array<const OpSchema*, 6> found{};
    found[Py_LT] = &op_schema("less");
    found[Py_LE] = &op_schema("less_equal");
    found[Py_EQ] = &op_schema("equal");
    found[Py_NE] = &op_schema("not_equal");
    found[Py_GT] = &op_schema("greater");
    found[Py_GE] = &op_schema("greater_equal");
    return found;
  }();
  return call_binary(*ops[static_cast<std::size_t>(comparison)], left, right);
}

constexpr char kAdd[] = "add", kSubtract[] = "subtract", kMultiply[] = "multiply", kDivide[] = "divide",
               kFloorDivide[] = "floor_divide", kMod[] = "mod", kNegative[] = "negative", kAbs[] = "abs",
               kNot[] = "logical_not";

// ---------------------------------------------------------------------------------------------------- invoke

// The op of a name. Names in a program's text are interned: one object each, found by its address.
const OpSchema& find_schema(PyObject* name) {
  static auto* known = new std::unordered_map<PyObject*, const OpSchema*>;
  if (const auto found = known->find(name); found != known->end()) return *found->second;
  Py_ssize_t length = 0;
  const char* text = PyUnicode_Check(name) ? PyUnicode_AsUTF8AndSize(name, &length) : nullptr;
  if (!text) {
    PyErr_Clear();
    throw py::type_error("invoke: op must be a str");
  }
  const OpSchema& op = op_schema(std::string_view(text, static_cast<std::size_t>(length)));
  if (PyUnicode_CHECK_INTERNED(name) != 0) (*known)[Py_NewRef(name)] = &op;
  return op;
}

PyObject* invoke_from_python(const OpSchema& op, py::handle given, py::handle attributes) {
  std::vector<ArrayPtr> inputs = to_inputs(op.name, given);
  const bool plain = !attributes || PyDict_GET_SIZE(attributes.ptr()) == 0;
  const Attributes typed =
      plain ? Attributes() : to_attributes(op, py::reinterpret_borrow<py::dict>(attributes));
  std::vector<ArrayPtr> outputs;
  if (is_brief(op, inputs)) {
    outputs = invoke(op, std::move(inputs), typed);
  } else {
    const py::gil_scoped_release release;
    outputs = invoke(op, std::move(inputs), typed);
  }
  return from_outputs(std::move(outputs)).release().ptr();
}

// invoke(op, inputs, attributes={})
PyObject* invoke_function(PyObject*, PyObject* const* arguments, Py_ssize_t count, PyObject* keywords) {
  return guarded([&]() -> PyObject* {
    static constexpr std::array<std::string_view, 3> kNames{"op", "inputs", "attributes"};
    std::array<PyObject*, 3> given{};
    if (count > 3) throw py::type_error("invoke: takes at most 3 arguments");
    std::copy_n(arguments, count, given.begin());
    for (Py_ssize_t i = 0; keywords && i < PyTuple_GET_SIZE(keywords); ++i) {
      const auto name = py::handle(PyTuple_GET_ITEM(keywords, i)).cast<std::string_view>();
      const auto* place = std::find(kNames.begin(), kNames.end(), name);
      if (place == kNames.end()) throw py::type_error(text("invoke: unknown argument ", name));
      given[static_cast<std::size_t>(place - kNames.begin())] = arguments[count + i];
    }
    if (!given[0] || !given[1]) throw py::type_error("invoke: op and inputs must be given");
    if (given[2] && !PyDict_Check(given[2])) throw py::type_error("invoke: attributes must be a dict");
    return invoke_from_python(find_schema(given[0]), given[1], given[2]);
  });
}

PyMethodDef invoke_method = {
    "invoke", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&invoke_function)),
    METH_FASTCALL | METH_KEYWORDS,
    "invoke(op, inputs, attributes={})\n--\n\nCalls an op: one result as an Array, several as a tuple."};

}  // namespace

void install_operators(py::handle type) {
  auto* heap = reinterpret_cast<PyHeapTypeObject*>(type.ptr());
  PyNumberMethods& number = heap->as_number;
  number.nb_add = &binary_slot<kAdd>;
  number.nb_subtract = &binary_slot<kSubtract>;
  number.nb_multiply = &binary_slot<kMultiply>;
  number.nb_true_divide = &binary_slot<kDivide>;
  number.nb_floor_divide = &binary_slot<kFloorDivide>;
  number.nb_remainder = &binary_slot<kMod>;
  number.nb_power = &power_slot;
  number.nb_negative = &unary_slot<kNegative>;
  number.nb_absolute = &unary_slot<kAbs>;
  number.nb_invert = &unary_slot<kNot>;
  heap->ht_type.tp_richcompare = &compare_slot;
  PyType_Modified(&heap->ht_type);
}

void bind_invoke(py::module_& module) {
  auto function = py::reinterpret_steal<py::object>(
      PyCFunction_NewEx(&invoke_method, nullptr, module.attr("__name__").ptr()));
  if (!function) throw py::error_already_set();
  module.attr("invoke") = function;
}

}  // namespace mxpipe::bind
