// rows: finds graphs that compute every row (index of the first axis) by itself, as networks mostly do in
// inference, and cuts them down to a block of rows whose intermediate values stay in a cache. A dense network
// of two layers of 256 over 100,000 rows otherwise writes and reads 400 MB: longer than it multiplies. Of
// images the values become smaller from layer to layer and the weights larger, so there are stages, each with
// more images a block than the one before.
#include <algorithm>
#include <cstdlib>
#include <map>

#include "ops/registry.hpp"
#include "passes/passes.hpp"
#include "passes/rewriter.hpp"

namespace mxpipe {
namespace {

constexpr std::int64_t kBlockBytes = 512 << 10;  // half of a common L2: weights and packs need the rest
constexpr std::int64_t kFewestRows = 64;         // fewer would make matrix products inefficient
constexpr std::int64_t kFewestBlocks = 8;        // else there is nothing to gain
// Operands and results of a layer over a block of images: half of a common L3.
constexpr std::int64_t kImageBlockBytes = 16 << 20;

bool is_convolution(const Node& node) { return is_op(node, "convolution"); }

class RowSplitter {
 public:
  RowSplitter(const Graph& graph, const std::vector<bool>& captured)
      : graph_(graph), captured_(captured), by_row_(graph.nodes.size()), block_(graph.nodes.size()) {}

  std::optional<RowBlocks> split() {
    if (!graph_.updates.empty() || !find_rows() || !all_by_row()) return std::nullopt;
    const bool images = std::any_of(graph_.nodes.begin(), graph_.nodes.end(), is_convolution);
    if (!(images ? choose_image_blocks() : choose_row_blocks())) return std::nullopt;
    return make_stages(!images);
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
      products_ += node.op->by_row ? 1 : 0;
    }
    return std::all_of(graph_.outputs.begin(), graph_.outputs.end(), [&](Value output) {
      return is_by_row(output) && graph_.node(output).kind == NodeKind::op && has_rows(graph_.type(output));
    });
  }

  // Whether row i of the results is made of row i of what has rows, and of what has none.
  bool keeps_rows(const Node& node) const {
    if (!node.op || node.op->random || node.program) return false;
    for (const TensorType& type : node.outputs) {
      if (!has_rows(type)) return false;
    }
    if (node.op->lower) return is_aligned(node);
    if (is_op(node, "transpose")) return node.attributes.integers("axes").front() == 0;
    if (node.op->view) return has_rows(graph_.type(node.inputs[0]));
    return node.op->by_row && reads_rows_of_images_or_first(node);
  }

  bool is_aligned(const Node& node) const {
    const int rank = node.outputs[0].shape.rank();
    return std::all_of(node.inputs.begin(), node.inputs.end(), [&](Value input) {
      const Shape& shape = graph_.type(input).shape;
      return is_by_row(input) ? shape.rank() == rank : shape.rank() < rank || shape[0] == 1;
    });
  }

  bool reads_rows_of_images_or_first(const Node& node) const {
    const std::vector<int>& images = node.op->images;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const bool wanted =
          i == 0 || std::find(images.begin(), images.end(), static_cast<int>(i)) != images.end();
      if (is_by_row(node.inputs[i]) != wanted) return false;
    }
    const Shape& shape = graph_.type(node.inputs[0]).shape;
    if (shape.rank() < 2) return false;
    const Attribute* axis = node.attributes.find("axis");
    if (!axis) return true;
    const auto* place = std::get_if<std::int64_t>(axis);
    return place && *place != 0 && *place != -shape.rank();
  }

  // Of operands and results together; a view has none.
  std::int64_t bytes_a_row(const Node& node) const {
    if (node.kind != NodeKind::op || node.op->view) return 0;
    std::int64_t bytes = 0;
    for (const TensorType& type : node.outputs) bytes += static_cast<std::int64_t>(type.bytes()) / rows_;
    for (const Value input : node.inputs) {
      if (is_by_row(input)) bytes += static_cast<std::int64_t>(graph_.type(input).bytes()) / rows_;
    }
    return bytes;
  }

