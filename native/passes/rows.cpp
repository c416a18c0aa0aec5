// rows: finds graphs that compute every row (index of the first axis) by itself, as dense networks do in
// inference, and cuts them down to a block of rows whose intermediate values stay in a core's L2 cache. A
// network of two layers of 256 over 100,000 rows otherwise writes and reads 400 MB: longer than it
// multiplies.
#include <algorithm>
#include <cstdlib>

#include "ops/registry.hpp"
#include "passes/passes.hpp"

namespace mxpipe {
namespace {

constexpr std::int64_t kBlockBytes = 512 << 10;  // half of a common L2: weights and packs need the rest
constexpr std::int64_t kFewestRows = 64;         // fewer would make matrix products inefficient
constexpr std::int64_t kFewestBlocks = 8;        // else there is nothing to gain

class RowSplitter {
 public:
  RowSplitter(const Graph& graph, const std::vector<bool>& captured)
      : graph_(graph), captured_(captured), by_row_(graph.nodes.size()) {}

  std::optional<RowBlocks> split() {
    if (!graph_.updates.empty() || !find_rows() || !all_by_row()) return std::nullopt;
    const std::int64_t most = kBlockBytes / std::max<std::int64_t>(bytes_a_row_, 1);
    const std::int64_t block = std::max(most / kFewestRows * kFewestRows, kFewestRows);
    // One layer reads its input and writes its result whatever the blocks: there must be one between.
    if (products_ < 2 || rows_ < block * kFewestBlocks) return std::nullopt;
    return shorten(block);
  }

 private:
  bool has_rows(const TensorType& type) const { return type.shape.rank() > 0 && type.shape[0] == rows_; }
  bool is_by_row(Value value) const { return by_row_[static_cast<std::size_t>(value.node)]; }

  bool find_rows() {
    for (std::size_t i = 0; i < graph_.inputs.size(); ++i) {
      if (captured_[i]) continue;
      const auto node = static_cast<std::size_t>(graph_.inputs[i]);
      const TensorType& type = graph_.nodes[node].outputs[0];
      if (type.shape.rank() == 0) return false;
      if (rows_ == 0) rows_ = type.shape[0];
      if (!has_rows(type)) return false;
      by_row_[node] = true;
    }
    return rows_ > 0;
  }

  bool all_by_row() {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      const auto by_row = [&](Value input) { return is_by_row(input); };
      if (node.kind != NodeKind::op || std::none_of(node.inputs.begin(), node.inputs.end(), by_row)) continue;
      if (!keeps_rows(node)) return false;
      by_row_[i] = true;
      count_bytes(node);
      products_ += node.op->by_row ? 1 : 0;
    }
    return std::all_of(graph_.outputs.begin(), graph_.outputs.end(),
                       [&](Value output) { return is_by_row(output) && has_rows(graph_.type(output)); });
  }

  // Whether row i of the results is made of row i of what has rows, and of what has none.
  bool keeps_rows(const Node& node) const {
    if (!node.op || node.op->random || node.program) return false;
    for (const TensorType& type : node.outputs) {
      if (!has_rows(type)) return false;
    }
    return node.op->lower ? is_aligned(node) : node.op->by_row && reads_rows_of_first(node);
  }

  bool is_aligned(const Node& node) const {
    const int rank = node.outputs[0].shape.rank();
    return std::all_of(node.inputs.begin(), node.inputs.end(), [&](Value input) {
      const Shape& shape = graph_.type(input).shape;
      return is_by_row(input) ? shape.rank() == rank : shape.rank() < rank || shape[0] == 1;
    });
  }

  bool reads_rows_of_first(const Node& node) const {
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (is_by_row(node.inputs[i]) != (i == 0)) return false;
    }
    const Shape& shape = graph_.type(node.inputs[0]).shape;
    if (shape.rank() < 2) return false;
    const Attribute* axis = node.attributes.find("axis");
    if (!axis) return true;
    const auto* place = std::get_if<std::int64_t>(axis);
    return place && *place != 0 && *place != -shape.rank();
  }

  void count_bytes(const Node& node) {
    std::int64_t bytes = 0;
    for (const TensorType& type : node.outputs) bytes += static_cast<std::int64_t>(type.bytes()) / rows_;
    for (const Value input : node.inputs) {
      if (is_by_row(input)) bytes += static_cast<std::int64_t>(graph_.type(input).bytes()) / rows_;
    }
    bytes_a_row_ = std::max(bytes_a_row_, bytes);
  }

  RowBlocks shorten(std::int64_t block) const {
    RowBlocks result{graph_, {}, rows_, block};
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (!by_row_[i]) continue;
      for (TensorType& type : result.graph.nodes[i].outputs) type.shape[0] = block;
    }
    for (const std::int32_t input : graph_.inputs)
      result.split.push_back(by_row_[static_cast<std::size_t>(input)]);
    return result;
  }

  const Graph& graph_;
  const std::vector<bool>& captured_;
  std::vector<bool> by_row_;  // one a node
  std::int64_t rows_ = 0;
  std::int64_t bytes_a_row_ = 0;
  int products_ = 0;
};

}  // namespace

std::optional<RowBlocks> split_rows(const Graph& graph, const std::vector<bool>& captured) {
  return RowSplitter(graph, captured).split();
}

}  // namespace mxpipe
