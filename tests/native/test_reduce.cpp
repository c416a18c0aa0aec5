// Reductions against plain loops, over odd sizes, and for any number of threads.
#include <algorithm>
#include <numeric>

#include "check.hpp"
#include "kernels/parallel.hpp"

namespace mxpipe::test {
namespace {

// x is (outer, reduced, inner); the middle axis goes.
void check_middle(std::int64_t outer, std::int64_t reduced, std::int64_t inner) {
  const Tensor x = random_floats(Shape{outer, reduced, inner});
  const Attributes attributes{{"axis", Integers{1}}, {"keepdims", false}};
  const std::vector<TensorType> type = {{DType::float32, Shape{outer, inner}}};
  std::vector<float> sums, largest;
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t i = 0; i < inner; ++i) {
      double sum = 0;
      float best = -INFINITY;
      for (std::int64_t r = 0; r < reduced; ++r) {
        const float value = x.values<float>()[static_cast<std::size_t>((o * reduced + r) * inner + i)];
        sum += static_cast<double>(value);
        best = std::max(best, value);
      }
      sums.push_back(static_cast<float>(sum));
      largest.push_back(best);
    }
  }
  const std::string what = text(outer, " x ", reduced, " x ", inner);
  check_close(run_kernel("sum", attributes, {x}, type)[0].values<float>(), sums, 1e-5,
              1e-6 * std::sqrt(reduced) * 8, what);
  check_close(run_kernel("max", attributes, {x}, type)[0].values<float>(), largest, 0, 0, what);
}

TEST(reductions_of_odd_sizes) {
  for (const std::int64_t outer : {1, 3}) {
    for (const std::int64_t reduced : {1, 5, 63, 64, 65, 16384, 40001}) {
      for (const std::int64_t inner : {1, 2, 17}) check_middle(outer, reduced, inner);
    }
  }
  check_middle(1, 700, 1025);
}

TEST(several_groups_of_axes) {
  const Tensor x = random_floats(Shape{3, 4, 5, 6, 7});
  const Attributes attributes{{"axis", Integers{0, 2, 4}}, {"keepdims", false}};
  const Tensor y = run_kernel("mean", attributes, {x}, {{DType::float32, Shape{4, 6}}})[0];
  for (std::size_t b = 0; b < 4; ++b) {
    for (std::size_t d = 0; d < 6; ++d) {
      double sum = 0;
      for (std::size_t a = 0; a < 3; ++a) {
        for (std::size_t c = 0; c < 5; ++c) {
          for (std::size_t e = 0; e < 7; ++e) {
            sum += static_cast<double>(x.values<float>()[(((a * 4 + b) * 5 + c) * 6 + d) * 7 + e]);
          }
        }
      }
      const float expected = static_cast<float>(sum / (3 * 5 * 7));
      CHECK(std::abs(y.values<float>()[b * 6 + d] - expected) < 1e-6F, b, " ", d);
    }
  }
}

TEST(integers_are_summed_in_64_bits) {
  const Tensor x({DType::int32, Shape{100000}}, std::vector<std::int32_t>(100000, 1 << 30));
  const Attributes attributes{{"axis", Integers{0}}, {"keepdims", false}};
  const Tensor y = run_kernel("sum", attributes, {x}, {{DType::int64, Shape{}}})[0];
  CHECK(y.values<std::int64_t>()[0] == std::int64_t{100000} << 30);
}

TEST(sums_do_not_depend_on_threads) {
  const int before = num_threads();
  const Attributes rows{{"axis", Integers{1}}, {"keepdims", false}},
      columns{{"axis", Integers{0}}, {"keepdims", false}};
  const Tensor x = random_floats(Shape{5000, 333});
  for (const auto& [attributes, size] : {std::pair(rows, 5000), std::pair(columns, 333)}) {
    const std::vector<TensorType> type = {{DType::float32, Shape{size}}};
    set_num_threads(1);
    const Tensor one = run_kernel("sum", attributes, {x}, type)[0];
    set_num_threads(3);
    const Tensor three = run_kernel("sum", attributes, {x}, type)[0];
    check_close(three.values<float>(), one.values<float>(), 0, 0, "three threads");
  }
  set_num_threads(before);
}

}  // namespace
}  // namespace mxpipe::test
