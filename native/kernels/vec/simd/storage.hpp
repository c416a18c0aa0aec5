// Rows of float32, bfloat16 or float16 in memory as vectors of float32: whole vectors, and the last few
// elements of a row.
#pragma once

#include "kernels/vec/simd/half.hpp"

namespace mxpipe::MXPIPE_ISA {

// `count` elements, at least 1 and fewer than a vector; the other lanes are 0, or stay as they are in memory.
#if defined(__AVX512F__)
inline __mmask16 first_lanes(std::int64_t count) { return static_cast<__mmask16>((1U << count) - 1); }
inline f32 load_first(const float* from, std::int64_t count) {
  return f32(_mm512_maskz_loadu_ps(first_lanes(count), from));
}
inline void store_first(float* to, std::int64_t count, f32 v) {
  _mm512_mask_storeu_ps(to, first_lanes(count), __m512(v));
}
inline HalfBits load_first(const std::uint16_t* from, std::int64_t count) {
  return HalfBits(_mm256_maskz_loadu_epi16(first_lanes(count), from));
}
inline void store_first(std::uint16_t* to, std::int64_t count, HalfBits v) {
  _mm256_mask_storeu_epi16(to, first_lanes(count), __m256i(v));
}
#else
template <typename V, typename T>
inline V load_first_of(const T* from, std::int64_t count) {
  V v{};
  for (std::int64_t i = 0; i < count; ++i) v[i] = from[i];
  return v;
}
inline f32 load_first(const float* from, std::int64_t count) { return load_first_of<f32>(from, count); }
inline HalfBits load_first(const std::uint16_t* from, std::int64_t count) {
  return load_first_of<HalfBits>(from, count);
}
template <typename T, typename V>
inline void store_first(T* to, std::int64_t count, V v) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = v[i];
}
#endif

// Stores past the cache, for results larger than it: the lines need not be read first. `to` must be aligned
// to the vector; end_streams() orders them before what follows.
inline bool is_aligned(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % kVectorBytes == 0;
}
inline void stream_vector(float* to, f32 v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, __m512(v));
#elif defined(__AVX2__)
  _mm256_stream_ps(to, __m256(v));
#elif defined(__x86_64__)
  _mm_stream_ps(to, __m128(v));
#else
  MXPIPE_ISA::store(to, v);
#endif
}
inline void stream_vector(std::uint16_t* to, HalfBits v) {
#if defined(__AVX512F__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), __m256i(v));
#elif defined(__AVX2__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(to), __m128i(v));
#else
  MXPIPE_ISA::store(to, v);
#endif
}
inline void end_streams() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

struct Float32 {
  using type = float;
  static f32 load(const float* from) { return MXPIPE_ISA::load<f32>(from); }
  static f32 load(const float* from, std::int64_t count) { return load_first(from, count); }
  static void store(float* to, f32 v) { MXPIPE_ISA::store(to, v); }
  static void store(float* to, std::int64_t count, f32 v) { store_first(to, count, v); }
  static void stream(float* to, f32 v) { stream_vector(to, v); }
};

template <f32 (*widen)(HalfBits), HalfBits (*narrow)(f32)>
struct Half {
  using type = std::uint16_t;
  static f32 load(const type* from) { return widen(MXPIPE_ISA::load<HalfBits>(from)); }
  static f32 load(const type* from, std::int64_t count) { return widen(load_first(from, count)); }
  static void store(type* to, f32 v) { MXPIPE_ISA::store(to, narrow(v)); }
  static void store(type* to, std::int64_t count, f32 v) { store_first(to, count, narrow(v)); }
  static void stream(type* to, f32 v) { stream_vector(to, narrow(v)); }
};
using Bfloat16 = Half<from_bfloat16, to_bfloat16>;
using Float16 = Half<from_float16, to_float16>;

// Calls body.operator()<whole>(j, lanes) for each vector of `count` elements: whole vectors, then what is
// left.
template <typename Body>
inline void for_vectors(std::int64_t count, const Body& body) {
  constexpr std::int64_t kWidth = kLanes<float>;
  std::int64_t j = 0;
  for (; j + kWidth <= count; j += kWidth) body.template operator()<true>(j, kWidth);
  if (j < count) body.template operator()<false>(j, count - j);
}

template <typename Storage, bool whole>
inline f32 load_vector(const typename Storage::type* from, std::int64_t lanes) {
  if constexpr (whole) {
    return Storage::load(from);
  } else {
    return Storage::load(from, lanes);
  }
}
template <typename Storage, bool whole>
inline void store_vector(typename Storage::type* to, std::int64_t lanes, f32 v) {
  if constexpr (whole) {
    Storage::store(to, v);
  } else {
    Storage::store(to, lanes, v);
  }
}

// Lanes from `count` on become `fill`.
inline f32 keep_first(f32 v, std::int64_t count, float fill = 0) {
  i32 index;
  for (int lane = 0; lane < kLanes<float>; ++lane) index[lane] = lane;
  return select(index < static_cast<std::int32_t>(count), v, splat<f32>(fill));
}

inline float sum_of_lanes(f32 v) {
  return across_lanes<float>(v, [](auto a, auto b) { return a + b; });
}

}  // namespace mxpipe::MXPIPE_ISA
