#include "exec/row_blocks.hpp"

#include "exec/plan_report.hpp"
#include "kernels/parallel.hpp"

namespace mxpipe {
namespace {

// Rows [first, first + type.shape[0]) of an array.
ArrayPtr rows_of(const Array& array, const TensorType& type, std::int64_t first) {
  const std::size_t row = type.bytes() / static_cast<std::size_t>(type.shape[0]);
  return Array::wrap(type, array.storage(), array.offset() + row * static_cast<std::size_t>(first));
}

}  // namespace

std::vector<ArrayPtr> run_row_blocks(const Plan& block, const RowBlocks& blocks,
                                     std::span<const ArrayPtr> inputs, const Plan::Packs& packs) {
  const Graph& graph = block.graph();
  std::vector<ArrayPtr> outputs;
  for (const Value output : graph.outputs) {
    TensorType type = graph.type(output);
    type.shape[0] = blocks.rows;
    outputs.push_back(Array::empty(type));
  }
  const auto run_block = [&](std::int64_t first) {
    std::vector<ArrayPtr> reads(inputs.begin(), inputs.end());
    std::vector<ArrayPtr> writes;
    for (std::size_t i = 0; i < blocks.split.size(); ++i) {
      if (!blocks.split[i]) continue;
      reads[i] =
          rows_of(*inputs[i], graph.nodes[static_cast<std::size_t>(graph.inputs[i])].outputs[0], first);
    }
    for (std::size_t i = 0; i < outputs.size(); ++i)
      writes.push_back(rows_of(*outputs[i], graph.type(graph.outputs[i]), first));
    block.run_into(reads, writes, packs);
  };
  const std::int64_t whole = blocks.rows / blocks.block;
  if (PlanProfile::current()) {  // a profile is of one thread
    for (std::int64_t i = 0; i < whole; ++i) run_block(i * blocks.block);
  } else {
    parallel_for(whole, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) run_block(i * blocks.block);
    });
  }
  // The last block ends with the last row. Rows that it shares with the one before come out as they were.
  if (blocks.rows % blocks.block != 0) run_block(blocks.rows - blocks.block);
  return outputs;
}

}  // namespace mxpipe
