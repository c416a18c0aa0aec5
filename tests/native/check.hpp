// A test is a function; TEST registers it, main.cpp runs all.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "graph/error.hpp"
#include "kernels/kernel.hpp"

namespace mxpipe::test {

struct Test {
  const char* name;
  void (*function)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}
inline int& failures() {
  static int count = 0;
  return count;
}

struct Registration {
  Registration(const char* name, void (*function)()) { tests().push_back({name, function}); }
};

#define TEST(name)                                                            \
  static void name();                                                         \
  static const ::mxpipe::test::Registration registration_##name(#name, name); \
  static void name()

#define CHECK(condition, ...)                                               \
  do {                                                                      \
    if (!(condition)) {                                                     \
      if (++::mxpipe::test::failures() < 50) {                              \
        std::printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #condition,      \
                    ::mxpipe::text("" __VA_OPT__(, ) __VA_ARGS__).c_str()); \
      }                                                                     \
    }                                                                       \
  } while (false)

// An array with a guard behind it: a kernel that writes past the end is found.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes) : bytes_(bytes), memory_(bytes + kGuard, std::byte{0xA5}) {}

  void* data() { return memory_.data(); }
  const void* data() const { return memory_.data(); }
  bool intact() const {
    for (std::size_t i = bytes_; i < memory_.size(); ++i) {
      if (memory_[i] != std::byte{0xA5}) return false;
    }
    return true;
  }
  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(memory_.data());
  }

 private:
  static constexpr std::size_t kGuard = 128;
  std::size_t bytes_;
  std::vector<std::byte> memory_;
};

struct Tensor {
  TensorType type;
  std::shared_ptr<Buffer> buffer;

  explicit Tensor(TensorType tensor_type)
      : type(tensor_type), buffer(std::make_shared<Buffer>(tensor_type.bytes())) {}
  template <typename T>
  Tensor(TensorType tensor_type, const std::vector<T>& values) : Tensor(tensor_type) {
    if (!values.empty()) std::memcpy(buffer->data(), values.data(), values.size() * sizeof(T));
  }
  template <typename T>
  std::span<T> values() const {
    return {buffer->as<T>(), static_cast<std::size_t>(type.size())};
  }
};

inline Tensor floats(const Shape& shape, const std::vector<float>& values) {
  return Tensor({DType::float32, shape}, values);
}

inline std::mt19937_64& generator() {
  static std::mt19937_64 generator(42);
  return generator;
}

inline Tensor random_floats(const Shape& shape, float low = -2.0F, float high = 2.0F) {
  std::uniform_real_distribution<float> distribution(low, high);
  std::vector<float> values(static_cast<std::size_t>(shape.size()));
  for (float& value : values) value = distribution(generator());
  return floats(shape, values);
}

inline Tensor random_integers(DType dtype, const Shape& shape, std::int64_t low, std::int64_t high) {
  std::uniform_int_distribution<std::int64_t> distribution(low, high);
  Tensor tensor({dtype, shape});
  for (std::int64_t i = 0; i < shape.size(); ++i) {
    const std::int64_t value = distribution(generator());
    if (dtype == DType::int64) {
      tensor.values<std::int64_t>()[static_cast<std::size_t>(i)] = value;
    } else {
      tensor.values<std::int32_t>()[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(value);
    }
  }
  return tensor;
}

// Makes the kernel, gives it scratch with a guard, runs it once, checks all guards.
inline std::vector<Tensor> run_kernel(std::string_view op, const Attributes& attributes,
                                      const std::vector<Tensor>& inputs,
                                      const std::vector<TensorType>& outputs,
                                      const std::shared_ptr<const Program>& program = nullptr) {
  std::vector<TensorType> types;
  std::vector<const void*> sources;
  for (const Tensor& input : inputs) {
    types.push_back(input.type);
    sources.push_back(input.buffer->data());
  }
  const std::unique_ptr<Kernel> kernel = make_kernel({op, attributes, types, outputs, program});
  std::vector<Tensor> results;
  std::vector<void*> destinations;
  for (const TensorType& type : outputs) {
    results.emplace_back(type);
    destinations.push_back(results.back().buffer->data());
  }
  Buffer scratch(packing_scratch_bytes(*kernel, sources.size()) + 64);
  const auto address = reinterpret_cast<std::uintptr_t>(scratch.data());
  pack_and_run(*kernel, sources, destinations,
               static_cast<std::byte*>(scratch.data()) + (64 - address % 64) % 64);
  CHECK(scratch.intact(), op, " overran its scratch");
  for (const Tensor& result : results) CHECK(result.buffer->intact(), op, " overran its output");
  for (const Tensor& input : inputs) CHECK(input.buffer->intact(), op, " overran its input");
  return results;
}

inline void check_close(std::span<const float> got, std::span<const float> expected, double relative,
                        double absolute, std::string_view what) {
  CHECK(got.size() == expected.size(), what);
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double g = got[i], e = expected[i];
    const bool same = (std::isnan(g) && std::isnan(e)) || g == e;
    CHECK(same || std::abs(g - e) <= absolute + relative * std::abs(e), what, " at ", i, ": got ", g,
          ", expected ", e);
  }
}

}  // namespace mxpipe::test
