#include "exec/plan.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <sstream>

#include "graph/error.hpp"
#include "ops/graph_text.hpp"
#include "ops/registry.hpp"

namespace mxpipe {
namespace {

constexpr std::size_t kAlignment = 64;

bool has_elements(const Node& node) {
  return std::any_of(node.outputs.begin(), node.outputs.end(),
                     [](const TensorType& type) { return type.size() != 0; });
}

std::string_view name_of(Place place) {
  static constexpr std::array<std::string_view, 6> kNames{"none",  "input",  "constant",
                                                          "arena", "output", "update"};
  return kNames[static_cast<std::size_t>(place)];
}

std::uint64_t fresh_id() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

struct Plan::Run {
  const Plan& plan;
  std::span<const ArrayPtr> inputs;
  const Packs& packs;
  std::span<const ArrayPtr> outputs;
  std::byte* arena = nullptr;
  std::vector<const void*> reads;
  std::vector<void*> writes;

  std::byte* address(const Home& home) const {
    switch (home.place) {
      case Place::input:
      case Place::update:
        return inputs[home.index]->data();
      case Place::constant:
        return const_cast<std::byte*>(plan.graph_.nodes[home.index].constant->data());
      case Place::arena:
        return arena + home.index;
      case Place::output:
        return outputs[home.index]->data();
      case Place::none:
        break;
    }
    return nullptr;
  }
};

Plan::Plan(const Graph& transformed, const std::vector<bool>& frozen)
    : id_(fresh_id()), graph_(lower(transformed)), memory_(plan_memory(graph_)) {
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) prepare_step(static_cast<std::int32_t>(i), frozen);
  std::size_t scratch = 0;
  for (const Step& step : steps_) scratch = std::max(scratch, step.scratch_bytes);
  scratch_offset_ = memory_.arena_bytes;
  arena_bytes_ = memory_.arena_bytes + scratch;
}

void Plan::prepare_step(std::int32_t index, const std::vector<bool>& frozen) {
  const Node& node = graph_.nodes[static_cast<std::size_t>(index)];
  const bool computes = node.kind == NodeKind::op && !(node.op && node.op->view);
  if (!computes || !has_elements(node)) return;
  std::vector<TensorType> types;
  Step step;
  step.node = index;
  std::uint32_t constant_inputs = 0;
  for (const Value input : node.inputs) {
    const Home& home =
        memory_.homes[static_cast<std::size_t>(input.node)][static_cast<std::size_t>(input.output)];
    const bool is_frozen = home.place == Place::input && home.index < frozen.size() && frozen[home.index];
    if ((is_frozen || home.place == Place::constant) && types.size() < 32)
      constant_inputs |= 1U << types.size();
    types.push_back(graph_.type(input));
    step.inputs.push_back(home);
  }
  step.outputs = memory_.homes[static_cast<std::size_t>(index)];
  const std::string_view op = node.program ? "elementwise" : std::string_view(node.op->name);
  step.kernel = make_kernel({op, node.attributes, types, node.outputs, node.program, constant_inputs});
  prepare_packs(step);
  steps_.push_back(std::move(step));
}

void Plan::prepare_packs(Step& step) {
  step.scratch_bytes = step.kernel->scratch_bytes();
  for (std::size_t i = 0; i < step.inputs.size(); ++i) {
    const std::size_t bytes = step.kernel->packed_bytes(i);
    if (bytes == 0) continue;
    std::shared_ptr<Storage> constant;
    if (step.inputs[i].place == Place::constant) {
      constant = Storage::allocate(bytes);
      step.kernel->pack(i, graph_.nodes[step.inputs[i].index].constant->data(), constant->data());
    }
    step.scratch_bytes = (step.scratch_bytes + kAlignment - 1) / kAlignment * kAlignment;
    step.packed.push_back({i, constant_packs_.size(), step.scratch_bytes});
    constant_packs_.push_back(constant);
    if (!constant) step.scratch_bytes += bytes;
  }
}

std::shared_ptr<Storage> Plan::take_arena() const {
  {
    const std::scoped_lock lock(mutex_);
    if (!arenas_.empty()) {
      std::shared_ptr<Storage> arena = std::move(arenas_.back());
      arenas_.pop_back();
      return arena;
    }
  }
  return Storage::allocate(arena_bytes_);
}

void Plan::give_back_arena(std::shared_ptr<Storage> arena) const {
  const std::scoped_lock lock(mutex_);
  arenas_.push_back(std::move(arena));
}

void Plan::check_inputs(std::span<const ArrayPtr> inputs) const {
  if (inputs.size() != graph_.inputs.size()) {
    fail(ErrorKind::op, "compiled", "must be called with ", graph_.inputs.size(), " arrays; got ",
         inputs.size(), ".");
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Node& input = graph_.nodes[static_cast<std::size_t>(graph_.inputs[i])];
    if (inputs[i]->type() == input.outputs[0]) continue;
    fail(ErrorKind::op, "compiled", "input ", input.name, " must be ", input.outputs[0], "; got ",
         inputs[i]->type(), ".");
  }
  for (const Update& update : graph_.updates) {
    require(!inputs[static_cast<std::size_t>(update.input)]->storage()->is_read_only(), "compiled",
            "an array that maps a file must not be written.");
  }
}

std::vector<ArrayPtr> Plan::run(std::span<const ArrayPtr> inputs, const Packs& packs) const {
  check_inputs(inputs);
  std::vector<ArrayPtr> outputs;
  outputs.reserve(graph_.outputs.size());
  for (const Value output : graph_.outputs) outputs.push_back(Array::empty(graph_.type(output)));
  run_into(inputs, outputs, packs);
  return outputs;
}

void Plan::run_into(std::span<const ArrayPtr> inputs, std::span<const ArrayPtr> outputs,
                    const Packs& packs) const {
  Run run{*this, inputs, packs, outputs, nullptr, {}, {}};
  std::shared_ptr<Storage> arena = take_arena();
  run.arena = arena->data();
  if (PlanProfile* profile = PlanProfile::current()) {
    run_timed(run, *profile);
  } else {
    for (const Step& step : steps_) run_step(step, run);
    run_copies(run);
  }
  give_back_arena(std::move(arena));
  for (const Update& update : graph_.updates)
    inputs[static_cast<std::size_t>(update.input)]->storage()->touch();
}

void Plan::run_step(const Step& step, Run& run) const {
  run.reads.clear();
  run.writes.clear();
  for (const Home& home : step.inputs) run.reads.push_back(run.address(home));
  for (const Home& home : step.outputs) run.writes.push_back(run.address(home));
  std::byte* scratch = run.arena + scratch_offset_;
  for (const PackedInput& packed : step.packed) {
    const void*& read = run.reads[packed.input];
    if (constant_packs_[packed.slot]) {
      read = constant_packs_[packed.slot]->data();
    } else if (packed.slot < run.packs.size() && run.packs[packed.slot]) {
      read = run.packs[packed.slot]->data();
    } else {
      step.kernel->pack(packed.input, read, scratch + packed.offset);
      read = scratch + packed.offset;
    }
  }
  step.kernel->run(run.reads, run.writes, scratch);
}

void Plan::run_timed(Run& run, PlanProfile& profile) const {
  PlanProfile::Entry& entry = profile.entry(*this);
  const double start = seconds();
  double last = start;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    run_step(steps_[i], run);
    const double now = seconds();
    entry.best[i] = std::min(entry.best[i], now - last);
    entry.total[i] += now - last;
    last = now;
  }
  run_copies(run);
  const double end = seconds();
  entry.total_copies += end - last;
  entry.total_run += end - start;
  ++entry.runs;
}

