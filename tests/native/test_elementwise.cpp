// The elementwise program on every instruction set: against the C library, over odd sizes, strides, types and
// aliases.
#include <algorithm>
#include <cmath>
#include <limits>

#include "check.hpp"
#include "kernels/parallel.hpp"
#include "kernels/vec/isa.hpp"

namespace mxpipe::test {
namespace {

using Function = double (*)(double);

Program unary_program(Opcode opcode, DType dtype, std::int64_t size) {
  Program program;
  program.shape = Shape{size};
  program.inputs = {{dtype, Shape{1}}};
  program.outputs = {dtype};
  program.registers = 2;
  const RegisterType type = register_type(dtype);
  program.instructions = {{.opcode = Opcode::load, .type = type, .destination = 0, .sources = {0}},
                          {.opcode = opcode, .type = type, .destination = 1, .sources = {0}},
                          {.opcode = Opcode::store, .type = type, .destination = 0, .sources = {1}}};
  return program;
}

std::vector<Tensor> run_program(const Program& program, const std::vector<Tensor>& inputs) {
  std::vector<TensorType> outputs;
  for (const DType dtype : program.outputs) outputs.push_back({dtype, program.shape});
  return run_kernel("elementwise", {}, inputs, outputs, std::make_shared<const Program>(program));
}

double ulps(float got, double expected) {
  const float rounded = static_cast<float>(expected);
  if ((std::isnan(got) && std::isnan(expected)) || got == rounded) return 0;
  if (!std::isfinite(got) || !std::isfinite(rounded)) return 1e9;
  const float size = std::abs(rounded);
  const double unit = std::nextafter(size, std::numeric_limits<float>::infinity()) - size;
  return std::abs(static_cast<double>(got) - expected) / unit;
}

void check_function(const char* name, Opcode opcode, Function reference, float low, float high,
                    double tolerance) {
  std::vector<float> values;
  for (int i = 0; i < 20000; ++i) values.push_back(low + (high - low) * static_cast<float>(i) / 20000.0F);
  for (int exponent = -148; exponent < 127; ++exponent) {
    for (const float sign : {1.0F, -1.0F}) {
      const float value = sign * std::ldexp(1.234F, exponent);
      if (value >= low && value <= high) values.push_back(value);
    }
  }
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float value : {0.0F, -0.0F, 1.0F, -1.0F, infinity, -infinity, std::nanf("")})
    values.push_back(value);
  const auto size = static_cast<std::int64_t>(values.size());
  const Tensor result =
      run_program(unary_program(opcode, DType::float32, size), {floats(Shape{size}, values)})[0];
  double worst = 0;
  float at = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double error = ulps(result.values<float>()[i], reference(values[i]));
    if (error > worst) worst = error, at = values[i];
  }
  CHECK(worst <= tolerance, name, ": ", worst, " ulp at ", at);
}

TEST(math_functions_are_accurate) {
  check_function("exp", Opcode::exp, std::exp, -104, 89, 2);
  check_function("expm1", Opcode::expm1, std::expm1, -30, 89, 3);
  check_function("log", Opcode::log, std::log, -1, 100, 2);
  check_function("log1p", Opcode::log1p, std::log1p, -2, 100, 3);
  check_function("tanh", Opcode::tanh, std::tanh, -12, 12, 4);
  check_function("erf", Opcode::erf, std::erf, -6, 6, 3);
  check_function("sin", Opcode::sin, std::sin, -5, 5, 3);
  check_function("cos", Opcode::cos, std::cos, -1.5F, 1.5F, 3);
  check_function("sigmoid", Opcode::sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, -80, 80, 4);
  check_function(
      "softplus", Opcode::softplus, [](double x) { return x > 40 ? x : std::log1p(std::exp(x)); }, -80, 80,
      4);
  check_function("sqrt", Opcode::sqrt, std::sqrt, -1, 100, 0.51);
  check_function("floor", Opcode::floor, std::floor, -100, 100, 0);
  check_function("round", Opcode::round, std::nearbyint, -100, 100, 0);
}

TEST(large_angles_stay_accurate) {
  const std::vector<float> angles = {100.5F, 8000.0F, 1e5F, -3e7F};
  const Tensor result =
      run_program(unary_program(Opcode::sin, DType::float32, 4), {floats(Shape{4}, angles)})[0];
  for (std::size_t i = 0; i < angles.size(); ++i) {
    const double error =
        std::abs(static_cast<double>(result.values<float>()[i]) - std::sin(static_cast<double>(angles[i])));
    CHECK(error < 2e-7, "sin(", angles[i], ") is off by ", error);
  }
}

