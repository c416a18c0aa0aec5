// LSTM, GRU and RNN over a whole sequence, one direction. A thread walks all time steps over its own rows of
// the batch: rows know nothing of each other, so that no step waits for another thread, and a row's result
// does not depend on the rows beside it.
// Operations: 2 gates units (inputs + units) for each row and time step; bytes: x, and y, c and the gates for
// backward, once.
#include <algorithm>

#include "graph/error.hpp"
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "kernels/portable/widened.hpp"
#include "kernels/vec/isa.hpp"

namespace mxpipe {
namespace {

struct Sequence {
  CellKind kind = CellKind::lstm;
  std::int64_t time = 0, batch = 0, units = 0;
  bool reverse = false;

  // Which row of a (time, batch, ...) array belongs to row `row` of the batch in the step that runs
  // `index`th.
  std::int64_t row_of(std::int64_t index, std::int64_t row) const { return step(index) * batch + row; }
  std::int64_t step(std::int64_t index) const { return reverse ? time - 1 - index : index; }
  // Rows of one thread's walk: a few walks a thread, so that a delayed one does not hold up the rest.
  std::int64_t grain() const {
    const std::int64_t walks = std::int64_t{2} * num_threads();
    return std::max<std::int64_t>((batch + walks - 1) / walks, 4);
  }
};

CellKind kind_of(const KernelRequest& request) {
  if (request.op.starts_with("lstm")) return CellKind::lstm;
  if (request.op.starts_with("gru")) return CellKind::gru;
  return request.attributes.string("activation") == "relu" ? CellKind::rnn_relu : CellKind::rnn_tanh;
}

// ------------------------------------------------------------------------------------------------- forward

// Inputs: x, the two weights, the two biases, h0, LSTM's c0, perhaps lengths. Outputs: y, h; of LSTM c and
// all c; but for RNN the gates.
template <typename T>
class RecurrentKernel final : public Kernel {
 public:
  explicit RecurrentKernel(const KernelRequest& request) {
    const Shape& x = request.inputs[0].shape;
    inputs_ = x[2];
    sequence_ = {kind_of(request), x[0], x[1], request.inputs[5].shape[1],
                 request.attributes.boolean("reverse")};
    keep_ = sequence_.kind < CellKind::rnn_tanh && request.attributes.boolean("keep");
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    parallel_for(sequence_.batch, sequence_.grain(),
                 [&](std::int64_t begin, std::int64_t end) { walk(inputs, outputs, begin, end); });
  }

  std::size_t packed_bytes(std::size_t input) const override {
    return is_weight(input) ? static_cast<std::size_t>(packed_size(input)) * sizeof(T) : 0;
  }
  void pack(std::size_t input, const void* raw, void* packed) const override {
    if (!is_weight(input)) return;
    recurrent_functions<T>().pack(sequence_.kind, static_cast<const T*>(raw), sequence_.units, depth(input),
                                  static_cast<T*>(packed));
  }
  std::string describe() const override { return text("vec ", isa().name, " recurrent layer"); }

 private:
  static bool is_weight(std::size_t input) { return input == 1 || input == 2; }
  std::int64_t depth(std::size_t input) const { return input == 1 ? inputs_ : sequence_.units; }
  std::int64_t packed_size(std::size_t input) const {
    return recurrent_functions<T>().packed_size(sequence_.kind, sequence_.units, depth(input));
  }

  void walk(std::span<const void* const> inputs, std::span<void* const> outputs, std::int64_t begin,
            std::int64_t end) const {
    const auto source = [&](std::size_t i) { return static_cast<const T*>(inputs[i]); };
    const auto result = [&](std::size_t i) { return static_cast<T*>(outputs[i]); };
    const Sequence& s = sequence_;
    const bool lstm = s.kind == CellKind::lstm;
    const std::int64_t first = begin * s.units, size = (end - begin) * s.units;
    CellStep<T> step{.kind = s.kind,
                     .rows = end - begin,
                     .inputs = inputs_,
                     .units = s.units,
                     .h = source(5) + first,
                     .input_weights = source(1),
                     .hidden_weights = source(2),
                     .input_bias = source(3),
                     .hidden_bias = source(4)};
    const std::size_t states = lstm ? 2 : 1;
    if (inputs.size() > 5 + states) {
      step.lengths = static_cast<const std::int64_t*>(inputs[5 + states]) + begin;
    }
    if (lstm) {
      std::copy_n(source(6) + first, size, result(2) + first);
      step.c = step.new_c = result(2) + first;
    }
    for (std::int64_t i = 0; i < s.time; ++i) {
      const std::int64_t row = s.row_of(i, begin);
      step.time = s.step(i);
      step.x = source(0) + row * inputs_;
      step.new_h = result(0) + row * s.units;
      if (keep_) step.kept = result(lstm ? 4 : 2) + row * 4 * s.units;
      if (keep_ && lstm) step.new_c = result(3) + row * s.units;
      recurrent_functions<T>().step(step);
      step.h = step.new_h;
      step.c = step.new_c;
    }
    std::copy_n(step.h, size, result(1) + first);
    if (lstm && step.c != result(2) + first) std::copy_n(step.c, size, result(2) + first);
  }

