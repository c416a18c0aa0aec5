// Python's operators on Array, and invoke. Who calls: bind_array.cpp, once, at import.
#pragma once

#include <pybind11/pybind11.h>

namespace mxpipe::bind {

// Sets the type's slots (nb_add and so on). Its methods __add__ and so on, for those who name them, stay.
void install_operators(pybind11::handle type);
void bind_invoke(pybind11::module_& module);

}  // namespace mxpipe::bind
