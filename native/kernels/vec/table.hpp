// The border between kernels/vec/simd (compiled once per instruction set) and the rest: plain structs and
// function pointers. What enters: blocks of values in L1. What leaves: blocks of values. Who calls: the
// kernels of kernels/vec.
//
// Included on both sides: no standard library, so that no inline function is compiled for the wrong machine.
#pragma once

#include <cstddef>
#include <cstdint>

#include "graph/dtype.hpp"
#include "graph/program.hpp"
#include "kernels/vec/recurrent.hpp"

namespace mxpipe {

// Block functions work on whole multiples of this many elements; buffers are padded to it.
inline constexpr std::int64_t kBlockPad = 16;
// The widest vector of any instruction set, in bytes: the size of a splat (one value, repeated).
inline constexpr std::size_t kSplatBytes = 64;
// Random numbers come in groups of this many elements (see simd/philox.hpp).
inline constexpr std::int64_t kRandomGroup = 64;

struct BlockCall {
  void* destination = nullptr;
  const void* sources[3] = {};
  std::int64_t steps[3] = {1, 1, 1};  // 1: a block of values; 0: a splat
  std::int64_t count = 0;             // elements, a multiple of kBlockPad
  // Memory that is to come into cache by the way, `ahead_bytes` an element; null: none.
  const void* ahead = nullptr;
  std::int64_t ahead_bytes = 0;
};
using BlockFunction = void (*)(const BlockCall&);

struct RandomKey {
  std::uint64_t seed = 0;
  std::uint64_t counter = 0;
};

enum class Reduction : std::uint8_t { sum, product, maximum, minimum };

// A row is reduced in this many interleaved lanes, whatever the vector width: every instruction set gives the
// same sum.
inline constexpr std::int64_t kReductionLanes = 64;

// Accumulators are float, double, int64 or uint64 for sums and products (see kernels/portable/reduce.cpp),
// and the dtype itself for maximum and minimum; float for 16-bit floats.
struct ReduceFunctions {
  // lanes[i % kReductionLanes] takes in x[i].
  void (*row)(void* lanes, const void* x, std::int64_t count) = nullptr;
  // accumulators[j] takes in x[i * stride + j] for all rows i.
  void (*columns)(void* accumulators, const void* x, std::int64_t columns, std::int64_t rows,
                  std::int64_t stride) = nullptr;
};

// Rows of softmax, layer norm and matrix-vector products, T being float or double. Rows are contiguous and of
// any length.
template <typename T>
struct RowFunctions {
  void (*softmax)(const T* x, T* y, std::int64_t count, bool logarithm) = nullptr;
  void (*softmax_backward)(const T* g, const T* y, T* result, std::int64_t count, bool logarithm) = nullptr;
  T (*log_sum_exp)(const T* x, std::int64_t count) = nullptr;
  // result = g * exp(x - log_sum)
  void (*scaled_softmax)(const T* x, T* result, std::int64_t count, T log_sum, T g) = nullptr;
  void (*layer_norm)(const T* x, const T* gamma, const T* beta, T* y, std::int64_t count, T eps, T* mean,
                     T* rstd) = nullptr;
  // Adds to gamma_sum and beta_sum.
  void (*layer_norm_backward)(const T* g, const T* x, const T* gamma, T mean, T rstd, T* result, T* gamma_sum,
                              T* beta_sum, std::int64_t count) = nullptr;
  T (*dot)(const T* a, const T* b, std::int64_t count) = nullptr;
  // result[i] = dot(a, rows[i]) of `rows` contiguous rows of `length`.
  void (*dots)(const T* a, const T* rows, std::int64_t count, std::int64_t length, T* result) = nullptr;
  // The gradient of dots: a_sum += sum_i g[i] rows[i], and row_sums[i] += g[i] a.
  void (*dots_backward)(const T* g, const T* a, const T* rows, std::int64_t count, std::int64_t length,
                        T* a_sum, T* row_sums) = nullptr;
};

// Contiguous rows of float32 or 16 bits (see simd/softmax.cpp).
struct SoftmaxFunctions {
  void (*softmax)(const void* x, void* y, std::int64_t count, bool logarithm) = nullptr;
  void (*softmax_backward)(const void* g, const void* y, void* result, std::int64_t count,
                           bool logarithm) = nullptr;
  float (*log_sum_exp)(const void* x, std::int64_t count) = nullptr;
  // result = g * (exp(x - log_sum) - one_hot(label)); past the cache, if `streams`.
  void (*cross_entropy_gradient)(const void* x, void* result, std::int64_t count, std::int64_t label,
                                 float log_sum, float g, bool streams) = nullptr;
  float (*element)(const void* x, std::int64_t index) = nullptr;
};

// Rows of layer_norm or rms_norm (which has neither mean nor beta).
struct LayerNormCall {
  std::int64_t rows = 0, width = 0;
  bool streams = false;  // write the result past the cache
  float eps = 0;
  const void* x = nullptr;
  const void* g = nullptr;  // gradient of the result
  const float* gamma = nullptr;
  const float* beta = nullptr;
  float* mean = nullptr;  // of each row; backward reads it
  float* rstd = nullptr;
  void* result = nullptr;      // or the gradient of x
  float* gamma_sum = nullptr;  // backward adds to these
  float* beta_sum = nullptr;
};

struct LayerNormFunctions {
  void (*layer_norm)(const LayerNormCall& call) = nullptr;
  void (*layer_norm_backward)(const LayerNormCall& call) = nullptr;
  void (*rms_norm)(const LayerNormCall& call) = nullptr;
  void (*rms_norm_backward)(const LayerNormCall& call) = nullptr;
};

// A stretch of batch_norm's data: rows of `width` numbers, the last perhaps shorter. Number j of a row
// belongs to entry j of each parameter, or all belong to entry 0.
struct BatchNormCall {
  std::int64_t count = 0, width = 1;
  bool one_channel = false, relu = false;
  bool streams = false;  // what is written is larger than the caches
  const void* x = nullptr;
  const void* residual = nullptr;     // added in front of the relu, or null
  const void* g = nullptr;            // gradient of the result
  const void* y = nullptr;            // the result, where its sign is the relu's mask
  void* result = nullptr;             // or its gradient
  void* residual_gradient = nullptr;  // g behind the mask of y
  const float* mean = nullptr;
  const float* scale = nullptr;  // gamma / sqrt(variance + eps)
  const float* beta = nullptr;
  const float* slope = nullptr;
  const float* shift = nullptr;
  float* first_sum = nullptr;   // mean, or the sum of g
  float* second_sum = nullptr;  // sum of squared deviations, or of g (x - mean)
  float* work = nullptr;        // `width` numbers
};

struct BatchNormFunctions {
  void (*statistics)(const BatchNormCall& call) = nullptr;
  void (*normalize)(const BatchNormCall& call) = nullptr;
  void (*sums)(const BatchNormCall& call) = nullptr;
  void (*gradient)(const BatchNormCall& call) = nullptr;
};

// A sparse matrix in compressed rows times a dense one with `columns` columns; see kernels/portable/csr.cpp.
struct CsrCall {
  const void* data = nullptr;
  const void* indices = nullptr;  // each must lie in [0, limit)
  const void* indptr = nullptr;
  const void* dense = nullptr;
  void* result = nullptr;
  std::int64_t nonzeros = 0;
  std::int64_t columns = 0;
  std::int64_t limit = 0;
};

// Of one dtype, for indices of 32 and 64 bits. They return the place of a wrong index, or -1.
struct CsrFunctions {
  // Rows [first, last) of the result.
  std::int64_t (*multiply32)(const CsrCall& call, std::int64_t first, std::int64_t last) = nullptr;
  std::int64_t (*multiply64)(const CsrCall& call, std::int64_t first, std::int64_t last) = nullptr;
  // Adds to columns [first, last) of the result, for all `rows` of the sparse matrix.
  std::int64_t (*transposed32)(const CsrCall& call, std::int64_t rows, std::int64_t first,
                               std::int64_t last) = nullptr;
  std::int64_t (*transposed64)(const CsrCall& call, std::int64_t rows, std::int64_t first,
                               std::int64_t last) = nullptr;
};

// Attention goes by tiles of this many queries and keys.
inline constexpr std::int64_t kAttentionTile = 128;

enum class AttentionMask : std::uint8_t { none, boolean, float32, bfloat16 };

// One head of one sample. Strides are in elements, from one token to the next.
struct AttentionHead {
  const void *q = nullptr, *k = nullptr, *v = nullptr;
  std::int64_t queries = 0, keys = 0, depth = 0;
  std::int64_t query_stride = 0, key_stride = 0, result_stride = 0;
  const void* mask = nullptr;
  AttentionMask mask_kind = AttentionMask::none;
  std::int64_t mask_query = 0, mask_key = 0;  // strides
  bool causal = false;
  float scale = 1, dropout = 0;
  RandomKey key;
  std::int64_t random_first = 0;  // index of the head's first probability in the sequence of random numbers
};

struct AttentionGradient {
  const void *g = nullptr, *y = nullptr;
  const float* log_sums = nullptr;
  void *q = nullptr, *k = nullptr, *v = nullptr;  // results
};

// `memory`: floats for the tiles, as many as memory_of() of vec/attention.cpp says.
struct AttentionFunctions {
  using Forward = void (*)(const AttentionHead& head, std::int64_t first_query, std::int64_t queries,
                           void* result, float* log_sums, float* memory);
  using Backward = void (*)(const AttentionHead& head, const AttentionGradient& gradient, float* memory);
  Forward forward = nullptr, forward_bfloat16 = nullptr;  // at most a tile of queries
  Backward backward = nullptr, backward_bfloat16 = nullptr;
};

struct IsaTable {
  const char* name;
  // Arithmetic of the elementwise program; null when an opcode has no meaning in `type`.
  BlockFunction (*operation)(Opcode opcode, RegisterType type);
  // second(first(sources 0 and 1), source 2), or with the operands of `second` exchanged, of float32; null
  // for most.
  BlockFunction (*pair)(Opcode first, Opcode second, bool on_left);
  BlockFunction (*convert)(RegisterType from, RegisterType to);
  BlockFunction (*round_to)(DType dtype);  // null: nothing to round
  // Between memory of `dtype` and register_type(dtype).
  BlockFunction (*load)(DType dtype);
  BlockFunction (*store)(DType dtype);
  // Copies float32 to aligned memory, past the caches where the processor can.
  BlockFunction stream;
  // Elements [first, first + count) of the infinite sequence that belongs to `key`.
  void (*random_uniform)(float* destination, std::int64_t first, std::int64_t count, RandomKey key);
  void (*random_normal)(float* destination, std::int64_t first, std::int64_t count, RandomKey key);
  ReduceFunctions (*reduce)(Reduction reduction, DType dtype);
  BatchNormFunctions (*batch_norm)(DType dtype);
  LayerNormFunctions (*layer_norm)(DType dtype);
  SoftmaxFunctions (*softmax)(DType dtype);
  RowFunctions<float> rows;
  RowFunctions<double> double_rows;
  RecurrentFunctions<float> recurrent;
  RecurrentFunctions<double> double_recurrent;
  CsrFunctions csr;
  CsrFunctions double_csr;
  AttentionFunctions attention;
};

}  // namespace mxpipe
