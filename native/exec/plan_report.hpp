// What a plan does, as data: for printing, drawing and profiles. Nothing here is needed to run a plan.
// What enters: a plan, and runs of it while a PlanProfile is current. What leaves: plain structs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "graph/attributes.hpp"
#include "graph/shape.hpp"
#include "passes/passes.hpp"

namespace mxpipe {

class Plan;

struct PlanReport {
  struct Operand {
    TensorType type;
    Home home;
    std::size_t packed_bytes = 0;  // of an input that the kernel reads in a format of its own
    bool packed_once = false;      // a constant: packed when the plan was made
  };
  struct Step {
    std::string op;
    std::string kernel;
    Attributes attributes;
    std::vector<Operand> inputs;
    std::vector<Operand> outputs;
    std::size_t scratch_bytes = 0;
    std::int64_t operations = 0;  // of an elementwise program: arithmetic, all elements together
  };
  struct Copy {
    TensorType type;
    Home from;
    Home to;
  };
  struct Input {
    std::string name;
    TensorType type;
  };
  std::vector<Input> inputs;
  std::vector<TensorType> outputs;
  std::vector<Step> steps;
  std::vector<Copy> copies;  // after the last step
  std::size_t arena_bytes = 0;
  std::size_t scratch_bytes = 0;  // of the arena, shared by all steps
  std::size_t constant_bytes = 0;
};

// While one is current on a thread, the plans that this thread runs are timed step by step.
class PlanProfile {
 public:
  struct Entry {
    std::uint64_t plan = 0;
    PlanReport report;
    std::size_t runs = 0;
    std::vector<double> best;   // seconds a step: the shortest of the runs
    std::vector<double> total;  // seconds a step: all runs together
    double total_copies = 0;
    double total_run = 0;  // with what lies between the steps
  };

  static PlanProfile* current();
  static void set_current(PlanProfile* profile);

  Entry& entry(const Plan& plan);
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  std::vector<Entry> entries_;
};

}  // namespace mxpipe
