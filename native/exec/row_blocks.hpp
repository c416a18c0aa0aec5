// Plans for blocks of rows, run over all of them. Who calls: Compiled, where passes/rows found that rows do
// not depend on each other.
#pragma once

#include "exec/plan.hpp"

namespace mxpipe {

// `plans` and `packs`: one a stage. Blocks depend on the number of rows only, and so do the results.
std::vector<ArrayPtr> run_row_blocks(std::span<const std::unique_ptr<Plan>> plans, const RowBlocks& blocks,
                                     std::span<const ArrayPtr> inputs, std::span<const Plan::Packs> packs);

// The stages' reports as that of one plan: what a stage leaves to the next ones lies behind their arenas.
PlanReport join_reports(std::span<const std::unique_ptr<Plan>> plans, const RowBlocks& blocks);

}  // namespace mxpipe