// y = (a * b + c) with b repeated over rows and c over columns.
Program broadcast_program(std::int64_t rows, std::int64_t columns) {
  Program program;
  program.shape = Shape{rows, columns};
  program.inputs = {
      {DType::float32, Shape{columns, 1}}, {DType::float32, Shape{0, 1}}, {DType::float32, Shape{1, 0}}};
  program.outputs = {DType::float32};
  program.registers = 3;
  program.instructions = {{.opcode = Opcode::load, .destination = 0, .sources = {0}},
                          {.opcode = Opcode::load, .destination = 1, .sources = {1}},
                          {.opcode = Opcode::multiply, .destination = 0, .sources = {0, 1}},
                          {.opcode = Opcode::load, .destination = 2, .sources = {2}},
                          {.opcode = Opcode::add, .destination = 0, .sources = {0, 2}},
                          {.opcode = Opcode::store, .destination = 0, .sources = {0}}};
  return program;
}

TEST(broadcasting_over_odd_sizes) {
  for (const std::int64_t rows : {1, 2, 7, 33}) {
    for (const std::int64_t columns : {1, 3, 16, 17, 255, 256, 1000, 1024, 4099}) {
      const Tensor a = random_floats(Shape{rows, columns}), b = random_floats(Shape{columns}),
                   c = random_floats(Shape{rows});
      const Tensor y = run_program(broadcast_program(rows, columns), {a, b, c})[0];
      for (std::int64_t i = 0; i < rows * columns; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const float product =
            a.values<float>()[at] * b.values<float>()[static_cast<std::size_t>(i % columns)];
        const float expected = product + c.values<float>()[static_cast<std::size_t>(i / columns)];
        CHECK(y.values<float>()[at] == expected, rows, " x ", columns, " at ", i);
      }
    }
  }
}

TEST(transposed_and_reversed_inputs) {
  Program program;
  program.shape = Shape{37, 61};
  program.inputs = {{DType::float32, Shape{1, 37}}, {DType::int16, Shape{61, 1}}};
  program.outputs = {DType::float32};
  program.registers = 2;
  program.instructions = {
      {.opcode = Opcode::load, .destination = 0, .sources = {0}},
      {.opcode = Opcode::load, .type = RegisterType::i32, .destination = 1, .sources = {1}},
      {.opcode = Opcode::convert, .from = RegisterType::i32, .destination = 1, .sources = {1}},
      {.opcode = Opcode::subtract, .destination = 0, .sources = {0, 1}},
      {.opcode = Opcode::store, .destination = 0, .sources = {0}}};
  const Tensor a = random_floats(Shape{61, 37});
  std::vector<std::int16_t> shorts(37 * 61);
  for (std::size_t i = 0; i < shorts.size(); ++i) shorts[i] = static_cast<std::int16_t>(i * 7 - 900);
  const Tensor b({DType::int16, Shape{37, 61}}, shorts);
  const Tensor y = run_program(program, {a, b})[0];
  for (std::size_t i = 0; i < 37; ++i) {
    for (std::size_t j = 0; j < 61; ++j) {
      const float expected = a.values<float>()[j * 37 + i] - static_cast<float>(shorts[i * 61 + j]);
      CHECK(y.values<float>()[i * 61 + j] == expected, i, " ", j);
    }
  }
}

// Two outputs, both in place, the first one written before the second's inputs are last read.
TEST(outputs_may_be_inputs) {
  for (const std::int64_t size : {1, 15, 16, 1000, 4096, 100001, 2200001}) {  // the last passes the caches by
    Program program;
    program.shape = Shape{size};
    program.inputs = {{DType::float32, Shape{1}}, {DType::float32, Shape{1}}};
    program.outputs = {DType::float32, DType::float32};
    program.registers = 3;
    program.instructions = {{.opcode = Opcode::load, .destination = 0, .sources = {0}},
                            {.opcode = Opcode::load, .destination = 1, .sources = {1}},
                            {.opcode = Opcode::add, .destination = 2, .sources = {0, 1}},
                            {.opcode = Opcode::store, .destination = 0, .sources = {2}},
                            {.opcode = Opcode::multiply, .destination = 2, .sources = {0, 1}},
                            {.opcode = Opcode::store, .destination = 1, .sources = {2}}};
    Tensor a = random_floats(Shape{size}), b = random_floats(Shape{size});
    const std::vector<float> old_a(a.values<float>().begin(), a.values<float>().end());
    const std::vector<float> old_b(b.values<float>().begin(), b.values<float>().end());
    const std::vector<TensorType> types = {a.type, b.type};
    const Attributes none;
    const auto kernel =
        make_kernel({"elementwise", none, types, types, std::make_shared<const Program>(program)});
    const std::vector<const void*> inputs = {a.buffer->data(), b.buffer->data()};
    const std::vector<void*> outputs = {a.buffer->data(), b.buffer->data()};
    kernel->run(inputs, outputs, nullptr);
    for (std::size_t i = 0; i < old_a.size(); ++i) {
      CHECK(a.values<float>()[i] == old_a[i] + old_b[i], size, " sum at ", i);
      CHECK(b.values<float>()[i] == old_a[i] * old_b[i], size, " product at ", i);
    }
  }
}

