// matmul and fully_connected against plain loops, over odd sizes, transposes, batches and types.
#include <algorithm>
#include <array>
#include <cstddef>
#include <thread>

#include "check.hpp"
#include "kernels/parallel.hpp"

namespace mxpipe::test {
namespace {

Attributes matmul_attributes(bool transpose_a, bool transpose_b) {
  return {{"transpose_a", transpose_a}, {"transpose_b", transpose_b}};
}

// c (m, n) of a (m, k) and b (k, n), transposed in memory where asked.
std::vector<float> reference(const Tensor& a, const Tensor& b, std::int64_t m, std::int64_t n, std::int64_t k,
                             bool transpose_a, bool transpose_b) {
  std::vector<float> c(static_cast<std::size_t>(m * n));
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::int64_t l = 0; l < k; ++l) {
        const auto in_a = static_cast<std::size_t>(transpose_a ? l * m + i : i * k + l);
        const auto in_b = static_cast<std::size_t>(transpose_b ? j * k + l : l * n + j);
        sum += static_cast<double>(a.values<float>()[in_a]) * static_cast<double>(b.values<float>()[in_b]);
      }
      c[static_cast<std::size_t>(i * n + j)] = static_cast<float>(sum);
    }
  }
  return c;
}

TEST(matmul_of_odd_sizes) {
  for (const auto& [m, n, k] : std::vector<std::array<std::int64_t, 3>>{{1, 1, 1},
                                                                        {3, 5, 7},
                                                                        {1, 33, 65},
                                                                        {65, 1, 33},
                                                                        {17, 31, 129},
                                                                        {128, 96, 1},
                                                                        {4, 4, 0},
                                                                        {0, 3, 2}}) {
    for (const bool transpose_a : {false, true}) {
      for (const bool transpose_b : {false, true}) {
        const Tensor a = random_floats(transpose_a ? Shape{k, m} : Shape{m, k});
        const Tensor b = random_floats(transpose_b ? Shape{n, k} : Shape{k, n});
        const Tensor c = run_kernel("matmul", matmul_attributes(transpose_a, transpose_b), {a, b},
                                    {{DType::float32, Shape{m, n}}})[0];
        check_close(c.values<float>(), reference(a, b, m, n, k, transpose_a, transpose_b), 1e-5, 1e-5,
                    text("matmul ", m, " x ", n, " x ", k, " ", transpose_a, transpose_b));
      }
    }
  }
}

TEST(matmul_broadcasts_batches) {
  const Tensor a = random_floats(Shape{3, 1, 4, 5}), b = random_floats(Shape{2, 5, 6});
  const Tensor c =
      run_kernel("matmul", matmul_attributes(false, false), {a, b}, {{DType::float32, Shape{3, 2, 4, 6}}})[0];
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 2; ++j) {
      const auto part_a = a.values<float>().subspan(i * 20, 20),
                 part_b = b.values<float>().subspan(j * 30, 30);
      const Tensor one = floats(Shape{4, 5}, {part_a.begin(), part_a.end()});
      const Tensor two = floats(Shape{5, 6}, {part_b.begin(), part_b.end()});
      check_close(c.values<float>().subspan((i * 2 + j) * 24, 24), reference(one, two, 4, 6, 5, false, false),
                  1e-5, 1e-5, text("batch ", i, " ", j));
    }
  }
}

TEST(fully_connected_adds_bias_and_clips) {
  for (const auto& [m, n, k] :
       std::vector<std::array<std::int64_t, 3>>{{5, 7, 3}, {33, 1, 17}, {1, 19, 64}, {64, 48, 32}}) {
    const Tensor x = random_floats(Shape{m, k}), weight = random_floats(Shape{n, k}),
                 bias = random_floats(Shape{n});
    std::vector<float> expected = reference(x, weight, m, n, k, false, true);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      expected[i] = std::max(0.0F, expected[i] + bias.values<float>()[i % static_cast<std::size_t>(n)]);
    }
    const Attributes attributes{{"activation", std::string("relu")}};
    const Tensor y =
        run_kernel("fully_connected", attributes, {x, weight, bias}, {{DType::float32, Shape{m, n}}})[0];
    check_close(y.values<float>(), expected, 1e-5, 1e-5, text("fully_connected ", m, " x ", n, " x ", k));
  }
}

TEST(integer_products_are_exact) {
  const Tensor a = random_integers(DType::int64, Shape{9, 200}, -1000000000, 1000000000);
  const Tensor b = random_integers(DType::int64, Shape{200, 11}, -1000000, 1000000);
  const Tensor c =
      run_kernel("matmul", matmul_attributes(false, false), {a, b}, {{DType::int64, Shape{9, 11}}})[0];
  for (std::size_t i = 0; i < 9; ++i) {
    for (std::size_t j = 0; j < 11; ++j) {
      std::int64_t sum = 0;
      for (std::size_t l = 0; l < 200; ++l)
        sum += a.values<std::int64_t>()[i * 200 + l] * b.values<std::int64_t>()[l * 11 + j];
      CHECK(c.values<std::int64_t>()[i * 11 + j] == sum);
    }
  }
}

TEST(one_kernel_serves_several_threads) {
  const Tensor x = random_floats(Shape{40, 30}), weight = random_floats(Shape{20, 30}),
               bias = random_floats(Shape{20});
  const std::vector<TensorType> inputs = {x.type, weight.type, bias.type},
                                outputs = {{DType::float32, Shape{40, 20}}};
  const Attributes attributes{{"activation", std::string("relu")}};
  const Tensor expected = run_kernel("fully_connected", attributes, {x, weight, bias}, outputs)[0];
  const auto kernel = make_kernel({"fully_connected", attributes, inputs, outputs, nullptr});
  std::vector<Tensor> results(4, Tensor(outputs[0]));
  std::vector<std::thread> threads;
  for (Tensor& result : results) {
    result = Tensor(outputs[0]);
    threads.emplace_back([&] {
      std::vector<std::max_align_t> scratch(kernel->scratch_bytes() / sizeof(std::max_align_t) + 1);
      const std::vector<const void*> sources = {x.buffer->data(), weight.buffer->data(), bias.buffer->data()};
      const std::vector<void*> destinations = {result.buffer->data()};
      for (int i = 0; i < 50; ++i) kernel->run(sources, destinations, scratch.data());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Tensor& result : results)
    check_close(result.values<float>(), expected.values<float>(), 1e-6, 1e-6, "threads");
}

}  // namespace
}  // namespace mxpipe::test
