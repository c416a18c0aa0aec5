// One time step of LSTM, GRU and RNN, forward and backward: products with the packed weights in tiles of
// registers, whose sums pass through the cell's nonlinearities before they reach memory.
// Operations: 2 gates units (inputs + units) a row forward, 2 gates units^2 backward; bytes: the weights,
// from L2, once for each tile of rows.
#include "kernels/vec/simd/functions.hpp"
#include "kernels/vec/simd/math.hpp"

namespace mxpipe::MXPIPE_ISA {
namespace {

using std::int64_t;

// A tile is kTileRows rows by kSlots vectors of sums: 24 of AVX-512's 32 registers, 8 of 16 elsewhere.
constexpr int kTileRows = kVectorBytes == 64 ? 6 : 2;
constexpr int kSlots = 4;

template <typename T>
using Tile = Vec<T>[kSlots];

template <typename T>
Vec<T> load_some(const T* from, int64_t count) {
  if (count >= kLanes<T>) [[likely]]
    return load<Vec<T>>(from);
  Vec<T> v{};
  for (int64_t i = 0; i < count; ++i) v[i] = from[i];
  return v;
}
template <typename T>
void store_some(T* to, int64_t count, Vec<T> v) {
  if (count >= kLanes<T>) [[likely]] {
    store(to, v);
    return;
  }
  for (int64_t i = 0; i < count; ++i) to[i] = v[i];
}

constexpr int gates_of(CellKind kind) { return kind == CellKind::lstm ? 4 : kind == CellKind::gru ? 3 : 1; }
// The vectors that lie side by side in packed weights: the gates of some units, or for a plain RNN the only
// gate of four times as many.
constexpr int vectors_of(CellKind kind) { return kind == CellKind::gru ? 3 : kSlots; }
template <typename T>
constexpr int64_t units_of_tile(CellKind kind) {
  return gates_of(kind) == 1 ? kSlots * kLanes<T> : kLanes<T>;
}
constexpr int64_t blocks_of(int64_t size, int64_t block) { return (size + block - 1) / block; }

// Rows of the next tile: as even as can be.
constexpr int64_t tile_rows(int64_t rows) { return blocks_of(rows, blocks_of(rows, kTileRows)); }

// sums[row][slots[i]] += a[row] * weights[i], over the depth.
template <int rows, int... slots, typename T>
[[gnu::always_inline]] inline void multiply(Tile<T>* sums, const T* a, int64_t stride, const T* weights,
                                            int64_t depth) {
  constexpr int kSlotOf[] = {slots...};
  constexpr int kCount = sizeof...(slots);
  Vec<T> tile[rows][kCount];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) tile[r][i] = sums[r][kSlotOf[i]];
  }
  for (int64_t k = 0; k < depth; ++k, weights += kCount * kLanes<T>) {
    Vec<T> w[kCount];
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) w[i] = load<Vec<T>>(weights + i * kLanes<T>);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      const Vec<T> factor = a[r * stride + k] - Vec<T>{};
#pragma GCC unroll 4
      for (int i = 0; i < kCount; ++i) tile[r][i] = fma(factor, w[i], tile[r][i]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) sums[r][kSlotOf[i]] = tile[r][i];
  }
}

template <typename Step>
bool has_ended(const Step& step, int64_t row) {
  return step.lengths != nullptr && step.time >= step.lengths[row];
}

// ------------------------------------------------------------------------------------------------- forward

// What a tile starts from: the biases of `count` units from `unit` on.
template <typename T>
void start(const CellStep<T>& step, int64_t unit, int64_t count, Tile<T>& biases) {
  const auto bias = [&](const T* from, int64_t position, int64_t left) {
    return left > 0 ? load_some(from + position, left) : Vec<T>{};
  };
  for (int slot = 0; slot < kSlots; ++slot) {
    const int64_t gate = step.kind == CellKind::gru && slot == 3 ? 2 : slot;
    const bool plain = gates_of(step.kind) == 1;
    const int64_t position = plain ? unit + slot * kLanes<T> : gate * step.units + unit;
    const int64_t left = plain ? count - slot * kLanes<T> : count;
    biases[slot] = Vec<T>{};
    // GRU's candidate keeps the hidden part by itself, in slot 3: the reset gate comes between.
    if (step.kind != CellKind::gru || slot < 3) biases[slot] = bias(step.input_bias, position, left);
    if (step.kind != CellKind::gru || slot != 2) biases[slot] += bias(step.hidden_bias, position, left);
  }
}

