// One vector abstraction over GCC's vector extensions: Vec<T> is as wide as the instruction set's registers.
// Everything here lives in the namespace of the instruction set that is being compiled.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef MXPIPE_ISA
#define MXPIPE_ISA portable
#endif

namespace mxpipe::MXPIPE_ISA {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <typename T>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <typename T, int bytes>
struct VectorOf {
  typedef T type __attribute__((vector_size(bytes)));
};
template <typename T>
using Vec = typename VectorOf<T, kVectorBytes>::type;
// As many lanes as `lanes`, whatever the width: the other side of a conversion.
template <typename T, int lanes>
using VecN = typename VectorOf<T, lanes* static_cast<int>(sizeof(T))>::type;

using f32 = Vec<float>;
using f64 = Vec<double>;
using i32 = Vec<std::int32_t>;
using u32 = Vec<std::uint32_t>;
using i64 = Vec<std::int64_t>;
using u64 = Vec<std::uint64_t>;

template <typename V>
inline V load(const void* from) {
  V v;
  __builtin_memcpy(&v, from, sizeof(V));
  return v;
}
template <typename V>
inline void store(void* to, V v) {
  __builtin_memcpy(to, &v, sizeof(V));
}
// Past the caches, to aligned memory.
inline void store_past_caches(float* to, f32 v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, __m512(v));
#elif defined(__AVX2__)
  _mm256_stream_ps(to, __m256(v));
#elif defined(__x86_64__)
  _mm_stream_ps(to, __m128(v));
#else
  store(to, v);
#endif
}
// A value that the compiler takes as it is: a product is not rounded together with the sum around it.
inline f32 alone(f32 v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__x86_64__)
  asm("" : "+x"(v));
#else
  asm("" : "+w"(v));
#endif
  return v;
}
// Into the second level of the caches, without waiting.
inline void fetch(const void* address) { __builtin_prefetch(address, 0, 2); }
template <typename V, typename T>
inline V splat(T value) {
  return V{} + value;  // not for -0.0
}
template <typename To, typename From>
inline To bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof(To));
  return to;
}
template <typename V>
inline V select(auto mask, V yes, V no) {
  return mask ? yes : no;
}

// Whether every lane of a comparison holds.
inline bool all(i32 mask) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask(__m512i(mask), __m512i(mask)) == 0xffff;
#elif defined(__AVX2__)
  return _mm256_movemask_epi8(__m256i(mask)) == -1;
#elif defined(__SSE4_1__)
  return _mm_movemask_epi8(__m128i(mask)) == 0xffff;
#else
  return vminvq_u32(uint32x4_t(mask)) != 0;
#endif
}

// The larger and the smaller; b where either is NaN.
inline f32 maximum(f32 a, f32 b) {
#if defined(__AVX512F__)
  return f32(_mm512_max_ps(__m512(a), __m512(b)));
#elif defined(__AVX2__)
  return f32(_mm256_max_ps(__m256(a), __m256(b)));
#elif defined(__x86_64__)
  return f32(_mm_max_ps(__m128(a), __m128(b)));
#else
  return a > b ? a : b;
#endif
}
inline f32 minimum(f32 a, f32 b) {
#if defined(__AVX512F__)
  return f32(_mm512_min_ps(__m512(a), __m512(b)));
#elif defined(__AVX2__)
  return f32(_mm256_min_ps(__m256(a), __m256(b)));
#elif defined(__x86_64__)
  return f32(_mm_min_ps(__m128(a), __m128(b)));
#else
  return a < b ? a : b;
#endif
}

// Combines all lanes as a balanced tree: halves, quarters, ...
template <typename T, int lanes = kLanes<T>, typename Operation>
inline T across_lanes(VecN<T, lanes> v, Operation operation) {
  if constexpr (lanes == 1) {
    return v[0];
  } else {
    VecN<T, lanes / 2> low, high;
    __builtin_memcpy(&low, &v, sizeof(low));
    __builtin_memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof(low), sizeof(high));
    return across_lanes<T, lanes / 2>(operation(low, high), operation);
  }
}

