// The Python module mxpipe._core: the only place that knows pybind11. Each part of the core binds itself.
#include "bind/convert.hpp"

namespace mxpipe {

void bind_data(pybind11::module_& module);
void bind_engine(pybind11::module_& module);

}  // namespace mxpipe

PYBIND11_MODULE(_core, module) {
  module.doc() = "The native core of mxpipe.";
  mxpipe::bind::register_errors(module);
  mxpipe::bind::bind_array(module);
  mxpipe::bind::bind_autograd(module);
  mxpipe::bind::bind_graph(module);
  mxpipe::bind::bind_inspect(module);
  mxpipe::bind_engine(module);
  mxpipe::bind_data(module);
}
