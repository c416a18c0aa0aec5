#include "exec/engine/engine.hpp"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <map>
#include <mutex>
#include <queue>
#include <thread>
#include <utility>

#include "graph/error.hpp"

namespace mxpipe::engine {

struct FailureRecord {
  Failure failure;
  std::uint64_t sequence;
  bool reported = false;
  std::vector<std::weak_ptr<Variable>> variables;  // that still hold it
};

struct Task {
  std::uint64_t sequence = 0;
  Work work;
  std::string where;
  std::vector<VariablePtr> reads;
  std::vector<VariablePtr> writes;
  std::vector<std::shared_ptr<Task>> followers;  // wait for this one
  int blockers = 0;                              // unfinished tasks that this one waits for
  bool ended = false;
};

using TaskPtr = std::shared_ptr<Task>;

struct LaterFirst {
  bool operator()(const TaskPtr& a, const TaskPtr& b) const { return a->sequence > b->sequence; }
};

// Everything the threads share. They own it together with the engine, so that an engine may be dropped by one
// of its own tasks. No code of a task (its call, its destruction, its exception) ever runs while the mutex is
// held: it may need the interpreter's lock, whose owner may be waiting for the mutex.
struct State {
  explicit State(int count) : thread_count(count) {}

  const int thread_count;
  std::mutex mutex;
  // Held by pointer: a forked child replaces them, because their waiters are gone.
  std::unique_ptr<std::condition_variable> ready_changed = std::make_unique<std::condition_variable>();
  std::unique_ptr<std::condition_variable> task_ended = std::make_unique<std::condition_variable>();
  std::vector<std::thread> threads;
  std::priority_queue<TaskPtr, std::vector<TaskPtr>, LaterFirst> ready;
  std::map<std::uint64_t, TaskPtr> unfinished;  // by sequence
  std::vector<std::shared_ptr<FailureRecord>> unreported;
  std::uint64_t next_sequence = 0;
  bool closing = false;
};

namespace {

thread_local const State* current_state = nullptr;  // of the engine whose task runs on this thread

template <typename T>
void remove(std::vector<T>& values, const T& value) {
  values.erase(std::remove(values.begin(), values.end(), value), values.end());
}

std::vector<VariablePtr> distinct(const std::vector<VariablePtr>& variables,
                                  const std::vector<VariablePtr>& except = {}) {
  std::vector<VariablePtr> result;
  for (const auto& variable : variables) {
    const auto known = [&](const auto& list) {
      return std::find(list.begin(), list.end(), variable) != list.end();
    };
    if (!known(result) && !known(except)) result.push_back(variable);
  }
  return result;
}

// The earliest failure among the variables that a task touches; null when it may run.
std::shared_ptr<FailureRecord> inherited_failure(const Task& task) {
  std::shared_ptr<FailureRecord> first;
  for (const auto* list : {&task.reads, &task.writes}) {
    for (const auto& variable : *list) {
      const auto& record = variable->failure;
      if (record && (!first || record->sequence < first->sequence)) first = record;
    }
  }
  return first;
}

void set_failure(Task& task, const std::shared_ptr<FailureRecord>& record) {
  for (const auto& variable : task.writes) {
    if (variable->failure) continue;
    variable->failure = record;
    record->variables.push_back(variable);
  }
}

// Takes the task out of its variables' histories and lets those start that waited for it.
void finish(State& state, const TaskPtr& task) {
  for (const auto& variable : task->writes) {
    if (variable->last_write == task) variable->last_write = nullptr;
  }
  for (const auto& variable : task->reads) remove(variable->later_reads, task);
  for (const auto& follower : task->followers) {
    if (--follower->blockers == 0) state.ready.push(follower);
  }
  task->followers.clear();
  task->ended = true;
  state.unfinished.erase(task->sequence);
  state.ready_changed->notify_all();
  state.task_ended->notify_all();
}

// Runs one task without the mutex; gives what it threw.
std::exception_ptr run(Work work) {
  try {
    work();
    return nullptr;
  } catch (...) {
    return std::current_exception();
  }
}

void work_until_closed(const std::shared_ptr<State>& state) {
  current_state = state.get();
  std::unique_lock lock(state->mutex);
  while (true) {
    state->ready_changed->wait(
        lock, [&] { return !state->ready.empty() || (state->closing && state->unfinished.empty()); });
    if (state->ready.empty()) return;
    TaskPtr task = state->ready.top();
    state->ready.pop();
    Work work = std::move(task->work);
    task->work = nullptr;
    std::shared_ptr<FailureRecord> record = inherited_failure(*task);
    lock.unlock();
    if (!record) {
      if (auto error = run(std::move(work))) {
        record =
            std::make_shared<FailureRecord>(FailureRecord{{error, task->where}, task->sequence, false, {}});
      }
    }
    work = nullptr;
    lock.lock();
    if (record) {
      if (record->sequence == task->sequence) state->unreported.push_back(record);
      set_failure(*task, record);
    }
    finish(*state, task);
    lock.unlock();
    task = nullptr;  // and with it, perhaps, a variable that holds an exception
    record = nullptr;
    lock.lock();
  }
}

void start_threads(const std::shared_ptr<State>& state) {
  // Signals are for the main thread: a worker inherits a mask that blocks them all.
  sigset_t all, previous;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &previous);
  for (int i = 0; i < state->thread_count; ++i) {
    state->threads.emplace_back([state] { work_until_closed(state); });
    pthread_setname_np(state->threads.back().native_handle(), "mxpipe-engine");
  }
  pthread_sigmask(SIG_SETMASK, &previous, nullptr);
}

template <typename Done>
void wait_until(State& state, std::unique_lock<std::mutex>& lock, const Poll& poll, const Done& done) {
  require(current_state != &state, "engine",
          "a task must not wait for its own engine; got a wait in a task.");
  while (!done()) {
    state.task_ended->wait_for(lock, std::chrono::milliseconds(100));
    if (poll && !done()) {
      lock.unlock();
      poll();
      lock.lock();
    }
  }
}

// Marks a failure as given and forgets it.
std::shared_ptr<FailureRecord> report(State& state, std::shared_ptr<FailureRecord> record) {
  record->reported = true;
  remove(state.unreported, record);
  return record;
}

// --- all engines of the process, for exit and fork
// -------------------------------------------------------------

struct Registry {
  std::mutex mutex;
  std::vector<std::weak_ptr<State>> states;
};

// Never destroyed: engines may outlive static objects.
Registry& registry() {
  static auto* instance = new Registry;
  return *instance;
}

std::vector<std::shared_ptr<State>> live_states(Registry& all) {
  std::vector<std::shared_ptr<State>> live;
  for (const auto& weak : all.states) {
    if (auto state = weak.lock()) live.push_back(std::move(state));
  }
  return live;
}

// Between prepare and parent/child the forking thread holds every mutex, so the child sees a consistent
// state.
std::vector<std::shared_ptr<State>>& held_states() {
  static auto* states = new std::vector<std::shared_ptr<State>>;
  return *states;
}

void prepare_fork() {
  registry().mutex.lock();
  held_states() = live_states(registry());
  for (const auto& state : held_states()) state->mutex.lock();
}

void release_after_fork() {
  for (const auto& state : held_states()) state->mutex.unlock();
  held_states().clear();
  registry().mutex.unlock();
}

// The child has no threads: what was unfinished never ends there. Its tasks are leaked, because destroying
// them may need locks that other threads held; whoever waits for them is told.
void abandon_in_child(State& state) {
  new std::vector<std::thread>(std::exchange(state.threads, {}));
  for (const auto& [sequence, task] : state.unfinished) {
    const Error error(
        ErrorKind::internal,
        text("[engine] a task must be waited for in the process that pushed it; got a forked child. ",
             "Pushed at ", task->where, "."));
    auto record = std::make_shared<FailureRecord>(
        FailureRecord{{std::make_exception_ptr(error), task->where}, sequence, true, {}});
    set_failure(*task, record);
    for (const auto& variable : task->writes) variable->last_write = nullptr;
    for (const auto& variable : task->reads) variable->later_reads.clear();
    task->followers.clear();
    task->ended = true;
    new TaskPtr(task);
  }
  state.unfinished.clear();
  state.ready = {};
  (void)state.ready_changed.release();
  (void)state.task_ended.release();
  state.ready_changed = std::make_unique<std::condition_variable>();
  state.task_ended = std::make_unique<std::condition_variable>();
  current_state = nullptr;
}

void after_fork_in_child() {
  for (const auto& state : held_states()) abandon_in_child(*state);
  release_after_fork();
}

void enlist(const std::shared_ptr<State>& state) {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  static const int handlers = pthread_atfork(prepare_fork, release_after_fork, after_fork_in_child);
  (void)handlers;
  std::erase_if(all.states, [](const auto& weak) { return weak.expired(); });
  all.states.push_back(state);
}

void close_state(State& state) {
  std::vector<std::thread> threads;
  {
    std::lock_guard lock(state.mutex);
    state.closing = true;
    threads = std::exchange(state.threads, {});
    state.ready_changed->notify_all();
  }
  for (auto& thread : threads) {
    // Dropped by one of its own tasks: the threads own the state and end when the work is done.
    if (current_state == &state) {
      thread.detach();
    } else {
      thread.join();
    }
  }
}

}  // namespace

