// Layers forward and backward as plans, over odd shapes, in float32 and mixed precision: for the sanitizers,
// and to see that the number of threads changes no byte. Values against NumPy are tested in tests/ops.
#include <functional>

#include "check.hpp"
#include "exec/plan.hpp"
#include "kernels/parallel.hpp"
#include "ops/registry.hpp"

namespace mxpipe::test {
namespace {

using Inputs = std::vector<Value>;
using Layer = std::function<Value(GraphBuilder&, const Inputs&)>;

TensorType floating(std::initializer_list<std::int64_t> shape) { return {DType::float32, Shape(shape)}; }
TensorType integers(std::initializer_list<std::int64_t> shape) { return {DType::int64, Shape(shape)}; }

// Random floats, and ids below 3.
ArrayPtr random_array(const TensorType& type) {
  ArrayPtr array = Array::empty(type);
  const Tensor values = type.dtype == DType::float32 ? random_floats(type.shape, -1, 1)
                                                     : random_integers(type.dtype, type.shape, 0, 2);
  if (type.bytes() != 0) std::memcpy(array->data(), values.buffer->data(), type.bytes());
  return array;
}

std::vector<std::vector<std::byte>> bytes_of(const std::vector<ArrayPtr>& arrays) {
  std::vector<std::vector<std::byte>> result;
  for (const ArrayPtr& array : arrays)
    result.emplace_back(array->data(), array->data() + array->type().bytes());
  return result;
}

// The layer's result and the gradients of its floating inputs, twice with 2 threads and once with 1.
void check_layer(std::string_view name, const std::vector<TensorType>& types, const Layer& layer,
                 std::vector<ArrayPtr> arrays = {}) {
  Graph graph;
  Inputs inputs;
  for (const TensorType& type : types) inputs.push_back(graph.add_input(TensorType(type), "x"));
  GraphBuilder builder(graph);
  const Value result = layer(builder, inputs);
  const Value head = graph.add_input(TensorType(graph.type(result)), "g");
  Inputs variables;
  for (const Value input : inputs) {
    if (graph.type(input).dtype == DType::float32) variables.push_back(input);
  }
  graph.outputs.push_back(result);
  for (const Gradient& gradient : append_gradients(graph, std::array{result}, std::array{head}, variables))
    graph.outputs.push_back(dense_gradient(builder, gradient, graph.type(gradient.dense)));
  for (std::size_t i = arrays.size(); i < graph.inputs.size(); ++i)
    arrays.push_back(random_array(graph.nodes[static_cast<std::size_t>(graph.inputs[i])].outputs[0]));

  const int threads = num_threads();
  for (const DType precision : {DType::float32, DType::bfloat16}) {
    CompileOptions options;
    options.precision = precision;
    std::vector<std::vector<std::byte>> first;
    for (const int count : {2, 2, 1}) {
      set_num_threads(count);
      const auto results = Plan(transform(graph, options)).run(arrays);
      if (first.empty()) first = bytes_of(results);
      CHECK(bytes_of(results) == first, name, " in ", precision, " gave other bytes with ", count,
            " threads");
      for (const ArrayPtr& array : results) {
        if (array->dtype() != DType::float32) continue;
        const auto* values = reinterpret_cast<const float*>(array->data());
        for (std::int64_t i = 0; i < array->type().size(); ++i)
          CHECK(std::isfinite(values[i]), name, " in ", precision, " gave ", values[i], " at ", i);
      }
    }
  }
  set_num_threads(threads);
}

TEST(convolutions_of_odd_shapes) {
  for (const std::int64_t groups : {1, 3}) {
    const Attributes attributes{{"stride", Integers{2, 1}},
                                {"padding", Integers{1, 2}},
                                {"dilation", Integers{1, 2}},
                                {"groups", groups}};
    check_layer("convolution", {floating({2, 6, 9, 11}), floating({9, 6 / groups, 3, 2}), floating({9})},
                [&](GraphBuilder& builder, const Inputs& x) {
                  return builder.call("relu", {builder.call("convolution", x, attributes)});
                });
  }
}

TEST(pools_of_odd_shapes) {
  for (const std::string op : {"max_pool", "avg_pool"}) {
    const Attributes attributes{
        {"kernel", Integers{3, 2}}, {"stride", Integers{2, 2}}, {"padding", Integers{1, 1}}};
    check_layer(op, {floating({2, 5, 9, 7})},
                [&](GraphBuilder& builder, const Inputs& x) { return builder.call(op, x, attributes); });
  }
}

TEST(a_residual_block) {
  check_layer("residual block",
              {floating({3, 7, 8, 5}), floating({7, 7, 3, 3}), floating({7}), floating({7})},
              [](GraphBuilder& builder, const Inputs& x) {
                const Attributes same{{"padding", Integers{1, 1}}};
                const Value y = builder.call("convolution", {x[0], x[1]}, same);
                const Value z = builder.call("batch_norm", {y, x[2], x[3]});
                return builder.call("relu", {builder.call("add", {z, x[0]})});
              });
}

TEST(layer_norm_of_odd_rows) {
  for (const std::int64_t width : {1, 17, 300}) {
    check_layer("layer_norm", {floating({13, width}), floating({width}), floating({width})},
                [](GraphBuilder& builder, const Inputs& x) { return builder.call("layer_norm", x); });
  }
}

TEST(attention_of_odd_lengths) {
  for (const bool causal : {false, true}) {
    check_layer("attention", {floating({2, 37, 3, 19}), floating({2, 53, 3, 19}), floating({2, 53, 3, 19})},
                [&](GraphBuilder& builder, const Inputs& x) {
                  return builder.call("attention", x, {{"causal", causal}});
                });
  }
}

TEST(recurrent_layers) {
  for (const auto& [op, gates] : {std::pair("lstm", 4), std::pair("gru", 3), std::pair("rnn", 1)}) {
    const std::int64_t rows = gates * 9;
    std::vector<TensorType> types{floating({6, 5, 7}), floating({rows, 7}), floating({rows, 9}),
                                  floating({rows}),    floating({rows}),    floating({5, 9})};
    if (gates == 4) types.push_back(floating({5, 9}));
    check_layer(op, types, [op](GraphBuilder& builder, const Inputs& x) { return builder.call(op, x); });
  }
}

TEST(a_loss_over_an_embedding) {
  check_layer("softmax_cross_entropy", {floating({3, 33}), integers({21})},
              [](GraphBuilder& builder, const Inputs& x) {
                const Value rows = builder.call("embedding", {x[0], x[1]});
                return builder.call("softmax_cross_entropy", {rows, x[1]});
              });
}

}  // namespace
}  // namespace mxpipe::test