TEST(half_types_round_to_nearest_even) {
  const std::vector<float> values = {
      1.0F,          1.0009765625F, 1.00048828125F, 65504.0F,    65520.0F, 1e-8F,    6e-8F,    -0.0F,
      std::nanf(""), 3.14159F,      1.00390625F,    1.01171875F, 3.4e38F,  INFINITY, 5.96e-8F, 2e-5F};
  const std::vector<float> halves = {1.0F,          1.0009765625F, 1.0F,          65504.0F,
                                     INFINITY,      0.0F,          5.9604645e-8F, -0.0F,
                                     std::nanf(""), 3.140625F,     1.00390625F,   1.01171875F,
                                     INFINITY,      INFINITY,      5.9604645e-8F, 2.0027161e-5F};
  const std::vector<float> brains = {
      1.0F,          1.0F,     1.0F,          65536.0F,     65536.0F, 1.0011717677116394e-8F,
      5.9837475e-8F, -0.0F,    std::nanf(""), 3.140625F,    1.0F,     1.015625F,
      INFINITY,      INFINITY, 5.9604645e-8F, 2.0027161e-5F};
  for (const IsaTable* table : usable_isas()) {
    for (const auto& [dtype, expected] :
         {std::pair(DType::float16, halves), std::pair(DType::bfloat16, brains)}) {
      alignas(64) float in[16], back[16], rounded[16];
      alignas(64) std::uint16_t bits[16];
      std::copy(values.begin(), values.end(), in);
      BlockCall call{.destination = bits, .sources = {in}, .count = 16};
      table->store(dtype)(call);
      call = {.destination = back, .sources = {bits}, .count = 16};
      table->load(dtype)(call);
      call = {.destination = rounded, .sources = {in}, .count = 16};
      table->round_to(dtype)(call);
      check_close(back, expected, dtype == DType::bfloat16 ? 4e-3 : 0, 0, text(table->name, " ", dtype));
      check_close(rounded, back, 0, 0, text(table->name, " round_to ", dtype));
    }
  }
}

TEST(integers_divide_as_numpy_does) {
  Program program = unary_program(Opcode::add, DType::int32, 5);
  program.inputs.push_back({DType::int32, Shape{1}});
  program.registers = 3;
  const RegisterType type = RegisterType::i32;
  for (const Opcode opcode : {Opcode::floor_divide, Opcode::modulo}) {
    program.instructions = {{.opcode = Opcode::load, .type = type, .destination = 0, .sources = {0}},
                            {.opcode = Opcode::load, .type = type, .destination = 1, .sources = {1}},
                            {.opcode = opcode, .type = type, .destination = 2, .sources = {0, 1}},
                            {.opcode = Opcode::store, .type = type, .destination = 0, .sources = {2}}};
    const Tensor a({DType::int32, Shape{5}}, std::vector<std::int32_t>{7, -7, 7, -7, 5});
    const Tensor b({DType::int32, Shape{5}}, std::vector<std::int32_t>{3, 3, -3, -3, 0});
    const Tensor y = run_program(program, {a, b})[0];
    const std::vector<std::int32_t> expected = opcode == Opcode::modulo
                                                   ? std::vector<std::int32_t>{1, 2, -2, -1, 0}
                                                   : std::vector<std::int32_t>{2, -3, -3, 2, 0};
    for (std::size_t i = 0; i < 5; ++i)
      CHECK(y.values<std::int32_t>()[i] == expected[i], name_of(opcode), " at ", i);
  }
}

