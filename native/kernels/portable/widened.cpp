#include "kernels/portable/widened.hpp"

#include <array>
#include <vector>

#include "graph/error.hpp"
#include "kernels/vec/blocks.hpp"

namespace mxpipe {
namespace {

constexpr std::size_t kMaxArguments = 8;

bool is_half(DType dtype) { return dtype == DType::float16 || dtype == DType::bfloat16; }

// One input or output: where its float32 copy lies in scratch.
struct Argument {
  DType dtype = DType::float32;
  bool half = false;
  std::int64_t size = 0;
  std::size_t offset = 0;
};

class WidenedKernel final : public Kernel {
 public:
  explicit WidenedKernel(const KernelRequest& request) {
    std::vector<TensorType> inputs(request.inputs.begin(), request.inputs.end());
    std::vector<TensorType> outputs(request.outputs.begin(), request.outputs.end());
    for (TensorType& type : inputs) inputs_.push_back(widen(type));
    for (TensorType& type : outputs) outputs_.push_back(widen(type));
    inner_ = make_kernel({request.op, request.attributes, inputs, outputs, nullptr});
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs,
           void* scratch) const override {
    auto* memory = static_cast<std::byte*>(scratch);
    std::array<const void*, kMaxArguments> sources{};
    std::array<void*, kMaxArguments> results{};
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const Argument& argument = inputs_[i];
      sources[i] = inputs[i];
      if (!argument.half) continue;
      load_array(argument.dtype, inputs[i], reinterpret_cast<float*>(memory + argument.offset),
                 argument.size);
      sources[i] = memory + argument.offset;
    }
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      results[i] = outputs_[i].half ? memory + outputs_[i].offset : outputs[i];
    }
    pack_and_run(*inner_, std::span(sources).first(inputs_.size()), std::span(results).first(outputs_.size()),
                 memory + bytes_);
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      const Argument& argument = outputs_[i];
      if (argument.half)
        store_array(argument.dtype, static_cast<const float*>(results[i]), outputs[i], argument.size);
    }
  }

  std::size_t scratch_bytes() const override {
    return bytes_ + packing_scratch_bytes(*inner_, inputs_.size());
  }
  std::string describe() const override { return "widened " + inner_->describe(); }

 private:
  Argument widen(TensorType& type) {
    Argument argument{type.dtype, is_half(type.dtype), type.size(), bytes_};
    if (argument.half) {
      type.dtype = DType::float32;
      bytes_ += (type.bytes() + 63) / 64 * 64;
    }
    return argument;
  }

  std::vector<Argument> inputs_, outputs_;
  std::size_t bytes_ = 0;
  std::unique_ptr<Kernel> inner_;
};

}  // namespace

bool has_half(const KernelRequest& request) {
  for (const std::span<const TensorType> types : {request.inputs, request.outputs}) {
    for (const TensorType& type : types) {
      if (is_half(type.dtype)) return true;
    }
  }
  return false;
}

std::unique_ptr<Kernel> make_widened(const KernelRequest& request) {
  require(request.inputs.size() <= kMaxArguments, request.op, "must have at most 8 inputs; got ",
          request.inputs.size());
  return std::make_unique<WidenedKernel>(request);
}

}  // namespace mxpipe
