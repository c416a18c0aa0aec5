// The dependency engine: host-side tasks (prefetch, decoding, checkpoint writing, metric logging) that
// overlap with compute.
//
// What enters: functions with the variables that they read and write. What leaves: their effects, in an order
// that keeps every variable's history: a reader sees the last write pushed before it, a writer waits for
// earlier readers and writers. Ready tasks start in the order in which they were pushed. Called by the Python
// binding and by native code that has I/O to hide.
//
// A task that throws does not disturb others. The error waits on the variables that the task was to write;
// tasks that touch such a variable are skipped and pass the error on; the next wait on the variable throws
// it, says where the task was pushed, and clears it.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mxpipe::engine {

struct State;
struct Task;

// Why a task did not do its work, and the place that pushed it.
struct Failure {
  std::exception_ptr error;
  std::string where;
};

struct FailureRecord;

// Something that tasks read and write: a batch, a file, a log. Only the engine looks inside.
struct Variable {
  explicit Variable(const State* state) : owner(state) {}

  const State* const owner;
  std::shared_ptr<Task> last_write;                // unfinished, or null
  std::vector<std::shared_ptr<Task>> later_reads;  // unfinished, pushed after last_write
  std::shared_ptr<FailureRecord> failure;          // not yet thrown by a wait on this variable
};

using VariablePtr = std::shared_ptr<Variable>;
using Work = std::function<void()>;
// Called about ten times a second by a thread that waits, without any lock; may throw to give up waiting.
using Poll = std::function<void()>;

class DependencyEngine {
 public:
  // Threads start at the first push. Throws OperatorError unless threads >= 1.
  explicit DependencyEngine(int threads);
  // Finishes what was pushed, then ends the threads.
  ~DependencyEngine();
  DependencyEngine(const DependencyEngine&) = delete;
  DependencyEngine& operator=(const DependencyEngine&) = delete;

  VariablePtr variable();

  // Throws OperatorError when the engine is closed or a variable belongs to another engine.
  void push(Work work, const std::vector<VariablePtr>& reads, const std::vector<VariablePtr>& writes,
            std::string where);

  // Blocks until everything pushed so far that writes the variable has ended; gives its failure, if any, and
  // clears it. Throws OperatorError when called from one of this engine's own tasks, which could never end.
  [[nodiscard]] std::optional<Failure> wait(const VariablePtr& variable, const Poll& poll = {});

  // Blocks until everything pushed so far has ended; gives the first failure that no wait has given yet.
  [[nodiscard]] std::optional<Failure> wait_all(const Poll& poll = {});

  // Finishes what was pushed and ends the threads; a later push throws.
  void close();

 private:
  std::shared_ptr<State> state_;
};

// Closes all engines of the process and returns failures that nobody waited for. For the exit of the
// interpreter.
std::vector<Failure> close_all_engines();

}  // namespace mxpipe::engine
