// Between Python objects and the core's types. Who calls: the other files of this folder.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <span>
#include <string_view>
#include <vector>

#include "exec/array.hpp"
#include "ops/registry.hpp"

namespace mxpipe::bind {

namespace py = pybind11;

// NumPy's dtype object; "bfloat16", which NumPy lacks, stays a string.
py::object to_python(DType dtype);
DType to_dtype(py::handle object, std::string_view where);  // a name, a NumPy dtype or a NumPy scalar type
py::tuple to_python(const Shape& shape);
Shape to_shape(py::handle object, std::string_view where);  // an int or a sequence of ints
py::object to_python(const Attribute& value);
Attributes to_attributes(const OpSchema& op, const py::dict& given);  // None means: not given

// A copy of (or with copy=false, a share of) a NumPy array or whatever numpy.asarray takes.
ArrayPtr from_numpy(py::handle object, const py::object& dtype, bool copy);
py::object to_numpy(const ArrayPtr& array);  // a copy; bfloat16 becomes float32
ArrayPtr scalar_array(double value, DType dtype);

// The inputs of one call as arrays. Python numbers are weak: they take the dtype of the arrays beside them.
std::vector<ArrayPtr> to_inputs(std::string_view op, std::span<const py::handle> items);
std::vector<ArrayPtr> to_inputs(std::string_view op, py::handle sequence);
// The array that a Python object holds; null when it is no Array.
const ArrayPtr* find_array(py::handle object);
// The Python object that stands for an array.
py::object from_array(ArrayPtr array);
// One output as an Array, several as a tuple.
py::object from_outputs(std::vector<ArrayPtr> outputs);

void bind_map_array(py::module_& module);
void register_errors(py::module_& module);
void bind_array(py::module_& module);
void bind_graph(py::module_& module);
void bind_autograd(py::module_& module);
void bind_inspect(py::module_& module);

}  // namespace mxpipe::bind
