// Kernels. What enters: an op with its attributes and tensor types, once. What leaves: a prepared kernel that
// runs many times without allocating. Who calls: exec/plan prepares, exec/executor runs.
//
// A kernel family registers factories under an op's name with a priority; the first factory in order of
// falling priority that accepts the request makes the kernel (oneDNN 200, vec 100, portable 0).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/attributes.hpp"
#include "graph/program.hpp"
#include "graph/shape.hpp"

namespace mxpipe {

struct KernelRequest {
  std::string_view op;
  const Attributes& attributes;
  std::span<const TensorType> inputs;
  std::span<const TensorType> outputs;
  std::shared_ptr<const Program> program;  // of op "elementwise" only
  std::uint32_t frozen = 0;                // bit i: input i stays the same from run to run, so packs are kept
};

// Prepared and immutable: several threads may run one kernel at once, each with its own scratch.
class Kernel {
 public:
  virtual ~Kernel() = default;
  // Pointers are 64-byte aligned for whole arrays (views may be aligned to their element only). Zero-size
  // tensors may have null pointers. Throws Error for bad data (an id out of range, say).
  virtual void run(std::span<const void* const> inputs, std::span<void* const> outputs,
                   void* scratch) const = 0;
  virtual std::size_t scratch_bytes() const { return 0; }
  // Where this is not 0, run() wants input `input` in a format of the kernel's own, of so many bytes, which
  // pack() makes. The caller packs once what does not change (weights in inference), else before each run.
  virtual std::size_t packed_bytes(std::size_t /*input*/) const { return 0; }
  virtual void pack(std::size_t /*input*/, const void* /*raw*/, void* /*packed*/) const {}
  virtual std::string describe() const = 0;  // for plan dumps: "onednn matmul f32", "vec avx512 program of 7"
};

// For a caller that keeps no packs: packs what the kernel wants packed into scratch, replacing those pointers
// of `inputs`, and runs it.
std::size_t packing_scratch_bytes(const Kernel& kernel, std::size_t inputs);
void pack_and_run(const Kernel& kernel, std::span<const void*> inputs, std::span<void* const> outputs,
                  void* scratch);

using KernelFactory = std::function<std::unique_ptr<Kernel>(const KernelRequest&)>;  // null: not for me

struct KernelRegistration {
  KernelRegistration(std::string op, int priority, KernelFactory factory);
};

// Throws OperatorError when no kernel takes these types.
std::unique_ptr<Kernel> make_kernel(const KernelRequest& request);
std::vector<std::string> ops_with_kernels();

#define MXPIPE_CONCATENATE_(a, b) a##b
#define MXPIPE_CONCATENATE(a, b) MXPIPE_CONCATENATE_(a, b)
#define MXPIPE_KERNEL(op, priority, factory)                                                       \
  static const ::mxpipe::KernelRegistration MXPIPE_CONCATENATE(kernel_registration_, __COUNTER__)( \
      op, priority, factory)

}  // namespace mxpipe
