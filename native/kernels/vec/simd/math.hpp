// Elementary functions on vectors of float32, within a few units in the last place; NaN and infinities as in
// C. Coefficients: Cephes (S. Moshier) for exp, log, sin, cos; N. Juffa's two-piece fit for erf. Where a
// vector can look up 32 entries at once (AVX-512), erf and tanh are one polynomial of a table. float64 goes
// lane by lane through the C library: it is rare, and right.
#pragma once

#include <cmath>

#include "kernels/vec/simd/math_tables.hpp"
#include "kernels/vec/simd/vec.hpp"

namespace mxpipe::MXPIPE_ISA {

inline constexpr float kInfinity = __builtin_inff();
inline constexpr float kNan = __builtin_nanf("");

inline i32 sign_bits(f32 x) { return bits<i32>(x) & splat<i32>(INT32_MIN); }
inline f32 absolute(f32 x) { return bits<f32>(bits<i32>(x) & INT32_MAX); }
inline f32 with_sign_of(f32 magnitude, f32 sign) { return bits<f32>(bits<i32>(magnitude) | sign_bits(sign)); }

// 2^n for n in [-126, 127].
inline f32 power_of_two(i32 n) { return bits<f32>((n + 127) << 23); }

// exp(x) = 2^n (1 + r + r^2 p(r)), |r| <= ln(2)/2.
struct ExpParts {
  i32 n;
  f32 rounded;  // n
  f32 r;
  f32 p;     // p(r)
  f32 tail;  // r^2 p(r)
};
inline ExpParts split_exp(f32 x) {
  const f32 n = round(x * 1.44269504088896341f);
  f32 r = fma(n, splat<f32>(-0.693359375f), x);
  r = fma(n, splat<f32>(2.12194440e-4f), r);
  f32 p = splat<f32>(1.9875691500e-4f);
  p = fma(p, r, splat<f32>(1.3981999507e-3f));
  p = fma(p, r, splat<f32>(8.3334519073e-3f));
  p = fma(p, r, splat<f32>(4.1665795894e-2f));
  p = fma(p, r, splat<f32>(1.6666665459e-1f));
  p = fma(p, r, splat<f32>(5.0000001201e-1f));
  return {__builtin_convertvector(n, i32), n, r, p, r * r * p};
}

inline f32 exp(f32 x) {
  // Outside, the result is 0 or infinity whatever x is; NaN stays.
  const ExpParts parts = split_exp(minimum(splat<f32>(89.0f), maximum(splat<f32>(-104.0f), x)));
  const f32 one = splat<f32>(1.0f);
  const f32 y = fma(fma(parts.p, parts.r, one), parts.r, one);
#if defined(__AVX512F__)
  return f32(_mm512_scalef_ps(__m512(y), __m512(parts.rounded)));
#else
  const i32 half = parts.n >> 1;  // in two steps: subnormal results and 2^128
  return y * power_of_two(half) * power_of_two(parts.n - half);
#endif
}

inline f32 expm1(f32 x) {
  f32 clamped = select(x > 89.0f, splat<f32>(89.0f), x);
  clamped = select(clamped < -20.0f, splat<f32>(-20.0f), clamped);
  const ExpParts parts = split_exp(select(x == x, clamped, f32{}));
  const f32 q = parts.r + parts.tail;
  const f32 s = power_of_two(parts.n - 1);
  const f32 result = 2.0f * fma(s, q, s - 0.5f);
  // n = 0: exact for tiny x, and keeps -0.
  const f32 near_zero = select(x == 0.0f, x, q);
  return select(x == x, select(parts.n == 0, near_zero, result), x);
}

inline f32 log(f32 x) {
  const auto tiny = x < 1.17549435e-38f;
  const f32 scaled = select(tiny, x * 8388608.0f, x);  // 2^23: subnormals
  const i32 raw = bits<i32>(scaled);
  i32 exponent = ((raw >> 23) & 0xff) - 126 - select(tiny, splat<i32>(23), i32{});
  f32 m = bits<f32>((raw & 0x007fffff) | 0x3f000000);  // [0.5, 1)
  const auto low = m < 0.707106781186547524f;
  exponent -= select(low, splat<i32>(1), i32{});
  m = select(low, m + m, m) - 1.0f;
  const f32 e = __builtin_convertvector(exponent, f32);
  const f32 z = m * m;
  f32 p = splat<f32>(7.0376836292e-2f);
  p = fma(p, m, splat<f32>(-1.1514610310e-1f));
  p = fma(p, m, splat<f32>(1.1676998740e-1f));
  p = fma(p, m, splat<f32>(-1.2420140846e-1f));
  p = fma(p, m, splat<f32>(1.4249322787e-1f));
  p = fma(p, m, splat<f32>(-1.6668057665e-1f));
  p = fma(p, m, splat<f32>(2.0000714765e-1f));
  p = fma(p, m, splat<f32>(-2.4999993993e-1f));
  p = fma(p, m, splat<f32>(3.3333331174e-1f));
  f32 y = p * m * z;
  y = fma(e, splat<f32>(-2.12194440e-4f), y);
  y = fma(z, splat<f32>(-0.5f), y);
  f32 result = fma(e, splat<f32>(0.693359375f), m + y);
  result = select(x == 0.0f, splat<f32>(-kInfinity), result);
  result = select(x < 0.0f, splat<f32>(kNan), result);
  return select(x < kInfinity, result, x);  // infinity and NaN pass through
}

inline f32 log1p(f32 x) {
  const f32 u = x + 1.0f;
  const f32 correction = ((u - 1.0f) - x) / u;
  const f32 plain = log(u);
  const auto special = (u == kInfinity) | (u == 0.0f) | (u != u);
  return select(x == 0.0f, x, select(special, plain, plain - correction));
}

#if defined(__AVX512F__)
// An odd function that is 1 from `last` on, by a table of math_tables.hpp with entries at multiples of
// `step`.
template <int rows>
inline f32 by_table(f32 x, const float (&table)[rows][32], float step, float last) {
  const f32 t = minimum(splat<f32>(last), absolute(x));  // NaN stays
  const f32 shift = splat<f32>(12582912.0f);  // 1.5 * 2^23: the sum's last bits are the nearest integer
  const f32 shifted = fma(t, splat<f32>(1.0f / step), shift);
  const f32 distance = fma(shifted - shift, splat<f32>(-step), t);
  const auto row = [&](int i) {
    const __m512 low = _mm512_load_ps(table[i]), high = _mm512_load_ps(table[i] + 16);
    return f32(_mm512_permutex2var_ps(low, __m512i(bits<i32>(shifted)), high));
  };
  f32 y = row(rows - 1);
#pragma GCC unroll 8
  for (int i = rows - 2; i >= 0; --i) y = fma(y, distance, row(i));
  return with_sign_of(y, x);
}

inline f32 tanh(f32 x) { return by_table(x, kTanhTable, 2.0f / 7.0f, 8.9f); }
inline f32 erf(f32 x) { return by_table(x, kErfTable, 0.125f, 3.9f); }
#else
inline f32 tanh(f32 x) {
  const f32 t = expm1(-2.0f * absolute(x));
  return select(x == x, with_sign_of(-t / (t + 2.0f), x), x);
}

inline f32 erf(f32 x) {
  const f32 t = absolute(x);
  const f32 s = x * x;
  f32 far = fma(splat<f32>(-1.72853470e-5f), t, splat<f32>(3.83197126e-4f));
  const f32 u = fma(splat<f32>(-3.88396438e-3f), t, splat<f32>(2.42546219e-2f));
  far = fma(far, s, u);
  far = fma(far, t, splat<f32>(-1.06777877e-1f));
  far = fma(far, t, splat<f32>(-6.34846687e-1f));
  far = fma(far, t, splat<f32>(-1.28717512e-1f));
  far = fma(far, t, -t);
  // Beyond 4 the result is 1 to the last bit; the fit is not meant for infinity.
  far = with_sign_of(select(t > 4.0f, splat<f32>(1.0f), 1.0f - exp(far)), x);
  f32 near = splat<f32>(-5.96761703e-4f);
  near = fma(near, s, splat<f32>(4.99119423e-3f));
  near = fma(near, s, splat<f32>(-2.67681349e-2f));
  near = fma(near, s, splat<f32>(1.12819925e-1f));
  near = fma(near, s, splat<f32>(-3.76125336e-1f));
  near = fma(near, s, splat<f32>(1.28379166e-1f));
  near = fma(near, x, x);
  return select(x == x, select(t > 0.927734375f, far, near), x);
}
#endif

inline f32 sigmoid(f32 x) { return 1.0f / (exp(-x) + 1.0f); }

inline f32 softplus(f32 x) {
  const f32 rest = log1p(exp(-absolute(x)));
  return select(x > 0.0f, x, f32{}) + select(x == x, rest, x);
}

// sin(x + quarter pi / 2): range reduction by pi/2 in three parts is good up to 8192; larger lanes take the C
// library.
inline f32 sine(f32 x, int quarter, float (*exact)(float)) {
  const f32 n = round(x * 0.636619772367581343f);
  f32 r = fma(n, splat<f32>(-1.5703125f), x);
  r = fma(n, splat<f32>(-4.837512969970703125e-4f), r);
  r = fma(n, splat<f32>(-7.549789948768648e-8f), r);
  const f32 z = r * r;
  f32 s = splat<f32>(-1.9515295891e-4f);
  s = fma(s, z, splat<f32>(8.3321608736e-3f));
  s = fma(s, z, splat<f32>(-1.6666654611e-1f));
  s = fma(s * z, r, r);
  f32 c = splat<f32>(2.443315711809948e-5f);
  c = fma(c, z, splat<f32>(-1.388731625493765e-3f));
  c = fma(c, z, splat<f32>(4.166664568298827e-2f));
  c = fma(c * z, z, fma(z, splat<f32>(-0.5f), splat<f32>(1.0f)));
  const i32 quadrant = __builtin_convertvector(n, i32) + quarter;
  f32 result = select((quadrant & 1) != 0, c, s);
  result = select((quadrant & 2) != 0, -result, result);
  if (quarter == 0) result = select(x == 0.0f, x, result);
  const f32 size = absolute(x);
  if (all(size <= 8192.0f)) [[likely]]
    return result;
  for (int lane = 0; lane < kLanes<float>; ++lane) {
    if (!(size[lane] <= 8192.0f)) result[lane] = exact(x[lane]);
  }
  return result;
}
inline f32 sin(f32 x) { return sine(x, 0, ::sinf); }
inline f32 cos(f32 x) { return sine(x, 1, ::cosf); }

// float64, and what has no vector form: lane by lane.
template <typename V, typename Function>
inline V by_lane(V x, Function function) {
  for (int lane = 0; lane < static_cast<int>(sizeof(V) / sizeof(x[0])); ++lane) x[lane] = function(x[lane]);
  return x;
}
template <typename V, typename Function>
inline V by_lane(V a, V b, Function function) {
  for (int lane = 0; lane < static_cast<int>(sizeof(V) / sizeof(a[0])); ++lane)
    a[lane] = function(a[lane], b[lane]);
  return a;
}

inline f64 exp(f64 x) { return by_lane(x, ::exp); }
inline f64 expm1(f64 x) { return by_lane(x, ::expm1); }
inline f64 log(f64 x) { return by_lane(x, ::log); }
inline f64 log1p(f64 x) { return by_lane(x, ::log1p); }
inline f64 sin(f64 x) { return by_lane(x, ::sin); }
inline f64 cos(f64 x) { return by_lane(x, ::cos); }
inline f64 tanh(f64 x) { return by_lane(x, ::tanh); }
inline f64 erf(f64 x) { return by_lane(x, ::erf); }
inline f64 sigmoid(f64 x) {
  return by_lane(x, [](double v) { return v >= 0 ? 1 / (1 + ::exp(-v)) : ::exp(v) / (1 + ::exp(v)); });
}
inline f64 softplus(f64 x) {
  return by_lane(x, [](double v) { return v != v ? v : (v > 0 ? v : 0) + ::log1p(::exp(-::fabs(v))); });
}
inline f32 power(f32 a, f32 b) { return by_lane(a, b, ::powf); }
inline f64 power(f64 a, f64 b) { return by_lane(a, b, ::pow); }

}  // namespace mxpipe::MXPIPE_ISA