#if defined(__AVX512F__)
inline f32 sqrt(f32 x) { return f32(_mm512_sqrt_ps(__m512(x))); }
inline f64 sqrt(f64 x) { return f64(_mm512_sqrt_pd(__m512d(x))); }
inline f32 floor(f32 x) {
  return f32(_mm512_roundscale_ps(__m512(x), _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
}
inline f64 floor(f64 x) {
  return f64(_mm512_roundscale_pd(__m512d(x), _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
}
inline f32 ceil(f32 x) {
  return f32(_mm512_roundscale_ps(__m512(x), _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC));
}
inline f64 ceil(f64 x) {
  return f64(_mm512_roundscale_pd(__m512d(x), _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC));
}
inline f32 round(f32 x) {
  return f32(_mm512_roundscale_ps(__m512(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline f64 round(f64 x) {
  return f64(_mm512_roundscale_pd(__m512d(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline f32 fma(f32 a, f32 b, f32 c) { return f32(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(c))); }
inline f64 fma(f64 a, f64 b, f64 c) { return f64(_mm512_fmadd_pd(__m512d(a), __m512d(b), __m512d(c))); }
inline u64 multiply_low_halves(u64 a, u64 b) { return u64(_mm512_mul_epu32(__m512i(a), __m512i(b))); }
#elif defined(__AVX2__)
inline f32 sqrt(f32 x) { return f32(_mm256_sqrt_ps(__m256(x))); }
inline f64 sqrt(f64 x) { return f64(_mm256_sqrt_pd(__m256d(x))); }
inline f32 floor(f32 x) { return f32(_mm256_floor_ps(__m256(x))); }
inline f64 floor(f64 x) { return f64(_mm256_floor_pd(__m256d(x))); }
inline f32 ceil(f32 x) { return f32(_mm256_ceil_ps(__m256(x))); }
inline f64 ceil(f64 x) { return f64(_mm256_ceil_pd(__m256d(x))); }
inline f32 round(f32 x) {
  return f32(_mm256_round_ps(__m256(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline f64 round(f64 x) {
  return f64(_mm256_round_pd(__m256d(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline f32 fma(f32 a, f32 b, f32 c) { return f32(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c))); }
inline f64 fma(f64 a, f64 b, f64 c) { return f64(_mm256_fmadd_pd(__m256d(a), __m256d(b), __m256d(c))); }
inline u64 multiply_low_halves(u64 a, u64 b) { return u64(_mm256_mul_epu32(__m256i(a), __m256i(b))); }
#elif defined(__SSE4_1__)
inline f32 sqrt(f32 x) { return f32(_mm_sqrt_ps(__m128(x))); }
inline f64 sqrt(f64 x) { return f64(_mm_sqrt_pd(__m128d(x))); }
inline f32 floor(f32 x) { return f32(_mm_floor_ps(__m128(x))); }
inline f64 floor(f64 x) { return f64(_mm_floor_pd(__m128d(x))); }
inline f32 ceil(f32 x) { return f32(_mm_ceil_ps(__m128(x))); }
inline f64 ceil(f64 x) { return f64(_mm_ceil_pd(__m128d(x))); }
inline f32 round(f32 x) {
  return f32(_mm_round_ps(__m128(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline f64 round(f64 x) {
  return f64(_mm_round_pd(__m128d(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline f32 fma(f32 a, f32 b, f32 c) { return a * b + c; }  // no such instruction: two roundings
inline f64 fma(f64 a, f64 b, f64 c) { return a * b + c; }
inline u64 multiply_low_halves(u64 a, u64 b) { return u64(_mm_mul_epu32(__m128i(a), __m128i(b))); }
#elif defined(__aarch64__)
inline f32 sqrt(f32 x) { return f32(vsqrtq_f32(float32x4_t(x))); }
inline f64 sqrt(f64 x) { return f64(vsqrtq_f64(float64x2_t(x))); }
inline f32 floor(f32 x) { return f32(vrndmq_f32(float32x4_t(x))); }
inline f64 floor(f64 x) { return f64(vrndmq_f64(float64x2_t(x))); }
inline f32 ceil(f32 x) { return f32(vrndpq_f32(float32x4_t(x))); }
inline f64 ceil(f64 x) { return f64(vrndpq_f64(float64x2_t(x))); }
inline f32 round(f32 x) { return f32(vrndnq_f32(float32x4_t(x))); }
inline f64 round(f64 x) { return f64(vrndnq_f64(float64x2_t(x))); }
inline f32 fma(f32 a, f32 b, f32 c) { return f32(vfmaq_f32(float32x4_t(c), float32x4_t(a), float32x4_t(b))); }
inline f64 fma(f64 a, f64 b, f64 c) { return f64(vfmaq_f64(float64x2_t(c), float64x2_t(a), float64x2_t(b))); }
inline u64 multiply_low_halves(u64 a, u64 b) { return (a & 0xffffffffU) * (b & 0xffffffffU); }
#else
#error "kernels/vec/simd needs SSE4.2, AVX2, AVX-512 or NEON"
#endif

}  // namespace mxpipe::MXPIPE_ISA