TEST(instruction_sets_agree) {
  alignas(64) float in[64], first[64], other[64];
  for (int i = 0; i < 64; ++i) in[i] = static_cast<float>(i - 20) * 0.37F;
  const std::vector<const IsaTable*> tables = usable_isas();
  for (int code = static_cast<int>(Opcode::negative); code <= static_cast<int>(Opcode::relu); ++code) {
    const Opcode opcode = static_cast<Opcode>(code);
    for (const IsaTable* table : tables) {
      BlockCall call{.destination = table == tables[0] ? first : other, .sources = {in}, .count = 64};
      table->operation(opcode, RegisterType::f32)(call);
      if (table != tables[0]) check_close(other, first, 5e-7, 1e-12, text(table->name, " ", name_of(opcode)));
    }
  }
}

// Two operations that run as one are rounded as if they did not.
TEST(pairs_are_two_operations) {
  const std::vector<Opcode> opcodes = {Opcode::add, Opcode::subtract, Opcode::multiply, Opcode::divide};
  alignas(64) float a[64], b[64], c[64], inner[64], expected[64], found[64];
  for (int i = 0; i < 64; ++i) {
    a[i] = (static_cast<float>(i) - 20.5F) * 0.37F;
    b[i] = 1 / (static_cast<float>(i) + 0.7F);
    c[i] = -a[i] * b[i] * (1 + static_cast<float>(i) * 1e-7F);  // what a fused multiply-add would tell apart
  }
  for (const IsaTable* table : usable_isas()) {
    int pairs = 0;
    for (const Opcode first : opcodes) {
      table->operation(first, RegisterType::f32)({.destination = inner, .sources = {a, b}, .count = 64});
      for (const Opcode second : opcodes) {
        for (const bool on_left : {true, false}) {
          const BlockFunction pair = table->pair(first, second, on_left);
          if (pair == nullptr) continue;
          ++pairs;
          const float* left = on_left ? inner : c;
          const float* right = on_left ? c : inner;
          table->operation(
              second, RegisterType::f32)({.destination = expected, .sources = {left, right}, .count = 64});
          pair({.destination = found, .sources = {a, b, c}, .count = 64});
          CHECK(std::equal(found, found + 64, expected), table->name, " ", name_of(first), " ",
                name_of(second));
        }
      }
    }
    CHECK(pairs == 24, table->name, ": ", pairs, " pairs");
  }
}

TEST(random_numbers_depend_on_the_index_only) {
  const RandomKey key{123456789012345ULL, 77};
  std::vector<float> whole(1000), part(300);
  for (const IsaTable* table : usable_isas()) {
    isa().random_uniform(whole.data(), 0, 1000, key);
    for (const std::int64_t first : {0, 1, 63, 64, 100, 700}) {
      table->random_uniform(part.data(), first, 300, key);
      for (std::size_t i = 0; i < 300; ++i) {
        CHECK(part[i] == whole[static_cast<std::size_t>(first) + i], table->name, " from ", first, " at ", i);
      }
    }
  }
  double sum = 0, squares = 0;
  std::vector<float> many(1 << 20);
  isa().random_uniform(many.data(), 0, 1 << 20, key);
  for (const float value : many) {
    CHECK(value >= 0 && value < 1);
    sum += value;
  }
  CHECK(std::abs(sum / (1 << 20) - 0.5) < 2e-3, "mean ", sum / (1 << 20));
  sum = 0;
  isa().random_normal(many.data(), 0, 1 << 20, key);
  for (const float value : many) sum += value, squares += static_cast<double>(value) * value;
  CHECK(std::abs(sum / (1 << 20)) < 4e-3, "mean ", sum / (1 << 20));
  CHECK(std::abs(squares / (1 << 20) - 1) < 6e-3, "variance ", squares / (1 << 20));
}

TEST(threads_do_not_change_results) {
  const Tensor a = random_floats(Shape{300, 2001}), b = random_floats(Shape{2001}),
               c = random_floats(Shape{300});
  const int before = num_threads();
  set_num_threads(1);
  const Tensor one = run_program(broadcast_program(300, 2001), {a, b, c})[0];
  set_num_threads(4);
  const Tensor four = run_program(broadcast_program(300, 2001), {a, b, c})[0];
  set_num_threads(before);
  check_close(four.values<float>(), one.values<float>(), 0, 0, "four threads");
}

TEST(zero_size_and_scalar) {
  CHECK(run_program(unary_program(Opcode::exp, DType::float32, 0), {floats(Shape{0}, {})})[0].type.size() ==
        0);
  Program program = unary_program(Opcode::negative, DType::float64, 1);
  program.shape = Shape{};
  program.inputs[0].strides = Shape{};
  const Tensor x({DType::float64, Shape{}}, std::vector<double>{2.5});
  CHECK(run_program(program, {x})[0].values<double>()[0] == -2.5);
}

}  // namespace
}  // namespace mxpipe::test
