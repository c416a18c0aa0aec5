// A oneDNN primitive as kernels call it: without allocating, from several threads at once.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/error.hpp"
#include "kernels/onednn/runtime.hpp"

namespace mxpipe::onednn {

inline dnnl::memory::data_type data_type(DType dtype) {
  switch (dtype) {
    case DType::bfloat16:
      return dnnl::memory::data_type::bf16;
    case DType::uint8:
      return dnnl::memory::data_type::u8;
    case DType::int32:
      return dnnl::memory::data_type::s32;
    default:
      return dnnl::memory::data_type::f32;
  }
}

// Below this many operations (about 40 us of one core) other threads are not worth waking.
constexpr double kSerialOperations = 1e7;

inline int threads_for(double operations) { return operations < kSerialOperations ? 1 : num_threads(); }

class Primitive {
 public:
  static constexpr std::size_t kMostArguments = 6;
  using Arguments = std::vector<std::pair<int, dnnl::memory::desc>>;

  Primitive() = default;
  // `arguments` in the order in which execute() is given their pointers.
  Primitive(const dnnl::primitive& primitive, Arguments arguments)
      : primitive_(primitive), arguments_(std::move(arguments)) {}
  ~Primitive() { delete spare_.load(); }
  Primitive(const Primitive&) = delete;
  Primitive& operator=(const Primitive&) = delete;

  void execute(std::span<const void* const> pointers) const {
    // Calls that overlap in time each have memory objects of their own; one set is kept for the next call.
    std::unique_ptr<Memories> memories(spare_.exchange(nullptr));
    if (!memories) memories = std::make_unique<Memories>(arguments_);
    // oneDNN does not write to sources.
    for (std::size_t i = 0; i < arguments_.size(); ++i) {
      memories->objects[i].set_data_handle(const_cast<void*>(pointers[i]));
    }
    const dnnl_status_t status = dnnl_primitive_execute(
        primitive_.get(), stream().get(), static_cast<int>(arguments_.size()), memories->list.data());
    memories.reset(spare_.exchange(memories.release()));
    if (status != dnnl_success) {
      fail(ErrorKind::internal, "onednn", "a primitive must succeed; got status ", status, ".");
    }
  }

 private:
  // oneDNN's memory objects of one call: made once, given new pointers at every call.
  struct Memories {
    explicit Memories(const Arguments& arguments) {
      for (std::size_t i = 0; i < arguments.size(); ++i) {
        objects[i] = dnnl::memory(arguments[i].second, engine(), nullptr);
        list[i] = {arguments[i].first, objects[i].get()};
      }
    }
    std::array<dnnl::memory, kMostArguments> objects;
    std::array<dnnl_exec_arg_t, kMostArguments> list{};
  };

  dnnl::primitive primitive_;
  Arguments arguments_;
  mutable std::atomic<Memories*> spare_{nullptr};
};

// The reference implementation is a plain loop: bfloat16 on a processor without it, say. Portable kernels do
// better.
inline bool is_reference(const char* implementation) {
  return std::string_view(implementation).starts_with("ref");
}

}  // namespace mxpipe::onednn