Plan::Packs Plan::pack(std::span<const ArrayPtr> inputs, const std::vector<bool>& frozen) const {
  Packs packs(constant_packs_.size());
  for (const Step& step : steps_) {
    for (const PackedInput& packed : step.packed) {
      const Home& home = step.inputs[packed.input];
      if (home.place != Place::input || home.index >= frozen.size() || !frozen[home.index]) continue;
      packs[packed.slot] = Storage::allocate(step.kernel->packed_bytes(packed.input));
      step.kernel->pack(packed.input, inputs[home.index]->data(), packs[packed.slot]->data());
    }
  }
  return packs;
}

void Plan::run_copies(const Run& run) const {
  const auto bytes_of = [&](const MemoryPlan::Copy& copy) { return graph_.type(copy.from).bytes(); };
  const auto home_of = [&](Value value) {
    return memory_.homes[static_cast<std::size_t>(value.node)][static_cast<std::size_t>(value.output)];
  };
  // An update may read what another update overwrites (a swap): those are read before any is written.
  std::vector<std::pair<const MemoryPlan::Copy*, std::vector<std::byte>>> staged;
  for (const MemoryPlan::Copy& copy : memory_.copies) {
    if (copy.to.place != Place::update || home_of(copy.from).place != Place::input) continue;
    const std::byte* from = run.address(home_of(copy.from));
    staged.emplace_back(&copy, std::vector<std::byte>(from, from + bytes_of(copy)));
  }
  for (const MemoryPlan::Copy& copy : memory_.copies) {
    const bool waits =
        std::any_of(staged.begin(), staged.end(), [&](const auto& entry) { return entry.first == &copy; });
    if (waits || bytes_of(copy) == 0) continue;
    std::memmove(run.address(copy.to), run.address(home_of(copy.from)), bytes_of(copy));
  }
  for (const auto& [copy, bytes] : staged) {
    if (!bytes.empty()) std::memcpy(run.address(copy->to), bytes.data(), bytes.size());
  }
}

std::string Plan::describe_steps() const {
  std::ostringstream stream;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const Node& node = graph_.nodes[static_cast<std::size_t>(steps_[i].node)];
    stream << i << "  " << steps_[i].kernel->describe() << "  ->";
    for (std::size_t output = 0; output < node.outputs.size(); ++output) {
      const Home& home = steps_[i].outputs[output];
      stream << " " << node.outputs[output] << " @" << name_of(home.place) << ":" << home.index;
    }
    stream << "\n";
  }
  return stream.str();
}

std::string Plan::describe_memory() const {
  std::size_t sum = 0;
  for (const Step& step : steps_) {
    const Node& node = graph_.nodes[static_cast<std::size_t>(step.node)];
    for (std::size_t output = 0; output < node.outputs.size(); ++output) {
      if (step.outputs[output].place == Place::arena) sum += node.outputs[output].bytes();
    }
  }
  return text("arena ", arena_bytes_, " bytes (", arena_bytes_ - scratch_offset_, " of scratch) for ", sum,
              " bytes of intermediate values, ", memory_.copies.size(), " copies at the end\n");
}

}  // namespace mxpipe