template <typename T>
void keep(const CellStep<T>& step, int64_t row, int64_t unit, int64_t count, const Tile<T>& values) {
  if (step.kept == nullptr) return;
  for (int slot = 0; slot < kSlots; ++slot) {
    store_some(step.kept + (row * kSlots + slot) * step.units + unit, count, values[slot]);
  }
}

// c' = f c + i g, h' = o tanh(c')
template <typename T>
void finish_lstm(const CellStep<T>& step, int64_t row, int64_t unit, int64_t count, const Tile<T>& sums) {
  const int64_t at = row * step.units + unit;
  const Tile<T> gates = {sigmoid(sums[0]), sigmoid(sums[1]), tanh(sums[2]), sigmoid(sums[3])};
  const Vec<T> c = gates[1] * load_some(step.c + at, count) + gates[0] * gates[2];
  store_some(step.new_c + at, count, c);
  store_some<T>(step.new_h + at, count, gates[3] * tanh(c));
  keep(step, row, unit, count, gates);
}

// n = tanh(input part + r * hidden part), h' = n + z (h - n)
template <typename T>
void finish_gru(const CellStep<T>& step, int64_t row, int64_t unit, int64_t count, const Tile<T>& sums) {
  const int64_t at = row * step.units + unit;
  const Vec<T> r = sigmoid(sums[0]), z = sigmoid(sums[1]);
  const Vec<T> n = tanh(fma(r, sums[3], sums[2]));
  store_some<T>(step.new_h + at, count, n + z * (load_some(step.h + at, count) - n));
  keep<T>(step, row, unit, count, {r, z, n, sums[3]});
}

template <typename T>
void finish_ended(const CellStep<T>& step, int64_t row, int64_t unit, int64_t count) {
  for (int64_t j = row * step.units + unit; j < row * step.units + unit + count; ++j) {
    step.new_h[j] = step.h[j];
    if (step.new_c != nullptr) step.new_c[j] = step.c[j];
  }
  if (gates_of(step.kind) == 1) return;
  const Tile<T> nothing = {};
  keep(step, row, unit, count, nothing);
}

template <typename T>
void finish_rnn(const CellStep<T>& step, int64_t row, int64_t unit, int64_t count, const Tile<T>& sums) {
  for (int slot = 0; slot < kSlots && slot * kLanes<T> < count; ++slot) {
    const Vec<T> x = sums[slot];
    const Vec<T> y = step.kind == CellKind::rnn_relu ? select(x < Vec<T>{}, Vec<T>{}, x) : tanh(x);
    const int64_t offset = slot * kLanes<T>;
    store_some<T>(step.new_h + row * step.units + unit + offset, count - offset, y);
  }
}

// Rows [row, row + rows) and the units of one block of weights.
template <int rows, typename T>
void step_tile(const CellStep<T>& step, int64_t row, int64_t block, const Tile<T>& biases) {
  const int64_t units = units_of_tile<T>(step.kind), vectors = vectors_of(step.kind);
  const int64_t unit = block * units,
                count = std::int64_t(step.units - unit) < units ? step.units - unit : units;
  const T* x = step.x + row * step.inputs;
  const T* h = step.h + row * step.units;
  const T* input_weights = step.input_weights + block * step.inputs * vectors * kLanes<T>;
  const T* hidden_weights = step.hidden_weights + block * step.units * vectors * kLanes<T>;
  Tile<T> sums[rows];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
    for (int slot = 0; slot < kSlots; ++slot) sums[r][slot] = biases[slot];
  }
  if (step.kind == CellKind::gru) {
    multiply<rows, 0, 1, 2>(sums, x, step.inputs, input_weights, step.inputs);
    multiply<rows, 0, 1, 3>(sums, h, step.units, hidden_weights, step.units);
  } else {
    multiply<rows, 0, 1, 2, 3>(sums, x, step.inputs, input_weights, step.inputs);
    multiply<rows, 0, 1, 2, 3>(sums, h, step.units, hidden_weights, step.units);
  }
  const auto finish = step.kind == CellKind::lstm  ? finish_lstm<T>
                      : step.kind == CellKind::gru ? finish_gru<T>
                                                   : finish_rnn<T>;
  for (int r = 0; r < rows; ++r) {
    if (has_ended(step, row + r)) {
      finish_ended(step, row + r, unit, count);
    } else {
      finish(step, row + r, unit, count, sums[r]);
    }
  }
}

// Calls body.template operator()<rows>() for the number of rows that is known only now.
template <int rows = kTileRows, typename Body>
void with_rows(int64_t count, const Body& body) {
  if constexpr (rows > 0) {
    if (count == rows) {
      body.template operator()<rows>();
    } else {
      with_rows<rows - 1>(count, body);
    }
  }
}

