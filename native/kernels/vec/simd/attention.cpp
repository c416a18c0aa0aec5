// Attention of one head, tile by tile: online softmax forward (Milakov and Gimelshein 2018, Dao et al. 2022),
// probabilities from the kept log-sum-exp backward.
// Operations: 4 queries keys depth forward, 10 backward, and an exponential a score. Bytes: q, k, v and the
// result once while a head's k and v stay in L2; scores live in a tile of 128 x 128.
#include "kernels/vec/simd/functions.hpp"
#include "kernels/vec/simd/half.hpp"
#include "kernels/vec/simd/math.hpp"
#include "kernels/vec/simd/pair_product.hpp"
#include "kernels/vec/simd/tile_product.hpp"

namespace mxpipe::MXPIPE_ISA {
namespace {

using std::int64_t;

constexpr int64_t kTile = kAttentionTile;
constexpr int64_t kScoreRow = kTile + 16;  // no power of two, so that a column spreads over the cache's sets
constexpr int kLane = kLanes<float>;

int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t padded(int64_t count) { return (count + 15) / 16 * 16; }

struct Bfloat16 {
  std::uint16_t bits;
};

f32 load_vector(const float* from) { return load<f32>(from); }
f32 load_vector(const Bfloat16* from) { return from_bfloat16(load<HalfBits>(from)); }
void store_vector(float* to, f32 value) { store(to, value); }
void store_vector(Bfloat16* to, f32 value) { store(to, to_bfloat16(value)); }

// The first `count` elements, fewer than a vector; zeros behind them.
template <typename T>
f32 load_first(const T* from, int64_t count) {
  alignas(64) T whole[kLane] = {};
  for (int64_t i = 0; i < count; ++i) whole[i] = from[i];
  return load_vector(whole);
}
template <typename T>
void store_first(T* to, int64_t count, f32 value) {
  alignas(64) T whole[kLane];
  store_vector(whole, value);
  for (int64_t i = 0; i < count; ++i) to[i] = whole[i];
}

// Rows of a head as a float32 tile of whole vectors.
template <typename T>
void load_rows(const T* from, int64_t stride, int64_t rows, int64_t depth, float factor, float* tile) {
  const int64_t width = padded(depth);
  const f32 factors = broadcast(factor);
  for (int64_t i = 0; i < rows; ++i) {
    const T* row = from + i * stride;
    int64_t d = 0;
    for (; d + kLane <= depth; d += kLane) store(tile + i * width + d, load_vector(row + d) * factors);
    for (; d < width; d += kLane) {
      store(tile + i * width + d, d < depth ? load_first(row + d, depth - d) * factors : f32{});
    }
  }
}

template <typename T>
void store_rows(const float* tile, int64_t rows, int64_t depth, float factor, T* to, int64_t stride) {
  const int64_t width = padded(depth);
  const f32 factors = broadcast(factor);
  for (int64_t i = 0; i < rows; ++i) {
    int64_t d = 0;
    for (; d + kLane <= depth; d += kLane)
      store_vector(to + i * stride + d, load<f32>(tile + i * width + d) * factors);
    if (d < depth) store_first(to + i * stride + d, depth - d, load<f32>(tile + i * width + d) * factors);
  }
}

// One step of a transposition: exchanges the off-diagonal squares of `span` x `span`.
template <int span>
void exchange(f32 (&rows)[kLane]) {
  i32 upper, lower;
  for (int lane = 0; lane < kLane; ++lane) {
    const bool second = (lane & span) != 0;
    upper[lane] = second ? kLane + lane - span : lane;
    lower[lane] = second ? kLane + lane : lane + span;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kLane; ++i) {
    if ((i & span) != 0) continue;
    const f32 a = rows[i], b = rows[i + span];
    rows[i] = __builtin_shuffle(a, b, upper);
    rows[i + span] = __builtin_shuffle(a, b, lower);
  }
}

void transpose(f32 (&rows)[kLane]) {
  exchange<1>(rows);
  exchange<2>(rows);
  if constexpr (kLane > 4) exchange<4>(rows);
  if constexpr (kLane > 8) exchange<8>(rows);
}

// A tile of rows transposed: (width, rows) becomes (depth, kScoreRow).
void transpose_tile(const float* tile, int64_t rows, int64_t depth, float* to) {
  const int64_t width = padded(depth);
  for (int64_t i = 0; i < rows; i += kLane) {
    for (int64_t d = 0; d < depth; d += kLane) {
      f32 block[kLane];
      for (int64_t l = 0; l < kLane; ++l)
        block[l] = i + l < rows ? load<f32>(tile + (i + l) * width + d) : f32{};
      transpose(block);
      for (int64_t l = 0; l < kLane; ++l) store(to + (d + l) * kScoreRow + i, block[l]);
    }
  }
}

i32 lane_numbers() {
  i32 lanes{};
  for (int lane = 0; lane < kLane; ++lane) lanes[lane] = lane;
  return lanes;
}

// Adds the mask to a row of scores, or puts -infinity where it is false.
void apply_mask(const AttentionHead& head, int64_t query, int64_t first, int64_t count, float* row) {
  const int64_t at = query * head.mask_query + first * head.mask_key;
  const int64_t step = head.mask_key;
  if (head.mask_kind == AttentionMask::boolean) {
    const auto* seen = static_cast<const std::uint8_t*>(head.mask) + at;
    for (int64_t j = 0; j < count; ++j) row[j] = seen[j * step] != 0 ? row[j] : -kInfinity;
  } else if (head.mask_kind == AttentionMask::float32) {
    const auto* bias = static_cast<const float*>(head.mask) + at;
    for (int64_t j = 0; j < count; ++j) row[j] += bias[j * step];
  } else {
    const auto* bias = static_cast<const std::uint16_t*>(head.mask) + at;
    for (int64_t j = 0; j < count; ++j)
      row[j] += bits<float>(static_cast<std::uint32_t>(bias[j * step]) << 16);
  }
}

// How many of the keys [first, first + count) a query sees, if it sees them in order.
int64_t seen_keys(const AttentionHead& head, int64_t query, int64_t first, int64_t count) {
  if (!head.causal) return count;
  const int64_t seen = query + 1 - first;
  return seen < 0 ? 0 : minimum(seen, count);
}

// Scores of one query as they enter softmax: masked, and -infinity up to the padded width.
void finish_scores(const AttentionHead& head, int64_t query, int64_t first, int64_t count, float* row) {
  if (head.mask_kind != AttentionMask::none) apply_mask(head, query, first, count, row);
  const int64_t seen = seen_keys(head, query, first, count);
  if (seen == padded(count)) return;
  const i32 lanes = lane_numbers();
  for (int64_t j = seen / kLane * kLane; j < padded(count); j += kLane) {
    const i32 place = lanes + static_cast<std::int32_t>(j);
    store(row + j,
          select(place < static_cast<std::int32_t>(seen), load<f32>(row + j), broadcast(-kInfinity)));
  }
}

float sum_lanes(f32 v) {
  return across_lanes<float>(v, [](auto a, auto b) { return a + b; });
}

float largest(const float* row, int64_t count, float start) {
  f32 best = broadcast(start);
  for (int64_t j = 0; j < count; j += kLane) {
    const f32 v = load<f32>(row + j);
    best = select((v > best) | (v != v), v, best);
  }
  return across_lanes<float>(best, [](auto a, auto b) { return select((a > b) | (a != a), a, b); });
}

// 0 or 1 / (1 - dropout) for a row of probabilities.
void dropout_factors(const AttentionHead& head, int64_t query, int64_t first, int64_t count, float* factors) {
  random_uniform(factors, head.random_first + query * head.keys + first, count, head.key);
  const f32 kept = broadcast(1 / (1 - head.dropout)), rate = broadcast(head.dropout);
  for (int64_t j = 0; j < count; j += kLane) {
    const f32 uniform = load<f32>(factors + j);
    store(factors + j, select(uniform < rate, f32{}, kept));
  }
}

// ------------------------------------------------------------------------------------------------- forward

// The memory of one call, handed out piece by piece.
class Pieces {
 public:
  explicit Pieces(float* memory) : next_(memory) {}
  float* take(int64_t count) {
    float* piece = next_;
    next_ += padded(count);
    return piece;
  }

