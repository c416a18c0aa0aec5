// Eager autograd: a tape of recorded calls. What enters: calls made while recording. What leaves: gradients,
// by the same op declarations and in the same order of sums as the graph pass, so that both doors give the
// same bits.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "exec/array.hpp"
#include "ops/registry.hpp"

namespace mxpipe {

bool is_recording();
bool is_training();
bool set_recording(bool on);  // returns the previous
bool set_training(bool on);

class RecordingScope {
 public:
  explicit RecordingScope(bool on) : previous_(set_recording(on)) {}
  ~RecordingScope() { set_recording(previous_); }
  RecordingScope(const RecordingScope&) = delete;
  RecordingScope& operator=(const RecordingScope&) = delete;

 private:
  bool previous_;
};

// An array as it was when recorded.
struct Saved {
  ArrayPtr array;             // with its own link to the tape
  std::uint64_t version = 0;  // of its storage
};

// One recorded call.
class TapeNode : public std::enable_shared_from_this<TapeNode> {
 public:
  virtual ~TapeNode() = default;

  // Gradients of the inputs that are needed; `gradients` has null where an output has none. With
  // `create_graph` the computation itself is recorded.
  virtual std::vector<ArrayGradient> backward(std::span<const ArrayPtr> gradients,
                                              const std::vector<bool>& needed, bool create_graph) = 0;
  virtual void release() = 0;  // after backward without retain_graph

  std::vector<bool> needed_inputs() const;

  std::uint64_t sequence = 0;
  std::vector<Saved> inputs;
  std::vector<TensorType> outputs;
};

// Throws GraphError when the array was overwritten since it was saved.
void check_version(const Saved& saved, std::string_view where);
Saved save(const ArrayPtr& array);
bool any_takes_gradient(std::span<const ArrayPtr> inputs);
// Links `outputs` to a new node, numbered in program order.
void record(std::shared_ptr<TapeNode> node, std::span<const ArrayPtr> inputs,
            std::span<const ArrayPtr> outputs);
void record_op(const OpSchema& op, const Attributes& attributes, std::span<const ArrayPtr> inputs,
               std::span<const ArrayPtr> outputs);

// Fills the gradients of the leaves that the heads depend on. Empty head_gradients mean ones.
void backward(std::span<const ArrayPtr> heads, std::span<const ArrayPtr> head_gradients, bool retain_graph);
// Gradients of chosen arrays, leaves or not; while tracing, by the graph pass.
std::vector<ArrayGradient> gradients(std::span<const ArrayPtr> heads,
                                     std::span<const ArrayPtr> head_gradients,
                                     std::span<const ArrayPtr> variables, bool retain_graph,
                                     bool create_graph);

}  // namespace mxpipe
