// Between memory of any dtype and the four register types, and from register to register.
// Rounding is to nearest, ties to even; float to integer truncates toward zero; integers wrap.
#include "kernels/vec/simd/functions.hpp"
#include "kernels/vec/simd/half.hpp"

namespace mxpipe::MXPIPE_ISA {
namespace {

using std::int64_t;

// As many lanes as the wider of the two types allows.
template <typename From, typename To>
void convert_block(const BlockCall& call) {
  constexpr int kWider =
      sizeof(From) > sizeof(To) ? static_cast<int>(sizeof(From)) : static_cast<int>(sizeof(To));
  constexpr int kCount = kVectorBytes / kWider;
  const From* source = static_cast<const From*>(call.sources[0]);
  To* destination = static_cast<To*>(call.destination);
  for (int64_t i = 0; i < call.count; i += kCount) {
    const auto values = load<VecN<From, kCount>>(source + i * call.steps[0]);
    store(destination + i, __builtin_convertvector(values, VecN<To, kCount>));
  }
}

// float -> 8 or 16 bit integers, and back, pass through int32; GCC's direct conversions are scalar.
void load_bfloat16(const BlockCall& call) {
  const auto* source = static_cast<const std::uint16_t*>(call.sources[0]);
  float* destination = static_cast<float*>(call.destination);
  for (int64_t i = 0; i < call.count; i += kLanes<float>) {
    store(destination + i, from_bfloat16(load<HalfBits>(source + i * call.steps[0])));
  }
}
void store_bfloat16(const BlockCall& call) {
  const float* source = static_cast<const float*>(call.sources[0]);
  auto* destination = static_cast<std::uint16_t*>(call.destination);
  for (int64_t i = 0; i < call.count; i += kLanes<float>) {
    store(destination + i, to_bfloat16(load<f32>(source + i * call.steps[0])));
  }
}
void load_float16(const BlockCall& call) {
  const auto* source = static_cast<const std::uint16_t*>(call.sources[0]);
  float* destination = static_cast<float*>(call.destination);
  for (int64_t i = 0; i < call.count; i += kLanes<float>) {
    store(destination + i, from_float16(load<HalfBits>(source + i * call.steps[0])));
  }
}
void store_float16(const BlockCall& call) {
  const float* source = static_cast<const float*>(call.sources[0]);
  auto* destination = static_cast<std::uint16_t*>(call.destination);
  for (int64_t i = 0; i < call.count; i += kLanes<float>) {
    store(destination + i, to_float16(load<f32>(source + i * call.steps[0])));
  }
}

// Any value but 0 is true, NaN included.
template <typename T>
void store_boolean(const BlockCall& call) {
  const T* source = static_cast<const T*>(call.sources[0]);
  auto* destination = static_cast<std::uint8_t*>(call.destination);
  for (int64_t i = 0; i < call.count; ++i) destination[i] = source[i * call.steps[0]] != T{};
}

template <typename Rounding>
void round_floats(const BlockCall& call) {
  const float* source = static_cast<const float*>(call.sources[0]);
  float* destination = static_cast<float*>(call.destination);
  for (int64_t i = 0; i < call.count; i += kLanes<float>) {
    store(destination + i, Rounding::apply(load<f32>(source + i * call.steps[0])));
  }
}
struct ToBfloat16 {
  static f32 apply(f32 x) { return from_bfloat16(to_bfloat16(x)); }
};
struct ToFloat16 {
  static f32 apply(f32 x) { return from_float16(to_float16(x)); }
};

template <typename Register, typename Narrow>
void wrap(const BlockCall& call) {
  const Register* source = static_cast<const Register*>(call.sources[0]);
  Register* destination = static_cast<Register*>(call.destination);
  for (int64_t i = 0; i < call.count; ++i) {
    destination[i] = static_cast<Register>(static_cast<Narrow>(source[i * call.steps[0]]));
  }
}

template <typename From>
BlockFunction convert_from(RegisterType to) {
  switch (to) {
    case RegisterType::f32:
      return convert_block<From, float>;
    case RegisterType::f64:
      return convert_block<From, double>;
    case RegisterType::i32:
      return convert_block<From, std::int32_t>;
    case RegisterType::i64:
      return convert_block<From, std::int64_t>;
  }
  return nullptr;
}

}  // namespace

BlockFunction convert(RegisterType from, RegisterType to) {
  switch (from) {
    case RegisterType::f32:
      return convert_from<float>(to);
    case RegisterType::f64:
      return convert_from<double>(to);
    case RegisterType::i32:
      return convert_from<std::int32_t>(to);
    case RegisterType::i64:
      return convert_from<std::int64_t>(to);
  }
  return nullptr;
}

BlockFunction round_to(DType dtype) {
  switch (dtype) {
    case DType::float16:
      return round_floats<ToFloat16>;
    case DType::bfloat16:
      return round_floats<ToBfloat16>;
    case DType::int8:
      return wrap<std::int32_t, std::int8_t>;
    case DType::int16:
      return wrap<std::int32_t, std::int16_t>;
    case DType::uint8:
      return wrap<std::int32_t, std::uint8_t>;
    case DType::uint16:
      return wrap<std::int32_t, std::uint16_t>;
    case DType::uint32:
      return wrap<std::int64_t, std::uint32_t>;
    case DType::boolean:
      return wrap<std::int32_t, bool>;
    default:
      return nullptr;
  }
}

BlockFunction load_function(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return convert_block<float, float>;
    case DType::float64:
      return convert_block<double, double>;
    case DType::float16:
      return load_float16;
    case DType::bfloat16:
      return load_bfloat16;
    case DType::int8:
      return convert_block<std::int8_t, std::int32_t>;
    case DType::int16:
      return convert_block<std::int16_t, std::int32_t>;
    case DType::int32:
      return convert_block<std::int32_t, std::int32_t>;
    case DType::int64:
      return convert_block<std::int64_t, std::int64_t>;
    case DType::uint8:
    case DType::boolean:
      return convert_block<std::uint8_t, std::int32_t>;
    case DType::uint16:
      return convert_block<std::uint16_t, std::int32_t>;
    case DType::uint32:
      return convert_block<std::uint32_t, std::int64_t>;
    case DType::uint64:
      return convert_block<std::uint64_t, std::int64_t>;
  }
  return nullptr;
}

void stream(const BlockCall& call) {
  const auto* from = static_cast<const float*>(call.sources[0]);
  auto* to = static_cast<float*>(call.destination);
  const std::int64_t step = call.steps[0];
  for (std::int64_t i = 0; i < call.count; i += kLanes<float>) {
    store_past_caches(to + i, load<f32>(from + i * step));
  }
}

BlockFunction store_function(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return convert_block<float, float>;
    case DType::float64:
      return convert_block<double, double>;
    case DType::float16:
      return store_float16;
    case DType::bfloat16:
      return store_bfloat16;
    case DType::int8:
    case DType::uint8:
      return convert_block<std::int32_t, std::uint8_t>;
    case DType::int16:
    case DType::uint16:
      return convert_block<std::int32_t, std::uint16_t>;
    case DType::int32:
      return convert_block<std::int32_t, std::int32_t>;
    case DType::int64:
    case DType::uint64:
      return convert_block<std::int64_t, std::int64_t>;
    case DType::uint32:
      return convert_block<std::int64_t, std::uint32_t>;
    case DType::boolean:
      return store_boolean<std::int32_t>;
  }
  return nullptr;
}

}  // namespace mxpipe::MXPIPE_ISA