// A block of weights passes all rows before the next one is read.
template <typename T>
void cell_step(const CellStep<T>& step) {
  const int64_t units = units_of_tile<T>(step.kind);
  for (int64_t block = 0; block < blocks_of(step.units, units); ++block) {
    const int64_t unit = block * units;
    Tile<T> biases;
    start(step, unit, step.units - unit < units ? step.units - unit : units, biases);
    for (int64_t row = 0, count = 0; row < step.rows; row += count) {
      count = tile_rows(step.rows - row);
      with_rows(count, [&]<int rows>() { step_tile<rows>(step, row, block, biases); });
    }
  }
}

// (block, depth, vector, lane); lanes and vectors behind the last unit are 0.
template <typename T>
void pack(CellKind kind, const T* weights, int64_t units, int64_t depth, T* packed) {
  const int64_t block_units = units_of_tile<T>(kind), vectors = vectors_of(kind);
  const bool plain = gates_of(kind) == 1;
  for (int64_t block = 0; block < blocks_of(units, block_units); ++block) {
    for (int64_t vector = 0; vector < vectors; ++vector) {
      for (int64_t lane = 0; lane < kLanes<T>; ++lane) {
        const int64_t unit = block * block_units + lane + (plain ? vector * kLanes<T> : 0);
        const T* from = weights + (plain ? unit : vector * units + unit) * depth;
        T* to = packed + block * depth * vectors * kLanes<T> + vector * kLanes<T> + lane;
        for (int64_t k = 0; k < depth; ++k) to[k * vectors * kLanes<T>] = unit < units ? from[k] : T(0);
      }
    }
  }
}

template <typename T>
int64_t packed_size(CellKind kind, int64_t units, int64_t depth) {
  return blocks_of(units, units_of_tile<T>(kind)) * depth * vectors_of(kind) * kLanes<T>;
}

// ------------------------------------------------------------------------------------------------ backward

// The gradients before the nonlinearities of one row; dh becomes what passes the step beside the product.
template <typename T>
void lstm_gates(const CellGradient<T>& step, int64_t row, int64_t unit, int64_t count, Vec<T> dh) {
  const int64_t at = row * step.units + unit;
  const T* kept = step.kept + row * 4 * step.units + unit;
  T* gates = step.gates + row * 4 * step.units + unit;
  const Vec<T> i = load_some(kept, count), f = load_some(kept + step.units, count);
  const Vec<T> g = load_some(kept + 2 * step.units, count), o = load_some(kept + 3 * step.units, count);
  const Vec<T> squashed = tanh(load_some(step.c + at, count));
  const Vec<T> dc = load_some(step.dc + at, count) + dh * o * (T(1) - squashed * squashed);
  store_some<T>(gates, count, dc * g * i * (T(1) - i));
  store_some<T>(gates + step.units, count, dc * load_some(step.c_before + at, count) * f * (T(1) - f));
  store_some<T>(gates + 2 * step.units, count, dc * i * (T(1) - g * g));
  store_some<T>(gates + 3 * step.units, count, dh * squashed * o * (T(1) - o));
  store_some<T>(step.dc + at, count, dc * f);
}

template <typename T>
void gru_gates(const CellGradient<T>& step, int64_t row, int64_t unit, int64_t count, Vec<T> dh) {
  const int64_t at = row * step.units + unit;
  const T* kept = step.kept + row * 4 * step.units + unit;
  T* gates = step.gates + row * 3 * step.units + unit;
  T* hidden_gates = step.hidden_gates + row * 3 * step.units + unit;
  const Vec<T> r = load_some(kept, count), z = load_some(kept + step.units, count);
  const Vec<T> n = load_some(kept + 2 * step.units, count), hidden = load_some(kept + 3 * step.units, count);
  const Vec<T> dn = dh * (T(1) - z) * (T(1) - n * n);
  const Vec<T> dr = dn * hidden * r * (T(1) - r);
  const Vec<T> dz = dh * (load_some(step.h_before + at, count) - n) * z * (T(1) - z);
  store_some<T>(gates, count, dr);
  store_some<T>(gates + step.units, count, dz);
  store_some<T>(gates + 2 * step.units, count, dn);
  store_some<T>(hidden_gates, count, dr);
  store_some<T>(hidden_gates + step.units, count, dz);
  store_some<T>(hidden_gates + 2 * step.units, count, dn * r);
  store_some<T>(step.dh + at, count, dh * z);
}

