// The arithmetic of the elementwise program: one loop an opcode and type over a block in L1.
// Bytes: reads its sources and writes its destination once; operations: one a lane (math functions about 20).
#include "kernels/vec/simd/functions.hpp"
#include "kernels/vec/simd/math.hpp"

namespace mxpipe::MXPIPE_ISA {
namespace {

using std::int32_t;
using std::int64_t;

template <typename T>
inline constexpr bool kIsFloat = static_cast<T>(0.5) != T{};

template <typename T>
using Truth = VecN<int32_t, kLanes<T>>;  // as many 0/1 values as T has lanes

// Calls body(i) for the first element of each vector of the block, asking for memory by the way if told to.
template <typename T, typename Body>
[[gnu::always_inline]] inline void for_vectors(const BlockCall& call, const Body& body) {
  if (call.ahead == nullptr) {
    for (int64_t i = 0; i < call.count; i += kLanes<T>) body(i);
    return;
  }
  const char* ahead = static_cast<const char*>(call.ahead);
  for (int64_t i = 0; i < call.count; i += kLanes<T>) {
    body(i);
    fetch(ahead + i * call.ahead_bytes);
  }
}

template <typename T, typename Operation>
void unary(const BlockCall& call) {
  const T* a = static_cast<const T*>(call.sources[0]);
  T* destination = static_cast<T*>(call.destination);
  const int64_t step = call.steps[0];
  for_vectors<T>(call, [&](int64_t i) __attribute__((always_inline)) {
    store(destination + i, Operation::apply(load<Vec<T>>(a + i * step)));
  });
}

template <typename T, typename Operation>
void binary(const BlockCall& call) {
  const T* a = static_cast<const T*>(call.sources[0]);
  const T* b = static_cast<const T*>(call.sources[1]);
  T* destination = static_cast<T*>(call.destination);
  const int64_t step_a = call.steps[0];
  const int64_t step_b = call.steps[1];
  for_vectors<T>(call, [&](int64_t i) __attribute__((always_inline)) {
    store(destination + i, Operation::apply(load<Vec<T>>(a + i * step_a), load<Vec<T>>(b + i * step_b)));
  });
}

// Second(First(a, b), c), or Second(c, First(a, b)): what passes between them stays in a register. It is
// rounded as if it did not.
template <typename First, typename Second, bool on_left>
void both(const BlockCall& call) {
  const float* a = static_cast<const float*>(call.sources[0]);
  const float* b = static_cast<const float*>(call.sources[1]);
  const float* c = static_cast<const float*>(call.sources[2]);
  float* destination = static_cast<float*>(call.destination);
  const int64_t step_a = call.steps[0], step_b = call.steps[1], step_c = call.steps[2];
  for_vectors<float>(call, [&](int64_t i) __attribute__((always_inline)) {
    const f32 inner = alone(First::apply(load<f32>(a + i * step_a), load<f32>(b + i * step_b)));
    const f32 other = load<f32>(c + i * step_c);
    store(destination + i, on_left ? Second::apply(inner, other) : Second::apply(other, inner));
  });
}

template <typename T, typename Operation>
void compare(const BlockCall& call) {
  const T* a = static_cast<const T*>(call.sources[0]);
  const T* b = static_cast<const T*>(call.sources[1]);
  int32_t* destination = static_cast<int32_t*>(call.destination);
  const int64_t step_a = call.steps[0];
  const int64_t step_b = call.steps[1];
  for (int64_t i = 0; i < call.count; i += kLanes<T>) {
    const auto mask = Operation::apply(load<Vec<T>>(a + i * step_a), load<Vec<T>>(b + i * step_b));
    store(destination + i, __builtin_convertvector(mask, Truth<T>) & 1);
  }
}

template <typename T>
void is_nan(const BlockCall& call) {
  const T* a = static_cast<const T*>(call.sources[0]);
  int32_t* destination = static_cast<int32_t*>(call.destination);
  for (int64_t i = 0; i < call.count; i += kLanes<T>) {
    const Vec<T> x = load<Vec<T>>(a + i * call.steps[0]);
    store(destination + i, __builtin_convertvector(x != x, Truth<T>) & 1);
  }
}

template <typename T>
void select_block(const BlockCall& call) {
  const int32_t* condition = static_cast<const int32_t*>(call.sources[0]);
  const T* yes = static_cast<const T*>(call.sources[1]);
  const T* no = static_cast<const T*>(call.sources[2]);
  T* destination = static_cast<T*>(call.destination);
  for (int64_t i = 0; i < call.count; i += kLanes<T>) {
    const Truth<T> truth = load<Truth<T>>(condition + i * call.steps[0]);
    using Mask = decltype(Vec<T>{} == Vec<T>{});
    const Mask mask = __builtin_convertvector(truth, Mask) != 0;
    store(destination + i,
          select(mask, load<Vec<T>>(yes + i * call.steps[1]), load<Vec<T>>(no + i * call.steps[2])));
  }
}

// --- operations
// ----------------------------------------------------------------------------------------------

#define MXPIPE_UNARY(name, expression) \
  struct name {                        \
    template <typename V>              \
    static inline V apply(V x) {       \
      return expression;               \
    }                                  \
  };
#define MXPIPE_BINARY(name, expression)  \
  struct name {                          \
    template <typename V>                \
    static inline auto apply(V a, V b) { \
      return expression;                 \
    }                                    \
  };

MXPIPE_BINARY(Add, a + b)
MXPIPE_BINARY(Subtract, a - b)
MXPIPE_BINARY(Multiply, a* b)
MXPIPE_BINARY(Divide, a / b)
// NaN in either gives NaN.
MXPIPE_BINARY(Maximum, select((a > b) | (a != a), a, b))
MXPIPE_BINARY(Minimum, select((a < b) | (a != a), a, b))
MXPIPE_BINARY(Equal, a == b)
MXPIPE_BINARY(NotEqual, a != b)
MXPIPE_BINARY(Less, a < b)
MXPIPE_BINARY(LessEqual, a <= b)
MXPIPE_BINARY(Greater, a > b)
MXPIPE_BINARY(GreaterEqual, a >= b)
MXPIPE_BINARY(LogicalAnd, ((a != 0) & (b != 0)) & 1)
MXPIPE_BINARY(LogicalOr, ((a != 0) | (b != 0)) & 1)
MXPIPE_BINARY(MultiplyIfPositive, select(b > 0, a, V{}))
MXPIPE_BINARY(Power, power(a, b))

MXPIPE_UNARY(Negative, -x)
MXPIPE_UNARY(AbsoluteInteger, select(x < 0, -x, x))
MXPIPE_UNARY(Square, x* x)
MXPIPE_UNARY(Reciprocal, V{} + 1 / x)
MXPIPE_UNARY(Sqrt, sqrt(x))
MXPIPE_UNARY(Rsqrt, 1 / sqrt(x))
MXPIPE_UNARY(Exp, exp(x))
MXPIPE_UNARY(Expm1, expm1(x))
MXPIPE_UNARY(Log, log(x))
MXPIPE_UNARY(Log1p, log1p(x))
MXPIPE_UNARY(Sin, sin(x))
MXPIPE_UNARY(Cos, cos(x))
MXPIPE_UNARY(Tanh, tanh(x))
MXPIPE_UNARY(Sigmoid, sigmoid(x))
MXPIPE_UNARY(Erf, erf(x))
MXPIPE_UNARY(Softplus, softplus(x))
MXPIPE_UNARY(Floor, floor(x))
MXPIPE_UNARY(Ceil, ceil(x))
MXPIPE_UNARY(Round, round(x))
MXPIPE_UNARY(Identity, x)
MXPIPE_UNARY(Relu, select(x < 0, V{}, x))  // NaN stays NaN
MXPIPE_UNARY(LogicalNot, (x == 0) & 1)
MXPIPE_UNARY(SignFloat, select(x > 0, V{} + 1, select(x < 0, V{} - 1, x)))
MXPIPE_UNARY(SignInteger, (x < 0) - (x > 0))

struct AbsoluteFloat {
  static inline f32 apply(f32 x) { return absolute(x); }
  static inline f64 apply(f64 x) { return bits<f64>(bits<i64>(x) & INT64_MAX); }
};

// Python's rules: the remainder has the sign of the divisor; x mod 0 is NaN.
struct ModuloFloat {
  template <typename T>
  static T of(T a, T b) {
    const T remainder = sizeof(T) == 4 ? T(::fmodf(float(a), float(b))) : T(::fmod(a, b));
    if (remainder == 0) return __builtin_copysign(T{}, b);
    return (remainder < 0) != (b < 0) ? remainder + b : remainder;
  }
  template <typename V>
  static inline V apply(V a, V b) {
    return by_lane(a, b, [](auto x, auto y) { return of(x, y); });
  }
};

struct FloorDivideFloat {
  template <typename T>
  static T of(T a, T b) {
    if (b == 0 || a - a != 0) return a / b;
    const T quotient = (a - ModuloFloat::of(a, b)) / b;
    const T whole = T(::floor(double(quotient)));
    return quotient - whole > T(0.5) ? whole + 1 : whole;  // the division above may have lost the last bit
  }
  template <typename V>
  static inline V apply(V a, V b) {
    return by_lane(a, b, [](auto x, auto y) { return of(x, y); });
  }
};

// Integer division by zero gives 0, as NumPy has it; so does the padding of a block.
struct DivideInteger {
  template <typename V>
  static inline V apply(V a, V b) {
    return by_lane(a, b, [](auto x, auto y) -> decltype(x) { return y == 0 ? 0 : y == -1 ? -x : x / y; });
  }
};

struct FloorDivideInteger {
  template <typename V>
  static inline V apply(V a, V b) {
    return by_lane(a, b, [](auto x, auto y) -> decltype(x) {
      if (y == 0) return 0;
      if (y == -1) return -x;
      return x / y - ((x % y != 0) && ((x < 0) != (y < 0)));
    });
  }
};

struct ModuloInteger {
  template <typename V>
  static inline V apply(V a, V b) {
    return by_lane(a, b, [](auto x, auto y) -> decltype(x) {
      if (y == 0 || y == -1) return 0;
      const auto remainder = x % y;
      return (remainder != 0 && (remainder < 0) != (y < 0)) ? remainder + y : remainder;
    });
  }
};

// Negative exponents give what the exact result truncates to: 0, 1 or -1.
struct PowerInteger {
  template <typename V>
  static inline V apply(V a, V b) {
    return by_lane(a, b, [](auto x, auto y) -> decltype(x) {
      if (y < 0) return x == 1 ? 1 : x == -1 ? ((y & 1) ? -1 : 1) : 0;
      decltype(x) result = 1;
      for (; y != 0; y >>= 1, x *= x) {
        if (y & 1) result *= x;
      }
      return result;
    });
  }
};

// --- tables
// --------------------------------------------------------------------------------------------------

template <typename T>
BlockFunction common(Opcode opcode) {
  switch (opcode) {
    case Opcode::add:
      return binary<T, Add>;
    case Opcode::subtract:
      return binary<T, Subtract>;
    case Opcode::multiply:
      return binary<T, Multiply>;
    case Opcode::maximum:
      return binary<T, Maximum>;
    case Opcode::minimum:
      return binary<T, Minimum>;
    case Opcode::negative:
      return unary<T, Negative>;
    case Opcode::square:
      return unary<T, Square>;
    case Opcode::relu:
      return unary<T, Relu>;
    case Opcode::multiply_if_positive:
      return binary<T, MultiplyIfPositive>;
    case Opcode::equal:
      return compare<T, Equal>;
    case Opcode::not_equal:
      return compare<T, NotEqual>;
    case Opcode::less:
      return compare<T, Less>;
    case Opcode::less_equal:
      return compare<T, LessEqual>;
    case Opcode::greater:
      return compare<T, Greater>;
    case Opcode::greater_equal:
      return compare<T, GreaterEqual>;
    case Opcode::is_nan:
      return is_nan<T>;
    case Opcode::select:
      return select_block<T>;
    case Opcode::constant:
      return unary<T, Identity>;  // copies a splat or a block
    default:
      return nullptr;
  }
}

template <typename T>
BlockFunction floating(Opcode opcode) {
  switch (opcode) {
    case Opcode::divide:
      return binary<T, Divide>;
    case Opcode::power:
      return binary<T, Power>;
    case Opcode::modulo:
      return binary<T, ModuloFloat>;
    case Opcode::floor_divide:
      return binary<T, FloorDivideFloat>;
    case Opcode::absolute:
      return unary<T, AbsoluteFloat>;
    case Opcode::sign:
      return unary<T, SignFloat>;
    case Opcode::reciprocal:
      return unary<T, Reciprocal>;
    case Opcode::sqrt:
      return unary<T, Sqrt>;
    case Opcode::rsqrt:
      return unary<T, Rsqrt>;
    case Opcode::exp:
      return unary<T, Exp>;
    case Opcode::expm1:
      return unary<T, Expm1>;
    case Opcode::log:
      return unary<T, Log>;
    case Opcode::log1p:
      return unary<T, Log1p>;
    case Opcode::sin:
      return unary<T, Sin>;
    case Opcode::cos:
      return unary<T, Cos>;
    case Opcode::tanh:
      return unary<T, Tanh>;
    case Opcode::sigmoid:
      return unary<T, Sigmoid>;
    case Opcode::erf:
      return unary<T, Erf>;
    case Opcode::softplus:
      return unary<T, Softplus>;
    case Opcode::floor:
      return unary<T, Floor>;
    case Opcode::ceil:
      return unary<T, Ceil>;
    case Opcode::round:
      return unary<T, Round>;
    default:
      return common<T>(opcode);
  }
}

template <typename T>
BlockFunction integral(Opcode opcode) {
  switch (opcode) {
    case Opcode::divide:
      return binary<T, DivideInteger>;
    case Opcode::power:
      return binary<T, PowerInteger>;
    case Opcode::modulo:
      return binary<T, ModuloInteger>;
    case Opcode::floor_divide:
      return binary<T, FloorDivideInteger>;
    case Opcode::absolute:
      return unary<T, AbsoluteInteger>;
    case Opcode::sign:
      return unary<T, SignInteger>;
    case Opcode::floor:
    case Opcode::ceil:
    case Opcode::round:
      return unary<T, Identity>;
    default:
      return common<T>(opcode);
  }
}

template <typename First, bool on_left>
BlockFunction both_of(Opcode second) {
  switch (second) {
    case Opcode::add:
      return both<First, Add, on_left>;
    case Opcode::subtract:
      return both<First, Subtract, on_left>;
    case Opcode::multiply:
      return both<First, Multiply, on_left>;
    case Opcode::divide:
      return both<First, Divide, on_left>;
    default:
      return nullptr;
  }
}

template <bool on_left>
BlockFunction both_of(Opcode first, Opcode second) {
  switch (first) {
    case Opcode::add:
      return both_of<Add, on_left>(second);
    case Opcode::subtract:
      return both_of<Subtract, on_left>(second);
    case Opcode::multiply:
      return both_of<Multiply, on_left>(second);
    default:
      return nullptr;
  }
}

}  // namespace

BlockFunction pair(Opcode first, Opcode second, bool on_left) {
  return on_left ? both_of<true>(first, second) : both_of<false>(first, second);
}

BlockFunction operation(Opcode opcode, RegisterType type) {
  switch (opcode) {  // on truth values, whatever the type says
    case Opcode::logical_and:
      return binary<int32_t, LogicalAnd>;
    case Opcode::logical_or:
      return binary<int32_t, LogicalOr>;
    case Opcode::logical_not:
      return unary<int32_t, LogicalNot>;
    default:
      break;
  }
  switch (type) {
    case RegisterType::f32:
      return floating<float>(opcode);
    case RegisterType::f64:
      return floating<double>(opcode);
    case RegisterType::i32:
      return integral<int32_t>(opcode);
    case RegisterType::i64:
      return integral<int64_t>(opcode);
  }
  return nullptr;
}

}  // namespace mxpipe::MXPIPE_ISA
