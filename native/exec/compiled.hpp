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
  explicit Compiled(TracedGraph traced) : traced_(std::move(traced)) {}

  std::vector<ArrayPtr> call(std::span<const ArrayPtr> arguments) const;

  const TracedGraph& traced() const { return traced_; }
  const Plan& plan() const;  // made at the first use

 private:
  // Forward with residuals, and backward over them, for one choice of inputs that take a gradient.
  struct Differentiated;
  class Node;

  std::vector<ArrayPtr> gather(std::span<const ArrayPtr> arguments) const;
  std::shared_ptr<const Differentiated> differentiated(const std::vector<bool>& needed) const;

  TracedGraph traced_;
  mutable std::mutex mutex_;
  mutable std::unique_ptr<Plan> plan_;
  mutable std::map<std::vector<bool>, std::shared_ptr<const Differentiated>> differentiated_;
};

// The same graph for inputs of other types (another batch size): types are inferred anew.
Graph retype(const Graph& graph, std::span<const TensorType> inputs);

}  // namespace mxpipe