DependencyEngine::DependencyEngine(int threads) {
  require(threads >= 1, "engine", "threads must be at least 1; got ", threads, ".");
  state_ = std::make_shared<State>(threads);
  enlist(state_);
}

DependencyEngine::~DependencyEngine() { close_state(*state_); }

VariablePtr DependencyEngine::variable() { return std::make_shared<Variable>(state_.get()); }

void DependencyEngine::push(Work work, const std::vector<VariablePtr>& reads,
                            const std::vector<VariablePtr>& writes, std::string where) {
  const auto task = std::make_shared<Task>();
  task->work = std::move(work);
  task->where = std::move(where);
  task->writes = distinct(writes);
  task->reads = distinct(reads, task->writes);
  for (const auto* list : {&task->reads, &task->writes}) {
    for (const auto& variable : *list) {
      require(variable && variable->owner == state_.get(), "engine",
              "variables must come from the engine that runs the task; got another's in the task of ",
              task->where, ".");
    }
  }
  std::lock_guard lock(state_->mutex);
  require(!state_->closing, "engine", "a task must be pushed before the engine is closed; got one of ",
          task->where, " after that.");
  if (state_->threads.empty()) start_threads(state_);
  task->sequence = state_->next_sequence++;
  const auto wait_for = [&](const TaskPtr& earlier) {
    if (!earlier) return;
    earlier->followers.push_back(task);
    ++task->blockers;
  };
  for (const auto& variable : task->reads) {
    wait_for(variable->last_write);
    variable->later_reads.push_back(task);
  }
  for (const auto& variable : task->writes) {
    wait_for(variable->last_write);
    for (const auto& reader : variable->later_reads) wait_for(reader);
    variable->later_reads.clear();
    variable->last_write = task;
  }
  state_->unfinished.emplace(task->sequence, task);
  if (task->blockers == 0) {
    state_->ready.push(task);
    state_->ready_changed->notify_one();
  }
}