template <typename T>
void rnn_gates(const CellGradient<T>& step, int64_t row, int64_t unit, int64_t count, Vec<T> dh) {
  const int64_t at = row * step.units + unit;
  const Vec<T> h = load_some(step.h + at, count);
  const bool relu = step.kind == CellKind::rnn_relu;
  store_some<T>(step.gates + at, count, relu ? select(h > Vec<T>{}, dh, Vec<T>{}) : dh * (T(1) - h * h));
}

// No gate had a say: the gradient of the state passes.
template <typename T>
void ended_gates(const CellGradient<T>& step, int64_t row, int64_t unit, int64_t count, Vec<T> dh) {
  const int64_t gates = gates_of(step.kind);
  for (int64_t gate = 0; gate < gates; ++gate) {
    const int64_t at = (row * gates + gate) * step.units + unit;
    store_some(step.gates + at, count, Vec<T>{});
    if (step.hidden_gates != nullptr) store_some(step.hidden_gates + at, count, Vec<T>{});
  }
  store_some(step.dh + row * step.units + unit, count, dh);
}

template <typename T>
void gate_gradients(const CellGradient<T>& step, int64_t row) {
  const auto gates = has_ended(step, row)          ? ended_gates<T>
                     : step.kind == CellKind::lstm ? lstm_gates<T>
                     : step.kind == CellKind::gru  ? gru_gates<T>
                                                   : rnn_gates<T>;
  for (int64_t unit = 0; unit < step.units; unit += kLanes<T>) {
    const int64_t at = row * step.units + unit, count = step.units - unit;
    Vec<T> dh = load_some(step.dh + at, count);
    if (step.y_gradient != nullptr) dh += load_some(step.y_gradient + at, count);
    gates(step, row, unit, count, dh);
  }
}

// dh = gates times the hidden weights, plus what passed beside them: of GRU, and where a row has ended.
template <int rows, typename T>
void product_tile(const CellGradient<T>& step, int64_t row, int64_t block) {
  const int64_t width = gates_of(step.kind) * step.units;
  const T* gates = (step.kind == CellKind::gru ? step.hidden_gates : step.gates) + row * width;
  const int64_t unit = block * kSlots * kLanes<T>;
  Tile<T> sums[rows] = {};
  multiply<rows, 0, 1, 2, 3>(sums, gates, width, step.weights + unit * width, width);
  for (int r = 0; r < rows; ++r) {
    T* dh = step.dh + (row + r) * step.units + unit;
    const bool adds = step.kind == CellKind::gru || has_ended(step, row + r);
    for (int slot = 0; slot < kSlots; ++slot) {
      const int64_t offset = slot * kLanes<T>, count = step.units - unit - offset;
      if (count <= 0) break;
      const Vec<T> beside = adds ? load_some(dh + offset, count) : Vec<T>{};
      store_some<T>(dh + offset, count, beside + sums[r][slot]);
    }
  }
}

template <typename T>
void cell_gradient(const CellGradient<T>& step) {
  for (int64_t row = 0, count = 0; row < step.rows; row += count) {
    count = tile_rows(step.rows - row);
    for (int64_t r = row; r < row + count; ++r) gate_gradients(step, r);
    for (int64_t block = 0; block < blocks_of(step.units, kSlots * kLanes<T>); ++block) {
      with_rows(count, [&]<int rows>() { product_tile<rows>(step, row, block); });
    }
  }
}

// (block of units, depth, unit): rows of the weights stay rows.
template <typename T>
void pack_gradient(CellKind kind, const T* weights, int64_t units, T* packed) {
  constexpr int64_t kWidth = kSlots * kLanes<T>;
  for (int64_t block = 0; block < blocks_of(units, kWidth); ++block) {
    for (int64_t k = 0; k < gates_of(kind) * units; ++k) {
      for (int64_t j = 0; j < kWidth; ++j) {
        const int64_t unit = block * kWidth + j;
        *packed++ = unit < units ? weights[k * units + unit] : T(0);
      }
    }
  }
}

template <typename T>
int64_t packed_gradient_size(CellKind kind, int64_t units) {
  constexpr int64_t kWidth = kSlots * kLanes<T>;
  return blocks_of(units, kWidth) * gates_of(kind) * units * kWidth;
}

}  // namespace

template <typename T>
RecurrentFunctions<T> make_recurrent_functions() {
  return {cell_step<T>, cell_gradient<T>, packed_size<T>, pack<T>, packed_gradient_size<T>, pack_gradient<T>};
}

template RecurrentFunctions<float> make_recurrent_functions<float>();
template RecurrentFunctions<double> make_recurrent_functions<double>();

}  // namespace mxpipe::MXPIPE_ISA
