// Row-wise and indexing kernels: the native side's edges (lengths around a vector, bad ids, aliases). Values
// against NumPy are tested in tests/ops.
#include <algorithm>

#include "check.hpp"
#include "kernels/parallel.hpp"

namespace mxpipe::test {
namespace {

TEST(softmax_rows_sum_to_one) {
  for (const std::int64_t width : {1, 2, 15, 16, 17, 100, 1000}) {
    const Tensor x = random_floats(Shape{7, width}, -30, 30);
    const Attributes attributes{{"axis", std::int64_t{1}}};
    const Tensor y = run_kernel("softmax", attributes, {x}, {x.type})[0];
    const Tensor z = run_kernel("log_softmax", attributes, {x}, {x.type})[0];
    for (std::size_t row = 0; row < 7; ++row) {
      double sum = 0;
      for (std::size_t j = 0; j < static_cast<std::size_t>(width); ++j) {
        const std::size_t at = row * static_cast<std::size_t>(width) + j;
        sum += static_cast<double>(y.values<float>()[at]);
        CHECK(std::abs(std::exp(z.values<float>()[at]) - y.values<float>()[at]) < 1e-5F, width, " at ", at);
      }
      CHECK(std::abs(sum - 1) < 1e-5, width, ": ", sum);
    }
  }
}

TEST(layer_norm_of_odd_widths) {
  for (const std::int64_t width : {1, 3, 16, 33, 257}) {
    const Tensor x = random_floats(Shape{5, width}), gamma = random_floats(Shape{width}),
                 beta = random_floats(Shape{width});
    const Attributes attributes{{"eps", 1e-5}};
    const TensorType statistics{DType::float32, Shape{5}};
    const auto results =
        run_kernel("layer_norm", attributes, {x, gamma, beta}, {x.type, statistics, statistics});
    for (std::size_t row = 0; row < 5; ++row) {
      const auto values =
          x.values<float>().subspan(row * static_cast<std::size_t>(width), static_cast<std::size_t>(width));
      double mean = 0, variance = 0;
      for (const float value : values) mean += static_cast<double>(value) / static_cast<double>(width);
      for (const float value : values)
        variance += (value - mean) * (value - mean) / static_cast<double>(width);
      CHECK(std::abs(results[1].values<float>()[row] - mean) < 1e-5, width, " mean");
      for (std::size_t j = 0; j < values.size(); ++j) {
        const double expected = (values[j] - mean) / std::sqrt(variance + 1e-5) * gamma.values<float>()[j] +
                                beta.values<float>()[j];
        CHECK(std::abs(results[0].values<float>()[row * values.size() + j] - expected) < 2e-4, width, " at ",
              j);
      }
    }
  }
}

TEST(bad_ids_raise) {
  const Tensor weight = random_floats(Shape{10, 4});
  const Attributes attributes{{"sparse_grad", false}};
  for (const std::int32_t id : {-1, 10, INT32_MAX, INT32_MIN}) {
    const Tensor ids({DType::int32, Shape{3}}, std::vector<std::int32_t>{1, id, 2});
    bool raised = false;
    try {
      run_kernel("embedding", attributes, {weight, ids}, {{DType::float32, Shape{3, 4}}});
    } catch (const Error& error) {
      raised = std::string(error.what()).find("[0, 10)") != std::string::npos;
    }
    CHECK(raised, "id ", id);
  }
}

TEST(unique_rows_for_any_number_of_threads) {
  const int before = num_threads();
  const Tensor ids = random_integers(DType::int64, Shape{20000}, -1, 700);
  const Tensor values = random_floats(Shape{20000, 9});
  set_num_threads(1);
  const auto one = run_kernel("unique_rows", {}, {ids, values}, {ids.type, values.type});
  set_num_threads(3);
  const auto three = run_kernel("unique_rows", {}, {ids, values}, {ids.type, values.type});
  set_num_threads(before);
  check_close(three[1].values<float>(), one[1].values<float>(), 0, 0, "sums");
  for (std::size_t i = 0; i < 20000; ++i) {
    const std::int64_t expected = i <= 700 ? static_cast<std::int64_t>(i) : -1;
    CHECK(one[0].values<std::int64_t>()[i] == expected, "unique id ", i);
    CHECK(three[0].values<std::int64_t>()[i] == expected, "unique id ", i);
  }
}

TEST(embedding_gradient_for_any_number_of_threads) {
  const int before = num_threads();
  const Tensor ids = random_integers(DType::int32, Shape{30000}, 0, 99), g = random_floats(Shape{30000, 5});
  const Attributes attributes{{"rows", std::int64_t{100}}};
  set_num_threads(1);
  const Tensor one = run_kernel("embedding_grad", attributes, {ids, g}, {{DType::float32, Shape{100, 5}}})[0];
  set_num_threads(3);
  const Tensor three =
      run_kernel("embedding_grad", attributes, {ids, g}, {{DType::float32, Shape{100, 5}}})[0];
  set_num_threads(before);
  check_close(three.values<float>(), one.values<float>(), 0, 0, "embedding_grad");
}

TEST(scatter_rows_in_place_touches_named_rows_only) {
  Tensor target = random_floats(Shape{50, 3});
  const std::vector<float> old(target.values<float>().begin(), target.values<float>().end());
  const Tensor ids({DType::int64, Shape{3}}, std::vector<std::int64_t>{4, 49, -1}),
      rows = random_floats(Shape{3, 3});
  const std::vector<TensorType> inputs = {target.type, ids.type, rows.type}, outputs = {target.type};
  const Attributes none;
  const auto kernel = make_kernel({"scatter_rows", none, inputs, outputs, nullptr});
  const std::vector<const void*> sources = {target.buffer->data(), ids.buffer->data(), rows.buffer->data()};
  const std::vector<void*> results = {target.buffer->data()};
  kernel->run(sources, results, nullptr);
  for (std::size_t i = 0; i < 150; ++i) {
    const float expected = i / 3 == 4    ? rows.values<float>()[i % 3]
                           : i / 3 == 49 ? rows.values<float>()[3 + i % 3]
                                         : old[i];
    CHECK(target.values<float>()[i] == expected, "at ", i);
  }
}

TEST(transposes_of_odd_sizes) {
  for (const auto& [rows, columns] :
       {std::pair(1, 7), std::pair(33, 31), std::pair(64, 100), std::pair(257, 3), std::pair(3, 257),
        std::pair(2, 20000), std::pair(3, 4)}) {
    const Tensor x = random_floats(Shape{2, rows, columns});
    const Attributes attributes{{"axes", Integers{0, 2, 1}}};
    const Tensor y = run_kernel("transpose", attributes, {x}, {{DType::float32, Shape{2, columns, rows}}})[0];
    for (int b = 0; b < 2; ++b) {
      for (int i = 0; i < rows; ++i) {
        for (int j = 0; j < columns; ++j) {
          const auto from = static_cast<std::size_t>((b * rows + i) * columns + j);
          const auto to = static_cast<std::size_t>((b * columns + j) * rows + i);
          CHECK(y.values<float>()[to] == x.values<float>()[from], rows, " x ", columns);
        }
      }
    }
  }
}

}  // namespace
}  // namespace mxpipe::test