std::optional<Failure> DependencyEngine::wait(const VariablePtr& variable, const Poll& poll) {
  require(variable && variable->owner == state_.get(), "engine", "a variable must come from this engine.");
  std::shared_ptr<FailureRecord> record;
  {
    std::unique_lock lock(state_->mutex);
    const TaskPtr last = variable->last_write;
    wait_until(*state_, lock, poll, [&] { return !last || last->ended; });
    record = std::exchange(variable->failure, nullptr);
    if (record) record = report(*state_, std::move(record));
  }
  return record ? std::optional(record->failure) : std::nullopt;
}

std::optional<Failure> DependencyEngine::wait_all(const Poll& poll) {
  std::shared_ptr<FailureRecord> record;
  std::vector<std::shared_ptr<FailureRecord>> dropped;  // destroyed after the mutex is free
  {
    std::unique_lock lock(state_->mutex);
    const std::uint64_t pushed = state_->next_sequence;
    wait_until(*state_, lock, poll,
               [&] { return state_->unfinished.empty() || state_->unfinished.begin()->first >= pushed; });
    if (!state_->unreported.empty()) {
      const auto first =
          std::min_element(state_->unreported.begin(), state_->unreported.end(),
                           [](const auto& a, const auto& b) { return a->sequence < b->sequence; });
      record = report(*state_, *first);
      for (const auto& weak : record->variables) {
        const auto variable = weak.lock();
        if (variable && variable->failure == record)
          dropped.push_back(std::exchange(variable->failure, nullptr));
      }
    }
  }
  return record ? std::optional(record->failure) : std::nullopt;
}

void DependencyEngine::close() { close_state(*state_); }

std::vector<Failure> close_all_engines() {
  std::vector<std::shared_ptr<State>> states;
  {
    std::lock_guard lock(registry().mutex);
    states = live_states(registry());
  }
  std::vector<Failure> failures;
  for (const auto& state : states) {
    close_state(*state);
    for (const auto& record : state->unreported) failures.push_back(record->failure);
    state->unreported.clear();
  }
  return failures;
}

}  // namespace mxpipe::engine
