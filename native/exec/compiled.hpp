// A compiled function: a traced graph and its plans - one to compute, and where autograd records, a pair that
// keeps what backward needs. Safe to call from several threads at once.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "exec/plan.hpp"
#include "exec/tape.hpp"
#include "exec/trace.hpp"

namespace mxpipe {

class Compiled : public std::enable_shared_from_this<Compiled> {
 public:
  explicit Compiled(TracedGraph traced, const CompileOptions& options = {});
  ~Compiled();

  std::vector<ArrayPtr> call(std::span<const ArrayPtr> arguments) const;

  const TracedGraph& traced() const { return traced_; }
  const CompileOptions& options() const { return options_; }
  // Of a call that does not record; made at the first use. Several where blocks of rows go through stages.
  std::span<const std::unique_ptr<Plan>> plans() const;
  PlanReport report() const;  // of those

 private:
  // A plan, and another that computes what depends on captures alone where nothing is overwritten.
  struct Inference;
  // Results of that other plan and packed captures, of use until a capture changes.
  struct Frozen;
  // Forward with residuals, and backward over them, for one choice of inputs that take a gradient.
  struct Differentiated;
  class Node;

  const Inference& inference() const;
  std::shared_ptr<const Frozen> frozen(const Inference& plans, std::span<const ArrayPtr> inputs) const;
  std::vector<ArrayPtr> infer(std::vector<ArrayPtr> inputs) const;
  std::vector<ArrayPtr> gather(std::span<const ArrayPtr> arguments) const;
  std::shared_ptr<const Differentiated> differentiated(const std::vector<bool>& needed) const;

  TracedGraph traced_;
  CompileOptions options_;
  mutable std::mutex mutex_;
  mutable std::unique_ptr<const Inference> inference_;
  mutable std::shared_ptr<const Frozen> frozen_;
  mutable std::map<std::vector<bool>, std::shared_ptr<const Differentiated>> differentiated_;
};

// The same graph for inputs of other types (another batch size): types are inferred anew.
Graph retype(const Graph& graph, std::span<const TensorType> inputs);

}  // namespace mxpipe
