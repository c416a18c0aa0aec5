// A plan: a compiled graph as data - prepared kernels, slots, one arena. It runs with no allocation but its
// results, from any thread; every running thread has an arena of its own, kept for the next run.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "exec/array.hpp"
#include "kernels/kernel.hpp"
#include "passes/passes.hpp"

namespace mxpipe {

class Plan {
 public:
  explicit Plan(const Graph& graph);  // optimizes first

  // One array an input, of exactly the input's type. Updates are written into the inputs' storage.
  std::vector<ArrayPtr> run(std::span<const ArrayPtr> inputs) const;

  const Graph& graph() const { return graph_; }  // as optimized
  std::size_t arena_bytes() const { return arena_bytes_; }
  std::string describe_steps() const;
  std::string describe_memory() const;

 private:
  struct Step {
    std::int32_t node;
    std::unique_ptr<Kernel> kernel;
    std::vector<Home> inputs;
    std::vector<Home> outputs;
  };
  struct Run;  // the pointers of one run

  void prepare_step(std::int32_t node);
  std::shared_ptr<Storage> take_arena() const;
  void give_back_arena(std::shared_ptr<Storage> arena) const;
  void check_inputs(std::span<const ArrayPtr> inputs) const;
  void run_copies(const Run& run) const;

  Graph graph_;
  MemoryPlan memory_;
  std::vector<Step> steps_;
  std::size_t scratch_offset_ = 0;
  std::size_t arena_bytes_ = 0;
  mutable std::mutex mutex_;
  mutable std::vector<std::shared_ptr<Storage>> arenas_;
};

}  // namespace mxpipe
