// What kernels/vec/recurrent.cpp asks of each instruction set: one time step of LSTM, GRU and RNN, forward
// and backward. Part of table.hpp, under its rules.
#pragma once

#include <cstdint>

namespace mxpipe {

enum class CellKind : std::uint8_t { lstm, gru, rnn_tanh, rnn_relu };

// One time step of a recurrent layer over `rows` rows of its batch. Rows are contiguous.
template <typename T>
struct CellStep {
  CellKind kind = CellKind::lstm;
  std::int64_t rows = 0, inputs = 0, units = 0;
  const T* x = nullptr;              // (rows, inputs)
  const T* h = nullptr;              // (rows, units): the state before
  const T* c = nullptr;              // of LSTM
  const T* input_weights = nullptr;  // packed, as `hidden_weights`
  const T* hidden_weights = nullptr;
  const T* input_bias = nullptr;  // (gates * units)
  const T* hidden_bias = nullptr;
  T* new_h = nullptr;
  T* new_c = nullptr;
  // A row of a length of at most `time` keeps its state: it has ended. Null: none has.
  const std::int64_t* lengths = nullptr;
  std::int64_t time = 0;
  T* kept = nullptr;  // (rows, 4, units): LSTM i f g o, GRU r z n and the hidden part of n; null: not kept
};

// The same step backwards. `dh` and `dc` hold the gradients of the state after it, and then before it.
template <typename T>
struct CellGradient {
  CellKind kind = CellKind::lstm;
  std::int64_t rows = 0, units = 0;
  const T* weights = nullptr;   // the hidden weights, packed for the product with gradients
  const T* h_before = nullptr;  // of GRU
  const T* h = nullptr;         // of RNN
  const T* c_before = nullptr;  // of LSTM, as c
  const T* c = nullptr;
  const T* kept = nullptr;
  const T* y_gradient = nullptr;          // (rows, units) or null
  const std::int64_t* lengths = nullptr;  // as in CellStep
  std::int64_t time = 0;
  T* dh = nullptr;
  T* dc = nullptr;
  T* gates = nullptr;         // (rows, gates * units): the gradient before the nonlinearities
  T* hidden_gates = nullptr;  // of GRU: the same for the products with h
};

template <typename T>
struct RecurrentFunctions {
  void (*step)(const CellStep<T>& step) = nullptr;
  void (*gradient)(const CellGradient<T>& step) = nullptr;
  // Weights (gates * units, depth) in the order in which step reads them; elements of the result.
  std::int64_t (*packed_size)(CellKind kind, std::int64_t units, std::int64_t depth) = nullptr;
  void (*pack)(CellKind kind, const T* weights, std::int64_t units, std::int64_t depth, T* packed) = nullptr;
  // Hidden weights (gates * units, units) in the order in which gradient reads them.
  std::int64_t (*packed_gradient_size)(CellKind kind, std::int64_t units) = nullptr;
  void (*pack_gradient)(CellKind kind, const T* weights, std::int64_t units, T* packed) = nullptr;
};

}  // namespace mxpipe
