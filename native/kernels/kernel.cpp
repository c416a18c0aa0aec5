#include "kernels/kernel.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "graph/error.hpp"

namespace mxpipe {
namespace {

struct Entry {
  int priority;
  KernelFactory factory;
};

// Filled by static objects before main; read-only afterwards.
std::map<std::string, std::vector<Entry>, std::less<>>& registry() {
  static std::map<std::string, std::vector<Entry>, std::less<>> entries;
  return entries;
}

std::string list(std::span<const TensorType> types) {
  std::string line;
  for (const TensorType& type : types) line += (line.empty() ? "" : ", ") + text(type);
  return line;
}

constexpr std::size_t align(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

std::size_t packing_scratch_bytes(const Kernel& kernel, std::size_t inputs) {
  std::size_t bytes = kernel.scratch_bytes();
  for (std::size_t i = 0; i < inputs; ++i) {
    if (const std::size_t packed = kernel.packed_bytes(i)) bytes = align(bytes) + packed;
  }
  return bytes;
}

void pack_and_run(const Kernel& kernel, std::span<const void*> inputs, std::span<void* const> outputs,
                  void* scratch) {
  std::size_t bytes = kernel.scratch_bytes();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const std::size_t packed = kernel.packed_bytes(i);
    if (packed == 0) continue;
    void* const place = static_cast<std::byte*>(scratch) + align(bytes);
    kernel.pack(i, inputs[i], place);
    inputs[i] = place;
    bytes = align(bytes) + packed;
  }
  kernel.run(inputs, outputs, scratch);
}

KernelRegistration::KernelRegistration(std::string op, int priority, KernelFactory factory) {
  std::vector<Entry>& entries = registry()[std::move(op)];
  const auto lower = [&](const Entry& entry) { return entry.priority < priority; };
  entries.insert(std::find_if(entries.begin(), entries.end(), lower), Entry{priority, std::move(factory)});
}

std::unique_ptr<Kernel> make_kernel(const KernelRequest& request) {
  const auto found = registry().find(request.op);
  if (found != registry().end()) {
    for (const Entry& entry : found->second) {
      if (std::unique_ptr<Kernel> kernel = entry.factory(request)) return kernel;
    }
  }
  fail(ErrorKind::op, request.op, "a kernel must exist for the inputs' types; got (", list(request.inputs),
       ") -> (", list(request.outputs), ").");
}

std::vector<std::string> ops_with_kernels() {
  std::vector<std::string> names;
  for (const auto& [name, entries] : registry()) names.push_back(name);
  return names;
}

}  // namespace mxpipe
