// A plan: a compiled graph as data - prepared kernels, slots, one arena. It runs with no allocation but its
// results, from any thread; every running thread has an arena of its own, kept for the next run.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "exec/array.hpp"
#include "exec/plan_report.hpp"
#include "kernels/kernel.hpp"
#include "passes/passes.hpp"

namespace mxpipe {

class Plan {
 public:
  // Inputs in the formats of the kernels that read them, kept from run to run.
  using Packs = std::vector<std::shared_ptr<Storage>>;

  // Lowers it. Inputs that are marked as frozen will come with packs.
  explicit Plan(const Graph& transformed, const std::vector<bool>& frozen = {});

  // One array an input, of exactly the input's type. Updates are written into the inputs' storage. What
  // `packs` lacks is packed as the run goes.
  std::vector<ArrayPtr> run(std::span<const ArrayPtr> inputs, const Packs& packs = {}) const;
  // The same into arrays that the caller has.
  void run_into(std::span<const ArrayPtr> inputs, std::span<const ArrayPtr> outputs,
                const Packs& packs = {}) const;
  bool packs_inputs() const { return !constant_packs_.empty(); }
  // Packs those inputs that are marked as frozen: of use until one of them changes.
  Packs pack(std::span<const ArrayPtr> inputs, const std::vector<bool>& frozen) const;

  const Graph& graph() const { return graph_; }  // as optimized
  std::size_t arena_bytes() const { return arena_bytes_; }
  std::uint64_t id() const { return id_; }  // of no other plan of this process
  std::string describe_steps() const;
  std::string describe_memory() const;
  PlanReport report() const;

 private:
  struct PackedInput {
    std::size_t input;   // of the step
    std::size_t slot;    // of packs
    std::size_t offset;  // of the temporary pack, behind the step's scratch
  };
  struct Step {
    std::int32_t node;
    std::unique_ptr<Kernel> kernel;
    std::vector<Home> inputs;
    std::vector<Home> outputs;
    std::vector<PackedInput> packed;
    std::size_t scratch_bytes = 0;  // the kernel's and temporary packs
  };
  struct Run;  // the pointers of one run

  void prepare_step(std::int32_t node, const std::vector<bool>& frozen);
  void prepare_packs(Step& step);
  void run_step(const Step& step, Run& run) const;
  void run_timed(Run& run, PlanProfile& profile) const;
  PlanReport::Step report_step(const Step& step) const;
  std::shared_ptr<Storage> take_arena() const;
  void give_back_arena(std::shared_ptr<Storage> arena) const;
  void check_inputs(std::span<const ArrayPtr> inputs) const;
  void run_copies(const Run& run) const;

  std::uint64_t id_;
  Graph graph_;
  MemoryPlan memory_;
  std::vector<Step> steps_;
  Packs constant_packs_;  // one a slot; set where the input is a constant
  std::size_t scratch_offset_ = 0;
  std::size_t arena_bytes_ = 0;
  mutable std::mutex mutex_;
  mutable std::vector<std::shared_ptr<Storage>> arenas_;
};

}  // namespace mxpipe