  Sequence sequence_;
  std::int64_t inputs_ = 0;
  bool keep_ = false;
};

// ------------------------------------------------------------------------------------------------ backward

// Where the inputs and outputs of the three backward ops lie; -1: not there. Inputs begin with the hidden
// weights and the gradient of the last h, and may end with lengths and the gradient of y.
struct BackwardPlaces {
  int h0, y, dc, c0, cells, kept, rest;
  int hidden_gates, dh0, dc0;  // outputs, after the gates
};
constexpr BackwardPlaces places_of(CellKind kind) {
  if (kind == CellKind::lstm) return {-1, -1, 2, 3, 4, 5, 6, -1, 1, 2};
  if (kind == CellKind::gru) return {2, 3, -1, -1, -1, 4, 5, 1, 2, -1};
  return {-1, 2, -1, -1, -1, -1, 3, -1, 1, -1};
}

template <typename T>
class RecurrentBackwardKernel final : public Kernel {
 public:
  explicit RecurrentBackwardKernel(const KernelRequest& request) : places_(places_of(kind_of(request))) {
    const Shape& gates = request.outputs[0].shape;
    sequence_ = {kind_of(request), gates[0], gates[1], request.inputs[0].shape[1],
                 request.attributes.boolean("reverse")};
    width_ = gates[2];
    const int count = static_cast<int>(request.inputs.size());
    if (request.attributes.boolean("lengths")) lengths_ = places_.rest++;
    if (places_.rest < count) y_gradient_ = places_.rest;
  }

  void run(std::span<const void* const> inputs, std::span<void* const> outputs, void*) const override {
    parallel_for(sequence_.batch, sequence_.grain(),
                 [&](std::int64_t begin, std::int64_t end) { walk(inputs, outputs, begin, end); });
  }

  std::size_t packed_bytes(std::size_t input) const override {
    if (input != 0) return 0;
    const auto size = recurrent_functions<T>().packed_gradient_size(sequence_.kind, sequence_.units);
    return static_cast<std::size_t>(size) * sizeof(T);
  }
  void pack(std::size_t input, const void* raw, void* packed) const override {
    if (input != 0) return;
    recurrent_functions<T>().pack_gradient(sequence_.kind, static_cast<const T*>(raw), sequence_.units,
                                           static_cast<T*>(packed));
  }
  std::string describe() const override { return text("vec ", isa().name, " recurrent layer backward"); }

 private:
  void walk(std::span<const void* const> inputs, std::span<void* const> outputs, std::int64_t begin,
            std::int64_t end) const {
    const Sequence& s = sequence_;
    const auto source = [&](int i, std::int64_t offset) {
      return i < 0 ? nullptr : static_cast<const T*>(inputs[static_cast<std::size_t>(i)]) + offset;
    };
    const auto result = [&](int i, std::int64_t offset) {
      return i < 0 ? nullptr : static_cast<T*>(outputs[static_cast<std::size_t>(i)]) + offset;
    };
    const std::int64_t first = begin * s.units, size = (end - begin) * s.units;
    CellGradient<T> step{.kind = s.kind,
                         .rows = end - begin,
                         .units = s.units,
                         .weights = source(0, 0),
                         .dh = result(places_.dh0, first),
                         .dc = result(places_.dc0, first)};
    if (lengths_ >= 0) {
      step.lengths = static_cast<const std::int64_t*>(inputs[static_cast<std::size_t>(lengths_)]) + begin;
    }
    std::copy_n(source(1, first), size, step.dh);
    if (step.dc != nullptr) std::copy_n(source(places_.dc, first), size, step.dc);
    for (std::int64_t i = s.time - 1; i >= 0; --i) {
      const std::int64_t row = s.row_of(i, begin), at = row * s.units;
      const std::int64_t before = i > 0 ? s.row_of(i - 1, begin) * s.units : 0;
      step.time = s.step(i);
      step.h_before = i > 0 ? source(places_.y, before) : source(places_.h0, first);
      step.h = source(places_.y, at);
      step.c_before = i > 0 ? source(places_.cells, before) : source(places_.c0, first);
      step.c = source(places_.cells, at);
      step.kept = source(places_.kept, 4 * at);
      step.y_gradient = source(y_gradient_, at);
      step.gates = result(0, row * width_);
      step.hidden_gates = result(places_.hidden_gates, row * width_);
      recurrent_functions<T>().gradient(step);
    }
  }

  Sequence sequence_;
  BackwardPlaces places_;
  int lengths_ = -1, y_gradient_ = -1;
  std::int64_t width_ = 0;
};

template <template <typename> class Recurrent>
std::unique_ptr<Kernel> make_recurrent(const KernelRequest& request) {
  if (has_half(request)) return make_widened(request);
  if (request.inputs[0].dtype == DType::float64) return std::make_unique<Recurrent<double>>(request);
  return std::make_unique<Recurrent<float>>(request);
}

MXPIPE_KERNEL("lstm", 100, make_recurrent<RecurrentKernel>);
MXPIPE_KERNEL("gru", 100, make_recurrent<RecurrentKernel>);
MXPIPE_KERNEL("rnn", 100, make_recurrent<RecurrentKernel>);
MXPIPE_KERNEL("lstm_backward", 100, make_recurrent<RecurrentBackwardKernel>);
MXPIPE_KERNEL("gru_backward", 100, make_recurrent<RecurrentBackwardKernel>);
MXPIPE_KERNEL("rnn_backward", 100, make_recurrent<RecurrentBackwardKernel>);

}  // namespace
}  // namespace mxpipe
