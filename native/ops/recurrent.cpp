// LSTM, GRU and RNN: one layer in one direction over a whole sequence. The backward ops walk back through
// time and give the gradients before the nonlinearities; those of weights, biases and x are then one product
// or sum each over all time steps.
#include "ops/declare.hpp"

namespace mxpipe::ops {
namespace {

// The inputs of all forward ops; LSTM's c0 comes last.
enum Place : std::size_t { kX, kInputWeight, kHiddenWeight, kInputBias, kHiddenBias, kH, kC };

struct Cell {
  std::string name;
  std::int64_t gates;
  bool has_c = false;     // a second state
  bool keeps = true;      // gates are kept for backward
  bool by_parts = false;  // the products with x and with h have gradients of their own
};
const Cell kLstm{.name = "lstm", .gates = 4, .has_c = true};
const Cell kGru{.name = "gru", .gates = 3, .by_parts = true};
const Cell kRnn{.name = "rnn", .gates = 1, .keeps = false};

std::string backward_of(const Cell& cell) { return cell.name + "_backward"; }

// ----------------------------------------------------------------------------------------------- declaration

std::vector<InputSchema> forward_inputs(const Cell& cell) {
  const std::string rows = std::to_string(cell.gates) + " * units";
  std::vector<InputSchema> inputs = {{"x", "array (time, batch, inputs) of a floating dtype"},
                                     {"input_weight", "array (" + rows + ", inputs)"},
                                     {"hidden_weight", "array (" + rows + ", units)"},
                                     {"input_bias", "array (" + rows + ",)"},
                                     {"hidden_bias", "array (" + rows + ",)"},
                                     {"h", "array (batch, units): the state before the first step"}};
  if (cell.has_c) inputs.push_back({"c", "array (batch, units): the memory before the first step"});
  inputs.push_back({.name = "lengths",
                    .doc = "int64 array (batch,): from this time step on a row keeps its state",
                    .optional = true});
  return inputs;
}

std::vector<AttributeSchema> cell_attributes(const Cell& cell) {
  std::vector<AttributeSchema> attributes = {
      attribute("reverse", Attribute(false), "walk from the last time step to the first")};
  if (cell.keeps) attributes.push_back(attribute("keep", Attribute(true), "keep what backward needs"));
  if (cell.name == kRnn.name) {
    attributes.push_back(attribute("activation", Attribute(std::string("tanh")), "tanh or relu"));
  }
  return attributes;
}

std::size_t states_of(const Cell& cell) { return cell.has_c ? 2 : 1; }
// Where forward's optional input lies.
std::size_t lengths_place(const Cell& cell) { return kH + states_of(cell); }

void require_lengths(std::string_view op, const TensorType& lengths, std::int64_t batch) {
  require(lengths == TensorType{DType::int64, Shape{batch}}, op,
          "lengths must be int64, one for each row; got ", lengths, " for a batch of ", batch, ".");
}

void require_shape(std::string_view op, std::string_view name, const TensorType& type, const Shape& shape) {
  require(type.shape == shape, op, name, " must have shape ", shape, "; got ", type.shape, ".");
}

InferTypes infer_forward(const Cell& cell) {
  return [cell](Types inputs, const Attributes& attributes) -> std::vector<TensorType> {
    const TensorType& x = inputs[kX];
    require_floating(cell.name, "x", x);
    require_rank(cell.name, "x", x, 3);
    require_rank(cell.name, "h", inputs[kH], 2);
    const std::int64_t time = x.shape[0], batch = x.shape[1], units = inputs[kH].shape[1];
    const std::int64_t rows = cell.gates * units;
    require(units > 0, cell.name, "h must have at least one column; got shape ", inputs[kH].shape, ".");
    require_shape(cell.name, "input_weight", inputs[kInputWeight], Shape{rows, x.shape[2]});
    require_shape(cell.name, "hidden_weight", inputs[kHiddenWeight], Shape{rows, units});
    require_shape(cell.name, "input_bias", inputs[kInputBias], Shape{rows});
    require_shape(cell.name, "hidden_bias", inputs[kHiddenBias], Shape{rows});
    const TensorType state{x.dtype, Shape{batch, units}};
    require_same_type(cell.name, "h", inputs[kH], "the state", state);
    if (cell.has_c) require_same_type(cell.name, "c", inputs[kC], "the state", state);
    if (inputs.size() > lengths_place(cell)) require_lengths(cell.name, inputs[lengths_place(cell)], batch);
    for (const Place place : {kInputWeight, kHiddenWeight}) {
      require(inputs[place].dtype == x.dtype, cell.name, "weights must be of x's dtype; got ",
              inputs[place].dtype, " and ", x.dtype, ".");
    }
    for (const Place place : {kInputBias, kHiddenBias}) {
      const DType dtype = inputs[place].dtype;
      require(dtype == x.dtype || dtype == compute_dtype(x.dtype), cell.name, "biases must be ",
              compute_dtype(x.dtype), " or of x's dtype; got ", dtype, ".");
    }
    std::vector<TensorType> outputs = {{x.dtype, Shape{time, batch, units}}, state};
    const std::int64_t kept = cell.keeps && attributes.boolean("keep") ? time : 0;
    if (cell.has_c) {
      outputs.push_back(state);
      outputs.push_back({x.dtype, Shape{kept, batch, units}});
    }
    if (cell.keeps) outputs.push_back({x.dtype, Shape{kept, batch, 4 * units}});
    if (cell.name == kRnn.name) {
      const std::string& activation = attributes.string("activation");
      require(activation == "tanh" || activation == "relu", cell.name,
              "activation must be tanh or relu; got ", activation, ".");
    }
    return outputs;
  };
}

// The inputs of the backward op: the hidden weights, the gradients of the last states, what forward took and
// gave, the lengths and the gradient of y, if there are any.
std::vector<InputSchema> backward_inputs(const Cell& cell) {
  std::vector<InputSchema> inputs = {{"hidden_weight", "array (gates * units, units)"},
                                     {"h_gradient", "gradient of the last h"}};
  if (cell.has_c) {
    inputs.push_back({"c_gradient", "gradient of the last c"});
    inputs.push_back({"c", "the memory before the first step"});
    inputs.push_back({"cells", "the memory after each step"});
  } else {
    if (cell.by_parts) inputs.push_back({"h", "the state before the first step"});
    inputs.push_back({"y", "the state after each step"});
  }
  if (cell.keeps) inputs.push_back({"gates", "the gates that forward kept"});
  inputs.push_back(
      {.name = "lengths", .doc = "those of forward, where the attribute says so", .optional = true});
  inputs.push_back({.name = "y_gradient", .doc = "gradient of y", .optional = true});
  return inputs;
}

InferTypes infer_backward(const Cell& cell) {
  return [cell](Types inputs, const Attributes& attributes) -> std::vector<TensorType> {
    const std::string op = backward_of(cell);
    const TensorType& state = inputs[1];
    // Of LSTM the cells, else y: one state for each time step.
    const std::size_t sequence = cell.has_c ? 4 : cell.by_parts ? 3 : 2;
    const TensorType& y = inputs[sequence];
    require_rank(op, "the states", y, 3);
    const std::int64_t time = y.shape[0], batch = y.shape[1], units = y.shape[2];
    require_shape(op, "hidden_weight", inputs[0], Shape{cell.gates * units, units});
    require_shape(op, "h_gradient", state, Shape{batch, units});
    for (std::size_t i = 2; i < sequence; ++i)
      require_same_type(op, "a state", inputs[i], "h_gradient", state);
    if (cell.keeps) require_shape(op, "gates", inputs[sequence + 1], Shape{time, batch, 4 * units});
    std::size_t rest = sequence + (cell.keeps ? 2 : 1);
    require_same_dtype(op, inputs.first(rest));
    if (attributes.boolean("lengths")) {
      require(inputs.size() > rest, op, "lengths must be given where the attribute says so.");
      require_lengths(op, inputs[rest++], batch);
    }
    require(inputs.size() <= rest + 1, op, "there must be no input behind y_gradient; got ", inputs.size(),
            " inputs.");
    if (inputs.size() > rest) require_same_type(op, "y_gradient", inputs[rest], "the states", y);
    const TensorType gates{y.dtype, Shape{time, batch, cell.gates * units}};
    std::vector<TensorType> outputs = {gates};
    if (cell.by_parts) outputs.push_back(gates);
    outputs.push_back(state);
    if (cell.has_c) outputs.push_back(state);
    return outputs;
  };
}

// ------------------------------------------------------------------------------------------------- gradient

Term rows(Term sequence) {
  const Shape& shape = sequence.type().shape;
  return sequence.reshape({shape[0] * shape[1], shape[2]});
}

Term matmul(Term a, Term b, bool transpose_a) {
  return a.call("matmul", {b}, {{"transpose_a", transpose_a}});
}

// The state that each time step began with: h0, then y but for the last step.
Term states_before(Term h, Term y, bool reverse) {
  const Shape& shape = y.type().shape;
  const Term first = h.reshape({1, shape[1], shape[2]});
  if (shape[0] == 0) return y;
  const Integers begin{reverse ? 1 : 0, 0, 0}, end{reverse ? shape[0] : shape[0] - 1, shape[1], shape[2]};
  const Term rest = y.call("slice", {{"begin", begin}, {"end", end}, {"step", Integers{1, 1, 1}}});
  const Attributes along_time{{"axis", std::int64_t{0}}};
  return reverse ? rest.call("concatenate", {first}, along_time)
                 : first.call("concatenate", {rest}, along_time);
}

GradientFunction forward_gradient(const Cell& cell) {
  return [cell](const GradientCall& call) -> std::vector<Gradient> {
    const std::size_t states = cell.has_c ? 3 : 2;  // results before what is kept
    for (std::size_t i = states; i < call.gradients.size(); ++i) {
      require(!call.gradients[i].valid(), cell.name, "what is kept for backward must not be differentiated.");
    }
    if (cell.keeps) {
      require(call.attributes.boolean("keep"), cell.name, "keep must be true where gradients are asked for.");
    }
    const auto given = [&](std::size_t result) {
      const Value value = call.gradients[result];
      return value.valid() ? value : call.builder.zeros(call.type(call.outputs[result]));
    };
    std::vector<Value> inputs = {call.inputs[kHiddenWeight], given(1)};
    if (cell.has_c) {
      inputs.insert(inputs.end(), {given(2), call.inputs[kC], call.outputs[3], call.outputs[4]});
    } else {
      if (cell.by_parts) inputs.push_back(call.inputs[kH]);
      inputs.push_back(call.outputs[0]);
      if (cell.keeps) inputs.push_back(call.outputs[2]);
    }
    const bool lengths = call.inputs.size() > lengths_place(cell);
    if (lengths) inputs.push_back(call.inputs.back());
    if (call.gradients[0].valid()) inputs.push_back(call.gradients[0]);
    Attributes attributes{{"reverse", call.attributes.boolean("reverse")}, {"lengths", lengths}};
    if (cell.name == kRnn.name) attributes.set("activation", call.attributes.string("activation"));
    const std::vector<Value> results = call.builder.call_all(backward_of(cell), inputs, attributes);

    const Term gates = rows({call.builder, results[0]});
    const Term hidden_gates = rows({call.builder, results[cell.by_parts ? 1 : 0]});
    const std::size_t h = cell.by_parts ? 2 : 1;
    std::vector<Gradient> gradients(call.inputs.size());
    if (call.needed[kX]) {
      gradients[kX] =
          matmul(gates, input(call, kInputWeight), false).reshape(call.type(call.inputs[kX]).shape);
    }
    if (call.needed[kInputWeight]) gradients[kInputWeight] = matmul(gates, rows(input(call, kX)), true);
    if (call.needed[kHiddenWeight]) {
      const Term before = states_before(input(call, kH), output(call), call.attributes.boolean("reverse"));
      gradients[kHiddenWeight] = matmul(hidden_gates, rows(before), true);
    }
    if (call.needed[kInputBias]) gradients[kInputBias] = to_input(call, kInputBias, gates);
    if (call.needed[kHiddenBias]) gradients[kHiddenBias] = to_input(call, kHiddenBias, hidden_gates);
    gradients[kH] = results[h];
    if (cell.has_c) gradients[kC] = results[h + 1];
    return gradients;
  };
}

OpSchema forward_op(const Cell& cell, std::string doc) {
  return {.name = cell.name,
          .doc = std::move(doc),
          .inputs = forward_inputs(cell),
          .attributes = cell_attributes(cell),
          .infer = infer_forward(cell),
          .gradient = forward_gradient(cell)};
}

std::vector<AttributeSchema> backward_attributes(const Cell& cell) {
  std::vector<AttributeSchema> attributes = cell_attributes(cell);
  std::erase_if(attributes, [](const AttributeSchema& schema) { return schema.name == "keep"; });
  attributes.push_back(attribute("lengths", Attribute(false), "whether lengths are given"));
  return attributes;
}

OpSchema backward_op(const Cell& cell, std::string doc) {
  return {.name = backward_of(cell),
          .doc = std::move(doc),
          .inputs = backward_inputs(cell),
          .attributes = backward_attributes(cell),
          .infer = infer_backward(cell)};
}

}  // namespace

MXPIPE_OP(forward_op(kLstm,
                     R"(A layer of long short-term memory over a sequence (Hochreiter, Schmidhuber 1997).

Gates i, f, g, o in this order: i, f and o are sigmoids and g a tanh of input_weight x + input_bias +
hidden_weight h + hidden_bias; then c = f c + i g and h = o tanh(c). Results: y (time, batch, units), the h of
each step; the last h and c; and for backward the c (time, batch, units) and the gates (time, batch, 4 * units)
of each step, of no size without `keep`.

>>> x, state = np.ones((1, 1, 1)), np.zeros((1, 1))
>>> weight, bias = np.ones((4, 1)), np.zeros(4)
>>> _native.invoke("lstm", [x, weight, weight, bias, bias, state, state], {})[0]
array([[[0.36960638]]])
)"));

MXPIPE_OP(backward_op(kLstm, R"(Back through time: the gradients of lstm's gates, and of its first h and c.

The gradients of the gates (time, batch, 4 * units) are those of the sums before the nonlinearities.

>>> state, cells, gates = np.ones((1, 1)), np.zeros((1, 1, 1)), np.ones((1, 1, 4)) / 2
>>> inputs = [np.ones((4, 1)), state, state, state, cells, gates]
>>> _native.invoke("lstm_backward", inputs, {})[2]
array([[0.75]])
)"));

MXPIPE_OP(forward_op(kGru, R"(A layer of gated recurrent units over a sequence (Cho et al. 2014).

Gates r, z, n in this order: r and z are sigmoids of input_weight x + input_bias + hidden_weight h +
hidden_bias; n is tanh(input part + r * hidden part); then h = (1 - z) n + z h. Results: y (time, batch,
units), the h of each step; the last h; and for backward r, z, n and the hidden part of n (time, batch,
4 * units), of no size without `keep`.

>>> x, state, weight, bias = np.ones((1, 1, 1)), np.zeros((1, 1)), np.ones((3, 1)), np.zeros(3)
>>> _native.invoke("gru", [x, weight, weight, bias, bias, state], {})[0]
array([[[0.2048247]]])
)"));

MXPIPE_OP(backward_op(kGru, R"(Back through time: the gradients of gru's gates, and of its first h.

Those of the gates (time, batch, 3 * units) come twice, as the products with x and with h see them: they differ
in n by the factor r.

>>> state, y, gates = np.ones((1, 1)), np.zeros((1, 1, 1)), np.ones((1, 1, 4)) / 2
>>> _native.invoke("gru_backward", [np.zeros((3, 1)), state, state, y, gates], {})[2]
array([[0.5]])
)"));

MXPIPE_OP(forward_op(kRnn, R"(A layer of plain recurrent units over a sequence (Elman 1990).

h = activation(input_weight x + input_bias + hidden_weight h + hidden_bias). Results: y (time, batch, units),
the h of each step; and the last h.

>>> x, state, weight, bias = np.ones((2, 1, 1)), np.zeros((1, 1)), np.ones((1, 1)), np.zeros(1)
>>> _native.invoke("rnn", [x, weight, weight, bias, bias, state], {"activation": "relu"})[1]
array([[2.]])
)"));

MXPIPE_OP(backward_op(
    kRnn, R"(Back through time: the gradients of rnn's sums before the activation, and of its first h.

>>> state, y = np.ones((1, 1)), np.zeros((1, 1, 1))
>>> _native.invoke("rnn_backward", [2 * np.ones((1, 1)), state, y], {})[1]
array([[2.]])
)"));

}  // namespace mxpipe::ops
