// A plan for a block of rows, run over all of them. Who calls: Compiled, where passes/rows found that rows do
// not depend on each other.
#pragma once

#include "exec/plan.hpp"

namespace mxpipe {

// Threads take whole blocks, so that nothing waits between the steps of one. Blocks depend on the number of
// rows only, and so do the results.
std::vector<ArrayPtr> run_row_blocks(const Plan& block, const RowBlocks& blocks,
                                     std::span<const ArrayPtr> inputs, const Plan::Packs& packs);

}  // namespace mxpipe
