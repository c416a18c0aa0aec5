#include "exec/row_blocks.hpp"

#include <algorithm>

#include "exec/plan_report.hpp"
#include "kernels/parallel.hpp"

namespace mxpipe {
namespace {

// Rows [first, first + type.shape[0]) of an array.
ArrayPtr rows_of(const Array& array, const TensorType& type, std::int64_t first) {
  const std::size_t row = type.bytes() / static_cast<std::size_t>(type.shape[0]);
  return Array::wrap(type, array.storage(), array.offset() + row * static_cast<std::size_t>(first));
}

TensorType of_all_rows(TensorType type, const RowBlocks& blocks) {
  type.shape[0] = blocks.rows;
  return type;
}

std::vector<ArrayPtr> run_stage(const Plan& plan, const RowBlocks& blocks, const RowStage& stage,
                                std::span<const ArrayPtr> inputs, const Plan::Packs& packs) {
  const Graph& graph = plan.graph();
  std::vector<ArrayPtr> outputs;
  for (const Value output : graph.outputs)
    outputs.push_back(Array::empty(of_all_rows(graph.type(output), blocks)));
  const auto run_block = [&](std::int64_t first) {
    std::vector<ArrayPtr> reads(inputs.begin(), inputs.end());
    std::vector<ArrayPtr> writes;
    for (std::size_t i = 0; i < stage.split.size(); ++i) {
      if (!stage.split[i]) continue;
      reads[i] =
          rows_of(*inputs[i], graph.nodes[static_cast<std::size_t>(graph.inputs[i])].outputs[0], first);
    }
    for (std::size_t i = 0; i < outputs.size(); ++i)
      writes.push_back(rows_of(*outputs[i], graph.type(graph.outputs[i]), first));
    plan.run_into(reads, writes, packs);
  };
  const std::int64_t whole = blocks.rows / stage.block;
  if (!blocks.across_threads || PlanProfile::current()) {  // a profile is of one thread
    for (std::int64_t i = 0; i < whole; ++i) run_block(i * stage.block);
  } else {
    parallel_for(whole, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) run_block(i * stage.block);
    });
  }
  // The last block ends with the last row. Rows that it shares with the one before come out as they were.
  if (blocks.rows % stage.block != 0) run_block(blocks.rows - stage.block);
  return outputs;
}

// Moves what one stage's plan calls its inputs, outputs and arena to where the joined report has them.
class HomeMover {
 public:
  HomeMover(const RowBlocks& blocks, std::size_t inputs) : blocks_(blocks), inputs_(inputs) {}

  // Before the homes of a stage; `results` have rows.
  void start_stage(const RowStage& stage, std::size_t arena_offset, std::span<const TensorType> results,
                   std::size_t& behind) {
    stage_ = &stage;
    arena_offset_ = arena_offset;
    first_result_ = results_.size();
    for (std::size_t i = 0; i < results.size(); ++i) {
      const auto& outputs = blocks_.outputs;
      const auto found = std::find(outputs.begin(), outputs.end(), results_.size());
      if (found != outputs.end()) {
        results_.push_back({Place::output, static_cast<std::size_t>(found - outputs.begin())});
      } else {
        results_.push_back({Place::arena, behind});
        behind += of_all_rows(results[i], blocks_).bytes();
      }
    }
  }

  Home operator()(Home home) const {
    if (home.place == Place::arena) return {Place::arena, home.index + arena_offset_};
    if (home.place == Place::output) return results_[first_result_ + home.index];
    if (home.place == Place::input && home.index >= inputs_)
      return results_[stage_->reads[home.index - inputs_]];
    return home;
  }

 private:
  const RowBlocks& blocks_;
  const RowStage* stage_ = nullptr;
  std::size_t inputs_, arena_offset_ = 0, first_result_ = 0;
  std::vector<Home> results_;
};

bool is_needed_after(const RowBlocks& blocks, std::size_t stage, std::size_t result) {
  const auto has = [&](const std::vector<std::size_t>& list) {
    return std::find(list.begin(), list.end(), result) != list.end();
  };
  const auto next = blocks.stages.begin() + static_cast<std::ptrdiff_t>(stage) + 1;
  return has(blocks.outputs) ||
         std::any_of(next, blocks.stages.end(), [&](const RowStage& later) { return has(later.reads); });
}

}  // namespace

std::vector<ArrayPtr> run_row_blocks(std::span<const std::unique_ptr<Plan>> plans, const RowBlocks& blocks,
                                     std::span<const ArrayPtr> inputs, std::span<const Plan::Packs> packs) {
  std::vector<ArrayPtr> results;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    std::vector<ArrayPtr> reads(inputs.begin(), inputs.end());
    for (const std::size_t result : blocks.stages[i].reads) reads.push_back(results[result]);
    const std::vector<ArrayPtr> made =
        run_stage(*plans[i], blocks, blocks.stages[i], reads, i < packs.size() ? packs[i] : Plan::Packs());
    results.insert(results.end(), made.begin(), made.end());
    for (std::size_t result = 0; result < results.size(); ++result) {
      if (!is_needed_after(blocks, i, result)) results[result].reset();
    }
  }
  std::vector<ArrayPtr> outputs;
  for (const std::size_t output : blocks.outputs) outputs.push_back(results[output]);
  return outputs;
}

PlanReport join_reports(std::span<const std::unique_ptr<Plan>> plans, const RowBlocks& blocks) {
  std::vector<PlanReport> reports;
  for (const auto& plan : plans) reports.push_back(plan->report());
  PlanReport joined;
  joined.inputs = reports[0].inputs;
  std::size_t behind = 0, offset = 0;
  for (const PlanReport& report : reports) behind += report.arena_bytes - report.scratch_bytes;
  HomeMover moved(blocks, joined.inputs.size());
  for (std::size_t i = 0; i < reports.size(); ++i) {
    PlanReport& report = reports[i];
    moved.start_stage(blocks.stages[i], offset, report.outputs, behind);
    offset += report.arena_bytes - report.scratch_bytes;
    for (PlanReport::Step& step : report.steps) {
      for (PlanReport::Operand& operand : step.inputs) operand.home = moved(operand.home);
      for (PlanReport::Operand& operand : step.outputs) operand.home = moved(operand.home);
      joined.steps.push_back(std::move(step));
    }
    for (const PlanReport::Copy& copy : report.copies)
      joined.copies.push_back({copy.type, moved(copy.from), moved(copy.to)});
    joined.scratch_bytes += report.scratch_bytes;
    joined.constant_bytes += report.constant_bytes;
  }
  joined.arena_bytes = behind + joined.scratch_bytes;
  std::vector<TensorType> results;
  for (const PlanReport& report : reports)
    results.insert(results.end(), report.outputs.begin(), report.outputs.end());
  for (const std::size_t output : blocks.outputs)
    joined.outputs.push_back(of_all_rows(results[output], blocks));
  return joined;
}

}  // namespace mxpipe
