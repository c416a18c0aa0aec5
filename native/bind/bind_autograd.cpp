// Recording, gradients, the random state, threads and memory.
#include "bind/convert.hpp"
#include "exec/random.hpp"
#include "exec/tape.hpp"
#include "kernels/parallel.hpp"

namespace mxpipe::bind {
namespace {

std::vector<ArrayPtr> optional_arrays(const py::object& list) {
  std::vector<ArrayPtr> arrays;
  if (list.is_none()) return arrays;
  for (const py::handle item : list) arrays.push_back(item.is_none() ? nullptr : item.cast<ArrayPtr>());
  return arrays;
}

py::object to_python(const ArrayGradient& gradient) {
  if (gradient.is_row_sparse()) return py::make_tuple(gradient.ids, gradient.rows);
  return py::cast(gradient.dense);
}

py::list gradients_of(const std::vector<ArrayPtr>& heads, const std::vector<ArrayPtr>& variables,
                      const py::object& head_gradients, bool retain_graph, bool create_graph) {
  const std::vector<ArrayPtr> given = optional_arrays(head_gradients);
  std::vector<ArrayGradient> results;
  {
    const py::gil_scoped_release release;
    results = gradients(heads, given, variables, retain_graph, create_graph);
  }
  py::list list;
  for (const ArrayGradient& gradient : results) list.append(to_python(gradient));
  return list;
}

py::dict memory() {
  const MemoryStatistics statistics = memory_statistics();
  py::dict result;
  result["used"] = statistics.used;
  result["peak"] = statistics.peak;
  result["cached"] = statistics.cached;
  return result;
}

}  // namespace

void bind_autograd(py::module_& module) {
  module.def("is_recording", &is_recording);
  module.def("is_training", &is_training);
  module.def("set_recording", &set_recording, py::arg("on"), "Returns the previous setting.");
  module.def("set_training", &set_training, py::arg("on"), "Returns the previous setting.");
  module.def(
      "backward",
      [](const std::vector<ArrayPtr>& heads, const py::object& head_gradients, bool retain_graph) {
        const std::vector<ArrayPtr> given = optional_arrays(head_gradients);
        const py::gil_scoped_release release;
        backward(heads, given, retain_graph);
      },
      py::arg("heads"), py::arg("head_gradients") = py::none(), py::arg("retain_graph") = false);
  module.def("grad", &gradients_of, py::arg("heads"), py::arg("variables"),
             py::arg("head_gradients") = py::none(), py::arg("retain_graph") = false,
             py::arg("create_graph") = false);

  module.def("set_seed", [](std::uint64_t seed) { set_random_state({seed, 0}); }, py::arg("seed"));
  module.def("random_state", [] {
    const RandomState state = random_state();
    return py::make_tuple(state.seed, state.counter);
  });
  module.def(
      "set_random_state",
      [](std::uint64_t seed, std::uint64_t counter) { set_random_state({seed, counter}); }, py::arg("seed"),
      py::arg("counter"));

  module.def("set_num_threads", &set_num_threads, py::arg("threads"));
  module.def("get_num_threads", &num_threads);
  module.def("memory", &memory,
             "Bytes in live arrays and arenas (used), their peak, and freed bytes kept for reuse (cached).");
  module.def("reset_peak_memory", &reset_peak_memory);
  module.def("release_cached_memory", &release_cached_memory);
}

}  // namespace mxpipe::bind