  bool choose_row_blocks() {
    std::int64_t bytes = 1;
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (by_row_[i]) bytes = std::max(bytes, bytes_a_row(graph_.nodes[i]));
    }
    const std::int64_t block = std::max(kBlockBytes / bytes / kFewestRows * kFewestRows, kFewestRows);
    std::fill(block_.begin(), block_.end(), block);
    // One layer reads its input and writes its result whatever the blocks: there must be one between.
    return products_ >= 2 && rows_ >= block * kFewestBlocks;
  }

  // Powers of two that grow along the graph: what a layer allows, and every layer behind it.
  bool choose_image_blocks() {
    std::int64_t block = rows_;
    for (std::size_t i = graph_.nodes.size(); i-- > 0;) {
      const std::int64_t bytes = by_row_[i] ? bytes_a_row(graph_.nodes[i]) : 0;
      std::int64_t most = 1;
      while (2 * most * bytes <= kImageBlockBytes && most < rows_) most *= 2;
      block_[i] = block = std::min(block, most);
    }
    return block < rows_;
  }

  RowBlocks make_stages(bool across_threads) const {
    RowBlocks result;
    result.rows = rows_;
    result.across_threads = across_threads;
    std::vector<Value> results;  // of the stages so far
    for (const std::int64_t block : blocks_in_order()) {
      const std::vector<Value> made = results_of(block);
      result.stages.push_back(make_stage(block, results, made));
      results.insert(results.end(), made.begin(), made.end());
    }
    for (const Value output : graph_.outputs) {
      const auto found = std::find(results.begin(), results.end(), output);
      result.outputs.push_back(static_cast<std::size_t>(found - results.begin()));
    }
    return result;
  }

  // A stage is what has the same block.
  std::vector<std::int64_t> blocks_in_order() const {
    std::vector<std::int64_t> result;
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      const bool computes = by_row_[i] && graph_.nodes[i].kind == NodeKind::op;
      if (computes && (result.empty() || result.back() != block_[i])) result.push_back(block_[i]);
    }
    return result;
  }

  std::int64_t block_of(Value value) const { return block_[static_cast<std::size_t>(value.node)]; }

  // Whether the stage with that block reads it.
  bool is_read(Value value, std::int64_t block) const {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      const std::vector<Value>& inputs = graph_.nodes[i].inputs;
      const bool reads = by_row_[i] && block_[i] == block;
      if (reads && std::find(inputs.begin(), inputs.end(), value) != inputs.end()) return true;
    }
    return false;
  }

  // What later stages and the caller read of the stage with that block.
  std::vector<Value> results_of(std::int64_t block) const {
    std::vector<Value> results;
    const auto need = [&](Value value) {
      const bool is_made =
          is_by_row(value) && graph_.node(value).kind == NodeKind::op && block_of(value) == block;
      if (is_made && std::find(results.begin(), results.end(), value) == results.end())
        results.push_back(value);
    };
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (!by_row_[i] || block_[i] == block) continue;
      for (const Value input : graph_.nodes[i].inputs) need(input);
    }
    for (const Value output : graph_.outputs) need(output);
    return results;
  }

  RowStage make_stage(std::int64_t block, const std::vector<Value>& before,
                      const std::vector<Value>& results) const {
    RowStage stage{{}, {}, {}, block};
    std::map<Value, Value> values;
    const auto add_input = [&](Value old, const std::string& name) {
      TensorType type = graph_.type(old);
      if (is_by_row(old)) type.shape[0] = block;
      values[old] = stage.graph.add_input(type, name);
      stage.split.push_back(is_by_row(old));
    };
    for (const std::int32_t input : graph_.inputs)
      add_input({input, 0}, graph_.nodes[static_cast<std::size_t>(input)].name);
    for (std::size_t i = 0; i < before.size(); ++i) {
      if (!is_read(before[i], block)) continue;
      add_input(before[i], "stage");
      stage.reads.push_back(i);
    }
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (graph_.nodes[i].kind == NodeKind::input || (by_row_[i] && block_[i] != block)) continue;
      Node node = graph_.nodes[i];
      if (by_row_[i]) shorten(node, block);
      for (Value& input : node.inputs) input = values.at(input);
      const auto outputs = static_cast<std::int32_t>(node.outputs.size());
      const Value fresh = stage.graph.add_op(std::move(node));
      for (std::int32_t output = 0; output < outputs; ++output)
        values[{static_cast<std::int32_t>(i), output}] = {fresh.node, output};
    }
    for (const Value value : results) stage.graph.outputs.push_back(values.at(value));
    stage.graph = drop_dead(stage.graph);
    return stage;
  }

  static void shorten(Node& node, std::int64_t block) {
    for (TensorType& type : node.outputs) type.shape[0] = block;
    if (!node.attributes.find("shape")) return;
    Integers shape = node.attributes.integers("shape");
    shape.front() = block;
    node.attributes.set("shape", shape);
  }

  const Graph& graph_;
  const std::vector<bool>& captured_;
  std::vector<bool> by_row_;         // one a node
  std::vector<std::int64_t> block_;  // one a node: rows that are computed at a time
  std::int64_t rows_ = 0;
  int products_ = 0;
};

}  // namespace

std::optional<RowBlocks> split_rows(const Graph& graph, const std::vector<bool>& captured) {
  return RowSplitter(graph, captured).split();
}

}  // namespace mxpipe
