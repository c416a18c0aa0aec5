// Convolutions of channels-first images: moved to channels-last, computed there and moved back. The layout
// pass does the same once for a whole graph, so that eager calls and plans give the same bytes. Bytes: each
// image twice more than the convolution itself.
#include <algorithm>
#include <array>

#include "graph/error.hpp"
#include "kernels/kernel.hpp"

namespace mxpipe {
namespace {

constexpr std::size_t align(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

Shape reordered(const Shape& shape, const Integers& axes) {
  Shape result;
  for (const std::int64_t axis : axes) result.push_back(shape[static_cast<int>(axis)]);
  return result;
}

class ChannelsFirstKernel final : public Kernel {
 public:
  // Bit i of `images` and `results`: input or output i has the image's axes.
  ChannelsFirstKernel(const KernelRequest& request, unsigned images, unsigned results) {
    const int rank = request.inputs[0].shape.rank();
    Integers to_last{0}, to_first{0, rank - 1};
    for (int axis = 2; axis < rank; ++axis) {
      to_last.push_back(axis);
      to_first.push_back(axis - 1);
    }
    to_last.push_back(1);
    Attributes attributes = request.attributes;
    std::string layout = attributes.string("layout");
    layout.erase(1, 1);
    attributes.set("layout", layout + "C");
    std::vector<TensorType> inputs(request.inputs.begin(), request.inputs.end());
    std::vector<TensorType> outputs(request.outputs.begin(), request.outputs.end());
    before_ = moves(inputs, images, to_last, true);
    after_ = moves(outputs, results, to_first, false);
    inner_ = make_kernel({request.op, attributes, inputs, outputs, nullptr});
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs,
           void* scratch) const override {
    auto* memory = static_cast<std::byte*>(scratch);
    std::vector<const void*> reads(inputs.begin(), inputs.end());
    std::vector<void*> writes(outputs.begin(), outputs.end());
    for (const Move& move : before_) {
      void* const moved = memory + move.offset;
      move.kernel->run(std::array<const void*, 1>{inputs[move.index]}, std::array<void*, 1>{moved},
                       memory + bytes_);
      reads[move.index] = moved;
    }
    for (const Move& move : after_) writes[move.index] = memory + move.offset;
    inner_->run(reads, writes, memory + bytes_);
    for (const Move& move : after_) {
      move.kernel->run(std::array<const void*, 1>{writes[move.index]},
                       std::array<void*, 1>{outputs[move.index]}, memory + bytes_);
    }
  }

  std::size_t scratch_bytes() const override {
    std::size_t inner = inner_->scratch_bytes();
    for (const auto* list : {&before_, &after_}) {
      for (const Move& move : *list) inner = std::max(inner, move.kernel->scratch_bytes());
    }
    return bytes_ + inner;
  }
  std::size_t packed_bytes(std::size_t input) const override {
    return is_moved(input) ? 0 : inner_->packed_bytes(input);
  }
  void pack(std::size_t input, const void* raw, void* packed) const override {
    inner_->pack(input, raw, packed);
  }
  std::string describe() const override { return "channels-first " + inner_->describe(); }

 private:
  struct Move {
    std::size_t index;   // of the input or output
    std::size_t offset;  // of its channels-last form, in scratch
    std::unique_ptr<Kernel> kernel;
  };

  // Gives the marked types their channels-last shape, and what moves them there or from there.
  std::vector<Move> moves(std::vector<TensorType>& types, unsigned marks, const Integers& axes, bool enters) {
    std::vector<Move> result;
    for (std::size_t i = 0; i < types.size(); ++i) {
      if ((marks >> i & 1U) == 0) continue;
      const TensorType first = types[i];
      Integers to_last = axes;
      if (!enters) {  // the axes of the way back, inverted
        for (std::size_t axis = 0; axis < axes.size(); ++axis)
          to_last[static_cast<std::size_t>(axes[axis])] = static_cast<std::int64_t>(axis);
      }
      types[i].shape = reordered(first.shape, to_last);
      const Attributes attributes{{"axes", axes}};
      const TensorType& from = enters ? first : types[i];
      const TensorType& to = enters ? types[i] : first;
      result.push_back(
          {i, bytes_,
           make_kernel({"transpose", attributes, std::span(&from, 1), std::span(&to, 1), nullptr})});
      bytes_ += align(first.bytes());
    }
    return result;
  }

  bool is_moved(std::size_t input) const {
    return std::any_of(before_.begin(), before_.end(), [&](const Move& move) { return move.index == input; });
  }

  std::size_t bytes_ = 0;
  std::vector<Move> before_, after_;
  std::unique_ptr<Kernel> inner_;
};

template <unsigned images, unsigned results>
std::unique_ptr<Kernel> make_channels_first(const KernelRequest& request) {
  if (request.attributes.string("layout")[1] != 'C') return nullptr;
  for (const TensorType& type : request.outputs) {
    if (type.size() == 0) return nullptr;
  }
  return std::make_unique<ChannelsFirstKernel>(request, images, results);
}

constexpr int kBeforeAll = 300;  // what it makes is a kernel of another layout
constexpr auto kForward = make_channels_first<0b1001, 1>;
constexpr auto kBackwardData = make_channels_first<0b1, 1>;
constexpr auto kBackwardWeights = make_channels_first<0b11, 0>;
MXPIPE_KERNEL("convolution", kBeforeAll, kForward);
MXPIPE_KERNEL("convolution_backward_data", kBeforeAll, kBackwardData);
MXPIPE_KERNEL("convolution_backward_weights", kBeforeAll, kBackwardWeights);

}  // namespace
}  // namespace mxpipe
