// bfloat16 and float16 as vectors of 16-bit patterns: to float32 exactly, from float32 to nearest even. NaN
// stays NaN.
#pragma once

#include "kernels/vec/simd/vec.hpp"

namespace mxpipe::MXPIPE_ISA {

using HalfBits = VecN<std::uint16_t, kLanes<float>>;

inline f32 from_bfloat16(HalfBits x) { return bits<f32>(__builtin_convertvector(x, u32) << 16); }

inline HalfBits to_bfloat16(f32 x) {
  const u32 raw = bits<u32>(x);
  const u32 rounded = (raw + 0x7fff + ((raw >> 16) & 1)) >> 16;
  const u32 quiet = (raw >> 16) | 0x40;
  return __builtin_convertvector(select(x == x, rounded, quiet), HalfBits);
}

#if defined(__AVX512F__)
inline f32 from_float16(HalfBits x) { return f32(_mm512_cvtph_ps(__m256i(x))); }
inline HalfBits to_float16(f32 x) { return HalfBits(_mm512_cvtps_ph(__m512(x), _MM_FROUND_TO_NEAREST_INT)); }
#elif defined(__F16C__)
inline f32 from_float16(HalfBits x) { return f32(_mm256_cvtph_ps(__m128i(x))); }
inline HalfBits to_float16(f32 x) { return HalfBits(_mm256_cvtps_ph(__m256(x), _MM_FROUND_TO_NEAREST_INT)); }
#else
// F. Giesen's arithmetic forms: the exponent is rebased by one multiplication or addition of a power of two.
inline f32 from_float16(HalfBits x) {
  const u32 raw = __builtin_convertvector(x, u32);
  const u32 magnitude = (raw & 0x7fff) << 13;
  const f32 scaled = bits<f32>(magnitude) * 0x1p112f;
  const u32 special = bits<u32>(scaled) | 0x7f800000U;  // infinity and NaN
  const u32 value = select((raw & 0x7c00) == 0x7c00, special, bits<u32>(scaled));
  return bits<f32>(value | ((raw & 0x8000) << 16));
}
inline HalfBits to_float16(f32 x) {
  const u32 raw = bits<u32>(x);
  const u32 sign = (raw >> 16) & 0x8000;
  const u32 magnitude = raw & 0x7fffffff;
  // Subnormal results: adding 0.5 puts the wanted bits at the bottom, rounded by the addition itself.
  const u32 small = bits<u32>(bits<f32>(magnitude) + 0.5f) - 0x3f000000U;
  const u32 normal = (magnitude - 0x38000000U + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  const u32 nan = u32{} + 0x7e00;
  u32 result = select(magnitude < 0x38800000U, small, normal);
  result = select(magnitude >= 0x47800000U, u32{} + 0x7c00, result);
  result = select(magnitude > 0x7f800000U, nan, result);
  return __builtin_convertvector(result | sign, HalfBits);
}
#endif

}  // namespace mxpipe::MXPIPE_ISA
