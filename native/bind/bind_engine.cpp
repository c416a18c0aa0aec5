// The dependency engine in Python. Tasks are callables; the interpreter's lock is never held while waiting.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "exec/engine/engine.hpp"
#include "graph/error.hpp"

namespace py = pybind11;

namespace mxpipe {
namespace {

using engine::DependencyEngine;
using engine::Failure;
using engine::VariablePtr;

// A callable that any thread may call and destroy.
engine::Work hold(py::object callable) {
  std::shared_ptr<py::object> shared(new py::object(std::move(callable)), [](py::object* object) {
    // After finalization there is no lock to take: the object is left to the end of the process.
    if (!Py_IsInitialized()) return;
    py::gil_scoped_acquire lock;
    delete object;
  });
  return [shared] {
    py::gil_scoped_acquire lock;
    (*shared)();
  };
}

// Lets Ctrl-C end a wait.
void check_signals() {
  py::gil_scoped_acquire lock;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

// Raises what the task raised, with a note of the place that pushed it.
void raise_failure(const std::optional<Failure>& failure) {
  if (!failure) return;
  const std::string note = text("[engine] raised by the task that was pushed at: ", failure->where);
  try {
    std::rethrow_exception(failure->error);
  } catch (py::error_already_set& error) {
    const py::object notes = py::getattr(error.value(), "__notes__", py::list());
    if (!notes.contains(note)) error.value().attr("add_note")(note);
    // The failure may be raised again by a wait on another variable, but this C++ object only once.
    py::set_error(error.type(), error.value());
    throw py::error_already_set();
  } catch (const Error& error) {
    throw Error(error.kind(), text(error.what(), " ", note, "."));
  }
}

// An engine may be dropped by the garbage collector, which holds the lock that its tasks need to end.
struct ReleaseAndDelete {
  void operator()(DependencyEngine* engine) const {
    py::gil_scoped_release unlocked;
    delete engine;
  }
};

void close_at_exit() {
  std::vector<Failure> failures;
  {
    py::gil_scoped_release unlocked;
    failures = engine::close_all_engines();
  }
  for (const Failure& failure : failures) {
    try {
      raise_failure(failure);
    } catch (py::error_already_set& error) {
      py::module_::import("traceback").attr("print_exception")(error.value());
    } catch (const std::exception& error) {
      PySys_FormatStderr("%s\n", error.what());
    }
  }
}

}  // namespace

void bind_engine(py::module_& module) {
  py::class_<engine::Variable, VariablePtr>(module, "Variable",
                                            "Something that tasks of one DependencyEngine read and write.");

  py::class_<DependencyEngine, std::unique_ptr<DependencyEngine, ReleaseAndDelete>>(
      module, "DependencyEngine",
      "Runs host-side tasks on worker threads, in an order that respects what they read and write.\n\n"
      "Ready tasks start in the order of their push. What a task raises surfaces at the next wait on what it "
      "was\n"
      "to write, with a note of the place that pushed it; tasks that touch such a variable before that are "
      "skipped.\n\n"
      "Example:\n"
      "    >>> engine = DependencyEngine(threads=2)\n"
      "    >>> result, done = [], engine.variable()\n"
      "    >>> engine.push(lambda: result.append(1), reads=[], writes=[done], where='an example')\n"
      "    >>> engine.wait(done)\n"
      "    >>> result\n"
      "    [1]\n")
      .def(py::init<int>(), py::arg("threads") = 1)
      .def("variable", &DependencyEngine::variable, "A new variable, for tasks of this engine.")
      .def(
          "push",
          [](DependencyEngine& self, py::object callable, const std::vector<VariablePtr>& reads,
             const std::vector<VariablePtr>& writes, std::string where) {
            // With the interpreter's lock: no task runs while the engine's is held, so this is short. Letting
            // go of it would hand it to the worker, and on a busy machine take milliseconds to get back.
            self.push(hold(std::move(callable)), reads, writes, std::move(where));
          },
          py::arg("callable"), py::arg("reads"), py::arg("writes"), py::arg("where"),
          "Run callable() once all earlier tasks that it depends on have ended.")
      .def(
          "wait",
          [](DependencyEngine& self, const VariablePtr& variable) {
            std::optional<Failure> failure;
            {
              py::gil_scoped_release unlocked;
              failure = self.wait(variable, check_signals);
            }
            raise_failure(failure);
          },
          py::arg("variable"), "Wait for every task pushed so far that writes the variable; raise its error.")
      .def(
          "wait_all",
          [](DependencyEngine& self) {
            std::optional<Failure> failure;
            {
              py::gil_scoped_release unlocked;
              failure = self.wait_all(check_signals);
            }
            raise_failure(failure);
          },
          "Wait for every task pushed so far; raise the first error that no wait has raised yet.")
      .def("close", &DependencyEngine::close, py::call_guard<py::gil_scoped_release>(),
           "Finish what was pushed and end the threads.");

  py::module_::import("atexit").attr("register")(py::cpp_function(close_at_exit));
}

}  // namespace mxpipe
