// Plans as Python data, and the profile of their steps.
#include "bind/convert.hpp"
#include "exec/compiled.hpp"
#include "exec/plan_report.hpp"

namespace mxpipe::bind {
namespace {

py::dict type_to_python(const TensorType& type) {
  py::dict result;
  result["shape"] = to_python(type.shape);
  result["dtype"] = std::string(name_of(type.dtype));
  result["bytes"] = type.bytes();
  return result;
}

py::tuple home_to_python(const Home& home) {
  static constexpr const char* kPlaces[] = {"none", "input", "constant", "arena", "output", "update"};
  return py::make_tuple(kPlaces[static_cast<std::size_t>(home.place)], home.index);
}

py::list operands_to_python(const std::vector<PlanReport::Operand>& operands) {
  py::list result;
  for (const PlanReport::Operand& operand : operands) {
    py::dict entry = type_to_python(operand.type);
    entry["home"] = home_to_python(operand.home);
    entry["packed_bytes"] = operand.packed_bytes;
    entry["packed_once"] = operand.packed_once;
    result.append(entry);
  }
  return result;
}

py::dict step_to_python(const PlanReport::Step& step) {
  py::dict attributes;
  for (const auto& [name, value] : step.attributes.entries()) {
    attributes[py::str(name)] = std::holds_alternative<DType>(value)
                                    ? py::str(std::string(name_of(std::get<DType>(value))))
                                    : to_python(value);
  }
  py::dict result;
  result["op"] = step.op;
  result["kernel"] = step.kernel;
  result["attributes"] = attributes;
  result["inputs"] = operands_to_python(step.inputs);
  result["outputs"] = operands_to_python(step.outputs);
  result["scratch_bytes"] = step.scratch_bytes;
  result["operations"] = step.operations;
  return result;
}

py::dict report_to_python(const PlanReport& report) {
  py::list inputs, outputs, steps, copies;
  for (const PlanReport::Input& input : report.inputs) {
    py::dict entry = type_to_python(input.type);
    entry["name"] = input.name;
    inputs.append(entry);
  }
  for (const TensorType& output : report.outputs) outputs.append(type_to_python(output));
  for (const PlanReport::Step& step : report.steps) steps.append(step_to_python(step));
  for (const PlanReport::Copy& copy : report.copies) {
    py::dict entry = type_to_python(copy.type);
    entry["from"] = home_to_python(copy.from);
    entry["to"] = home_to_python(copy.to);
    copies.append(entry);
  }
  py::dict result;
  result["inputs"] = inputs;
  result["outputs"] = outputs;
  result["steps"] = steps;
  result["copies"] = copies;
  result["arena_bytes"] = report.arena_bytes;
  result["scratch_bytes"] = report.scratch_bytes;
  result["constant_bytes"] = report.constant_bytes;
  return result;
}

// `with _core.PlanProfile() as profile:` - plans that this thread runs are timed step by step.
class ProfileScope {
 public:
  void enter() {
    previous_ = PlanProfile::current();
    PlanProfile::set_current(&profile_);
  }
  void exit() { PlanProfile::set_current(previous_); }

  py::list plans() const {
    py::list result;
    for (const PlanProfile::Entry& entry : profile_.entries()) {
      py::dict plan = report_to_python(entry.report);
      plan["runs"] = entry.runs;
      plan["best_seconds"] = entry.best;
      plan["total_seconds"] = entry.total;
      plan["copies_seconds"] = entry.total_copies;
      plan["run_seconds"] = entry.total_run;
      result.append(plan);
    }
    return result;
  }

 private:
  PlanProfile profile_;
  PlanProfile* previous_ = nullptr;
};

}  // namespace

void bind_inspect(py::module_& module) {
  py::class_<ProfileScope>(module, "PlanProfile",
                           "Within it the plans that this thread runs are timed step by step.")
      .def(py::init<>())
      .def("__enter__",
           [](py::object self) {
             self.cast<ProfileScope&>().enter();
             return self;
           })
      .def("__exit__", [](ProfileScope& self, const py::args&) { self.exit(); })
      .def("plans", &ProfileScope::plans, "One dict a plan: what report() gives, and the seconds.");
  module.def(
      "plan_report", [](const Compiled& compiled) { return report_to_python(compiled.report()); },
      py::arg("compiled"), "A CompiledFunction's plan as data; made if it was not.");
}

}  // namespace mxpipe::bind