 private:
  float* next_;
};

// Turns the scores of one query into probabilities against the running maximum, and rescales what was summed
// under the old one.
void online_softmax(const AttentionHead& head, int64_t query, int64_t first, int64_t count, float* row,
                    float* top, float* sum, float* result, int64_t width) {
  finish_scores(head, query, first, count, row);
  const float before = *top;
  const float now = largest(row, count, before);
  const f32 shift = broadcast(now == -kInfinity ? 0 : now);
  f32 total{};
  for (int64_t j = 0; j < padded(count); j += kLane) {
    const f32 p = exp(load<f32>(row + j) - shift);
    total += p;
    store(row + j, p);
  }
  const float correction = before == now ? 1 : exp(broadcast(before) - shift)[0];
  *top = now;
  *sum = *sum * correction + sum_lanes(total);
  if (first > 0 && correction != 1) {
    for (int64_t d = 0; d < width; d += kLane)
      store(result + d, load<f32>(result + d) * broadcast(correction));
  }
  if (head.dropout == 0) return;
  alignas(64) float factors[kTile];
  dropout_factors(head, query, first, count, factors);
  for (int64_t j = 0; j < count; j += kLane) store(row + j, load<f32>(row + j) * load<f32>(factors + j));
}

// Divides by the sums of probabilities.
template <typename T>
void finish_rows(const float* sums, const float* tops, const float* totals, int64_t rows, int64_t depth, T* y,
                 int64_t stride, float* log_sums) {
  for (int64_t i = 0; i < rows; ++i) {
    const bool none = totals[i] == 0;
    store_rows(sums + i * padded(depth), 1, depth, none ? 0 : 1 / totals[i], y + i * stride, 0);
    log_sums[i] = none ? kInfinity : tops[i] + log(broadcast(totals[i]))[0];
  }
}

template <typename T>
void forward(const AttentionHead& head, int64_t first_query, int64_t rows, void* result, float* log_sums,
             float* memory) {
  const int64_t depth = head.depth, width = padded(depth);
  Pieces pieces(memory);
  float* q = pieces.take(kTile * width);
  float* k = pieces.take(kTile * width);  // then v
  float* k_columns = pieces.take(width * kScoreRow);
  float* scores = pieces.take(kTile * kScoreRow);
  float* sums = pieces.take(kTile * width);
  float* tops = pieces.take(kTile);
  float* totals = pieces.take(kTile);
  for (int64_t i = 0; i < rows; ++i) {
    tops[i] = -kInfinity;
    totals[i] = 0;
  }
  for (int64_t i = 0; i < rows * width; i += kLane) store(sums + i, f32{});
  load_rows(static_cast<const T*>(head.q) + first_query * head.query_stride, head.query_stride, rows, depth,
            head.scale, q);
  const int64_t end = head.causal ? minimum(head.keys, first_query + rows) : head.keys;
  for (int64_t first = 0; first < end; first += kTile) {
    const int64_t count = minimum(kTile, end - first);
    const int64_t offset = first * head.key_stride;
    load_rows(static_cast<const T*>(head.k) + offset, head.key_stride, count, depth, 1, k);
    transpose_tile(k, count, depth, k_columns);
    multiply_tiles({q, width, 1, k_columns, kScoreRow, scores, kScoreRow, rows, padded(count), depth, false});
    for (int64_t i = 0; i < rows; ++i) {
      online_softmax(head, first_query + i, first, count, scores + i * kScoreRow, tops + i, totals + i,
                     sums + i * width, width);
    }
    load_rows(static_cast<const T*>(head.v) + offset, head.key_stride, count, depth, 1, k);
    multiply_tiles({scores, kScoreRow, 1, k, width, sums, width, rows, width, count, first > 0});
  }
  T* y = static_cast<T*>(result) + first_query * head.result_stride;
  finish_rows(sums, tops, totals, rows, depth, y, head.result_stride, log_sums + first_query);
}

#ifdef MXPIPE_HAS_PAIRS
std::uint32_t* as_pairs(float* tile) { return reinterpret_cast<std::uint32_t*>(tile); }

// Rows of a head as pairs along the depth: (rows, padded(pairs)); zeros behind the last.
void load_pairs(const Bfloat16* from, int64_t stride, int64_t rows, int64_t depth, float* tile) {
  const int64_t width = padded((depth + 1) / 2);
  for (int64_t i = 0; i < rows; ++i) {
    auto* row = tile + i * width;
    for (int64_t d = 0; d < width; d += kLane) store(row + d, f32{});
    __builtin_memcpy(row, from + i * stride, static_cast<std::size_t>(depth) * sizeof(Bfloat16));
  }
}

u32 load_bits(const Bfloat16* from, int64_t count) {
  alignas(64) Bfloat16 whole[kLane] = {};
  if (count < kLane) {
    for (int64_t i = 0; i < count; ++i) whole[i] = from[i];
    from = whole;
  }
  return __builtin_convertvector(load<HalfBits>(from), u32);
}

// Neighbouring rows of a head as pairs: (rows / 2, padded(depth)).
void interleave_rows(const Bfloat16* from, int64_t stride, int64_t rows, int64_t depth, std::uint32_t* tile) {
  const int64_t width = padded(depth);
  for (int64_t i = 0; i < rows; i += 2) {
    for (int64_t d = 0; d < width; d += kLane) {
      const Bfloat16* first = from + i * stride + d;
      const int64_t left = depth - d < 0 ? 0 : depth - d;
      u32 pairs = load_bits(first, left);
      if (i + 1 < rows) pairs |= load_bits(first + stride, left) << 16;
      store(tile + i / 2 * width + d, pairs);
    }
  }
}

// forward() with products of bfloat16 pairs; probabilities are rounded as k and v are.
void forward_pairs(const AttentionHead& head, int64_t first_query, int64_t rows, void* result,
                   float* log_sums, float* memory) {
  const int64_t depth = head.depth, width = padded(depth);
  const int64_t pairs = (depth + 1) / 2, pair_width = padded(pairs);
  Pieces pieces(memory);
  float* q = pieces.take(kTile * pair_width);
  float* k = pieces.take(kTile * pair_width);
  float* k_columns = pieces.take(pair_width * kScoreRow);
  float* v = pieces.take(kTile / 2 * width);
  float* scores = pieces.take(kTile * kScoreRow);
  float* rounded = pieces.take(kTile * kScoreRow / 2);
  float* sums = pieces.take(kTile * width);
  float* tops = pieces.take(kTile);
  float* totals = pieces.take(kTile);
  for (int64_t i = 0; i < rows; ++i) {
    tops[i] = -kInfinity;
    totals[i] = 0;
  }
  for (int64_t i = 0; i < rows * width; i += kLane) store(sums + i, f32{});
  load_pairs(static_cast<const Bfloat16*>(head.q) + first_query * head.query_stride, head.query_stride, rows,
             depth, q);
  const f32 scale = broadcast(head.scale);
  const int64_t end = head.causal ? minimum(head.keys, first_query + rows) : head.keys;
  for (int64_t first = 0; first < end; first += kTile) {
    const int64_t count = minimum(kTile, end - first);
    const int64_t offset = first * head.key_stride;
    load_pairs(static_cast<const Bfloat16*>(head.k) + offset, head.key_stride, count, depth, k);
    transpose_tile(k, count, pairs, k_columns);
    multiply_pairs({as_pairs(q), pair_width, 1, as_pairs(k_columns), kScoreRow, scores, kScoreRow, rows,
                    padded(count), pairs, false});
    for (int64_t i = 0; i < rows; ++i) {
      float* row = scores + i * kScoreRow;
      for (int64_t j = 0; j < count; j += kLane) store(row + j, load<f32>(row + j) * scale);
      online_softmax(head, first_query + i, first, count, row, tops + i, totals + i, sums + i * width, width);
      auto* narrow = reinterpret_cast<Bfloat16*>(rounded) + i * kScoreRow;
      for (int64_t j = 0; j < padded(count); j += kLane) store_vector(narrow + j, load<f32>(row + j));
    }
    interleave_rows(static_cast<const Bfloat16*>(head.v) + offset, head.key_stride, count, depth,
                    as_pairs(v));
    multiply_pairs({as_pairs(rounded), kScoreRow / 2, 1, as_pairs(v), width, sums, width, rows, width,
                    (count + 1) / 2, first > 0});
  }
  auto* y = static_cast<Bfloat16*>(result) + first_query * head.result_stride;
  finish_rows(sums, tops, totals, rows, depth, y, head.result_stride, log_sums + first_query);
}
#endif

void forward_bfloat16(const AttentionHead& head, int64_t first_query, int64_t rows, void* result,
                      float* log_sums, float* memory) {
#ifdef MXPIPE_HAS_PAIRS
  if (cpu_has_pairs()) return forward_pairs(head, first_query, rows, result, log_sums, memory);
#endif
  forward<Bfloat16>(head, first_query, rows, result, log_sums, memory);
}

// ------------------------------------------------------------------------------------------------ backward

// Of one query: scores become probabilities (dropped ones, as v met them), and products g v^T become the
// gradient of the scores.
void score_gradient(const AttentionHead& head, int64_t query, int64_t first, int64_t count, float log_sum,
                    float delta, float* row, float* product) {
  finish_scores(head, query, first, count, row);
  alignas(64) float factors[kTile];
  if (head.dropout > 0) dropout_factors(head, query, first, count, factors);
  const f32 shift = broadcast(log_sum), mean = broadcast(delta);
  for (int64_t j = 0; j < count; j += kLane) {
    const f32 p = exp(load<f32>(row + j) - shift);
    f32 up = load<f32>(product + j);
    f32 kept = p;
    if (head.dropout > 0) {
      const f32 factor = load<f32>(factors + j);
      up *= factor;
      kept *= factor;
    }
    store(row + j, kept);
    store(product + j, p * (up - mean));
  }
}

template <typename T>
void sum_products(const T* g, const T* y, int64_t stride, int64_t rows, int64_t depth, float* deltas) {
  for (int64_t i = 0; i < rows; ++i) {
    f32 sum{};
    int64_t d = 0;
    for (; d + kLane <= depth; d += kLane)
      sum = fma(load_vector(g + i * stride + d), load_vector(y + i * stride + d), sum);
    if (d < depth)
      sum = fma(load_first(g + i * stride + d, depth - d), load_first(y + i * stride + d, depth - d), sum);
    deltas[i] = sum_lanes(sum);
  }
}

template <typename T>
void backward(const AttentionHead& head, const AttentionGradient& gradient, float* memory) {
  const int64_t depth = head.depth, width = padded(depth);
  Pieces pieces(memory);
  float* q = pieces.take(kTile * width);
  float* g = pieces.take(kTile * width);
  float* k = pieces.take(kTile * width);
  float* k_columns = pieces.take(width * kScoreRow);
  float* v_columns = pieces.take(width * kScoreRow);
  float* scores = pieces.take(kTile * kScoreRow);
  float* products = pieces.take(kTile * kScoreRow);
  float* k_sums = pieces.take(kTile * width);
  float* v_sums = pieces.take(kTile * width);
  float* deltas = pieces.take(head.queries);
  float* q_sums = pieces.take(head.queries * width);
  const auto* up = static_cast<const T*>(gradient.g);
  sum_products(up, static_cast<const T*>(gradient.y), head.result_stride, head.queries, depth, deltas);
  for (int64_t i = 0; i < head.queries * width; i += kLane) store(q_sums + i, f32{});
  for (int64_t first = 0; first < head.keys; first += kTile) {
    const int64_t count = minimum(kTile, head.keys - first);
    const int64_t offset = first * head.key_stride;
    load_rows(static_cast<const T*>(head.v) + offset, head.key_stride, count, depth, 1, k);
    transpose_tile(k, count, depth, v_columns);
    load_rows(static_cast<const T*>(head.k) + offset, head.key_stride, count, depth, 1, k);
    transpose_tile(k, count, depth, k_columns);
    for (int64_t i = 0; i < count * width; i += kLane) {
      store(k_sums + i, f32{});
      store(v_sums + i, f32{});
    }
    const int64_t start = head.causal ? first / kTile * kTile : 0;  // queries before see none of these keys
    for (int64_t query = start; query < head.queries; query += kTile) {
      const int64_t rows = minimum(kTile, head.queries - query);
      load_rows(static_cast<const T*>(head.q) + query * head.query_stride, head.query_stride, rows, depth,
                head.scale, q);
      load_rows(up + query * head.result_stride, head.result_stride, rows, depth, 1, g);
      const int64_t columns = padded(count);
      multiply_tiles({q, width, 1, k_columns, kScoreRow, scores, kScoreRow, rows, columns, depth, false});
      multiply_tiles({g, width, 1, v_columns, kScoreRow, products, kScoreRow, rows, columns, depth, false});
      for (int64_t i = 0; i < rows; ++i) {
        score_gradient(head, query + i, first, count, gradient.log_sums[query + i], deltas[query + i],
                       scores + i * kScoreRow, products + i * kScoreRow);
      }
      multiply_tiles({scores, 1, kScoreRow, g, width, v_sums, width, count, width, rows, true});
      multiply_tiles({products, 1, kScoreRow, q, width, k_sums, width, count, width, rows, true});
      multiply_tiles(
          {products, kScoreRow, 1, k, width, q_sums + query * width, width, rows, width, count, true});
    }
    store_rows(k_sums, count, depth, 1, static_cast<T*>(gradient.k) + offset, head.key_stride);
    store_rows(v_sums, count, depth, 1, static_cast<T*>(gradient.v) + offset, head.key_stride);
  }
  store_rows(q_sums, head.queries, depth, head.scale, static_cast<T*>(gradient.q), head.query_stride);
}

#ifdef MXPIPE_HAS_PAIRS
// Neighbouring rows of scores as pairs: (rows / 2, kScoreRow).
void interleave_scores(const float* scores, int64_t rows, int64_t count, std::uint32_t* tile) {
  const auto narrow = [](const float* from) {
    return __builtin_convertvector(to_bfloat16(load<f32>(from)), u32);
  };
  for (int64_t i = 0; i < rows; i += 2) {
    const float* row = scores + i * kScoreRow;
    for (int64_t j = 0; j < padded(count); j += kLane) {
      u32 pairs = narrow(row + j);
      if (i + 1 < rows) pairs |= narrow(row + kScoreRow + j) << 16;
      store(tile + i / 2 * kScoreRow + j, pairs);
    }
  }
}

// backward() with products of bfloat16 pairs where both operands were bfloat16, or are probabilities. The
// gradients of scores stay float32: their sums cancel.
void backward_pairs(const AttentionHead& head, const AttentionGradient& gradient, float* memory) {
  const int64_t depth = head.depth, width = padded(depth);
  const int64_t pairs = (depth + 1) / 2, pair_width = padded(pairs);
  Pieces pieces(memory);
  float* along = pieces.take(kTile * pair_width);  // k or v, then q
  float* g_along = pieces.take(kTile * pair_width);
  float* k_columns = pieces.take(pair_width * kScoreRow);
  float* v_columns = pieces.take(pair_width * kScoreRow);
  float* q = pieces.take(kTile * width);
  float* k = pieces.take(kTile * width);
  float* g = pieces.take(kTile / 2 * width);
  float* scores = pieces.take(kTile * kScoreRow);
  float* products = pieces.take(kTile * kScoreRow);
  float* score_pairs = pieces.take(kTile / 2 * kScoreRow);
  float* k_sums = pieces.take(kTile * width);
  float* v_sums = pieces.take(kTile * width);
  float* deltas = pieces.take(head.queries);
  float* q_sums = pieces.take(head.queries * width);
  const auto* all_q = static_cast<const Bfloat16*>(head.q);
  const auto* all_k = static_cast<const Bfloat16*>(head.k);
  const auto* up = static_cast<const Bfloat16*>(gradient.g);
  sum_products(up, static_cast<const Bfloat16*>(gradient.y), head.result_stride, head.queries, depth, deltas);
  for (int64_t i = 0; i < head.queries * width; i += kLane) store(q_sums + i, f32{});
  const f32 scale = broadcast(head.scale);
  for (int64_t first = 0; first < head.keys; first += kTile) {
    const int64_t count = minimum(kTile, head.keys - first), columns = padded(count);
    const int64_t offset = first * head.key_stride;
    load_pairs(static_cast<const Bfloat16*>(head.v) + offset, head.key_stride, count, depth, along);
    transpose_tile(along, count, pairs, v_columns);
    load_pairs(all_k + offset, head.key_stride, count, depth, along);
    transpose_tile(along, count, pairs, k_columns);
    load_rows(all_k + offset, head.key_stride, count, depth, 1, k);
    for (int64_t i = 0; i < count * width; i += kLane) {
      store(k_sums + i, f32{});
      store(v_sums + i, f32{});
    }
    const int64_t start = head.causal ? first / kTile * kTile : 0;  // queries before see none of these keys
    for (int64_t query = start; query < head.queries; query += kTile) {
      const int64_t rows = minimum(kTile, head.queries - query), row_pairs = (rows + 1) / 2;
      const Bfloat16* own_q = all_q + query * head.query_stride;
      const Bfloat16* own_g = up + query * head.result_stride;
      load_pairs(own_q, head.query_stride, rows, depth, along);
      load_pairs(own_g, head.result_stride, rows, depth, g_along);
      multiply_pairs({as_pairs(along), pair_width, 1, as_pairs(k_columns), kScoreRow, scores, kScoreRow, rows,
                      columns, pairs, false});
      multiply_pairs({as_pairs(g_along), pair_width, 1, as_pairs(v_columns), kScoreRow, products, kScoreRow,
                      rows, columns, pairs, false});
      for (int64_t i = 0; i < rows; ++i) {
        float* row = scores + i * kScoreRow;
        float* product = products + i * kScoreRow;
        for (int64_t j = 0; j < count; j += kLane) store(row + j, load<f32>(row + j) * scale);
        score_gradient(head, query + i, first, count, gradient.log_sums[query + i], deltas[query + i], row,
                       product);
      }
      interleave_scores(scores, rows, count, as_pairs(score_pairs));
      interleave_rows(own_g, head.result_stride, rows, depth, as_pairs(g));
      multiply_pairs({as_pairs(score_pairs), 1, kScoreRow, as_pairs(g), width, v_sums, width, count, width,
                      row_pairs, true});
      load_rows(own_q, head.query_stride, rows, depth, 1, q);
      multiply_tiles({products, 1, kScoreRow, q, width, k_sums, width, count, width, rows, true});
      multiply_tiles(
          {products, kScoreRow, 1, k, width, q_sums + query * width, width, rows, width, count, true});
    }
    store_rows(k_sums, count, depth, head.scale, static_cast<Bfloat16*>(gradient.k) + offset,
               head.key_stride);
    store_rows(v_sums, count, depth, 1, static_cast<Bfloat16*>(gradient.v) + offset, head.key_stride);
  }
  store_rows(q_sums, head.queries, depth, head.scale, static_cast<Bfloat16*>(gradient.q), head.query_stride);
}
#endif

void backward_bfloat16(const AttentionHead& head, const AttentionGradient& gradient, float* memory) {
#ifdef MXPIPE_HAS_PAIRS
  if (cpu_has_pairs()) return backward_pairs(head, gradient, memory);
#endif
  backward<Bfloat16>(head, gradient, memory);
}

}  // namespace

AttentionFunctions make_attention_functions() {
  return {forward<float>, forward_bfloat16, backward<float>, backward_bfloat16};
}

}  // namespace mxpipe::MXPIPE_ISA
