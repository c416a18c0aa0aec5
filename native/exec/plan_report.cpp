#include "exec/plan_report.hpp"

#include <algorithm>
#include <limits>

#include "exec/plan.hpp"

namespace mxpipe {
namespace {

thread_local PlanProfile* current_profile = nullptr;

bool computes(const Instruction& instruction) {
  switch (instruction.opcode) {
    case Opcode::load:
    case Opcode::store:
    case Opcode::constant:
    case Opcode::convert:
    case Opcode::round_to:
      return false;
    default:
      return true;
  }
}

std::int64_t operations_of(const Program& program) {
  const auto count = std::count_if(program.instructions.begin(), program.instructions.end(), computes);
  return static_cast<std::int64_t>(count) * program.shape.size();
}

}  // namespace

PlanReport Plan::report() const {
  const auto home_of = [&](Value value) {
    return memory_.homes[static_cast<std::size_t>(value.node)][static_cast<std::size_t>(value.output)];
  };
  PlanReport report;
  for (const std::int32_t input : graph_.inputs) {
    const Node& node = graph_.nodes[static_cast<std::size_t>(input)];
    report.inputs.push_back({node.name, node.outputs[0]});
  }
  for (const Value output : graph_.outputs) report.outputs.push_back(graph_.type(output));
  for (const Step& step : steps_) report.steps.push_back(report_step(step));
  for (const MemoryPlan::Copy& copy : memory_.copies)
    report.copies.push_back({graph_.type(copy.from), home_of(copy.from), copy.to});
  for (const Node& node : graph_.nodes) {
    if (node.constant) report.constant_bytes += node.constant->size();
  }
  report.arena_bytes = arena_bytes_;
  report.scratch_bytes = arena_bytes_ - scratch_offset_;
  return report;
}

PlanReport::Step Plan::report_step(const Step& step) const {
  const Node& node = graph_.nodes[static_cast<std::size_t>(step.node)];
  PlanReport::Step result;
  result.op = node.program ? "elementwise" : node.op->name;
  result.kernel = step.kernel->describe();
  result.attributes = node.attributes;
  result.scratch_bytes = step.scratch_bytes;
  if (node.program) result.operations = operations_of(*node.program);
  for (std::size_t i = 0; i < step.inputs.size(); ++i)
    result.inputs.push_back({graph_.type(node.inputs[i]), step.inputs[i]});
  for (std::size_t i = 0; i < step.outputs.size(); ++i)
    result.outputs.push_back({node.outputs[i], step.outputs[i]});
  for (const PackedInput& packed : step.packed) {
    result.inputs[packed.input].packed_bytes = step.kernel->packed_bytes(packed.input);
    result.inputs[packed.input].packed_once = constant_packs_[packed.slot] != nullptr;
  }
  return result;
}

PlanProfile* PlanProfile::current() { return current_profile; }

void PlanProfile::set_current(PlanProfile* profile) { current_profile = profile; }

PlanProfile::Entry& PlanProfile::entry(const Plan& plan) {
  for (Entry& entry : entries_) {
    if (entry.plan == plan.id()) return entry;
  }
  Entry& fresh = entries_.emplace_back();
  fresh.plan = plan.id();
  fresh.report = plan.report();
  fresh.best.assign(fresh.report.steps.size(), std::numeric_limits<double>::infinity());
  fresh.total.assign(fresh.report.steps.size(), 0);
  return fresh;
}

}  // namespace mxpipe
