// The dependency engine under many threads, for the thread sanitizer's eyes above all.
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.hpp"
#include "exec/engine/engine.hpp"

namespace mxpipe::test {
namespace {

using engine::DependencyEngine;
using engine::VariablePtr;

TEST(tasks_that_share_variables_give_the_serial_result) {
  std::mt19937 random(7);
  for (int threads : {1, 2, 4}) {
    DependencyEngine engine(threads);
    std::vector<VariablePtr> variables;
    std::vector<std::uint64_t> values(8, 1), serial(8, 1);
    for (std::size_t i = 0; i < values.size(); ++i) variables.push_back(engine.variable());
    for (int task = 0; task < 2000; ++task) {
      const std::size_t to = random() % 8, from = random() % 8;
      engine.push([&values, to, from] { values[to] = values[to] * 3 + values[from]; }, {variables[from]},
                  {variables[to]}, "a step");
      serial[to] = serial[to] * 3 + serial[from];
      if (task % 97 == 0) CHECK(!engine.wait(variables[from]));
    }
    CHECK(!engine.wait_all());
    CHECK(values == serial, threads, " threads");
  }
}

TEST(many_threads_may_wait_for_one_engine) {
  DependencyEngine engine(2);
  const VariablePtr variable = engine.variable();
  int value = 0;
  for (int task = 0; task < 200; ++task) engine.push([&value] { ++value; }, {}, {variable}, "a step");
  std::vector<std::thread> waiters;
  for (int i = 0; i < 4; ++i) {
    waiters.emplace_back([&] {
      CHECK(!engine.wait(variable));
      CHECK(value == 200);
    });
  }
  for (std::thread& waiter : waiters) waiter.join();
}

TEST(a_failure_travels_to_what_depends_on_it_and_stops_there) {
  DependencyEngine engine(2);
  const VariablePtr source = engine.variable(), result = engine.variable(), other = engine.variable();
  bool ran = false;
  engine.push([] { throw std::runtime_error("broken"); }, {}, {source}, "the source");
  engine.push([&ran] { ran = true; }, {source}, {result}, "the result");
  engine.push([] {}, {}, {other}, "something else");
  const auto failure = engine.wait(result);
  CHECK(failure && failure->where == "the source");
  CHECK(!ran);
  CHECK(!engine.wait(other));
  CHECK(engine.wait(source).has_value());
  CHECK(!engine.wait_all(), "a failure that was given is not given again");
}

}  // namespace
}  // namespace mxpipe::test
